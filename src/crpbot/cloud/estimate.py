"""How long a training takes: rows times epochs times members over rows a second, and the minutes until it starts."""

from dataclasses import dataclass
from itertools import pairwise

from crpbot.dataset.labels import CLASSES
from crpbot.model.recipe import Recipe, load_recipe

ROWS_PER_SECOND = 90_000
"""Training rows a second of recipe v7 as written (batch 64): 90,564 to 91,263 in three epochs of two years of BTC-USD, on one
thread of an AMD EPYC with two cores, without a GPU, 2026-11-24."""
MEASURED = "measured on one thread of a CPU on 2026-11-24; no GPU was measured, so none is counted on"
START_MINUTES = {"sagemaker": 6.0, "ec2": 8.0}
"""Until the first row is trained: machine, image, packages. An assumption; nothing was measured on AWS."""
END_MINUTES = 2.0
"""Features before and diagnosis after the training, and the upload, for each symbol. An assumption on the safe side."""
TWO_YEARS = 1_051_200
"""Candles of a minute, where none are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """How long one symbol takes.

    Attributes:
        candles: of the symbol.
        rows: that are trained on in each epoch.
        epochs: at most; early stopping may end it sooner.
        members: of an ensemble, trained one after another; 1 for a single network.
        rows_per_second: of the training.
        hours: of the training itself, with features and diagnosis, without the start of the machine.

    """

    candles: int
    rows: int
    epochs: int
    members: int
    rows_per_second: float
    hours: float


def estimate(recipe: Recipe, candles: int) -> Estimate:
    """Return how long the training of one symbol takes at most, by the speed that was measured here."""
    rows = int(candles * recipe.split.train)
    speed = rows_per_second(recipe)
    members = recipe.ensemble.members
    seconds = rows * recipe.training.epochs * members / speed
    return Estimate(
        candles=candles,
        rows=rows,
        epochs=recipe.training.epochs,
        members=members,
        rows_per_second=speed,
        hours=seconds / 3_600 + END_MINUTES / 60,
    )


def rows_per_second(recipe: Recipe) -> float:
    """Return the speed of a recipe: never above that of v7, less in proportion for larger networks and smaller batches."""
    measured = load_recipe("v7")
    work = _weights(recipe) / _weights(measured)
    batch = recipe.training.batch_size / measured.training.batch_size
    return ROWS_PER_SECOND * min(1.0, batch) / max(1.0, work)


def _weights(recipe: Recipe) -> int:
    widths = (len(recipe.features.table), *recipe.network.hidden, len(CLASSES))
    return sum(fan_in * fan_out for fan_in, fan_out in pairwise(widths))
