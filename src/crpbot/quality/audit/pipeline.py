"""What an audit looks at: everything between candles and probabilities, and which rows a model was made from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.assemble import compact
from crpbot.dataset.labels import CLASSES, LabelRule, classify, fit_theta, label_moves, of_stand_ins
from crpbot.errors import DatasetError
from crpbot.market.candles import MINUTE, Candles, utc
from crpbot.market.source import SourceKind
from crpbot.model.fitting import Dated
from crpbot.quality.bootstrap import Resamples, resample
from crpbot.quality.metrics import Floats, Ints, Mean

Predict = Callable[[Floats], Floats]
Fit = Callable[[Dated, Dated], Predict]

FEWEST_ROWS = 100


@dataclass(frozen=True, eq=False, kw_only=True)
class Blocks:
    """Which rows of one symbol were used for what, by the open time of their candles in milliseconds of UTC.

    Attributes:
        train: weights and scaler were fitted on these; None where nobody knows, empty where it was only tested on.
        calibration: early stopping and temperature used these; empty where there were none.
        test: the result was measured on these; empty for a symbol that was only trained on.

    """

    train: Ints | None
    calibration: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    test: Ints

    def __post_init__(self) -> None:
        for name in ("train", "calibration", "test"):
            times = getattr(self, name)
            if times is None and name == "train":
                continue
            times = np.asarray(times)
            if np.issubdtype(times.dtype, np.datetime64):
                times = times.astype("datetime64[ms]").astype(np.int64)
            if times.ndim != 1 or not (np.issubdtype(times.dtype, np.integer) or len(times) == 0):
                raise DatasetError(f"the {name} block must be times in milliseconds of UTC, found {times.dtype}; convert them")
            object.__setattr__(self, name, np.unique(times.astype(np.int64)))


@dataclass(frozen=True, eq=False)
class Part:
    """Labelled rows that were used for one thing, in the order of time within each symbol."""

    x: Floats
    y: Ints
    time: Ints
    known: Ints

    def __len__(self) -> int:
        return len(self.time)

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """The rows by time, whatever their symbol: symbols move together, so a block of time holds the rows of all of them."""
        return np.argsort(self.time, kind="stable")

    def mean(self, x: Floats) -> Mean:
        """Return the mean of `x`, one number a row, with its block standard error; the draws are the same for all, so paired."""
        return self._resamples.mean(x[self.order])

    @cached_property
    def _resamples(self) -> Resamples:
        return resample(self.time[self.order], known=self.known[self.order])


@dataclass(frozen=True, eq=False)
class Used:
    """When rows were used, whether or not the candles that were brought hold them.

    Attributes:
        time: open time of each row's candle.
        known: when its label is known; after the whole horizon for rows that are not among the candles.

    """

    time: Ints
    known: Ints

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True, eq=False, kw_only=True)
class Table:
    """One symbol's rows.

    Attributes:
        train: None where nobody knows.
        calibration, test: as they were used.
        every: labelled row of its candles.
        used: the same blocks as they were named, with rows that are not among the candles.

    """

    train: Part | None
    calibration: Part
    test: Part
    every: Part
    used: Mapping[str, Used]

    @property
    def fitted(self) -> Used:
        """Rows that the fit has seen: training and calibration."""
        parts = [self.used[name] for name in ("training", "calibration") if name in self.used]
        return Used(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("time", "known")))


@dataclass(frozen=True, eq=False, kw_only=True)
class Pipeline:
    """A model with everything that its result depends on.

    Attributes:
        candles: by symbol.
        features: the time of each row, shape `(n,)`, and its raw features, shape `(n, len(names))`, from candles of one symbol:
            of every candle that has features, whether or not it has a label.
        names: of the features, in their order.
        predict: probabilities of DOWN, NEUTRAL and UP, shape `(n, 3)`, from raw features.
        rule: what the classes mean.
        blocks: which rows were used for what, by symbol.
        theta: log return within which a move is NEUTRAL; None fits it on each symbol's training rows, by `neutral_share`.
        neutral_share: share of NEUTRAL labels, where θ has to be fitted.
        scaler: mean and scale that the features are standardized with; None where there is none.
        fit: trains the same recipe on other rows: training rows, calibration rows → `predict`; None where that cannot be done.
        max_gap_minutes: missing minutes that labels may cross.
        source: kind of the candles; `synthetic` are known to be made up.

    """

    candles: Mapping[str, Candles]
    features: Callable[[Candles], tuple[Ints, Floats]]
    names: tuple[str, ...]
    predict: Predict
    rule: LabelRule
    blocks: Mapping[str, Blocks]
    theta: float | None = None
    neutral_share: float = 0.08
    scaler: tuple[Floats, Floats] | None = None
    fit: Fit | None = None
    max_gap_minutes: int = 0
    source: SourceKind = "file"

    def __post_init__(self) -> None:
        if not self.blocks or set(self.blocks) - set(self.candles):
            raise DatasetError(
                f"a pipeline must have candles of every symbol in its blocks, found {', '.join(self.blocks) or 'no blocks'} and "
                f"candles of {', '.join(self.candles) or 'nothing'}; bring both"
            )
        if self.scaler is not None and {np.shape(part) for part in self.scaler} != {(len(self.names),)}:
            shapes = " and ".join(str(np.shape(part)) for part in self.scaler)
            raise DatasetError(
                f"a scaler must have mean and scale of shape ({len(self.names)},), found {shapes}; one number a feature"
            )

    @cached_property
    def tables(self) -> Mapping[str, Table]:
        """The rows of each symbol, labelled by us: the labels of the pipeline are not believed."""
        return {symbol: self._table(symbol, blocks) for symbol, blocks in self.blocks.items()}

    @property
    def told(self) -> bool:
        """Whether it is known for every symbol which rows were trained on, whether or not the candles hold them."""
        used = [table.used.get("training") for table in self.tables.values()]
        return all(one is not None for one in used) and any(len(one) for one in used if one is not None)

    @cached_property
    def test(self) -> Part:
        """The test rows of all symbols, one symbol after the other."""
        found = joined([table.test for table in self.tables.values()])
        if len(found) < FEWEST_ROWS:
            raise DatasetError(
                f"an audit needs at least {FEWEST_ROWS} test rows among the candles, found {len(found)}; bring the candles that "
                "the model was judged on"
            )
        return found

    @cached_property
    def train(self) -> Part | None:
        """The training rows of all symbols; None where nobody knows them, or the candles hold none."""
        parts = [table.train for table in self.tables.values() if table.train is not None]
        known = len(parts) == len(self.tables) and any(map(len, parts))
        return joined(parts) if known else None

    @cached_property
    def probabilities(self) -> Floats:
        """What is said of the test rows, shape `(n, 3)`."""
        return predicted_by(self.predict, self.test.x)

    @cached_property
    def predicted(self) -> Ints:
        """The most probable class of each test row."""
        classes: Ints = self.probabilities.argmax(axis=1)
        return classes

    def _table(self, symbol: str, blocks: Blocks) -> Table:
        candles = self.candles[symbol]
        time, x = self.features(candles)
        _check_rows(candles, time, x, self.names, symbol)
        moves, known = label_moves(candles, self.rule, max_gap_minutes=self.max_gap_minutes)
        place = np.searchsorted(candles.time, time)
        labelled = compact(np.flatnonzero((np.isfinite(moves) & ~of_stand_ins(candles, known))[place]))
        time, x, moves, known = time[labelled], x[labelled], moves[place][labelled], known[place][labelled]
        named = {"training": blocks.train, "calibration": blocks.calibration, "test": blocks.test}
        rows = {name: _rows_at(time, times) for name, times in named.items() if times is not None}
        theta = self.theta
        if theta is None:
            fitted_on = rows["training"] if len(moves[rows.get("training", slice(0))]) else slice(None)
            theta = fit_theta(moves[fitted_on], self.rule, neutral_share=self.neutral_share)
        every = Part(x, classify(moves, theta), time, known)
        reach = MINUTE * (1 + self.rule.horizon)
        return Table(
            train=part_of(every, rows["training"]) if "training" in rows else None,
            calibration=part_of(every, rows["calibration"]),
            test=part_of(every, rows["test"]),
            every=every,
            used={name: _used(every, times, reach) for name, times in named.items() if times is not None},
        )


def _used(every: Part, times: Ints, reach: int) -> Used:
    place = np.minimum(np.searchsorted(every.time, times), max(len(every) - 1, 0))
    there = every.time[place] == times if len(every) else np.zeros(len(times), bool)
    return Used(times, np.where(there, every.known[place], times + reach) if len(every) else times + reach)


def _rows_at(time: Ints, wanted: Ints) -> NDArray[np.intp] | slice:
    """Return the rows at the wanted times, as far as they are there."""
    return compact(np.flatnonzero(np.isin(time, wanted)))


def predicted_by(predict: Predict, x: Floats) -> Floats:
    """Return what a function says of rows, shape `(n, 3)`, and refuse what is no probability."""
    p = np.asarray(predict(x), np.float64)
    wanted = (len(x), len(CLASSES))
    if p.shape != wanted or not np.isfinite(p).all():
        raise DatasetError(
            f"a pipeline must predict finite probabilities of shape {wanted}, found shape {p.shape}"
            f"{'' if p.shape != wanted else ' with others'}; order them DOWN, NEUTRAL, UP"
        )
    return p


def _check_rows(candles: Candles, time: Ints, x: Floats, names: tuple[str, ...], symbol: str) -> None:
    if x.shape != (len(time), len(names)):
        raise DatasetError(f"{symbol}: features must have shape ({len(time)}, {len(names)}), found {x.shape}; one column a name")
    if (np.diff(time) <= 0).any() or not np.isin(time, candles.time).all():
        raise DatasetError(f"{symbol}: rows of features must be of its candles, in the order of time; found others; correct it")
    broken = ~np.isfinite(x)
    if broken.any():
        row, column = np.argwhere(broken)[0]
        where = f"{names[column]} at {utc(int(time[row]))}"
        raise DatasetError(f"{symbol}: features must be finite, found {x[row, column]} in {where}; drop that row")


def part_of(part: Part, rows: NDArray[np.intp] | slice) -> Part:
    """Return some rows of a part."""
    return Part(part.x[rows], part.y[rows], part.time[rows], part.known[rows])


def joined(parts: list[Part]) -> Part:
    """Return the rows of all parts, one part after the other."""
    if len(parts) == 1:
        return parts[0]
    return Part(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("x", "y", "time", "known")))
