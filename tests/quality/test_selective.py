"""Selective prediction and parts of the span: what confidence is worth, and where a model is weak."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from overlap import START, times

from crpbot.market.candles import MINUTE
from crpbot.model.calibration import softmax
from crpbot.model.checkpoint import Prediction
from crpbot.quality.regimes import measure_regimes
from crpbot.quality.rows import Block, Judged, Learned
from crpbot.quality.selective import SIGNAL, measure_selective


def drawn(n: int, seed: int, *, sharpness: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """Return logits with little to say of NEUTRAL, and labels that have exactly their probabilities."""
    rng = np.random.default_rng(seed)
    edge = rng.normal(size=n) * sharpness
    logits = np.stack([edge, np.full(n, -1.5), -edge], axis=1)
    y = (softmax(logits).cumsum(axis=1) < rng.uniform(size=(n, 1))).sum(axis=1).clip(0, 2)
    return logits, y


def judged(logits: np.ndarray, y: np.ndarray, *, volatility: np.ndarray | None = None, start: int = 0) -> Judged:
    time = times(len(y)) + start * MINUTE
    calm = np.full(len(y), np.nan) if volatility is None else volatility
    return Judged(np.zeros((len(y), 1)), y, time, time + 16 * MINUTE, Prediction(logits, softmax(logits)), calm)


def learned(y: np.ndarray) -> Learned:
    block = Block(np.zeros((len(y), 1)), y, times(len(y)), times(len(y)) + 16 * MINUTE)
    return Learned(training=block, calibration=block)


def test_an_honest_model_s_confidences_come_true_and_sets_hold_what_they_state() -> None:
    earlier, y_earlier = drawn(40_000, 1)
    logits, y = drawn(60_000, 2)
    found = measure_selective(judged(logits, y, start=60_000), learned(y_earlier), softmax(earlier))
    assert found.chosen_on == "the calibration block"
    assert found.least == 0.44  # none is less sure: two classes share nearly all
    assert found.most > 0.75
    assert found.at_most.accuracy.value >= found.most - 0.03
    assert found.at_signal.confidence == SIGNAL
    for point in found.curve:
        assert point.accuracy.value >= point.confidence - 3 * point.accuracy.error - 0.005
    coverages = [point.coverage for point in found.curve]
    assert coverages == sorted(coverages, reverse=True)
    for sets in found.sets:
        assert sets.coverage.value == pytest.approx(sets.stated, abs=0.01)
    sizes = [sets.size for sets in found.sets]
    assert sizes == sorted(sizes)


def test_a_loud_model_is_caught_on_the_earlier_rows() -> None:
    """Three times too sure: what it calls 90 % does not come true, so it may not say so."""
    earlier, y_earlier = drawn(40_000, 1, sharpness=0.3)
    logits, y = drawn(60_000, 2, sharpness=0.3)
    found = measure_selective(judged(3 * logits, y), learned(y_earlier), softmax(3 * earlier))
    assert found.most is None or found.most < 0.65


def test_a_confidence_that_is_never_said_does_not_come_true() -> None:
    """Always 100 %, right 46 %: no confidence of its own came true."""
    y = np.random.default_rng(0).choice(3, 20_000, p=[0.46, 0.08, 0.46])
    found = measure_selective(judged(np.tile([0.0, 0.0, 60.0], (20_000, 1)), y), None, None)
    assert (found.least, found.most) == (None, None)
    assert found.curve[-1].accuracy.value == pytest.approx(0.46, abs=0.03)


def test_nothing_is_chosen_on_the_rows_that_it_is_shown_on() -> None:
    """Labels of the rows shown may change as they like: the choice stays."""
    earlier, y_earlier = drawn(20_000, 1)
    logits, y = drawn(20_000, 2)
    other = np.random.default_rng(3).permutation(y)
    chosen = [measure_selective(judged(logits, one, start=30_000), learned(y_earlier), softmax(earlier)) for one in (y, other)]
    assert chosen[0].most == chosen[1].most
    assert chosen[0].at_most.accuracy.value > chosen[1].at_most.accuracy.value


def test_without_a_calibration_block_the_first_half_serves_and_stays_out_of_what_is_shown() -> None:
    logits, y = drawn(20_000, 4)
    found = measure_selective(judged(logits, y), None, None)
    assert found.chosen_on == "the first half of the rows"
    assert found.curve[0].rows <= 10_000
    assert measure_selective(judged(logits[:500], y[:500]), None, None) is None


@settings(max_examples=6)
@given(st.integers(0, 2**31), st.floats(0.05, 2))
def test_conformal_sets_are_those_of_the_definition(seed: int, sharpness: float) -> None:
    """The bar is the k-th smallest probability of the truth, k = floor((n + 1)·(1 − stated)): at most so many lie below."""
    logits, y = drawn(999, seed, sharpness=sharpness)
    p = softmax(logits)
    found = measure_selective(judged(logits, y, start=2_000), learned(y), p)
    truth = np.sort(p[np.arange(999), y])
    for sets in found.sets:
        bar = truth[int(np.floor(1_000 * (1 - sets.stated) + 1e-9)) - 1]
        assert sets.size == pytest.approx((p >= bar).sum(axis=1).mean())
        assert sets.coverage.value >= sets.stated


def test_a_broken_third_cannot_hide_behind_the_average() -> None:
    logits, y = drawn(90_000, 5)
    volatility = np.random.default_rng(0).uniform(size=90_000)
    sound = measure_regimes(judged(logits, y, volatility=volatility), 6_000)
    assert [one.name for one in sound[:3]] == ["the calm third", "the middle third", "the wild third"]
    assert [one.name for one in sound[3:]] == ["2024-01", "2024-02"]  # three days of March are too few
    assert sum(one.rows for one in sound[:3]) == 90_000
    assert min(one.over_majority.errors for one in sound) > 3
    wild = volatility > np.quantile(volatility, 2 / 3)
    broken = np.where(wild[:, None], logits[:, ::-1], logits)
    parts = {one.name: one for one in measure_regimes(judged(broken, y, volatility=volatility), 6_000)}
    assert parts["the wild third"].over_majority.errors < -3
    assert parts["the calm third"].over_majority.errors > 3
    assert parts["2024-02"].over_majority.value > 0


def test_parts_that_are_too_small_or_unknown_are_left_out() -> None:
    logits, y = drawn(40_000, 6)
    assert [one.name for one in measure_regimes(judged(logits, y), 2_600)] == ["2024-01"]
    assert measure_regimes(judged(logits, y), 100) == ()
    assert times(1)[0] == START
