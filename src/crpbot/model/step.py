"""One step of training, written out: forward, backward and Adam, on tensors that are made once.

A network of 60,000 weights has so little to compute for a batch of 64 that a general framework spends most of its time on its own
book-keeping: recording the graph, an optimizer pass for each of fifteen tensors, a random number for each dropped unit. Here the
slopes are the formulas themselves, and all weights are views of one vector. `tests/model/test_step.py` holds every slope against
autograd, and Adam against `torch.optim`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from crpbot.dataset.labels import CLASSES
from crpbot.model.choices import LossChoice, Precision
from crpbot.model.network import DirectionNetwork

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
"""Of Adam (Kingma & Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1), as PyTorch has them."""

_LEAST_MISS = 1e-12
"""The least 1 − p of the true class in the slope of the focal loss, where a γ below 1 would else divide by 0."""

_TRAINING = True
_below_relu = torch.ops.aten.threshold_backward.default
_below_norm = torch.ops.aten.native_batch_norm_backward.default


@dataclass(frozen=True, eq=False, kw_only=True)
class _Linear:
    """Views of one linear layer and of its slopes; `weight` has shape `(width, fan_in)`."""

    weight: Tensor
    bias: Tensor
    transposed: Tensor
    weight_slope: Tensor
    bias_slope: Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class _Norm:
    """Views of one batch normalization and of its slopes, and room for the statistics of a batch, shape `(width,)` each."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    momentum: float
    eps: float
    weight_slope: Tensor
    bias_slope: Tensor
    mean: Tensor
    inverse: Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class _Hidden:
    """One hidden layer, and room for a batch: what goes into its activation, what comes out, and the slope along that."""

    linear: _Linear
    norm: "_Norm | None"
    before: Tensor
    after: Tensor
    slope: Tensor


