import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from crpbot.model.calibration import fit_offsets, softmax
from crpbot.quality import metrics


def drawn(seed: int = 0, n: int = 4_000, *, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return logits, labels drawn from softmax(logits), and days of 400 rows."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 3)) * sharpness
    y = (softmax(logits).cumsum(axis=1) < rng.uniform(size=(n, 1))).sum(axis=1).clip(0, 2)
    return logits, y, np.arange(n) // 400


def test_losses_are_scikit_learn_s() -> None:
    logits, y, _ = drawn()
    p = softmax(logits)
    assert metrics.log_loss(p, y) == pytest.approx(sklearn_metrics.log_loss(y, p), rel=1e-12)
    assert metrics.log_loss_of_logits(logits, y) == pytest.approx(metrics.log_loss(p, y), rel=1e-12)
    one_vs_rest = sum(sklearn_metrics.brier_score_loss(y == c, p[:, c]) for c in range(3))
    assert metrics.brier(p, y) == pytest.approx(one_vs_rest, rel=1e-12)
    moved = y != 1
    up = p[moved, 2] / (p[moved, 2] + p[moved, 0])
    assert metrics.directional_log_loss(logits, y) == pytest.approx(sklearn_metrics.log_loss(y[moved] == 2, up), rel=1e-9)


def test_the_log_loss_of_absurd_logits_is_exact() -> None:
    logits = np.array([[158_041.0, 0.0, -158_041.0]])
    assert metrics.log_loss_of_logits(logits, np.array([2])) == 316_082.0
    assert metrics.directional_log_loss(logits, np.array([2])) == 316_082.0


def test_the_prior_is_the_entropy_of_the_labels() -> None:
    _, y, _ = drawn()
    p = np.tile(metrics.shares(y), (len(y), 1))
    assert metrics.prior_log_loss(y) == pytest.approx(metrics.log_loss(p, y), rel=1e-12)
    assert metrics.directional_log_loss(np.log(p), y) == pytest.approx(metrics.prior_directional_log_loss(y), rel=1e-12)
    assert metrics.directional_log_loss(np.log(p)[:3], np.ones(3, int)) is None


def test_independent_rows_have_the_textbook_error_and_repeated_rows_a_larger_one() -> None:
    rng = np.random.default_rng(1)
    x, day = rng.normal(size=50_000), np.arange(50_000) // 100
    assert metrics.mean_by_days(x, day).error == pytest.approx(1 / np.sqrt(50_000), rel=0.1)
    repeated = np.repeat(rng.normal(size=5_000), 10)
    assert metrics.mean_by_days(repeated, day).error == pytest.approx(1 / np.sqrt(5_000), rel=0.1)
    assert np.isnan(metrics.mean_by_days(x[:50], day[:50]).error)


def test_an_honest_model_is_calibrated_and_a_loud_one_is_not() -> None:
    logits, y, day = drawn(n=60_000)
    honest = metrics.reliability(softmax(logits), y, day, bins=10)
    loud = metrics.reliability(softmax(3 * logits), y, day, bins=10)
    assert honest.ece < 0.01
    assert loud.ece > 0.15
    assert honest.ece_interval[0] <= honest.ece <= honest.ece_interval[1]
    assert loud.ece_interval[0] > 0.1
    within = np.abs(honest.accuracy - honest.confidence) < 3 * honest.error
    assert within.mean() >= 0.9


@given(st.integers(0, 2**31), st.integers(5, 15))
def test_the_calibration_error_is_its_definition(seed: int, bins: int) -> None:
    logits, y, day = drawn(seed, n=997)
    p = softmax(logits)
    order = np.argsort(p.max(axis=1), kind="stable")
    wanted, right = 0.0, (p.argmax(axis=1) == y).astype(float)
    for b in range(bins):
        rows = order[[i for i in range(997) if i * bins // 997 == b]]
        wanted += abs(right[rows].mean() - p.max(axis=1)[rows].mean()) * len(rows) / 997
    curve = metrics.reliability(p, y, day, bins=bins)
    assert curve.ece == pytest.approx(wanted, abs=1e-12)
    assert curve.rows.max() - curve.rows.min() <= 1


@pytest.mark.parametrize(("rows", "bins"), [(1_000, 5), (45_000, 10), (157_680, 15)])
def test_bins_follow_the_effective_rows(rows: int, bins: int) -> None:
    assert metrics.n_bins(rows / 15) == bins


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
    ours = metrics.reliability(p, y, np.arange(len(y)) // 1_000, bins=10)
    assert ours.ece == pytest.approx(theirs.item(), abs=1e-6)
    assert ours.ece > 0.01


@pytest.mark.slow  # the import alone takes seconds
def test_accuracy_and_shares_are_torchmetrics() -> None:
    from torchmetrics.functional.classification import multiclass_accuracy

    p, y = evenly_confident()
    right = (p.argmax(axis=1) == y).astype(float)
    theirs = multiclass_accuracy(torch.from_numpy(p), torch.from_numpy(y), num_classes=3, average="micro")
    assert metrics.mean_by_days(right, np.arange(len(y)) // 1_000).value == pytest.approx(theirs.item(), abs=1e-6)


@given(st.integers(0, 2**31), st.floats(0.2, 5))
def test_offsets_make_the_mean_probabilities_the_shares(seed: int, sharpness: float) -> None:
    """At the most likely offsets the mean probability of each class is its share, and no other offsets are better."""
    logits, y, _ = drawn(seed, n=500)
    served = logits * sharpness + [1.0, -2.0, 0.5]
    offsets = fit_offsets(served, y)
    np.testing.assert_allclose(softmax(served + offsets).mean(axis=0), metrics.shares(y), atol=1e-4)
    best = metrics.log_loss_of_logits(served + offsets, y)
    for other in np.random.default_rng(seed).normal(0, 0.3, (5, 3)):
        assert metrics.log_loss_of_logits(served + offsets + other, y) >= best - 1e-9
