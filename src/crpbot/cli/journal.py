"""`crpbot journal`: what was said, and what became of it."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from crpbot.cli.options import HomeOption, home_folder
from crpbot.errors import printable

if TYPE_CHECKING:
    from crpbot.live.journal import Journal
    from crpbot.live.records import SignalRecord
    from crpbot.quality.trust import Trust


def command(
    symbol: Annotated[str | None, typer.Option(help="Of one market only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Signals at most, the newest ones.")] = 20,
    journal: Annotated[
        str | None, typer.Option(envvar="CRPBOT_JOURNAL", metavar="FILE|URL", help="Default: journal.db in the home folder.")
    ] = None,
    home: HomeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what was said, what became of it, and whether the confidence is honest.

    Example: crpbot journal --symbol BTC-USD
    """
    from dataclasses import asdict

    from crpbot.live.journal import open_journal
    from crpbot.market.candles import utc

    opened = open_journal(journal or home_folder(home) / "journal.db")
    try:
        signals = opened.signals(symbol, limit=limit)
        trusts = _trusts(opened, signals)
        paper = opened.paper.summary(symbol)
        events = opened.events.newest(10)
    finally:
        opened.close()
    if as_json:
        plain = {
            "signals": [
                {**one.said, "recorded": one.recorded, "outcome": one.outcome and asdict(one.outcome)} for one in signals
            ],
            "trust": [
                {"symbol": name, "model_sha256": sha, "of": of, **asdict(found)} for (name, sha, of), found in trusts.items()
            ],
            "paper": asdict(paper),
            "events": [asdict(event) for event in events],
        }
        typer.echo(json.dumps(plain, indent=1))
        return
    for one in signals:
        typer.echo(_line(one))
    if not signals:
        typer.echo("nothing was said yet")
    for (name, sha, of), found in trusts.items():
        typer.echo(f"{name} {sha[:12]}, its {of}: {found.words}")
    if paper.trades or paper.open:
        typer.echo(f"on paper: {paper.trades} trades, {paper.won} won, {paper.earned:+,.2f} after fees of {paper.fees:,.2f}")
    for event in reversed(events):
        typer.echo(f"{utc(event.time)}  {event.kind}: {printable(event.text)}")


def _trusts(journal: "Journal", signals: "tuple[SignalRecord, ...]") -> "dict[tuple[str, str, str], Trust]":
    from crpbot.quality.trust import trust

    models = dict.fromkeys((one.symbol, one.model_sha256) for one in signals)
    return {
        (symbol, sha, of): trust(journal.predictions(sha, symbol, of=of))
        for symbol, sha in models
        for of in ("signals", "checks")
    }


def _line(one: "SignalRecord") -> str:
    from crpbot.market.candles import utc

    became = "open"
    if one.outcome is not None:
        came = {None: "", True: ", came true", False: ", did not come true"}[one.outcome.hit]
        earned = "" if one.outcome.net_bp is None else f", {one.outcome.net_bp:+.1f} bp after costs"
        became = f"{one.outcome.outcome}{came}{earned}"
    notes = "  rehearsal" if one.stage == "shadow" else ""
    notes += "  found too late to follow" if one.status == "expired" else ""
    return f"{utc(one.candle)}  {one.symbol:10} {one.side:5} {one.confidence:.1%}  {became}{notes}"
