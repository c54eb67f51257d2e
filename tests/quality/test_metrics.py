import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from crpbot.model.calibration import fit_offsets, softmax
from crpbot.quality import metrics


def drawn(seed: int = 0, n: int = 4_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return logits, labels drawn from softmax(logits), and days of 400 rows."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 3))
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


@pytest.mark.slow  # the import alone takes seconds
def test_accuracy_and_shares_are_torchmetrics() -> None:
    from torchmetrics.functional.classification import multiclass_accuracy

    logits, y, day = drawn()
    right = (logits.argmax(axis=1) == y).astype(float)
    theirs = multiclass_accuracy(torch.from_numpy(logits), torch.from_numpy(y), num_classes=3, average="micro")
    assert metrics.mean_by_days(right, day).value == pytest.approx(theirs.item(), abs=1e-6)


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
