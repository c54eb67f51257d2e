"""Pure functions from predictions and labels to numbers.

Throughout: `probabilities` and `logits` have shape `(n, 3)`, `y` has shape `(n,)` with class numbers, and `day` has
shape `(n,)` with the
number of the UTC day of each row. Shares and errors are fractions, losses are in nats, intervals are 95 %.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.labels import CLASSES, DOWN, NEUTRAL, UP
from crpbot.model.calibration import row_log_loss

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Z_95 = 1.959964
"""The 97.5 % quantile of the standard normal."""

_DRAWS = 1_000
_TINY = 1e-300


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean and how well it is known.

    Attributes:
        value: the mean.
        error: its standard error, with whole days as blocks; NaN with fewer than two days.

    """

    value: float
    error: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval."""
        return self.value - Z_95 * self.error, self.value + Z_95 * self.error


def mean_by_days(x: Floats, day: Ints) -> Mean:
    """Return the mean of `x` and its standard error when rows of one day depend on each other and days do not.

    Labels of neighbouring rows overlap, so rows are not independent. The error is the cluster-robust one, √(B/(B−1)·Σ_b
    (Σ_{i∈b} (x_i − x̄))²) / n
    over B days (Cameron & Miller, "A Practitioner's Guide to Cluster-Robust Inference", Journal of Human Resources 50, 2015).
    """
    value = float(x.mean())
    sums = _sums_by_day(x - value, day)
    n_days = len(sums)
    if n_days < 2:
        return Mean(value, float("nan"))
    return Mean(value, float(np.sqrt(n_days / (n_days - 1) * (sums**2).sum()) / len(x)))


def percent(value: float | None) -> str:
    """Write a fraction for people.

    >>> percent(0.4837), percent(None)
    ('48.4 %', 'unknown')
    """
    return "unknown" if value is None else f"{100 * value:.1f} %"


def log_loss(probabilities: Floats, y: Ints) -> float:
    """Return the mean of −ln p(true class); lower is better. A probability of 0 counts as 1e-300."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(y)), y], _TINY)).mean())


def log_loss_of_logits(logits: Floats, y: Ints) -> float:
    """Return the log loss of softmax(logits), exact for logits of any size."""
    return float(row_log_loss(logits, y).mean())


def shares(classes: Ints) -> Floats:
    """Return the share of each class, shape `(3,)`."""
    return np.bincount(classes, minlength=len(CLASSES)) / len(classes)


def prior_log_loss(y: Ints) -> float:
    """Return the log loss of always saying the actual shares of `y`: their entropy, the bar to beat."""
    p = shares(y)
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


def directional_log_loss(logits: Floats, y: Ints) -> float | None:
    """Return the log loss of P(UP)/(P(UP) + P(DOWN)) on the rows that were not NEUTRAL; None where all were."""
    moved = y != NEUTRAL
    if not moved.any():
        return None
    edge = logits[moved, UP] - logits[moved, DOWN]
    towards = np.where(y[moved] == UP, edge, -edge)
    return float(np.logaddexp(0.0, -towards).mean())


def prior_directional_log_loss(y: Ints) -> float | None:
    """Return the directional log loss of always saying the actual share of UP among the moves."""
    moved = y[y != NEUTRAL]
    return prior_log_loss(moved) if len(moved) else None


def brier(probabilities: Floats, y: Ints) -> float:
    """Return the mean of Σ_classes (p − 1[true])², 0 to 2; lower is better (Brier, Monthly Weather Review 78, 1950)."""
    truth = np.eye(len(CLASSES))[y]
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())


def n_bins(effective_rows: float) -> int:
    """Return how many bins the calibration error gets: effective rows / 300, between 5 and 15.

    Labels overlap, so rows carry fewer independent outcomes than they are: see `labels.average_uniqueness`.
    """
    return int(np.clip(effective_rows / 300, 5, 15))


@dataclass(frozen=True, slots=True)
class Reliability:
    """Confidence against what came true, in bins of equal numbers of rows, least confident first.

    Attributes:
        confidence: mean probability of the predicted class, by bin.
        accuracy: share of right predictions, by bin.
        error: block standard error of the accuracy, by bin.
        rows: how many rows, by bin.
        ece: the calibration error, Σ rows·|accuracy − confidence| / n, 0 to 1; lower is better.
        ece_interval: 95 %, from resampled days.

    """

    confidence: Floats
    accuracy: Floats
    error: Floats
    rows: Ints
    ece: float
    ece_interval: tuple[float, float]


def reliability(probabilities: Floats, y: Ints, day: Ints, *, bins: int, seed: int = 0) -> Reliability:
    """Measure calibration of the predicted class.

    (Equal-mass bins: Nixon et al., "Measuring Calibration in Deep Learning", CVPR Workshops 2019. The interval draws
    days with replacement,
    1,000 times: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8. Noise makes a resampled error larger on
    average, so the draws are shifted to have the measured error as their mean.)
    """
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == y).astype(float)
    order = np.argsort(confidence, kind="stable")
    place = np.empty(len(y), np.int64)
    place[order] = np.arange(len(y)) * bins // len(y)
    rows = np.bincount(place, minlength=bins)
    mean_confidence = np.bincount(place, confidence, bins) / rows
    accuracy = np.bincount(place, right, bins) / rows
    error = np.array([mean_by_days(right[place == b], day[place == b]).error for b in range(bins)])

    days, day_number = np.unique(day, return_inverse=True)
    gap = np.bincount(day_number * bins + place, right - confidence, len(days) * bins).reshape(len(days), bins)
    draws = np.random.default_rng(seed).multinomial(len(days), np.full(len(days), 1 / len(days)), size=_DRAWS)
    sizes = draws @ np.bincount(day_number)
    drawn = np.abs(draws @ gap).sum(axis=1) / sizes
    ece = float((rows * np.abs(accuracy - mean_confidence)).sum() / len(y))
    low, high = np.maximum(np.quantile(drawn, [0.025, 0.975]) + ece - drawn.mean(), 0.0)
    return Reliability(mean_confidence, accuracy, error, rows, ece, (float(low), float(high)))


def _sums_by_day(x: Floats, day: Ints) -> Floats:
    _, number = np.unique(day, return_inverse=True)
    sums: Floats = np.bincount(number, x).astype(np.float64)
    return sums
