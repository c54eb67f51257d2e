"""The 72 features, in batch and live, against plain pandas, Polars expressions and TA-Lib: ratios from one run.

    make bench                                              # 1,051,200 candles of a random walk: two years
    .venv/bin/python benchmarks/features.py --candles PATH  # of your own market

Every contender runs in a process of its own, so that its peak memory is its own. Times are the best of three.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import contenders
import numpy as np
import pandas as pd
import polars as pl

from crpbot.dataset.features.compute import compute_features
from crpbot.dataset.features.live import LiveFeatures
from crpbot.dataset.features.sets import feature_set
from crpbot.market.candles import Candles
from crpbot.market.files import read_candles
from crpbot.market.synthetic import make_market

ROWS = 1_051_200
COLUMNS = ("open", "high", "low", "close", "volume")
WINDOW = 1_000
"""Candles that a live system without state recomputes at each close."""
FOUNDING = feature_set("founding-72")
TALIB = sorted(contenders.in_talib({name: np.arange(1.0, 300.0) for name in COLUMNS}))


def candles(path: str | None, rows: int) -> Candles:
    """Return the longest segment of a market."""
    market = make_market("random-walk", "BTC-USD", rows=rows, seed=0) if path is None else read_candles(Path(path))
    return market[max(market.segments(), key=lambda segment: segment.stop - segment.start)]


def batch(name: str, market: Candles) -> Callable[[], object]:
    """Return what contender `name` does with a whole history."""
    columns = {column: np.array(getattr(market, column)) for column in COLUMNS}
    if name == "pandas":
        frame = pd.DataFrame(columns)
        return lambda: contenders.in_pandas(frame)
    if name == "polars":
        table = pl.DataFrame(columns)
        return lambda: contenders.in_polars(table)
    if name == "talib":
        return lambda: contenders.in_talib(columns)
    chosen = FOUNDING if name == "crpbot" else FOUNDING.only(*TALIB)
    return lambda: compute_features(market, chosen)


def measure(name: str, market: Candles) -> dict[str, object]:
    """Return seconds and extra MiB of one contender, and how many of its columns equal ours."""
    work = batch(name, market)
    before = resident()
    seconds, result = [], None
    for _ in range(3):
        del result
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    return {"seconds": min(seconds), "first": seconds[0], "mib": memory, **agreement(name, market, result)}


def resident() -> float:
    """Return the memory of this process, in MiB: what it has now where Linux says, else the most that it ever had."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def agreement(name: str, market: Candles, result: object) -> dict[str, object]:
    """Compare with ours in the design's sense: |a − b| <= 1e-9·max(|b|, the feature's standard deviation) on every row."""
    if name.startswith("crpbot"):
        return {}
    ours = compute_features(market, FOUNDING)
    unequal = {}
    for column, feature in enumerate(ours.names):
        if feature in result:
            theirs, b = np.asarray(result[feature])[ours.rows], ours.values[:, column]  # noqa: PD011  not a frame
            apart = ~(np.abs(theirs - b) <= 1e-9 * np.maximum(np.abs(b), b.std()))
            if apart.any():
                unequal[feature] = float(apart.mean())
    return {"columns": sum(feature in result for feature in ours.names), "unequal": unequal}


def live(market: Candles) -> dict[str, list[float]]:
    """Return microseconds at p50 and p99 of one closed candle, ours and a recomputed window."""
    state, ours = LiveFeatures(FOUNDING), []
    rows = [market[row : row + 1] for row in range(min(20_000, len(market)))]
    for candle in rows:
        start = time.perf_counter()
        state.push(candle)
        ours.append(time.perf_counter() - start)
    windows = {"pandas": [], "polars": []}
    for stop in range(WINDOW, WINDOW + 300):
        columns = {column: np.array(getattr(market, column)[stop - WINDOW : stop]) for column in COLUMNS}
        frame, table = pd.DataFrame(columns), pl.DataFrame(columns)
        start = time.perf_counter()
        {name: float(column.iloc[-1]) for name, column in contenders.in_pandas(frame).items()}
        middle = time.perf_counter()
        contenders.in_polars(table)[-1].to_dicts()
        windows["polars"].append(time.perf_counter() - middle)
        windows["pandas"].append(middle - start)
    warm = {"crpbot": ours[WINDOW:], **{name: times[20:] for name, times in windows.items()}}
    return {name: (1e6 * np.quantile(times, [0.5, 0.99])).tolist() for name, times in warm.items()}


def main() -> None:
    """Run every contender and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candles", help="a file of candles; by default a random walk")
    parser.add_argument("--rows", type=int, default=ROWS, help="of the random walk")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        market = candles(options.candles, options.rows)
        print(json.dumps(live(market) if options.only == "live" else measure(options.only, market)))
        return
    found = {}
    for name in ("pandas", "polars", "crpbot", "talib", "crpbot, TA-Lib's columns", "live"):
        command = [sys.executable, *sys.argv, "--only", name]
        found[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603
    show(found, len(candles(options.candles, options.rows)))


def show(found: dict[str, dict[str, object]], rows: int) -> None:
    """Print what was measured."""
    print(f"72 features of {rows:,} candles in one segment, best of three; talib and the last row: 21 of the 72\n")
    print(f"{'':28}{'seconds':>8}{'first':>8}{'ratio':>8}{'extra MiB':>11}  columns, unequal to ours on some row")
    for name, one in found.items():
        if name == "live":
            continue
        base = found["talib" if name in {"talib", "crpbot, TA-Lib's columns"} else "pandas"]["seconds"]
        words = f"{one['columns']}, {len(one['unequal'])}" if "columns" in one else ""
        print(
            f"{name:28}{one['seconds']:8.2f}{one['first']:8.2f}{base / one['seconds']:8.1f}{one['mib']:11,.0f}  {words}".rstrip()
        )
    for name in ("pandas", "polars", "talib"):
        worst = sorted(found[name]["unequal"].items(), key=lambda item: -item[1])[:4]
        print(
            f"  {name} differs most in: " + (", ".join(f"{feature} on {share:.0%} of rows" for feature, share in worst) or "none")
        )
    live_found = found["live"]
    print(f"\none closed candle, live; pandas and polars recompute {WINDOW:,} candles\n")
    print(f"{'':10}{'p50, µs':>10}{'p99, µs':>10}{'p50 /':>9}{'p99 /':>9}")
    for name in ("pandas", "polars", "crpbot"):
        p50, p99 = live_found[name]
        ratios = [live_found["pandas"][i] / live_found[name][i] for i in (0, 1)]
        print(f"{name:10}{p50:10,.0f}{p99:10,.0f}{ratios[0]:9.0f}{ratios[1]:9.0f}")


if __name__ == "__main__":
    main()
