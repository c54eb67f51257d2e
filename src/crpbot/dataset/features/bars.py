"""The averages, extremes and ranges that the features of one segment share, each computed once."""

from collections.abc import Callable
from functools import cached_property

import numpy as np
import polars as pl

from crpbot.dataset.features.rolling import (
    Array,
    Rolling,
    lag,
    rolling_max,
    rolling_min,
    rolling_moments,
    rolling_sum,
)
from crpbot.market.candles import Candles


class Recursions:
    """The exponential means of one segment: the only series that remember more than a window."""

    def __init__(self, close: Array) -> None:
        self._close = close
        self._known: dict[tuple[int, ...], Array] = {}

    def ema(self, n: int) -> Array:
        """Return the exponential mean of the close with span `n`."""
        return self._once((n,), lambda: ema(self._close, n))

    def macd_signal(self, fast: int, slow: int) -> Array:
        """Return the exponential mean of span 9 of the fast mean less the slow one."""
        return self._once((fast, slow), lambda: ema(self.ema(fast) - self.ema(slow), 9))

    def _once(self, key: tuple[int, ...], compute: Callable[[], Array]) -> Array:
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]


class Bars:
    """A stretch of one segment as feature formulas see it. Every array has shape `(n,)`; NaN: not enough rows before.

    Args:
        candles: one segment, without a gap.
        recursions: the exponential means of that whole segment.
        rows: the stretch to look at. Short stretches stay in the processor's cache, which makes them fast.

    Attributes:
        open, high, low, close: prices, in quote currency.
        volume: amount traded, in base currency.

    """

    def __init__(self, candles: Candles, recursions: Recursions, rows: slice) -> None:
        self.open, self.high, self.low = candles.open[rows], candles.high[rows], candles.low[rows]
        self.close, self.volume = candles.close[rows], candles.volume[rows]
        self._recursions, self._rows = recursions, rows
        self._known: dict[tuple[object, ...], Array] = {}

    def _once(self, key: tuple[object, ...], compute: Callable[[], Array]) -> Array:
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    @cached_property
    def returns(self) -> Array:
        """Growth of the close since the candle before, as a fraction."""
        return self.close / lag(self.close, 1) - 1

    @cached_property
    def volume_ratio(self) -> Array:
        """Volume over its mean of 20 candles; 1 where nothing was traded in the window."""
        mean = rolling_sum(self.volume).over(20) / 20
        return divide(self.volume, mean, flat=mean == 0, instead=1.0)

    def sma(self, n: int) -> Array:
        """Return the mean of the last `n` closes."""
        return self._once(("sma", n), lambda: self._closes.over(n) / n)

    def ema(self, n: int) -> Array:
        """Return the exponential mean of the close with span `n`: α = 2/(n + 1), starting at the segment's first close."""
        return self._recursions.ema(n)[self._rows]

    def std(self, n: int) -> Array:
        """Return the standard deviation of the last `n` closes, with n − 1 in the denominator."""
        return self._once(("std", n), lambda: np.sqrt(self._close_moments.over(n)[1] / (n - 1)))

    def volatility(self, n: int) -> Array:
        """Return the standard deviation of the last `n` returns, with n − 1 in the denominator."""
        return self._once(("volatility", n), lambda: np.sqrt(self._return_moments.over(n)[1] / (n - 1)))

    def highest(self, n: int) -> Array:
        """Return the highest high of the last `n` candles."""
        return self._once(("highest", n), lambda: self._highs.over(n))

    def lowest(self, n: int) -> Array:
        """Return the lowest low of the last `n` candles."""
        return self._once(("lowest", n), lambda: self._lows.over(n))

    def macd(self, fast: int, slow: int) -> Array:
        """Return the fast exponential mean of the close less the slow one."""
        return self.ema(fast) - self.ema(slow)

    def macd_signal(self, fast: int, slow: int) -> Array:
        """Return the exponential mean of span 9 of `macd`."""
        return self._recursions.macd_signal(fast, slow)[self._rows]

    def atr(self, n: int) -> Array:
        """Return the mean true range of the last `n` candles (Wilder 1978, with a plain mean).

        The true range is the larger of high less low and the distances of high and low from the close before.
        """
        before = lag(self.close, 1)
        reach = np.fmax(np.abs(self.high - before), np.abs(self.low - before))
        return rolling_sum(np.fmax(self.high - self.low, reach)).over(n) / n

    def rsi(self, n: int) -> Array:
        """Return the relative strength index of the last `n` moves (Wilder 1978, with plain means): 0 to 100, flat 50."""
        gains, losses = self._gains.over(n), self._losses.over(n)
        moved = gains + losses
        return 100 * divide(gains, moved, flat=moved == 0, instead=0.5)

    def position(self, n: int) -> Array:
        """Return where the close stands between the lowest low (0) and the highest high (1) of the last `n`; flat 0.5."""

        def compute() -> Array:
            low, high = self.lowest(n), self.highest(n)
            return divide(self.close - low, high - low, flat=high == low, instead=0.5)

        return self._once(("position", n), compute)

    def stoch_k(self, n: int) -> Array:
        """Return `position` in percent: the stochastic oscillator %K (Lane 1984)."""
        return self._once(("stoch_k", n), lambda: 100 * self.position(n))

    def stoch_d(self, n: int) -> Array:
        """Return the mean of the last three `stoch_k`."""
        return rolling_sum(self.stoch_k(n)).over(3) / 3

    def williams_r(self, n: int) -> Array:
        """Return how far the close stands under the highest high, −100 to 0 (Williams 1973); flat −50."""
        low, high = self.lowest(n), self.highest(n)
        return -100 * divide(high - self.close, high - low, flat=high == low, instead=0.5)

    def band_position(self, n: int) -> Array:
        """Return where the close stands between the Bollinger bands: 0 the lower, 1 the upper; a flat window 0.5.

        (c − lower)/(upper − lower) with bands at ±2 deviations, written so that the bands' rounding cancels.
        """
        deviation = self.std(n)
        return 0.5 + divide(self.close - self.sma(n), 4 * deviation, flat=deviation == 0, instead=0.0)

    @cached_property
    def _closes(self) -> Rolling:
        return rolling_sum(self.close)

    @cached_property
    def _close_moments(self) -> Rolling:
        return rolling_moments(self.close)

    @cached_property
    def _return_moments(self) -> Rolling:
        return rolling_moments(self.returns)

    @cached_property
    def _highs(self) -> Rolling:
        return rolling_max(self.high)

    @cached_property
    def _lows(self) -> Rolling:
        return rolling_min(self.low)

    @cached_property
    def _moves(self) -> Array:
        return self.close - lag(self.close, 1)

    @cached_property
    def _gains(self) -> Rolling:
        return rolling_sum(np.maximum(self._moves, 0.0))

    @cached_property
    def _losses(self) -> Rolling:
        return rolling_sum(np.maximum(-self._moves, 0.0))


def ema(x: Array, span: int) -> Array:
    """Return the recursive exponential mean y ← y + α·(x − y), α = 2/(span + 1), y₀ = x₀."""
    return pl.Series(x).ewm_mean(span=span, adjust=False).to_numpy()


def divide(above: Array, below: Array, *, flat: Array | np.ndarray[tuple[int], np.dtype[np.bool_]], instead: float) -> Array:
    """Return `above / below`, and `instead` where the window is `flat`."""
    return np.where(flat, instead, above / np.where(flat, 1.0, below))
