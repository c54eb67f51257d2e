"""`crpbot backtest`: what following a model would have earned."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crpbot.cli.options import (
    CandlesOption,
    LabelOption,
    LotOption,
    MinNotionalOption,
    PresetOption,
    SeedOption,
    SymbolOption,
    TickOption,
    hand_out,
    preset_named,
)
from crpbot.errors import CrpbotError

if TYPE_CHECKING:
    from crpbot.model.loading import ModelFile
    from crpbot.model.subject import Subject

ThresholdOption = Annotated[
    str,
    typer.Option(
        metavar="X|selective|value",
        help="From which confidence on it speaks; the words choose it on the calibration block, by accuracy or by earnings.",
    ),
]


def command(
    models: Annotated[
        list[Path], typer.Argument(metavar="MODEL...", help="A checkpoint file or model folder; several speak as one.")
    ],
    candles: CandlesOption = None,
    fees: Annotated[float, typer.Option(metavar="BP", help="Fee on each side, in basis points.")] = 10.0,
    slippage: Annotated[float, typer.Option(metavar="BP", help="By which stops and closing by time are filled worse.")] = 1.0,
    threshold: ThresholdOption = "0.60",
    preset: PresetOption = "atr",
    several: Annotated[bool, typer.Option("--several", help="Follow plans side by side instead of one at a time.")] = False,
    tick: TickOption = None,
    lot: LotOption = None,
    min_notional: MinNotionalOption = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="F", help="Write the result with every trade there; - prints it.")
    ] = None,
    html_file: Annotated[Path | None, typer.Option("--html", metavar="F", help="Write the page there.")] = None,
    symbol: SymbolOption = None,
    label: LabelOption = "v7",
    seed: SeedOption = 0,
) -> None:
    """Say what following a model's order plans would have earned, after fees.

    Ours is followed only on candles after what it was fitted on. No trade at all is an answer, too.

    Example: crpbot backtest models/BTC-USD --candles candles/ --fees 10 --html backtest.html
    """
    from crpbot.model.loading import open_model

    opened = [open_model(model) for model in models]  # every file is screened before anything heavy is imported
    from crpbot import factory
    from crpbot.cli.show import print_rows
    from crpbot.disk import write_whole
    from crpbot.model.recipe import load_recipe
    from crpbot.signals.backtest import backtest
    from crpbot.signals.backtest_page import backtest_page
    from crpbot.signals.backtest_report import sentence, table, to_dict
    from crpbot.signals.follow import Costs
    from crpbot.signals.rules import MarketRules
    from crpbot.signals.threshold import read_choice

    choice, chosen, costs = read_choice(threshold), preset_named(preset), Costs(fee_bp=fees, slippage_bp=slippage)
    rules = MarketRules(tick=tick, lot=lot, min_notional=min_notional)
    market = symbol or opened[0].market
    subjects = [_of_market(model, market) for model in opened]
    rows, kind = factory.read_market(candles, market, seed=seed)
    result = backtest(
        subjects,
        rows,
        label_recipe=load_recipe(label),
        threshold=choice,
        preset=chosen,
        costs=costs,
        rules=rules,
        several=several,
        names=[str(model.path) for model in opened],
        symbol=market,
        source=kind,
    )
    if html_file is not None:
        write_whole(html_file, backtest_page(result))
    text = json.dumps(to_dict(result), indent=1, ensure_ascii=False) + "\n"
    if not hand_out(text, json_file):
        print_rows(sentence(result), table(result))


def _of_market(model: "ModelFile", market: str | None) -> "Subject":
    from crpbot.model.loading import subject_in

    subject = subject_in(model)
    own = None if subject.checkpoint is None else subject.checkpoint.symbol
    if own not in {None, market}:
        raise CrpbotError(f"a model must be followed on its own market, found one of {own} and candles of {market}; choose one")
    return subject
