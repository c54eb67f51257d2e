"""Pure functions from predictions and labels to numbers.

Throughout: `probabilities` and `logits` have shape `(n, 3)`, `y` has shape `(n,)` with class numbers, and `day` has
shape `(n,)` with the
number of the UTC day of each row. Shares and errors are fractions, losses are in nats, intervals are 95 %.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.labels import CLASSES, DOWN, NEUTRAL, UP
from crpbot.model.calibration import row_log_loss

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Z_95 = 1.959964
"""The 97.5 % quantile of the standard normal."""

_TINY = 1e-300


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean and how well it is known.

    Attributes:
        value: the mean.
        error: its standard error, where rows of one block of time depend on each other; NaN with fewer than two blocks.

    """

    value: float
    error: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval."""
        return self.value - Z_95 * self.error, self.value + Z_95 * self.error

    @property
    def errors(self) -> float:
        """How many standard errors the mean stands above 0; 0 where it is exactly 0 in every block, NaN where that is unknown."""
        if self.error == 0:
            return 0.0 if self.value == 0 else math.copysign(math.inf, self.value)
        return self.value / self.error


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
    return float(directional_row_loss(logits[moved], y[moved]).mean()) if moved.any() else None


def directional_row_loss(logits: Floats, y: Ints) -> Floats:
    """Return the log loss of P(UP)/(P(UP) + P(DOWN)) of each row, shape `(n,)`; it means nothing where a row was NEUTRAL."""
    edge = logits[:, UP] - logits[:, DOWN]
    loss: Floats = np.logaddexp(0.0, np.where(y == UP, -edge, edge))
    return loss


def prior_directional_log_loss(y: Ints) -> float | None:
    """Return the directional log loss of always saying the actual share of UP among the moves."""
    moved = y[y != NEUTRAL]
    return prior_log_loss(moved) if len(moved) else None


def brier(probabilities: Floats, y: Ints) -> float:
    """Return the mean of Σ_classes (p − 1[true])², 0 to 2; lower is better (Brier, Monthly Weather Review 78, 1950)."""
    return float(row_brier(probabilities, y).mean())


def row_brier(probabilities: Floats, y: Ints) -> Floats:
    """Return Σ_classes (p − 1[true])² of each row, shape `(n,)`."""
    score: Floats = ((probabilities - np.eye(len(CLASSES))[y]) ** 2).sum(axis=1)
    return score


def _sums_by_day(x: Floats, day: Ints) -> Floats:
    _, number = np.unique(day, return_inverse=True)
    sums: Floats = np.bincount(number, x).astype(np.float64)
    return sums
