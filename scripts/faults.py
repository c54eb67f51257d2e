"""Faults to put into a sound V7 network, as strangers' files have them, and the cause that each must be given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crpbot.model.checkpoint import Checkpoint
from crpbot.model.network import V7EnhancedFNN

Payload = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """One way to damage a checkpoint.

    Attributes:
        name: what was done, in words.
        cause: that must come first.
        damage: does it to a payload in the founding form; the second argument is mean and scale of another symbol.

    """

    name: str
    cause: str
    damage: Callable[[Payload, tuple[Tensor, Tensor]], None]


def founding_payload(checkpoint: Checkpoint) -> Payload:
    """Return a checkpoint in the form of the founding system: weights, scaler and names of the inputs."""
    state = {name: tensor.clone() for name, tensor in checkpoint.network.state_dict().items()}
    mean, scale = state.pop("normalizer.mean"), state.pop("normalizer.scale")
    return {
        "model_state_dict": state,
        "input_size": len(checkpoint.features),
        "feature_columns": list(checkpoint.features),
        "scaler_mean": mean,
        "scaler_scale": scale,
    }


def _weights(payload: Payload, change: Callable[[Tensor], object], *names: str) -> None:
    for name in names:
        change(payload["model_state_dict"][name])


def _drop_scaler(payload: Payload, _: object) -> None:
    del payload["scaler_mean"], payload["scaler_scale"]


def _other_scaler(payload: Payload, other: tuple[Tensor, Tensor]) -> None:
    payload["scaler_mean"], payload["scaler_scale"] = other


def _made_up_scaler(payload: Payload, _: object) -> None:
    column = payload["feature_columns"].index("returns")
    payload["scaler_scale"][column] *= 300


def _unfitted(payload: Payload, _: object) -> None:
    payload["scaler_mean"], payload["scaler_scale"] = torch.zeros(72).double(), torch.ones(72).double()


def _names_shuffled(payload: Payload, _: object) -> None:
    payload["feature_columns"] = np.random.default_rng(0).permutation(payload["feature_columns"]).tolist()


def _turned_round(payload: Payload, _: object) -> None:
    _weights(payload, lambda w: w.copy_(w.flip(1).clone()), "fc1.weight")


def _layers(payload: Payload) -> list[str]:
    return [name for name in payload["model_state_dict"] if name.startswith("fc") and name.endswith("weight")]


def _noise(payload: Payload, _: object) -> None:
    generator = torch.Generator().manual_seed(0)
    _weights(payload, lambda w: w.add_(5 * w.std() * torch.randn(w.shape, generator=generator)), *_layers(payload))


def _zero(payload: Payload, number: int) -> None:
    _weights(payload, lambda w: w.zero_(), f"fc{number}.weight", f"fc{number}.bias")


def _stale(payload: Payload, _: object) -> None:
    for number in (1, 2, 3):
        _weights(payload, lambda w: w.zero_(), f"bn{number}.running_mean")
        _weights(payload, lambda w: w.fill_(1.0), f"bn{number}.running_var")


def _fresh(payload: Payload, _: object) -> None:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        payload["model_state_dict"] = {name: tensor.clone() for name, tensor in V7EnhancedFNN().state_dict().items()}


def _no_weights(payload: Payload, _: object) -> None:
    payload.clear()
    payload.update(accuracy=0.71, epoch=12)


FAULTS: tuple[Fault, ...] = (
    Fault("the scaler is dropped", "lost-normalizer", _drop_scaler),
    Fault("the scaler is another symbol's", "foreign-normalizer", _other_scaler),
    Fault("the scaler was fitted on made-up noise", "foreign-normalizer", _made_up_scaler),
    Fault("the scaler was never fitted", "unfitted-normalizer", _unfitted),
    Fault("the names of the inputs are shuffled", "feature-order", _names_shuffled),
    Fault("the inputs of the first layer are turned round", "feature-order", _turned_round),
    Fault(
        "the temperature is 8 times too high",
        "cosmetic-temperature",
        lambda p, _: _weights(p, lambda t: t.mul_(8), "temperature"),
    ),
    Fault(
        "the logits are 50 times too large",
        "extreme-logits",
        lambda p, _: _weights(p, lambda w: w.mul_(50), "fc4.weight", "fc4.bias"),
    ),
    Fault("the bias of UP is raised by 2", "class-bias", lambda p, _: _weights(p, lambda b: b[2].add_(2), "fc4.bias")),
    Fault("noise of five times their size is added to the weights", "batch-norm-stale", _noise),
    Fault(
        "DOWN and UP are exchanged",
        "class-order",
        lambda p, _: _weights(p, lambda w: w.copy_(w.flip(0).clone()), "fc4.weight", "fc4.bias"),
    ),
    Fault("layer 2 is zeroed", "dead-units", lambda p, _: _zero(p, 2)),
    Fault("the last layer is zeroed", "dead-units", lambda p, _: _zero(p, 4)),
    Fault("the batch statistics are those of a new network", "batch-norm-stale", _stale),
    Fault(
        "one weight is NaN", "non-finite-weights", lambda p, _: _weights(p, lambda w: w[0, 0].fill_(float("nan")), "fc2.weight")
    ),
    Fault("it was never trained", "untrained", _fresh),
    Fault("the weights are missing", "no-weights", _no_weights),
)


def damaged(checkpoint: Checkpoint, fault: Fault, other: tuple[Tensor, Tensor]) -> Mapping[str, Any]:
    """Return the payload of a damaged copy; `other` is mean and scale of another symbol."""
    payload = founding_payload(checkpoint)
    fault.damage(payload, other)
    return payload
