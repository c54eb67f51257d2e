"""Who stands in a race, and how each of them is fitted: rules that need no training, other people's learners, networks."""

import math
import pickle
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.assemble import Dataset, assemble, compact
from crpbot.dataset.baselines import best_one_feature_rule
from crpbot.dataset.labels import CLASSES
from crpbot.dataset.splits import Split
from crpbot.errors import TrainingError
from crpbot.making.race.protocol import Ground
from crpbot.market.candles import Candles
from crpbot.model.calibration import fit_temperature, log_softmax
from crpbot.model.plain import digest
from crpbot.model.recipe import Recipe
from crpbot.model.weights import Scaling
from crpbot.quality.metrics import Floats, Ints, shares

if TYPE_CHECKING:
    from crpbot.model.training import Epoch

Baseline = Literal["majority", "prior", "one-feature", "logistic", "boosting"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)

LOGISTIC = {"C": 1.0, "max_iter": 300, "tol": 1e-4}
BOOSTING = {
    "learning_rate": 0.05,
    "max_iter": 100,
    "max_leaf_nodes": 31,
    "min_samples_leaf": 500,
    "l2_regularization": 1.0,
    "max_bins": 255,
    "early_stopping": False,  # it would hold a random subset back, and neighbours of those rows stay in training
}
"""Settings of scikit-learn, not searched for: the defaults, but smaller steps and larger leaves, since neighbouring rows repeat
each other, and about a minute of work on 735,000 rows."""

