"""One recipe, looked at: how well it does on calibration blocks that lie wholly before the test block."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from crpbot.dataset.assemble import assemble, labelled_rows
from crpbot.dataset.labels import classify, fit_theta
from crpbot.dataset.splits import calibration_folds
from crpbot.errors import DatasetError, TrainingError
from crpbot.market.candles import Candles
from crpbot.model.recipe import Recipe
from crpbot.model.training import Epoch, Rows, train
from crpbot.quality.metrics import prior_log_loss

FEWEST_TO_COMPARE = 5
"""Finished trials without which none is given up."""
WARM_UP = 2
"""Epochs of a fold in which none is given up: the first say little."""

Curve = tuple[float, ...]
State = Literal["complete", "pruned", "failed"]
Told = Callable[[int, Epoch], None]
"""Is told of each epoch, with its fold from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What looking at a recipe gave.

    Attributes:
        state: `complete`; `pruned`, given up since others were better at that point; or `failed`, the loss was not finite.
        curves: for each fold that was begun, after each epoch, the log loss on the calibration block less that of always saying
            its shares, in nats; lower is better, below 0 knows something.
        seconds: that it took; depends on the machine.
        why: it was pruned or failed.

    """

    state: State
    curves: tuple[Curve, ...]
    seconds: float
    why: str = ""

    @property
    def folds(self) -> tuple[float, ...]:
        """The best epoch of each fold."""
        return tuple(min(curve) for curve in self.curves if curve)

    @property
    def value(self) -> float | None:
        """The mean over folds, lower is better; None where not all were finished."""
        return float(np.mean(self.folds)) if self.state == "complete" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A recipe that was looked at.

    Attributes:
        number: from 0, in the order of proposals; 0 is the recipe that everything began with.
        values: of the keys that are tuned, of plain JSON types.
        look: what it gave.

    """

    number: int
    values: Mapping[str, Any]
    look: Look


@dataclass(frozen=True, eq=False)
class Block:
    """Rows to learn from, rows that stop early and score, and the log loss there of always saying their shares."""

    training: Rows
    calibration: Rows
    prior: float


@dataclass(frozen=True, eq=False)
class Question:
    """What every recipe of a study is asked: the same rows and labels.

    Attributes:
        names: of the features.
        blocks: one a fold, oldest first.

    """

    names: tuple[str, ...]
    blocks: tuple[Block, ...]


def before_test(symbol: str, candles: Candles, recipe: Recipe) -> Candles:
    """Return the candles before the test block of `recipe` begins, its embargo included: nothing after them is known to a study.

    Raises:
        DatasetError: the candles are too few.

    """
    features = recipe.features
    found = labelled_rows(candles, features.table, recipe.label.rule, max_gap_minutes=features.max_gap_minutes)
    time = candles.time[found.rows]
    try:
        split = recipe.split.cut(time, found.known)
    except DatasetError as error:
        raise DatasetError(f"{symbol}: {error}") from None
    begins = int(time[split.test.start - recipe.split.embargo])
    return candles[: int(np.searchsorted(candles.time, begins))]


def pose(symbol: str, known: Candles, recipe: Recipe, *, folds: int) -> Question:
    """Cut candles of `before_test` into folds, each with its own θ: a judging block is as long as the recipe's calibration block.

    Raises:
        DatasetError: the candles are too few.

    """
    rule, split = recipe.label.rule, recipe.split
    data = assemble(known, recipe.features.table, rule, max_gap_minutes=recipe.features.max_gap_minutes)
    share = split.calibration / (split.train + split.calibration)
    try:
        cut = calibration_folds(data.time, data.known, folds=folds, calibration=share, embargo=split.embargo)
    except DatasetError as error:
        raise DatasetError(f"{symbol}, before its test block: {error}") from None
    blocks = []
    for fold in cut:
        (training,), (judged,) = fold.train, fold.test
        theta = fit_theta(data.moves[training], rule, neutral_share=recipe.label.neutral_share)
        learned, scored = (Rows(data.x[rows], classify(data.moves[rows], theta)) for rows in (training, judged))
        blocks.append(Block(learned, scored, prior_log_loss(scored.y)))
    return Question(data.names, tuple(blocks))


class _Behind(Exception):  # noqa: N818  no error: a trial is given up
    pass


def look_at(
    recipe: Recipe,
    question: Question,
    *,
    seed: int,
    earlier: Sequence[Sequence[Curve]] = (),
    told: Told = lambda _, __: None,
) -> Look:
    """Train a recipe on each fold and return how well its best epochs do there.

    Args:
        recipe: of one network.
        question: that it is asked.
        seed: of the trainings.
        earlier: curves of the trials that were finished; one that falls behind them is given up.
        told: is told of each epoch.

    """
    curves: list[Curve] = []
    started = time.perf_counter()
    state: State = "complete"
    why = ""
    try:
        for number, block in enumerate(question.blocks):
            curves.append(())

            def watch(epoch: Epoch, block: Block = block, number: int = number) -> None:
                curves[number] += (epoch.calibration_log_loss - block.prior,)
                told(number + 1, epoch)
                _keep_up(curves, earlier)

            train(recipe, block.training, block.calibration, names=question.names, seed=seed, watch=watch)
    except _Behind:
        state, why = "pruned", f"behind the median of {len(earlier)} trials in fold {len(curves)}, epoch {len(curves[-1])}"
    except TrainingError as error:
        state, why = "failed", str(error)
    return Look(state=state, curves=tuple(curves), seconds=time.perf_counter() - started, why=why)


def _keep_up(curves: Sequence[Curve], earlier: Sequence[Sequence[Curve]]) -> None:
    """Raise `_Behind` where a trial falls behind."""
    if falls_behind(curves, earlier):
        raise _Behind


def falls_behind(curves: Sequence[Curve], earlier: Sequence[Sequence[Curve]]) -> bool:
    """Return whether a trial stands worse than half of the finished ones stood at the same point.

    (The median rule: Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017, section 3.2.)
    """
    fold, epoch = len(curves) - 1, len(curves[-1])
    if len(earlier) < FEWEST_TO_COMPARE or epoch <= WARM_UP:
        return False
    return standing(curves, fold, epoch) > float(np.median([standing(one, fold, epoch) for one in earlier]))


def standing(curves: Sequence[Curve], fold: int, epoch: int) -> float:
    """Return how good a trial was after an epoch of a fold: the mean of the best so far of each fold, in nats, lower is better.

    A trial that had stopped earlier in that fold stands as it had stopped. Folds are counted from 0, epochs from 1.
    """
    return float(np.mean([*(min(curve) for curve in curves[:fold]), min(curves[fold][:epoch])]))
