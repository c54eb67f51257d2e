"""A backtest of two years of minutes, without features and prediction, beside the plain loop that it must equal.

The whole is everything that `crpbot backtest` does once the probabilities are there: plans, following them, the account at every
minute, intervals by the bootstrap, and 500 throwers of coins. The loop follows the same plans one candle at a time
(`tests/signals/reference.py`), the notebook cuts a frame of pandas for each plan; both do nothing else.
"""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.features import market, named
from benchmarks.measuring import ROOT, Call, Scale, costs, in_turns
from benchmarks.results import Row
from crpbot.market.candles import Candles
from crpbot.signals.backtest import About, Terms, follow_signals
from crpbot.signals.follow import OUTCOMES, Costs, Timing, follow
from crpbot.signals.hear import Heard
from crpbot.signals.plan import ATR_PRESET, OrderPlan, make_plan, make_plans
from crpbot.signals.rules import MarketRules
from crpbot.signals.threshold import fixed

ROWS, SIGNALS = 1_051_200, 50_000
LOOPED = {"loop": 5_000, "pandas": 1_000}
"""Plans that the slow ones follow."""
TIMING = Timing(expiry=30, hold=15, from_entry=True)


def heard(candles: Candles, signals: int) -> Heard:
    """Return made-up probabilities of every candle, `signals` of them sure of a side by chance."""
    rng = np.random.default_rng(0)
    rows = np.arange(200, len(candles) - 1)
    p = np.tile([0.46, 0.08, 0.46], (len(rows), 1)) + rng.normal(0, 0.01, (len(rows), 1)) * [1, 0, -1]
    sure = rng.choice(len(rows), min(signals, len(rows)), replace=False)
    p[sure] = np.where(rng.random((len(sure), 1)) < 0.5, [[0.7, 0.1, 0.2]], [[0.2, 0.1, 0.7]])
    return Heard(
        rows=rows,
        probabilities=p,
        y=rng.integers(0, 3, len(rows)),
        known=candles.time[rows] + 16 * 60_000,
        atr=1e-3 * candles.close[rows],
    )


def whole(path: str, rows: int, signals: int) -> dict[str, Any]:
    """Return what a backtest costs once the probabilities are there."""
    candles = market(path, rows)
    said = heard(candles, signals)
    about = About(models=("a coin",), symbol="BTC-USD", source="synthetic", label="nothing", out_of_sample="yes")
    terms = Terms(preset=ATR_PRESET, timing=TIMING, rules=MarketRules(), costs=Costs(), several=True)
    found, result = costs(lambda: follow_signals(candles, said, fixed(0.6), terms, about), times=2)
    return {**found, "note": f"{len(result.trades.rows):,} plans"}


def signals_of(said: Heard) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the signals, and their sides."""
    sign = np.where(said.probabilities[:, 2] > 0.6, 1, np.where(said.probabilities[:, 0] > 0.6, -1, 0)).astype(np.int8)
    place = np.flatnonzero(sign)
    return said.rows[place], sign[place]


def following(name: str, path: str, rows: int, signals: int) -> dict[str, Any]:
    """Return how many plans a second are followed, and whether their ends are ours."""
    candles = market(path, rows)
    said = heard(candles, signals)
    at, sign = signals_of(said)
    close, atr = candles.close[at], said.atr[np.searchsorted(said.rows, at)]
    plans = make_plans(sign, center=close, atr=atr, price=close, preset=ATR_PRESET)
    found, ours = costs(lambda: follow(candles, at, plans, TIMING), times=3)
    if name == "crpbot":
        return {"plans_per_second": len(at) / found["seconds"], "note": f"{len(at):,} plans"}
    few = [
        (int(t), make_plan("LONG" if s > 0 else "SHORT", center=float(c), atr=float(a), price=float(c), preset=ATR_PRESET))
        for t, s, c, a in list(zip(at, sign, close, atr, strict=True))[: LOOPED[name]]
    ]
    found, ends = costs(lambda: FOLLOWERS[name](candles, few), times=3)
    alike = sum(end == (OUTCOMES[ours.outcome[i]], ours.exit_row[i]) for i, end in enumerate(ends))
    return {"plans_per_second": len(few) / found["seconds"], "note": f"{len(few):,} plans, {len(few) - alike} end otherwise"}


Plan = tuple[int, OrderPlan]


def in_a_loop(candles: Candles, plans: list[Plan]) -> list[tuple[str, int]]:
    """Follow plans one candle at a time."""
    sys.path.insert(0, str(ROOT / "tests" / "signals"))
    from reference import follow_all

    made = follow_all(candles, plans, expiry=TIMING.expiry, hold=TIMING.hold, from_entry=True, several=True)
    return [(end.outcome, end.exit_row) for end in made.values()]


def in_pandas(candles: Candles, plans: list[Plan]) -> list[tuple[str, int]]:
    """Follow each plan on a piece of a frame, as a notebook would: limit entries, one segment without gaps."""
    import pandas as pd

    frame = pd.DataFrame({name: np.array(getattr(candles, name)) for name in ("high", "low", "close")})
    return [in_a_frame(frame, t, plan) for t, plan in plans]


def in_a_frame(frame: Any, t: int, plan: OrderPlan) -> tuple[str, int]:  # noqa: ANN401  a frame of pandas
    """Follow one plan."""
    ahead = frame.iloc[t + 1 : t + 1 + TIMING.expiry]
    fills = ahead[ahead["low"] < plan.entry] if plan.side == "LONG" else ahead[ahead["high"] > plan.entry]
    if fills.empty:
        return "not filled", -1
    entry = int(fills.index[0])
    trade = frame.iloc[entry : entry + TIMING.hold]
    long = plan.side == "LONG"
    stopped = trade["low"] <= plan.stop_loss if long else trade["high"] >= plan.stop_loss
    taken = trade["high"] > plan.take_profit if long else trade["low"] < plan.take_profit
    taken.iloc[0] = False  # nobody knows what came first in the candle of the entry
    ended = trade[stopped | taken]
    if ended.empty:
        return "time", int(trade.index[-1])
    row = int(ended.index[0])
    return ("stop loss" if stopped[row] else "take profit"), row


FOLLOWERS = {"loop": in_a_loop, "pandas": in_pandas}


def measure(scale: Scale) -> Iterator[Row]:
    """Compare following, then look at the whole."""
    given = {"path": scale.candles, "rows": scale.of(ROWS, 50_000), "signals": scale.of(SIGNALS, 2_000)}
    data = named(scale.candles, given["rows"])
    names = {"crpbot": "crpbot", "plain loop": "loop", "pandas, a piece a plan": "pandas"}
    calls = {title: Call(function="backtest:following", arguments={**given, "name": name}) for title, name in names.items()}
    turns = in_turns({**calls, "whole": Call(function="backtest:whole", arguments=given)}, scale.rounds)
    work = f"following order plans, {given['rows']:,} candles"
    yield turns.row("plans_per_second", work, "plans/s", better="more", others=list(names)[1:], data=data)
    work = f"a whole backtest of {given['signals']:,} signals, {given['rows']:,} candles, from probabilities on"
    yield turns.row("seconds", work, "s", ours="whole", others=(), data=data)
    yield turns.row("mib", work, "MiB", what="extra memory", ours="whole", others=(), data=data)
