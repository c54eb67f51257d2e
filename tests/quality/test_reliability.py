"""Calibration: its definition, a library, and what chance alone makes of it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from overlap import moves, times

from crpbot.model.calibration import softmax
from crpbot.quality.bootstrap import resample
from crpbot.quality.reliability import calibration_error, n_bins, normal_quantile, reliability, simulated_errors

HORIZON = 15


def overlapping(logits: np.ndarray, time: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return labels that overlap over 15 minutes and have exactly the probabilities softmax(logits)."""
    from statistics import NormalDist

    p = softmax(logits)
    u = np.vectorize(NormalDist().cdf)(moves(len(time), HORIZON, seed))
    return (p.cumsum(axis=1) < u[:, None]).sum(axis=1).clip(0, 2)


def smooth(n: int, seed: int, *, sharpness: float = 0.5) -> np.ndarray:
    """Return logits that change slowly, as those of a model of windows do."""
    noise = np.random.default_rng(seed).normal(size=(n + 59, 3))
    return np.stack([np.convolve(column, np.ones(60), "valid") for column in noise.T], axis=1) / np.sqrt(60) * sharpness


def measured(logits: np.ndarray, y: np.ndarray, *, bins: int = 10):
    time = times(len(y))
    return reliability(softmax(logits), y, resample(time), time=time, known=time + 60_000 * (HORIZON + 1), bins=bins)


@pytest.mark.slow
def test_an_honest_model_is_calibrated_and_a_loud_one_is_not() -> None:
    logits = smooth(60_000, 1)
    y = overlapping(logits, times(60_000))
    honest, loud = measured(logits, y), measured(4 * logits, y)
    assert honest.ece - honest.ece_by_chance < 0.01
    assert honest.ece_interval[0] <= honest.ece <= honest.ece_interval[1]
    assert loud.ece - loud.ece_by_chance > 0.15
    assert loud.ece_interval[0] > 0.1
    within = np.abs(honest.accuracy - honest.confidence) < 3 * honest.error
    assert within.mean() >= 0.9


@pytest.mark.slow
def test_chance_makes_the_calibration_error_that_an_honest_model_shows() -> None:
    """The simulation and honest models with labels that overlap agree on average; labels that do not overlap show far less."""
    n, time = 20_000, times(20_000)
    shown, alone, simulated = [], [], []
    for seed in range(12):
        logits = smooth(n, 100 + seed)
        p = softmax(logits)
        shown.append(calibration_error(p, overlapping(logits, time, seed), bins=10))
        u = np.random.default_rng(seed).uniform(size=(n, 1))
        alone.append(calibration_error(p, (p.cumsum(axis=1) < u).sum(axis=1).clip(0, 2), bins=10))
        simulated.append(simulated_errors(p, time, time + 60_000 * (HORIZON + 1), bins=10, draws=20, seed=seed).mean())
    assert np.mean(simulated) == pytest.approx(np.mean(shown), rel=0.15)
    assert np.mean(simulated) > 1.5 * np.mean(alone)


@pytest.mark.slow
@given(st.integers(0, 2**31), st.integers(5, 15))
def test_the_calibration_error_is_its_definition(seed: int, bins: int) -> None:
    logits = np.random.default_rng(seed).normal(size=(997, 3))
    y = np.random.default_rng(seed + 1).integers(0, 3, 997)
    p = softmax(logits)
    order = np.argsort(p.max(axis=1), kind="stable")
    wanted, right = 0.0, (p.argmax(axis=1) == y).astype(float)
    for b in range(bins):
        rows = order[[i for i in range(997) if i * bins // 997 == b]]
        wanted += abs(right[rows].mean() - p.max(axis=1)[rows].mean()) * len(rows) / 997
    curve = measured(logits, y, bins=bins)
    assert curve.ece == pytest.approx(wanted, abs=1e-12)
    assert calibration_error(p, y, bins=bins) == pytest.approx(wanted, abs=1e-12)
    assert curve.rows.max() - curve.rows.min() <= 1


@pytest.mark.parametrize(("rows", "bins"), [(1_000, 5), (45_000, 10), (157_680, 15)])
def test_bins_follow_the_effective_rows(rows: int, bins: int) -> None:
    assert n_bins(rows / 15) == bins


@given(st.floats(1e-6, 1 - 1e-6))
def test_the_table_of_the_normal_distribution_is_exact_enough(p: float) -> None:
    from statistics import NormalDist

    assert normal_quantile(np.array([p]))[0] == pytest.approx(NormalDist().inv_cdf(p), abs=1e-3)


def evenly_confident(n: int = 30_000, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities whose confidence is spread evenly from 1/3 to 1, and labels: bins of equal mass are of equal width."""
    rng = np.random.default_rng(seed)
    confidence = 1 / 3 + (np.arange(n) + 0.5) / n * 2 / 3
    least = np.maximum(1 - 2 * confidence, 0)
    rest = least + (np.minimum(confidence, 1 - confidence) - least) * rng.uniform(0.1, 0.9, n)  # none above the confidence
    p = np.stack([confidence, rest, 1 - confidence - rest], axis=1)
    order = rng.permuted(np.tile([0, 1, 2], (n, 1)), axis=1)
    p = np.take_along_axis(p, order, axis=1)
    y = (p.cumsum(axis=1) < rng.uniform(size=(n, 1)) ** 1.3).sum(axis=1).clip(0, 2)
    return p, y


@pytest.mark.slow  # the import alone takes seconds
def test_the_calibration_error_is_torchmetrics_where_the_bins_are_the_same() -> None:
    """Of 15 bins of equal width on 0 to 1, the ten above 1/3 are of equal mass here."""
    from torchmetrics.functional.classification import multiclass_calibration_error

    p, y = evenly_confident()
    theirs = multiclass_calibration_error(torch.from_numpy(p), torch.from_numpy(y), num_classes=3, n_bins=15, norm="l1")
    ours = calibration_error(p, y, bins=10)
    assert ours == pytest.approx(theirs.item(), abs=1e-6)
    assert ours > 0.01
