"""Labels, splits, baselines and their assembly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import candles, walk

from crpbot.dataset.assemble import assemble
from crpbot.dataset.baselines import best_one_feature_rule
from crpbot.dataset.labels import DOWN, NEUTRAL, UP, classify, fit_theta, horizon_moves
from crpbot.dataset.splits import split_by_rows
from crpbot.errors import DatasetError
from crpbot.market.candles import MINUTE, Candles


@given(candles(min_rows=5, max_rows=80), st.integers(1, 20))
def test_a_label_is_what_the_price_did_and_never_crosses_a_gap(market: Candles, horizon: int) -> None:
    moves, known = horizon_moves(market, horizon=horizon)
    for t in range(len(market)):
        end = t + horizon
        whole = end < len(market) and market.time[end] - market.time[t] == horizon * MINUTE
        assert np.isfinite(moves[t]) == whole
        if whole:
            assert moves[t] == pytest.approx(np.log(market.close[end]) - np.log(market.close[t]), abs=1e-12)
            assert known[t] == market.time[end] + MINUTE


@given(st.floats(0.01, 0.5), st.integers(0, 2**31))
def test_theta_makes_the_asked_share_neutral(share: float, seed: int) -> None:
    moves = np.random.default_rng(seed).normal(size=5_000)
    y = classify(moves, fit_theta(moves, neutral_share=share))
    assert (y == NEUTRAL).mean() == pytest.approx(share, abs=1e-3)
    assert (moves[y == UP] > 0).all()
    assert (moves[y == DOWN] < 0).all()


@given(st.integers(2_000, 3_000), st.integers(1, 60), st.integers(0, 100))
def test_no_label_of_a_block_is_known_after_the_next_begins(rows: int, horizon: int, embargo: int) -> None:
    time = MINUTE * np.arange(rows, dtype=np.int64)
    known = time + MINUTE * (horizon + 1)
    split = split_by_rows(time, known, train=0.7, calibration=0.15, embargo=embargo)
    for block, following in ((split.train, split.calibration), (split.calibration, split.test)):
        assert known[block.stop - 1] <= time[following.start] - embargo * MINUTE
        assert following.start - block.stop == horizon + embargo
    used = sum(b.stop - b.start for b in (split.train, split.calibration, split.test))
    assert used + sum(split.dropped.values()) == rows


def test_too_few_rows_are_refused() -> None:
    time = MINUTE * np.arange(500, dtype=np.int64)
    with pytest.raises(DatasetError, match=r"at least 100 rows, found .* in the calibration block"):
        split_by_rows(time, time + MINUTE, train=0.7, calibration=0.15, embargo=20)


def test_a_dataset_says_what_it_dropped_and_adds_up() -> None:
    market = walk(1_000)
    data = assemble(market, horizon=15)
    assert sum(data.dropped.values()) + len(data) == 1_000
    assert list(data.dropped.values()) == [199, 15]
    assert data.x.shape == (786, 72)
    assert data.since(int(data.time[500])).time[0] == data.time[500]


def test_the_best_rule_is_the_best_of_all_thresholds() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2_000, 3))
    y = np.where(x[:, 1] + rng.normal(size=2_000) > 0.3, UP, DOWN)
    rule = best_one_feature_rule(x, y, ("a", "b", "c"))
    assert rule.feature == "b"
    assert (rule.below, rule.above) == (DOWN, UP)
    assert rule.training_accuracy == (rule.predict(x, ("a", "b", "c")) == y).mean()
    best = max(
        max((np.where(x[:, j] <= cut, lo, hi) == y).mean() for lo in (0, 2) for hi in (0, 2))
        for j in range(3)
        for cut in np.quantile(x[:, j], np.linspace(0.05, 0.95, 19))
    )
    assert rule.training_accuracy == best


def test_the_classes_have_the_founding_numbers() -> None:
    assert (DOWN, NEUTRAL, UP) == (0, 1, 2)
    assert classify(np.array([-1.0, -0.5, 0.0, 0.5, 1.0]), 0.5).tolist() == [0, 1, 1, 1, 2]
