"""Drift: how far features have moved since training, and so whether the model still sees what it has learned."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEFT = 0.01
"""Share of rows outside the training range from which on a feature counts as having left it."""
MOVED = 0.5
"""Shift, in training deviations, from which on a feature counts as having moved."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How one feature differs between training rows and later ones.

    Attributes:
        name: of the feature.
        mean, deviation: on the training rows, in the feature's unit.
        later_mean: on the later rows.
        outside: share of the later rows outside the range, least to largest, of the training rows.
        shift: later mean less training mean, in training deviations; 0 where both are the same, infinite where the training rows
            are all alike and the later mean is another.

    """

    name: str
    mean: float
    deviation: float
    later_mean: float
    outside: float
    shift: float

    @property
    def left(self) -> bool:
        """Whether the feature left its training range: in more than 1 % of the later rows."""
        return self.outside > LEFT

    @property
    def moved(self) -> bool:
        """Whether its mean moved by more than half a training deviation."""
        return abs(self.shift) > MOVED


def measure_drift(names: tuple[str, ...], training: Floats, later: Floats) -> tuple[Drift, ...]:
    """Compare the features of later rows with those of the training rows.

    Args:
        names: of the features.
        training: features of the training rows, shape `(n, len(names))`, at least one.
        later: features of later rows, shape `(m, len(names))`, at least one.

    """
    found = []
    for column, name in enumerate(names):
        level = float(training[0, column])  # rows that are all alike have exactly this mean, and no deviation
        then, now = training[:, column] - level, later[:, column] - level
        deviation, moved = float(then.std()), float(now.mean() - then.mean())
        mean, later_mean = level + float(then.mean()), level + float(now.mean())
        shift = moved / deviation if deviation > 0 else float(np.copysign(np.inf, moved)) if moved else 0.0
        outside = float(((now < then.min()) | (now > then.max())).mean())
        found.append(Drift(name, mean, deviation, later_mean, outside, shift))
    return tuple(found)


def drift_in_words(drifts: tuple[Drift, ...]) -> str:
    """Say how many features left their training range, and how many moved.

    >>> drift_in_words((Drift("sma_5", 10.0, 1.0, 12.0, 0.4, 2.0), Drift("rsi_14", 50.0, 9.0, 51.0, 0.0, 0.1)))
    '1 of 2 features left the training range (more than 1 % of the rows outside), 1 moved by more than half a deviation'
    """
    left, moved = sum(drift.left for drift in drifts), sum(drift.moved for drift in drifts)
    return (
        f"{left} of {len(drifts)} features left the training range (more than {100 * LEFT:.0f} % of the rows outside), "
        f"{moved} moved by more than half a deviation"
    )
