"""What models say of every candle of a market: probabilities, labels, and which rows they may be judged on."""

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.assemble import compact, labelled_rows
from crpbot.dataset.features.compute import compute_features, rows_with_features
from crpbot.dataset.features.sets import average_true_range
from crpbot.dataset.labels import UNLABELLED, LabelRule, classify, fit_theta, label_digest, label_moves, of_stand_ins
from crpbot.errors import PlanError
from crpbot.market.candles import Candles
from crpbot.quality.diagnosis import check_enough
from crpbot.signals.ensemble import ANY, Floats, average, most_disagreement, same_question, widest
from crpbot.signals.follow import Rows

if TYPE_CHECKING:
    from crpbot.model.checkpoint import Checkpoint, Label, Origin
    from crpbot.model.recipe import Recipe
    from crpbot.model.subject import Subject


@dataclass(frozen=True, eq=False, kw_only=True)
class Heard:
    """What was said of some rows; every column has shape `(n,)`, oldest first.

    Attributes:
        rows: candles that they are of.
        probabilities: of DOWN, NEUTRAL and UP, shape `(n, 3)`.
        y: labels, −1 where there is none: the horizon reaches over a gap or the end, or a stand-in is looked at.
        known: when each label is known, in milliseconds of UTC; 0 where there is none.
        atr: average true range of 14 candles, in quote currency; NaN where a segment is younger.
        disagreement: of the members of an ensemble, as in `Prediction`, the largest of several; None where none is an ensemble.
        most_disagreement: above which there is no signal.

    """

    rows: Rows
    probabilities: Floats
    y: NDArray[np.int64]
    known: NDArray[np.int64]
    atr: Floats
    disagreement: Floats | None = None
    most_disagreement: float = ANY

    @property
    def agreed(self) -> NDArray[np.bool_]:
        """On which rows the members agree enough, shape `(n,)`."""
        return np.ones(len(self.rows), bool) if self.disagreement is None else self.disagreement <= self.most_disagreement


