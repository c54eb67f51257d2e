"""What an audit looks at: everything between candles and probabilities, and which rows a model was made from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.labels import CLASSES, LabelRule, classify, fit_theta, label_moves
from crpbot.errors import DatasetError
from crpbot.market.candles import Candles, utc
from crpbot.market.source import SourceKind
from crpbot.model.training import Rows
from crpbot.quality.metrics import Floats, Ints

Predict = Callable[[Floats], Floats]
Fit = Callable[[Rows, Rows], Predict]

FEWEST_ROWS = 100


@dataclass(frozen=True, eq=False, kw_only=True)
class Blocks:
    """Which rows of one symbol were used for what, by the open time of their candles in milliseconds of UTC.

    Attributes:
        train: weights and scaler were fitted on these; None where nobody knows.
        calibration: early stopping and temperature used these; empty where there were none.
        test: the result was measured on these.

    """

    train: Ints | None
    calibration: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    test: Ints


@dataclass(frozen=True, eq=False)
class Part:
    """Labelled rows of one symbol that were used for one thing, in the order of time."""

    x: Floats
    y: Ints
    time: Ints
    known: Ints

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True, eq=False, kw_only=True)
class Table:
    """One symbol's rows in their blocks; `train` is None where nobody knows."""

    train: Part | None
    calibration: Part
    test: Part
    every: Part

    @property
    def blocks(self) -> tuple[tuple[str, Part], ...]:
        """The blocks that are there, by name, in the order in which they should lie."""
        named = (("training", self.train), ("calibration", self.calibration), ("test", self.test))
        return tuple((name, part) for name, part in named if part is not None and len(part))


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

    @cached_property
    def tables(self) -> Mapping[str, Table]:
        """The rows of each symbol, labelled by us: the labels of the pipeline are not believed."""
        return {symbol: self._table(symbol, blocks) for symbol, blocks in self.blocks.items()}

    @cached_property
    def test(self) -> Part:
        """The test rows of all symbols, one symbol after the other."""
        return joined([table.test for table in self.tables.values()])

    @cached_property
    def train(self) -> Part | None:
        """The training rows of all symbols; None where nobody knows them."""
        parts = [table.train for table in self.tables.values() if table.train is not None]
        return joined(parts) if len(parts) == len(self.tables) else None

    @cached_property
    def probabilities(self) -> Floats:
        """What is said of the test rows, shape `(n, 3)`."""
        p = np.asarray(self.predict(self.test.x), np.float64)
        if p.shape != (len(self.test), len(CLASSES)) or not np.isfinite(p).all():
            wanted = (len(self.test), len(CLASSES))
            raise DatasetError(
                f"a pipeline must predict finite probabilities of shape {wanted}, found {p.shape}; order them DOWN, NEUTRAL, UP"
            )
        return p

    def _table(self, symbol: str, blocks: Blocks) -> Table:
        candles = self.candles[symbol]
        time, x = self.features(candles)
        _check_rows(candles, time, x, self.names, symbol)
        moves, known = label_moves(candles, self.rule, max_gap_minutes=self.max_gap_minutes)
        place = np.searchsorted(candles.time, time)
        labelled = np.isfinite(moves[place])
        time, x, moves, known = time[labelled], x[labelled], moves[place][labelled], known[place][labelled]
        chosen = {
            name: None if times is None else _rows_at(time, times, f"{symbol}: the {name} block")
            for name, times in (("training", blocks.train), ("calibration", blocks.calibration), ("test", blocks.test))
        }
        fitted_on = chosen["training"] if chosen["training"] is not None and len(chosen["training"]) else slice(None)
        theta = self.theta
        if theta is None:
            theta = fit_theta(moves[fitted_on], self.rule, neutral_share=self.neutral_share)
        every = Part(x, classify(moves, theta), time, known)
        training, calibration, test = (None if rows is None else part_of(every, rows) for rows in chosen.values())
        assert calibration is not None
        assert test is not None
        if len(test) < FEWEST_ROWS:
            raise DatasetError(
                f"{symbol}: an audit needs at least {FEWEST_ROWS} test rows, found {len(test)}; bring more candles"
            )
        return Table(train=training, calibration=calibration, test=test, every=every)


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


def part_of(part: Part, rows: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Part:
    """Return some rows of a part."""
    return Part(part.x[rows], part.y[rows], part.time[rows], part.known[rows])


def joined(parts: list[Part]) -> Part:
    """Return the rows of all parts, one part after the other."""
    if len(parts) == 1:
        return parts[0]
    return Part(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("x", "y", "time", "known")))


def _rows_at(time: Ints, wanted: Ints, words: str) -> NDArray[np.intp]:
    """Return the rows at the wanted times; half of them at least must be there."""
    wanted = np.unique(wanted)
    place = np.searchsorted(time, wanted)
    there = time[np.minimum(place, len(time) - 1)] == wanted if len(time) else np.zeros(len(wanted), bool)
    if len(wanted) and there.mean() < 0.5:
        raise DatasetError(
            f"{words} must be of these candles, found {int(there.sum())} of its {len(wanted)} rows there; bring the candles that "
            "it was made from"
        )
    found: NDArray[np.intp] = place[there]
    return found
