"""The checkpoint: one file that is enough to predict, and that cannot lose its normalizer."""

import io
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import torch
from numpy.typing import NDArray

from crpbot.dataset.baselines import OneFeatureRule
from crpbot.dataset.features.sets import FeatureSet, feature_set
from crpbot.dataset.labels import CLASSES, Exits, LabelRule
from crpbot.disk import write_whole
from crpbot.errors import CheckpointError, RecipeError
from crpbot.market.files import SYMBOL
from crpbot.model.archive import read_archive
from crpbot.model.calibration import softmax
from crpbot.model.network import TINIEST, DirectionNetwork, predict_logits
from crpbot.model.recipe import Recipe, recipe_from_dict

FORMAT = "crpbot.checkpoint/2"
_Record = TypeVar("_Record")
LONGEST_TEXT = 400
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network says of some rows.

    Attributes:
        logits: after the temperature, as served, shape `(n, 3)`, float64.
        probabilities: softmax of the logits, shape `(n, 3)`.

    """

    logits: NDArray[np.float64]
    probabilities: NDArray[np.float64]


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
        best_epoch: whose weights these are.
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
class Checkpoint:
    """A network and everything that must travel with it.

    A foreign checkpoint, not written by crpbot, has no symbol, recipe, label or origin.

    Attributes:
        network: in evaluation mode, on the processor.
        features: names of the inputs, in their order.
        symbol: of the market it was trained on.
        recipe: it was made by.
        label: what its classes mean.
        origin: where it comes from.
        repairs: what was done to it since, in order. A repaired checkpoint is unproven until the gates say otherwise.

    """

    network: DirectionNetwork
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

    @property
    def temperature(self) -> float:
        """The divisor of the logits; 1 for a network without one."""
        return 1.0 if self.network.temperature is None else self.network.temperature.item()

    def predict(self, x: NDArray[np.float64]) -> Prediction:
        """Predict rows of raw features, shape `(n, len(features))`, in the order of `features`."""
        logits = predict_logits(self.network, x)
        return Prediction(logits, softmax(logits))


def to_bytes(checkpoint: Checkpoint) -> bytes:
    """Return the file of a checkpoint: tensors and plain JSON types; the same checkpoint gives the same bytes.

    A repaired foreign one is written in the founding form, since nobody knows its recipe, label or origin.

    Raises:
        CheckpointError: the recipe normalizes and the network has no fitted normalizer, or it lacks recipe, label or origin.

    """
    if checkpoint.repairs and checkpoint.origin is None:
        header = {"input_size": checkpoint.network.input_size, "feature_columns": list(checkpoint.features)}
        return _saved(header | ({"symbol": checkpoint.symbol} if checkpoint.symbol else {}), checkpoint)
    if not (checkpoint.symbol and checkpoint.recipe and checkpoint.label and checkpoint.origin):
        raise CheckpointError(
            "a checkpoint must be written with its symbol, recipe, label and origin, found one without; train it here"
        )
    _check_normalizer(checkpoint.network, checkpoint.recipe, "the network", repaired=bool(checkpoint.repairs))
    header = {
        "format": FORMAT,
        "symbol": checkpoint.symbol,
        "input_size": checkpoint.network.input_size,
        "feature_columns": list(checkpoint.features),
        "feature_set_sha256": checkpoint.feature_set.sha256,
        "classes": list(CLASSES),
        "recipe": checkpoint.recipe.to_dict(),
        "label": asdict(checkpoint.label),
        "origin": asdict(checkpoint.origin),
    }
    return _saved(header, checkpoint)


def _saved(header: Mapping[str, Any], checkpoint: Checkpoint) -> bytes:
    repairs = {"repairs": [asdict(repair) for repair in checkpoint.repairs]} if checkpoint.repairs else {}
    # A pickle notes which strings are one object: a round trip through JSON makes that the same in every run.
    payload: dict[str, Any] = json.loads(json.dumps({**header, **repairs}))
    payload["model_state_dict"] = {
        name: tensor.detach().cpu().clone().contiguous() for name, tensor in checkpoint.network.state_dict().items()
    }
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    return buffer.getvalue()


def save_checkpoint(
    checkpoint: Checkpoint, path: Path, *, probe: NDArray[np.float64], read: Callable[[Any, str], Checkpoint] | None = None
) -> None:
    """Write `checkpoint` to `path`, whole, after proof that the file gives the same probabilities.

    Args:
        checkpoint: to write.
        path: of the new file.
        probe: raw features to predict with both, shape `(n, n_features)`.
        read: makes a checkpoint of what the file holds; `read_ours` by default.

    Raises:
        CheckpointError: the normalizer is missing or not fitted, or the file read back predicts something else.

    """
    content = to_bytes(checkpoint)
    payload = read_archive(content, where=str(path))
    copy = read_ours(payload, where=str(path)) if read is None else read(payload, str(path))
    if not np.array_equal(copy.predict(probe).probabilities, checkpoint.predict(probe).probabilities):
        raise CheckpointError(
            f"{path} must predict what the network in memory predicts, found other probabilities after reading it back; "
            "nothing was written: please report this as a bug"
        )
    write_whole(path, content)


def read_ours(payload: Mapping[str, Any], *, where: str) -> Checkpoint:
    """Read what a checkpoint of ours holds; `where` names it in errors.

    Raises:
        CheckpointError: it is damaged, altered, of another version, or lacks its normalizer.

    """
    repairs = read_repairs(payload, where)
    if payload["format"] != FORMAT:
        raise CheckpointError(
            f"{where} must have the format {FORMAT}, found {payload['format']!r}; train it again, or use the crpbot that wrote it"
        )
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
        if label.rule != recipe.label.rule or not 0 <= label.theta < math.inf or not _SHA256.fullmatch(label.sha256):
            raise CheckpointError(
                f"{where} must have the label of its recipe and a θ of at least 0; it was altered: train it again"
            )
        if payload["feature_set_sha256"] != recipe.features.table.sha256:
            raise CheckpointError(
                f"{where} must have been trained on the formulas that {recipe.features.set} has now, found another digest; "
                "use the crpbot that wrote it, or train it again"
            )
        state = {str(name): torch.from_numpy(value) for name, value in payload["model_state_dict"].items() if _is_array(value)}
        _check_shapes(state, recipe, where)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, RecipeError) as error:
        raise CheckpointError(
            f"{where} must be a whole crpbot checkpoint, found a damaged header: {str(error)[:200]}; train it again"
        ) from None
    network = DirectionNetwork.from_recipe(
        recipe.network, input_size=len(features), normalizer="normalizer.mean" in state or recipe.network.normalizer == "fit"
    )
    lacking = [name for name in network.state_dict() if name not in state]
    if any(name.startswith("normalizer.") for name in lacking):
        raise CheckpointError(
            f"{where}: recipe {recipe.name} normalizes, so the checkpoint must hold its normalizer; found none. "
            "Without it every prediction is nonsense: train it again, or repair it"
        )
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{where} must hold the weights of recipe {recipe.name}: {reason}; train it again") from None
    _check_normalizer(network, recipe, where, repaired=bool(repairs))
    if network.temperature is not None and not TINIEST <= network.temperature.item() < math.inf:
        raise CheckpointError(f"{where} must have a positive temperature, found {network.temperature.item():g}; train it again")
    return Checkpoint(
        network=network.eval(),
        features=features,
        symbol=payload["symbol"],
        recipe=recipe,
        label=label,
        origin=source,
        repairs=repairs,
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


def _check_shapes(state: Mapping[str, torch.Tensor], recipe: Recipe, where: str) -> None:
    """Compare the weights with the recipe before a network of any size is made."""
    widths = (len(recipe.features.table), *recipe.network.hidden, len(CLASSES))
    for number, (fan_in, fan_out) in enumerate(pairwise(widths), start=1):
        weight = state.get(f"fc{number}.weight")
        if weight is None or tuple(weight.shape) != (fan_out, fan_in):
            raise CheckpointError(
                f"{where} must hold the weights of recipe {recipe.name}, found none or others for fc{number}; train it again"
            )


def _is_array(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiub"


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


def _check_normalizer(network: DirectionNetwork, recipe: Recipe, where: str, *, repaired: bool) -> None:
    wanted = recipe.network.normalizer == "fit"
    if wanted and (network.normalizer is None or not network.normalizer.fitted):
        raise CheckpointError(
            f"{where}: recipe {recipe.name} normalizes, so every feature must have a finite mean and a positive scale that were "
            "fitted; found none or unusable ones: train it again"
        )
    if not wanted and network.normalizer is not None and not (repaired and network.normalizer.fitted):
        raise CheckpointError(f"{where}: recipe {recipe.name} has no normalizer, found one; it was altered: train it again")
