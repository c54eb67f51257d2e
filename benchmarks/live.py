"""A closed candle until its signal is stored: the loop of `crpbot live` beside pandas and torch, and 500 markets a minute.

    .venv/bin/python benchmarks/live.py

One core, one thread. The usual way recomputes the 72 features of a window of 1,000 candles in pandas at each close, feeds the
last row to the network in torch, and inserts a row into SQLite. Ours is the loop itself: ledger looked at, feed asked, features,
prediction, drift, order plan, signal, check and message written in one transaction that outlives a loss of power (the usual one
does not), and the trail appended to. Every candle makes a signal (threshold 0.34), which is the most work there can be. `said`:
features, prediction and signal, candle after candle and nothing else; `stored`: from the beginning of the turn until the
transaction is over. Both on the bundled sample; three rounds in turns, each in a process of its own; the table shows the fastest.
"""

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CANDLES, WINDOW, HISTORY, ROUNDS, MARKETS, MINUTES = 1_500, 1_000, 2_600, 3, 500, 20
BUDGET = 50.0
"""How many times as fast as the usual way ours has to be, at least (design, section 5)."""


def make(folder: Path) -> None:
    """Train a small model on the first half of the sample, and put it where it is live."""
    from crpbot.making.model import make_model
    from crpbot.market.sample import read_sample
    from crpbot.model.export import export_onnx
    from crpbot.model.pt_file import save_checkpoint
    from crpbot.model.recipe import load_recipe

    recipe = load_recipe("v7")
    recipe = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, epochs=1, batch_size=1024))
    checkpoint, _, probe = make_model("BTC-USD", read_sample("BTC-USD")[:40_000], recipe, source="sample", seed=0)
    save_checkpoint(checkpoint, folder / "model.pt", probe=probe)
    export_onnx(checkpoint, folder / "model.onnx", checkpoint_sha256="0" * 64, probe=probe)


def ours(folder: Path, markets: int, threshold: float, minutes: int) -> dict[str, float]:
    """Run the loop on recorded candles, minute by minute."""
    from crpbot.live.clock import ReplayClock
    from crpbot.live.desk import Style, load_model
    from crpbot.live.feed import ReplayFeed
    from crpbot.live.guard import Guard
    from crpbot.live.journal import open_journal
    from crpbot.live.loop import SETTLE, Loop, Setting
    from crpbot.live.roster import Roll, Roster
    from crpbot.live.states import States
    from crpbot.live.trail import Trail
    from crpbot.market.candles import MINUTE
    from crpbot.market.sample import read_sample
    from crpbot.model.loading import load_checkpoint
    from crpbot.registry.entries import Entry
    from crpbot.registry.registry import Registry
    from crpbot.signals.follow import Costs
    from crpbot.signals.plan import ATR_PRESET
    from crpbot.signals.rules import UNKNOWN

    candles = read_sample("BTC-USD")[40_000 : 40_000 + HISTORY + minutes]
    checkpoint, style = load_checkpoint(folder / "model.onnx"), Style(threshold=threshold, preset=ATR_PRESET, costs=Costs())
    symbols = [f"M{i:03}-USD" for i in range(markets)]
    end = int(candles.time[-1]) + 10**9

    def model(symbol: str) -> object:
        entry = Entry(
            symbol=symbol, stage="live", sha256="0" * 64, file="", reason="", onnx_sha256="", override="", recipe="v7", since=0,
            proven_until=0, expires=end, files={}, diagnosis_sha256=None,
        )  # fmt: skip
        return load_model(dataclasses.replace(checkpoint, symbol=symbol), entry, head="", style=style, rules=UNKNOWN)

    class Everybody(Roster):
        """A registry with a model of each market would take minutes to fill; the look at the ledger is the real one."""

        def read(self) -> Roll:
            self._seen = self._stamp()
            return Roll(models={symbol: (model(symbol),) for symbol in symbols}, problems={})

    home = Path(tempfile.mkdtemp(dir=folder))
    clock = ReplayClock(int(candles.time[HISTORY]) + SETTLE)
    journal, registry = open_journal(home / "journal.db"), Registry(home / "registry")

    def tell(key: str, title: str, body: str, *, until: int) -> bool:
        return journal.outbox.put(key, title, body, now=clock.now(), until=until)

    feed = ReplayFeed(dict.fromkeys(symbols, candles), clock)
    roster = Everybody(registry, journal, symbols, style=style, find_rules=None)
    guard = Guard(registry, journal, tell, binding=False)
    stored, begun = [], 0.0

    def heard(_signal: object, _late: int) -> None:
        stored.append(time.perf_counter() - begun)

    setting = Setting(taken=Trail(home / "live" / "candles").take)
    loop = Loop(feed, clock, roster, journal, guard, States(home / "live"), tell, setting, heard=heard)
    began = time.perf_counter()
    loop.turn()
    started, seconds = time.perf_counter() - began, []
    for _ in range(minutes - 1):
        clock.sleep(MINUTE / 1_000)
        begun = time.perf_counter()
        loop.turn()
        loop.health()
        seconds.append(time.perf_counter() - begun)
    size = (home / "journal.db").stat().st_size + (home / "journal.db-wal").stat().st_size
    parts = {}
    if markets == 1:
        parts = {"stored": spread(stored)["p50"], "stored99": spread(stored)["p99"], **speak(model(symbols[0]), candles)}
    return {
        **spread(seconds),
        **parts,
        "start": started,
        "signals": loop.counts.signals,
        "journal": size / max(loop.counts.signals, 1),
    }


