"""`crpbot signal`: what promoted models say of the newest candle."""

import json
from typing import Annotated

import typer

from crpbot.cli.options import CandlesOption, HomeOption, SeedOption, home_folder, names, now


def command(
    candles: CandlesOption = None,
    symbols: Annotated[str | None, typer.Option(help="Comma-separated; default: every promoted one.")] = None,
    home: HomeOption = None,
    seed: SeedOption = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what promoted models see now.

    The newest candle of each promoted symbol becomes an order plan, or there is none and it says why. Exit 1 when no model may
    speak.

    Example: crpbot signal --candles candles/ --symbols BTC-USD
    """
    from crpbot.market.source import open_source
    from crpbot.model.loading import load_checkpoint
    from crpbot.registry import Registry
    from crpbot.signals.signal import newest_signal

    registry = Registry(home_folder(home) / "registry")
    wanted = names(symbols)
    entries = [entry for entry in registry.entries() if not wanted or entry.symbol in wanted]
    signals = []
    for entry in entries:
        source = open_source(candles, symbols=(entry.symbol,), seed=seed)
        checkpoint = load_checkpoint(registry.deployed(entry))
        signals.append(newest_signal(checkpoint, source.read(entry.symbol), stage=entry.stage, now=now()))
    if as_json:
        typer.echo(json.dumps([signal.to_dict() for signal in signals], indent=1))
    else:
        for signal in signals:
            typer.echo(str(signal))
    for missing in sorted(set(wanted) - {entry.symbol for entry in entries}):
        typer.echo(f"{missing}: no signal, since no model of it has passed its gates", err=True)
    if not signals:
        typer.echo("no signal: no model may speak; `crpbot run` or `crpbot promote` first", err=True)
        raise typer.Exit(1)
