"""A closed candle until its signal is stored: the loop of `crpbot live` beside pandas and torch, and 500 markets a minute.

One core, one thread. The usual way recomputes the 72 features of a window of 1,000 candles in pandas at each close, feeds the
last row to the network in torch, and inserts a row into SQLite. Ours is the loop itself: ledger looked at, feed asked, features,
prediction, drift, order plan, signal, check and message written in one transaction that outlives a loss of power (the usual one
does not), and the trail appended to. Every candle makes a signal (threshold 0.34), which is the most work there can be. `said`:
features, prediction and signal, candle after candle and nothing else; `stored`: from the beginning of the turn until the
transaction is over. Both on the bundled sample.
"""

import dataclasses
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.measuring import Call, Scale, ask, in_turns, peak
from benchmarks.results import Budget, Row
from crpbot.market.sample import read_sample

WINDOW, HISTORY, MARKETS = 1_000, 2_600, 500


def make(folder: str) -> None:
    """Train a small model on the first half of the sample, and put it where it is live."""
    from crpbot.making.model import make_model
    from crpbot.model.export import export_onnx
    from crpbot.model.pt_file import save_checkpoint
    from crpbot.model.recipe import load_recipe

    recipe = load_recipe("v7")
    recipe = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, epochs=1, batch_size=1024))
    checkpoint, _, probe = make_model("BTC-USD", read_sample("BTC-USD")[:40_000], recipe, source="sample", seed=0)
    save_checkpoint(checkpoint, Path(folder) / "model.pt", probe=probe)
    export_onnx(checkpoint, Path(folder) / "model.onnx", checkpoint_sha256="0" * 64, probe=probe)


def ours(folder: str, markets: int, minutes: int) -> dict[str, float]:
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
    from crpbot.model.loading import load_checkpoint
    from crpbot.registry.entries import Entry
    from crpbot.registry.registry import Registry
    from crpbot.signals.follow import Costs
    from crpbot.signals.plan import ATR_PRESET
    from crpbot.signals.rules import UNKNOWN

    candles = read_sample("BTC-USD")[40_000 : 40_000 + HISTORY + minutes]
    checkpoint, style = load_checkpoint(Path(folder) / "model.onnx"), Style(threshold=0.34, preset=ATR_PRESET, costs=Costs())
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


def usual(folder: str, minutes: int) -> dict[str, float]:
    """Recompute a window in pandas, predict with torch, insert into SQLite."""
    import sqlite3

    import pandas as pd
    import torch

    from benchmarks.contenders import in_pandas
    from crpbot.model.loading import load_checkpoint

    torch.set_num_threads(1)
    checkpoint = load_checkpoint(Path(folder) / "model.pt")
    network, names = checkpoint.network, list(checkpoint.features)
    candles = read_sample("BTC-USD")[40_000 : 40_000 + HISTORY + minutes]
    columns = ("open", "high", "low", "close", "volume")
    database = sqlite3.connect(Path(folder) / "usual.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute("CREATE TABLE IF NOT EXISTS signals (time INTEGER PRIMARY KEY, side TEXT, confidence REAL)")
    said, seconds = [], []
    for last in range(HISTORY, HISTORY + minutes):
        before = time.perf_counter()
        window = slice(last + 1 - WINDOW, last + 1)
        frame = pd.DataFrame({name: getattr(candles, name)[window] for name in columns})
        row = pd.DataFrame(in_pandas(frame))[names].iloc[-1].to_numpy(copy=True)  # pandas lends it for reading only
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
    """Return median and 99th percentile in milliseconds, the most in seconds, and the most memory of the process in MiB."""
    p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1_000
    return {"p50": float(p50), "p99": float(p99), "turn": max(seconds), "memory": peak()}


def measure(scale: Scale) -> Iterator[Row]:
    """Compare one market, then look at many."""
    data = f"bundled BTC-USD sample, sha256 {read_sample('BTC-USD').sha256[:16]}"
    with tempfile.TemporaryDirectory() as folder:
        ask(Call(function="live:make", arguments={"folder": folder}))
        minutes = {"crpbot": scale.of(1_500, 300), "pandas + torch": scale.of(200, 40)}
        calls = {
            "crpbot": Call(
                function="live:ours", arguments={"folder": folder, "markets": 1, "minutes": minutes["crpbot"]}, core=0
            ),
            "pandas + torch": Call(
                function="live:usual", arguments={"folder": folder, "minutes": minutes["pandas + torch"]}, core=0
            ),
        }
        turns = in_turns(calls, scale.rounds)
        work = "a closed candle: features, prediction, signal"
        budget = Budget(text="at least 50 times as fast as recomputing a window", limit=50.0, against="pandas + torch")
        why = "the others were faster than when the budget was set; ours is bound by single calls of numpy and onnxruntime"
        yield turns.row("said", work, "ms", what="p50", budget=budget, why=why, data=data)
        yield turns.row("said99", work, "ms", what="p99", data=data)
        work = "the same until the signal is stored; ours for good, the other may lose it with the power"
        yield turns.row("stored", work, "ms", what="p50", data=data)
        yield turns.row("stored99", work, "ms", what="p99", data=data, why="ours waits for the disk")
        yield turns.row("memory", "the process of one market", "MiB", what="memory at most", data=data)
        many = scale.of(MARKETS, 20)
        call = Call(function="live:ours", arguments={"folder": folder, "markets": many, "minutes": scale.of(8, 3)}, core=0)
        turns = in_turns({"crpbot": call}, 1)
        budget = Budget(text="less than the minute that there is", limit=60.0)
        yield turns.row(
            "turn", f"{many} markets, a signal of each, one core: a whole turn", "s", what="at most", budget=budget, data=data
        )
        yield turns.row("memory", f"the process of {many} markets", "MiB", what="memory at most", data=data)
