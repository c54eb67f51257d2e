"""`crpbot signal`: what promoted models say of the newest candle."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crpbot.cli.options import (
    CandlesOption,
    HomeOption,
    LotOption,
    MinNotionalOption,
    PresetOption,
    SeedOption,
    TickOption,
    home_folder,
    names,
    now,
    preset_named,
)
from crpbot.errors import CandleError, CrpbotError, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crpbot.signals.signal import Signal

FORMATS = ("card", "telegram", "json", "hummingbot")
FormatOption = Annotated[
    str, typer.Option("--format", metavar="|".join(FORMATS), help="How to say it; telegram and hummingbot are messages.")
]


def command(
    candles: CandlesOption = None,
    symbols: Annotated[str | None, typer.Option(help="Comma-separated; default: every promoted one.")] = None,
    threshold: Annotated[float, typer.Option(metavar="X", min=1 / 3, max=1, help="The least confidence of a signal.")] = 0.60,
    preset: PresetOption = "atr",
    tick: TickOption = None,
    lot: LotOption = None,
    min_notional: MinNotionalOption = None,
    price: Annotated[
        float | None, typer.Option(metavar="X", help="Of the market now: it decides the order type. Default: the last close.")
    ] = None,
    form: FormatOption = "card",
    home: HomeOption = None,
    seed: SeedOption = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: the same as --format json.")] = False,
) -> None:
    """Say what promoted models see now.

    The newest candle of each promoted symbol becomes an order plan, or there is none and it says why. Exit 1 when no model may
    speak.

    Example: crpbot signal --candles candles/ --symbols BTC-USD
    """
    if form not in FORMATS:
        raise CrpbotError(f"--format must be one of {', '.join(FORMATS)}, found {form!r}; choose one")
    wanted = names(symbols)
    if len(wanted) != 1 and (tick or lot or min_notional or price):
        raise CrpbotError(f"a tick, a lot, a least order and a price are of one market, found {len(wanted)} symbols; name one")
    chosen = preset_named(preset)
    from crpbot.market.source import open_source
    from crpbot.registry.registry import Registry
    from crpbot.signals.rules import MarketRules
    from crpbot.signals.signal import newest_signal

    rules = MarketRules(tick=tick, lot=lot, min_notional=min_notional)
    registry = Registry(home_folder(home) / "registry")
    entries = [entry for entry in registry.entries() if not wanted or entry.symbol in wanted]
    say = partial(newest_signal, threshold=threshold, preset=chosen, rules=rules, price=price, ledger_head=registry.head())
    missing = dict.fromkeys(set(wanted) - {entry.symbol for entry in entries}, "no model of it has passed its gates")
    signals = []
    for entry in entries:
        speaker = registry.speaker(entry)
        try:
            rows = open_source(candles, symbols=(entry.symbol,), seed=seed).read(entry.symbol)
        except CandleError as error:
            if len(entries) == 1:
                raise
            missing[entry.symbol] = str(error)  # the others may speak
            continue
        signals.append(
            say(
                speaker,
                rows,
                stage=entry.stage,
                now=now(),
                expires=entry.expires,
                model_sha256=entry.sha256,
                override=entry.override,
            )
        )
    _print(signals, "json" if as_json else form)
    for symbol, why in sorted(missing.items()):
        typer.echo(f"{symbol}: no signal, since {why}", err=True)
    if not signals:
        typer.echo(_silence(home_folder(home)), err=True)
        raise typer.Exit(1)


def _silence(home: Path) -> str:
    where = printable(str(home))
    return (
        f"no signal: no model may speak in {where}; name the folder that `crpbot run` filled with --home, or `crpbot promote` one"
    )


def _print(signals: "Sequence[Signal]", form: str) -> None:
    from crpbot.signals.text import hummingbot, telegram

    if form == "json":
        typer.echo(json.dumps([signal.to_dict() for signal in signals], indent=1))
        return
    for signal in signals:
        if form == "hummingbot":  # one message a line, as a broker takes them
            typer.echo(json.dumps(hummingbot(signal)))
        else:
            typer.echo(telegram(signal) if form == "telegram" else str(signal))
