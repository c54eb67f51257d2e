"""Labels: what the price did after a candle. DOWN = 0, NEUTRAL = 1, UP = 2, in this order everywhere."""

import numpy as np
from numpy.typing import NDArray

from crpbot.market.candles import MINUTE, Candles

CLASSES = ("DOWN", "NEUTRAL", "UP")
DOWN, NEUTRAL, UP = range(3)


def horizon_moves(candles: Candles, *, horizon: int, max_gap_minutes: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return how far the close moves in the next `horizon` candles, and when that is known.

    Returns:
        The log return ln(c[t + horizon] / c[t]), shape `(n,)`; NaN for the last `horizon` candles of a segment.
        The close time of candle t + horizon, in milliseconds of UTC, shape `(n,)`; 0 where there is none.

    """
    moves = np.full(len(candles), np.nan)
    known = np.zeros(len(candles), np.int64)
    for segment in candles.segments(max_gap_minutes=max_gap_minutes):
        if segment.stop - segment.start <= horizon:
            continue
        labelled = slice(segment.start, segment.stop - horizon)
        ahead = slice(segment.start + horizon, segment.stop)
        moves[labelled] = np.log(candles.close[ahead] / candles.close[labelled])
        known[labelled] = candles.time[ahead] + MINUTE
    return moves, known


def fit_theta(moves: NDArray[np.float64], *, neutral_share: float) -> float:
    """Return the θ within which `neutral_share` of `moves` lie; pass training rows only.

    >>> fit_theta(np.array([-0.04, -0.01, 0.02, 0.03, 0.05]), neutral_share=0.25)
    0.02
    """
    return float(np.quantile(np.abs(moves), neutral_share))


def classify(moves: NDArray[np.float64], theta: float) -> NDArray[np.int64]:
    """Return the label of each move: UP above θ, DOWN below −θ, NEUTRAL between; shape `(n,)`.

    >>> classify(np.array([-0.03, 0.02, 0.05]), 0.02).tolist()
    [0, 1, 2]
    """
    return np.where(moves > theta, UP, np.where(moves < -theta, DOWN, NEUTRAL)).astype(np.int64)
