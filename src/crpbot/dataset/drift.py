"""Drift: how far features have moved since training, and so whether the model still sees what it has learned."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crpbot.market.candles import MINUTE

Floats = NDArray[np.float64]

LEFT = 0.01
"""Share of rows outside the training range from which on a feature counts as having left it."""
MOVED = 0.5
"""Shift, in training deviations, from which on a feature counts as having moved."""
MOST_SAMPLED = 50_000
"""Rows that set the tenths of a feature."""
EMPTY = 1e-4
"""Share of an empty tenth: a logarithm needs some."""


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


HOURS = 24
FEWEST_MINUTES = 60
"""Rows from which on a day can be told from a moment."""


class LastDay:
    """The mean of each feature over the last 24 clock hours, minute by minute.

    It keeps one sum an hour and not the rows, so that it is small and costs next to nothing.
    """

    def __init__(self) -> None:
        self._hours: deque[tuple[int, int, Floats]] = deque(maxlen=HOURS)
        self._before: tuple[int, Floats] | None = None  # rows and sum of the hours before the present one, once it is asked for

    def take(self, time: int, x: Floats) -> None:
        """Count the features of one candle, shape `(n_features,)`, that opened at `time`, in milliseconds of UTC; in order."""
        hour = time // (60 * MINUTE)
        if self._hours and self._hours[-1][0] != hour:
            self._before = None
        while self._hours and self._hours[0][0] <= hour - HOURS:
            self._hours.popleft()
        if self._hours and self._hours[-1][0] == hour:
            _, rows, total = self._hours.pop()
            self._hours.append((hour, rows + 1, total + x))
        else:
            self._hours.append((hour, 1, np.array(x, np.float64)))

    def clear(self) -> None:
        """Forget everything: a new segment starts."""
        self._hours.clear()
        self._before = None

    def mean(self) -> Floats | None:
        """Return the means, shape `(n_features,)`; None for fewer than 60 rows."""
        if not self._hours:
            return None
        if self._before is None:
            *before, (_, _, newest) = self._hours
            self._before = (
                sum(count for _, count, _ in before),
                np.sum([np.zeros_like(newest), *(s for _, _, s in before)], axis=0),
            )
        rows, total = self._before[0] + self._hours[-1][1], self._before[1] + self._hours[-1][2]
        found: Floats = total / rows
        return found if rows >= FEWEST_MINUTES else None

    def state(self) -> list[tuple[int, int, list[float]]]:
        """Return everything as plain JSON types; `restore` reads it back."""
        return [(hour, rows, total.tolist()) for hour, rows, total in self._hours]

    @classmethod
    def restore(cls, state: Sequence[tuple[int, int, Sequence[float]]], *, n_features: int) -> "LastDay":
        """Return the object whose `state` this is.

        Raises:
            ValueError, TypeError: the state is damaged.

        """
        day = cls()
        for hour, rows, total in state:
            found = np.array(total, np.float64)
            if type(hour) is not int or type(rows) is not int or rows < 1 or found.shape != (n_features,):
                raise ValueError("an hour of the last day is damaged")
            day._hours.append((hour, rows, found))
        return day


def farthest(names: tuple[str, ...], later: Floats, mean: Floats, scale: Floats) -> tuple[str, float]:
    """Return the feature whose mean is farthest from its training mean, and by how many training deviations.

    Args:
        names: of the features.
        later: their means, shape `(len(names),)`.
        mean: of the training rows, likewise, as the normalizer has it.
        scale: their deviations, likewise.

    """
    away = deviations(later, mean, scale)
    column = int(np.abs(away).argmax())
    return names[column], float(away[column])


def deviations(later: Floats, mean: Floats, scale: Floats) -> Floats:
    """Return how far each feature's mean is from its training mean, in training deviations; arguments as in `farthest`."""
    return (later - mean) / scale


def population_stability(training: Floats, later: Floats) -> Floats:
    """Return the population stability index of each feature, shape `(n_features,)`: 0 is no change, above 0.25 a major one.

    Σ (p − q)·ln(p / q) over the tenths of the training rows, p and q being the shares of training and of later rows in each.
    (Siddiqi, Credit Risk Scorecards, 2006, chapter 9.) An empty tenth counts as one row in ten thousand. At most 50,000 training
    rows, evenly spread, set the tenths; a feature that never varies has none and gets 0.

    Args:
        training: features of the training rows, shape `(n, n_features)`.
        later: features of later rows, shape `(m, n_features)`.

    """
    sample = training[:: max(1, len(training) // MOST_SAMPLED)]
    after = later[:: max(1, len(later) // MOST_SAMPLED)]
    found = np.zeros(training.shape[1])
    for column in range(training.shape[1]):
        cuts = np.unique(np.quantile(sample[:, column], np.linspace(0.1, 0.9, 9)))
        p, q = (
            np.bincount(np.searchsorted(cuts, rows[:, column], side="right"), minlength=len(cuts) + 1) / len(rows)
            for rows in (sample, after)
        )
        p, q = np.maximum(p, EMPTY), np.maximum(q, EMPTY)
        found[column] = ((p - q) * np.log(p / q)).sum()
    return found


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
