"""What became of a signal: the answer of a backtest on the whole market, and as soon as it is certain."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import START, candles, walk

from crpbot.dataset.features.sets import average_true_range
from crpbot.dataset.labels import DOWN, UNLABELLED, UP, Exits, LabelRule, classify, label_moves, of_stand_ins
from crpbot.errors import CandleError
from crpbot.live.outcome import Outcome, Terms, label_at, settle
from crpbot.market.candles import MINUTE, Candles
from crpbot.signals.follow import CUT, NOT_FILLED, OUTCOMES, Costs, Timing, follow, run_ends
from crpbot.signals.plan import ATR_PRESET, SEED_PRESET, OrderPlan, Plans, Preset, make_plan, make_plans

WIDE = dataclasses.replace(SEED_PRESET, zone=5.0, exits=dataclasses.replace(SEED_PRESET.exits, stop=20.0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A market and the plans of some of its candles; each as the batch makes it, and as a signal shows it."""

    market: Candles
    terms: Terms
    rows: np.ndarray
    plans: Plans
    shown: list[OrderPlan]


@st.composite
def cases(draw: st.DrawFn, *, rows: tuple[int, int] = (20, 60)) -> Case:
    """Draw a market with gaps, ties and stand-ins, and plans of every kind."""
    market = draw(candles(min_rows=rows[0], max_rows=rows[1]))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    steps = 1 + (rng.random(len(market)) < draw(st.sampled_from([0.0, 0.05, 0.2]))) * rng.integers(1, 4, len(market))
    market = dataclasses.replace(market, time=START + MINUTE * np.cumsum(steps))
    if draw(st.booleans()):
        market = dataclasses.replace(market, filled=rng.random(len(market)) < 0.1)
    kind = draw(st.sampled_from(["horizon", "triple-barrier"]))
    exits = draw(
        st.sampled_from([Exits(), Exits(distance="percent", stop=10.0, reward=1.0), Exits(distance="percent", stop=60.0)])
    )
    timing = Timing(expiry=draw(st.integers(1, 8)), hold=draw(st.integers(1, 12)), from_entry=draw(st.booleans()))
    if not timing.from_entry:
        timing = dataclasses.replace(timing, expiry=min(timing.expiry, timing.hold))
    terms = Terms(
        rule=LabelRule(kind=kind, horizon=draw(st.integers(1, 10)), exits=exits),
        theta=draw(st.sampled_from([0.0, 0.1])),
        timing=timing,
        costs=Costs(fee_bp=7.0, slippage_bp=3.0),
        max_gap_minutes=draw(st.sampled_from([0, 0, 2])),
    )
    where = np.flatnonzero(rng.random(len(market)) < draw(st.sampled_from([0.2, 1.0])))
    if market.filled is not None:
        where = where[~market.filled[where]]
    sign = rng.choice(np.array([-1, 1], np.int8), len(where))
    close = market.close[where]
    inputs = {"atr": np.full(len(where), draw(st.sampled_from([0.02, 0.5, 3.0])))}
    inputs |= {"center": close, "price": close * rng.choice([1.0, 1.0, 0.8, 1.3], len(where))}
    preset = draw(st.sampled_from([ATR_PRESET, SEED_PRESET, WIDE]))
    plans = make_plans(sign, **inputs, preset=preset)
    stands = np.flatnonzero(plans.refused == 0)
    plans = Plans(**{one.name: getattr(plans, one.name)[stands] for one in dataclasses.fields(plans)})
    shown = [as_shown(int(sign[i]), {name: float(column[i]) for name, column in inputs.items()}, preset) for i in stands]
    return Case(market=market, terms=terms, rows=where[stands], plans=plans, shown=shown)


def as_shown(sign: int, inputs: dict[str, float], preset: Preset) -> OrderPlan:
    return make_plan("LONG" if sign > 0 else "SHORT", **inputs, preset=preset)


