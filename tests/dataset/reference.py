"""The 72 features written a second time, window by window, from the design's definitions: slow, two-pass, independent."""

import math
from collections.abc import Callable

import numpy as np

from crpbot.market.candles import Candles


def reference(candles: Candles) -> dict[str, np.ndarray]:  # noqa: C901  one formula after the other
    """Return every feature of one segment; rows before 199 are not to be compared."""
    o, h, l, c, v = candles.open, candles.high, candles.low, candles.close, candles.volume  # noqa: E741
    n = len(c)

    def rolling(x: np.ndarray, w: int, f: Callable[[np.ndarray], float]) -> np.ndarray:
        return np.array([np.nan if t < w - 1 else f(x[t - w + 1 : t + 1]) for t in range(n)])

    def mean(w: np.ndarray) -> float:
        return math.fsum(w) / len(w)

    def std(w: np.ndarray) -> float:
        if not np.isfinite(w).all():
            return np.nan
        m = math.fsum(w) / len(w)
        return math.sqrt(math.fsum((x - m) ** 2 for x in w) / (len(w) - 1))

    def ago(x: np.ndarray, k: int) -> np.ndarray:
        return np.concatenate([np.full(k, np.nan), x[:-k]])

    def ema(x: np.ndarray, span: int) -> np.ndarray:
        a, y = 2 / (span + 1), [x[0]]
        for value in x[1:]:
            y.append(a * value + (1 - a) * y[-1])
        return np.array(y)

    def ratio(above: np.ndarray, below: np.ndarray, flat: float) -> np.ndarray:
        return np.array([flat if b == 0 else a / b for a, b in zip(above, below, strict=True)])

    f: dict[str, np.ndarray] = {}
    returns = c / ago(c, 1) - 1
    f["returns"], f["log_returns"] = returns, np.log(c / ago(c, 1))
    f["close_open_ratio"], f["high_low_ratio"] = c / o, h / l
    volume_ratio = np.array([1.0 if m == 0 else x / m for x, m in zip(v, rolling(v, 20, mean), strict=True)])
    f["volume_ratio"], f["volume_price_trend"] = volume_ratio, v * returns
    for k in (1, 2, 3, 5):
        f[f"returns_lag_{k}"], f[f"volume_lag_{k}"] = ago(returns, k), ago(volume_ratio, k)
    for p in (5, 10, 20, 50):
        f[f"momentum_{p}"], f[f"roc_{p}"] = c - ago(c, p), 100 * (c / ago(c, p) - 1)
    for w in (5, 10, 20, 50, 200):
        f[f"sma_{w}"], f[f"ema_{w}"] = rolling(c, w, mean), ema(c, w)
        f[f"price_to_sma_{w}"], f[f"price_to_ema_{w}"] = c / f[f"sma_{w}"], c / f[f"ema_{w}"]
    for fast, slow in ((12, 26), (5, 35)):
        macd = ema(c, fast) - ema(c, slow)
        signal = ema(macd, 9)
        f[f"macd_{fast}_{slow}"], f[f"macd_signal_{fast}_{slow}"] = macd, signal
        f[f"macd_histogram_{fast}_{slow}"] = macd - signal
    for w in (20, 50):
        middle, deviation = f[f"sma_{w}"], rolling(c, w, std)
        flat = rolling(c, w, np.ptp) == 0
        f[f"bb_upper_{w}"], f[f"bb_lower_{w}"] = middle + 2 * deviation, middle - 2 * deviation
        f[f"bb_position_{w}"] = np.where(flat, 0.5, (c - (middle - 2 * deviation)) / np.where(flat, 1, 4 * deviation))
        top, bottom = rolling(h, w, np.max), rolling(l, w, np.min)
        f[f"price_channel_high_{w}"], f[f"price_channel_low_{w}"] = top, bottom
        f[f"price_channel_position_{w}"] = ratio(c - bottom, top - bottom, 0.5)
        f[f"volatility_{w}"] = rolling(returns, w, std)
    moves = c - ago(c, 1)
    for w in (14, 21, 30):
        gain, loss = rolling(np.maximum(moves, 0), w, mean), rolling(np.maximum(-moves, 0), w, mean)
        f[f"rsi_{w}"] = 100 * ratio(gain, gain + loss, 0.5)
    for w in (14, 21):
        top, bottom = rolling(h, w, np.max), rolling(l, w, np.min)
        f[f"stoch_k_{w}"] = 100 * ratio(c - bottom, top - bottom, 0.5)
        f[f"stoch_d_{w}"] = rolling(f[f"stoch_k_{w}"], 3, mean)
        f[f"williams_r_{w}"] = -100 * ratio(top - c, top - bottom, 0.5)
    true_range = np.fmax(h - l, np.fmax(np.abs(h - ago(c, 1)), np.abs(l - ago(c, 1))))
    f["atr_14"] = rolling(true_range, 14, mean)
    return f
