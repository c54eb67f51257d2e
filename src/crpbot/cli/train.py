"""`crpbot train`: one symbol, one model folder."""

from pathlib import Path
from typing import Annotated

import typer

from crpbot.cli.options import CandlesOption, RecipeOption, SeedOption


def command(
    symbol: Annotated[str, typer.Option(help="The market, as BTC-USD.")],
    out: Annotated[Path, typer.Option(help="Folder; the model goes to OUT/SYMBOL.")],
    candles: CandlesOption = None,
    recipe: RecipeOption = "v7",
    seed: SeedOption = 0,
) -> None:
    """Train one symbol into a model folder.

    Exit 0 when it is written, whatever the gates say.

    Example: crpbot train --recipe v7 --symbol ETH-USD --candles candles/ --out models
    """
    from crpbot import factory
    from crpbot.cli.show import console, print_reasons, print_table, training_progress
    from crpbot.market.source import open_source
    from crpbot.model.recipe import load_recipe

    chosen = load_recipe(recipe)
    source = open_source(candles, symbols=(symbol,), seed=seed)
    market = source.read(symbol)
    folder = out / symbol
    with training_progress() as watch:
        judgement = factory.train_model(
            symbol,
            market,
            chosen,
            source=source.kind,
            seed=seed,
            folder=folder,
            watch=lambda epoch: watch(symbol, epoch),
        )
    print_table([judgement])
    print_reasons(judgement)
    console().print(f"written: {folder}", soft_wrap=True, markup=False)
