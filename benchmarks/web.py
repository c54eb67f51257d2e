"""The dashboard: a hundred looks a second on one core, and pages over a journal of 100,000 signals.

The server is a process of its own, pinned to one core; whoever asks is another one. The overview: a request every hundredth of a
second, on lines that stay open; a latency counts from when the request was due, so that waiting for a line counts, too. The
journal meanwhile holds 100,000 signals and as many checks, and once a second there is a candle, a signal, a check and a trade on
paper: pages are made anew all the time. The pages: each alone, over the same journal, with such a change before each. Loopback
only; the home is that of the demo.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.measuring import ROOT, Call, Scale, in_turns
from benchmarks.results import Budget, Row

RATE, LINES = 100, 32
BUDGETS = {
    "overview": Budget(text="99 of 100 answers within 200 ms", limit=200.0),
    "pages": Budget(text="every answer within 300 ms", limit=300.0),
}
PAGES = (
    "/",
    "/signals",
    "/signals?symbol={symbol}",
    "/signals?symbol={symbol}&outcome=time&stage=live",
    "/signals?symbol={symbol}&outcome=gap",
    "/signals?symbol={symbol}&before={middle}-1",
    "/signals?symbol={symbol}&signal={number}",
    "/api/signals?symbol={symbol}&limit=1000",
    "/api/signals/{number}",
    "/api/candles/{symbol}?count=1500",
    "/api/reliability?symbol={symbol}&of=checks",
    "/api/reliability?symbol={symbol}&of=signals",
    "/api/overview",
)
MINUTE, HORIZON = 60_000, 15
NEVER = 1 << 62


def fill(file: Path, symbol: str, sha256: str, newest: int, count: int) -> None:
    """Put `count` signals, one a minute, as many checks, and paper trades of some into a journal, all at once."""
    from dataclasses import asdict

    from sqlalchemy import insert

    from crpbot.live import tables
    from crpbot.live.journal import open_journal
    from crpbot.signals.plan import make_plan

    rng = np.random.default_rng(0)
    plan = asdict(make_plan("LONG", center=60_123.45, atr=60.1, price=60_123.45))
    became = rng.choice(["stop loss", "take profit", "time", "not filled"], count)
    confidence, hit = rng.uniform(0.5, 0.75, count).tolist(), rng.random(count) < 0.6
    signals, checks, fills = [], [], []
    for at in range(count):
        candle = newest - (count + 2 * HORIZON - at) * MINUTE
        row = said(symbol, sha256, candle, confidence[at], plan)
        settled = {"label": 2 if hit[at] else 0, "hit": bool(hit[at]), "settled": candle + 16 * MINUTE}
        prices = {"entry_time": candle + MINUTE, "entry": 60_123.0, "exit_time": candle + 9 * MINUTE, "exit": 60_200.0}
        signals.append({"id": at + 1, **row, **settled, **prices, "outcome": str(became[at]), "gross_bp": 12.8, "net_bp": -3.2})
        common = {key: value for key, value in row.items() if key in tables.checks.c}
        checks.append({**common, **settled, "candle": newest - (count + 1 - at) * HORIZON * MINUTE, "top": 2})
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


def serve(home: str, now: int) -> None:
    """Be the dashboard, and say where it listens."""
    from crpbot.web.serve import serve as listen
    from crpbot.web.setting import Setting

    setting = Setting(home=Path(home), now=lambda: now, until=lambda: now, port=0)
    listen(setting, told=lambda where: print(where, flush=True))


@contextmanager
def serving(home: Path, now: int, core: int) -> Iterator[int]:
    """Give the port of a dashboard in a process of its own, on one core."""
    given = json.dumps({"home": str(home), "now": now})
    command = [sys.executable, "-m", "benchmarks.measuring", "web:serve", given, str(core)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)  # noqa: S603
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline().rsplit(":", 1)[1])
    finally:
        process.terminate()
        process.wait()


class Market:
    """What changes while somebody looks: a candle, a signal, a check and a trade on paper."""

    def __init__(self, home: Path, symbol: str, sha256: str, newest: int) -> None:
        from dataclasses import asdict

        from crpbot.live.journal import open_journal
        from crpbot.live.trail import Trail
        from crpbot.signals.plan import make_plan

        self._journal, self._trail = open_journal(home / "journal.db"), Trail(home / "live" / "candles")
        self._symbol, self._sha256, self._at = symbol, sha256, newest
        self._plan = asdict(make_plan("LONG", center=60_123.45, atr=60.1, price=60_123.45))

    def go_on(self) -> None:
        """Take one more candle, and speak of it."""
        from sqlalchemy import insert

        from crpbot.live import tables
        from crpbot.market.candles import Candles

        self._at += MINUTE
        price = np.array([60_123.45])
        candle = Candles(np.array([self._at]), price, price, price, price, np.ones(1))
        self._trail.take(self._symbol, candle, NEVER)
        row = said(self._symbol, self._sha256, self._at, 0.7, self._plan)
        check = {key: value for key, value in row.items() if key in tables.checks.c}
        known = {"top": 2, "label": 2, "hit": True, "settled": self._at}
        with self._journal.store.writing() as connection:
            number = connection.execute(insert(tables.signals), row).inserted_primary_key[0]
            fill = {"signal": number, "time": self._at, "price": 60_123.0, "size": 0.16, "fee": 5.0}
            connection.execute(insert(tables.fills), [{**fill, "kind": "entry"}, {**fill, "kind": "exit"}])
            connection.execute(insert(tables.checks), {**check, **known})

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()


def request(path: str, port: int) -> bytes:
    """Return a request whose line stays open."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/html\r\n\r\n".encode()


