"""Remedies: a checkpoint with one thing put right. Each returns a new checkpoint and leaves the old one as it was."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crpbot.model.checkpoint import Checkpoint
from crpbot.model.scaler import Scaler, second_scaler
from crpbot.model.weights import Scaling, Weights

Floats = NDArray[np.float64]


def with_scaler(checkpoint: Checkpoint, scaler: Scaler, where: str) -> Checkpoint:
    """Give a checkpoint the scaler that it lacks.

    Raises:
        CheckpointError: it has one, or the scaler does not fit its inputs.

    """
    normalizer = checkpoint.weights.normalizer
    if normalizer is not None and normalizer.fitted:
        raise second_scaler(where)
    return _with_normalizer(checkpoint, Scaling(*scaler.arrays(checkpoint.features, where)))


def standardized(checkpoint: Checkpoint, x: Floats) -> Checkpoint:
    """Fit the normalizer anew on raw features, shape `(n, n_features)`."""
    return _with_normalizer(checkpoint, Scaling.fit(x))


def tempered(checkpoint: Checkpoint, factor: float) -> Checkpoint:
    """Divide the served logits by `factor`: in the temperature, or in the last layer of a network without one.

    In an ensemble without one, each member is divided, which is not quite the same: its average is of their probabilities.
    """
    weights = checkpoint.weights
    if weights.temperature is not None:
        return _with(checkpoint, {"temperature": weights.arrays["temperature"] * np.float32(factor)})
    return _with(checkpoint, {name: array / np.float32(factor) for name, array in _last(weights).items()})


def shifted(checkpoint: Checkpoint, offsets: Floats) -> Checkpoint:
    """Add offsets of DOWN, NEUTRAL and UP, shape `(3,)`, to the served logits: in the biases of the last layer.

    In an ensemble they are added to what each member says, which is not quite the same: its average is of their probabilities.
    """
    name = f"fc{checkpoint.weights.depth}.bias"
    bias = checkpoint.weights.arrays[name] + (offsets * checkpoint.temperature).astype(np.float32)
    return _with(checkpoint, {name: bias})


def reordered(checkpoint: Checkpoint, order: NDArray[np.intp], *, scaler_too: bool) -> Checkpoint:
    """Put the inputs in order: what stands at place i of the first layer belongs to input `order[i]`.

    Args:
        checkpoint: to put right.
        order: a permutation of the inputs, shape `(n_features,)`.
        scaler_too: whether the normalizer is out of order in the same way.

    """
    weights, back = checkpoint.weights, np.argsort(order)
    changed = {"fc1.weight": weights.arrays["fc1.weight"][..., back]}
    if scaler_too and weights.normalizer is not None:
        changed |= {"normalizer.mean": weights.normalizer.mean[back], "normalizer.scale": weights.normalizer.scale[back]}
    return _with(checkpoint, changed)


def relabelled(checkpoint: Checkpoint, order: tuple[int, ...]) -> Checkpoint:
    """Put the classes in order: output `order[i]` is what class i should be."""
    last = _last(checkpoint.weights)
    return _with(checkpoint, {name: np.take(array, order, axis=-2 if "weight" in name else -1) for name, array in last.items()})


def reestimated(checkpoint: Checkpoint, x: Floats) -> Checkpoint:
    """Measure the statistics of batch normalization anew, layer by layer, on raw features `x`, dropout off."""
    weights = checkpoint.weights
    found = [_statistics(member, x) for member in weights.each]
    measured = {name: np.stack([one[name] for one in found]) if weights.members > 1 else found[0][name] for name in found[0]}
    return _with(checkpoint, measured)


def _statistics(weights: Weights, x: Floats) -> Mapping[str, NDArray[Any]]:
    """Return means and variances of a single network, by name."""
    found: dict[str, NDArray[Any]] = {}
    with np.errstate(all="ignore"):  # what is not finite proves nothing
        hidden = weights.entered(x)
        for number in range(1, weights.depth):
            weight, bias = weights.linear(number)
            sums = hidden @ weight.T + bias
            mean, variance = sums.mean(axis=0, dtype=np.float64), sums.var(axis=0, ddof=1, dtype=np.float64)
            found |= {f"bn{number}.running_mean": mean, f"bn{number}.running_var": variance}
            weights = weights.changed(found)
            norm = weights.norm(number)
            assert norm is not None
            hidden = np.maximum(norm(sums), np.float32(0))
    return found


def fresh_bounds(weights: Weights) -> tuple[float, ...]:
    """Return, for each layer, the bound within which its weights are drawn before training: 1/√fan_in.

    (PyTorch draws the weights of `nn.Linear` evenly from within it: He et al., ICCV 2015, with the slope √5 of the leaky form.)
    """
    widths = (weights.input_size, *weights.hidden, 0)
    return tuple(fan_in**-0.5 for fan_in, _ in pairwise(widths))


def _with(checkpoint: Checkpoint, arrays: Mapping[str, NDArray[Any]]) -> Checkpoint:
    return replace(checkpoint, network=checkpoint.network.with_weights(checkpoint.weights.changed(arrays)))


def _with_normalizer(checkpoint: Checkpoint, normalizer: Scaling) -> Checkpoint:
    return _with(checkpoint, {"normalizer.mean": normalizer.mean, "normalizer.scale": normalizer.scale})


def _last(weights: Weights) -> Mapping[str, NDArray[Any]]:
    """Return weight and bias of the last layer, by name, with a first axis of members where there are several."""
    return {name: weights.arrays[name] for name in (f"fc{weights.depth}.weight", f"fc{weights.depth}.bias")}
