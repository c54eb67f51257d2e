"""Splits: nothing reaches from one block into the next."""

from itertools import pairwise
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import TimeSeriesSplit

from crpbot.dataset.splits import Split, combinatorial_purged, split_by_rows, split_by_time, walk_forward
from crpbot.errors import DatasetError
from crpbot.market.candles import MINUTE

Rows = tuple[np.ndarray, np.ndarray]


@st.composite
def rows(draw: st.DrawFn, least: int = 2_000, gap: int = 500) -> Rows:
    """Draw times with gaps, and labels that are known sooner or later."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    n = draw(st.integers(least, least + 1_000))
    steps = np.where(rng.uniform(size=n) < 0.01, rng.integers(1, gap, n), 1)
    time = MINUTE * np.cumsum(steps)
    return time, time + MINUTE * (1 + rng.integers(1, draw(st.integers(2, 61)), n))


def constant(n: int, horizon: int) -> Rows:
    time = MINUTE * np.arange(n, dtype=np.int64)
    return time, time + MINUTE * (horizon + 1)


def blocks(split: Split) -> tuple[slice, slice, slice]:
    return split.train, split.calibration, split.test


def check_blocks(split: Split, time: np.ndarray, known: np.ndarray, embargo: int) -> None:
    for block, following in pairwise(blocks(split)):
        assert known[block].max() <= time[following.start] - embargo * MINUTE
        assert following.start - block.stop >= embargo


@given(rows(), st.integers(0, 100))
def test_no_label_of_a_block_is_known_after_the_next_begins(data: Rows, embargo: int) -> None:
    time, known = data
    split = split_by_rows(time, known, train=0.7, calibration=0.15, embargo=embargo)
    check_blocks(split, time, known, embargo)
    assert sum(b.stop - b.start for b in blocks(split)) + sum(split.dropped.values()) == len(time)


@given(st.integers(2_000, 3_000), st.integers(1, 60), st.integers(0, 100))
def test_no_more_rows_are_dropped_than_have_to_be(n: int, horizon: int, embargo: int) -> None:
    split = split_by_rows(*constant(n, horizon), train=0.7, calibration=0.15, embargo=embargo)
    for block, following in pairwise(blocks(split)):
        assert following.start - block.stop == horizon + embargo


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"at least 100 rows, found .* in the calibration block"):
        split_by_rows(*constant(500, 1), train=0.7, calibration=0.15, embargo=20)


@given(rows(6_000, gap=30), rows(6_000, gap=30), st.integers(0, 100))
def test_symbols_are_cut_at_the_same_moments(one: Rows, other: Rows, embargo: int) -> None:
    """No symbol is trained on while the calibration or test block of another already runs."""
    symbols = {"BTC-USD": one, "SOL-USD": (other[0] + 311 * MINUTE, other[1] + 311 * MINUTE)}
    splits = split_by_time(symbols, train=0.6, calibration=0.2, embargo=embargo)
    for position in (0, 1):
        last_known = max(known[blocks(splits[name])[position]].max() for name, (_, known) in symbols.items())
        first = min(time[blocks(splits[name])[position + 1].start] for name, (time, _) in symbols.items())
        assert last_known <= first - embargo * MINUTE
    for name, (time, _) in symbols.items():
        assert sum(b.stop - b.start for b in blocks(splits[name])) + sum(splits[name].dropped.values()) == len(time)


def test_one_symbol_by_time_is_cut_as_by_rows() -> None:
    time, known = constant(5_000, 15)
    settings = {"train": 0.7, "calibration": 0.15, "embargo": 200}
    assert split_by_time({"A": (time, known)}, **settings)["A"] == split_by_rows(time, known, **settings)


def test_a_symbol_without_rows_in_a_block_is_named() -> None:
    late = constant(3_000, 1)[0] + 10**12
    with pytest.raises(DatasetError, match=r"^OLD: each block"):
        split_by_time({"OLD": constant(1_000, 1), "NEW": (late, late + 2 * MINUTE)}, train=0.7, calibration=0.15, embargo=0)


@given(rows(4_000), st.integers(1, 5), st.integers(0, 50), st.booleans())
def test_walk_forward_blocks_follow_each_other(data: Rows, folds: int, embargo: int, rolling: bool) -> None:  # noqa: FBT001
    time, known = data
    splits = walk_forward(time, known, folds=folds, test=0.1, calibration=0.1, embargo=embargo, rolling=rolling)
    assert len(splits) == folds
    assert splits[-1].test.stop == len(time)
    for split in splits:
        check_blocks(split, time, known, embargo)
    for one, following in pairwise(splits):
        assert one.test.stop == following.test.start - embargo
        assert following.train.start == (one.train.start + int(len(time) * 0.1) if rolling else 0)


def test_walk_forward_of_one_fold_is_the_ordinary_split() -> None:
    time, known = constant(10_000, 15)
    walked = walk_forward(time, known, folds=1, test=0.15, calibration=0.15, embargo=200)
    assert walked == (split_by_rows(time, known, train=0.7, calibration=0.15, embargo=200),)


@pytest.mark.parametrize("rolling", [False, True])
def test_walk_forward_tests_what_scikit_learn_tests(rolling: bool) -> None:  # noqa: FBT001
    """The calibration block, with purge and embargo around it, is scikit-learn's gap."""
    time, known = constant(10_000, 15)
    ours = walk_forward(time, known, folds=4, test=0.1, calibration=0.1, embargo=50, rolling=rolling)
    gap = 1_000 + 15
    theirs = TimeSeriesSplit(4, gap=gap, test_size=1_000, max_train_size=5_000 - 15 if rolling else None)
    for split, (train, test) in zip(ours, theirs.split(time), strict=True):
        np.testing.assert_array_equal(np.arange(len(time))[split.train], train)
        np.testing.assert_array_equal(np.arange(len(time))[split.test], test[50:])


