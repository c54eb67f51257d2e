"""One market at work: its newest candles, the features of the last one, and the models that speak of it."""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from crpbot.dataset.drift import FEWEST_MINUTES, LastDay
from crpbot.dataset.features.live import LiveFeatures
from crpbot.dataset.features.sets import FeatureSet, average_true_range
from crpbot.errors import DatasetError
from crpbot.live.outcome import Terms
from crpbot.market.candles import MINUTE, Candles
from crpbot.model.checkpoint import Checkpoint
from crpbot.registry.entries import Entry
from crpbot.signals.ensemble import Floats
from crpbot.signals.follow import Costs
from crpbot.signals.plan import Preset
from crpbot.signals.rules import MarketRules
from crpbot.signals.signal import Moment, Signal, Speech, drift_of, say, speech_of

FORMAT = "crpbot.live-market/1"
PAGE = 240
"""Minutes of a market that are taken in one turn: who was away for longer catches up in several."""

Row: TypeAlias = tuple[int, float, float, float, float, float]
"""One closed candle as numbers: open time in milliseconds of UTC, open, high, low, close, volume."""
Key: TypeAlias = tuple[str, int]
"""What features of a model have to be fed: the digest of their program, and the missing minutes that they bear."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How signals are made, for every model.

    Attributes:
        threshold: the least confidence.
        preset: distances and money.
        costs: of trading, for what becomes of them.

    """

    threshold: float
    preset: Preset
    costs: Costs


@dataclass(frozen=True, eq=False, kw_only=True)
class Model:
    """One model that speaks of a market.

    Attributes:
        entry: of the registry.
        checkpoint: as it is served.
        speech: how it speaks.
        terms: how its signals are followed.
        features: its inputs.
        key: of these.

    """

    entry: Entry
    checkpoint: Checkpoint
    speech: Speech
    terms: Terms
    features: FeatureSet
    key: Key

    @property
    def lasts(self) -> int:
        """Minutes after its candle within which a signal is over, and its label known."""
        timing = self.terms.timing
        return max(self.terms.rule.horizon, timing.expiry + timing.hold if timing.from_entry else timing.hold)