async def answer(reader: asyncio.StreamReader) -> tuple[int, int]:
    """Read one answer; return its status, and how many bytes it had."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.split("content-length:")[1].split("\r\n")[0])
    await reader.readexactly(length)
    return int(head.split()[1]), length


async def load(port: int, seconds: float, market: Market) -> list[float]:
    """Ask for the overview a hundred times a second; return each latency in milliseconds, from when the request was due."""
    lines = [await asyncio.open_connection("127.0.0.1", port) for _ in range(LINES)]
    free: asyncio.Queue[int] = asyncio.Queue()
    for number in range(LINES):
        free.put_nowait(number)
    found, wanted = [], request("/", port)
    begun = time.perf_counter() + 0.1

    async def ask(due: float) -> None:
        number = await free.get()
        reader, writer = lines[number]
        writer.write(wanted)
        status, _ = await answer(reader)
        assert status == 200, status
        found.append(1_000 * (time.perf_counter() - due))
        free.put_nowait(number)

    async def change() -> None:
        while True:
            await asyncio.to_thread(market.go_on)
            await asyncio.sleep(1)

    changing, asked = asyncio.create_task(change()), []
    for number in range(int(seconds * RATE)):
        due = begun + number / RATE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        asked.append(asyncio.create_task(ask(due)))
    await asyncio.gather(*asked)
    changing.cancel()
    for _, writer in lines:
        writer.close()
    return found


def alone(path: str, port: int, market: Market, times: int) -> list[float]:
    """Ask for a page, each time after a change; return latencies in milliseconds."""

    async def ask() -> float:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        begun = time.perf_counter()
        writer.write(request(path, port))
        status, _ = await answer(reader)
        assert status == 200, (path, status)
        writer.close()
        return 1_000 * (time.perf_counter() - begun)

    found = []
    for _ in range(times):
        market.go_on()
        found.append(asyncio.run(ask()))
    return found


def look(count: int, seconds: float, times: int) -> dict[str, object]:
    """Make a home, serve it on the first core, and ask from the others."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "home"
        symbol, sha256, newest = prepare(home, count)
        market = Market(home, symbol, sha256, newest)
        with serving(home, newest + 60 * 24 * MINUTE, 0 if len(cores) > 1 else -1) as port:
            if len(cores) > 1:  # the server has the first one for itself
                os.sched_setaffinity(0, set(cores[1:]))
            alone("/", port, market, times)  # the first look reads candles and models
            found = asyncio.run(load(port, seconds, market))
            middle = newest - count // 2 * MINUTE
            pages = {
                page: alone(page.format(symbol=symbol, middle=middle, number=count // 2), port, market, times) for page in PAGES
            }
        market.close()
    slowest = max(pages, key=lambda page: max(pages[page]))
    p50, p99 = np.quantile(found, [0.5, 0.99])
    return {
        "p50": float(p50),
        "p99": float(p99),
        "page": float(np.median([np.median(each) for each in pages.values()])),
        "slowest": max(pages[slowest]),
        "note": f"the slowest page is `{slowest}`",
    }


def prepare(home: Path, count: int) -> tuple[str, str, int]:
    """Unpack the home of the demo with another journal; return its symbol, model and newest candle."""
    from crpbot.market.sample import read_sample
    from crpbot.registry.registry import Registry
    from crpbot.web.demo import unpack

    home.mkdir()
    unpack(home)
    for old in (*home.glob("*.db*"), home / "live"):
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    entry = Registry(home / "registry").entries()[0]
    newest = int(read_sample(entry.symbol).time[-1])
    fill(home / "journal.db", entry.symbol, entry.sha256, newest, count)
    return entry.symbol, entry.sha256, newest


def measure(scale: Scale) -> Iterator[Row]:
    """Look at the overview a hundred times a second, then at every page alone."""
    count, seconds = scale.of(100_000, 2_000), scale.of(30, 3)
    given = {"count": count, "seconds": seconds, "times": scale.of(10, 2)}
    turns = in_turns({"crpbot": Call(function="web:look", arguments=given)}, 1)
    over = f"a journal of {count:,} signals, a change before each look"
    work = f"the overview, {RATE} requests a second for {seconds} s on one core"
    yield turns.row("p50", work, "ms", what="p50")
    yield turns.row("p99", work, "ms", what="p99", budget=BUDGETS["overview"])
    yield turns.row("page", f"{len(PAGES)} pages alone, {over}", "ms", what="median")
    yield turns.row("slowest", f"{len(PAGES)} pages alone, {over}", "ms", what="slowest", budget=BUDGETS["pages"])