@dataclass(frozen=True, eq=False, kw_only=True)
class Voice:
    """Models that answer one question, as one.

    Attributes:
        subjects: the models.
        weights: of each in the average; None for equal ones.
        label_recipe: whose label a foreign model is taken to have.

    Raises:
        PlanError: they are of several markets, or their labels have several rules.

    """

    subjects: tuple["Subject", ...]
    weights: tuple[float, ...] | None
    label_recipe: "Recipe"

    def __post_init__(self) -> None:
        same_question([(None if one is None else one.symbol, self._recipe(one).label.rule) for one in self._checkpoints])

    @property
    def rule(self) -> LabelRule:
        """The rule of their labels."""
        return self._recipe(self._checkpoints[0]).label.rule

    @property
    def max_gap_minutes(self) -> int:
        """Missing minutes that do not yet start a new segment, for labels and for the average true range."""
        return self._recipe(self._checkpoints[0]).features.max_gap_minutes

    @property
    def label(self) -> "Label | None":
        """What the classes mean; of several models the first speaks, as their θ may differ. None for a foreign model."""
        first = self._checkpoints[0]
        return None if first is None else first.label

    @property
    def origin(self) -> "Origin | None":
        """Where the model comes from whose unseen rows begin last; None where one is foreign: nobody knows what that has seen."""
        origins = [None if one is None else one.origin for one in self._checkpoints]
        known = [one for one in origins if one is not None]
        return max(known, key=lambda one: one.unseen_from) if len(known) == len(origins) else None

    @property
    def _checkpoints(self) -> tuple["Checkpoint | None", ...]:
        return tuple(subject.checkpoint for subject in self.subjects)

    def _recipe(self, checkpoint: "Checkpoint | None") -> "Recipe":
        return (checkpoint.recipe if checkpoint else None) or self.label_recipe

    def unseen(self, candles: Candles) -> Rows:
        """Return the candles that may be judged: with features, and ours only those that no model has seen.

        Raises:
            DatasetError: fewer than 100 are left.

        """
        rows, origin = self._featured(candles), self.origin
        if origin is not None:
            rows = rows[candles.time[rows] >= origin.unseen_from]
        check_enough(len(rows), origin, what="a backtest")
        return rows

    def calibrated(self, candles: Candles) -> Rows:
        """Return the candles of the calibration block, of several models those that all were calibrated on.

        Raises:
            PlanError: a model is foreign, or the candles are not those that it was made from.

        """
        blocks = [_calibration(one, candles) for one in self._checkpoints]
        rows = reduce(np.intersect1d, [*blocks, self._featured(candles)])
        if not len(rows):
            raise PlanError("models of one ensemble must share calibration rows to choose a threshold, found none; say a number")
        return rows

    def hear(self, candles: Candles, rows: Rows) -> Heard:
        """Return what the models say of `rows`, which have features."""
        said = []
        for subject, checkpoint in zip(self.subjects, self._checkpoints, strict=True):
            gap = self._recipe(checkpoint).features.max_gap_minutes
            found = compute_features(candles, subject.feature_set, max_gap_minutes=gap)
            x = found.values[compact(np.searchsorted(found.rows, rows))]
            if subject.features != found.names:
                x = x[:, [found.names.index(name) for name in subject.features]]
            said.append(subject.predict(x))
        moves, known = label_moves(candles, self.rule, max_gap_minutes=self.max_gap_minutes)
        labelled = (np.isfinite(moves) & ~of_stand_ins(candles, known))[rows]
        moves, known = moves[rows], known[rows]
        share = self.label_recipe.label.neutral_share
        theta = (
            self.label.theta
            if self.label
            else fit_theta(moves[labelled], self.rule, neutral_share=share)
            if labelled.any()
            else 0
        )
        atr = np.full(len(candles), np.nan)
        ranges = compute_features(candles, average_true_range(), max_gap_minutes=self.max_gap_minutes)
        atr[ranges.rows] = ranges.values[:, 0]
        return Heard(
            rows=rows,
            probabilities=average([one.probabilities for one in said], weights=self.weights),
            y=np.where(labelled, classify(moves, theta), UNLABELLED),
            known=np.where(labelled, known, 0),
            atr=atr[rows],
            disagreement=widest([one.disagreement for one in said]),
            most_disagreement=most_disagreement(None if one is None else one.recipe for one in self._checkpoints),
        )

    def _featured(self, candles: Candles) -> Rows:
        rows = [
            rows_with_features(candles, subject.feature_set, max_gap_minutes=self._recipe(checkpoint).features.max_gap_minutes)
            for subject, checkpoint in zip(self.subjects, self._checkpoints, strict=True)
        ]
        both: Rows = reduce(np.intersect1d, rows)
        return both if candles.filled is None else both[~candles.filled[both]]


def _calibration(checkpoint: "Checkpoint | None", candles: Candles) -> Rows:
    """Return the candles of the calibration block of a model of ours, after proof that they are the ones it was made from."""
    if checkpoint is None or checkpoint.recipe is None or checkpoint.origin is None or checkpoint.label is None:
        raise PlanError(
            "only a model of ours has a calibration block to choose a threshold on, found a foreign one; say a number"
        )
    recipe, origin, label = checkpoint.recipe, checkpoint.origin, checkpoint.label
    gap = recipe.features.max_gap_minutes
    found = labelled_rows(candles, recipe.features.table, recipe.label.rule, max_gap_minutes=gap)
    time, y = candles.time[found.rows], classify(found.moves, label.theta)
    blocks = [
        np.arange(start := int(np.searchsorted(time, first)), min(start + rows, len(time)))
        for first, rows in (
            (origin.training_from, origin.training_rows),
            (origin.calibration_from, origin.calibration_rows),
        )
    ]
    seen = np.concatenate(blocks)
    if label_digest(time[seen], y[seen]) != label.sha256:
        raise PlanError(
            "a threshold can be chosen only on the very rows that a model was calibrated on, found other candles; "
            "bring those that it was made from, followed by later ones, or say a number"
        )
    return found.rows[blocks[1]]
