"""What happens inside a network: what reaches the first layer, and what each hidden layer makes of it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from crpbot.model.network import DirectionNetwork, torch_threads
from crpbot.model.remedies import entered

Floats = NDArray[np.float64]

_STILL = 1e-6
"""A unit whose output varies by less than this share of its size does not vary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """How hard one feature pushes the first layer: the arithmetic of the founding document, 79,568 × 0.16 = 12,730.

    Attributes:
        feature: its name.
        size: mean |value| as it reaches the first layer.
        weight: largest |weight| from it.

    """

    feature: str
    size: float
    weight: float

    @property
    def product(self) -> float:
        """What it can add to a unit of the first layer."""
        return self.size * self.weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One hidden layer, measured on some rows.

    Attributes:
        number: from 1.
        units: how many.
        size: mean |activation| before batch normalization.
        largest: largest |activation| before batch normalization.
        dead: share of the units whose output never varies: off on every row, or stuck.
        saturated: share of the units that are on for every row and vary: they only pass a sum on.
        empty: share of the units whose incoming weights are all 0.
        shift: median over the units of |recorded less measured mean| in recorded deviations; None without batch normalization.
        stretch: median over the units of measured over recorded deviation, or its inverse where that is larger; None likewise.

    """

    number: int
    units: int
    size: float
    largest: float
    dead: float
    saturated: float
    empty: float
    shift: float | None
    stretch: float | None


def measure_pushes(network: DirectionNetwork, features: tuple[str, ...], x: Floats) -> tuple[Push, ...]:
    """Return how hard each feature pushes the first layer, hardest first.

    Args:
        network: to look into.
        features: names of its inputs.
        x: raw features, shape `(n, len(features))`.

    """
    with torch.inference_mode():
        size = entered(network, x).double().abs().mean(dim=0).numpy()
        weight = _linear(network, 1).weight.double().abs().amax(dim=0).numpy()
    pushes = [
        Push(feature=name, size=float(size[i]), weight=float(weight[i])) for i, name in enumerate(features)
    ]  # numpy's order would break ties by place
    return tuple(sorted(pushes, key=lambda push: -push.product))


def measure_layers(network: DirectionNetwork, x: Floats) -> tuple[Layer, ...]:
    """Return what each hidden layer makes of raw features, shape `(n, n_features)`, dropout off."""
    network.eval()
    layers = []
    with torch.inference_mode(), torch_threads(1):
        hidden = entered(network, x)
        for number in range(1, len(network.hidden) + 1):
            linear = _linear(network, number)
            before = linear(hidden)
            norm = network.get_submodule(f"bn{number}") if network.batch_normalization else None
            hidden = torch.relu(before if norm is None else norm(before))
            layers.append(_measured(number, linear, before, hidden, norm))
    return tuple(layers)


def _measured(number: int, linear: nn.Linear, before: Tensor, after: Tensor, norm: nn.Module | None) -> Layer:
    low, high = after.amin(dim=0), after.amax(dim=0)
    still = (high - low) <= _STILL * torch.maximum(high.abs(), torch.tensor(1e-12))
    shift = stretch = None
    if isinstance(norm, nn.BatchNorm1d) and norm.running_mean is not None and norm.running_var is not None:
        variance, mean = torch.var_mean(before.double(), dim=0)
        recorded = norm.running_var.double().clamp_min(1e-12)
        shift = float(((mean - norm.running_mean).abs() / recorded.sqrt()).median())
        ratio = (variance.clamp_min(1e-12) / recorded).sqrt()
        stretch = float(torch.maximum(ratio, 1 / ratio).median())
    return Layer(
        number=number,
        units=before.shape[1],
        size=float(before.abs().double().mean()),
        largest=float(before.abs().max()),
        dead=float(still.double().mean()),
        saturated=float(((low > 0) & ~still).double().mean()),
        empty=float((linear.weight == 0).all(dim=1).double().mean()),
        shift=shift,
        stretch=stretch,
    )


def _linear(network: DirectionNetwork, number: int) -> nn.Linear:
    linear = network.get_submodule(f"fc{number}")
    assert isinstance(linear, nn.Linear)
    return linear
