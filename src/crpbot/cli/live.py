"""`crpbot live`: closed candle in, at most one honest signal out, for weeks."""

import os
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from crpbot.cli.options import HomeOption, PresetOption, home_folder, names, preset_named
from crpbot.errors import CrpbotError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crpbot.live.health import Health
    from crpbot.live.service import Order, Watch
    from crpbot.market.candles import Candles
    from crpbot.signals.signal import Signal

_QUIET, _PLAYED = 900.0, 10.0
"""Seconds of ours between two lines of health while nothing changes: in earnest, and while a recording is played."""


def command(
    symbols: Annotated[str | None, typer.Option(help="Comma-separated; default: every one with a model.")] = None,
    venue: Annotated[str, typer.Option(help="coinbase, coinbase-advanced, binance or kraken.")] = "coinbase",
    feed: Annotated[str, typer.Option(metavar="rest|websocket", help="How candles come from the venue.")] = "rest",
    replay: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Run on recorded candles instead: a file, or a folder of them.")
    ] = None,
    speed: Annotated[float, typer.Option(min=0, help="Of a replay: times as fast as the market; 0 is as fast as it goes.")] = 0,
    paper: Annotated[bool, typer.Option("--paper", help="Follow its own signals with paper fills.")] = False,
    threshold: Annotated[float, typer.Option(metavar="X", min=1 / 3, max=1, help="The least confidence of a signal.")] = 0.60,
    preset: PresetOption = "atr",
    history: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Candles to begin with, where the venue does not reach back.")
    ] = None,
    journal: Annotated[
        str | None, typer.Option(metavar="FILE|URL", help="Default: CRPBOT_JOURNAL, else journal.db in the home folder.")
    ] = None,
    metrics_port: Annotated[int | None, typer.Option(min=1, max=65_535, help="For Prometheus; default: none.")] = None,
    metrics_host: Annotated[str, typer.Option(help="Where the metrics are listened for.")] = "127.0.0.1",
    address: Annotated[str | None, typer.Option(metavar="http://HOST:PORT", help="Ask there instead of the venue.")] = None,
    health: Annotated[bool, typer.Option("--health", help="Say whether the one that runs is well: exit 0 or 1.")] = False,
    home: HomeOption = None,
) -> None:
    """Let promoted models speak of every closed candle, for weeks.

    Waits for the close, fills missed minutes, writes signals into the journal and has people told (CRPBOT_NOTIFY or
    CRPBOT_NOTIFY_FILE: addresses of Apprise). Promotions and rollbacks are taken at the next candle. --replay runs the very same
    loop on recorded candles, and tells nobody.

    Example: crpbot live --symbols BTC-USD,ETH-USD --venue coinbase
    """
    from crpbot.live.health import read_health

    folder = home_folder(home)
    if health:
        well, words = read_health(folder / "live" / "health.json")
        typer.echo(words)
        raise typer.Exit(0 if well else 1)
    if feed not in {"rest", "websocket"}:
        raise CrpbotError(f"--feed must be rest or websocket, found {feed!r}; choose one")
    from crpbot.live.desk import Style
    from crpbot.live.service import Order, live
    from crpbot.live.service import replay as play
    from crpbot.signals.follow import Costs

    order = Order(
        home=folder,
        symbols=names(symbols),
        journal=journal or (os.environ.get("CRPBOT_JOURNAL") if replay is None else None),  # a replay has one of its own
        style=Style(threshold=threshold, preset=preset_named(preset), costs=Costs()),
        paper=paper,
        history=_history(history),
        metrics_host=metrics_host,
        metrics_port=metrics_port,
    )
    watch = _watch(_QUIET if replay is None else _PLAYED)
    if replay is not None:
        play(order, _recording(replay, order), speed=speed, watch=watch)
        return
    from crpbot.market.venues import printable_address

    live(order, venue=venue, kind="websocket" if feed == "websocket" else "rest", address=printable_address(address), watch=watch)


def _history(path: Path | None) -> "Callable[[str], Candles | None]":
    from crpbot.errors import CandleError

    def read(symbol: str) -> "Candles | None":
        from crpbot.market.source import open_source

        if path is None:
            return None
        try:
            return open_source(str(path), symbols=(symbol,)).read(symbol)
        except CandleError as error:
            typer.echo(f"{symbol}: {error}", err=True)
            return None

    return read


def _recording(path: Path, order: "Order") -> "Mapping[str, Candles]":
    """Return the recorded candles of the markets that are meant."""
    from crpbot.live.service import speaking_before
    from crpbot.market.source import open_source
    from crpbot.registry.registry import Registry

    registry = Registry(order.home / "registry")
    wanted = order.symbols or tuple(dict.fromkeys(entry.symbol for entry in registry.entries()))
    if not wanted:
        raise CrpbotError("a replay must have a model that is live or in shadow, found none; crpbot promote one first")
    source = open_source(str(path), symbols=wanted)
    markets = {symbol: source.read(symbol) for symbol in wanted}
    for symbol in speaking_before(registry, markets, order.symbols):
        typer.echo(f"{symbol}: its model has learned from a part of this recording; what it says there proves nothing", err=True)
    return markets


def _watch(quiet: float) -> "Watch":
    """Say signals as they come, and how everything is whenever that changes, or when nothing was said of it for so long."""
    from crpbot.live.service import Watch

    last: tuple[bool, float] | None = None

    def signal(one: "Signal") -> None:
        typer.echo(str(one))

    def health(one: "Health") -> None:
        nonlocal last
        if last is None or last[0] != one.well or monotonic() - last[1] >= quiet:
            last = (one.well, monotonic())
            moment = datetime.fromtimestamp(one.time / 1_000, UTC)
            typer.echo(f"{moment:%Y-%m-%dT%H:%M:%SZ}  {one}")

    return Watch(signal=signal, health=health)
