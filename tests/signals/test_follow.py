"""Plans on candles: equal, trade for trade, to a plain loop; and what no rule may give away."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signals.reference import earned, follow_all
from strategies import START, candles

from crpbot.errors import PlanError
from crpbot.market.candles import MINUTE, Candles
from crpbot.market.synthetic import make_market
from crpbot.signals.follow import OUTCOMES, Costs, Timing, follow, one_at_a_time, run_ends
from crpbot.signals.plan import ATR_PRESET, SEED_PRESET, OrderPlan, Preset, make_plan, make_plans
from crpbot.signals.rules import UNKNOWN, MarketRules

WIDE = dataclasses.replace(SEED_PRESET, zone=5.0, exits=dataclasses.replace(SEED_PRESET.exits, stop=20.0))


@st.composite
def followed(draw: st.DrawFn) -> tuple[Candles, list[int], np.ndarray, dict, Preset, MarketRules, Timing]:
    """Draw a market with gaps, ties and stand-ins, and plans of every kind on some of its candles."""
    market = draw(candles(min_rows=3, max_rows=60))
    coarse = draw(st.booleans())
    if coarse:  # a tick of a half, so that prices meet orders exactly
        market = Candles(
            market.time, *(np.ceil(2 * p) / 2 for p in (market.open, market.high, market.low, market.close)), market.volume
        )
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))  # many plans an example, of every kind
    if draw(st.booleans()):
        market = dataclasses.replace(market, filled=rng.random(len(market)) < 0.1)
    rows = np.flatnonzero(rng.random(len(market)) < draw(st.sampled_from([0.2, 0.6, 1.0]))).tolist() or [0]
    sign = rng.choice(np.array([-1, 1], np.int8), len(rows))
    moves = rng.choice([1.0, 1.0, 0.8, 1.3], len(rows))
    close = market.close[rows]
    inputs = {"center": close, "atr": np.full(len(rows), draw(st.sampled_from([0.0, 0.02, 0.5, 3.0]))), "price": close * moves}
    preset = draw(st.sampled_from([ATR_PRESET, SEED_PRESET, WIDE]))
    if coarse:
        inputs["atr"] = np.full(len(rows), draw(st.sampled_from([1.0, 2.0])))
    rules = draw(st.sampled_from([UNKNOWN, MarketRules(tick=0.5 if coarse else 0.01, lot=0.5, min_notional=5.0)]))
    timing = Timing(expiry=draw(st.integers(1, 8)), hold=draw(st.integers(1, 12)), from_entry=draw(st.booleans()))
    if not timing.from_entry:
        timing = dataclasses.replace(timing, expiry=min(timing.expiry, timing.hold))
    return market, rows, sign, inputs, preset, rules, timing


def single(sign: int, row: int, inputs: dict, preset: Preset, rules: MarketRules) -> OrderPlan | None:
    one = {name: float(column[row]) for name, column in inputs.items()}
    try:
        return make_plan("LONG" if sign > 0 else "SHORT", **one, preset=preset, rules=rules)
    except PlanError:
        return None


@pytest.mark.parametrize("several", [False, True])
@settings(max_examples=60)
@given(drawn=followed())
def test_every_trade_is_that_of_the_plain_loop(*, several: bool, drawn: tuple) -> None:
    market, rows, sign, inputs, preset, rules, timing = drawn
    plans = [(t, single(sign[i], i, inputs, preset, rules)) for i, t in enumerate(rows)]
    wanted = follow_all(market, plans, **dataclasses.asdict(timing), several=several)
    found = follow(market, np.array(rows), make_plans(sign, **inputs, preset=preset, rules=rules), timing)
    made = np.ones(len(rows), bool) if several else one_at_a_time(found.rows, found.free)
    assert [t for t, kept in zip(rows, made, strict=True) if kept] == list(wanted)
    costs = Costs(fee_bp=7.0, slippage_bp=3.0)
    money, bp = found.net_money(costs), found.net_bp(costs)
    for i in np.flatnonzero(made):
        end, plan = wanted[rows[i]], plans[i][1]
        assert OUTCOMES[found.outcome[i]] == end.outcome
        assert (found.entry_row[i], found.exit_row[i], found.free[i]) == (end.entry_row, end.exit_row, end.free)
        np.testing.assert_array_equal([found.entry[i], found.exit[i]], [end.entry, end.exit])
        if end.entry_row >= 0:
            assert (money[i], bp[i]) == pytest.approx(earned(plan, end, fee_bp=7.0, slippage_bp=3.0), rel=1e-9, abs=1e-9)


def test_the_generated_markets_reach_every_outcome_and_every_order() -> None:
    """The comparison above is worth what its markets bring up."""
    seen: set[tuple[str, str]] = set()

    @settings(max_examples=300)
    @given(drawn=followed())
    def collect(drawn: tuple) -> None:
        market, rows, sign, inputs, preset, rules, timing = drawn
        found = follow(market, np.array(rows), make_plans(sign, **inputs, preset=preset, rules=rules), timing)
        for i, outcome in enumerate(found.outcome):
            plan = single(sign[i], i, inputs, preset, rules)
            seen.add(("none" if plan is None else plan.order_type, OUTCOMES[outcome]))

    collect()
    orders = ("LIMIT BUY", "BUY STOP", "LIMIT SELL", "SELL STOP")
    assert {("none", "refused"), *((order, end) for order in orders for end in ("not filled", "stop loss", "gap"))} <= seen
    assert {end for _, end in seen} == set(OUTCOMES)


def bars(*rows: tuple[float, float, float, float], gap_before: int | None = None) -> Candles:
    prices = np.array(rows, float)
    steps = np.arange(len(rows)) + (0 if gap_before is None else (np.arange(len(rows)) >= gap_before))
    return Candles(START + MINUTE * steps, *prices.T, np.ones(len(rows)))


FLAT = (100.0, 100.0, 100.0, 100.0)
TIMING = Timing(expiry=3, hold=5, from_entry=True)


def end_of(market: Candles, *, side: str = "LONG", price: float = 100.0, timing: Timing = TIMING) -> tuple[str, float, float]:
    """Follow a plan at 100 with a stop loss at 98.5 and a take profit at 102.7; a short has 101.5 and 97.3."""
    sign = np.array([1 if side == "LONG" else -1], np.int8)
    center, now, atr = np.array([100.0]), np.array([price]), np.array([1.0])
    found = follow(market, np.array([0]), make_plans(sign, center=center, atr=atr, price=now), timing)
    return OUTCOMES[found.outcome[0]], float(found.entry[0]), float(found.exit[0])


@pytest.mark.parametrize(
    ("market", "wanted"),
    [
        (bars(FLAT, (101, 101, 100, 101), FLAT, FLAT, FLAT), ("not filled", np.nan, np.nan)),  # a touch is not enough
        (bars(FLAT, (99.5, 100, 99, 99.5), (99.5, 103, 98, 101)), ("stop loss", 100.0, 98.5)),  # both in one candle
        (bars(FLAT, (99.5, 103, 99, 99.5), (99.5, 100, 99, 99)), ("gap", 100.0, 99.0)),  # no profit in the entry's own candle
        (bars(FLAT, (99.5, 100, 99, 99.5), (97, 97, 96, 96)), ("stop loss", 100.0, 97.0)),  # a gap through it
        (bars(FLAT, (99.5, 100, 99, 99.5), (99, 99, 98.5, 99)), ("stop loss", 100.0, 98.5)),  # here a touch is enough
        (bars(FLAT, (97.0, 97.0, 96.0, 96.0)), ("stop loss", 100.0, 97.0)),  # through entry and stop at once
        (bars(FLAT, (99.5, 100, 99, 99.5), (105, 106, 104, 105)), ("take profit", 100.0, 102.7)),  # beyond it: no gift
        (bars(FLAT, (99.5, 100, 99, 99.5), (100, 102.7, 100, 101)), ("gap", 100.0, 101.0)),  # touched only; the candles end
        (bars(FLAT, (99.5, 100, 99, 99.2), (50, 50, 50, 50), gap_before=2), ("gap", 100.0, 99.2)),  # a missing minute
    ],
)
def test_each_rule_on_a_market_of_its_own(market: Candles, wanted: tuple[str, float, float]) -> None:
    found = end_of(market)
    assert found[0] == wanted[0]
    assert found[1:] == pytest.approx(wanted[1:], nan_ok=True)
    upside_down = Candles(market.time, *(200 - p for p in (market.open, market.low, market.high, market.close)), market.volume)
    mirrored = end_of(upside_down, side="SHORT")
    assert mirrored[0] == wanted[0]
    assert mirrored[1:] == pytest.approx([200 - price for price in wanted[1:]], nan_ok=True)


def test_a_stop_entry_fills_at_the_worse_of_its_price_and_the_open_and_its_own_stop_at_its_price() -> None:
    late = bars(FLAT, (100.5, 101, 100.4, 100.6), FLAT)
    assert end_of(late, price=99.0)[1] == 100.5  # the zone begins at 99.75, and the market opens above
    assert end_of(bars(FLAT, (99, 99.75, 99, 99.5), FLAT), price=99.0)[1] == 99.75  # a touch is enough
    swept = end_of(bars(FLAT, (97.0, 99.8, 96.0, 99.0)), price=97.5)
    assert swept == ("stop loss", 99.75, 98.25)


def test_a_plan_acts_only_from_the_next_candle_on() -> None:
    assert end_of(bars((100, 200, 1, 100), (101, 101, 100.5, 101)))[0] == "not filled"


@pytest.mark.parametrize(("from_entry", "exit_price"), [(True, 12.0), (False, 11.0)])
def test_a_trade_ends_after_its_time(*, from_entry: bool, exit_price: float) -> None:
    """Filled in the second candle; three candles from the entry on, or three from the signal."""
    closes = [100.0, 100.5, 99.8, 99.9, 99.7, 99.6]
    rows = [(c, max(c, 100.2), min(c, 100.1 if i < 2 else c), c) for i, c in enumerate(closes)]
    found = end_of(bars(*rows), timing=Timing(expiry=3, hold=3, from_entry=from_entry))
    assert found == ("time", 100.0, {12.0: 99.7, 11.0: 99.9}[exit_price])


def test_runs_end_at_gaps_and_at_stand_ins() -> None:
    market = bars(*[FLAT] * 6, gap_before=2)
    assert run_ends(market).tolist() == [1, 1, 5, 5, 5, 5]
    stood = dataclasses.replace(market, filled=np.array([False, False, False, True, False, False]))
    assert run_ends(stood).tolist() == [1, 1, 2, 3, 5, 5]


@pytest.mark.parametrize("preset", [ATR_PRESET, SEED_PRESET])
def test_a_random_walk_pays_nobody(preset: Preset) -> None:
    """Rules that are kinder than the market would find an edge where none can be."""
    market = make_market("random-walk", "BTC-USD", rows=150_000, seed=3)
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(np.arange(100, 149_000), 15_000, replace=False))
    sign = rng.choice(np.array([-1, 1], np.int8), len(rows))
    for price in (1.0, 0.997, 1.003):  # inside the zone, and on either side
        close = market.close[rows]
        plans = make_plans(sign, center=close, atr=1e-3 * close, price=price * close, preset=preset)
        found = follow(market, rows, plans, Timing(expiry=30, hold=15, from_entry=True))
        earned = found.gross_bp[found.filled]
        assert earned.mean() < 4 * earned.std() / np.sqrt(len(earned))
