"""The rows that a diagnosis is about."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from crpbot.model.checkpoint import Prediction
from crpbot.quality.bootstrap import DAY, Resamples, resample


@dataclass(frozen=True, eq=False)
class Block:
    """Rows with their labels.

    Attributes:
        x: raw features in the order of the model, shape `(n, n_features)`.
        y: labels, shape `(n,)`.
        time: open time of each row's candle, in milliseconds of UTC, shape `(n,)`.
        known: when each label is known, likewise.

    """

    x: NDArray[np.float64]
    y: NDArray[np.int64]
    time: NDArray[np.int64]
    known: NDArray[np.int64]

    @property
    def day(self) -> NDArray[np.int64]:
        """The UTC day of each row."""
        return self.time // DAY

    @cached_property
    def resamples(self) -> Resamples:
        """Draws of the span of these rows: one set for all numbers, so that differences are paired."""
        return resample(self.time, known=self.known)


@dataclass(frozen=True, eq=False)
class Judged(Block):
    """Rows and what was said of them, for metrics, causes, pictures and `--predictions`.

    Attributes:
        prediction: of the model.
        volatility: standard deviation of the last 50 returns at each row, shape `(n,)`; NaN where the segment is younger.

    """

    prediction: Prediction
    volatility: NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Learned:
    """The very rows that a checkpoint of ours was made from, where the candles still hold them: their digest says so.

    Attributes:
        training: weights were fitted on these.
        calibration: early stopping and the temperature used these.

    """

    training: Block
    calibration: Block
