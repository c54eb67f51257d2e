"""The mean of the weights over the last steps of training: a network of its own, less noisy than the one that is trained."""

import copy

import torch
from torch import Tensor, nn

from crpbot.model.network import DirectionNetwork
from crpbot.model.step import flatten


class Average:
    """A running mean of a network in training, of its weights and of what its batch normalization recorded.

    The mean is over all steps at first, and then an exponential one: each step moves it on by 1/min(steps, `over`) of the way.
    (Polyak & Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM J. Control Optim. 30, 1992; exponential
    as in Tarvainen & Valpola, "Mean teachers are better role models", NeurIPS 2017.)

    Args:
        network: in training, its parameters views of one vector.
        parameters: that vector.
        over: steps.

    Attributes:
        network: the mean.

    """

    def __init__(self, network: DirectionNetwork, parameters: Tensor, *, over: int) -> None:
        self.over = over
        self.network = copy.deepcopy(network)
        mine, _, _ = flatten(self.network)
        self._pairs = [(mine, parameters), *zip(_recorded(self.network), _recorded(network), strict=True)]

    @torch.inference_mode()
    def __call__(self, steps: int) -> None:
        """Take in the weights after so many steps, counted from 1."""
        share = 1 / min(steps, self.over)
        for mine, theirs in self._pairs:
            mine.lerp_(theirs, share)


def _recorded(network: DirectionNetwork) -> list[Tensor]:
    """Return mean and variance of each batch normalization."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm1d)]
    return [tensor for layer in layers for tensor in (layer.running_mean, layer.running_var) if tensor is not None]
