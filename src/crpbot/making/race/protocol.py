"""The protocol of a race: which candles a contender may know in a fold, what the answers mean, and which rows are judged.

One question for all: label, neutral share and split are those of the reference recipe, and θ comes from its training rows. The
folds are those of `cut_fold`; the last is the recipe's own split but for a row of rounding, and its test block is the test block
of the race. So many folds that it would be shorter are refused: others would choose by rows of the recipe's own test block. A
contender is handed the candles of its fold and nothing after them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.assemble import Dataset, labelled_rows
from crpbot.dataset.features.compute import rows_with_features
from crpbot.dataset.labels import UNLABELLED, LabelRule, average_uniqueness, classify, fit_theta
from crpbot.dataset.splits import FEWEST_ROWS, Split
from crpbot.errors import DatasetError, RecipeError
from crpbot.making.model import cut_fold
from crpbot.market.candles import Candles
from crpbot.model.plain import digest
from crpbot.model.recipe import Recipe
from crpbot.quality.metrics import Ints, shares

VERSION = "crpbot.race/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The moments of a block, in milliseconds of UTC.

    Attributes:
        first, last: open time of its first and last candle.
        known: when the last of its labels is known.

    """

    first: int
    last: int
    known: int

    def rows(self, time: Ints, known: Ints) -> slice:
        """Return the rows of these moments, up to the first whose label is known later than any of the block."""
        start, stop = int(np.searchsorted(time, self.first)), int(np.searchsorted(time, self.last, side="right"))
        late = known[start:stop] > self.known
        return slice(start, start + int(late.argmax()) if late.any() else stop)


@dataclass(frozen=True, eq=False, kw_only=True)
class Ground:
    """What a contender is handed of one fold of one symbol, apart from the candles: no label of the block that is judged.

    Attributes:
        symbol: of the market.
        fold: from 1, the oldest; the last is the split of the recipe itself, but for a row of rounding.
        rule: what decides a label, apart from θ.
        max_gap_minutes: missing minutes that do not yet start a new segment.
        candles_sha256: digest of the candles that the fold may know.
        train, calibration: when these blocks are.
        theta: of the training rows of the reference.
        shares: of the classes among them, shape `(3,)`.
        judged: open time of the candles that every contender is judged on, shape `(n,)`.

    """

    symbol: str
    fold: int
    rule: LabelRule
    max_gap_minutes: int
    candles_sha256: str
    train: Span
    calibration: Span
    theta: float
    shares: tuple[float, ...]
    judged: Ints

    @property
    def name(self) -> str:
        """Symbol and fold, for people."""
        return f"{self.symbol}/fold-{self.fold}"

    @cached_property
    def key(self) -> str:
        """The digest of all of it."""
        plain = {name: value for name, value in asdict(self).items() if name != "judged"}
        return digest({**plain, "judged": hashlib.sha256(self.judged.astype("<i8").tobytes()).hexdigest()})

    def blocks(self, data: Dataset) -> Split:
        """Cut rows of any feature set at the moments of this fold.

        Raises:
            DatasetError: a block has fewer than 100 rows.

        """
        train, calibration = (span.rows(data.time, data.known) for span in (self.train, self.calibration))
        for name, block in (("training", train), ("calibration", calibration)):
            if block.stop - block.start < FEWEST_ROWS:
                raise DatasetError(
                    f"each block must have at least {FEWEST_ROWS} rows, found {block.stop - block.start} in the {name} block of "
                    f"{self.name}; bring more candles"
                )
        test = slice(*(int(n) for n in np.searchsorted(data.time, [self.judged[0], self.judged[-1] + 1])))
        return Split(train, calibration, test, dropped={})

    def labels(self, data: Dataset, blocks: Split) -> Ints:
        """Return the labels of the training and the calibration block; every other row is unlabelled."""
        y = np.full(len(data), UNLABELLED, np.int64)
        for block in (blocks.train, blocks.calibration):
            y[block] = classify(data.moves[block], self.theta)
        return y

    def rows(self, data: Dataset) -> NDArray[np.intp]:
        """Return which rows are judged."""
        rows = np.searchsorted(data.time, self.judged)
        assert np.array_equal(data.time[rows], self.judged)
        return rows