def load_model(checkpoint: Checkpoint, entry: Entry, *, head: str, style: Style, rules: MarketRules) -> Model:
    """Return a model of the registry, ready to speak.

    Args:
        checkpoint: as it is served.
        entry: of the registry.
        head: of the ledger.
        style: how signals are made.
        rules: of the market.

    """
    speech = speech_of(
        (checkpoint,),
        stage=entry.stage,
        threshold=style.threshold,
        preset=style.preset,
        rules=rules,
        expires=entry.expires,
        model_sha256=entry.sha256,
        ledger_head=head,
        override=entry.override,
    )
    assert checkpoint.recipe is not None
    assert checkpoint.label is not None
    gap, features = checkpoint.recipe.features.max_gap_minutes, checkpoint.feature_set
    label = checkpoint.label
    return Model(
        entry=entry,
        checkpoint=checkpoint,
        speech=speech,
        terms=Terms(rule=label.rule, theta=label.theta, timing=speech.timing, costs=style.costs, max_gap_minutes=gap),
        features=features,
        key=(features.program.sha256, gap),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one model said of one candle, which opened at `candle`, in milliseconds of UTC."""

    model: Model
    candle: int
    signal: Signal


class Inputs:
    """The features of one program, candle by candle, the average true range, and the means of the last day.

    Args:
        features: which.
        max_gap_minutes: missing minutes that do not yet start a new segment.
        whole: whether the first candle is the beginning of its segment: nothing of it came before.

    Attributes:
        features: which.
        waiting: whether they have to be given history first, since the market goes on already.
        values: of the last candle, shape `(n_features,)`; None where it has none.
        atr: average true range of 14 candles, in quote currency; NaN where the segment is younger.
        why: nothing may be said of the last candle; empty where something may.

    """

    def __init__(self, features: FeatureSet, max_gap_minutes: int, *, whole: bool = False) -> None:
        self.features = features
        self.waiting = False
        self._live = LiveFeatures(features, max_gap_minutes=max_gap_minutes)
        self._atr = LiveFeatures(average_true_range(), max_gap_minutes=max_gap_minutes)
        self._day = LastDay()
        self._sure = whole
        self.values: Floats | None = None
        self.atr = math.nan
        self.why = ""

    def wait(self) -> None:
        """Take no candle before `learn` has brought history: the market goes on already."""
        self.waiting, self.why = True, "it waits for history"

    def learn(self, candles: Candles) -> None:
        """Take candles that nobody has to speak of."""
        for row in rows_of(candles):
            self.push(row)
        self.waiting = False

    def push(self, row: Row) -> None:
        """Take the next closed candle: `values`, shape `(n_features,)`, `atr` and `why` are of it from now on."""
        before, self.why = self._live.rows, ""
        try:
            self.values = self._live.push_numbers(*row)
        except DatasetError as error:
            self.values, self.why = None, str(error)
        ranges = self._atr.push_numbers(*row)
        self.atr = math.nan if ranges is None else float(ranges[0])
        if before and self._live.rows == 1:  # a new segment: this is its beginning
            self._sure = True
            self._day.clear()
        if self.values is not None:
            self._day.take(row[0], self.values)
        if not self.why:
            self.why = self._missing()

    def _missing(self) -> str:
        rows, features = self._live.rows, self.features
        if self.values is None:
            return f"the newest candle needs {features.warm_up} candles before it without a gap, and has {rows - 1}"
        if rows < features.memory and not self._sure:
            return f"the exponential means need {features.memory:,} candles since the beginning or a gap, and have {rows:,}"
        if (told := rows - features.warm_up) < FEWEST_MINUTES:
            return f"drift can be told from {FEWEST_MINUTES} candles with features on, and there are {told}"
        return ""

    def day(self) -> Floats | None:
        """Return the means of the last day, shape `(n_features,)`; None for too few rows."""
        return self._day.mean()

    def state(self) -> dict[str, Any]:
        """Return everything as plain JSON types; `restore` reads it back."""
        return {"features": self._live.state(), "atr": self._atr.state(), "day": self._day.state(), "sure": self._sure}

    @classmethod
    def restore(cls, features: FeatureSet, max_gap_minutes: int, state: Mapping[str, Any]) -> "Inputs":
        """Return the object whose `state` this is.

        Raises:
            DatasetError, KeyError, TypeError, ValueError: it is damaged, or of other formulas.

        """
        inputs = cls(features, max_gap_minutes)
        inputs._live = LiveFeatures.restore(features, state["features"], max_gap_minutes=max_gap_minutes)
        inputs._atr = LiveFeatures.restore(average_true_range(), state["atr"], max_gap_minutes=max_gap_minutes)
        inputs._day = LastDay.restore(state["day"], n_features=len(features))
        inputs._sure = state["sure"] is True
        if inputs._atr.time != inputs._live.time:
            raise ValueError("its parts are of other moments")
        return inputs


class Desk:
    """One market.

    Args:
        symbol: of it.
        whole: whether its first candle is the beginning of everything, as in a recording.

    Attributes:
        next: open time of the first minute that was not yet decided on, in milliseconds of UTC; None before there is history.
        silent_until: of candles that opened before nobody speaks: they are history, though they came later than the rest of it.
        models: that speak of it.

    """

    def __init__(self, symbol: str, *, whole: bool = False) -> None:
        self.symbol, self._whole = symbol, whole
        self.next: int | None = None
        self.silent_until = 0
        self.models: tuple[Model, ...] = ()
        self._inputs: dict[Key, Inputs] = {}
        self._kept: deque[Row] = deque(maxlen=2 * PAGE)

    def serve(self, models: Sequence[Model]) -> None:
        """Let these models speak from now on, and no others; inputs that another one has, too, go on as they are."""
        self.models = tuple(models)
        if not models:
            return  # who comes next may need the same inputs
        old, self._inputs = self._inputs, {}
        for model in self.models:
            inputs = old.get(model.key)
            if inputs is None:
                inputs = Inputs(model.features, model.key[1], whole=self._whole)
                if self.next is not None:
                    inputs.wait()
            self._inputs[model.key] = inputs
        self.keep(max(model.lasts for model in self.models) + PAGE + 40)

    def keep(self, candles: int) -> None:
        """Keep at least so many candles from now on: what is open looks at them."""
        if candles > (self._kept.maxlen or 0):
            self._kept = deque(self._kept, maxlen=candles)

    def begin_anew(self) -> None:
        """Forget the past of the inputs: it is too long ago to go on from."""
        self.next = None
        for model in self.models:
            self._inputs[model.key] = Inputs(model.features, model.key[1], whole=self._whole)

    @property
    def memory(self) -> int:
        """Candles that the inputs of its models have to have seen."""
        return max((model.features.memory for model in self.models), default=0)

    @property
    def waiting(self) -> tuple[Inputs, ...]:
        """Inputs that have to be given history."""
        return tuple(inputs for inputs in self._inputs.values() if inputs.waiting)

    @property
    def why(self) -> str:
        """Why no model may speak of the newest candle; empty where one may."""
        found = [self._inputs[model.key] for model in self.models]
        return found[0].why if found and all(inputs.why for inputs in found) else ""

    @property
    def first(self) -> int | None:
        """Open time of the first candle that is kept, in milliseconds of UTC; None before there is one."""
        return self._kept[0][0] if self._kept else None

    @property
    def newest(self) -> int | None:
        """Open time of the newest candle, in milliseconds of UTC; None before the first."""
        return self._kept[-1][0] if self._kept else None

    def learn(self, candles: Candles) -> None:
        """Take candles that nobody has to speak of; the first ones."""
        for inputs in self._inputs.values():
            inputs.learn(candles)
        self._kept.extend(rows_of(candles))

    def remember(self, candles: Candles) -> None:
        """Put older candles before those that are kept: what is still open looks at them."""
        rows = {row[0]: row for row in (*rows_of(candles), *self._kept)}
        self._kept = deque((rows[time] for time in sorted(rows)), maxlen=self._kept.maxlen)

    def take(self, row: Row, *, now: int) -> tuple[Said, ...]:
        """Take the next closed candle, and return what each model says of it."""
        for inputs in self._inputs.values():
            if not inputs.waiting:
                inputs.push(row)
        self._kept.append(row)
        time = row[0]
        self.next = time + MINUTE
        if time < self.silent_until:
            return ()
        return tuple(Said(model=model, candle=time, signal=self._say(model, row, now)) for model in self.models)

    def _say(self, model: Model, row: Row, now: int) -> Signal:
        inputs = self._inputs[model.key]
        heard = drift = apart = None
        if inputs.values is not None and not inputs.why:
            said = model.checkpoint.predict(inputs.values[None, :])
            heard = said.probabilities[0]
            apart = None if said.disagreement is None else float(said.disagreement[0])
            if max(heard[0], heard[2]) >= model.speech.threshold:  # nobody asks for the drift of what is not said
                drift = drift_of(model.checkpoint, inputs.day())
        moment = Moment(
            candle=row[0],
            close=row[4],
            atr=inputs.atr,
            probabilities=heard,
            disagreement=apart,
            drift=drift,
            why=inputs.why,
        )
        return say(model.speech, moment, now=now)

    def drift(self, model: Model) -> tuple[str, float] | None:
        """Return the input of a model that is farthest from what it has learned, as in `Moment`."""
        return drift_of(model.checkpoint, self._inputs[model.key].day())

    def kept(self, *, since: int) -> Candles:
        """Return the kept candles that opened at `since` or later."""
        rows = [row for row in self._kept if row[0] >= since]
        columns = np.array([row[1:] for row in rows], np.float64).reshape(-1, 5)
        return Candles(np.array([row[0] for row in rows], np.int64), *columns.T)

    def state(self) -> dict[str, Any]:
        """Return everything as plain JSON types; `restore` reads it back."""
        return {
            "format": FORMAT,
            "symbol": self.symbol,
            "next": self.next,
            "inputs": [{"program": key[0], "gap": key[1], **inputs.state()} for key, inputs in self._inputs.items()],
            "kept": list(self._kept),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; inputs of models that it does not know wait for history.

        Raises:
            DatasetError: it is damaged, or of another market; nothing is changed then.

        """
        try:
            if (state["format"], state["symbol"], type(state["next"])) != (FORMAT, self.symbol, int):
                raise ValueError("another market or version")  # noqa: TRY301  one word for all that can be wrong
            known = {(one["program"], one["gap"]): one for one in state["inputs"]}
            wanted = {model.key: model.features for model in self.models}
            inputs = {key: Inputs.restore(features, key[1], known[key]) for key, features in wanted.items() if key in known}
            kept = [_row(*row) for row in state["kept"]]
        except (DatasetError, KeyError, TypeError, ValueError) as error:
            raise DatasetError(
                f"the saved state of {self.symbol} must be whole, found: {error}; it starts from history"
            ) from None
        self._inputs |= inputs
        for key in wanted.keys() - inputs.keys():
            self._inputs[key].wait()
        self.next = state["next"]
        self._kept.extend(kept)


def _row(time: int, first: float, high: float, low: float, last: float, volume: float) -> Row:
    return int(time), float(first), float(high), float(low), float(last), float(volume)


def rows_of(candles: Candles) -> Iterable[Row]:
    """Return candles one by one, as numbers."""
    columns = (candles.time, candles.open, candles.high, candles.low, candles.close, candles.volume)
    return zip(*(column.tolist() for column in columns), strict=True)
