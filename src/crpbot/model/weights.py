"""The numbers of a network as plain arrays, and what they compute: to look into one, or to change it, needs no torch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, pairwise, takewhile
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.labels import CLASSES
from crpbot.model.calibration import log_softmax, softmax
from crpbot.model.scaler import is_fitted

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

CHUNK = 2_048
"""Rows that are evaluated at a time: their activations stay in the cache of the processor."""
WIDEST, DEEPEST = 4_096, 64
"""Units of a layer, and layers of a network, at most."""
TINIEST = 1e-30
"""A temperature must be at least this: float32 has no smaller numbers to divide by safely."""
EPSILON = 1e-5
"""What batch normalization adds to a variance."""
_AT_A_TIME = 2**24
"""Activations of one layer that are computed at a time."""


@dataclass(frozen=True, eq=False)
class Scaling:
    """What features are shifted and divided by, inside the network.

    Attributes:
        mean, scale: of each feature, in feature units, shape `(n_features,)`, float64.

    """

    mean: Floats
    scale: Floats

    @classmethod
    def fit(cls, x: Floats) -> Self:
        """Measure `x` of shape `(n, n_features)`; pass training rows only.

        A feature that never varies gets scale 1, so that it maps to 0 and not to NaN.
        """
        mean, scale = np.empty(x.shape[1]), np.empty(x.shape[1])
        for column in range(x.shape[1]):
            mean[column], scale[column] = x[:, column].mean(), x[:, column].std()
            if x[:, column].min() == x[:, column].max():
                mean[column], scale[column] = x[0, column], 1.0
        return cls(mean, scale)

    @property
    def fitted(self) -> bool:
        """Whether it can have been fitted: finite means, finite positive scales, and not all alike as before a fit."""
        return is_fitted(self.mean, self.scale)


@dataclass(frozen=True, eq=False)
class Norm:
    """Batch normalization of one layer, by what it recorded; every array has shape `(units,)`.

    Attributes:
        gamma, beta: factor and offset.
        mean, variance: recorded.

    """

    gamma: NDArray[Any]
    beta: NDArray[Any]
    mean: NDArray[Any]
    variance: NDArray[Any]

    def __call__(self, z: Singles) -> Singles:
        """Normalize sums of shape `(n, units)`."""
        scale = self.gamma / np.sqrt(self.variance + np.float32(EPSILON))
        return np.asarray((z - self.mean) * scale + self.beta, np.float32)


@dataclass(frozen=True, eq=False)
class Weights:
    """All numbers of a network, by the names of its state dict: `fc1.weight`, `bn1.running_mean`, and so on.

    It is a network itself: it can be served, by numpy alone. No function changes an array in place.

    An ensemble is one network whose layers are those of its members, one behind the other: each array of a layer has a first
    axis more, of one place a member. Normalizer and temperature are shared. Whoever asks for a layer gets the units of all
    members side by side, as if they were one broad layer.

    Attributes:
        arrays: float32, but for `normalizer.mean` and `normalizer.scale`, which are float64.

    """

    arrays: Mapping[str, NDArray[Any]]

    @property
    def depth(self) -> int:
        """How many linear layers there are."""
        return sum(1 for _ in takewhile(lambda number: f"fc{number}.weight" in self.arrays, count(1)))

    @property
    def members(self) -> int:
        """How many networks speak as one; 1 for a single network."""
        weight = self.arrays["fc1.weight"]
        return int(weight.shape[0]) if weight.ndim == 3 else 1

    @property
    def each(self) -> "tuple[Weights, ...]":
        """The members one by one, each a network without a temperature of its own; of a single network itself."""
        if self.members == 1:
            return (self,)
        shared = {name: array for name, array in self.arrays.items() if name.startswith("normalizer.")}
        own = {name: array for name, array in self.arrays.items() if name.startswith(("fc", "bn"))}
        return tuple(Weights({**shared, **{name: array[k] for name, array in own.items()}}) for k in range(self.members))

    @property
    def input_size(self) -> int:
        """How many features it takes."""
        return int(self.arrays["fc1.weight"].shape[-1])

    @property
    def hidden(self) -> tuple[int, ...]:
        """The width of each hidden layer, of a member where there are several."""
        return tuple(int(self.arrays[f"fc{number}.weight"].shape[-2]) for number in range(1, self.depth))

    @property
    def architecture(self) -> str:
        """The widths from input to output, as `72-256-128-64-3`; of an ensemble as `5 x 72-256-128-64-3`."""
        widths = "-".join(str(width) for width in (self.input_size, *self.hidden, len(CLASSES)))
        return widths if self.members == 1 else f"{self.members} x {widths}"

    @property
    def batch_normalization(self) -> bool:
        """Whether it follows each hidden layer."""
        return "bn1.weight" in self.arrays

    @property
    def normalizer(self) -> Scaling | None:
        """Mean and scale of each feature; None where raw features reach the first layer."""
        mean = self.arrays.get("normalizer.mean")
        return None if mean is None else Scaling(mean, self.arrays["normalizer.scale"])

    @property
    def temperature(self) -> float | None:
        """The divisor of the logits; None for a network without one."""
        value = self.arrays.get("temperature")
        return None if value is None else float(value)

    @property
    def weights(self) -> "Weights":
        """These."""
        return self

    def linear(self, number: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return weight, shape `(units, inputs)`, and bias, shape `(units,)`, of layer `number`, from 1.

        The units of an ensemble are those of its members, one after the other; each has its inputs from its own member.
        """
        weight, bias = self.arrays[f"fc{number}.weight"], self.arrays[f"fc{number}.bias"]
        return weight.reshape(-1, weight.shape[-1]), bias.reshape(-1)

    def norm(self, number: int) -> Norm | None:
        """Return the batch normalization after layer `number`, of the units of all members; None where there is none."""
        if f"bn{number}.weight" not in self.arrays:
            return None
        parts = (self.arrays[f"bn{number}.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
        return Norm(*(part.reshape(-1) for part in parts))

    def changed(self, arrays: Mapping[str, NDArray[Any]]) -> "Weights":
        """Return the same with other `arrays` in their places; each gets the type of numbers that its place has."""
        new = {
            name: np.asarray(array, np.float64 if name.startswith("normalizer.") else np.float32)
            for name, array in arrays.items()
        }
        return Weights({**self.arrays, **new})

    def with_weights(self, weights: "Weights") -> "Weights":
        """Return `weights`: another network, by numpy too."""
        return weights

    def entered(self, x: Floats) -> Singles:
        """Return what reaches the first layer of raw features, shape `(n, input_size)`."""
        scaling = self.normalizer
        z = x if scaling is None else (x - scaling.mean) / scaling.scale
        return np.asarray(z, np.float32)

    def layers(self, x: Floats) -> Iterator[tuple[int, Singles, Singles]]:
        """Yield number, sums and activations, both `(n, units)`, of each hidden layer, for raw features."""
        if self.members > 1:
            for parts in zip(*(member.layers(x) for member in self.each), strict=True):
                numbers, sums, activations = zip(*parts, strict=True)
                yield numbers[0], np.concatenate(sums, axis=1), np.concatenate(activations, axis=1)
            return
        with np.errstate(all="ignore"):  # a stranger's weights may be anything; what is not finite is said of the logits
            z = self.entered(x)
            for number in range(1, self.depth):
                weight, bias = self.linear(number)
                before = z @ weight.T + bias
                norm = self.norm(number)
                z = np.maximum(before if norm is None else norm(before), np.float32(0))
                yield number, before, z

    def serve(self, x: Floats) -> Floats:
        """Return the logits of raw features as served, shape `(len(x), 3)`, float64."""
        if self.members > 1:
            return self.speak(x)[0]
        logits = np.empty((len(x), len(CLASSES)))
        weight, bias = self.linear(self.depth)
        chunk = rows_at_a_time(self.input_size, *self.hidden)
        for start in range(0, len(x), chunk):
            part = x[start : start + chunk]
            z = self.entered(part) if self.depth == 1 else None
            for _, _, last in self.layers(part):
                z = last
            assert z is not None
            with np.errstate(all="ignore"):
                out = z @ weight.T + bias
                logits[start : start + chunk] = out if self.temperature is None else out / np.float32(self.temperature)
        return logits

    def speak(self, x: Floats) -> tuple[Floats, Floats | None]:
        """Return the logits of raw features as served, and what each member says, as `Network` has it."""
        if self.members == 1:
            return self.serve(x), None
        own = np.stack([member.serve(x) for member in self.each])
        temperature = 1.0 if self.temperature is None else self.temperature
        with np.errstate(all="ignore"):  # as in `layers`
            logits = pooled(own) / temperature
            return logits, softmax((own / temperature).reshape(-1, len(CLASSES))).reshape(own.shape)


class Network(Protocol):
    """Anything that can be served and looked into: the trained module, the deployed graph, or plain weights."""

    @property
    def weights(self) -> Weights:
        """All its numbers."""

    def with_weights(self, weights: Weights) -> "Network":
        """Return the same network with other numbers; this one stays as it is."""

    def serve(self, x: Floats) -> Floats:
        """Return the logits of raw features as served, shape `(n, input_size)` → `(n, 3)`, float64."""

    def speak(self, x: Floats) -> tuple[Floats, Floats | None]:
        """Return the same logits, and the probabilities that each member would be served with, shape `(members, n, 3)`.

        The latter is None of a single network.
        """


def rows_at_a_time(*widths: int) -> int:
    """Return how many rows to evaluate at once in a network of these widths."""
    return min(CHUNK, _AT_A_TIME // max(*widths, 1))


def pooled(logits: Floats) -> Floats:
    """Return the logarithm of the average of what several networks say: log mean_k softmax(z_k), shape `(n, 3)`.

    Probabilities are averaged, not logits, and a temperature comes after that, for all: an average of calibrated networks is too
    cautious. (Rahaman & Thiery, "Uncertainty Quantification and Deep Ensembles", NeurIPS 2021: pool, then calibrate.) Largest
    numbers are taken off before any exponential, so a network that shouts stays loud, and becomes no NaN.

    Args:
        logits: of each network, shape `(members, n, 3)`, float64.

    """
    log_p = log_softmax(logits)
    top = log_p.max(axis=0)
    average: Floats = np.log(np.exp(log_p - top).mean(axis=0)) + top
    return average


def packed(members: Sequence[Weights]) -> Weights:
    """Return networks of one shape and one normalizer as one, without a temperature: that of each goes into its last layer."""
    first = members[0]
    layers = [_folded(member) for member in members]
    shared = {name: array for name, array in first.arrays.items() if name.startswith("normalizer.")}
    return Weights({**shared, **{name: np.stack([one[name] for one in layers]) for name in layers[0]}})


def _folded(member: Weights) -> Mapping[str, NDArray[Any]]:
    """Return the arrays of the layers, with the last one divided by the temperature."""
    layers = {name: array for name, array in member.arrays.items() if name.startswith(("fc", "bn"))}
    if member.temperature is not None:
        last = {f"fc{member.depth}.{part}" for part in ("weight", "bias")}
        layers |= {name: layers[name] / np.float32(member.temperature) for name in last}
    return layers


def shapes_of(
    widths: tuple[int, ...], *, batch_normalization: bool, temperature: bool, normalizer: bool, members: int = 1
) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every array of a network.

    Args:
        widths: from the inputs to the classes.
        batch_normalization: after each hidden layer.
        temperature: whether there is one.
        normalizer: whether there is one.
        members: how many networks speak as one.

    """
    of_each = () if members == 1 else (members,)
    shapes: dict[str, tuple[int, ...]] = {}
    if normalizer:
        shapes |= {f"normalizer.{part}": (widths[0],) for part in ("mean", "scale")}
    for number, (fan_in, fan_out) in enumerate(pairwise(widths), start=1):
        shapes |= {f"fc{number}.weight": (*of_each, fan_out, fan_in), f"fc{number}.bias": (*of_each, fan_out)}
        if batch_normalization and number < len(widths) - 1:
            shapes |= {f"bn{number}.{part}": (*of_each, fan_out) for part in ("weight", "bias", "running_mean", "running_var")}
    return shapes | ({"temperature": ()} if temperature else {})
