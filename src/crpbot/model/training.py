"""Training: make the loss of a recipe small, keep the best epoch, and never learn from a number that is not finite."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from crpbot.errors import DatasetError, TrainingError
from crpbot.model.average import Average
from crpbot.model.calibration import fit_temperature, softmax
from crpbot.model.loss import mean_loss
from crpbot.model.network import DirectionNetwork, Normalizer, torch_threads
from crpbot.model.recipe import Recipe
from crpbot.model.state import load_state, save_state, state_file, state_key
from crpbot.model.step import Step, draw_kept
from crpbot.model.weights import CHUNK, Scaling

_GATHERED = 4_096
"""Rows that are put in order at a time: few enough to stay in the processor's cache until they are read."""
_BEST = "best."


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
        earlier: whether an earlier run did it, that was cut off and left its state.
        member: of an ensemble, from 1; by fold its own group stands in for the calibration block. 0 for a single network.

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
    earlier: bool = False
    member: int = 0


Watch = Callable[[Epoch], None]


@dataclass(frozen=True, eq=False)
class Trained:
    """What training gives.

    Attributes:
        network: as of its best epoch, in evaluation mode, on the processor.
        history: every epoch, in order.
        state: file of the state that the run has left; None where it kept none.

    """

    network: DirectionNetwork
    history: tuple[Epoch, ...]
    state: Path | None = None

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
    recipe: Recipe,
    training: Rows,
    calibration: Rows,
    *,
    names: tuple[str, ...],
    seed: int,
    watch: Watch | None = None,
    state: Path | None = None,
    scaling: Scaling | None = None,
) -> Trained:
    """Train the network of `recipe` and return it as of its best epoch.

    The same arguments give the same weights, to the bit, on the same machine and library versions, also when the run was killed
    in between and taken up again from its state. The global random state is left as it was. A GPU is used where there is one.

    Args:
        recipe: everything that decides.
        training: rows to fit normalizer and weights on.
        calibration: rows for early stopping.
        names: of the features, for error messages.
        seed: of weights, order and dropout.
        watch: is told of each epoch, also of those that an earlier run has done.
        state: folder where the state is kept after each epoch; a run of the same arguments goes on from there. None: nowhere.
        scaling: of the features; by default, and where a recipe normalizes, it is fitted on the training rows.

    Raises:
        DatasetError: a feature is not finite.
        TrainingError: the loss is not finite.

    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch_threads(recipe.training.threads):
        run = _Run(recipe, training, calibration, names=names, seed=seed, device=device, folder=state, scaling=scaling)
        for epoch in run.take_up():
            if watch is not None:
                watch(epoch)
        while not run.over:
            epoch = run.next_epoch()
            if watch is not None:
                watch(epoch)
        return run.best()


class _Run:
    """One training run between two epochs."""

    def __init__(
        self,
        recipe: Recipe,
        training: Rows,
        calibration: Rows,
        *,
        names: tuple[str, ...],
        seed: int,
        device: torch.device,
        folder: Path | None,
        scaling: Scaling | None,
    ) -> None:
        choice = recipe.training
        self.recipe, self.choice, self.seed, self.device = recipe, choice, seed, device
        for block, rows in (("training", training), ("calibration", calibration)):
            _check_enough(rows, block)
            _check_finite(rows.x, names, block)
        self.network = _new_network(recipe, training, len(names), seed, scaling)
        self.z, self.y = _prepare(self.network, training, names, "training")
        self.z_calibration, self.y_calibration = _prepare(self.network, calibration, names, "calibration")
        self.key = "" if folder is None else self._key(names)
        self.file = None if folder is None else state_file(folder, self.key)
        self.z, self.y = self.z.to(device), self.y.to(device)
        self.z_calibration, self.y_calibration = self.z_calibration.to(device), self.y_calibration.to(device)
        self.network.to(device)
        self.step = Step(
            self.network,
            recipe.loss,
            batch_size=min(choice.batch_size, len(self.y)),
            precision=choice.precision,
            weight_decay=choice.weight_decay,
        )
        self.average = Average(self.network, self.step.parameters, over=choice.averaging) if choice.averaging else None
        self.judged = self.network if self.average is None else self.average.network
        self.history: list[Epoch] = []
        self.best_state = _copy(self.judged)

    @property
    def over(self) -> bool:
        """Whether there is nothing left to learn: all epochs are done, or none was better for long."""
        done = len(self.history)
        return done >= self.choice.epochs or (done > 0 and done - self._best_epoch >= self.choice.patience)

    @property
    def _best_epoch(self) -> int:
        return max((epoch.epoch for epoch in self.history if epoch.best), default=0)

    def next_epoch(self) -> Epoch:
        """Learn from every row once, judge, and keep the state."""
        number = len(self.history) + 1
        rate = self.choice.learning_rate * _decay(self.choice.schedule, (number - 1) / self.choice.epochs)
        started = time.perf_counter()
        training_loss = self._learn(np.random.Generator(np.random.SFC64([self.seed, number])), rate)
        speed = len(self.y) / (time.perf_counter() - started)
        logits = evaluate(self.judged, self.z_calibration)
        loss = mean_loss(self.recipe.loss, logits, self.y_calibration)
        if not (math.isfinite(loss) and math.isfinite(training_loss)):
            raise TrainingError(
                f"the loss must stay finite, found {training_loss:g} in training and {loss:g} on the calibration block "
                f"in epoch {number}; lower training.learning_rate (now {self.choice.learning_rate:g})"
            )
        log_loss = _served_log_loss(logits, self.y_calibration, refitted=self.network.temperature is not None)
        best = log_loss < min((epoch.calibration_log_loss for epoch in self.history), default=math.inf)
        if best:
            self.best_state = _copy(self.judged)
        self.history.append(
            Epoch(
                epoch=number,
                of=self.choice.epochs,
                training_loss=training_loss,
                calibration_loss=loss,
                calibration_log_loss=log_loss,
                calibration_accuracy=float((logits.argmax(1) == self.y_calibration).double().mean()),
                learning_rate=rate,
                temperature=None if self.judged.temperature is None else self.judged.temperature.item(),
                rows_per_second=speed,
                best=best,
            )
        )
        if self.file is not None:
            plain = {"history": [asdict(epoch) for epoch in self.history]}
            save_state(self.file, self.key, {**self._tensors(), **_prefixed(_BEST, self.best_state)}, plain)
        return self.history[-1]

    def take_up(self) -> Sequence[Epoch]:
        """Go on from the state of an earlier run of the same arguments; return the epochs that it has done."""
        found = None if self.file is None else load_state(self.file, self.key)
        if found is None:
            return ()
        tensors, plain = found
        history = _epochs(plain.get("history"), self.choice.epochs)
        wanted = {**self._tensors(), **_prefixed(_BEST, self.best_state)}
        if not history or not all(_fits(tensors.get(name), tensor) for name, tensor in wanted.items()):
            return ()  # damaged: the run begins anew, and ends the same
        for name, tensor in self._tensors().items():
            tensor.copy_(tensors[name])
        self.best_state = {name: tensors[_BEST + name].to(self.device) for name in self.best_state}
        self.history = history
        return history

    def best(self) -> Trained:
        """Return the network as of its best epoch."""
        self.network.load_state_dict(self.best_state)
        return Trained(self.network.cpu().eval(), tuple(self.history), self.file)

    def _learn(self, random: np.random.Generator, rate: float) -> float:
        """Show every row to the network once, in a new order; return the mean loss.

        A last batch of one row is left out, since batch normalization cannot work with it.
        """
        self.network.train()
        size, dropout = self.step.batch_size, self.recipe.network.dropout
        order = torch.from_numpy(random.permutation(len(self.y)))
        total, seen, batches = torch.zeros((), dtype=torch.float64, device=self.device), 0, 0
        before = int(self.step.steps)
        with torch.inference_mode():
            for rows in torch.split(order, max(1, _GATHERED // size) * size):
                keep = draw_kept(random, len(rows), self.recipe.network.hidden, dropout, self.device)
                chosen = rows.to(self.device)
                parts = (torch.split(part, size) for part in (self.z[chosen], self.y[chosen], *keep))
                for z, y, *factors in zip(*parts, strict=True):
                    if len(y) > 1:
                        total += self.step(z, y, factors, rate=rate).sum()
                        seen, batches = seen + len(y), batches + 1
                        if self.average is not None:
                            self.average(before + batches)
        for layer in (*self.network.modules(), *(() if self.average is None else self.judged.modules())):
            if isinstance(layer, nn.BatchNorm1d) and layer.num_batches_tracked is not None:
                layer.num_batches_tracked += batches
        return float(total) / seen

    def _tensors(self) -> dict[str, Tensor]:
        """Return everything that an epoch changes, by name."""
        first, second = self.step.moments
        adam = {"adam.first": first, "adam.second": second, "adam.steps": self.step.steps}
        mean = {} if self.average is None else _prefixed("average.", self.judged.state_dict())
        return {**adam, **mean, **_prefixed("network.", self.network.state_dict())}

    def _key(self, names: tuple[str, ...]) -> str:
        """Return the digest of all that decides the weights."""
        plain = {
            "recipe": self.recipe.to_dict(),
            "names": names,
            "seed": self.seed,
            "torch": torch.__version__,
            "device": self.device.type,
            "batch": "step-1",
        }
        weights = [tensor for _, tensor in sorted(self.network.state_dict().items())]
        return state_key(plain, self.z, self.y, self.z_calibration, self.y_calibration, *weights)


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


def _decay(schedule: str, progress: float) -> float:
    """Return the share of the first learning rate left after `progress`, 0 to 1, of the epochs.

    (Cosine: Loshchilov & Hutter, "SGDR", ICLR 2017, equation 5, without restarts.)
    """
    return 0.5 * (1 + math.cos(math.pi * progress)) if schedule == "cosine" else 1.0


def _new_network(recipe: Recipe, training: Rows, input_size: int, seed: int, scaling: Scaling | None) -> DirectionNetwork:
    """Make a network with the weights of `seed` and a normalizer: `scaling`, or fitted on the training rows."""
    fitted = recipe.network.normalizer != "none"
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        network = DirectionNetwork.from_recipe(recipe.network, input_size=input_size, normalizer=fitted)
    if fitted:
        network.normalizer = Normalizer.fit(training.x) if scaling is None else Normalizer.of(scaling.mean, scaling.scale)
    return network


def _prepare(network: DirectionNetwork, rows: Rows, names: tuple[str, ...], block: str) -> tuple[Tensor, Tensor]:
    """Normalize once what every epoch will read."""
    z = torch.empty(rows.x.shape, dtype=torch.float32)
    for start in range(0, len(z), CHUNK):
        part = torch.from_numpy(np.ascontiguousarray(rows.x[start : start + CHUNK]))
        z[start : start + CHUNK] = part.float() if network.normalizer is None else network.normalizer(part)
    _check_finite(z.numpy(), names, block, words="features that float32 can hold once they are normalized")
    return z, torch.from_numpy(rows.y)


def _copy(network: DirectionNetwork) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _epochs(plain: Any, most: int) -> list[Epoch]:  # noqa: ANN401
    """Return the epochs of a state; none where they cannot be those of a run."""
    try:
        epochs = [Epoch(**{**one, "earlier": True}) for one in plain]
    except TypeError:
        return []
    numbers = (value for epoch in epochs for value in asdict(epoch).values() if value is not None)
    whole = all(isinstance(value, int | float) and math.isfinite(value) for value in numbers)
    counted = [epoch.epoch for epoch in epochs] == list(range(1, len(epochs) + 1))
    return epochs if whole and counted and len(epochs) <= most and any(epoch.best for epoch in epochs) else []


def _fits(found: Tensor | None, wanted: Tensor) -> bool:
    """Say whether a tensor of a state can stand for one of the run."""
    return (
        found is not None and (found.shape, found.dtype) == (wanted.shape, wanted.dtype) and (bool(torch.isfinite(found).all()))
    )


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _check_finite(x: NDArray[np.floating[Any]], names: tuple[str, ...], block: str, *, words: str = "finite features") -> None:
    for column, name in enumerate(names):
        broken = ~np.isfinite(x[:, column])
        if broken.any():
            row = int(broken.argmax())
            raise DatasetError(
                f"training needs {words}, found {x[row, column]} in {name} at row {row} of the {block} block; drop or correct "
                "that row"
            )


def _check_enough(rows: Rows, block: str) -> None:
    if len(rows.y) < 2:
        raise DatasetError(f"the {block} block must have at least 2 rows, found {len(rows.y)}; bring more")
