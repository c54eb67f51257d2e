"""Remedies: a checkpoint with one thing put right. Each returns a new checkpoint and leaves the old one as it was."""

import copy
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from crpbot.model.checkpoint import Checkpoint
from crpbot.model.network import DirectionNetwork, Normalizer, torch_threads
from crpbot.model.scaler import Scaler, second_scaler

Floats = NDArray[np.float64]


def with_scaler(checkpoint: Checkpoint, scaler: Scaler, where: str) -> Checkpoint:
    """Give a checkpoint the scaler that it lacks.

    Raises:
        CheckpointError: it has one, or the scaler does not fit its inputs.

    """
    normalizer = checkpoint.network.normalizer
    if normalizer is not None and normalizer.fitted:
        raise second_scaler(where)
    return _with_normalizer(checkpoint, Normalizer.of(*scaler.arrays(checkpoint.features, where)))


def standardized(checkpoint: Checkpoint, x: Floats) -> Checkpoint:
    """Fit the normalizer anew on raw features, shape `(n, n_features)`."""
    return _with_normalizer(checkpoint, Normalizer.fit(x))


def tempered(checkpoint: Checkpoint, factor: float) -> Checkpoint:
    """Divide the served logits by `factor`: in the temperature, or in the last layer of a network without one."""
    network = copy.deepcopy(checkpoint.network)
    with torch.no_grad():
        if network.temperature is not None:
            network.temperature.mul_(factor)
        else:
            for parameter in _last(network).parameters():
                parameter.div_(factor)
    return replace(checkpoint, network=network)


def shifted(checkpoint: Checkpoint, offsets: Floats) -> Checkpoint:
    """Add offsets of DOWN, NEUTRAL and UP, shape `(3,)`, to the served logits: in the biases of the last layer."""
    network = copy.deepcopy(checkpoint.network)
    with torch.no_grad():
        _last(network).bias.add_(torch.from_numpy(offsets * checkpoint.temperature).float())
    return replace(checkpoint, network=network)


def reordered(checkpoint: Checkpoint, order: NDArray[np.intp], *, scaler_too: bool) -> Checkpoint:
    """Put the inputs in order: what stands at place i of the first layer belongs to input `order[i]`.

    Args:
        checkpoint: to put right.
        order: a permutation of the inputs, shape `(n_features,)`.
        scaler_too: whether the normalizer is out of order in the same way.

    """
    network = copy.deepcopy(checkpoint.network)
    back = torch.from_numpy(np.argsort(order))
    with torch.no_grad():
        first = network.get_submodule("fc1")
        assert isinstance(first, nn.Linear)
        first.weight.copy_(first.weight[:, back].clone())
        if scaler_too and network.normalizer is not None:
            network.normalizer.mean = network.normalizer.mean[back]
            network.normalizer.scale = network.normalizer.scale[back]
    return replace(checkpoint, network=network)


def relabelled(checkpoint: Checkpoint, order: tuple[int, ...]) -> Checkpoint:
    """Put the classes in order: output `order[i]` is what class i should be."""
    network = copy.deepcopy(checkpoint.network)
    with torch.no_grad():
        for parameter in _last(network).parameters():
            parameter.copy_(parameter[list(order)].clone())
    return replace(checkpoint, network=network)


def reestimated(checkpoint: Checkpoint, x: Floats) -> Checkpoint:
    """Measure the statistics of batch normalization anew, layer by layer, on raw features `x`, dropout off."""
    network = copy.deepcopy(checkpoint.network).eval()
    with torch.no_grad(), torch_threads(1):
        hidden = entered(network, x)
        for number in range(1, len(network.hidden) + 1):
            hidden = network.get_submodule(f"fc{number}")(hidden)
            norm = network.get_submodule(f"bn{number}")
            assert isinstance(norm, nn.BatchNorm1d)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            variance, mean = torch.var_mean(hidden, dim=0)
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
            hidden = torch.relu(norm(hidden))
    return replace(checkpoint, network=network)


def entered(network: DirectionNetwork, x: Floats) -> Tensor:
    """Return what reaches the first layer of raw features, shape `(n, n_features)`, float32."""
    raw = torch.from_numpy(np.ascontiguousarray(x))
    return raw.float() if network.normalizer is None else network.normalizer(raw)


def fresh_bounds(network: DirectionNetwork) -> tuple[float, ...]:
    """Return, for each layer, the bound within which its weights are drawn before training: 1/√fan_in.

    (PyTorch draws the weights of `nn.Linear` evenly from within it: He et al., ICCV 2015, with the slope √5 of the leaky form.)
    """
    widths = (network.input_size, *network.hidden, 0)
    return tuple(fan_in**-0.5 for fan_in, _ in pairwise(widths))


def _with_normalizer(checkpoint: Checkpoint, normalizer: Normalizer) -> Checkpoint:
    network = copy.deepcopy(checkpoint.network)
    network.normalizer = normalizer
    return replace(checkpoint, network=network)


def _last(network: DirectionNetwork) -> nn.Linear:
    last = network.get_submodule(f"fc{len(network.hidden) + 1}")
    assert isinstance(last, nn.Linear)
    return last
