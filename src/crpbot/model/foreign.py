"""Checkpoints that crpbot did not write: the V6 and V7 kind of the founding system."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from crpbot.dataset.features.sets import feature_set
from crpbot.dataset.labels import CLASSES
from crpbot.errors import CheckpointError
from crpbot.model.checkpoint import Checkpoint
from crpbot.model.network import DirectionNetwork, Normalizer

_FC = re.compile(r"fc(\d+)\.weight")


def read_foreign(payload: Any, where: str) -> Checkpoint:  # noqa: ANN401
    """Make a checkpoint of `payload`: a state dict with `fc1…fcN`, alone or under `model_state_dict`.

    Batch normalization, a temperature of 0 or 1 dimensions, a scaler (`scaler_mean` and `scaler_scale`, or `scaler_params` with
    `mean` and `scale`) and `feature_columns` are used where they are there.

    Raises:
        CheckpointError: the file holds no such network.

    """
    if not isinstance(payload, Mapping):
        raise CheckpointError(f"{where} must hold a state dict, found {type(payload).__name__}; save model.state_dict()")
    wrapped = payload.get("model_state_dict", payload.get("state_dict", payload))
    state = {str(k): v for k, v in wrapped.items() if isinstance(v, Tensor)} if isinstance(wrapped, Mapping) else {}
    numbers = sorted(int(match[1]) for name in state if (match := _FC.fullmatch(name)))
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        found = ", ".join(sorted(str(key) for key in payload)[:8]) or "nothing"
        raise CheckpointError(
            f"{where} must hold a feed-forward network with layers fc1, fc2, …; found {found}; other kinds are not supported"
        )
    if any(state[f"fc{number}.weight"].dim() != 2 for number in numbers):
        raise CheckpointError(f"{where} must hold matrices as the weights of its layers, found other shapes; export it again")
    widths = [state["fc1.weight"].shape[1], *(state[f"fc{number}.weight"].shape[0] for number in numbers)]
    if widths[-1] != len(CLASSES):
        raise CheckpointError(f"{where} must end in {len(CLASSES)} classes, found {widths[-1]}; it foretells something else")
    features = _features(payload, widths[0], where)
    temperature = state.get("temperature", payload.get("temperature"))
    network = DirectionNetwork(
        widths[0],
        hidden=tuple(widths[1:-1]),
        batch_normalization="bn1.weight" in state,
        dropout=0.0,
        temperature=None if temperature is None else _scalar(temperature, where),
        normalizer=False,
    )
    wanted = {name: state[name] for name in network.state_dict() if name in state and name != "temperature"}
    lacking = [
        name
        for name in network.state_dict()
        if name not in wanted and name != "temperature" and not name.endswith("num_batches_tracked")
    ]
    if lacking:
        raise CheckpointError(f"{where} must hold every weight of its layers, missing {', '.join(lacking)}; export it again")
    try:
        network.load_state_dict(wanted, strict=False)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{where} must hold weights whose shapes fit each other: {reason}; export it again") from None
    _attach_scaler(network, {**payload, **_inside(state)}, where)
    return Checkpoint(network=network.eval(), features=features)


def _features(payload: Mapping[str, Any], width: int, where: str) -> tuple[str, ...]:
    columns, founding = payload.get("feature_columns"), feature_set("founding-72").names
    names = tuple(str(name) for name in columns) if isinstance(columns, list | tuple) else founding
    unknown = [name for name in names if name not in founding]
    if unknown or len(names) != width or len(set(names)) != width:
        found = f"unknown {', '.join(unknown[:5])}" if unknown else f"{len(names)} names for {width} inputs"
        raise CheckpointError(
            f"{where} must take the {len(founding)} features of the founding system, each once, found {found}; "
            "it cannot be fed from candles"
        )
    return names


def _inside(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the normalizer of a state dict of `V7EnhancedFNN`, by the names of a founding scaler."""
    names = {"normalizer.mean": "scaler_mean", "normalizer.scale": "scaler_scale"}
    return {founding: state[ours] for ours, founding in names.items() if ours in state}


def _attach_scaler(network: DirectionNetwork, payload: Mapping[str, Any], where: str) -> None:
    parameters = payload.get("scaler_params")
    holder = parameters if isinstance(parameters, Mapping) else payload
    prefix = "" if holder is parameters else "scaler_"
    mean, scale = holder.get(f"{prefix}mean"), holder.get(f"{prefix}scale")
    if mean is None or scale is None:
        return
    normalizer = Normalizer(network.input_size)
    try:
        normalizer.mean = torch.as_tensor(mean, dtype=torch.float64).reshape(network.input_size)
        normalizer.scale = torch.as_tensor(scale, dtype=torch.float64).reshape(network.input_size)
    except (RuntimeError, TypeError, ValueError):
        raise CheckpointError(
            f"{where}: its scaler must have one mean and one scale for each of {network.input_size} features; export it again"
        ) from None
    if normalizer.fitted:  # mean 0 and scale 1, or worse, is as good as none
        network.normalizer = normalizer


def _scalar(value: Any, where: str) -> float:  # noqa: ANN401
    try:
        number = torch.as_tensor(value, dtype=torch.float64).reshape(()).item()
    except (RuntimeError, TypeError, ValueError):
        number = float("nan")
    if not 0 < number < float("inf"):
        raise CheckpointError(f"{where}: its temperature must be one positive number, found {value!r}; export it again")
    return number
