"""`crpbot repair`: a new checkpoint with what can be proven to be better."""

from pathlib import Path
from typing import Annotated

import typer

from crpbot.cli.options import CandlesOption, InputsOption, LabelOption, ScalerOption, SeedOption, SymbolOption, names


def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A checkpoint file or a model folder.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FIXED", help="The new checkpoint, a .pt file.")],
    candles: CandlesOption = None,
    symbol: SymbolOption = None,
    label: LabelOption = "v7",
    scaler: ScalerOption = None,
    features: InputsOption = None,
    seed: SeedOption = 0,
) -> None:
    """Write a new checkpoint with the repairs that can be proven.

    Each remedy is fitted on one half of the rows and has to lower the log loss on the other. The new file says that it was
    repaired, is unproven, and meets the gates like any other. MODEL stays as it is. Exit 1 when nothing can be proven; then
    nothing is written.

    Example: crpbot repair lstm_BTC-USD_v7_enhanced.pt -o repaired.pt --candles candles/
    """
    from crpbot.model.loading import open_model

    opened = open_model(model)  # screened before torch is imported
    from crpbot import factory
    from crpbot.cli.show import print_repair
    from crpbot.model.recipe import load_recipe

    recipe = load_recipe(label)
    rows, kind = factory.read_market(candles, symbol or opened.market, seed=seed)
    repaired = factory.repair(
        opened, rows, source=kind, out=out, label_recipe=recipe, scaler=scaler, features=names(features) or None
    )
    print_repair(repaired, out, f" --candles {candles}" if candles else "")
    if not repaired.done:
        raise typer.Exit(1)
