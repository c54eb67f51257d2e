"""Weights and temperature of a dataset: from rows in their blocks to a network as it is written."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.assemble import Dataset
from crpbot.dataset.splits import Split
from crpbot.model.fitting import Dated, Fitted, fit_network
from crpbot.model.recipe import Recipe
from crpbot.model.training import Rows, Watch
from crpbot.model.weights import Network, Weights


def fit(
    recipe: Recipe,
    data: Dataset,
    y: NDArray[np.int64],
    blocks: Split,
    *,
    seed: int,
    watch: Watch | None = None,
    state: Path | None = None,
) -> Fitted:
    """Train the network of `recipe` on the training block and calibrate it on the calibration block; the test block is not read.

    Args:
        recipe: of the network, or of the members of an ensemble.
        data: rows of one symbol.
        y: their labels, shape `(len(data),)`.
        blocks: of these rows.
        seed: of the training.
        watch: is told of each epoch.
        state: folder for the state of a training that is not finished; None keeps none.

    Raises:
        CrpbotError: the training cannot go on.

    """
    block = blocks.train
    training = Dated(data.x[block], y[block], data.time[block], data.known[block])
    calibration = Rows(data.x[blocks.calibration], y[blocks.calibration])
    fitted = fit_network(recipe, training, calibration, names=data.names, seed=seed, watch=watch, state=state)
    return replace(fitted, network=_lost(fitted.network)) if recipe.network.normalizer == "lost" else fitted


def _lost(network: Network) -> Network:
    """Return a network without its normalizer."""
    arrays = {name: array for name, array in network.weights.arrays.items() if not name.startswith("normalizer.")}
    return network.with_weights(Weights(arrays))
