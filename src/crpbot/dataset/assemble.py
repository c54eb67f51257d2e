"""Candles to rows: features, the move to foretell, and what was dropped on the way."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.features.compute import FEATURE_SETS, compute_features, rows_with_features
from crpbot.dataset.labels import horizon_moves
from crpbot.market.candles import Candles


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows of one symbol that have both features and a label, oldest first.

    Attributes:
        names: the features, in the order of the columns.
        time: open time of each row's candle, in milliseconds of UTC, shape `(n,)`.
        known: when each row's label is known, in milliseconds of UTC, shape `(n,)`.
        x: features in their own units, finite, shape `(n, len(names))`, float64.
        moves: the log return over the horizon, shape `(n,)`; `labels.classify` makes labels of it.
        dropped: how many candles became no row, by reason.

    """

    names: tuple[str, ...]
    time: NDArray[np.int64]
    known: NDArray[np.int64]
    x: NDArray[np.float64]
    moves: NDArray[np.float64]
    dropped: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.time)

    def since(self, time: int) -> "Dataset":
        """Return the rows whose candle opened at `time` (milliseconds) or later."""
        start = int(np.searchsorted(self.time, time))
        return self[start:]

    def __getitem__(self, rows: slice) -> "Dataset":
        return Dataset(self.names, self.time[rows], self.known[rows], self.x[rows], self.moves[rows], self.dropped)


def labelled_rows(candles: Candles, *, horizon: int, max_gap_minutes: int = 0) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return which candles will be rows of `assemble`, and when their labels are known, without computing a feature."""
    moves, known = horizon_moves(candles, horizon=horizon, max_gap_minutes=max_gap_minutes)
    rows = rows_with_features(candles, max_gap_minutes=max_gap_minutes)
    rows = rows[np.isfinite(moves[rows])]
    return rows, known[rows]


def assemble(candles: Candles, *, horizon: int, feature_set: str = "founding-72", max_gap_minutes: int = 0) -> Dataset:
    """Compute the rows of one symbol; no window and no label crosses a gap."""
    features = compute_features(candles, table=FEATURE_SETS[feature_set], max_gap_minutes=max_gap_minutes)
    moves, known = horizon_moves(candles, horizon=horizon, max_gap_minutes=max_gap_minutes)
    labelled = np.isfinite(moves[features.rows])
    rows = features.rows[labelled]
    return Dataset(
        names=features.names,
        time=candles.time[rows],
        known=known[rows],
        x=features.values.T[:, labelled].T,
        moves=moves[rows],
        dropped={
            "no features: too little history in the segment": len(candles) - len(features.rows),
            "no label: the horizon reaches over the end of the segment": int((~labelled).sum()),
        },
    )
