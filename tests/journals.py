"""Signals to keep, and processes that keep them at the same time. Run as a program it is one such process."""

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

from crpbot.live.journal import Journal, open_journal
from crpbot.market.candles import MINUTE, utc
from crpbot.signals.plan import make_plan
from crpbot.signals.signal import Signal

START = 1_700_000_100_000  # a minute that 15 divides
HORIZON = 15
MODEL = "a" * 64


def signal(
    at: int = 0, *, side: str = "LONG", symbol: str = "BTC-USD", model: str = MODEL, head: str = "b" * 64, **changes: object
) -> Signal:
    """Return a signal of the candle `at` minutes after the first."""
    candle = START + at * MINUTE
    plan = make_plan(side, center=60_123.45, atr=60.1, price=60_123.45)
    found = Signal(
        symbol=symbol,
        stage="live",
        status="signal",
        reason="",
        candle=utc(candle),
        expires=utc(candle + 31 * MINUTE),
        close_by=None,
        close_after=15,
        side=side,
        confidence=0.7,
        probabilities=(0.1, 0.2, 0.7) if side == "LONG" else (0.7, 0.2, 0.1),
        plan=plan,
        model_sha256=model,
        ledger_head=head,
    )
    return dataclasses.replace(found, **changes)


def keep(journal: Journal, one: Signal, at: int) -> bool:
    candle = START + at * MINUTE
    return journal.add_signal(one, candle=candle, horizon=HORIZON, recorded=candle + MINUTE + 250)


def check(
    journal: Journal, at: int, *, symbol: str = "BTC-USD", probabilities: tuple = (0.1, 0.2, 0.7), model: str = MODEL
) -> bool:
    candle = START + at * MINUTE
    return journal.add_check(
        model=model, symbol=symbol, candle=candle, horizon=HORIZON, probabilities=probabilities, recorded=candle + MINUTE
    )


def start(address: str, role: str) -> subprocess.Popen[str]:
    """Start a process in a role of those below; it says when it is ready and then waits for a line."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", Path(__file__), role],
        env={**os.environ, "JOURNAL": address},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def together(address: str, roles: list[str]) -> list[str]:
    """Run processes that begin at the same moment, and return what each has said; none may fail."""
    running = [start(address, role) for role in roles]
    for one in running:
        assert one.stdout.readline() == "ready\n", one.communicate()[1]
    for one in running:
        one.stdin.write("go\n")
        one.stdin.flush()
    said = [one.communicate(timeout=120) for one in running]
    assert [(one.returncode, errors) for one, (_, errors) in zip(running, said, strict=True)] == [(0, "")] * len(roles)
    return [words for words, _ in said]


def _ready() -> None:
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()


def _race(order: list[int]) -> None:
    """Keep 500 signals one by one, and then 500 checks in one batch; say how many were new."""
    with_journal = open_journal(os.environ["JOURNAL"])
    _ready()
    new = int(keep(with_journal, signal(order[0]), order[0]))
    with_journal.outbox.put(f"from {order[0]}", "t", "b", now=1, until=9)
    while len(with_journal.outbox.pending(1)) < 2:  # so that nobody is done before the other begins
        time.sleep(0.001)
    new += sum(keep(with_journal, signal(at), at) for at in order[1:])
    with with_journal.batch():
        checks = sum(check(with_journal, 15 * at) for at in order)
    with_journal.close()
    print(new, checks)  # noqa: T201


def _open() -> None:
    _ready()
    opened = open_journal(os.environ["JOURNAL"])
    keep(opened, signal(0), 0)
    opened.close()


def _write_until_killed() -> None:
    """Keep pairs of a signal and its message, each in one batch; say the number of each pair once it is kept."""
    opened = open_journal(os.environ["JOURNAL"])
    _ready()
    for at in range(1_000_000):
        with opened.batch():
            keep(opened, signal(at), at)
            opened.outbox.put(f"signal {at}", "title", "body " * 200, now=at, until=10**15)
        print(at, flush=True)  # noqa: T201


if __name__ == "__main__":
    {
        "forwards": lambda: _race(list(range(500))),
        "backwards": lambda: _race(list(range(499, -1, -1))),
        "open": _open,
        "write": _write_until_killed,
    }[sys.argv[1]]()
