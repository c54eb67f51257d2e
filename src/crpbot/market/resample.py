"""Longer bars out of 1-minute candles."""

from datetime import timedelta

import numpy as np

from crpbot.errors import CandleError
from crpbot.market.candles import MINUTE, Candles

_DAY = timedelta(days=1) // timedelta(minutes=1)


def resample(candles: Candles, minutes: int) -> Candles:
    """Return bars of `minutes` minutes each, aligned to whole multiples of that since 1970 in UTC.

    A bar opens with its first minute, closes with its last, and adds up their volume. Only whole bars are made: one with
    a minute missing is left out, at a gap as at both ends, so that gaps stay gaps and the newest bar never changes later. A bar
    with a stand-in for a minute is a stand-in.

    Args:
        candles: of one minute each.
        minutes: of a bar: 5, 15, 60, 240, 1440, or any other number that divides a day.

    Raises:
        CandleError: `minutes` does not divide a day.

    """
    if minutes < 1 or _DAY % minutes:
        raise CandleError(f"the minutes of a bar must divide the {_DAY} of a day, found {minutes}; choose 5, 15, 60, 240 or 1440")
    _, first, count = np.unique(candles.time // (minutes * MINUTE), return_index=True, return_counts=True)
    whole = first[count == minutes, np.newaxis] + np.arange(minutes)
    return Candles(
        time=candles.time[whole[:, 0]],
        open=candles.open[whole[:, 0]],
        high=candles.high[whole].max(axis=1),
        low=candles.low[whole].min(axis=1),
        close=candles.close[whole[:, -1]],
        volume=candles.volume[whole].sum(axis=1),
        filled=None if candles.filled is None else candles.filled[whole].any(axis=1),
    )
