"""A home in which something was said: candles of a market, a journal, and what the runtime leaves behind."""

from pathlib import Path

import numpy as np
from journals import START, check, keep, signal

from crpbot.live.journal import Journal, open_journal
from crpbot.live.outcome import Outcome
from crpbot.live.records import Event, Fill
from crpbot.live.trail import Trail
from crpbot.market.candles import MINUTE, Candles
from crpbot.market.files import write_candles

NOW = START + 600 * MINUTE
WON = Outcome(
    label=2, hit=True, outcome="take profit", entry_time=START + MINUTE, entry=60_123.45, exit_time=START + 9 * MINUTE,
    exit=60_285.1, gross_bp=26.9, net_bp=4.2,
)  # fmt: skip
LOST = Outcome(
    label=0, hit=False, outcome="stop loss", entry_time=START + MINUTE, entry=60_123.45, exit_time=START + 3 * MINUTE,
    exit=60_033.3, gross_bp=-15.0, net_bp=-38.0,
)  # fmt: skip


def candles(first: int, n: int) -> Candles:
    """Return candles that opened from the minute `first` after the start on."""
    time = START + (first + np.arange(n)) * MINUTE
    price = 60_000.0 + np.arange(n)
    return Candles(time, price, price + 2, price - 2, price + 1, np.ones(n))


def joined(older: Candles, newer: Candles) -> Candles:
    """Return candles of both."""
    names = ("time", "open", "high", "low", "close", "volume")
    return Candles(*(np.concatenate([getattr(older, name), getattr(newer, name)]) for name in names))


def fill(journal: Journal) -> None:
    """Keep forty signals, a third of them rehearsals, most of them settled; checks, a trade on paper and an event."""
    for at in range(40):
        side, stage = ("LONG", "SHORT")[at % 2], ("live", "live", "shadow")[at % 3]
        keep(journal, signal(at, side=side, stage=stage, confidence=0.5 + at / 100), at)
    for number in range(1, 38):
        journal.settle_signal(number, WON if number % 3 else LOST, now=NOW)
    for at in range(0, 300, 15):
        check(journal, at, probabilities=(0.1, 0.35, 0.55))
    for number in range(1, 19):
        journal.settle_check(number, 2 if number % 2 else 0, now=NOW)
    entry = Fill(signal=2, kind="entry", time=START + MINUTE, price=60_123.45, size=0.1, fee=5.0)
    journal.paper.fill(entry)
    journal.paper.fill(Fill(signal=2, kind="exit", time=START + 9 * MINUTE, price=60_000.0, size=0.1, fee=5.0))
    journal.events.add(Event(time=START, kind="gap", text="a minute was <b>lost</b>", symbol="BTC-USD"))
    journal.events.add(Event(time=START, kind="gap", text="of the other market", symbol="ETH-USD"))


def spoken(folder: Path) -> Path:
    """Make the home."""
    (folder / "candles").mkdir()
    write_candles(candles(-400, 900), folder / "candles" / "BTC-USD.parquet")
    Trail(folder / "live" / "candles").take("BTC-USD", candles(490, 30), 1 << 60)
    journal = open_journal(folder / "journal.db")
    fill(journal)
    journal.close()
    return folder
