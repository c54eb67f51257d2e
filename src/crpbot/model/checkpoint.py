"""The checkpoint: a network and everything that must travel with it, and the header that says all but the weights."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.baselines import OneFeatureRule
from crpbot.dataset.features.sets import FeatureSet, feature_set
from crpbot.dataset.labels import CLASSES, DOWN, UP, Exits, LabelRule
from crpbot.errors import CheckpointError, RecipeError
from crpbot.market.files import SYMBOL
from crpbot.model.calibration import softmax
from crpbot.model.former import FORMAT, newest
from crpbot.model.recipe import Recipe, recipe_from_dict
from crpbot.model.weights import TINIEST, Network, Scaling, Weights, shapes_of

_Record = TypeVar("_Record")
LONGEST_TEXT = 400
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network says of some rows.

    Attributes:
        logits: after the temperature, as served, shape `(n, 3)`, float64.
        probabilities: softmax of the logits, shape `(n, 3)`.
        disagreement: how far the members of an ensemble are from each other, shape `(n,)`: the standard deviation, between them,
            of the probability of the side that they take together, the more probable of DOWN and UP. None for a single network.

    """

    logits: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    disagreement: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, logits: NDArray[np.float64], members: NDArray[np.float64] | None) -> "Prediction":
        """Return the prediction of what a network speaks: see `Network.speak`."""
        probabilities = softmax(logits)
        if members is None:
            return cls(logits, probabilities)
        side = np.where(probabilities[:, UP] > probabilities[:, DOWN], UP, DOWN)
        taken = members[:, np.arange(len(side)), side]
        return cls(logits, probabilities, (taken - taken[0]).std(axis=0))  # from the first: equal ones differ by 0, to the bit


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What the classes of a checkpoint mean.

    Attributes:
        rule: what decides a label, apart from θ.
        theta: log return within which a move is NEUTRAL, fitted on the training rows; 0 for `triple-barrier`.
        sha256: digest of the labels that the fit has seen, training and calibration rows, with the candles they belong to; of the
            rows themselves where a foreign checkpoint is judged.

    """

    rule: LabelRule
    theta: float
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a checkpoint comes from.

    Attributes:
        source: kind of candles: `file`, `sample` or `synthetic`.
        candles_sha256: digest of the candles.
        training_rows, calibration_rows: how many.
        training_from: open time of the first training candle, in milliseconds of UTC.
        calibration_from: open time of the first calibration candle, in milliseconds of UTC.
        fitted_until: the last moment whose price the fit has seen, in milliseconds of UTC.
        unseen_from: rows whose candle opened at this time or later count in a diagnosis, in milliseconds of UTC.
        seed: of the run.
        best_epoch: whose weights these are; of an ensemble, the median of those of its members, the lower of two.
        prior: share of DOWN, NEUTRAL and UP in the training rows.
        rule: the best one-feature rule on the training rows.
        dropped: how many candles and rows were used for nothing, by reason.

    """

    source: Literal["file", "sample", "synthetic"]
    candles_sha256: str
    training_rows: int
    calibration_rows: int
    training_from: int
    calibration_from: int
    fitted_until: int
    unseen_from: int
    seed: int
    best_epoch: int
    prior: tuple[float, ...]
    rule: OneFeatureRule
    dropped: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What was done to a checkpoint after its training, and the proof: on rows that the remedy was not fitted on.

    Attributes:
        cause: that was found.
        remedy: in words.
        log_loss_before, log_loss_after: in nats, on the same rows; lower is better.
        rows: how many.
        candles_sha256: digest of the candles.

    """

    cause: str
    remedy: str
    log_loss_before: float
    log_loss_after: float
    rows: int
    candles_sha256: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Header:
    """Everything that a checkpoint says of itself, apart from its weights.

    A foreign checkpoint, not written by crpbot, has no symbol, recipe, label or origin.

    Attributes:
        features: names of the inputs, in their order.
        symbol: of the market it was trained on.
        recipe: it was made by.
        label: what its classes mean.
        origin: where it comes from.
        repairs: what was done to it since, in order. A repaired checkpoint is unproven until the gates say otherwise.

    """

    features: tuple[str, ...]
    symbol: str | None = None
    recipe: Recipe | None = None
    label: Label | None = None
    origin: Origin | None = None
    repairs: tuple[Repair, ...] = ()

    @property
    def feature_set(self) -> FeatureSet:
        """The formulas of its inputs; a foreign checkpoint takes those of `founding-72`, in an order of its own."""
        return feature_set("founding-72") if self.recipe is None else self.recipe.features.table


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint(Header):
    """A network and everything that must travel with it, in whatever form it is served.

    Attributes:
        network: in evaluation mode, on the processor.

    """

    network: Network

    @property
    def weights(self) -> Weights:
        """All numbers of the network."""
        return self.network.weights

    @property
    def temperature(self) -> float:
        """The divisor of the logits; 1 for a network without one."""
        temperature = self.weights.temperature
        return 1.0 if temperature is None else temperature

    def predict(self, x: NDArray[np.float64]) -> Prediction:
        """Predict rows of raw features, shape `(n, len(features))`, in the order of `features`."""
        return Prediction.of(*self.network.speak(x))


def header_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the header of a checkpoint as plain JSON types.

    A foreign one gets the founding form, since nobody knows its recipe, label or origin.

    Raises:
        CheckpointError: the recipe normalizes and the network has no fitted normalizer.

    """
    repairs = {"repairs": [asdict(repair) for repair in checkpoint.repairs]} if checkpoint.repairs else {}
    features = {"input_size": len(checkpoint.features), "feature_columns": list(checkpoint.features)}
    if not (checkpoint.symbol and checkpoint.recipe and checkpoint.label and checkpoint.origin):
        return features | ({"symbol": checkpoint.symbol} if checkpoint.symbol else {}) | repairs
    check_normalizer(checkpoint.weights.normalizer, checkpoint, "the network")
    return {
        "format": FORMAT,
        "symbol": checkpoint.symbol,
        **features,
        "feature_set_sha256": checkpoint.feature_set.sha256,
        "classes": list(CLASSES),
        "recipe": checkpoint.recipe.to_dict(),
        "label": asdict(checkpoint.label),
        "origin": asdict(checkpoint.origin),
        **repairs,
    }


