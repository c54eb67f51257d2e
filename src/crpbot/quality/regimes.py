"""Parts of the judged span, so that an average cannot hide a broken one: thirds by volatility, and months."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crpbot.quality.metrics import Mean, shares
from crpbot.quality.rows import Judged

THIRDS = ("the calm third", "the middle third", "the wild third")
FEWEST_OUTCOMES, FEWEST_BLOCKS = 300, 3
"""Independent outcomes of a part that says something, a third of what a diagnosis needs in all, and blocks of time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """How a model did in one part of the span.

    Attributes:
        name: of the part, in words: a third by volatility, or a month of UTC as `2026-04`.
        rows: how many.
        accuracy: there.
        majority_accuracy: of always saying the class that is the commonest there, in hindsight.
        over_majority: the difference, row by row, with its block standard error.

    """

    name: str
    rows: int
    accuracy: float
    majority_accuracy: float
    over_majority: Mean


def measure_regimes(judged: Judged, effective_rows: float) -> tuple[Regime, ...]:
    """Measure every part with at least 300 independent outcomes and three blocks of time: thirds by volatility, then months.

    Args:
        judged: rows, labels and predictions.
        effective_rows: independent outcomes among all rows; a part has its share of them.

    """
    right = (judged.prediction.probabilities.argmax(axis=1) == judged.y).astype(float)
    found = []
    for name, rows in _parts(judged):
        blocks = len(np.unique(judged.time[rows] // judged.resamples.block))
        if rows.mean() * effective_rows < FEWEST_OUTCOMES or blocks < FEWEST_BLOCKS:
            continue
        share = shares(judged.y[rows])
        over = judged.resamples.mean(right - (judged.y == share.argmax()), rows=rows)
        accuracy, majority = float(right[rows].mean()), float(share.max())
        found.append(Regime(name=name, rows=int(rows.sum()), accuracy=accuracy, majority_accuracy=majority, over_majority=over))
    return tuple(found)


def _parts(judged: Judged) -> list[tuple[str, NDArray[np.bool_]]]:
    known = np.isfinite(judged.volatility)
    parts = []
    if known.any():
        edges = np.quantile(judged.volatility[known], [1 / 3, 2 / 3])
        third = np.searchsorted(edges, judged.volatility, side="left")
        parts = [(name, known & (third == number)) for number, name in enumerate(THIRDS)]
    month = judged.time.astype("datetime64[ms]").astype("datetime64[M]")
    return [*parts, *((str(one), month == one) for one in np.unique(month))]
