"""`crpbot audit`: was a result earned?"""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crpbot.cli.options import (
    CandlesOption,
    HomeOption,
    InputsOption,
    LabelOption,
    ScalerOption,
    SeedOption,
    SymbolOption,
    hand_out,
    home_folder,
    names,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from crpbot.model.loading import ModelFile
    from crpbot.model.recipe import Recipe


def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A checkpoint file or a model folder.")],
    candles: CandlesOption = None,
    claim: Annotated[float | None, typer.Option(metavar="0.70", help="The accuracy that is claimed.")] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Models that were tried. Default: those of its symbol in the ledger, with those that recipes know of.",
        ),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(
            metavar="F", help="Which rows a foreign model used for what: time, block (train, calibration, test), symbol."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out what trains the recipe again.")] = False,
    retrain: Annotated[bool, typer.Option("--retrain", help="Train it again on all of its rows; minutes.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="F", help="Write the audit there; - prints it.")] = None,
    symbol: SymbolOption = None,
    label: LabelOption = "v7",
    scaler: ScalerOption = None,
    features: InputsOption = None,
    home: HomeOption = None,
    seed: SeedOption = 0,
) -> None:
    """Ask whether a result was earned, or leaks, or is luck.

    The future is overwritten, boundaries and scaler are proven, and the result is held against chance, one feature and made-up
    noise. CANDLES are those that the model was made from. Exit 1 unless the result was earned.

    Example: crpbot audit models/BTC-USD --candles candles/ --claim 0.70
    """
    from crpbot.model.loading import open_model

    opened = open_model(model)  # screened before torch is imported
    from crpbot import factory
    from crpbot.cli.show import print_audit, steps
    from crpbot.model.recipe import load_recipe

    recipe = load_recipe(label)
    count, counted_by = _tries(opened, symbol, home) if trials is None else (trials, "--trials")
    with steps() as told:
        audit = factory.audit(
            opened,
            candles,
            claim=claim,
            trials=count,
            counted_by=counted_by,
            rows=rows,
            refit=not quick,
            retrain=retrain,
            symbol=symbol,
            label_recipe=recipe,
            scaler=scaler,
            features=names(features) or None,
            seed=seed,
            told=told,
        )
    text = json.dumps(audit.to_dict(), indent=1, ensure_ascii=False) + "\n"
    if not hand_out(text, json_file):
        print_audit(audit)
    if not audit.earned:
        raise typer.Exit(1)


def _tries(opened: "ModelFile", symbol: str | None, home: Path | None) -> "tuple[Callable[[Recipe | None], int], str]":
    """Return what counts the models that were tried, in the registry of the run that made it or at home, and its name."""
    from crpbot.registry.registry import Registry

    beside = opened.path.parent.parent / "registry"
    folder = beside if home is None and beside.is_dir() else home_folder(home) / "registry"
    return partial(Registry(folder).tries_with, symbol or opened.market, opened.sha256), "the ledger and its recipes"
