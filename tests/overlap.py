"""Rows whose labels overlap, as those of a market do."""

import numpy as np

from crpbot.market.candles import MINUTE

START = 1_704_067_200_000


def times(n: int) -> np.ndarray:
    return START + MINUTE * np.arange(n, dtype=np.int64)


def moves(n: int, horizon: int, seed: int) -> np.ndarray:
    """Return standard normal numbers that overlap as moves over `horizon` minutes do."""
    steps = np.random.default_rng(seed).normal(size=n + horizon - 1)
    return np.convolve(steps, np.ones(horizon), "valid") / np.sqrt(horizon)