def read_header(payload: Mapping[str, Any], *, where: str) -> Header:
    """Read what a checkpoint of ours says of itself; `where` names it in errors.

    Raises:
        CheckpointError: it is damaged, altered, or of another version.

    """
    payload = newest(payload, where)
    repairs = read_repairs(payload, where)
    try:
        recipe = recipe_from_dict(payload["recipe"], where=f"{where}: recipe")
        features = tuple(payload["feature_columns"])
        named = features == recipe.features.table.names and SYMBOL.fullmatch(payload["symbol"])
        if payload["classes"] != list(CLASSES) or not named:
            raise CheckpointError(
                f"{where} must have the classes {', '.join(CLASSES)}, the features of its set in order, and a symbol "
                "like BTC-USD; it was altered: train it again"
            )
        source = _origin(payload["origin"], features)
        label = _label(payload["label"])
        if label.rule != recipe.label.rule or not 0 <= label.theta < math.inf or not SHA256.fullmatch(label.sha256):
            raise CheckpointError(
                f"{where} must have the label of its recipe and a θ of at least 0; it was altered: train it again"
            )
        if payload["feature_set_sha256"] != recipe.features.table.sha256:
            raise CheckpointError(
                f"{where} must have been trained on the formulas that {recipe.features.set} has now, found another digest; "
                "use the crpbot that wrote it, or train it again"
            )
    except DAMAGED as error:
        raise damaged(error, where) from None
    return Header(features=features, symbol=payload["symbol"], recipe=recipe, label=label, origin=source, repairs=repairs)


DAMAGED = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, RecipeError)
"""What reading an altered header may end in."""


def damaged(error: Exception, where: str) -> CheckpointError:
    """Return what to say of a header that could not be read."""
    return CheckpointError(
        f"{where} must be a whole crpbot checkpoint, found a damaged header: {str(error)[:200]}; train it again"
    )


def read_repairs(payload: Mapping[str, Any], where: str) -> tuple[Repair, ...]:
    """Return what was done to a checkpoint since its training.

    Raises:
        CheckpointError: the list is damaged.

    """
    try:
        return tuple(_record(Repair, repair) for repair in payload.get("repairs", ()))
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{where} must list its repairs whole, found a damaged list: {str(error)[:200]}; repair it again"
        ) from None


def check_shapes(arrays: Mapping[str, NDArray[Any]], header: Header, where: str) -> None:
    """Compare the weights with the recipe of a checkpoint of ours, before a network of any size is made.

    Raises:
        CheckpointError: they are others.

    """
    assert header.recipe is not None
    recipe = header.recipe
    widths = (len(header.features), *recipe.network.hidden, len(CLASSES))
    wanted = shapes_of(
        widths,
        batch_normalization=recipe.network.batch_normalization,
        temperature=recipe.network.temperature == "learned",
        normalizer="normalizer.mean" in arrays,
        members=recipe.ensemble.members,
    )
    for number in range(1, len(widths)):
        weight = arrays.get(f"fc{number}.weight")
        if weight is None or tuple(weight.shape) != wanted[f"fc{number}.weight"]:
            raise CheckpointError(
                f"{where} must hold the weights of recipe {recipe.name}, found none or others for fc{number}; train it again"
            )
    if recipe.ensemble.members > 1:
        _check_members(arrays, wanted, where)