def speak(model: object, candles: object) -> dict[str, float]:
    """Let a model speak of candle after candle, and do nothing else."""
    from crpbot.live.desk import Desk, rows_of
    from crpbot.market.candles import MINUTE

    desk, said = Desk("M000-USD"), []
    desk.serve([model])
    desk.learn(candles[:HISTORY])
    for row in rows_of(candles[HISTORY:]):
        before = time.perf_counter()
        desk.take(row, now=row[0] + MINUTE)
        said.append(time.perf_counter() - before)
    return {"said": spread(said)["p50"], "said99": spread(said)["p99"]}


def usual(folder: Path, minutes: int) -> dict[str, float]:
    """Recompute a window in pandas, predict with torch, insert into SQLite."""
    import sqlite3

    import pandas as pd
    import torch
    from contenders import in_pandas

    from crpbot.market.sample import read_sample
    from crpbot.model.loading import load_checkpoint

    torch.set_num_threads(1)
    checkpoint = load_checkpoint(folder / "model.pt")
    network, names = checkpoint.network, list(checkpoint.features)
    candles = read_sample("BTC-USD")[40_000 : 40_000 + HISTORY + minutes]
    columns = ("open", "high", "low", "close", "volume")
    database = sqlite3.connect(folder / "usual.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute("CREATE TABLE IF NOT EXISTS signals (time INTEGER PRIMARY KEY, side TEXT, confidence REAL)")
    said, seconds = [], []
    for last in range(HISTORY, HISTORY + minutes):
        before = time.perf_counter()
        window = slice(last + 1 - WINDOW, last + 1)
        frame = pd.DataFrame({name: getattr(candles, name)[window] for name in columns})
        row = pd.DataFrame(in_pandas(frame))[names].iloc[-1].to_numpy()
        with torch.inference_mode():
            probabilities = torch.softmax(network(torch.from_numpy(row[None, :])), dim=1).numpy()[0]
        side = "LONG" if probabilities[2] > probabilities[0] else "SHORT"
        said.append(time.perf_counter() - before)
        moment, confidence = int(candles.time[last]), float(max(probabilities[0], probabilities[2]))
        database.execute("INSERT OR REPLACE INTO signals VALUES (?, ?, ?)", (moment, side, confidence))
        seconds.append(time.perf_counter() - before)
    parts = {"said": spread(said)["p50"], "said99": spread(said)["p99"]}
    return {**spread(seconds), **parts, "stored": spread(seconds)["p50"], "stored99": spread(seconds)["p99"]}


def spread(seconds: list[float]) -> dict[str, float]:
    """Return median and 99th percentile in milliseconds, and the most memory that the process ever held in MiB."""
    status = Path("/proc/self/status")  # not `ru_maxrss`: a child inherits that of its parent
    found = re.search(r"VmHWM:\s+(\d+)", status.read_text()) if status.exists() else None
    memory = int(found[1]) / 1024 if found else float("nan")
    p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1_000
    return {"p50": float(p50), "p99": float(p99), "most": max(seconds) * 1_000, "memory": memory}


WAYS = {
    "ours": lambda folder: ours(folder, 1, 0.34, CANDLES),
    "usual": lambda folder: usual(folder, 200),
    "all speak": lambda folder: ours(folder, MARKETS, 0.34, MINUTES),
    "none speaks": lambda folder: ours(folder, MARKETS, 0.999, MINUTES),
}


def alone(way: str, folder: Path) -> dict[str, float]:
    """Run one way in a process of its own, on one core."""
    command = [sys.executable, __file__, "--only", way, "--folder", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)  # noqa: S603
    return json.loads(done.stdout)


def main() -> None:
    """Compare, and print one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if options.only == "make":
        make(options.folder)
        print("{}")
        return
    if options.only:
        print(json.dumps(WAYS[options.only](options.folder)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alone("make", folder)
        rounds = [{way: alone(way, folder) for way in ("ours", "usual")} for _ in range(ROUNDS)]
        best = {way: min((found[way] for found in rounds), key=lambda one: one["p50"]) for way in ("ours", "usual")}
        many = {way: alone(way, folder) for way in ("all speak", "none speaks")}
    mine, theirs = best["ours"], best["usual"]
    print(f"one market, {CANDLES:,} candles{'':8}p50{'':9}p99     MiB")
    for way, one in best.items():
        for part in ("said", "stored"):
            print(f"{way:8}{part:10}{one[part]:>13.2f} ms{one[part + '99']:>9.2f} ms{one['memory']:>8.0f}")
    for part in ("said", "stored"):
        ratios = theirs[part] / mine[part], theirs[part + "99"] / mine[part + "99"]
        print(f"{part}: {ratios[0]:.0f} times as fast at p50, {ratios[1]:.0f} at p99")
    print(f"{mine['journal']:,.0f} bytes of journal a signal, with its message")
    print(f"\n{MARKETS} markets on one core, {MINUTES} minutes: a whole turn")
    for way, one in many.items():
        most, start = one["most"] / 1_000, one["start"]
        print(f"{way:12}{one['p50'] / 1_000:>9.2f} s {most:>9.2f} s at most{one['memory']:>8.0f} MiB, started in {start:.0f} s")


if __name__ == "__main__":
    main()
