"""The stationary bootstrap: against its plain form, against theory, and against the truth of repeated histories."""

import numpy as np
import pytest
from overlap import START, moves, times

from crpbot.market.candles import MINUTE
from crpbot.quality.bootstrap import DAY, block_length, resample


def plain_stationary_bootstrap(x: np.ndarray, mean_length: float, draws: int, seed: int) -> np.ndarray:
    """Politis and Romano's own words, one row after the other."""
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(draws):
        place, drawn = int(rng.integers(len(x))), []
        for _ in range(len(x)):
            drawn.append(x[place])
            place = int(rng.integers(len(x))) if rng.uniform() < 1 / mean_length else (place + 1) % len(x)
        means.append(np.mean(drawn))
    return np.array(means)


@pytest.mark.slow
def test_the_error_of_overlapping_rows_is_that_of_theory() -> None:
    """The mean of n moves over H minutes has the deviation √(H/n)."""
    errors = [resample(times(60_000)).mean(moves(60_000, 15, seed)).error for seed in range(12)]
    assert np.mean(errors) == pytest.approx(np.sqrt(15 / 60_000), rel=0.08)


@pytest.mark.slow
def test_it_is_the_plain_bootstrap_of_its_cells() -> None:
    """One row a cell: the draws have the spread that the loop has."""
    x = moves(480, 20, 1)
    time = START + 10 * MINUTE * np.arange(480, dtype=np.int64)  # 80 hours: blocks of four hours, 24 cells each
    ours = resample(time, draws=4_000)
    assert ours.counts.shape == (4_000, 480)
    plain = plain_stationary_bootstrap(x, 24, 1_500, 2)
    assert ours.mean(x).error == pytest.approx(plain.std(ddof=1), rel=0.08)
    assert (ours.counts.sum(axis=1) == 480).all()


def test_every_cell_is_drawn_as_often_and_draws_are_seeded() -> None:
    one, again, other = (resample(times(30_000), seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.counts, again.counts)
    assert (one.counts != other.counts).any()
    assert np.abs(one.counts.mean(axis=0) - 1).max() < 0.15
    assert len(one.counts) >= 2_000


def test_what_is_paired_is_paired() -> None:
    """Two models that are right on the same rows differ by nothing, however uncertain each is."""
    right = (moves(40_000, 15, 3) > 0).astype(float)
    resamples = resample(times(40_000))
    assert resamples.mean(right).error > 0.005
    assert resamples.mean(right - right).error == 0
    assert resamples.means(right).shape == (2_000,)


def test_part_of_the_rows_has_its_own_mean_and_a_larger_error() -> None:
    x, part = moves(40_000, 15, 4), np.arange(40_000) < 10_000
    resamples = resample(times(40_000))
    mean = resamples.mean(x, rows=part)
    assert mean.value == pytest.approx(x[:10_000].mean())
    assert mean.error == pytest.approx(np.sqrt(15 / 10_000), rel=0.35)
    assert np.isnan(resamples.mean(x, rows=np.zeros(40_000, bool)).value)


def test_blocks_follow_the_span_and_a_span_of_one_block_has_no_error() -> None:
    assert block_length(100 * DAY) == DAY
    assert block_length(10 * DAY) == DAY // 2
    assert block_length(DAY // 2) == DAY // 6
    assert block_length(100 * DAY, longest=16 * MINUTE) == DAY
    assert block_length(100 * DAY, longest=DAY) == 2 * DAY
    assert np.isnan(resample(times(400)).mean(np.ones(400)).error)


@pytest.mark.slow
def test_gaps_do_not_matter_and_two_years_fit_in_memory() -> None:
    time = times(1_051_200)
    time[500_000:] += 30 * DAY
    resamples = resample(time)
    assert resamples.counts.shape[1] <= 6_000
    assert resamples.mean(moves(1_051_200, 15, 5)).error == pytest.approx(np.sqrt(15 / 1_051_200), rel=0.1)


def test_blocks_are_twice_as_long_as_the_longest_label_and_those_of_short_labels_are_as_without() -> None:
    """Fewer than five such blocks prove nothing."""
    time, x = times(30 * 1_440), moves(30 * 1_440, 15, 0)
    plain, short = resample(time), resample(time, known=time + 16 * MINUTE)
    np.testing.assert_array_equal(plain.counts, short.counts)
    assert plain.mean(x) == short.mean(x)
    assert resample(time, known=time + DAY).block == 2 * DAY
    week = resample(time, known=time + 7 * DAY)
    assert (week.block, np.isnan(week.mean(x).error)) == (14 * DAY, True)


@pytest.mark.slow
def test_the_error_of_labels_of_two_days_is_that_of_theory() -> None:
    """It was too small by half with blocks of a day."""
    n, horizon = 120 * 1_440, 2 * 1_440
    time = times(n)
    resamples = resample(time, known=time + horizon * MINUTE)
    errors = [resamples.mean(moves(n, horizon, seed)).error for seed in range(12)]
    assert np.mean(errors) == pytest.approx(np.sqrt(horizon / n), rel=0.25)
