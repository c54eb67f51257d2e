"""Checkpoints that crpbot did not write: the V6 and V7 kind of the founding system, in every form that it is found in."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from crpbot.dataset.features.sets import feature_set
from crpbot.dataset.labels import CLASSES
from crpbot.errors import CheckpointError
from crpbot.model.archive import describe, numbers_of
from crpbot.model.checkpoint import Checkpoint, read_repairs
from crpbot.model.network import DirectionNetwork, Normalizer
from crpbot.model.scaler import Scaler, scaler_in, second_scaler
from crpbot.model.weights import DEEPEST, TINIEST, WIDEST

_FC = re.compile(r"fc([1-9][0-9]{0,2})\.weight")
_RECURRENT = re.compile(r"(.{0,100}?)weight_ih_l([0-9]{1,3})")
_WRAPPERS = ("model_state_dict", "state_dict", "model_state", "model", "network", "net", "weights", "checkpoint")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
_GATES = {4: "an LSTM", 3: "a GRU", 1: "a recurrent network"}

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class NoWeights:
    """A file that talks about a model and does not hold it.

    Attributes:
        holds: what it does hold, in words.

    """

    holds: str


def read_foreign(
    payload: Mapping[Any, Any],
    where: str,
    *,
    scaler: Scaler | None = None,
    features: tuple[str, ...] | None = None,
) -> Checkpoint | NoWeights:
    """Make a checkpoint of `payload`: a state dict with `fc1…fcN`, alone or wrapped.

    Batch normalization, a temperature of one number, a scaler and `feature_columns` are used where they are there. A scaler that
    was never fitted is used too: that is what the model would be served with, and the diagnosis names it.

    Args:
        payload: plain values and arrays, from `read_archive`.
        where: names the file in errors.
        scaler: for a file that has none.
        features: names of the inputs in their order, for a file that does not say.

    Returns:
        The checkpoint, or what the file holds where that is no weight at all.

    Raises:
        CheckpointError: the file holds no such network, or already has what is brought.

    """
    if not _has_arrays(payload):
        return NoWeights(describe(payload))
    payload, state = _state(payload)
    widths = _widths(state, payload, where)
    found = scaler_in({**payload, **state}, where)
    if scaler is not None and found is not None and found.fitted:
        raise second_scaler(where)
    scaler = scaler or found
    names = _features(payload, found, features, widths[0], where)
    network = DirectionNetwork(
        widths[0],
        hidden=tuple(widths[1:-1]),
        batch_normalization="bn1.weight" in state,
        dropout=0.0,
        temperature=_temperature(state, payload, where),
        normalizer=False,
    )
    _load(network, state, where)
    if scaler is not None:
        network.normalizer = Normalizer.of(*scaler.arrays(names, where))
    return Checkpoint(network=network.eval(), features=names, repairs=read_repairs(payload, where))


def _has_arrays(value: Any) -> bool:  # noqa: ANN401
    """Whether there is an array with a dimension anywhere: a file without one holds no weights."""
    if isinstance(value, Mapping | list | tuple):
        return any(_has_arrays(item) for item in (value.values() if isinstance(value, Mapping) else value))
    return isinstance(value, np.ndarray) and value.ndim > 0


def _state(payload: Mapping[Any, Any]) -> tuple[Mapping[Any, Any], Arrays]:
    """Return everything that stands beside the state dict, and its arrays without what a wrapper puts before every name."""
    inner, beside = payload, dict(payload)
    while not _has_layers(inner):
        wrapped = next(
            (inner[name] for name in _WRAPPERS if isinstance(inner.get(name), Mapping) and _has_arrays(inner[name])), None
        )
        if wrapped is None:
            break
        inner = wrapped
        beside |= inner
    state = {str(name): value for name, value in inner.items() if isinstance(value, np.ndarray)}
    while prefix := next((one for one in _PREFIXES if any(name.startswith(one) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return beside, state


def _has_layers(inner: Mapping[Any, Any]) -> bool:
    return any(
        isinstance(name, str) and name.endswith(".weight") and isinstance(value, np.ndarray) for name, value in inner.items()
    )


def _widths(state: Arrays, payload: Mapping[Any, Any], where: str) -> list[int]:
    numbers = sorted(int(match[1]) for name in state if (match := _FC.fullmatch(name)))
    if recurrent := _recurrent(state):
        raise CheckpointError(
            f"{where} must hold a feed-forward network, found {recurrent}; recurrent networks are not supported"
        )
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        raise CheckpointError(
            f"{where} must hold a feed-forward network with layers fc1, fc2, …; found {describe(payload)}; other kinds are not "
            "supported"
        )
    weights = [state[f"fc{number}.weight"] for number in numbers]
    if any(weight.ndim != 2 or 0 in weight.shape for weight in weights):
        raise CheckpointError(f"{where} must hold matrices as the weights of its layers, found other shapes; export it again")
    widths = [weights[0].shape[1], *(weight.shape[0] for weight in weights)]
    if max(widths) > WIDEST or len(weights) > DEEPEST:
        raise CheckpointError(
            f"{where} must have at most {DEEPEST} layers of at most {WIDEST:,} units, found {len(weights)} layers and "
            f"{max(widths):,} units; it is no network of this kind"
        )
    if widths[-1] != len(CLASSES):
        raise CheckpointError(f"{where} must end in {len(CLASSES)} classes, found {widths[-1]}; it foretells something else")
    return widths


def _recurrent(state: Arrays) -> str:
    """Say what a recurrent network is, from its weights; an empty text where there is none."""
    layers = {(match[1], int(match[2])): array for name, array in state.items() if (match := _RECURRENT.fullmatch(name))}
    if not layers:
        return ""
    (prefix, number), first = min(layers.items())
    hidden = state.get(f"{prefix}weight_hh_l{number}")
    if first.ndim != 2 or hidden is None or hidden.ndim != 2 or not hidden.shape[1]:
        return "a recurrent network"
    units = hidden.shape[1]
    kind = _GATES.get(first.shape[0] // units, "a recurrent network")
    return f"{kind} of {first.shape[1]} inputs, {len(layers)} {'layer' if len(layers) == 1 else 'layers'} and {units} units"


def _features(
    payload: Mapping[Any, Any], scaler: Scaler | None, brought: tuple[str, ...] | None, width: int, where: str
) -> tuple[str, ...]:
    """Return the inputs by name: as the file says, as the scaler says, as was brought, or the 72 in their order."""
    founding = feature_set("founding-72").names
    own = _texts(payload.get("feature_columns")) or _texts(payload.get("feature_names")) or (scaler.features if scaler else ())
    if brought and own and brought != own:
        raise CheckpointError(
            f"{where} must lack the names of its inputs for others to be brought, found them; leave out --features"
        )
    names = own or brought or founding
    unknown = [name for name in names if name not in founding]
    if unknown or len(names) != width or len(set(names)) != width:
        found = f"unknown {', '.join(unknown[:5])}" if unknown else f"{len(names)} names for {width} inputs"
        raise CheckpointError(
            f"{where} must take features of the founding system, each once, found {found:.200}; "
            "name its inputs in their order with --features, or it cannot be fed from candles"
        )
    return names


def _texts(value: Any) -> tuple[str, ...]:  # noqa: ANN401
    return tuple(str(name) for name in value) if isinstance(value, list | tuple) else ()


def _temperature(state: Arrays, payload: Mapping[Any, Any], where: str) -> float | None:
    value = state.get("temperature", payload.get("temperature"))
    if value is None:
        return None
    numbers = numbers_of(value)
    number = float(np.float32(numbers.item())) if numbers is not None and numbers.size == 1 else float("nan")
    if not TINIEST <= number < float("inf"):
        found = "another kind of value" if numbers is None else f"{numbers.size} numbers" if numbers.size != 1 else f"{number:g}"
        raise CheckpointError(f"{where}: its temperature must be one positive number, found {found}; export it again")
    return number


def _load(network: DirectionNetwork, state: Arrays, where: str) -> None:
    wanted = network.state_dict()
    needed = [name for name in wanted if name != "temperature" and not name.endswith("num_batches_tracked")]
    lacking = [name for name in needed if name not in state]
    if lacking:
        raise CheckpointError(f"{where} must hold every weight of its layers, missing {', '.join(lacking)}; export it again")
    odd = [name for name in _of(state, wanted) if tuple(state[name].shape) != tuple(wanted[name].shape)]
    if odd:
        raise CheckpointError(
            f"{where} must hold weights whose shapes fit each other, found {odd[0]} of {tuple(state[odd[0]].shape)} for "
            f"{tuple(wanted[odd[0]].shape)}; export it again"
        )
    network.load_state_dict({name: torch.from_numpy(state[name]) for name in _of(state, wanted)}, strict=False)


def _of(state: Arrays, names: Iterable[str]) -> list[str]:
    return [name for name in names if name in state and name != "temperature"]
