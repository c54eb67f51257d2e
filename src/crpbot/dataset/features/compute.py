"""Features of whole histories, segment by segment: the batch form of a program."""

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from crpbot.dataset.features.program import COLUMNS, Program, Step
from crpbot.dataset.features.sets import FeatureSet, feature_set
from crpbot.market.candles import Candles

Array = NDArray[np.float64]

BLOCK = 16_384
"""Rows computed at a time, so that the columns in work fit the processor's cache. The numbers do not depend on it."""

OPERATIONS: Mapping[str, Callable[..., Array]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "absolute": np.abs,
    "log": np.log,
    "sqrt": np.sqrt,
}


@dataclass(frozen=True, eq=False)
class Features:
    """The features of the candles that have them.

    Attributes:
        names: one for each column, in the order of the network's inputs.
        rows: which candle each row is of, as an index, shape `(n,)`, increasing.
        values: finite, in the units of the set, shape `(n, len(names))`, float64; stored column by column.

    """

    names: tuple[str, ...]
    rows: NDArray[np.intp]
    values: Array


def rows_with_features(candles: Candles, features: FeatureSet, *, max_gap_minutes: int = 0) -> NDArray[np.intp]:
    """Return which candles have features: all but the first of each segment, as many as the set needs to warm up (199)."""
    segments = candles.segments(max_gap_minutes=max_gap_minutes)
    kept = (np.arange(segment.start + features.warm_up, segment.stop, dtype=np.intp) for segment in segments)
    return np.concatenate([np.empty(0, np.intp), *kept])


def compute_features(candles: Candles, features: FeatureSet | None = None, *, max_gap_minutes: int = 0) -> Features:
    """Compute the features of every candle that has enough history in its own segment; by default `founding-72`.

    The first rows of a segment, `features.warm_up` of them, are left out. No value depends on later candles.
    """
    features = features or feature_set("founding-72")
    program, warm_up = features.program, features.warm_up
    rows = rows_with_features(candles, features, max_gap_minutes=max_gap_minutes)
    columns = np.empty((len(features.names), len(rows)))
    columns_read = [(position, step) for position, step in enumerate(program.steps) if step.op in COLUMNS]
    recursive = [position for position, step in enumerate(program.steps) if step.op == "ema"]
    done = 0
    for segment in candles.segments(max_gap_minutes=max_gap_minutes):
        if segment.stop - segment.start <= warm_up:
            continue
        whole = {position: getattr(candles, step.op)[segment] for position, step in columns_read}
        # Exponential means remember the whole segment: they are computed first, once.
        whole |= evaluate(program, recursive, whole)
        for start in range(0, segment.stop - segment.start - warm_up, BLOCK):
            stop = min(start + warm_up + BLOCK, segment.stop - segment.start)
            near = {position: column[start : stop - program.steps[position].warm_up] for position, column in whole.items()}
            n_rows = stop - start - warm_up
            found = evaluate(program, program.outputs, near)
            for column, output in zip(columns, program.outputs, strict=True):
                column[done : done + n_rows] = found[output][-n_rows:]
            done += n_rows
    return Features(features.names, rows, columns.T)


def evaluate(program: Program, wanted: Iterable[int], given: Mapping[int, Array]) -> dict[int, Array]:
    """Run the steps that `wanted` need, on a stretch of one segment.

    Args:
        program: of the steps.
        wanted: steps, by position.
        given: results that are there already; at least the columns.

    Returns:
        The result of each wanted step: an array from the first row that has a result, `warm_up` rows after the start of the
        stretch.

    """
    wanted = tuple(wanted)
    last_use = _needed(program, wanted, given)
    done: dict[int, Array | float] = dict(given)
    for position in sorted(position for position in last_use if position not in given):
        step = program.steps[position]
        later = [step.warm_up - program.steps[arg].warm_up for arg in step.args]
        done[position] = _run(step, [done[arg] for arg in step.args], later)
        for arg in set(step.args):
            if last_use[arg] == position:
                del done[arg]  # memory that is still in the cache is used again
    return {position: np.asarray(done[position]) for position in wanted}


def _run(step: Step, args: list[Array | float], later: list[int]) -> Array | float:
    """Run one step; its first row is `later` rows after that of each argument."""
    if step.op == "lag":  # the same rows of memory, seen from `later` rows on: nothing is copied
        return np.asarray(args[0])[: -later[0]]
    args = [arg[rows:] if isinstance(arg, np.ndarray) else arg for arg, rows in zip(args, later, strict=True)]
    match step.op:
        case "number":
            return step.number
        case "ema":  # y + α·(x − y), y beginning with the first x, bit for bit: `live` does the same
            return pl.Series(np.asarray(args[0])).ewm_mean(alpha=step.number, adjust=False).to_numpy()
        case "ratio":
            empty = np.equal(args[1], 0)
            return np.where(empty, step.number, args[0] / np.where(empty, 1.0, args[1]))
        case op:
            return OPERATIONS[op](*args)


def _needed(program: Program, wanted: tuple[int, ...], given: Mapping[int, Array]) -> dict[int, int]:
    """Return the steps that have to be there, each with the last step that reads it; wanted ones are read after the end."""
    last_use = dict.fromkeys(wanted, len(program.steps))
    for position in range(len(program.steps) - 1, -1, -1):
        if position in last_use and position not in given:
            for arg in program.steps[position].args:
                last_use.setdefault(arg, position)
    return last_use
