"""Features of whole histories, segment by segment: the batch form of a program."""

import operator
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.features.program import COLUMNS, Program, Step
from crpbot.dataset.features.sets import FeatureSet, feature_set
from crpbot.market.candles import Candles

Array = NDArray[np.float64]

SHORT = 4_096
"""Segments up to this length are computed at once: handing them to another core would take longer."""
BLOCK = 65_536
"""Rows computed at a time: few enough for the processor's cache, many enough that cores do not wait for the interpreter.
The numbers do not depend on it."""

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

    The first rows of a segment, `features.warm_up` of them, are left out. No value depends on later candles. Blocks of rows are
    computed side by side on the cores of this machine; the numbers do not depend on how many there are.

    Raises:
        DatasetError: a formula gave a number that is not finite, as those of one's own may where they overflow.

    """
    features = features or feature_set("founding-72")
    program, warm_up = features.program, features.warm_up
    rows = rows_with_features(candles, features, max_gap_minutes=max_gap_minutes)
    columns = np.empty((len(features.names), len(rows)))
    inputs = {at: step.op for at, step in enumerate(program.steps) if step.op in COLUMNS}
    levels, there = [], list(inputs)
    for level in _recursive(program):
        levels.append((level, [_schedule(program, [at], there) for at in level]))
        there += level
    jobs = _schedule(program, program.outputs, there)
    blocks, done, finite = [], 0, True
    with ThreadPoolExecutor(_cores()) as pool:
        for segment in candles.segments(max_gap_minutes=max_gap_minutes):
            n_rows = segment.stop - segment.start
            if n_rows <= warm_up:
                continue
            whole = {at: getattr(candles, column)[segment] for at, column in inputs.items()}
            side_by_side = n_rows > SHORT
            for level, means in levels:  # exponential means remember the whole segment: they are computed first, once
                results = (pool.map if side_by_side else map)(partial(_last, whole), means)
                whole = whole | dict(zip(level, results, strict=True))
            for start in range(warm_up, n_rows, BLOCK):
                stop = min(start + BLOCK, n_rows)
                near = {at: column[start - warm_up : stop - program.steps[at].warm_up] for at, column in whole.items()}
                block = (columns[:, done : done + stop - start], program, jobs, near)
                if side_by_side:
                    blocks.append(pool.submit(_fill, *block))
                else:
                    finite &= _fill(*block)
                done += stop - start
        finite &= all(block.result() for block in blocks)
    if not finite:
        _refuse(candles, features, rows, columns)
    return Features(features.names, rows, columns.T)


def _refuse(candles: Candles, features: FeatureSet, rows: NDArray[np.intp], columns: Array) -> None:
    for at, column in enumerate(columns):
        if not np.isfinite(column).all():
            row = int(np.isfinite(column).argmin())
            raise features.not_finite(at, float(column[row]), int(candles.time[rows[row]]))


@dataclass(frozen=True, slots=True)
class _Job:
    """An operation on arrays, and what its place in a program says.

    Attributes:
        at: the step whose result it makes.
        run: the operation.
        args: which results it takes, and which of their rows.
        free: results that nobody needs after it.

    """

    at: int
    run: Callable[..., Array]
    args: tuple[tuple[int, slice], ...]
    free: tuple[int, ...]


def _schedule(program: Program, wanted: Sequence[int], given: Iterable[int]) -> tuple[_Job, ...]:
    """Return the jobs for the results `wanted`, where the results `given` are there already.

    A lag is no job: it is the same memory, its rows taken as later ones.
    """
    steps, there = program.steps, set(given)
    last_use = {at: at for at in wanted}
    for at in range(len(steps) - 1, -1, -1):
        if at in last_use and at not in there:
            for arg, _ in _sources(program, at):
                last_use[arg] = max(last_use.get(arg, -1), at)
    jobs = []
    for at in sorted(last_use.keys() - there):
        sources = _sources(program, at)
        free = tuple(one for one in {at, *(arg for arg, _ in sources)} if last_use[one] == at)
        jobs.append(_Job(at, _operation(steps[at]), sources, free))
    return tuple(jobs)


def _sources(program: Program, at: int) -> tuple[tuple[int, slice], ...]:
    """Return which results a step reads, and which of their rows: an array begins `warm_up` rows into its stretch."""
    found = []
    for arg in program.steps[at].args if program.steps[at].op != "lag" else (at,):
        step, ago = program.steps[arg], 0
        if step.op == "lag":
            arg, ago = step.args[0], int(step.number)  # noqa: PLW2901  the lagged series itself
        if program.steps[arg].op == "number":
            found.append((arg, slice(None)))
        else:
            found.append((arg, slice(program.steps[at].warm_up - program.steps[arg].warm_up - ago, -ago or None)))
    return tuple(found)


def _operation(step: Step) -> Callable[..., Array]:
    """Return what `step` does with arrays; a number is an array of one row."""

    def number() -> Array:
        return np.array([step.number])

    def ema(x: Array) -> Array:
        # y + α·(x − y), y beginning with the first x, bit for bit: `live` does the same
        try:
            import polars as pl  # noqa: PLC0415  the image of the live runtime has no room for it
        except ModuleNotFoundError:
            return np.fromiter(accumulate(x.tolist(), lambda y, new: y + step.number * (new - y)), np.float64, len(x))
        return pl.Series(x).ewm_mean(alpha=step.number, adjust=False).to_numpy()

    def ratio(a: Array, b: Array) -> Array:
        empty = np.equal(b, 0)
        return np.where(empty, step.number, a / np.where(empty, 1.0, b)) if empty.any() else a / b

    own: Mapping[str, Callable[..., Array]] = {"number": number, "ema": ema, "ratio": ratio, "lag": np.asarray}
    return own[step.op] if step.op in own else OPERATIONS[step.op]


def _recursive(program: Program) -> list[list[int]]:
    """Return the exponential means of a program: first those of nothing recursive, then means of those, and so on."""
    depth: list[int] = []
    levels: dict[int, list[int]] = {}
    for at, step in enumerate(program.steps):
        depth.append(max((depth[arg] for arg in step.args), default=0) + (step.op == "ema"))
        if step.op == "ema":
            levels.setdefault(depth[at], []).append(at)
    return list(levels.values())


def _last(given: Mapping[int, Array], jobs: Sequence[_Job]) -> Array:
    """Run `jobs` and return the result of the last one; the others are not kept."""
    with np.errstate(all="ignore"):
        return deque(_run(jobs, given), maxlen=1)[0][1]


def _run(jobs: Sequence[_Job], given: Mapping[int, Array]) -> Iterator[tuple[int, Array]]:
    """Run `jobs` on a stretch of one segment, and yield each step with its result."""
    found = dict(given)
    for job in jobs:
        result = job.run(*[found[arg][rows] for arg, rows in job.args])
        found[job.at] = result
        yield job.at, result
        for one in job.free:
            del found[one]  # memory that is still in the cache is used again


def _fill(columns: Array, program: Program, jobs: Sequence[_Job], given: Mapping[int, Array]) -> bool:
    """Run `jobs`, write the last rows of the outputs to `columns`, shape `(n_features, n)`, and say whether all are finite."""
    rows = slice(-columns.shape[1], None)
    places: dict[int, list[int]] = {}
    for column, output in enumerate(program.outputs):
        places.setdefault(output, []).append(column)
    finite = True
    with np.errstate(all="ignore"):
        for at, result in chain(given.items(), _run(jobs, given)):
            for column in places.get(at, ()):
                columns[column] = result[rows]
                finite &= bool(np.isfinite(columns[column].sum()))
    return finite


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
