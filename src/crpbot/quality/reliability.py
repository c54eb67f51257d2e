"""Confidence against what came true, and how much of the difference chance alone would make."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.labels import DOWN, NEUTRAL, UP
from crpbot.market.candles import MINUTE
from crpbot.quality.bootstrap import Resamples
from crpbot.quality.metrics import Floats, Ints

SIMULATIONS = 100


@dataclass(frozen=True, slots=True)
class Reliability:
    """Confidence against what came true, in bins of equal numbers of rows, least confident first.

    Attributes:
        confidence: mean probability of the predicted class, by bin.
        accuracy: share of right predictions, by bin.
        error: block standard error of the accuracy, by bin.
        rows: how many rows, by bin.
        ece: the calibration error, Σ rows·|accuracy − confidence| / n, 0 to 1; lower is better.
        ece_interval: 95 %, from resampled blocks of time.
        ece_by_chance: what a perfectly calibrated model with the same confidences and overlapping labels would show on average.

    """

    confidence: Floats
    accuracy: Floats
    error: Floats
    rows: Ints
    ece: float
    ece_interval: tuple[float, float]
    ece_by_chance: float


def n_bins(effective_rows: float) -> int:
    """Return how many bins the calibration error gets: effective rows / 300, between 5 and 15.

    Labels overlap, so rows carry fewer independent outcomes than they are: see `labels.average_uniqueness`.
    """
    return int(np.clip(effective_rows / 300, 5, 15))


def equal_mass(confidence: Floats, bins: int) -> NDArray[np.intp]:
    """Return the bin of each row, least confident first, such that all bins have the same number of rows, or one more."""
    place = np.empty(len(confidence), np.intp)
    place[np.argsort(confidence, kind="stable")] = np.arange(len(confidence)) * bins // len(confidence)
    return place


def calibration_error(probabilities: Floats, y: Ints, *, bins: int) -> float:
    """Return the calibration error of the predicted class in bins of equal mass, 0 to 1; lower is better.

    (Nixon et al., "Measuring Calibration in Deep Learning", CVPR Workshops 2019.)
    """
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == y).astype(float)
    gap = np.bincount(equal_mass(confidence, bins), right - confidence, bins)
    return float(np.abs(gap).sum() / len(y))


def reliability(
    probabilities: Floats, y: Ints, resamples: Resamples, *, time: Ints, known: Ints, bins: int, seed: int = 0
) -> Reliability:
    """Measure the calibration of the predicted class.

    Noise makes a resampled calibration error larger on average, so the draws are shifted to have the measured one as their mean.

    Args:
        probabilities: of the classes, shape `(n, 3)`.
        y: labels, shape `(n,)`.
        resamples: of the rows.
        time: when each row's candle opened, in milliseconds, shape `(n,)`.
        known: when each row's label is known, likewise.
        bins: of equal mass.
        seed: of the simulation.

    """
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == y).astype(float)
    place = equal_mass(confidence, bins)
    rows = np.bincount(place, minlength=bins)
    accuracy = np.bincount(place, right, bins) / rows
    sizes = resamples.totals_by(np.ones(len(y)), place, bins)
    with np.errstate(invalid="ignore"):  # a draw may have no row of a bin
        by_bin = resamples.totals_by(right - accuracy[place], place, bins) / sizes
    gaps = resamples.totals_by(right - confidence, place, bins)
    drawn = np.abs(gaps).sum(axis=1) / sizes.sum(axis=1)
    ece = float(np.abs(np.bincount(place, right - confidence, bins)).sum() / len(y))
    low, high = np.maximum(np.quantile(drawn, [0.025, 0.975]) + ece - drawn.mean(), 0.0)
    return Reliability(
        confidence=np.bincount(place, confidence, bins) / rows,
        accuracy=accuracy,
        error=by_bin.std(axis=0, ddof=1),
        rows=rows,
        ece=ece,
        ece_interval=(float(low), float(high)),
        ece_by_chance=float(simulated_errors(probabilities, time, known, bins=bins, seed=seed).mean()),
    )


def simulated_errors(
    probabilities: Floats, time: Ints, known: Ints, *, bins: int, draws: int = SIMULATIONS, seed: int = 0
) -> Floats:
    """Return calibration errors of a model that is exactly right about its probabilities, shape `(draws,)`.

    Labels are drawn from the probabilities so that they overlap as the real ones do: a normal random walk runs through the
    minutes; the move of each row is the walk's from the close of its candle to the moment its label is known, over its deviation;
    and the row is DOWN, NEUTRAL or UP where the move falls into the lowest, the middle or the highest part of the normal
    distribution, parts as large as the row's probabilities. So each label has its probability, and two labels that look at the
    same minutes are as alike as two moves over them.

    Args:
        probabilities: of the classes, shape `(n, 3)`.
        time: when each row's candle opened, in milliseconds, shape `(n,)`.
        known: when each row's label is known, likewise.
        bins: of equal mass.
        draws: how many.
        seed: of the draws.

    """
    n_rows = len(time)
    confidence, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    place = equal_mass(confidence, bins)
    edges, number = np.unique(np.concatenate([time + MINUTE, known]), return_inverse=True)
    first, last = number[:n_rows], number[n_rows:]
    deviation = np.sqrt(np.diff(edges) / MINUTE).astype(np.float32)
    spread = np.sqrt((known - time - MINUTE) / MINUTE).astype(np.float32)
    # A row is right where its move lies between these two: its predicted part of the distribution.
    lower = np.choose(predicted, [np.zeros(n_rows), probabilities[:, DOWN], 1 - probabilities[:, UP]])
    upper = np.choose(predicted, [probabilities[:, DOWN], probabilities[:, DOWN] + probabilities[:, NEUTRAL], np.ones(n_rows)])
    low, high = (normal_quantile(bound).astype(np.float32) * spread for bound in (lower, upper))
    sure = np.bincount(place, confidence, bins)
    rng = np.random.default_rng(seed)
    errors = np.empty(draws)
    walk = np.zeros(len(edges), np.float32)
    for draw in range(draws):
        np.cumsum(rng.standard_normal(len(deviation), np.float32) * deviation, out=walk[1:])
        move = walk[last] - walk[first]
        right = np.bincount(place[(move > low) & (move <= high)], minlength=bins)
        errors[draw] = np.abs(right - sure).sum() / n_rows
    return errors


def normal_quantile(p: Floats) -> Floats:
    """Return the quantile of the standard normal distribution at each `p`, off by at most 1e-3 within ±6; ±8 at 0 and 1.

    From a table of the distribution on a grid: `statistics.NormalDist` gives one number at a time.
    """
    return np.interp(p, _BELOW, _GRID)


_GRID = np.linspace(-8.0, 8.0, 4_001)
_BELOW = np.concatenate([[0.0], np.cumsum(np.exp(-((_GRID[1:] + _GRID[:-1]) ** 2) / 8))])
_BELOW /= _BELOW[-1]
