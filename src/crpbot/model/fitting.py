"""Weights and temperature: from rows to a calibrated network, or to several that speak as one.

The members of an ensemble are trained one after another, each as if it were alone, and calibrated together: their average is more
cautious than each of them, and one temperature sees to that.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.splits import Fold, combinatorial_purged
from crpbot.model.calibration import fit_temperature, refit_temperature
from crpbot.model.recipe import Recipe
from crpbot.model.training import Epoch, Rows, Trained, Watch, train
from crpbot.model.weights import Network, Scaling, packed


@dataclass(frozen=True)
class Dated(Rows):
    """Rows of one symbol, in the order of time.

    Attributes:
        time: open time of each row's candle, in milliseconds of UTC, shape `(n,)`, increasing.
        known: when each label is known, likewise.

    """

    time: NDArray[np.int64]
    known: NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Fitted:
    """A network that was trained and calibrated.

    Attributes:
        network: as served, in evaluation mode, on the processor.
        history: every epoch, in order; of an ensemble one member after the other.
        best_epoch: the one whose weights these are; of an ensemble, the median of those of its members, the lower of two.
        states: files that the training has left, to go on from if it had been cut off.

    """

    network: Network
    history: tuple[Epoch, ...]
    best_epoch: int
    states: tuple[Path, ...]


def fit_network(
    recipe: Recipe,
    training: Dated,
    calibration: Rows,
    *,
    names: tuple[str, ...],
    seed: int,
    watch: Watch | None = None,
    state: Path | None = None,
) -> Fitted:
    """Train the network of `recipe`, or all of its ensemble, and calibrate it; arguments and errors as of `train`.

    What an ensemble has left half done is kept member by member, so that it goes on with the one that was cut off.
    """
    if recipe.ensemble.members == 1:
        trained = train(recipe, training, calibration, names=names, seed=seed, watch=watch, state=state)
        network = trained.network
        if network.temperature is not None:
            refit_temperature(network, calibration.x, calibration.y)
        return _fitted(network, [trained], trained.history)
    scaling = None if recipe.network.normalizer == "none" else Scaling.fit(training.x)
    members: list[Trained] = []
    history: list[Epoch] = []
    for number, (own, judging) in enumerate(lessons(recipe, training, calibration), start=1):
        tell = None if watch is None else partial(_tell, watch, number)
        one = member_seed(seed, number)
        members.append(train(recipe, own, judging, names=names, seed=one, watch=tell, state=state, scaling=scaling))
        history += [replace(epoch, member=number) for epoch in members[-1].history]
    together = packed([member.network.weights for member in members])
    if recipe.network.temperature == "learned":
        temperature = fit_temperature(together.serve(calibration.x), calibration.y)
        together = together.changed({"temperature": np.array(temperature)})
    return _fitted(together, members, history)


def lessons(recipe: Recipe, training: Dated, calibration: Rows) -> Iterator[tuple[Rows, Rows]]:
    """Yield the rows that each member learns from, and those that it stops early by.

    Where members differ by fold, these are all groups of the training block but one, and that one: purged and embargoed, and all
    before the calibration block, which is left for the temperature of the whole.
    """
    if recipe.ensemble.vary == "seed":
        yield from [(training, calibration)] * recipe.ensemble.members
        return
    for fold in folds_of(recipe, training.time, training.known):
        yield _rows_of(training, fold.train), _rows_of(training, fold.test)


def folds_of(recipe: Recipe, time: NDArray[np.int64], known: NDArray[np.int64]) -> tuple[Fold, ...]:
    """Return the fold of each member, for `time` and `known` of the rows of a training block.

    Raises:
        DatasetError: the rows are too few for so many.

    """
    return combinatorial_purged(time, known, groups=recipe.ensemble.members, test_groups=1, embargo=recipe.split.embargo)


def member_seed(seed: int, member: int) -> int:
    """Return the seed of a member, counted from 1: the first has that of the run, the others have it from a hash of both.

    So the members of neighbouring runs share none, and a run of one member is the run itself.
    """
    if member == 1:
        return seed
    return int(np.random.SeedSequence([seed, member]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _tell(watch: Watch, member: int, epoch: Epoch) -> None:
    watch(replace(epoch, member=member))


def _rows_of(rows: Rows, blocks: Sequence[slice]) -> Rows:
    if len(blocks) == 1:
        return Rows(rows.x[blocks[0]], rows.y[blocks[0]])
    return Rows(np.concatenate([rows.x[block] for block in blocks]), np.concatenate([rows.y[block] for block in blocks]))


def _fitted(network: Network, members: Sequence[Trained], history: Sequence[Epoch]) -> Fitted:
    return Fitted(
        network=network,
        history=tuple(history),
        best_epoch=statistics.median_low(member.best_epoch for member in members),
        states=tuple(member.state for member in members if member.state is not None),
    )