def _check_members(arrays: Mapping[str, NDArray[Any]], wanted: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Check every array of an ensemble: no module of torch does it later, as it does for a single network."""

    def sound(name: str, array: NDArray[Any]) -> bool:
        kind = np.float64 if name.startswith("normalizer.") else np.float32
        return array.shape == wanted[name] and array.dtype == kind and bool(np.isfinite(array).all())

    odd = arrays.keys() ^ wanted.keys() or {name for name, array in arrays.items() if not sound(name, array)}
    if odd:
        names = ", ".join(sorted(odd)[:3])
        raise CheckpointError(
            f"{where} must hold finite numbers of each member for every layer, found none or others for {names:.200}; "
            "it was altered: train it again"
        )


def check_normalizer(normalizer: Scaling | None, header: Header, where: str) -> None:
    """Check that a network of ours has the normalizer that its recipe says, fitted.

    Raises:
        CheckpointError: it lacks it, or has one that it should not have.

    """
    recipe = header.recipe
    assert recipe is not None
    wanted, fitted = recipe.network.normalizer == "fit", normalizer is not None and normalizer.fitted
    if wanted and not fitted:
        raise CheckpointError(
            f"{where}: recipe {recipe.name} normalizes, so every feature must have a finite mean and a positive scale that were "
            "fitted; found none or unusable ones: train it again"
        )
    if not wanted and normalizer is not None and not (header.repairs and fitted):
        raise CheckpointError(f"{where}: recipe {recipe.name} has no normalizer, found one; it was altered: train it again")


def check_temperature(temperature: float | None, where: str) -> None:
    """Raise `CheckpointError` where a temperature is none to divide by."""
    if temperature is not None and not TINIEST <= temperature < math.inf:
        raise CheckpointError(f"{where} must have a positive temperature, found {temperature:g}; train it again")


def _label(table: Mapping[str, Any]) -> Label:
    rule = _record(LabelRule, {**table["rule"], "exits": _record(Exits, table["rule"]["exits"])})
    return _record(Label, {**table, "rule": rule})


def _origin(table: Mapping[str, Any], features: tuple[str, ...]) -> Origin:
    """Read where a checkpoint comes from, and believe nothing that cannot be.

    Raises:
        TypeError, ValueError: something is missing, unknown, of another type, or impossible.

    """
    rule = _record(OneFeatureRule, table["rule"])
    dropped, prior = table["dropped"], table["prior"]
    origin = _record(Origin, {**table, "rule": rule, "prior": tuple(prior)})
    if rule.feature not in features or not {rule.below, rule.above} <= set(range(len(CLASSES))):
        raise ValueError("its one-feature rule is of other features or classes")
    if len(prior) != len(CLASSES) or not all(isinstance(share, float) and 0 <= share <= 1 for share in prior):
        raise ValueError("its prior must be three shares")
    if not all(isinstance(name, str) and name.isprintable() and type(count) is int for name, count in dropped.items()):
        raise ValueError("what was dropped must be counts by reason")
    numbers = (value for value in (*asdict(origin).values(), *dropped.values()) if isinstance(value, int))
    if not all(0 <= number < 2**53 for number in numbers) or origin.unseen_from <= origin.training_from:
        raise ValueError("its times and counts are impossible")
    return origin


def _record(kind: type[_Record], table: Mapping[str, Any]) -> _Record:
    """Make a record of plain values, each of the type that it should have.

    Raises:
        TypeError: a value is missing, unknown, or of another type.

    """
    record, hints = kind(**table), get_type_hints(kind)
    if len(table) != len(hints):
        raise TypeError(f"{', '.join(hints.keys() - table.keys())} is missing")
    for name, wanted in hints.items():
        value, plain = getattr(record, name), get_origin(wanted) or wanted
        if plain is Literal and value not in get_args(wanted):
            raise TypeError(f"{name} is none of {', '.join(get_args(wanted))}")
        if isinstance(plain, type) and not isinstance(value, plain):
            raise TypeError(f"{name} is of another type")
        if isinstance(value, str) and not (value.isprintable() and len(value) <= LONGEST_TEXT):
            raise ValueError(f"{name} is no short printable text")
    return record
