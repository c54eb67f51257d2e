"""Blocks by time: training, calibration, test, and nothing that reaches from one into the next."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from crpbot.errors import DatasetError

FEWEST_ROWS = 100
"""A block with fewer rows than this cannot be used for anything."""


@dataclass(frozen=True, slots=True)
class Split:
    """Three blocks of rows, in the order of time.

    Attributes:
        train: rows that weights, normalizer and θ are fitted on.
        calibration: rows that early stopping and the temperature use.
        test: rows that are touched once.
        dropped: how many rows are in no block, by reason.

    """

    train: slice
    calibration: slice
    test: slice
    dropped: Mapping[str, int]


def split_by_rows(time: NDArray[np.int64], known: NDArray[np.int64], *, train: float, calibration: float, embargo: int) -> Split:
    """Cut the rows of one symbol into blocks by their share of the rows, the rest being the test block.

    Purge: a row whose label is known only after the next block has begun is dropped (López de Prado, Advances in
    Financial Machine Learning, 2018, section 7.4.1). Embargo: the first `embargo` rows of a later block are dropped, since their
    windows overlap the block before.

    Args:
        time: open time of each row's candle, in milliseconds, increasing.
        known: when each row's label is known, in milliseconds, increasing.
        train: share of the rows up to the first boundary.
        calibration: share of the rows between the boundaries.
        embargo: rows to drop after each boundary.

    Raises:
        DatasetError: a block would have fewer than 100 rows.

    """
    n_rows = len(time)
    edges = [0, int(n_rows * train), int(n_rows * (train + calibration)), n_rows]
    blocks, purged, embargoed = [], 0, 0
    for position, (start, stop) in enumerate(pairwise(edges)):
        first = min(start + embargo, stop) if position else start
        last = stop
        if stop < n_rows:
            last = max(first, int(np.searchsorted(known, time[stop], side="right")))
            last = min(last, stop)
        embargoed += first - start
        purged += stop - last
        blocks.append(slice(first, last))
    for name, block in zip(("training", "calibration", "test"), blocks, strict=True):
        if block.stop - block.start < FEWEST_ROWS:
            raise DatasetError(
                f"each block must have at least {FEWEST_ROWS} rows, found {block.stop - block.start} in the {name} block "
                f"of {n_rows} labelled rows in all; bring more candles"
            )
    training, calibrating, testing = blocks
    return Split(training, calibrating, testing, dropped={"purged at a boundary": purged, "embargo after a boundary": embargoed})
