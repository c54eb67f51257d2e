"""`crpbot diagnose`: what is wrong with a checkpoint, and why."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from crpbot.cli.options import (
    CandlesOption,
    GatesOption,
    InputsOption,
    LabelOption,
    ScalerOption,
    SeedOption,
    SymbolOption,
    gate_table,
    hand_out,
    names,
)


def command(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="Checkpoint files or model folders.")],
    candles: CandlesOption = None,
    symbol: SymbolOption = None,
    label: LabelOption = "v7",
    scaler: ScalerOption = None,
    features: InputsOption = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="F", help="Write diagnosis.json there; - prints it.")
    ] = None,
    html_file: Annotated[Path | None, typer.Option("--html", metavar="F", help="Write the report there.")] = None,
    predictions: Annotated[Path | None, typer.Option(metavar="F", help="Write Parquet with every prediction there.")] = None,
    gates: GatesOption = "market",
    seed: SeedOption = 0,
) -> None:
    """Judge any checkpoint on candles: what is wrong, why, and the proof.

    Ours is judged only on rows after what it was fitted on, a foreign one on all. Nothing in a file is executed. Several models
    are compared side by side. Exit 1 when a required gate fails.

    Example: crpbot diagnose models/BTC-USD --candles candles/ --html report.html
    """
    _check_alone(len(models), {"--predictions": predictions, "--scaler": scaler, "--features": features})
    from crpbot.model.loading import open_model
    from crpbot.model.scaler import read_scaler

    opened = [open_model(model) for model in models]  # every file is screened before anything heavy is imported
    if scaler is not None:
        read_scaler(scaler)
    table = gate_table(gates)
    from crpbot.cli.choose import judge_model
    from crpbot.cli.show import print_founding_table, print_reasons, print_table
    from crpbot.disk import write_whole
    from crpbot.quality.report.data import write_predictions
    from crpbot.quality.report.html import report_page

    judgements = [
        judge_model(model, candles, symbol=symbol, seed=seed, gates=table, label=label, scaler=scaler, features=names(features))
        for model in opened
    ]
    plain = [judgement.to_dict() for judgement in judgements]
    text = json.dumps(plain if len(plain) > 1 else plain[0], indent=1) + "\n"
    if html_file is not None:
        write_whole(html_file, report_page(judgements))
    if predictions is not None:
        write_predictions(judgements[0].diagnosis.judged, predictions)
    if not hand_out(text, json_file):
        print_table(judgements)
        if len(judgements) > 1:
            print_founding_table(judgements)
        for judgement in judgements:
            print_reasons(judgement)
    if not all(judgement.verdict.passed for judgement in judgements):
        raise typer.Exit(1)


def _check_alone(n_models: int, options: Mapping[str, object]) -> None:
    for option, given in options.items():
        if given is not None and n_models > 1:
            raise typer.BadParameter("takes one model, found several", param_hint=option)
