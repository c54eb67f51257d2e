"""Features of whole histories, segment by segment."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.features.bars import Bars, Recursions
from crpbot.dataset.features.founding import FOUNDING_72, WARM_UP, Feature
from crpbot.market.candles import Candles

FEATURE_SETS: Mapping[str, Mapping[str, Feature]] = {"founding-72": FOUNDING_72}
"""The tables of features that a recipe can choose, by name."""

BLOCK = 16_384
"""Rows computed at a time, so that the columns in work fit the processor's cache. The numbers do not depend on it."""


@dataclass(frozen=True, eq=False)
class Features:
    """The features of the candles that have them.

    Attributes:
        names: one for each column, in the order of the network's inputs.
        rows: which candle each row is of, as an index, shape `(n,)`, increasing.
        values: finite, in the units of the table, shape `(n, len(names))`, float64; stored column by column.

    """

    names: tuple[str, ...]
    rows: NDArray[np.intp]
    values: NDArray[np.float64]


def rows_with_features(candles: Candles, *, max_gap_minutes: int = 0) -> NDArray[np.intp]:
    """Return which candles have features: all but the first 199 of each segment."""
    segments = candles.segments(max_gap_minutes=max_gap_minutes)
    kept = (np.arange(segment.start + WARM_UP, segment.stop, dtype=np.intp) for segment in segments)
    return np.concatenate([np.empty(0, np.intp), *kept])


def compute_features(candles: Candles, *, table: Mapping[str, Feature] = FOUNDING_72, max_gap_minutes: int = 0) -> Features:
    """Compute the features of every candle that has enough history in its own segment.

    The first 199 rows of a segment are left out. No value depends on later candles.
    """
    rows = rows_with_features(candles, max_gap_minutes=max_gap_minutes)
    columns = np.empty((len(table), len(rows)))
    done = 0
    for segment in candles.segments(max_gap_minutes=max_gap_minutes):
        part = candles[segment]
        recursions = Recursions(part.close)
        for start in range(WARM_UP, len(part), BLOCK):
            stop = min(start + BLOCK, len(part))
            bars = Bars(part, recursions, slice(start - WARM_UP, stop))
            for column, feature in zip(columns, table.values(), strict=True):
                column[done : done + stop - start] = feature.compute(bars)[WARM_UP:]
            done += stop - start
    return Features(tuple(table), rows, columns.T)
