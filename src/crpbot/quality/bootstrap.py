"""The stationary bootstrap: how well a mean of rows is known that depend on their neighbours.

Labels of neighbouring rows overlap, and calm and wild hours last. So blocks of time of random length, a day on average and more
for slow labels, are drawn with replacement instead of rows, each block going on from the end of history at its beginning (Politis
& Romano, "The Stationary Bootstrap", Journal of the American Statistical Association 89, 1994). Time is first cut into cells of
an hour or so, whose sums are enough for every mean: one set of draws then serves all the numbers of a diagnosis, which makes
their differences paired.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crpbot.market.candles import MINUTE
from crpbot.quality.metrics import Floats, Ints, Mean

DRAWS, FEWEST_DRAWN = 2_000, 5
DAY = 1_440 * MINUTE
LEAST_BLOCK, FEWEST_BLOCKS = 240 * MINUTE, 20
"""A block is a day, but for spans of less than 20 days a twentieth of them, never below four hours or twice the longest label."""

_CELLS_OF_A_BLOCK = 24
_MOST_CELLS = 6_000
_AT_ONCE = 250


@dataclass(frozen=True, eq=False)
class Resamples:
    """Draws of a span of time.

    Attributes:
        cell: of each row, shape `(n,)`.
        counts: how often each draw has each cell, shape `(draws, cells)`.
        block: mean length of a block, in milliseconds.
        blocks: how many of them the span holds.

    """

    cell: NDArray[np.intp]
    counts: Floats
    block: int
    blocks: float

    def totals(self, x: Floats) -> Floats:
        """Return the sum of `x`, shape `(n,)` or `(n, k)`, over the rows of every draw, shape `(draws,)` or `(draws, k)`."""
        n_cells = self.counts.shape[1]
        if x.ndim == 1:
            return self.counts @ np.bincount(self.cell, x, n_cells)
        return self.counts @ np.stack([np.bincount(self.cell, column, n_cells) for column in x.T], axis=1)

    def totals_by(self, x: Floats, group: NDArray[np.intp], groups: int) -> Floats:
        """Return the sum of `x`, shape `(n,)`, over the rows of every draw in each `group`, shape `(draws, groups)`."""
        n_cells = self.counts.shape[1]
        table = np.bincount(self.cell * groups + group, x, n_cells * groups).reshape(n_cells, groups)
        return self.counts @ table

    def errors_by(self, x: Floats, group: NDArray[np.intp], groups: int) -> Floats:
        """Return the standard error of the mean of `x`, shape `(n,)`, in each `group`, shape `(groups,)`; NaN as in `mean`."""
        if self.blocks < FEWEST_DRAWN:
            return np.full(groups, np.nan)
        mean = np.bincount(group, x, groups) / np.maximum(np.bincount(group, minlength=groups), 1)
        with np.errstate(invalid="ignore", divide="ignore"):  # a draw may have no row of a group
            drawn = self.totals_by(x - mean[group], group, groups) / self.totals_by(np.ones(len(x)), group, groups)
        seen = np.isfinite(drawn)
        counted = seen.sum(axis=0)
        drawn = np.where(seen, drawn, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = np.sqrt(((drawn - drawn.sum(axis=0) / counted) ** 2 * seen).sum(axis=0) / (counted - 1))
        return np.where(counted > 1, spread, np.nan)

    def means(self, x: Floats, *, rows: NDArray[np.bool_] | None = None) -> Floats:
        """Return the mean of `x`, shape `(n,)`, over the chosen `rows` in every draw, shape `(draws,)`; NaN where none is."""
        chosen = np.ones(len(x)) if rows is None else rows.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.totals(x * chosen) / self.totals(chosen)

    def mean(self, x: Floats, *, rows: NDArray[np.bool_] | None = None) -> Mean:
        """Return the mean of `x` over the chosen `rows`, shape `(n,)`, with its standard error.

        The error is the standard deviation over the draws that have such rows; NaN where the span holds fewer than five blocks,
        too few to draw from: the error would come out too small.
        """
        chosen = x if rows is None else x[rows]
        if not len(chosen):
            return Mean(float("nan"), float("nan"))
        error = (
            float(np.nanstd(self.means(x - chosen.mean(), rows=rows), ddof=1)) if self.blocks >= FEWEST_DRAWN else float("nan")
        )
        return Mean(float(chosen.mean()), error)


def block_length(span: int, *, longest: int = 0) -> int:
    """Return how long rows count as depending on each other, in milliseconds: a day, or less where the span is short.

    It is never less than twice `longest`, the time that the slowest label takes to be known: labels overlap for so long, and
    blocks that cut most of them apart would take them for independent.
    """
    return max(min(DAY, max(LEAST_BLOCK, span // FEWEST_BLOCKS)), 2 * longest)


def longest_label(time: Ints, known: Ints) -> int:
    """Return the time that the slowest label takes to be known, in milliseconds; 0 where there is none."""
    return int((known - time).max(initial=0))


def resample(time: Ints, *, known: Ints | None = None, draws: int = DRAWS, seed: int = 0) -> Resamples:
    """Draw a span of time `draws` times; the same arguments give the same draws.

    Args:
        time: open time of each row's candle, in milliseconds of UTC, increasing, shape `(n,)`.
        known: when each row's label is known, likewise; None where rows depend on each other for less than two hours.
        draws: how many.
        seed: of the draws.

    """
    span = int(time[-1] - time[0]) + MINUTE
    block = block_length(span, longest=0 if known is None else longest_label(time, known))
    length = max(block // _CELLS_OF_A_BLOCK, -(-span // _MOST_CELLS))
    _, cell = np.unique((time - time[0]) // length, return_inverse=True)
    n_cells = int(cell[-1]) + 1
    rng = np.random.default_rng(seed)
    counts = np.empty((draws, n_cells))
    for start in range(0, draws, _AT_ONCE):
        part = counts[start : start + _AT_ONCE]
        part[:] = _draw(rng, len(part), n_cells, length / block)
    return Resamples(cell, counts, block, span / block)


def _draw(rng: np.random.Generator, draws: int, n_cells: int, leave: float) -> Ints:
    """Count the cells of draws: after each cell a new block begins with the chance `leave`, else the next cell follows."""
    place = np.arange(n_cells)
    begins = rng.random((draws, n_cells)) < leave
    begins[:, 0] = True
    since = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    first = np.take_along_axis(rng.integers(n_cells, size=(draws, n_cells)), since, axis=1)
    drawn = (first + place - since) % n_cells
    drawn += n_cells * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * n_cells).reshape(draws, n_cells)
