"""One voice of several models: the average of what they say, the side that follows from it, and whether they agree enough.

The founding code once took 1 − P(UP) for the confidence of a short. With two classes that is P(DOWN); with three it is
P(DOWN) + P(NEUTRAL), and a model that is sure of NEUTRAL becomes a confident short. Here a side is the more probable of DOWN and
UP, and its confidence is that very class's own probability.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.features.sets import FeatureSet
from crpbot.dataset.labels import CLASSES, DOWN, NEUTRAL, UP, LabelRule
from crpbot.errors import PlanError
from crpbot.quality.selective import SIGNAL, sides
from crpbot.signals.plan import Side

if TYPE_CHECKING:
    from crpbot.model.checkpoint import Label, Prediction
    from crpbot.model.recipe import Recipe
    from crpbot.model.weights import Weights

Floats = NDArray[np.float64]

THRESHOLD = SIGNAL
"""The least confidence that makes a signal, unless somebody says another."""
ANY = 0.5
"""No disagreement is above this: the standard deviation of numbers between 0 and 1."""


class Speaker(Protocol):
    """A model that may speak: a checkpoint of ours, in whatever form it is deployed."""

    @property
    def symbol(self) -> str | None:
        """Of its market; None for a foreign one."""

    @property
    def recipe(self) -> "Recipe | None":
        """What it was made by, likewise."""

    @property
    def label(self) -> "Label | None":
        """What its classes mean, likewise."""

    @property
    def feature_set(self) -> FeatureSet:
        """The formulas of its inputs, all of them and in their order."""

    @property
    def weights(self) -> "Weights":
        """All numbers of the network."""

    def predict(self, x: Floats) -> "Prediction":
        """Predict rows of raw features, shape `(n, len(feature_set))`, calibrated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What probabilities say of a side.

    Attributes:
        side: the more probable of UP (LONG) and DOWN (SHORT).
        confidence: the probability of that very class.
        probabilities: of DOWN, NEUTRAL and UP.
        reason: why there is no signal; empty where there is one.

    """

    side: Side
    confidence: float
    probabilities: tuple[float, float, float]
    reason: str


def average(probabilities: Sequence[Floats], *, weights: Sequence[float] | None = None) -> Floats:
    """Return the weighted average of calibrated probabilities, shape `(n, 3)`.

    Args:
        probabilities: of each member, shape `(n, 3)`: DOWN, NEUTRAL, UP of the same rows. A row that is not finite in one member
            is not finite in the average: a member that is broken is not outvoted.
        weights: of the members, at least 0, any sum above 0; equal by default.

    Raises:
        PlanError: there is no member, they have other shapes, or the weights do not fit.

    """
    shapes = {member.shape for member in probabilities}
    if len(shapes) != 1 or next(iter(shapes))[1:] != (len(CLASSES),):
        raise PlanError(
            f"members must speak of the same rows, {len(CLASSES)} probabilities each; found shapes {sorted(shapes)}; correct them"
        )
    share = np.ones(len(probabilities)) if weights is None else np.asarray(weights, np.float64)
    if share.shape != (len(probabilities),) or not (np.isfinite(share).all() and (share >= 0).all() and share.sum() > 0):
        raise PlanError(
            f"weights must be one finite number of at least 0 for each of {len(probabilities)} models, not all 0; "
            f"found {[float(one) for one in np.atleast_1d(share)]}; correct them"
        )
    together: Floats = np.tensordot(share / share.sum(), np.stack(probabilities), axes=1)
    return together


def widest(disagreements: Sequence[Floats | None]) -> Floats | None:
    """Return the largest disagreement inside any of several models, shape `(n,)`; None where none is an ensemble itself."""
    found = [one for one in disagreements if one is not None]
    return np.max(found, axis=0) if found else None


def most_disagreement(recipes: "Iterable[Recipe | None]") -> float:
    """Return the disagreement of members above which there is no signal; of several models that of the strictest."""
    ensembles = (one.ensemble for one in recipes if one is not None and one.ensemble.members > 1)
    return min((one.most_disagreement for one in ensembles), default=ANY)


def same_question(asked: Sequence[tuple[str | None, LabelRule]]) -> None:
    """Check that models answer one question: the same market, and labels of the same rule. Their θ may differ.

    Args:
        asked: symbol and rule of each model.

    Raises:
        PlanError: there is none, or two that differ.

    """
    if not asked:
        raise PlanError("an ensemble must have at least one model, found none; name one")
    symbol, rule = asked[0]
    for other_symbol, other in asked[1:]:
        if other_symbol != symbol:
            raise PlanError(f"models of one ensemble must be of one market, found {symbol} and {other_symbol}; leave one out")
        if _meaning(other) != _meaning(rule):
            raise PlanError(
                f"models of one ensemble must have labels of the same rule, found {rule} and {other}; "
                "their average would mean nothing: leave one out"
            )


def _meaning(rule: LabelRule) -> tuple[object, ...]:
    return (rule.kind, rule.horizon, rule.exits if rule.kind == "triple-barrier" else None)


def opinion(
    probabilities: Sequence[float] | Floats, *, threshold: float = THRESHOLD, disagreement: float | None = None, most: float = ANY
) -> Opinion:
    """Return what the probabilities of DOWN, NEUTRAL and UP say of one candle; `spoken` says the same of many.

    >>> opinion((0.10, 0.15, 0.75)).side, opinion((0.10, 0.15, 0.75)).confidence
    ('LONG', 0.75)
    >>> opinion((0.05, 0.90, 0.05)).reason  # 1 − P(UP) would be a short with 95 %
    'NEUTRAL is the most probable, 90.0%'

    Args:
        probabilities: finite, shape `(3,)`.
        threshold: the least confidence that makes a signal.
        disagreement: of the members of an ensemble, as in `Prediction`; None for single networks.
        most: the largest disagreement with which there is a signal.

    """
    down, neutral, up = (float(probabilities[one]) for one in (DOWN, NEUTRAL, UP))
    side: Side = "LONG" if up > down else "SHORT"
    confidence = max(up, down)
    reason = ""
    if neutral >= confidence:
        reason = f"NEUTRAL is the most probable, {neutral:.1%}"
    elif up == down:
        reason = f"DOWN and UP are equally probable, {up:.1%}"
    elif confidence < threshold:
        reason = f"its confidence {confidence:.1%} is below {_threshold(threshold)}"
    elif disagreement is not None and not disagreement <= most:
        reason = (
            f"its members disagree by {_points(disagreement, most)} points, at most {_points(most, disagreement)} are allowed"
        )
    return Opinion(side=side, confidence=confidence, probabilities=(down, neutral, up), reason=reason)


def spoken(
    probabilities: Floats, *, threshold: float, disagreement: Floats | None = None, most: float = ANY
) -> tuple[NDArray[np.int8], Floats]:
    """Return for each row 1 for a long, −1 for a short, 0 for no signal, and the side's own probability; shapes `(n,)`.

    The arguments are those of `opinion`, for many rows: `disagreement` has shape `(n,)`.
    """
    side, confidence = sides(probabilities)
    sign = np.where(side == UP, 1, -1).astype(np.int8)
    heard = (confidence > 0) & (confidence >= threshold)
    if disagreement is not None:
        heard &= disagreement <= most
    return np.where(heard, sign, np.int8(0)), confidence


def _points(share: float, beside: float) -> str:
    """Write a share in points, with as many digits as tell it from another.

    >>> _points(0.0612, 0.04), _points(0.04, 0.0612), _points(0.04001, 0.04)
    ('6.1', '4.0', '4.001')
    """
    digits = next((n for n in range(1, 9) if f"{100 * share:.{n}f}" != f"{100 * beside:.{n}f}"), 9)
    return f"{100 * share:.{digits}f}"


def _threshold(threshold: float) -> str:
    """Write a threshold.

    >>> _threshold(0.6), _threshold(0.555)
    ('60%', '55.5%')
    """
    return f"{100 * threshold:.4g}%"
