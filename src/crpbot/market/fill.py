"""Stand-ins for missing minutes. They exist only where somebody asked for them, and they are marked."""

import numpy as np

from crpbot.errors import CandleError
from crpbot.market.candles import MINUTE, Candles

MOST = 5
"""Missing minutes in a row that are filled unless told otherwise: an outage, not a market that was away."""


def fill_flat(candles: Candles, *, most: int = MOST) -> Candles:
    """Return candles in which gaps of up to `most` minutes are filled: the close before, no volume, marked in `filled`.

    Windows and exponential means go on across such a gap; no row and no label is made of a stand-in. Longer gaps stay gaps.

    Raises:
        CandleError: `most` is below 1.

    """
    if most < 1:
        raise CandleError(f"gaps to be filled must be at least 1 minute long, found {most}; correct it")
    steps = np.diff(candles.time) // MINUTE
    short = (steps > 1) & (steps <= most + 1)
    repeats = np.concatenate([np.where(short, steps, 1), [1]]).astype(np.int64)
    place = np.repeat(np.arange(len(candles)), repeats)
    offset = np.arange(len(place)) - np.concatenate([[0], np.cumsum(repeats)[:-1]])[place]
    new, close = offset > 0, candles.close[place]
    filled = new | (False if candles.filled is None else candles.filled[place])
    opened, high, low = (np.where(new, close, getattr(candles, name)[place]) for name in ("open", "high", "low"))
    volume = np.where(new, 0.0, candles.volume[place])
    return Candles(candles.time[place] + MINUTE * offset, opened, high, low, close, volume, filled=filled)
