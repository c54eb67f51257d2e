"""Calibration: one temperature, refitted by likelihood on rows that the weights have not seen."""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from crpbot.model.network import DirectionNetwork

LEAST, MOST = 0.05, 20.0
"""The bounds of a temperature. One at its bound is reported as a cause."""

_STEPS = 60
"""Steps of the search at most; halvings alone would need 40."""
_CLOSE = 1e-10
"""A step of log T that is too small to matter: below the last digit of a float32."""


def fit_temperature(logits: NDArray[np.float64], y: NDArray[np.int64], *, least: float = LEAST, most: float = MOST) -> float:
    """Return the T within `least` to `most` that makes softmax(logits / T) most likely.

    (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2.) The log loss is convex in β = 1/T, and
    its slope is the mean of E_p[logit] − logit of the true class. The root of the slope is found on the logarithm of β, by
    Newton's steps where they stay within what is left of the search interval, else by halving that.

    Args:
        logits: before any temperature, shape `(n, classes)`.
        y: class numbers, shape `(n,)`.
        least: lower bound of the search.
        most: upper bound of the search.

    """
    z = logits - logits.max(axis=1, keepdims=True)
    of_truth = z[np.arange(len(y)), y]

    def slope(log_beta: float) -> tuple[float, float]:
        """Return the slope of the log loss along β, and its own along log β: β times the variance of the logits."""
        weights = np.exp(math.exp(log_beta) * z)
        total = weights.sum(axis=1)
        mean = np.einsum("ij,ij->i", weights, z) / total
        square = np.einsum("ij,ij,ij->i", weights, z, z) / total
        return float((mean - of_truth).mean()), math.exp(log_beta) * float((square - mean**2).mean())

    low, high = math.log(1 / most), math.log(1 / least)
    if slope(low)[0] >= 0:
        return most
    if slope(high)[0] <= 0:
        return least
    at = (low + high) / 2
    for _ in range(_STEPS):
        value, rise = slope(at)
        low, high = (at, high) if value < 0 else (low, at)
        step = at - value / rise if rise > 0 else math.inf
        step = step if low < step < high else (low + high) / 2
        if abs(step - at) < _CLOSE:
            return math.exp(-step)
        at = step
    return math.exp(-at)


def refit_temperature(network: "DirectionNetwork", x: NDArray[np.float64], y: NDArray[np.int64]) -> None:
    """Set the temperature of `network` to the most likely one on raw features `x` with labels `y`."""
    assert network.temperature is not None
    logits = network.serve(x) * network.temperature.item()
    network.temperature.data.fill_(fit_temperature(logits, y))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities of logits, shape `(n, classes)`, each row adding up to 1."""
    weights: NDArray[np.float64] = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithms of softmax along the last axis, exact for logits of any size."""
    with np.errstate(all="ignore"):  # what is not finite is refused by whoever asked
        z = logits - logits.max(axis=-1, keepdims=True)
        logs: NDArray[np.float64] = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return logs


def fit_offsets(logits: NDArray[np.float64], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the offsets of the classes, shape `(classes,)` with sum 0, that make softmax(logits + offsets) most likely.

    At the optimum the mean probability of each class is its share of `y`. Newton's method on a convex loss; every class must
    occur. (The prior correction of Saerens et al., Neural Computation 14, 2002, with known labels.)

    Args:
        logits: as served, shape `(n, classes)`.
        y: class numbers, shape `(n,)`.

    """
    n_classes = logits.shape[1]
    wanted = np.maximum(np.bincount(y, minlength=n_classes), 0.5) / len(y)
    offsets = np.zeros(n_classes)
    loss = float(row_log_loss(logits, y).mean())
    longest = max(_LONGEST_STEP, float(np.ptp(logits)) / 4)
    for _ in range(_NEWTON_STEPS):
        p = softmax(logits + offsets)
        slope = p.mean(axis=0) - wanted
        curve = np.diag(p.mean(axis=0)) - p.T @ p / len(p) + 1e-9 * np.eye(n_classes)
        step = np.linalg.solve(curve, slope)
        step -= step.mean()
        step *= min(1.0, longest / max(float(np.abs(step).max()), 1e-12))
        while (found := float(row_log_loss(logits + offsets - step, y).mean())) > loss and np.abs(step).max() > 1e-9:
            step /= 2
        offsets, loss = offsets - step, min(found, loss)
        if np.abs(step).max() < 1e-7:
            break
    return offsets


_NEWTON_STEPS = 30
_LONGEST_STEP = 8.0


def row_log_loss(logits: NDArray[np.float64], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the log loss of each row, shape `(n,)`, exact for logits of any size."""
    top = logits.max(axis=1)
    log_sum: NDArray[np.float64] = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return log_sum - logits[np.arange(len(y)), y]
