"""Features of one closed candle after the other: the live form of a program."""

import json
import math
import operator
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.features.program import COLUMNS, ON_NUMBERS, Step
from crpbot.dataset.features.sets import FeatureSet
from crpbot.disk import write_whole
from crpbot.errors import CandleError, DatasetError
from crpbot.market.candles import MINUTE, Candles, utc

FORMAT = "crpbot.live-features/1"

_Operation = Callable[[float, float], float]


class LiveFeatures:
    """The features of one market, candle by candle, in constant time.

    The same steps as in batch, in the same order, on single numbers: what a model is served is what it has learned, to the last
    bit.

    Args:
        features: which.
        max_gap_minutes: missing minutes that do not yet start a new segment; as in the recipe.

    """

    def __init__(self, features: FeatureSet, *, max_gap_minutes: int = 0) -> None:
        self.features = features
        self.max_gap_minutes = max_gap_minutes
        self._steps = features.program.steps
        self._columns = [(position, step.op) for position, step in enumerate(self._steps) if step.op in COLUMNS]
        self._emas = [position for position, step in enumerate(self._steps) if step.op == "ema"]
        self._pick = operator.itemgetter(*features.program.outputs, *features.program.outputs[:1])  # always a tuple
        self._warm_ups = {step.warm_up for step in self._steps}
        self._time: int | None = None
        self._begin()

    @classmethod
    def from_history(cls, features: FeatureSet, candles: Candles, *, max_gap_minutes: int = 0) -> "LiveFeatures":
        """Return the state after `candles`, ready for the next one.

        Raises:
            DatasetError: the last segment is shorter than `features.memory` (2,500 candles for the sets of the package) and may
                have begun before the first of them, so the exponential means would not be those of the whole segment.

        """
        segments = list(candles.segments(max_gap_minutes=max_gap_minutes))
        recent = candles[segments[-1]] if segments else candles
        if len(recent) < features.memory and len(segments) < 2:
            raise DatasetError(
                f"live features must start from at least {features.memory:,} candles since the last gap, or from candles that "
                f"show the gap; found {len(recent):,} and no gap before them: bring more history, or a saved state"
            )
        live = cls(features, max_gap_minutes=max_gap_minutes)
        for _ in live.follow(recent):
            pass
        return live

    @property
    def time(self) -> int | None:
        """Open time of the last candle, in milliseconds of UTC; None before the first."""
        return self._time

    @property
    def rows(self) -> int:
        """Candles of the present segment so far."""
        return self._rows

    def follow(self, candles: Candles) -> Iterator[NDArray[np.float64] | None]:
        """Yield what `push` returns for each of `candles`."""
        columns = (getattr(candles, name).tolist() for name in ("time", *COLUMNS))
        for numbers in zip(*columns, strict=True):
            yield self.push_numbers(*numbers)

    def push(self, candle: Candles) -> NDArray[np.float64] | None:
        """Take the next closed candle and return its features, shape `(len(features),)`.

        Returns:
            None while the segment has too little history: the first `features.warm_up` candles after a gap.

        Raises:
            CandleError: it is not one candle, or not later than the last one; the state stays as it was.
            DatasetError: a formula gave a number that is not finite; the candle is taken, and the next one may be pushed.

        """
        if len(candle) != 1:
            raise CandleError(f"one candle must be pushed at a time, found {len(candle)}; use follow for several")
        return next(self.follow(candle))

    def push_numbers(
        self, time: int, open_: float, high: float, low: float, close: float, volume: float
    ) -> NDArray[np.float64] | None:
        """Do what `push` does for a candle that somebody has checked already, given as plain numbers."""
        if self._time is not None:
            if time <= self._time:
                raise CandleError(f"candles must come in order: the last one is {utc(self._time)}, found {utc(time)}; drop it")
            if time - self._time > MINUTE * (1 + self.max_gap_minutes):
                self._begin()
        self._advance({"open": open_, "high": high, "low": low, "close": close, "volume": volume})
        self._time = time
        if self._rows <= self.features.warm_up:
            return None
        found = np.array(self._pick(self._values)[:-1])
        if not np.isfinite(found).all():
            column = int(np.isfinite(found).argmin())
            raise self.features.not_finite(column, float(found[column]), time)
        return found

    def _advance(self, candle: Mapping[str, float]) -> None:
        values = self._values
        for position, column in self._columns:
            values[position] = candle[column]
        for queue, _, position in self._past:
            values[position] = queue[0]
        if self._rows in self._warm_ups:  # from now on more steps have a result
            self._work = tuple(self._operations())
        for work, position, a, b in self._work:
            values[position] = work(values[a], values[b])
        for queue, source, _ in self._past:
            queue.append(values[source])
        self._rows += 1

    def _begin(self) -> None:
        """Forget everything: a new segment starts with the next candle."""
        self._rows = 0
        self._values = [step.number if step.op == "number" else math.nan for step in self._steps]
        lags = [(position, step) for position, step in enumerate(self._steps) if step.op == "lag"]
        self._past = [
            (deque([math.nan] * int(step.number), maxlen=int(step.number)), step.args[0], position) for position, step in lags
        ]

    def _operations(self) -> Iterator[tuple[_Operation, int, int, int]]:
        """Yield the operations that have a result for the next candle of the segment; the rest would make NaN."""
        for position, step in enumerate(self._steps):
            if step.op not in {*COLUMNS, "number", "lag"} and step.warm_up <= self._rows:
                first, second = step.args[0], position if step.op == "ema" else step.args[-1]
                yield _operation(step), position, first, second

    # State

    def state(self) -> dict[str, Any]:
        """Return everything that the next features depend on, as plain JSON types; `restore` reads it back."""
        return {
            "format": FORMAT,
            "feature_set": self.features.name,
            "program_sha256": self.features.program.sha256,
            "max_gap_minutes": self.max_gap_minutes,
            "time": self._time,
            "rows": self._rows,
            "exponential_means": [_or_none(self._values[position]) for position in self._emas],
            "past": [[_or_none(value) for value in queue] for queue, _, _ in self._past],
        }

    def save(self, path: Path) -> None:
        """Write the state to `path`, whole."""
        write_whole(path, json.dumps(self.state()))

    @classmethod
    def restore(cls, features: FeatureSet, state: Mapping[str, Any], *, max_gap_minutes: int = 0) -> "LiveFeatures":
        """Return the object whose `state` this is: it goes on as if it had never stopped.

        Raises:
            DatasetError: the state is damaged, of another version, of other formulas, or of another rule for gaps.

        """
        wanted = {"format": FORMAT, "program_sha256": features.program.sha256, "max_gap_minutes": max_gap_minutes}
        if not isinstance(state, Mapping) or any(state.get(key) != value for key, value in wanted.items()):
            found = state.get("feature_set") if isinstance(state, Mapping) else None
            raise DatasetError(
                f"the saved state must be of feature set {features.name} as it is now, of max_gap_minutes {max_gap_minutes} and "
                f"of format {FORMAT}, found one of {found!s:.40}; start from history instead"
            )
        live = cls(features, max_gap_minutes=max_gap_minutes)
        try:
            live._take(state["time"], state["rows"], state["exponential_means"], state["past"])
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"the saved state must be whole, found a damaged one ({error}); start from history") from None
        return live

    @classmethod
    def load(cls, features: FeatureSet, path: Path, *, max_gap_minutes: int = 0) -> "LiveFeatures":
        """Return the object that `save` wrote."""
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise DatasetError(f"{path} must be a saved state: {error}; start from history instead") from None
        return cls.restore(features, state, max_gap_minutes=max_gap_minutes)

    def _take(self, time: int | None, rows: int, means: list[float | None], past: list[list[float | None]]) -> None:
        """Take what `state` gave; a number is there exactly where the segment has been long enough."""
        if type(rows) is not int or rows < 0 or (time is None) != (rows == 0) or (rows and not _is_time(time)):
            raise ValueError(f"{rows!s:.20} rows until {time!s:.20}")
        self._time, self._rows = time, rows
        for position, mean in zip(self._emas, means, strict=True):
            self._values[position] = _number(mean, there=rows > self._steps[position].warm_up)
        for (queue, source, _), values in zip(self._past, past, strict=True):
            if len(values) != queue.maxlen:
                raise ValueError(f"{len(values)} values for {queue.maxlen} rows")
            first = rows - len(values) - self._steps[source].warm_up
            queue.extend(_number(value, there=first + ago >= 0) for ago, value in enumerate(values))
        self._work = tuple(self._operations())


def _operation(step: Step) -> _Operation:
    """Return what `step` does with two numbers; one operation of one number ignores the second."""
    number = step.number

    def ema(x: float, y: float) -> float:
        return x if y != y else y + number * (x - y)  # noqa: PLR0124  NaN, the first of the segment, is not itself

    def ratio(a: float, b: float) -> float:
        return a / b if b else number

    return {"ema": ema, "ratio": ratio, **ON_NUMBERS}[step.op]


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _number(value: float | None, *, there: bool) -> float:
    """Return a number of a state, or NaN where there has to be none."""
    if there != (value is not None) or not (value is None or (type(value) is float and math.isfinite(value))):
        raise ValueError(f"{value!s:.20} where {'a finite number' if there else 'nothing'} has to be")
    return math.nan if value is None else value


def _is_time(time: Any) -> bool:  # noqa: ANN401  it comes from a file
    return type(time) is int and time % MINUTE == 0 and abs(time) < 2**53