def of_the_batch(case: Case) -> Iterator[tuple[Outcome, bool]]:
    """Return what the batch says of each plan, and whether it is more than the end of the candles."""
    market, terms = case.market, case.terms
    found = follow(market, case.rows, case.plans, terms.timing)
    moves, known = label_moves(market, terms.rule, max_gap_minutes=terms.max_gap_minutes)
    labelled = np.isfinite(moves) & ~of_stand_ins(market, known)
    y = np.where(labelled, classify(moves, terms.theta), UNLABELLED)
    net = found.net_bp(terms.costs)
    ends = run_ends(market)
    (*_, last) = market.segments(max_gap_minutes=terms.max_gap_minutes)
    for i, row in enumerate(case.rows):
        label = None if y[row] == UNLABELLED else int(y[row])
        hit = None if label is None else label == (UP if case.plans.sign[i] > 0 else DOWN)
        trade = {}
        if found.filled[i]:
            trade = {
                "entry_time": int(market.time[found.entry_row[i]]),
                "entry": float(found.entry[i]),
                "exit_time": int(market.time[found.exit_row[i]]),
                "exit": float(found.exit[i]),
                "gross_bp": float(found.gross_bp[i]),
                "net_bp": float(net[i]),
            }
        cut = ends[row] == len(market) - 1 and (
            found.outcome[i] == CUT or (found.outcome[i] == NOT_FILLED and ends[row] - row < terms.timing.expiry)
        )
        unlabelled = label is None and row >= last.start and row + terms.rule.horizon > len(market) - 1
        yield Outcome(label=label, hit=hit, outcome=OUTCOMES[found.outcome[i]], **trade), not (cut or unlabelled)


def answers(case: Case, i: int) -> Iterator[tuple[int, Outcome | None]]:
    """Feed the candles one by one."""
    row = int(case.rows[i])
    for n in range(row + 1, len(case.market) + 1):
        yield n, settle(case.shown[i], case.market[:n], candle=int(case.market.time[row]), terms=case.terms)


@pytest.mark.slow
@settings(max_examples=60)
@given(case=cases())
def test_the_first_answer_is_that_of_the_batch_and_stands(case: Case) -> None:
    for i, (wanted, whole) in enumerate(of_the_batch(case)):
        found = [answer for _, answer in answers(case, i) if answer is not None]
        assert all(answer == wanted for answer in found)
        assert bool(found) or not whole  # what the batch knows for sure is known here, too


def extended(market: Candles, gap: int, prices: np.ndarray) -> Candles:
    """Return the market with other candles after it, the first of them `gap` minutes late."""
    time = market.time[-1] + MINUTE * (1 + gap + np.arange(len(prices)))
    first = np.concatenate([[market.close[-1]], prices[:-1]])
    filled = None if market.filled is None else np.concatenate([market.filled, np.zeros(len(prices), bool)])
    new = (first, np.maximum(first, prices), np.minimum(first, prices), prices)
    columns = [
        np.concatenate([old, more]) for old, more in zip((market.open, market.high, market.low, market.close), new, strict=True)
    ]
    return Candles(np.concatenate([market.time, time]), *columns, np.ones(len(time) + len(market)), filled=filled)


def futures(market: Candles) -> Iterator[Candles]:
    """Continue a market in ways that could not differ more."""
    price, steps = market.close[-1], np.arange(1, 31)
    for path in (
        price * 3.0**steps,
        price / 3.0**steps,
        np.full(30, price),
        price * np.exp(1e-7 * steps),
        price * 3.0 ** (steps - 15),
    ):
        yield extended(market, 0, path)
        yield extended(market, 3, path)
        for after in (1, 2, 5):
            yield extended(extended(market, 0, path[:after]), 3, path)
    for after in range(1, 12):
        calm, wild = np.full(after, price), price * 3.0 ** np.arange(1, 20)
        yield extended(extended(market, 0, calm), 0, wild)
        yield extended(extended(market, 0, calm), 0, 1 / wild * price**2)


