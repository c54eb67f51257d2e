"""Candles to rows: features, what the price did, and what was dropped on the way."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.features.compute import compute_features, rows_with_features
from crpbot.dataset.features.sets import FeatureSet
from crpbot.dataset.labels import LabelRule, label_moves, of_stand_ins
from crpbot.market.candles import Candles


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows of one symbol that have both features and a label, oldest first.

    Attributes:
        names: the features, in the order of the columns.
        time: open time of each row's candle, in milliseconds of UTC, shape `(n,)`.
        known: when each row's label is known, in milliseconds of UTC, shape `(n,)`.
        x: features in their own units, finite, shape `(n, len(names))`, float64.
        moves: what the price did, shape `(n,)`; `labels.classify` makes labels of it.
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


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Which candles are rows of a dataset, before any feature is computed.

    Attributes:
        rows: of the candles, shape `(n,)`.
        moves: what the price did after each, shape `(n,)`.
        known: when that is known, in milliseconds of UTC, shape `(n,)`.
        labelled: which candles with features have a label too.
        stand_ins: how many have none only because they are stand-ins for missing minutes, or their label looks at one.

    """

    rows: NDArray[np.intp]
    moves: NDArray[np.float64]
    known: NDArray[np.int64]
    labelled: NDArray[np.bool_]
    stand_ins: int = 0


def labelled_rows(candles: Candles, features: FeatureSet, rule: LabelRule, *, max_gap_minutes: int = 0) -> LabelledRows:
    """Find the candles that have both features and a label; no window and no label crosses a gap or rests on a stand-in."""
    moves, known = label_moves(candles, rule, max_gap_minutes=max_gap_minutes)
    rows = rows_with_features(candles, features, max_gap_minutes=max_gap_minutes)
    labelled = np.isfinite(moves[rows])
    marked = of_stand_ins(candles, known)[rows]
    stand_ins = int((labelled & marked).sum())
    labelled &= ~marked
    rows = rows[labelled]
    return LabelledRows(rows, moves[rows], known[rows], labelled, stand_ins)


def assemble(candles: Candles, features: FeatureSet, rule: LabelRule, *, max_gap_minutes: int = 0) -> Dataset:
    """Compute the rows of one symbol."""
    found = labelled_rows(candles, features, rule, max_gap_minutes=max_gap_minutes)
    x = compute_features(candles, features, max_gap_minutes=max_gap_minutes).values
    return Dataset(
        names=features.names,
        time=candles.time[found.rows],
        known=found.known,
        x=_rows(x, found.labelled),
        moves=found.moves,
        dropped={
            "no features: too little history in the segment": len(candles) - len(x),
            "no label: the horizon reaches over the end of the segment": int((~found.labelled).sum()) - found.stand_ins,
            **({"a stand-in for a missing minute, or a label that looks at one": found.stand_ins} if found.stand_ins else {}),
        },
    )


def _rows(x: NDArray[np.float64], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the chosen rows, by columns as they came: a view where they are one run, which saves gigabytes of copying."""
    rows = compact(np.flatnonzero(chosen))
    return x[rows] if isinstance(rows, slice) else x.T[:, rows].T


def compact(rows: NDArray[np.intp]) -> NDArray[np.intp] | slice:
    """Return increasing rows as a slice where they are one run: a view then, and no copy of hundreds of megabytes."""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows
