"""From which confidence on a model speaks: a fixed one, or one that is chosen where the model was calibrated.

Whatever is chosen is chosen on the calibration block and only shown on the rows after it: the best of many thresholds looks good
on the rows that it was chosen on, by chance alone.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from crpbot.errors import PlanError
from crpbot.quality.metrics import percent
from crpbot.quality.rows import Block
from crpbot.quality.selective import STEPS, come_true, sides
from crpbot.signals.ensemble import THRESHOLD, Floats
from crpbot.signals.follow import Costs, Followed, one_at_a_time

FEWEST_TRADES = 30
"""Trades on the calibration block that a threshold by value must have made there."""

Choice = float | Literal["selective", "value"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """From which confidence on a model speaks.

    Attributes:
        value: the least confidence; None where nothing was found that is worth saying.
        words: how it was found.

    """

    value: float | None
    words: str


def read_choice(text: str) -> Choice:
    """Return what a person means: a number from a third to below 1, `selective` or `value`.

    Raises:
        PlanError: it is none of these.

    """
    if text == "selective":
        return "selective"
    if text == "value":
        return "value"
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 1 / 3 <= number < 1:
        raise PlanError(
            f"a threshold must be a confidence of at least a third and below 1, or selective, or value; found {text!r}; try 0.60"
        )
    return number


def fixed(value: float) -> Threshold:
    """Return a threshold that somebody says."""
    return Threshold(value=value, words="fixed")


def by_accuracy(block: Block, probabilities: Floats, *, least: float = THRESHOLD) -> Threshold:
    """Return the smallest confidence that is worth something: from it on, what is said comes true, and at least `least` of it.

    Args:
        block: of calibration, with its labels.
        probabilities: of its rows, shape `(n, 3)`.
        least: the share of the rows that have to be right.

    """
    side, confidence = sides(probabilities)
    for step in come_true(block, probabilities):
        right = float((side == block.y)[confidence >= step].mean())
        if right >= least:
            words = f"from which on {percent(right)} of the calibration block were right, at least {percent(least)}"
            return Threshold(value=step, words=words)
    return Threshold(
        value=None, words=f"no confidence was found from which on {percent(least)} of the calibration block were right"
    )


def by_value(confidence: Floats, followed: Followed, costs: Costs, *, several: bool) -> Threshold:
    """Return the confidence from which on following the plans of the calibration block earned most, after all costs.

    Args:
        confidence: of each plan, shape `(n,)`.
        followed: a plan for every row of the block that has a side.
        costs: of trading.
        several: whether plans are followed side by side, or one at a time.

    """
    earned = followed.net_bp(costs)
    best, words = None, f"no confidence earned anything after costs in {FEWEST_TRADES} or more trades on the calibration block"
    most = 0.0
    for step in STEPS:
        rows = np.flatnonzero(confidence >= step)
        if not several:
            rows = rows[one_at_a_time(followed.rows[rows], followed.free[rows])]
        trades = earned[rows][followed.filled[rows]]
        if len(trades) >= FEWEST_TRADES and trades.sum() > most:
            best, most = step, float(trades.sum())
            words = (
                f"which earned most on the calibration block: {trades.mean():+.1f} bp a trade after costs, {len(trades):,} trades"
            )
    return Threshold(value=best, words=words)