@pytest.mark.slow
@settings(max_examples=40)
@given(case=cases(rows=(16, 30)), data=st.data())
def test_no_answer_comes_later_than_it_could(case: Case, data: st.DataObject) -> None:
    """Where there is none yet, two ways to go on have two different ends."""
    if not len(case.rows):
        return
    i = data.draw(st.integers(0, len(case.rows) - 1))
    row = int(case.rows[i])
    for n, answer in answers(case, i):
        if answer is None:
            now, at = case.market[:n], {"candle": int(case.market.time[row]), "terms": case.terms}
            ends = {settle(case.shown[i], later, **at) for later in futures(now)} - {None}
            assert len(ends) > 1, (n, row, ends)


@settings(max_examples=40)
@given(case=cases(), data=st.data())
def test_a_known_gap_decides_like_the_candle_after_it(case: Case, data: st.DataObject) -> None:
    if not len(case.rows):
        return
    i = data.draw(st.integers(0, len(case.rows) - 1))
    row, gap = int(case.rows[i]), data.draw(st.integers(0, 4))
    at = {"candle": int(case.market.time[row]), "terms": case.terms}
    for n in range(row + 1, len(case.market) + 1):
        now = case.market[:n]
        until = int(now.time[-1]) + MINUTE * (1 + gap)
        found = settle(case.shown[i], now, **at, missing_until=until)
        then = settle(case.shown[i], extended(now, gap, np.array([now.close[-1] * 1.01])), **at)
        assert found is None or found == then
        if gap > case.terms.max_gap_minutes:
            assert found is not None


@pytest.mark.slow
def test_the_drawn_cases_reach_every_end_with_and_without_a_label() -> None:
    seen: set[tuple[str, bool]] = set()

    @settings(max_examples=80)
    @given(case=cases())
    def collect(case: Case) -> None:
        for i in range(len(case.rows)):
            seen.update((answer.outcome, answer.label is None) for _, answer in answers(case, i) if answer is not None)

    collect()
    assert seen == {(outcome, hidden) for outcome in OUTCOMES[1:] for hidden in (False, True)}


@given(seed=st.integers(0, 2**31), history=st.integers(0, 60))
def test_a_label_in_true_ranges_needs_the_fourteen_before_it_and_no_more(seed: int, history: int) -> None:
    market, row, needed = walk(150, seed), 100, average_true_range().warm_up
    rule = LabelRule(kind="triple-barrier", horizon=20)
    wanted = int(classify(label_moves(market, rule)[0], 0.0)[row])
    found = label_at(market[row - history :], candle=int(market.time[row]), rule=rule, theta=0.0)
    assert found == (wanted if history >= needed else UNLABELLED)


def test_every_label_of_a_market_with_gaps_is_found_one_by_one() -> None:
    market = walk(400, 5)
    kept = np.random.default_rng(1).random(400) > 0.03
    market = Candles(*(getattr(market, name)[kept] for name in ("time", "open", "high", "low", "close", "volume")))
    for rule in (LabelRule(kind="horizon", horizon=5), LabelRule(kind="triple-barrier", horizon=5)):
        moves, _ = label_moves(market, rule)
        wanted = np.where(np.isfinite(moves), classify(moves, 1e-3), UNLABELLED)
        found = [label_at(market, candle=int(time), rule=rule, theta=1e-3) for time in market.time]
        (*_, last) = market.segments()
        open_ones = [row for row, label in enumerate(found) if label is None]
        assert open_ones == list(range(max(last.start, len(market) - 5), len(market)))
        assert found[: open_ones[0]] == wanted[: open_ones[0]].tolist()
        assert {UNLABELLED, DOWN, UP} <= set(found[: open_ones[0]])


def test_a_signal_without_its_candle_is_an_error() -> None:
    market = walk(30)
    terms = Terms(
        rule=LabelRule(kind="horizon", horizon=3), theta=0.0, timing=Timing(expiry=3, hold=3, from_entry=True), costs=Costs()
    )
    plan = make_plan("LONG", center=100.0, atr=1.0, price=100.0)
    for candle in (START - MINUTE, START + 5 * MINUTE, START + 30 * MINUTE):
        with pytest.raises(CandleError, match=r"needs its own candle, 2023-.* found none; begin with that one"):
            settle(plan, market[6:], candle=candle, terms=terms)
