"""Rolling windows by doubling: exact, fast, and blind to the future.

A window of 50 rows is put together from pieces of 2, 16 and 32 rows, and every piece from two of half its size. So each
result depends
on the rows of its own window alone, always by the same operations: cutting off the future changes no bit of the past, no rounding
error is carried along (as running sums do), and a window of n rows costs log2 n vector operations.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Combine = Callable[[Array, Array, int, int], Array]
"""Joins the summaries of two neighbouring pieces, older first, given their sizes. The last axis is time."""


class Rolling:
    """Summaries of the last `window` rows of a series, for any window.

    Args:
        leaves: the summary of each single row, shape `(..., n)`.
        combine: joins two neighbouring summaries.

    """

    def __init__(self, leaves: Array, combine: Combine) -> None:
        self._combine = combine
        self._pieces = {1: leaves}

    def over(self, window: int) -> Array:
        """Return the summary of each window, shape `(..., n)`; NaN in the first `window - 1` rows."""
        leaves = self._pieces[1]
        n_windows = leaves.shape[-1] - window + 1
        result = np.full(leaves.shape, np.nan)
        if n_windows < 1:
            return result
        whole, have = leaves[..., :0], 0
        for size in (1 << bit for bit in range(window.bit_length()) if window >> bit & 1):
            part = self._piece(size)[..., have : have + n_windows]
            whole = self._combine(whole, part, have, size) if have else part
            have += size
        result[..., window - 1 :] = whole
        return result

    def _piece(self, size: int) -> Array:
        if size not in self._pieces:
            half = self._piece(size // 2)
            step = size // 2
            self._pieces[size] = self._combine(half[..., :-step], half[..., step:], step, step)
        return self._pieces[size]


def rolling_sum(x: Array) -> Rolling:
    """Return rolling sums of `x`."""
    return Rolling(x, lambda older, newer, _n, _m: older + newer)


def rolling_max(x: Array) -> Rolling:
    """Return rolling maxima of `x`."""
    return Rolling(x, lambda older, newer, _n, _m: np.maximum(older, newer))


def rolling_min(x: Array) -> Rolling:
    """Return rolling minima of `x`."""
    return Rolling(x, lambda older, newer, _n, _m: np.minimum(older, newer))


def rolling_moments(x: Array) -> Rolling:
    """Return rolling means and sums of squared deviations of `x`, stacked in that order.

    Pieces are joined by the pairwise update of Chan, Golub & LeVeque (The American Statistician 37, 1983, equation 2.1), which is
    as exact as two passes: with δ the difference of the means, M = M₁ + M₂ + δ²·n·m/(n + m).
    """

    def combine(older: Array, newer: Array, n: int, m: int) -> Array:
        delta = newer[0] - older[0]
        joined = np.empty((2, *delta.shape))
        np.add(older[0], delta * (m / (n + m)), out=joined[0])
        np.add(older[1], newer[1], out=joined[1])
        delta *= delta
        joined[1] += delta * (n * m / (n + m))
        return joined

    return Rolling(np.stack([x, np.zeros_like(x)]), combine)


def lag(x: Array, rows: int) -> Array:
    """Return `x` as it was `rows` rows ago; NaN in the first `rows` rows."""
    result = np.full_like(x, np.nan)
    result[rows:] = x[: max(len(x) - rows, 0)]
    return result
