"""Labels: the horizon, the triple barrier, their overlap, their digest."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import candles, walk

from crpbot.dataset.features.compute import compute_features
from crpbot.dataset.features.sets import feature_set
from crpbot.dataset.labels import (
    DOWN,
    NEUTRAL,
    UP,
    Exits,
    LabelRule,
    average_uniqueness,
    classify,
    fit_theta,
    label_digest,
    label_moves,
)
from crpbot.market.candles import MINUTE, Candles
from crpbot.market.files import read_candles


def horizon(rows: int) -> LabelRule:
    return LabelRule(kind="horizon", horizon=rows)


@st.composite
def barriers(draw: st.DrawFn, most: int = 40) -> LabelRule:
    exits = Exits(
        distance=draw(st.sampled_from(["atr", "percent"])),
        stop=draw(st.sampled_from([0.01, 0.3, 1.0, 1.5, 5.0, 30.0])),
        reward=draw(st.sampled_from([1.0, 1.8, 3.0])),
    )
    return LabelRule(kind="triple-barrier", horizon=draw(st.integers(1, most)), exits=exits)


def slow_trades(market: Candles, rule: LabelRule, atr: np.ndarray, rows: range) -> list[tuple[float, int]]:
    """Follow both trades of each row candle by candle: the definition, written as a person would."""
    found = []
    for t in rows:
        entry = float(market.close[t])
        stop = rule.exits.stop * (float(atr[t]) if rule.exits.distance == "atr" else entry / 100)
        take = rule.exits.reward * stop
        ends, wins = [], []
        for side in (1, -1):
            won, end = False, t + rule.horizon
            for later in range(t + 1, t + rule.horizon + 1):
                best, worst = market.high[later], market.low[later]
                if side == -1:
                    best, worst = worst, best
                stopped = side * worst <= side * (entry - side * stop)
                taken = side * best >= side * (entry + side * take)
                if stopped or taken:
                    won, end = bool(taken and not stopped), later
                    break
            ends.append(end)
            wins.append(won)
        assert not all(wins)
        found.append((float(wins[0]) - float(wins[1]), max(ends)))
    return found


def check_against_the_definition(market: Candles, rule: LabelRule) -> None:
    moves, known = label_moves(market, rule)
    atr = np.full(len(market), np.nan)
    ranges = compute_features(market, feature_set("founding-72").only("atr_14"))
    atr[ranges.rows] = ranges.values[:, 0]
    for piece in market.segments():
        first = piece.start + (14 if rule.exits.distance == "atr" else 0)
        rows = range(min(first, piece.stop), max(piece.stop - rule.horizon, first))
        rows = range(rows.start, min(rows.stop, piece.stop))
        for t, (move, end) in zip(rows, slow_trades(market, rule, atr, rows), strict=True):
            assert moves[t] == move
            assert known[t] == market.time[end] + MINUTE
        without = np.isnan(moves[piece])
        assert (np.flatnonzero(~without) + piece.start).tolist() == list(rows)
        assert (known[piece][without] == 0).all()


@given(candles(min_rows=5, max_rows=80), st.integers(1, 20))
def test_a_horizon_label_is_what_the_price_did_and_never_crosses_a_gap(market: Candles, rows: int) -> None:
    moves, known = label_moves(market, horizon(rows))
    for t in range(len(market)):
        end = t + rows
        whole = end < len(market) and market.time[end] - market.time[t] == rows * MINUTE
        assert np.isfinite(moves[t]) == whole
        if whole:
            assert moves[t] == pytest.approx(np.log(market.close[end]) - np.log(market.close[t]), abs=1e-12)
            assert known[t] == market.time[end] + MINUTE


@given(candles(min_rows=20, max_rows=90), barriers())
def test_triple_barrier_labels_are_those_of_the_definition(market: Candles, rule: LabelRule) -> None:
    check_against_the_definition(market, rule)


@given(st.integers(0, 2**31), barriers(70))
def test_triple_barrier_labels_are_those_of_the_definition_on_walks(seed: int, rule: LabelRule) -> None:
    check_against_the_definition(walk(150, seed), rule)


@pytest.mark.slow
@pytest.mark.parametrize("symbol", ["BTC-USD", "SOL-USD"])
@pytest.mark.parametrize("exits", [Exits(), Exits(distance="percent", stop=0.2, reward=1.5)])
def test_triple_barrier_labels_are_those_of_the_definition_on_real_candles(symbol: str, exits: Exits, real_candles: Path) -> None:
    market = read_candles(real_candles / f"{symbol}.parquet")[20_000:40_000]
    rule = LabelRule(kind="triple-barrier", horizon=30, exits=exits)
    check_against_the_definition(market, rule)
    moves, _ = label_moves(market, rule)
    assert {-1.0, 0.0, 1.0} == set(moves[np.isfinite(moves)].tolist())


@given(st.integers(0, 2**31), barriers(), st.integers(-20, 20))
def test_triple_barrier_labels_do_not_depend_on_the_unit_of_the_price(seed: int, rule: LabelRule, power: int) -> None:
    market = walk(120, seed)
    prices = (getattr(market, name) * 2.0**power for name in ("open", "high", "low", "close"))
    for one, other in zip(
        label_moves(market, rule), label_moves(Candles(market.time, *prices, market.volume), rule), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@given(st.integers(0, 2**31), barriers(20))
def test_a_falling_market_mirrors_a_rising_one(seed: int, rule: LabelRule) -> None:
    """With distances in ATR, prices p and 400 − p swap longs and shorts."""
    market = walk(100, seed)
    rule = LabelRule(kind="triple-barrier", horizon=rule.horizon, exits=Exits(stop=1.03, reward=1.7))
    mirrored = Candles(market.time, 400 - market.open, 400 - market.low, 400 - market.high, 400 - market.close, market.volume)
    np.testing.assert_array_equal(label_moves(market, rule)[0], -label_moves(mirrored, rule)[0])


def test_within_one_candle_the_worse_counts() -> None:
    flat = [100.0] * 4
    market = Candles(
        60_000 * np.arange(4), np.array(flat), np.array([100, 100, 110, 100.0]), np.array([100, 100, 90, 100.0]),
        np.array(flat), np.ones(4),
    )  # fmt: skip
    moves, known = label_moves(
        market, LabelRule(kind="triple-barrier", horizon=3, exits=Exits(distance="percent", stop=1, reward=2))
    )
    assert moves[0] == 0
    assert known[0] == market.time[2] + MINUTE


@given(st.floats(0.01, 0.5), st.integers(0, 2**31))
def test_theta_makes_the_asked_share_neutral(share: float, seed: int) -> None:
    moves = np.random.default_rng(seed).normal(size=5_000)
    y = classify(moves, fit_theta(moves, horizon(15), neutral_share=share))
    assert (y == NEUTRAL).mean() == pytest.approx(share, abs=1e-3)
    assert (moves[y == UP] > 0).all()
    assert (moves[y == DOWN] < 0).all()


def test_the_classes_have_the_founding_numbers() -> None:
    assert (DOWN, NEUTRAL, UP) == (0, 1, 2)
    assert classify(np.array([-1.0, -0.5, 0.0, 0.5, 1.0]), 0.5).tolist() == [0, 1, 1, 1, 2]
    won = LabelRule(kind="triple-barrier", horizon=5)
    assert classify(np.array([-1.0, 0.0, 1.0]), fit_theta(np.ones(9), won, neutral_share=0.5)).tolist() == [0, 1, 2]


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 12)), min_size=1, max_size=40))
def test_average_uniqueness_is_that_of_the_definition(labels: list[tuple[int, int]]) -> None:
    first = np.cumsum([step for step, _ in labels])
    spans = [set(range(t + 1, t + length + 1)) for t, (_, length) in zip(first.tolist(), labels, strict=True)]
    time = MINUTE * first
    known = time + MINUTE * (1 + np.array([length for _, length in labels]))
    wanted = [np.mean([1 / sum(minute in other for other in spans) for minute in span]) for span in spans]
    np.testing.assert_allclose(average_uniqueness(time, known), wanted, rtol=1e-12)


def test_labels_over_a_horizon_are_worth_one_row_in_so_many() -> None:
    time = MINUTE * np.arange(100_000)
    unique = average_uniqueness(time, time + MINUTE * 16)
    np.testing.assert_allclose(unique[100:-100], 1 / 15, rtol=1e-9)
    assert unique.sum() == pytest.approx(100_000 / 15, rel=1e-3)
    np.testing.assert_array_equal(average_uniqueness(time, time + 2 * MINUTE), 1.0)
    assert average_uniqueness(time[:0], time[:0]).shape == (0,)


def test_the_digest_is_of_labels_and_times() -> None:
    time, y = MINUTE * np.arange(5), np.array([0, 1, 2, 1, 1])
    assert label_digest(time, y) == label_digest(time.copy(), y.copy())
    assert len({label_digest(time, y), label_digest(time + MINUTE, y), label_digest(time, y[::-1])}) == 3
