"""Calibration: one temperature, refitted by likelihood on rows that the weights have not seen."""

import math

import numpy as np
from numpy.typing import NDArray

from crpbot.model.network import DirectionNetwork, predict_logits

LEAST, MOST = 0.05, 20.0
"""The bounds of a temperature. One at its bound is reported as a cause."""

_STEPS = 40
"""Halvings of the search interval: below the last digit of a float32."""


def fit_temperature(logits: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    """Return the T within 0.05 to 20 that makes softmax(logits / T) most likely.

    (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2.) The log loss is convex in β = 1/T,
    and its slope is
    the mean of E_p[logit] − logit of the true class, so the root of the slope is found by bisection, on the logarithm of β.

    Args:
        logits: before any temperature, shape `(n, classes)`.
        y: class numbers, shape `(n,)`.

    """
    z = logits - logits.max(axis=1, keepdims=True)
    of_truth = z[np.arange(len(y)), y]

    def slope(beta: float) -> float:
        weights = np.exp(beta * z)
        expected = (weights * z).sum(axis=1) / weights.sum(axis=1)
        return float((expected - of_truth).mean())

    low, high = math.log(1 / MOST), math.log(1 / LEAST)
    if slope(math.exp(low)) >= 0:
        return MOST
    if slope(math.exp(high)) <= 0:
        return LEAST
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(math.exp(middle)) < 0 else (low, middle)
    return math.exp(-(low + high) / 2)


def refit_temperature(network: DirectionNetwork, x: NDArray[np.float64], y: NDArray[np.int64]) -> None:
    """Set the temperature of `network` to the most likely one on raw features `x` with labels `y`."""
    assert network.temperature is not None
    logits = predict_logits(network, x) * network.temperature.item()
    network.temperature.data.fill_(fit_temperature(logits, y))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities of logits, shape `(n, classes)`, each row adding up to 1."""
    weights: NDArray[np.float64] = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights
