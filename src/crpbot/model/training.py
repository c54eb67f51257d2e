"""Training: make the loss of a recipe small, keep the best epoch, and never learn from a number that is not finite."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from crpbot.errors import DatasetError, TrainingError
from crpbot.model.calibration import fit_temperature, softmax
from crpbot.model.network import CHUNK, DirectionNetwork, Normalizer, torch_threads
from crpbot.model.recipe import LossChoice, Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What one pass over the training rows did.

    Attributes:
        epoch: counted from 1.
        of: the most epochs there may be.
        training_loss: mean loss of the recipe while training (dropout on), lower is better.
        calibration_loss: mean loss of the recipe on the calibration block (dropout off), lower is better.
        calibration_log_loss: mean cross entropy there as the model would be served, in nats: after the best temperature for
            networks that have one. Early stopping watches this.
        calibration_accuracy: share of right classes there.
        learning_rate: in this epoch.
        temperature: at the end of the epoch; None for networks without one.
        rows_per_second: training rows; depends on the machine.
        best: whether this is the best epoch so far.

    """

    epoch: int
    of: int
    training_loss: float
    calibration_loss: float
    calibration_log_loss: float
    calibration_accuracy: float
    learning_rate: float
    temperature: float | None
    rows_per_second: float
    best: bool


Watch = Callable[[Epoch], None]


@dataclass(frozen=True, eq=False)
class Trained:
    """What training gives.

    Attributes:
        network: as of its best epoch, in evaluation mode, on the processor.
        history: every epoch, in order.

    """

    network: DirectionNetwork
    history: tuple[Epoch, ...]

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights these are."""
        return max(epoch.epoch for epoch in self.history if epoch.best)


@dataclass(frozen=True)
class Rows:
    """Rows to learn from or to judge by.

    Attributes:
        x: features in their own units, shape `(n, n_features)`.
        y: labels, shape `(n,)`.

    """

    x: NDArray[np.float64]
    y: NDArray[np.int64]


def train(
    recipe: Recipe, training: Rows, calibration: Rows, *, names: tuple[str, ...], seed: int, watch: Watch | None = None
) -> Trained:
    """Train the network of `recipe` and return it as of its best epoch.

    The same arguments give the same weights, to the bit, on the same machine and library versions. The global random state is
    left as it was. A GPU is used where there is one.

    Args:
        recipe: everything that decides.
        training: rows to fit normalizer and weights on.
        calibration: rows for early stopping.
        names: of the features, for error messages.
        seed: of weights, order and dropout.
        watch: is told of each epoch.

    Raises:
        DatasetError: a feature is not finite.
        TrainingError: the loss is not finite.

    """
    choice = recipe.training
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for rows in (training, calibration):
        _check_finite(rows.x, names)
    gpus = [device] if device.type == "cuda" else []
    with torch_threads(choice.threads), torch.random.fork_rng(gpus):
        torch.manual_seed(seed)
        network = DirectionNetwork.from_recipe(
            recipe.network, input_size=len(names), normalizer=recipe.network.normalizer != "none"
        )
        if recipe.network.normalizer != "none":
            network.normalizer = Normalizer.fit(training.x)
        z, y = _prepare(network, training, device)
        z_calibration, y_calibration = _prepare(network, calibration, device)
        network.to(device)
        objective = _objective(recipe.loss)
        optimizer = torch.optim.Adam(network.parameters(), lr=choice.learning_rate, fused=True)
        best_state, best_loss, best_epoch = _copy(network), math.inf, 0
        history: list[Epoch] = []
        for number in range(1, choice.epochs + 1):
            rate = choice.learning_rate * _decay(choice.schedule, (number - 1) / choice.epochs)
            for group in optimizer.param_groups:
                group["lr"] = rate
            started = time.perf_counter()
            training_loss = _one_epoch(network, optimizer, objective, z, y, choice.batch_size)
            speed = len(y) / (time.perf_counter() - started)
            logits = evaluate(network, z_calibration)
            loss = float(objective(logits, y_calibration))
            log_loss = _served_log_loss(logits, y_calibration, refitted=network.temperature is not None)
            if not (math.isfinite(loss) and math.isfinite(training_loss)):
                raise TrainingError(
                    f"the loss must stay finite, found {training_loss:g} in training and {loss:g} on the calibration block "
                    f"in epoch {number}; lower training.learning_rate (now {choice.learning_rate:g})"
                )
            better = log_loss < best_loss
            if better:
                best_state, best_loss, best_epoch = _copy(network), log_loss, number
            history.append(
                Epoch(
                    epoch=number,
                    of=choice.epochs,
                    training_loss=training_loss,
                    calibration_loss=loss,
                    calibration_log_loss=log_loss,
                    calibration_accuracy=float((logits.argmax(1) == y_calibration).double().mean()),
                    learning_rate=rate,
                    temperature=None if network.temperature is None else network.temperature.item(),
                    rows_per_second=speed,
                    best=better,
                )
            )
            if watch is not None:
                watch(history[-1])
            if number - best_epoch >= choice.patience:
                break
    network.load_state_dict(best_state)
    return Trained(network.cpu().eval(), tuple(history))


def focal_loss(logits: Tensor, y: Tensor, *, alpha: float, gamma: float, label_smoothing: float) -> Tensor:
    """Return mean(α·(1 − exp(−ce))^γ·ce), ce the cross entropy with label smoothing.

    (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 5, over the smoothed cross entropy of
    Szegedy et al., CVPR 2016.)

    Shape:
        - logits: `(batch, 3)`; y: `(batch,)`, class numbers; result: a scalar, in nats

    """
    ce = functional.cross_entropy(logits, y, label_smoothing=label_smoothing, reduction="none")
    return (alpha * (1 - torch.exp(-ce)) ** gamma * ce).mean()


def evaluate(network: DirectionNetwork, z: Tensor) -> Tensor:
    """Return the logits of normalized rows with dropout off, shape `(n, 3)`."""
    network.eval()
    with torch.inference_mode():
        return torch.cat([network.from_normalized(part) for part in torch.split(z, CHUNK)])


def _served_log_loss(logits: Tensor, y: Tensor, *, refitted: bool) -> float:
    """Return the log loss after the temperature that a refit would find.

    The temperature is refitted after training anyway, so two epochs are compared as they would be served; the loss of a recipe
    may reward something else (focal loss with smoothing is not a proper score).
    """
    served = logits.double().cpu().numpy()
    truth = y.cpu().numpy()
    temperature = fit_temperature(served, truth) if refitted else 1.0
    probabilities = softmax(served / temperature)
    return float(-np.log(np.maximum(probabilities[np.arange(len(truth)), truth], 1e-300)).mean())


def _one_epoch(
    network: DirectionNetwork,
    optimizer: torch.optim.Optimizer,
    objective: Callable[[Tensor, Tensor], Tensor],
    z: Tensor,
    y: Tensor,
    batch_size: int,
) -> float:
    """Show every row to the network once, in a new order; return the mean loss.

    The rows are put in order once, and each batch is a view of them: no loader, no copy, no worker. A last batch of one row is
    left out, since batch normalization cannot work with it.
    """
    network.train()
    order = torch.randperm(len(y)).to(z.device)
    z, y = z[order], y[order]
    total = torch.zeros((), device=z.device)
    seen = 0
    for z_batch, y_batch in zip(torch.split(z, batch_size), torch.split(y, batch_size), strict=True):
        if len(y_batch) < 2:
            continue
        optimizer.zero_grad(set_to_none=True)
        loss = objective(network.from_normalized(z_batch), y_batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += loss.detach() * len(y_batch)
        seen += len(y_batch)
    return float(total) / seen


def _objective(choice: LossChoice) -> Callable[[Tensor, Tensor], Tensor]:
    if choice.kind == "focal":
        return lambda logits, y: focal_loss(
            logits, y, alpha=choice.alpha, gamma=choice.gamma, label_smoothing=choice.label_smoothing
        )
    return lambda logits, y: functional.cross_entropy(logits, y, label_smoothing=choice.label_smoothing)


def _decay(schedule: str, progress: float) -> float:
    """Return the share of the first learning rate left after `progress`, 0 to 1, of the epochs.

    (Cosine: Loshchilov & Hutter, "SGDR", ICLR 2017, equation 5, without restarts.)
    """
    return 0.5 * (1 + math.cos(math.pi * progress)) if schedule == "cosine" else 1.0


def _prepare(network: DirectionNetwork, rows: Rows, device: torch.device) -> tuple[Tensor, Tensor]:
    """Normalize once what every epoch will read."""
    z = torch.empty(rows.x.shape, dtype=torch.float32)
    for start in range(0, len(z), CHUNK):
        part = torch.from_numpy(np.ascontiguousarray(rows.x[start : start + CHUNK]))
        z[start : start + CHUNK] = part.float() if network.normalizer is None else network.normalizer(part)
    return z.to(device), torch.from_numpy(rows.y).to(device)


def _copy(network: DirectionNetwork) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _check_finite(x: NDArray[np.float64], names: tuple[str, ...]) -> None:
    for column, name in enumerate(names):
        broken = ~np.isfinite(x[:, column])
        if broken.any():
            row = int(broken.argmax())
            raise DatasetError(
                f"training needs finite features, found {x[row, column]} in {name} at row {row}; drop or correct that row"
            )
