"""Candles for tests: every valid market can be drawn, and none is thrown away."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crpbot.market.candles import MINUTE, Candles

START = 1_700_000_040_000  # on the minute


def walk(rows: int, seed: int = 0, *, level: float = 100.0) -> Candles:
    """Return an ordinary market."""
    rng = np.random.default_rng(seed)
    close = level * np.exp(np.cumsum(rng.normal(0, 1e-3, rows)))
    first = np.concatenate([[level], close[:-1]])
    high = np.maximum(first, close) * (1 + rng.uniform(0, 1e-3, rows))
    low = np.minimum(first, close) * (1 - rng.uniform(0, 1e-3, rows))
    return Candles(START + MINUTE * np.arange(rows), first, high, low, close, rng.exponential(5, rows))


@st.composite
def candles(draw: st.DrawFn, *, min_rows: int = 210, max_rows: int = 420) -> Candles:
    """Draw a valid market in ticks: four sorted prices a candle, flat stretches, empty minutes, gaps."""
    rows = draw(st.integers(min_rows, max_rows))
    ticks = draw(hnp.arrays(np.int64, (rows, 4), elements=st.integers(1, 2_000)))
    ticks.sort(axis=1)
    swap = draw(hnp.arrays(np.bool_, rows))
    volume = draw(hnp.arrays(np.float64, rows, elements=st.sampled_from([0.0, 0.5, 1.0, 3.0, 1e6])))
    flat = draw(st.integers(0, rows))
    length = draw(st.integers(0, 250))
    ticks[flat : flat + length] = ticks[min(flat, rows - 1)][1]
    volume[flat : flat + length] = draw(st.sampled_from([0.0, 2.0]))
    gap_at = draw(st.integers(0, rows))
    steps = np.ones(rows, np.int64)
    steps[gap_at : gap_at + 1] += draw(st.integers(0, 3))
    low, body_low, body_high, high = ticks.T / 100
    first, last = np.where(swap, body_high, body_low), np.where(swap, body_low, body_high)
    return Candles(START + MINUTE * np.cumsum(steps), first, high, low, last, volume)
