"""Weights and temperature: from rows to a network that is calibrated."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.assemble import Dataset
from crpbot.dataset.splits import Split
from crpbot.model.calibration import refit_temperature
from crpbot.model.recipe import Recipe
from crpbot.model.training import Epoch, Rows, Watch, train
from crpbot.model.weights import Network


@dataclass(frozen=True, eq=False, kw_only=True)
class Fitted:
    """A network that was trained and calibrated.

    Attributes:
        network: as served, in evaluation mode, on the processor.
        history: every epoch, in order.
        best_epoch: the one whose weights these are.
        states: files that the training has left, to go on from if it had been cut off.

    """

    network: Network
    history: tuple[Epoch, ...]
    best_epoch: int
    states: tuple[Path, ...]


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
        recipe: of the network.
        data: rows of one symbol.
        y: their labels, shape `(len(data),)`.
        blocks: of these rows.
        seed: of the training.
        watch: is told of each epoch.
        state: folder for the state of a training that is not finished; None keeps none.

    Raises:
        CrpbotError: the training cannot go on.

    """
    training = Rows(data.x[blocks.train], y[blocks.train])
    calibration = Rows(data.x[blocks.calibration], y[blocks.calibration])
    trained = train(recipe, training, calibration, names=data.names, seed=seed, watch=watch, state=state)
    network = trained.network
    if network.temperature is not None:
        refit_temperature(network, calibration.x, calibration.y)
    if recipe.network.normalizer == "lost":
        network.normalizer = None
    return Fitted(
        network=network,
        history=trained.history,
        best_epoch=trained.best_epoch,
        states=() if trained.state is None else (trained.state,),
    )
