"""The networks: normalizer, layers and temperature in one module, so that they cannot be parted."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from crpbot.dataset.labels import CLASSES
from crpbot.model.choices import NetworkChoice
from crpbot.model.scaler import is_fitted
from crpbot.model.weights import Floats, Scaling, Weights, rows_at_a_time


class Normalizer(nn.Module):
    """Shift and scale features to zero mean and unit variance.

    The statistics are buffers: they move with `.to(device)`, are saved with the weights, and get no gradient. They are float64,
    since raw prices need more digits than float32 has; the output is float32. A new normalizer is unfitted: mean 0 and scale 1.

    Shape:
        - input: `(*, n_features)`, in feature units
        - output: `(*, n_features)`, in standard deviations

    >>> normalizer = Normalizer.fit(np.array([[1.0, 10.0], [3.0, 10.0]]))
    >>> normalizer(torch.tensor([[1.0, 10.0], [3.0, 11.0]]))
    tensor([[-1.,  0.],
            [ 1.,  1.]])
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(n_features, dtype=torch.float64))

    @classmethod
    def fit(cls, x: NDArray[np.float64]) -> Self:
        """Measure `x` of shape `(n, n_features)`; pass training rows only.

        A feature that never varies gets scale 1, so that it maps to 0 and not to NaN.
        """
        scaling = Scaling.fit(x)
        return cls.of(scaling.mean, scaling.scale)

    @classmethod
    def of(cls, mean: NDArray[np.float64], scale: NDArray[np.float64]) -> Self:
        """Take mean and scale of each feature, in feature units, as they are."""
        self = cls(len(mean))
        self.mean, self.scale = torch.from_numpy(mean.copy()), torch.from_numpy(scale.copy())
        return self

    @property
    def fitted(self) -> bool:
        """Whether it can have been fitted: finite means, finite positive scales, and not all alike as before a fit."""
        return is_fitted(self.mean.numpy(), self.scale.numpy())

    def forward(self, x: Tensor) -> Tensor:
        """Normalize `x`."""
        return ((x.double() - self.mean) / self.scale).float()


class DirectionNetwork(nn.Module):
    """A feed-forward network from features to the logits of DOWN, NEUTRAL and UP.

    Layers are named as the founding system named them: `fc1`, `bn1`, `fc2`, … and `temperature`.

    Args:
        input_size: how many features.
        hidden: width of each hidden layer.
        batch_normalization: after each hidden layer.
        dropout: after each hidden layer.
        temperature: where the divisor of the logits starts; None for a network without one.
        normalizer: whether features are normalized inside the network.

    Shape:
        - input: `(batch, input_size)`, or `(batch, time, input_size)`, of which the last step is used; feature units
        - output: `(batch, 3)`, logits after the temperature

    """

    def __init__(
        self,
        input_size: int = 72,
        *,
        hidden: tuple[int, ...] = (256, 128, 64),
        batch_normalization: bool = True,
        dropout: float = 0.3,
        temperature: float | None = 2.5,
        normalizer: bool = True,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden, self.batch_normalization = input_size, hidden, batch_normalization
        self.normalizer = Normalizer(input_size) if normalizer else None
        widths = (input_size, *hidden, len(CLASSES))
        for number, (fan_in, fan_out) in enumerate(pairwise(widths), start=1):
            self.add_module(f"fc{number}", nn.Linear(fan_in, fan_out))
            if batch_normalization and number <= len(hidden):
                self.add_module(f"bn{number}", nn.BatchNorm1d(fan_out))
        self.dropout = nn.Dropout(dropout)
        self.temperature = nn.Parameter(torch.tensor(float(temperature))) if temperature is not None else None
        self._layers = self._in_order()

    @classmethod
    def from_recipe(cls, choice: NetworkChoice, *, input_size: int, normalizer: bool) -> Self:
        """Make the untrained network of a recipe."""
        return cls(
            input_size,
            hidden=choice.hidden,
            batch_normalization=choice.batch_normalization,
            dropout=choice.dropout,
            temperature=choice.initial_temperature if choice.temperature == "learned" else None,
            normalizer=normalizer,
        )

    @property
    def weights(self) -> Weights:
        """Its numbers as they are, not copied; counts of batches are left out."""
        state = self.state_dict()
        return Weights({name: array.numpy() for name, array in state.items() if not name.endswith("num_batches_tracked")})

    def with_weights(self, weights: Weights) -> Self:
        """Return the same network with other numbers; this one stays as it is."""
        network, scaling = copy.deepcopy(self), weights.normalizer
        network.normalizer = None if scaling is None else Normalizer.of(scaling.mean, scaling.scale)
        state = {name: torch.from_numpy(np.array(array)) for name, array in weights.arrays.items()}
        network.load_state_dict(state, strict=False)
        return network

    def serve(self, x: Floats) -> Floats:
        """Return the logits of raw features as served, shape `(len(x), 3)`, float64."""
        return predict_logits(self, x)

    def speak(self, x: Floats) -> tuple[Floats, None]:
        """Return the same; it has no members."""
        return self.serve(x), None

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002
        """Load weights as any module does; a normalizer among them is taken along, never dropped."""
        if self.normalizer is None and "normalizer.mean" in state_dict:
            self.normalizer = Normalizer(self.input_size)
        return super().load_state_dict(state_dict, strict, assign)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of raw features, or of normalized ones where the network has no normalizer."""
        if x.dim() == 3:
            x = x[:, -1, :]
        return self.from_normalized(x.float() if self.normalizer is None else self.normalizer(x))

    def from_normalized(self, z: Tensor) -> Tensor:
        """Return the logits of features that are normalized already, shape `(batch, input_size)`, float32."""
        for layer in self._layers:
            z = layer(z)
        return z if self.temperature is None else z / self.temperature

    def _in_order(self) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for number in range(1, len(self.hidden) + 1):
            layers.append(self.get_submodule(f"fc{number}"))
            if self.batch_normalization:
                layers.append(self.get_submodule(f"bn{number}"))
            layers += [nn.ReLU(), self.dropout]
        return [*layers, self.get_submodule(f"fc{len(self.hidden) + 1}")]


class V7EnhancedFNN(DirectionNetwork):
    """The founding V7 network: 72-256-128-64-3 with batch normalization, dropout 0.3 and a temperature from 2.5.

    It has the founding state dict and loads one as it is, strictly. Alone it takes normalized features: set `normalizer` to a
    fitted `Normalizer`, or load a state dict that has one, before raw features are fed to it.

    >>> V7EnhancedFNN().eval()(torch.zeros(5, 20, 72)).shape
    torch.Size([5, 3])
    """

    def __init__(self, input_size: int = 72) -> None:
        super().__init__(input_size, normalizer=False)


def predict_logits(network: DirectionNetwork, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logits of raw features as served, shape `(len(x), 3)`, float64."""
    network.eval()
    logits = np.empty((len(x), len(CLASSES)))
    chunk = rows_at_a_time(network.input_size, *network.hidden)
    with torch.inference_mode(), torch_threads(1):
        for start in range(0, len(x), chunk):
            part = torch.from_numpy(np.ascontiguousarray(x[start : start + chunk]))
            logits[start : start + chunk] = network(part).numpy()
    return logits


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch use so many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