NO_LEARNERS = ("majority", "prior")
"""Contenders that look at no candle."""
_LEAST = 1e-12
"""A share that is never quite 0, since its logarithm is taken."""
_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One that stands in the race.

    Attributes:
        name: of its row.
        recipe: whose features it sees; of a network, all of it.
        baseline: which one it is; None for a network.
        why: what it stands there for, for people.
        variant: whether it is a variant of the reference, and so brings no tries along but those of the reference.

    """

    name: str
    recipe: Recipe
    baseline: Baseline | None = None
    why: str = ""
    variant: bool = False

    @property
    def key(self) -> str:
        """The digest of all that decides what it answers, apart from rows and seed."""
        if self.baseline is None:
            return digest({"recipe": self.recipe.to_dict()})
        settings = {"logistic": LOGISTIC, "boosting": BOOSTING}.get(self.baseline, {})
        return digest({"baseline": self.baseline, "settings": settings, "features": self.recipe.features.table.sha256})


@dataclass(frozen=True, eq=False, kw_only=True)
class Answer:
    """What a contender says of the rows that are judged.

    Attributes:
        says: the class of each row, shape `(n,)`.
        log_probabilities: of the classes, shape `(n, 3)`, float32; None from one that has no probabilities. Logarithms, since
            those of a network without a normalizer are too small for a float32 itself.
        seconds: that fitting and calibrating took, without features.
        size: bytes of the numbers that would be served.
        epochs: of a network.
        best_epoch: of a network, the one whose weights these are.
        note: what else is to be told of the fit, for people.
        trouble: what did not go as it should, for people; empty where all did.

    """

    says: NDArray[np.int8]
    log_probabilities: NDArray[np.float32] | None
    seconds: float
    size: int
    epochs: int | None = None
    best_epoch: int | None = None
    note: str = ""
    trouble: str = ""


TOLD = ("seconds", "size", "epochs", "best_epoch", "note", "trouble")
"""What an answer tells besides what it says of the rows."""


@dataclass(frozen=True, eq=False)
class _Field:
    """The rows of one contender in one fold, and what else a fit may use."""

    contender: Contender
    data: Dataset
    y: Ints
    blocks: Split
    judged: NDArray[np.intp] | slice
    shares: tuple[float, ...]
    seed: int
    told: Callable[[Any], None]
    state: Path

    @cached_property
    def training(self) -> tuple[Floats, Ints]:
        return self.data.x[self.blocks.train], self.y[self.blocks.train]

    @cached_property
    def calibration(self) -> tuple[Floats, Ints]:
        return self.data.x[self.blocks.calibration], self.y[self.blocks.calibration]


@dataclass(frozen=True, eq=False, kw_only=True)
class _Said:
    """What a fit says of the judged rows, before it is put in form: see `Answer`."""

    logits: Floats | None
    size: int
    says: Ints | None = None
    epochs: int | None = None
    best_epoch: int | None = None
    earlier_seconds: float = 0.0
    note: str = ""
    trouble: str = ""


def compete(
    contender: Contender, ground: Ground, candles: Candles, *, seed: int, told: Callable[[Any], None], state: Path
) -> Answer:
    """Fit a contender on the training and the calibration block of a fold, and let it answer the rows that are judged.

    Args:
        contender: to fit.
        ground: of the fold.
        candles: that the fold may know.
        seed: of whatever is drawn.
        told: is told of each epoch of a network.
        state: folder for the states of trainings that are not finished.

    Raises:
        CrpbotError: it cannot be fitted, as no learner can where all training rows have one class, or what it says is not finite.

    """
    features = contender.recipe.features
    data = assemble(candles, features.table, ground.rule, max_gap_minutes=ground.max_gap_minutes)
    blocks = ground.blocks(data)
    field = _Field(
        contender, data, ground.labels(data, blocks), blocks, compact(ground.rows(data)), ground.shares, seed, told, state
    )
    if contender.baseline not in NO_LEARNERS and (classes := np.unique(field.training[1])).size < 2:
        raise TrainingError(
            f"the training rows must have two classes to learn from, found {CLASSES[classes[0]]} alone; bring candles that move"
        )
    started = time.perf_counter()
    said = _FITS[contender.baseline or "network"](field)
    seconds = time.perf_counter() - started + said.earlier_seconds
    logs = None if said.logits is None else log_softmax(said.logits)
    if logs is not None and not np.isfinite(logs).all():
        raise TrainingError(f"{contender.name} must give finite logits, found some that are not; it cannot be judged")
    says = said.says if logs is None else logs.argmax(axis=1)
    assert says is not None
    return Answer(
        says=says.astype(np.int8),
        log_probabilities=None if logs is None else logs.astype(np.float32),
        seconds=seconds,
        size=said.size,
        epochs=said.epochs,
        best_epoch=said.best_epoch,
        note=said.note,
        trouble=said.trouble,
    )


def log_shares(of: NDArray[np.float64] | tuple[float, ...]) -> Floats:
    """Return the logarithms of shares; one of 0 counts as 1e-12."""
    return np.log(np.maximum(np.asarray(of, np.float64), _LEAST))


def _n_judged(field: _Field) -> int:
    return len(field.data.time[field.judged])


def _majority(field: _Field) -> _Said:
    """Say the commonest class of the training rows, always."""
    return _Said(logits=None, says=np.full(_n_judged(field), int(np.argmax(field.shares))), size=8)


def _prior(field: _Field) -> _Said:
    """Say the shares of the classes among the training rows, always."""
    return _Said(logits=np.tile(log_shares(field.shares), (_n_judged(field), 1)), size=8 * len(CLASSES))


def _one_feature(field: _Field) -> _Said:
    """Cut one feature in two; each side says the shares that the classes had there among the training rows."""
    x, y = field.training
    names = field.data.names
    rule = best_one_feature_rule(x, y, names)
    column = names.index(rule.feature)
    below = x[:, column] <= rule.threshold
    sides = [log_shares(shares(y[side])) for side in (~below, below)]
    judged = field.data.x[field.judged, column] <= rule.threshold
    return _Said(logits=np.stack(sides)[judged.astype(np.intp)], size=8 * (1 + 2 * len(CLASSES)), note=str(rule))


def _logistic(field: _Field) -> _Said:
    """Fit multinomial logistic regression on standardized features, and calibrate it."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415  heavy, and for these two contenders only
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    x, y = field.training
    scaling = Scaling.fit(x)
    model = LogisticRegression(**LOGISTIC)
    with warnings.catch_warnings(), _one_thread():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(_standardized(x, scaling), y)
    steps = int(np.max(model.n_iter_))
    trouble = f"did not converge in {steps} steps" if steps >= int(LOGISTIC["max_iter"]) else ""

    def logits(rows: NDArray[np.intp] | slice) -> Floats:
        return _all_classes(log_softmax(_decision(model, _standardized(field.data.x[rows], scaling))), model.classes_)

    size = sum(array.nbytes for array in (model.coef_, model.intercept_, scaling.mean, scaling.scale))
    return _calibrated(field, logits, size=size, note=f"{steps} steps", trouble=trouble)


def _decision(model: Any, z: Floats) -> Floats:  # noqa: ANN401
    """Return one score a class, shape `(n, classes)`, also where there are two, for which scikit-learn keeps one."""
    scores: Floats = np.asarray(model.decision_function(z), np.float64)
    return scores if scores.ndim == 2 else np.stack([np.zeros(len(z)), scores], axis=1)


