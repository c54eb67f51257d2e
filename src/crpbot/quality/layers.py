"""What happens inside a network: what reaches the first layer, and what each hidden layer makes of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crpbot.model.weights import Norm, Singles, Weights

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


def measure_pushes(weights: Weights, features: tuple[str, ...], x: Floats) -> tuple[Push, ...]:
    """Return how hard each feature pushes the first layer, hardest first.

    Args:
        weights: of the network to look into.
        features: names of its inputs.
        x: raw features, shape `(n, len(features))`.

    """
    size = np.abs(weights.entered(x).astype(np.float64)).mean(axis=0)
    weight = np.abs(weights.linear(1)[0].astype(np.float64)).max(axis=0)
    pushes = [
        Push(feature=name, size=float(size[i]), weight=float(weight[i])) for i, name in enumerate(features)
    ]  # numpy's order would break ties by place
    return tuple(sorted(pushes, key=lambda push: -push.product))


def measure_layers(weights: Weights, x: Floats) -> tuple[Layer, ...]:
    """Return what each hidden layer makes of raw features, shape `(n, n_features)`, dropout off."""
    with np.errstate(all="ignore"):
        return tuple(
            _measured(number, weights.linear(number)[0], before, after, weights.norm(number))
            for number, before, after in weights.layers(x)
        )


def _measured(number: int, weight: Singles, before: Singles, after: Singles, norm: Norm | None) -> Layer:
    low, high = after.min(axis=0), after.max(axis=0)
    still = (high - low) <= _STILL * np.maximum(np.abs(high), np.float32(1e-12))
    shift = stretch = None
    if norm is not None:
        wide = before.astype(np.float64)
        variance, mean = wide.var(axis=0, ddof=1), wide.mean(axis=0)
        recorded = np.maximum(norm.variance.astype(np.float64), 1e-12)
        shift = float(np.median(np.abs(mean - norm.mean) / np.sqrt(recorded)))
        ratio = np.sqrt(np.maximum(variance, 1e-12) / recorded)
        stretch = float(np.median(np.maximum(ratio, 1 / ratio)))
    return Layer(
        number=number,
        units=before.shape[1],
        size=float(np.abs(before).mean(dtype=np.float64)),
        largest=float(np.abs(before).max()),
        dead=float(still.mean()),
        saturated=float(((low > 0) & ~still).mean()),
        empty=float((weight == 0).all(axis=1).mean()),
        shift=shift,
        stretch=stretch,
    )
