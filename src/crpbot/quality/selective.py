"""Selective prediction: what a confidence is worth when one speaks only from it on.

Everything is chosen on rows that come before those it is shown on: the calibration block of a checkpoint of ours, where the
candles still hold it, or else the first half of the judged rows.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.labels import DOWN, NEUTRAL, UP
from crpbot.quality.metrics import Floats, Mean
from crpbot.quality.rows import Block, Judged, Learned

SIGNAL = 0.60
"""The confidence that a signal needs."""
STATED = (0.5, 0.8, 0.9)
"""Coverages that conformal sets are made for."""
FEWEST_ROWS = 300
"""Rows that must reach a confidence before anything is said of them."""
STEPS = tuple(round(0.34 + 0.01 * step, 2) for step in range(66))


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What remains when one speaks only from a confidence on.

    Attributes:
        confidence: the least: the own probability of the more probable of DOWN and UP, where NEUTRAL is not on top.
        coverage: share of the rows that reach it.
        rows: how many.
        accuracy: share of them that are right, with its block standard error; None where fewer than 300 rows reach it.

    """

    confidence: float
    coverage: float
    rows: int
    accuracy: Mean | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConformalSets:
    """Sets of classes that hold the true one with a stated chance.

    (Least ambiguous sets: Sadinle, Lei & Wasserman, Journal of the American Statistical Association 114, 2019. The promise needs
    rows that could be exchanged for each other; markets change, so it is measured.)

    Attributes:
        stated: the chance.
        coverage: share of the sets that hold the true class, with its block standard error.
        size: mean number of classes in a set; 3 says nothing.
        single: share of the sets with one class.

    """

    stated: float
    coverage: Mean
    size: float
    single: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Selective:
    """What confidence is worth.

    Attributes:
        chosen_on: which rows, in words.
        least, most: the smallest and the highest confidence that is said and from which on the rows of the choice were right at
            least that often, and not less often than they say by more than chance; None where there is none.
        at_least, at_most: what became of them on the rows shown.
        at_signal: the same from the 60 % that a signal needs.
        curve: coverage against accuracy on the rows shown, for every confidence that enough rows reach.
        sets: conformal sets.

    """

    chosen_on: str
    least: float | None
    most: float | None
    at_least: Coverage | None
    at_most: Coverage | None
    at_signal: Coverage
    curve: tuple[Coverage, ...]
    sets: tuple[ConformalSets, ...]


def measure_selective(judged: Judged, learned: Learned | None, calibration: Floats | None) -> Selective | None:
    """Choose on earlier rows, show on later ones; None where there are too few.

    Args:
        judged: the rows of the diagnosis.
        learned: what a checkpoint of ours was made from, if known.
        calibration: probabilities of its calibration block, shape `(n, 3)`.

    """
    p = judged.prediction.probabilities
    if learned is not None and calibration is not None:
        return _select(learned.calibration, calibration, judged, p, "the calibration block")
    middle = len(judged.y) // 2
    late = judged.known[:middle] > judged.time[middle]
    early = int(late.argmax()) if late.any() else middle
    if early < FEWEST_ROWS:
        return None
    first = Block(judged.x[:early], judged.y[:early], judged.time[:early], judged.known[:early])
    second = Block(judged.x[middle:], judged.y[middle:], judged.time[middle:], judged.known[middle:])
    return _select(first, p[:early], second, p[middle:], "the first half of the rows")


def _select(chosen_on: Block, known: Floats, shown: Block, p: Floats, words: str) -> Selective:
    kept = come_true(chosen_on, known)
    least, most = (kept[0], kept[-1]) if kept else (None, None)
    side, confidence = sides(p)
    right = (side == shown.y).astype(float)
    resamples = shown.resamples

    def at(step: float) -> Coverage:
        rows = confidence >= step
        accuracy = resamples.mean(right, rows=rows) if rows.sum() >= FEWEST_ROWS else None
        return Coverage(confidence=step, coverage=float(rows.mean()), rows=int(rows.sum()), accuracy=accuracy)

    sets = []
    for stated in STATED:
        inside = p >= _conformal_bar(known, chosen_on.y, stated)
        holds = inside[np.arange(len(shown.y)), shown.y].astype(float)
        size = inside.sum(axis=1)
        sets.append(
            ConformalSets(
                stated=stated, coverage=resamples.mean(holds), size=float(size.mean()), single=float((size == 1).mean())
            )
        )
    return Selective(
        chosen_on=words,
        least=least,
        most=most,
        at_least=None if least is None else at(least),
        at_most=None if most is None else at(most),
        at_signal=at(SIGNAL),
        curve=tuple(at(step) for step in STEPS if (confidence >= step).sum() >= FEWEST_ROWS),
        sets=tuple(sets),
    )


def come_true(rows: Block, p: Floats) -> list[float]:
    """Return the confidences that are said, and from which on what is said comes true.

    From such a confidence on, the rows are right at least that often, and not less often than they say by two block standard
    errors: a model that always says 100 % and is right 46 % has no such confidence.
    """
    side, confidence = sides(p)
    right = (side == rows.y).astype(float)
    kept = []
    for step, after in zip(STEPS, (*STEPS[1:], 1.01), strict=True):
        chosen = confidence >= step
        if chosen.sum() < FEWEST_ROWS or not (chosen & (confidence < after)).any():
            continue
        short = rows.resamples.mean(confidence - right, rows=chosen)
        if right[chosen].mean() >= step and short.value <= 2 * np.nan_to_num(short.error):
            kept.append(step)
    return kept


def sides(p: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return the more probable of DOWN and UP and its own probability, 0 where NEUTRAL is as probable or the two are equal.

    Shapes `(n,)`. The own probability, and not one less that of the other side: with three classes they are not the same. A row
    whose probabilities are not finite has confidence 0 as well.
    """
    side = np.where(p[:, UP] > p[:, DOWN], UP, DOWN)
    confidence = np.maximum(p[:, UP], p[:, DOWN])
    clear = (confidence > p[:, NEUTRAL]) & (p[:, UP] != p[:, DOWN]) & np.isfinite(p).all(axis=1)
    return side, np.where(clear, confidence, 0.0)


def _conformal_bar(p: Floats, y: NDArray[np.int64], stated: float) -> float:
    """Return the probability from which on a class belongs to the set: all but a share of the true classes had more."""
    of_truth = np.sort(p[np.arange(len(y)), y])
    place = math.floor(round((len(y) + 1) * (1 - stated), 9)) - 1  # 100 of 1,000 must not become 99.999…
    return float(of_truth[place]) if place >= 0 else 0.0