def _boosting(field: _Field) -> _Said:
    """Fit gradient boosted trees on raw features, and calibrate them."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415

    x, y = field.training
    model = HistGradientBoostingClassifier(**BOOSTING, random_state=field.seed)
    with _one_thread():
        model.fit(x, y)

        def logits(rows: NDArray[np.intp] | slice) -> Floats:
            found = field.data.x[rows]
            parts = [model.predict_proba(found[start : start + _AT_ONCE]) for start in range(0, len(found), _AT_ONCE)]
            return _all_classes(log_shares(np.concatenate(parts)), model.classes_)

        return _calibrated(field, logits, size=len(pickle.dumps(model)), note=f"{model.n_iter_} rounds")


def _calibrated(field: _Field, logits: Callable[[Any], Floats], *, size: int, note: str, trouble: str = "") -> _Said:
    """Divide logits by the temperature that the calibration block asks for, as those of a network are."""
    temperature = fit_temperature(logits(field.blocks.calibration), field.calibration[1])
    served = logits(field.judged) / temperature
    return _Said(logits=served, size=size, note=f"{note}, temperature {temperature:.2f}", trouble=trouble)


def _all_classes(logits: Floats, classes: Ints) -> Floats:
    """Return a column for every class, also for one that did not occur in training."""
    every = np.full((len(logits), len(CLASSES)), np.log(_LEAST))
    every[:, classes] = logits
    return every


def _standardized(x: Floats, scaling: Scaling) -> Floats:
    """Return features less their mean over their scale, row by row in memory, as scikit-learn would else copy them."""
    z = np.empty(x.shape)
    for start in range(0, len(x), _AT_ONCE):
        z[start : start + _AT_ONCE] = (x[start : start + _AT_ONCE] - scaling.mean) / scaling.scale
    return z


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let OpenMP and BLAS use one thread inside the block: their waiting threads spin, and another contender runs beside."""
    from threadpoolctl import threadpool_limits  # noqa: PLC0415  comes with scikit-learn

    with threadpool_limits(1):
        yield


def _network(field: _Field) -> _Said:
    """Train and calibrate the network of the recipe."""
    from crpbot.making.fit import fit  # noqa: PLC0415  torch, which a race of baselines does not need

    fitted = fit(
        field.contender.recipe,
        field.data,
        field.y,
        field.blocks,
        seed=field.seed,
        watch=field.told,
        state=field.state,
    )
    return _Said(
        logits=fitted.network.serve(field.data.x[field.judged]),
        size=sum(array.nbytes for array in fitted.network.weights.arrays.values()),
        epochs=len(fitted.history),
        best_epoch=fitted.best_epoch,
        earlier_seconds=_earlier_seconds(field, fitted.history),
    )


def _earlier_seconds(field: _Field, history: "Sequence[Epoch]") -> float:
    """Return how long the epochs took that an earlier run did; a member by fold learns from all groups of rows but its own."""
    from crpbot.model.fitting import folds_of  # noqa: PLC0415  torch

    recipe, block = field.contender.recipe, field.blocks.train
    rows = [block.stop - block.start] * (1 + recipe.ensemble.members)
    if recipe.ensemble.members > 1 and recipe.ensemble.vary == "fold":
        folds = folds_of(recipe, field.data.time[block], field.data.known[block])
        rows[1:] = [sum(part.stop - part.start for part in fold.train) for fold in folds]
    return math.fsum(rows[epoch.member] / epoch.rows_per_second for epoch in history if epoch.earlier)


_FITS: dict[str, Callable[[_Field], _Said]] = {
    "majority": _majority,
    "prior": _prior,
    "one-feature": _one_feature,
    "logistic": _logistic,
    "boosting": _boosting,
    "network": _network,
}


def effort(contender: Contender, n_rows: int) -> float:
    """Return about how long a contender takes, in no unit: whoever takes longest begins first."""
    if contender.baseline is not None:
        return float({"boosting": 2e3, "logistic": 1e3}.get(contender.baseline, 1.0)) * n_rows
    recipe, widths = contender.recipe, (len(contender.recipe.features.table), *contender.recipe.network.hidden, len(CLASSES))
    multiplied = sum(one * other for one, other in pairwise(widths))
    a_batch = 2e6  # what a step costs whatever its rows are, in multiplications
    a_row = multiplied + a_batch / recipe.training.batch_size
    return recipe.training.epochs * recipe.ensemble.members * n_rows * a_row