@dataclass(frozen=True, eq=False, kw_only=True)
class Truth:
    """What came of the rows that are judged; it stays with whoever judges.

    Attributes:
        time: open time of each row's candle, in milliseconds of UTC, shape `(n,)`.
        known: when each label is known, likewise.
        y: labels, shape `(n,)`.

    """

    time: Ints
    known: Ints
    y: Ints

    @cached_property
    def effective_rows(self) -> float:
        """How many independent outcomes the labels carry."""
        return float(average_uniqueness(self.time, self.known).sum())


def cut_ground(
    symbol: str, candles: Candles, reference: Recipe, others: Sequence[Recipe], *, fold: int, folds: int
) -> tuple[Ground, Candles, Truth]:
    """Cut one fold: what contenders are handed, the candles that they may know, and what only the judge knows.

    Args:
        symbol: of the market.
        candles: of that symbol, all of them.
        reference: recipe whose rows are cut.
        others: recipes of the contenders; judged are the candles that have features in the sets of all of them.
        fold: from 1, the oldest.
        folds: how many there are.

    Raises:
        DatasetError: the candles are too few.

    """
    features, rule = reference.features, reference.label.rule
    known, split = cut_fold(symbol, candles, reference, fold=fold, folds=folds)
    found = labelled_rows(known, features.table, rule, max_gap_minutes=features.max_gap_minutes)
    time = known.time[found.rows]

    def span(block: slice) -> Span:
        return Span(first=int(time[block.start]), last=int(time[block.stop - 1]), known=int(found.known[block].max()))

    theta = fit_theta(found.moves[split.train], rule, neutral_share=reference.label.neutral_share)
    common = np.ones(split.test.stop - split.test.start, bool)
    for table in {one.features.table.sha256: one.features.table for one in others}.values():
        theirs = rows_with_features(known, table, max_gap_minutes=features.max_gap_minutes)
        common &= np.isin(found.rows[split.test], theirs, assume_unique=True)
    if common.sum() < FEWEST_ROWS:
        raise DatasetError(
            f"{symbol}: each block must have at least {FEWEST_ROWS} rows that all contenders have features of, found "
            f"{int(common.sum())} in fold {fold}; bring more candles"
        )
    ground = Ground(
        symbol=symbol,
        fold=fold,
        rule=rule,
        max_gap_minutes=features.max_gap_minutes,
        candles_sha256=known.sha256,
        train=span(split.train),
        calibration=span(split.calibration),
        theta=theta,
        shares=tuple(shares(classify(found.moves[split.train], theta)).tolist()),
        judged=time[split.test][common],
    )
    truth = Truth(time=ground.judged, known=found.known[split.test][common], y=classify(found.moves[split.test][common], theta))
    return ground, known, truth


def check_folds(reference: Recipe, folds: int) -> None:
    """Raise `RecipeError` where the last of so many folds is not the recipe's own split, but has a shorter test block."""
    split = reference.split
    test = 1 - split.train - split.calibration
    most = int((1 - split.calibration) / test - 1 + 1e-9)  # see `cut_fold`; what is left after training is rounded
    if folds > most:
        raise RecipeError(
            f"the last fold must be the split of {reference.name}, whose test block has {100 * test:.3g} % of the rows: at most "
            f"{most} {'fold is' if most == 1 else 'folds are'} possible, found {folds}; "
            f"{'lower --folds' if most else 'raise split.train'}"
        )


def check_same_question(reference: Recipe, recipe: Recipe) -> None:
    """Raise `RecipeError` where a recipe asks something else than the reference, and so cannot be compared with it."""
    ours, theirs = reference.to_dict(), recipe.to_dict()
    for section in ("label", "split"):
        differ = [key for key in ours[section] if ours[section][key] != theirs[section][key]]
        if differ:
            key = differ[0]
            raise RecipeError(
                f"every contender must have the [{section}] of {reference.name}, found {section}.{key} = "
                f"{theirs[section][key]!r} in {recipe.name}, not {ours[section][key]!r}; race it with --recipe {recipe.name}"
            )
    if reference.features.max_gap_minutes != recipe.features.max_gap_minutes:  # it decides which candles have a label
        raise RecipeError(
            f"every contender must have the features.max_gap_minutes of {reference.name}, found "
            f"{recipe.features.max_gap_minutes} in {recipe.name}, not {reference.features.max_gap_minutes}; correct it"
        )
