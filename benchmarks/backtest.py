"""A backtest of two years of minutes, without features and prediction, beside the plain loop that it must equal.

    make bench                                               # 1,051,200 candles of a random walk, 50,000 signals
    .venv/bin/python benchmarks/backtest.py --candles PATH   # of your own market

The whole is everything that `crpbot backtest` does once the probabilities are there: plans, following them, the account at every
minute, intervals by the bootstrap, and 500 throwers of coins. The loop follows the same plans one candle at a time
(`tests/signals/reference.py`) and does nothing else.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from crpbot.market.candles import Candles
from crpbot.market.files import read_candles
from crpbot.market.synthetic import make_market
from crpbot.signals.backtest import About, Terms, follow_signals
from crpbot.signals.follow import Costs, Timing, follow
from crpbot.signals.hear import Heard
from crpbot.signals.plan import PRESETS, Preset, make_plan, make_plans
from crpbot.signals.rules import MarketRules
from crpbot.signals.threshold import fixed

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "signals"))
from reference import follow_all

ROWS, SIGNALS, LOOPED = 1_051_200, 50_000, 5_000
TIMING = Timing(expiry=30, hold=15, from_entry=True)


def heard(market: Candles, signals: int) -> Heard:
    """Return made-up probabilities of every candle, `signals` of them sure of a side by chance."""
    rng = np.random.default_rng(0)
    rows = np.arange(200, len(market) - 1)
    p = np.tile([0.46, 0.08, 0.46], (len(rows), 1)) + rng.normal(0, 0.01, (len(rows), 1)) * [1, 0, -1]
    sure = rng.choice(len(rows), min(signals, len(rows)), replace=False)
    p[sure] = np.where(rng.random((len(sure), 1)) < 0.5, [[0.7, 0.1, 0.2]], [[0.2, 0.1, 0.7]])
    return Heard(
        rows=rows,
        probabilities=p,
        y=rng.integers(0, 3, len(rows)),
        known=market.time[rows] + 16 * 60_000,
        atr=1e-3 * market.close[rows],
    )


def best_of(work: Callable[[], object]) -> float:
    """Return the seconds of the fastest of three."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def loop(market: Candles, said: Heard, rows: np.ndarray, sign: np.ndarray, preset: Preset) -> float:
    """Return the seconds of the plain loop over the first plans."""
    place = np.searchsorted(said.rows, rows[:LOOPED])
    plans = [
        (int(t), make_plan("LONG" if s > 0 else "SHORT", center=float(c), atr=float(a), price=float(c), preset=preset))
        for t, s, c, a in zip(rows[:LOOPED], sign, market.close[rows], said.atr[place], strict=False)
    ]
    start = time.perf_counter()
    follow_all(market, plans, expiry=TIMING.expiry, hold=TIMING.hold, from_entry=True, several=True)
    return time.perf_counter() - start


def main() -> None:
    """Print one row a preset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candles", help="a file; by default a random walk")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--signals", type=int, default=SIGNALS)
    args = parser.parse_args()
    walk = args.candles is None
    market = make_market("random-walk", "BTC-USD", rows=args.rows, seed=0) if walk else read_candles(Path(args.candles))
    said = heard(market, args.signals)
    about = About(models=("a coin",), symbol="BTC-USD", source="synthetic", label="nothing", out_of_sample="yes")
    print(f"{len(market):,} candles, {args.signals:,} signals; seconds, best of three, one thread")
    print(f"{'preset':8}{'several':>9}{'whole':>8}{'following':>11}{'plans/s':>12}{'loop, plans/s':>15}{'ratio':>7}")
    for name, preset in PRESETS.items():
        for several in (False, True):
            terms = Terms(preset=preset, timing=TIMING, rules=MarketRules(), costs=Costs(), several=several)
            whole = best_of(lambda terms=terms: follow_signals(market, said, fixed(0.6), terms, about))
            sign = np.where(said.probabilities[:, 2] > 0.6, 1, np.where(said.probabilities[:, 0] > 0.6, -1, 0)).astype(np.int8)
            place = np.flatnonzero(sign)
            rows, sign, close = said.rows[place], sign[place], market.close[said.rows[place]]
            plans = make_plans(sign, center=close, atr=said.atr[place], price=close, preset=preset)
            following = best_of(lambda rows=rows, plans=plans: follow(market, rows, plans, TIMING))
            slow = loop(market, said, rows, sign, preset) / min(LOOPED, len(rows))
            fast = following / len(rows)
            print(f"{name:8}{several!s:>9}{whole:8.2f}{following:11.3f}{1 / fast:12,.0f}{1 / slow:15,.0f}{slow / fast:7.0f}")


if __name__ == "__main__":
    main()
