import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from crpbot.model.calibration import softmax
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