def test_walk_forward_needs_rows_to_train_on() -> None:
    with pytest.raises(DatasetError, match="must leave rows to train on"):
        walk_forward(*constant(5_000, 1), folds=9, test=0.1, calibration=0.2, embargo=0)


@given(rows(), st.integers(2, 6), st.integers(1, 3), st.integers(0, 40))
def test_combinatorial_folds_are_purged_on_both_sides(data: Rows, groups: int, test_groups: int, embargo: int) -> None:
    time, known = data
    test_groups = min(test_groups, groups - 1)
    folds = combinatorial_purged(time, known, groups=groups, test_groups=test_groups, embargo=embargo)
    assert len(folds) == comb(groups, test_groups)
    tested = np.zeros(len(time), int)
    for fold in folds:
        train, test = (np.r_[parts] for parts in (fold.train, fold.test))
        tested[test] += 1
        assert not set(train) & set(test)
        for block in fold.test:
            span = time[block.start], known[block].max()
            overlaps = (time[train] < span[1]) & (known[train] > span[0])
            assert not overlaps.any()
            after = train[train >= block.stop]
            assert after.size == 0 or after.min() - block.stop >= embargo
    assert (tested == comb(groups - 1, test_groups - 1)).all()


def test_combinatorial_folds_drop_no_more_than_has_to_be() -> None:
    horizon, embargo = 15, 50
    folds = combinatorial_purged(*constant(6_000, horizon), groups=6, test_groups=2, embargo=embargo)
    first = folds[0]  # groups 0 and 1 are tested
    assert first.test == (slice(0, 2_000),)
    assert first.train == (slice(2_000 + horizon + embargo, 6_000),)
    apart = next(fold for fold in folds if fold.test == (slice(1_000, 2_000), slice(3_000, 4_000)))
    assert apart.train == (
        slice(0, 1_000 - horizon),
        slice(2_000 + horizon + embargo, 3_000 - horizon),
        slice(4_000 + horizon + embargo, 6_000),
    )


def test_a_label_that_reaches_over_a_whole_group_still_purges() -> None:
    time, known = constant(5_000, 1)
    known[900:1_000] += 2_500 * MINUTE
    for fold in combinatorial_purged(time, known, groups=5, test_groups=2, embargo=0):
        train = np.r_[fold.train]
        for block in fold.test:
            overlaps = (time[train] < known[block].max()) & (known[train] > time[block.start])
            assert not overlaps[train >= block.stop].any()


def test_impossible_calls_are_refused() -> None:
    time, known = constant(5_000, 1)
    for folds in (0, -2):
        with pytest.raises(DatasetError, match="folds must be at least 1"):
            walk_forward(time, known, folds=folds, test=0.1, calibration=0.1, embargo=0)
    for cut in (
        lambda: split_by_rows(time, known, train=0.7, calibration=0.15, embargo=-1),
        lambda: split_by_time({"A": (time, known)}, train=0.7, calibration=0.15, embargo=-1),
        lambda: walk_forward(time, known, folds=1, test=0.1, calibration=0.1, embargo=-1),
        lambda: combinatorial_purged(time, known, groups=5, test_groups=2, embargo=-1),
    ):
        with pytest.raises(DatasetError, match="embargo must not be negative"):
            cut()
    with pytest.raises(DatasetError, match="found none"):
        split_by_time({}, train=0.7, calibration=0.15, embargo=0)


def test_a_choice_of_all_groups_or_none_is_refused() -> None:
    for test_groups in (0, 4, 5):
        with pytest.raises(DatasetError, match="test groups must be at least 1"):
            combinatorial_purged(*constant(6_000, 1), groups=4, test_groups=test_groups, embargo=0)
