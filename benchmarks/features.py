"""The 72 features, in batch and live, beside plain pandas, Polars expressions, TA-Lib and pandas-ta-classic.

Of the last two only the columns that they define as we do, and ours of the same columns. An equal column has |a − b| <=
1e-9·max(|b|, its standard deviation) on every row.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import contenders
from benchmarks.measuring import Call, Scale, costs, in_turns, quantiles
from benchmarks.results import Budget, Row
from crpbot.dataset.features.compute import compute_features
from crpbot.dataset.features.live import LiveFeatures
from crpbot.dataset.features.sets import feature_set
from crpbot.market.candles import Candles
from crpbot.market.files import read_candles
from crpbot.market.synthetic import make_market

ROWS = 1_051_200
"""Candles of two years."""
COLUMNS = ("open", "high", "low", "close", "volume")
WINDOW = 1_000
"""Candles that a live system without state recomputes at each close."""
FOUNDING = feature_set("founding-72")
PARTLY = {"TA-Lib": "talib", "pandas-ta-classic": "pandas_ta"}


def market(path: str, rows: int) -> Candles:
    """Return the longest segment of a market."""
    candles = read_candles(Path(path)) if path else make_market("random-walk", "BTC-USD", rows=rows, seed=0)
    return candles[max(candles.segments(), key=lambda segment: segment.stop - segment.start)]


def named(path: str, rows: int) -> str:
    """Say what was computed on."""
    candles = market(path, rows)
    return f"{'candles of a file' if path else 'random walk'}, {len(candles):,} candles, sha256 {candles.sha256[:16]}"


def contender(name: str, candles: Candles) -> Callable[[], Any]:
    """Return what a contender does with a whole history."""
    columns = {column: np.array(getattr(candles, column)) for column in COLUMNS}
    if name == "talib":
        return lambda: contenders.in_talib(columns)
    if name == "polars":
        import polars as pl

        table = pl.DataFrame(columns)
        return lambda: contenders.in_polars(table)
    import pandas as pd

    frame = pd.DataFrame(columns)
    return lambda: getattr(contenders, f"in_{name}")(frame)


def history(name: str, path: str, rows: int) -> dict[str, Any]:
    """Return what a contender's columns cost, and how many of them there are and differ."""
    candles = market(path, rows)
    found, result = costs(contender(name, candles), times=3)
    return found | agreement(candles, result)


def ours(path: str, rows: int, like: str) -> dict[str, Any]:
    """Return what our columns cost: all, or those that a contender has."""
    candles, chosen = market(path, rows), FOUNDING
    if like:
        there = contender(like, market("", 1_000))()
        chosen = FOUNDING.only(*(name for name in FOUNDING.names if name in there))
    found, _ = costs(lambda: compute_features(candles, chosen), times=3)
    return {**found, "note": f"{len(chosen.names)} columns"}


def agreement(candles: Candles, result: Any) -> dict[str, Any]:  # noqa: ANN401
    """Compare a contender's columns with ours."""
    mine, apart = compute_features(candles, FOUNDING), {}
    there = [name for name in mine.names if name in result]
    for name in there:
        theirs, b = np.asarray(result[name])[mine.rows], mine.values[:, mine.names.index(name)]  # noqa: PD011  not a frame
        share = float((~(np.abs(theirs - b) <= 1e-9 * np.maximum(np.abs(b), b.std()))).mean())
        if share:
            apart[name] = share
    worst = ", ".join(f"{name} on {share:.0%} of rows" for name, share in sorted(apart.items(), key=lambda one: -one[1])[:3])
    note = f"{len(there)} columns, {len(apart)} unequal" + (f": {worst}" if worst else "")
    return {"columns": len(there), "unequal": len(apart), "note": note}


def live(name: str, rows: int) -> dict[str, Any]:
    """Return microseconds of one closed candle; whoever keeps no state recomputes a window."""
    candles, seconds = market("", rows), []
    if name == "crpbot":
        state = LiveFeatures(FOUNDING)
        for row in range(rows):
            candle = candles[row : row + 1]
            start = time.perf_counter()
            state.push(candle)
            seconds.append(time.perf_counter() - start)
        seconds = seconds[WINDOW:]
    else:
        for stop in range(WINDOW, WINDOW + rows // 20):
            work = recompute(name, candles[stop - WINDOW : stop])
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
        seconds = seconds[20:]
    return {key: 1e6 * value for key, value in quantiles(seconds)}


def recompute(name: str, window: Candles) -> Callable[[], object]:
    """Return what takes the last row of a window's features."""
    if name == "polars":
        import polars as pl

        table = pl.DataFrame({column: np.array(getattr(window, column)) for column in COLUMNS})
        return lambda: contenders.in_polars(table).tail(1).to_dicts()
    import pandas as pd

    frame = pd.DataFrame({column: np.array(getattr(window, column)) for column in COLUMNS})
    return lambda: {feature: float(column.iloc[-1]) for feature, column in contenders.in_pandas(frame).items()}


def measure(scale: Scale) -> Iterator[Row]:
    """Compare histories, then single candles."""
    given = {"path": scale.candles, "rows": scale.of(ROWS, 50_000)}
    data = named(**given)
    calls = {
        "crpbot": Call(function="features:ours", arguments={**given, "like": ""}, threads=0),
        "pandas": Call(function="features:history", arguments={**given, "name": "pandas"}, threads=0),
        "Polars": Call(function="features:history", arguments={**given, "name": "polars"}, threads=0),
    }
    for title, like in PARTLY.items():
        calls[title] = Call(function="features:history", arguments={**given, "name": like}, threads=0)
        calls[f"crpbot like {title}"] = Call(function="features:ours", arguments={**given, "like": like}, threads=0)
    turns = in_turns(calls, scale.rounds)
    budget = Budget(text="at least 3 times as fast as pandas", limit=3.0, against="pandas")
    memory = Budget(text="at most 1 GiB", limit=1_024.0)
    why = "the columns weigh the same everywhere; ours holds a block of rows for every core beside them"
    work, all_of_them = f"72 features, {given['rows']:,} candles", ("pandas", "Polars")
    yield turns.row(
        "seconds", work, "s", others=all_of_them, budget=budget, data=data, why="Polars and ours use all cores, pandas one"
    )
    yield turns.row("mib", work, "MiB", what="extra memory", others=all_of_them, budget=memory, data=data, why=why)
    for title in PARTLY:
        mine = f"crpbot like {title}"
        note = "" if mine in turns.failed else f": {turns.found[mine][-1]['note']}"
        why = "written in C, a loop for each; ours also looks whether every number is finite" if title == "TA-Lib" else ""
        yield turns.row("seconds", f"what {title} defines alike{note}", "s", ours=mine, others=(title,), data=data, why=why)
    many = scale.of(20_000, 3_000)
    calls = {
        title: Call(function="features:live", arguments={"name": name, "rows": many})
        for title, name in {"crpbot": "crpbot", "pandas": "pandas", "Polars": "polars"}.items()
    }
    turns = in_turns(calls, scale.rounds)
    for key in ("p50", "p99"):
        yield turns.row(
            key, f"72 features of one closed candle; the others recompute {WINDOW:,}", "µs", what=key, data=named("", many)
        )
