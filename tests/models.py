"""Small trained models for tests."""

import dataclasses
from functools import cache

from crpbot.making.model import make_model
from crpbot.market.candles import Candles
from crpbot.market.synthetic import make_market
from crpbot.model.checkpoint import Checkpoint
from crpbot.model.choices import EnsembleChoice
from crpbot.model.recipe import Recipe, load_recipe


def quick(name: str = "v7", **training: float) -> Recipe:
    """Return a recipe of the package with few epochs and large batches."""
    recipe = load_recipe(name)
    settings = {"epochs": 4, "batch_size": 256, "learning_rate": 0.003, **training}
    return dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, **settings))


@cache
def market(name: str = "level-noise", rows: int = 12_000) -> Candles:
    """Return a known-answer market of BTC-USD."""
    return make_market(name, "BTC-USD", rows=rows)


@cache
def model(name: str = "v7", rows: int = 12_000, epochs: int = 4) -> Checkpoint:
    """Return a checkpoint trained on a little level noise."""
    return make_model("BTC-USD", market(rows=rows), quick(name, epochs=epochs), source="synthetic", seed=0)[0]


def several(recipe: Recipe, members: int = 3, *, vary: str = "seed", most: float = 0.5) -> Recipe:
    """Return a recipe of so many networks, each of them tiny."""
    network = dataclasses.replace(recipe.network, hidden=(8, 4))
    choice = EnsembleChoice(members=members, vary=vary, most_disagreement=most)
    return dataclasses.replace(recipe, network=network, ensemble=choice)


@cache
def ensemble(vary: str = "seed", *, rows: int = 5_000, most: float = 0.5) -> Checkpoint:
    """Return an ensemble of three tiny networks, trained on a little level noise."""
    recipe = several(quick(epochs=2), vary=vary, most=most)
    return make_model("BTC-USD", market(rows=rows), recipe, source="synthetic", seed=0)[0]
