"""The dashboard: a hundred looks a second on one core, and pages over a journal of 100,000 signals.

    .venv/bin/python benchmarks/web.py                  # the home of the demo
    .venv/bin/python benchmarks/web.py --home DIR       # a copy of a home of your own
    .venv/bin/python benchmarks/web.py --seconds 10

The server is a process of its own, pinned to one core; whoever asks is another one. `overview`: a request every hundredth of a
second for a minute, each on a line of its own that stays open, whether the one before is answered or not; a latency counts from
when the request was due, so that waiting in the line counts, too. The journal meanwhile holds 100,000 signals and as many checks,
and a candle comes every second, with a signal and a check: pages are made anew all the time. `pages`: each alone, one after the
other, over the same journal, with a change before each. Loopback only.
"""

import argparse
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

SIGNALS, RATE, SECONDS, LINES, ROUNDS = 100_000, 100, 60, 32, 20
BUDGETS = {"overview": 200.0, "pages": 300.0}
"""Milliseconds: the 99th percentile of the overview, and the slowest answer of a page."""
PAGES = (
    "/",
    "/signals",
    "/signals?symbol={symbol}",
    "/signals?symbol={symbol}&outcome=time&stage=live",
    "/signals?symbol={symbol}&outcome=gap",
    "/signals?symbol={symbol}&before={middle}-1",
    "/signals?symbol={symbol}&signal=50000",
    "/api/signals?symbol={symbol}&limit=1000",
    "/api/signals/50000",
    "/api/candles/{symbol}?count=1500",
    "/api/reliability?symbol={symbol}&of=checks",
    "/api/reliability?symbol={symbol}&of=signals",
    "/api/overview",
)
MINUTE, HORIZON = 60_000, 15
NEVER = 1 << 62


def fill(file: Path, symbol: str, sha256: str, newest: int) -> None:
    """Put 100,000 signals, one a minute, as many checks, and paper trades of some into a journal, all at once."""
    from dataclasses import asdict

    from sqlalchemy import insert

    from crpbot.live import tables
    from crpbot.live.journal import open_journal
    from crpbot.signals.plan import make_plan

    rng = np.random.default_rng(0)
    plan = asdict(make_plan("LONG", center=60_123.45, atr=60.1, price=60_123.45))
    became = rng.choice(["stop loss", "take profit", "time", "not filled"], SIGNALS)
    confidence, hit = rng.uniform(0.5, 0.75, SIGNALS).tolist(), rng.random(SIGNALS) < 0.6
    signals, checks, fills = [], [], []
    for at in range(SIGNALS):
        candle = newest - (SIGNALS + 2 * HORIZON - at) * MINUTE
        row = said(symbol, sha256, candle, confidence[at], plan)
        settled = {"label": 2 if hit[at] else 0, "hit": bool(hit[at]), "settled": candle + 16 * MINUTE}
        prices = {"entry_time": candle + MINUTE, "entry": 60_123.0, "exit_time": candle + 9 * MINUTE, "exit": 60_200.0}
        signals.append({"id": at + 1, **row, **settled, **prices, "outcome": str(became[at]), "gross_bp": 12.8, "net_bp": -3.2})
        common = {key: value for key, value in row.items() if key in tables.checks.c}
        checks.append({**common, **settled, "candle": newest - (SIGNALS + 1 - at) * HORIZON * MINUTE, "top": 2})
        if at % HORIZON == 0:
            for kind, price in (("entry", 60_123.0), ("exit", 60_200.0)):
                fills.append({"signal": at + 1, "kind": kind, "time": candle + MINUTE, "price": price, "size": 0.16, "fee": 5.0})
    journal = open_journal(file)
    with journal.store.writing() as connection:
        for table, rows in ((tables.signals, signals), (tables.checks, checks), (tables.fills, fills)):
            connection.execute(insert(table), rows)
    journal.close()


def said(symbol: str, sha256: str, candle: int, confidence: float, plan: object) -> dict[str, object]:
    """Return a row of the signals, as the runtime writes it."""
    from crpbot.market.candles import utc

    shares = {"DOWN": 0.9 - confidence, "NEUTRAL": 0.1, "UP": confidence}
    signal = {
        "format": "crpbot.signal/1", "symbol": symbol, "stage": "live", "status": "signal", "reason": "", "candle": utc(candle),
        "expires": utc(candle + 31 * MINUTE), "close_by": None, "close_after": HORIZON, "side": "LONG", "confidence": confidence,
        "probabilities": shares, "plan": plan, "disagreement": None, "rules": {"tick": None, "lot": None, "min_notional": None},
        "model_sha256": sha256, "ledger_head": "0" * 64, "override": "",
    }  # fmt: skip
    return {
        "model_sha256": sha256, "symbol": symbol, "candle": candle, "horizon": HORIZON, "confidence": confidence,
        "p_down": shares["DOWN"], "p_neutral": 0.1, "p_up": confidence, "recorded": candle + MINUTE, "stage": "live",
        "status": "signal", "side": "LONG", "ledger_head": "0" * 64, "override": "", "json": json.dumps(signal),
    }  # fmt: skip