class Step:
    """Forward, backward and Adam of one network, batch after batch.

    The parameters of the network become views of one vector; its `forward` and `state_dict` work on as before.

    Args:
        network: to train, on its device.
        loss: what is made small.
        batch_size: rows of a batch at most.
        precision: of what the matrix products read; weights, sums and everything else stay float32.
        weight_decay: share of the weights of the linear layers, times the learning rate, that each step takes away, apart from
            the slopes. (Loshchilov & Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, algorithm 2, without schedule.)

    Attributes:
        batch_size: as given.
        parameters, slopes: of the network, in the order of its `parameters()`, shape `(n_parameters,)`.
        moments: Adam's running means of the slope and of its square, each of shape `(n_parameters,)`.
        steps: how many have been taken, a scalar.

    """

    def __init__(
        self,
        network: DirectionNetwork,
        loss: LossChoice,
        *,
        batch_size: int,
        precision: Precision = "float32",
        weight_decay: float = 0.0,
    ) -> None:
        self.loss, self.batch_size, self.precision, self.weight_decay = loss, batch_size, precision, weight_decay
        self.parameters, self.slopes, slopes = flatten(network)
        device = self.parameters.device
        self.moments = torch.zeros_like(self.parameters), torch.zeros_like(self.parameters)
        self.steps = torch.zeros((), device=device)
        depth = len(network.hidden)
        self._hidden = [_hidden(network, number, slopes, batch_size) for number in range(1, depth + 1)]
        self._last = _linear(network, depth + 1, slopes)
        self._temperature = None if network.temperature is None else (network.temperature.data, slopes["temperature"])
        self._logits = torch.empty(batch_size, len(CLASSES), device=device)
        smoothing = loss.label_smoothing
        self._targets = torch.eye(len(CLASSES), device=device) * (1 - smoothing) + smoothing / len(CLASSES)

    @torch.inference_mode()
    def __call__(self, z: Tensor, y: Tensor, keep: Sequence[Tensor], *, rate: float) -> Tensor:
        """Learn from one batch; return the loss of each of its rows before that, shape `(batch,)`.

        Args:
            z: normalized features, shape `(batch, n_features)`, float32, at least two rows.
            y: class numbers, shape `(batch,)`.
            keep: factors of the units of each hidden layer, 0 or 1/(1 − dropout), each of shape `(batch, width)`; empty where
                nothing is dropped.
            rate: the learning rate.

        """
        losses = self.measure(z, y, keep)
        if self.weight_decay:
            for layer in (*(hidden.linear for hidden in self._hidden), self._last):
                layer.weight.mul_(1 - rate * self.weight_decay)
        adam(
            [self.parameters],
            [self.slopes],
            [self.moments[0]],
            [self.moments[1]],
            [],
            [self.steps],
            fused=True,
            amsgrad=False,
            maximize=False,
            weight_decay=0.0,
            beta1=BETA_1,
            beta2=BETA_2,
            eps=EPSILON,
            lr=rate,
        )
        return losses

    @torch.inference_mode()
    def measure(self, z: Tensor, y: Tensor, keep: Sequence[Tensor]) -> Tensor:
        """Fill `slopes` with those of the mean loss, and return the loss of each row; arguments as of a step."""
        logits = self._forward(z, keep)
        losses, slope = self._slope_of_logits(logits, y)
        self._backward(slope, z, keep)
        return losses

    def _forward(self, z: Tensor, keep: Sequence[Tensor]) -> Tensor:
        n_rows = z.shape[0]
        for position, layer in enumerate(self._hidden):
            before, after = layer.before[:n_rows], layer.after[:n_rows]
            self._affine(z, layer.linear, before)
            if layer.norm is None:
                torch.clamp_min(before, 0, out=after)
            else:
                _normalize(before, layer.norm, after)
                torch.relu_(after)
            if keep:
                after.mul_(keep[position])
            z = after
        logits = self._logits[:n_rows]
        self._affine(z, self._last, logits)
        return logits

    def _slope_of_logits(self, logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of each row, and the slope of their mean along what the last layer gives."""
        served = logits if self._temperature is None else logits / self._temperature[0]
        log_p = torch.log_softmax(served, 1)
        targets = self._targets[y]
        losses = (targets * log_p).sum(1).neg_()
        slope = log_p.exp_().sub_(targets)  # of the cross entropy: p − target
        if self.loss.kind == "focal":
            losses, along = _focal(losses, alpha=self.loss.alpha, gamma=self.loss.gamma)
            slope.mul_(along.unsqueeze(1))
        slope.div_(len(y))
        if self._temperature is not None:
            temperature, temperature_slope = self._temperature
            slope.div_(temperature)
            torch.sum((slope * served).view(-1), 0, out=temperature_slope)
            temperature_slope.neg_()
        return losses, slope

    def _backward(self, slope: Tensor, z: Tensor, keep: Sequence[Tensor]) -> None:
        """Walk from the slope along the last layer's output to the first layer, filling `slopes`."""
        n_rows = z.shape[0]
        above = self._last
        torch.sum(slope, 0, out=above.bias_slope)
        for position in reversed(range(len(self._hidden))):
            layer = self._hidden[position]
            after, below = layer.after[:n_rows], layer.slope[:n_rows]
            self._product(slope.t(), after, above.weight_slope)
            self._product(slope, above.weight, below)
            if keep:
                below.mul_(keep[position])
            slope = _below_relu(below, after, 0)
            above = layer.linear
            if layer.norm is None:
                torch.sum(slope, 0, out=above.bias_slope)
            else:  # the slope of the bias stays 0: batch normalization takes the mean away
                slope = _unnormalize(slope, layer.before[:n_rows], layer.norm)
        self._product(slope.t(), z, above.weight_slope)

    def _affine(self, x: Tensor, layer: _Linear, out: Tensor) -> None:
        if self.precision == "float32":
            torch.addmm(layer.bias, x, layer.transposed, out=out)
        else:
            self._product(x, layer.transposed, out)
            out.add_(layer.bias)

    def _product(self, left: Tensor, right: Tensor, out: Tensor) -> None:
        if self.precision == "float32":
            torch.mm(left, right, out=out)
        else:
            out.copy_(left.bfloat16() @ right.bfloat16())


def draw_kept(
    random: np.random.Generator, n_rows: int, widths: Sequence[int], dropout: float, device: torch.device
) -> tuple[Tensor, ...]:
    """Draw which units stay, for each hidden layer: factors 0 or 1/(1 − dropout), shape `(n_rows, width)`; none for dropout 0.

    Sixteen random bits decide about a unit, so its chance to be dropped is a multiple of 2⁻¹⁶, and the factor is of that chance.
    (Srivastava et al., "Dropout", JMLR 15, 2014; scaled in training, so that nothing is left to do when serving.)
    """
    below = round(dropout * 2**16)
    if below == 0:
        return ()
    factor = np.float32(2**16 / (2**16 - below))
    factors = []
    for width in widths:
        n = n_rows * width
        bits = random.bit_generator.random_raw(-(-n // 4)).view(np.uint16)[:n]
        factors.append(torch.from_numpy(np.multiply(bits >= below, factor).reshape(n_rows, width)).to(device))
    return tuple(factors)


def flatten(network: DirectionNetwork) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
    """Make the parameters views of one vector; return it, a vector for their slopes, and the views of that by name."""
    named = dict(network.named_parameters())
    vector = torch.cat([parameter.data.reshape(-1) for parameter in named.values()])
    slopes = torch.zeros_like(vector)
    of_name, start = {}, 0
    for name, parameter in named.items():
        rows = slice(start, start + parameter.numel())
        parameter.data = vector[rows].view(parameter.shape)
        of_name[name] = slopes[rows].view(parameter.shape)
        start = rows.stop
    return vector, slopes, of_name


def _linear(network: DirectionNetwork, number: int, slopes: Mapping[str, Tensor]) -> _Linear:
    layer = network.get_submodule(f"fc{number}")
    assert isinstance(layer, nn.Linear)
    weight, bias = layer.weight.data, layer.bias.data
    return _Linear(
        weight=weight,
        bias=bias,
        transposed=weight.t(),
        weight_slope=slopes[f"fc{number}.weight"],
        bias_slope=slopes[f"fc{number}.bias"],
    )


def _hidden(network: DirectionNetwork, number: int, slopes: Mapping[str, Tensor], batch_size: int) -> _Hidden:
    linear = _linear(network, number, slopes)
    before = torch.empty(batch_size, len(linear.bias), device=linear.bias.device)
    return _Hidden(
        linear=linear,
        norm=_norm(network, number, slopes) if network.batch_normalization else None,
        before=before,
        after=torch.empty_like(before),
        slope=torch.empty_like(before),
    )


def _norm(network: DirectionNetwork, number: int, slopes: Mapping[str, Tensor]) -> _Norm:
    layer = network.get_submodule(f"bn{number}")
    assert isinstance(layer, nn.BatchNorm1d)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    assert layer.momentum is not None
    return _Norm(
        weight=layer.weight.data,
        bias=layer.bias.data,
        running_mean=layer.running_mean,
        running_var=layer.running_var,
        momentum=layer.momentum,
        eps=layer.eps,
        weight_slope=slopes[f"bn{number}.weight"],
        bias_slope=slopes[f"bn{number}.bias"],
        mean=torch.empty_like(layer.running_mean),
        inverse=torch.empty_like(layer.running_mean),
    )


def _focal(ce: Tensor, *, alpha: float, gamma: float) -> tuple[Tensor, Tensor]:
    """Return α·(1 − exp(−ce))^γ·ce, and its slope along ce: α·(1 − exp(−ce))^(γ−1)·(1 − exp(−ce) + γ·exp(−ce)·ce)."""
    p = torch.exp(-ce)
    miss = torch.expm1(-ce).neg_().clamp_min_(_LEAST_MISS)
    power = miss.pow(gamma - 1).mul_(alpha)
    along = p.mul_(ce).mul_(gamma).add_(miss).mul_(power)
    return power.mul_(miss).mul_(ce), along


def _normalize(x: Tensor, norm: _Norm, out: Tensor) -> None:
    """Normalize a batch as `nn.BatchNorm1d` does in training, into `out`."""
    torch.native_batch_norm(
        x,
        norm.weight,
        norm.bias,
        norm.running_mean,
        norm.running_var,
        _TRAINING,
        norm.momentum,
        norm.eps,
        out=(out, norm.mean, norm.inverse),
    )


def _unnormalize(slope: Tensor, x: Tensor, norm: _Norm) -> Tensor:
    """Return the slope along `x`, what went into batch normalization, and fill those of its weight and bias."""
    below, weight_slope, bias_slope = _below_norm(
        slope, x, norm.weight, norm.running_mean, norm.running_var, norm.mean, norm.inverse, _TRAINING, norm.eps, [True] * 3
    )
    norm.weight_slope.copy_(weight_slope)
    norm.bias_slope.copy_(bias_slope)
    return below  # type: ignore[no-any-return]
