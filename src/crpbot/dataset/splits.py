"""Blocks by time: training, calibration, test, and nothing that reaches from one into the next.

Purge: a row whose label is known only after the next block has begun is dropped. Embargo: the first rows of a later block are
    dropped too, since their windows overlap the block before. (López de Prado, Advances in Financial Machine Learning, 2018,
    sections 7.4.1 and 7.4.2.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from crpbot.errors import DatasetError
from crpbot.market.candles import MINUTE

FEWEST_ROWS = 100
"""A block with fewer rows than this cannot be used for anything."""

Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """Three blocks of rows, in the order of time.

    Attributes:
        train: rows that weights, normalizer and θ are fitted on.
        calibration: rows that early stopping and the temperature use.
        test: rows that are touched once.
        dropped: how many rows from the first block to the last are in none, by reason.

    """

    train: slice
    calibration: slice
    test: slice
    dropped: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Fold:
    """Rows to fit on and rows to judge on, each in one or more blocks, oldest first.

    Attributes:
        train: blocks whose labels do not reach into the test blocks, nor the labels of those into them.
        test: blocks to judge on.

    """

    train: tuple[slice, ...]
    test: tuple[slice, ...]


def split_by_rows(time: Times, known: Times, *, train: float, calibration: float, embargo: int) -> Split:
    """Cut the rows of one symbol into blocks by their share of the rows, the rest being the test block.

    Args:
        time: open time of each row's candle, in milliseconds, increasing.
        known: when each row's label is known, in milliseconds.
        train: share of the rows up to the first boundary.
        calibration: share of the rows between the boundaries.
        embargo: rows to drop after each boundary.

    Raises:
        DatasetError: a block would have fewer than 100 rows.

    """
    n_rows = len(time)
    edges = [0, int(n_rows * train), int(n_rows * (train + calibration)), n_rows]
    return _split_at(time, known, edges, embargo=embargo)


def split_by_time(
    symbols: Mapping[str, tuple[Times, Times]], *, train: float, calibration: float, embargo: int
) -> Mapping[str, Split]:
    """Cut the rows of several symbols at the same moments, for one network that learns from all of them.

    A row of one symbol may not be trained on while another symbol's test block already runs: they move together. The boundaries
    are the moments before which `train` and `train + calibration` of all rows lie.

    Args:
        symbols: `time` and `known` of each symbol, as in `split_by_rows`.
        train: share of all rows before the first boundary.
        calibration: share of all rows between the boundaries.
        embargo: minutes to drop after each boundary.

    Raises:
        DatasetError: a block of some symbol would have fewer than 100 rows.

    """
    _check_embargo(embargo)
    every = np.sort(np.concatenate([np.empty(0, np.int64), *(time for time, _ in symbols.values())]))
    if len(every) == 0:
        raise DatasetError("a split must have rows, found none; bring more candles")
    moments = [int(every[min(int(len(every) * share), len(every) - 1)]) for share in (train, train + calibration)]
    splits = {}
    for symbol, (time, known) in symbols.items():
        edges = [0, *np.searchsorted(time, moments).tolist(), len(time)]
        after = [0, *np.searchsorted(time, [moment + embargo * MINUTE for moment in moments]).tolist()]
        try:
            splits[symbol] = _split(time, known, edges, after, moments)
        except DatasetError as error:
            raise DatasetError(f"{symbol}: {error}") from None
    return splits


def walk_forward(
    time: Times, known: Times, *, folds: int, test: float, calibration: float, embargo: int, rolling: bool = False
) -> tuple[Split, ...]:
    """Cut the rows of one symbol into successive splits whose test blocks follow each other up to the newest row.

    One fold cuts as `split_by_rows` does, but for a row of rounding. Each later one moves the boundaries on by one test block,
    and so learns from more history, or, when `rolling`, from the newest rows only, as many as the first fold had.

    Args:
        time: open time of each row's candle, in milliseconds, increasing.
        known: when each row's label is known, in milliseconds.
        folds: how many splits.
        test: share of the rows in each test block.
        calibration: share of the rows in each calibration block.
        embargo: rows to drop after each boundary.
        rolling: whether the training block keeps its length.

    Raises:
        DatasetError: a block would have fewer than 100 rows.

    """
    if folds < 1:
        raise DatasetError(f"folds must be at least 1, found {folds}; correct it")
    n_rows, n_test, n_calibration = len(time), int(len(time) * test), int(len(time) * calibration)
    splits = []
    for fold in range(folds):
        testing = n_rows - (folds - fold) * n_test
        calibrating = testing - n_calibration
        start = fold * n_test if rolling else 0
        edges = [start, calibrating, testing, testing + n_test]
        if calibrating < start:
            raise DatasetError(
                f"{folds} test blocks of {test:.0%} and a calibration block of {calibration:.0%} must leave rows to train on, "
                "found none left; lower one"
            )
        splits.append(_split_at(time, known, edges, embargo=embargo))
    return tuple(splits)


def calibration_folds(time: Times, known: Times, *, folds: int, calibration: float, embargo: int) -> tuple[Fold, ...]:
    """Cut the rows of one symbol into folds whose judging blocks follow each other up to the newest row, with no test block.

    Each fold learns from everything before its judging block. That is as long as `calibration` says, or shorter where the first
    fold would else learn from fewer rows than it is judged on.

    Args:
        time: open time of each row's candle, in milliseconds, increasing.
        known: when each row's label is known, in milliseconds.
        folds: how many.
        calibration: share of the rows in each judging block, at most.
        embargo: rows to drop before a judging block begins.

    Raises:
        DatasetError: a block would have fewer than 100 rows.

    """
    if folds < 1:
        raise DatasetError(f"folds must be at least 1, found {folds}; correct it")
    _check_embargo(embargo)
    n_judged = int(len(time) * min(calibration, 1 / (folds + 1)))
    found = []
    for start in range(len(time) - folds * n_judged, len(time), n_judged) if n_judged else ():
        stop = start + n_judged
        train = slice(0, _known_until(known, 0, start, int(time[start])))
        judged = slice(min(start + embargo, stop), stop)
        _check_enough([("training", [train]), ("calibration", [judged])], len(time))
        found.append(Fold((train,), (judged,)))
    if not found:
        raise DatasetError(f"{folds} folds must have rows to be judged on, found {len(time)} labelled rows; bring more candles")
    return tuple(found)


def combinatorial_purged(time: Times, known: Times, *, groups: int, test_groups: int, embargo: int) -> tuple[Fold, ...]:
    """Cut the rows of one symbol into groups and return a fold for every choice of `test_groups` of them.

    (Combinatorial purged cross-validation: López de Prado 2018, section 12.4. Every group is tested in C(groups − 1,
    test_groups − 1) folds, which make as many paths through the whole history.) Each block of training rows ends where the
    labels are no longer known before the next test block begins, and begins again, `embargo` rows later, where the labels of
    the test block before it are known.

    Args:
        time: open time of each row's candle, in milliseconds, increasing.
        known: when each row's label is known, in milliseconds.
        groups: how many, of equal numbers of rows.
        test_groups: how many of them are tested at once.
        embargo: rows to drop after a test block.

    Raises:
        DatasetError: there is no such choice, or a fold would have fewer than 100 rows to train or to test on.

    """
    if not 1 <= test_groups < groups:
        raise DatasetError(
            f"test groups must be at least 1 and fewer than the groups, found {test_groups} of {groups}; correct it"
        )
    _check_embargo(embargo)
    edges = [len(time) * group // groups for group in range(groups + 1)]
    folds = []
    for chosen in combinations(range(groups), test_groups):
        test = _joined([slice(edges[group], edges[group + 1]) for group in chosen])
        train = []
        for group in _joined([slice(edges[group], edges[group + 1]) for group in range(groups) if group not in chosen]):
            start, stop = group.start, group.stop
            if start:  # a test block lies before
                begun = max(int(known[block].max()) for block in test if block.stop <= start)
                start = min(max(int(np.searchsorted(time, begun)), start) + embargo, stop)
            if stop < len(time):
                stop = _known_until(known, start, stop, int(time[stop]))
            if stop > start:
                train.append(slice(start, stop))
        _check_enough([("training", train), ("test", test)], len(time))
        folds.append(Fold(tuple(train), tuple(test)))
    return tuple(folds)


def _joined(blocks: Sequence[slice]) -> list[slice]:
    """Return the same rows in as few blocks as possible."""
    joined: list[slice] = []
    for block in blocks:
        if joined and joined[-1].stop == block.start:
            joined[-1] = slice(joined[-1].start, block.stop)
        else:
            joined.append(block)
    return joined


def _known_until(known: Times, start: int, stop: int, moment: int) -> int:
    """Return the end of the longest block from `start` whose labels are all known at `moment`."""
    late = known[start:stop] > moment
    return start + int(late.argmax()) if late.any() else stop


def _split_at(time: Times, known: Times, edges: list[int], *, embargo: int) -> Split:
    """Cut the rows of one symbol at `edges`: each boundary is the moment of its first row, the embargo counts rows."""
    _check_embargo(embargo)
    first = [edges[0], *(edge + embargo for edge in edges[1:3])]
    return _split(time, known, edges, first, [int(time[edge]) for edge in edges[1:3] if edge < len(time)])


def _split(time: Times, known: Times, edges: list[int], first: list[int], moments: list[int]) -> Split:
    """Cut rows at `edges`, purge at the boundaries' `moments`, and drop the embargo.

    Args:
        time: of each row.
        known: when each label is known.
        edges: start of each block, and the end of the last, as rows.
        first: the first row of each block that is after its embargo.
        moments: when calibration and test begin, in milliseconds.

    """
    blocks, purged, embargoed = [], 0, 0
    for position, (start, stop) in enumerate(pairwise(edges)):
        begin = min(first[position], stop)
        end = _known_until(known, begin, stop, moments[position]) if position < len(moments) else stop
        embargoed += begin - start
        purged += stop - end
        blocks.append(slice(begin, end))
    _check_enough(list(zip(("training", "calibration", "test"), [[block] for block in blocks], strict=True)), len(time))
    training, calibrating, testing = blocks
    return Split(training, calibrating, testing, dropped={"purged at a boundary": purged, "embargo after a boundary": embargoed})


def _check_embargo(embargo: int) -> None:
    if embargo < 0:
        raise DatasetError(f"the embargo must not be negative, found {embargo}; correct it")


def _check_enough(blocks: Sequence[tuple[str, Sequence[slice]]], n_rows: int) -> None:
    for name, parts in blocks:
        found = sum(part.stop - part.start for part in parts)
        if found < FEWEST_ROWS:
            raise DatasetError(
                f"each block must have at least {FEWEST_ROWS} rows, found {found} in the {name} block "
                f"of {n_rows} labelled rows in all; bring more candles"
            )
