"""The 72 features as people write them: plain pandas, Polars expressions, TA-Lib, pandas-ta-classic.

Frames have the columns of a candle. Each needs its own package only: whoever compares with pandas does not need TA-Lib.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

SPANS = (5, 10, 20, 50, 200)
MACD = ((12, 26), (5, 35))


def in_pandas(d: "pd.DataFrame") -> "dict[str, pd.Series]":
    """Return the 72 features of one segment, as a notebook would compute them."""
    o, h, l, c, v = (d[name] for name in ("open", "high", "low", "close", "volume"))  # noqa: E741
    f = {"returns": c.pct_change(), "log_returns": np.log(c / c.shift(1)), "close_open_ratio": c / o, "high_low_ratio": h / l}
    f["volume_ratio"] = (v / v.rolling(20).mean()).fillna(1.0)
    f["volume_price_trend"] = v * f["returns"]
    for k in (1, 2, 3, 5):
        f[f"returns_lag_{k}"], f[f"volume_lag_{k}"] = f["returns"].shift(k), f["volume_ratio"].shift(k)
    for p in (5, 10, 20, 50):
        f[f"momentum_{p}"], f[f"roc_{p}"] = c - c.shift(p), 100 * c.pct_change(p)
    for w in SPANS:
        f[f"sma_{w}"], f[f"ema_{w}"] = c.rolling(w).mean(), c.ewm(span=w, adjust=False).mean()
        f[f"price_to_sma_{w}"], f[f"price_to_ema_{w}"] = c / f[f"sma_{w}"], c / f[f"ema_{w}"]
    for fast, slow in MACD:
        macd = c.ewm(span=fast, adjust=False).mean() - c.ewm(span=slow, adjust=False).mean()
        signal = macd.ewm(span=9, adjust=False).mean()
        f[f"macd_{fast}_{slow}"], f[f"macd_signal_{fast}_{slow}"] = macd, signal
        f[f"macd_histogram_{fast}_{slow}"] = macd - signal
    for w in (20, 50):
        middle, deviation = f[f"sma_{w}"], c.rolling(w).std()
        upper, lower = middle + 2 * deviation, middle - 2 * deviation
        f[f"bb_upper_{w}"], f[f"bb_lower_{w}"] = upper, lower
        f[f"bb_position_{w}"] = ((c - lower) / (upper - lower)).fillna(0.5)
        top, bottom = h.rolling(w).max(), l.rolling(w).min()
        f[f"price_channel_high_{w}"], f[f"price_channel_low_{w}"] = top, bottom
        f[f"price_channel_position_{w}"] = ((c - bottom) / (top - bottom)).fillna(0.5)
        f[f"volatility_{w}"] = f["returns"].rolling(w).std()
    moves = c.diff()
    for w in (14, 21, 30):
        gain, loss = moves.clip(lower=0).rolling(w).mean(), (-moves).clip(lower=0).rolling(w).mean()
        f[f"rsi_{w}"] = (100 * gain / (gain + loss)).fillna(50.0)
    for w in (14, 21):
        top, bottom = h.rolling(w).max(), l.rolling(w).min()
        f[f"stoch_k_{w}"] = (100 * (c - bottom) / (top - bottom)).fillna(50.0)
        f[f"stoch_d_{w}"] = f[f"stoch_k_{w}"].rolling(3).mean()
        f[f"williams_r_{w}"] = (-100 * (top - c) / (top - bottom)).fillna(-50.0)
    before = c.shift(1)
    true_range = np.maximum(h - l, np.maximum((h - before).abs(), (l - before).abs()))
    f["atr_14"] = true_range.rolling(14).mean()
    return f


def in_polars(d: "pl.DataFrame") -> "pl.DataFrame":
    """Return the 72 features of one segment as Polars expressions, in four steps so that shared parts are computed once."""
    import polars as pl

    o, h, l, c, v = (pl.col(name) for name in ("open", "high", "low", "close", "volume"))  # noqa: E741
    low_high = {w: (l.rolling_min(w), h.rolling_max(w)) for w in (14, 20, 21, 50)}
    parts = {
        "returns": c.pct_change(),
        "volume_ratio": (v / v.rolling_mean(20)).fill_nan(1.0),
        "_moves": c.diff(),
        "_true_range": pl.max_horizontal(h - l, (h - c.shift(1)).abs(), (l - c.shift(1)).abs()),
        **{f"sma_{w}": c.rolling_mean(w) for w in SPANS},
        **{f"ema_{w}": c.ewm_mean(span=w, adjust=False) for w in SPANS},
        **{f"_std_{w}": c.rolling_std(w) for w in (20, 50)},
        **{f"_low_{w}": low for w, (low, _) in low_high.items()},
        **{f"_high_{w}": high for w, (_, high) in low_high.items()},
        **{
            f"macd_{f}_{s}": c.ewm_mean(span=f, adjust=False) - c.ewm_mean(span=s, adjust=False)
            for f, s in MACD
        },
    }  # fmt: skip
    d = d.with_columns(**parts)
    col = pl.col
    second = {
        "log_returns": (c / c.shift(1)).log(),
        "close_open_ratio": c / o,
        "high_low_ratio": h / l,
        "volume_price_trend": v * col("returns"),
        "atr_14": col("_true_range").rolling_mean(14),
        **{f"returns_lag_{k}": col("returns").shift(k) for k in (1, 2, 3, 5)},
        **{f"volume_lag_{k}": col("volume_ratio").shift(k) for k in (1, 2, 3, 5)},
        **{f"momentum_{p}": c - c.shift(p) for p in (5, 10, 20, 50)},
        **{f"roc_{p}": 100 * c.pct_change(p) for p in (5, 10, 20, 50)},
        **{f"price_to_sma_{w}": c / col(f"sma_{w}") for w in SPANS},
        **{f"price_to_ema_{w}": c / col(f"ema_{w}") for w in SPANS},
        **{f"macd_signal_{f}_{s}": col(f"macd_{f}_{s}").ewm_mean(span=9, adjust=False) for f, s in MACD},
        **{f"bb_upper_{w}": col(f"sma_{w}") + 2 * col(f"_std_{w}") for w in (20, 50)},
        **{f"bb_lower_{w}": col(f"sma_{w}") - 2 * col(f"_std_{w}") for w in (20, 50)},
        **{f"price_channel_high_{w}": col(f"_high_{w}") for w in (20, 50)},
        **{f"price_channel_low_{w}": col(f"_low_{w}") for w in (20, 50)},
        **{
            f"price_channel_position_{w}": ((c - col(f"_low_{w}")) / (col(f"_high_{w}") - col(f"_low_{w}"))).fill_nan(0.5)
            for w in (20, 50)
        },
        **{f"volatility_{w}": col("returns").rolling_std(w) for w in (20, 50)},
        **{f"_gain_{w}": col("_moves").clip(lower_bound=0).rolling_sum(w) for w in (14, 21, 30)},
        **{f"_loss_{w}": (-col("_moves")).clip(lower_bound=0).rolling_sum(w) for w in (14, 21, 30)},
        **{
            f"stoch_k_{w}": (100 * (c - col(f"_low_{w}")) / (col(f"_high_{w}") - col(f"_low_{w}"))).fill_nan(50.0)
            for w in (14, 21)
        },
        **{
            f"williams_r_{w}": (-100 * (col(f"_high_{w}") - c) / (col(f"_high_{w}") - col(f"_low_{w}"))).fill_nan(-50.0)
            for w in (14, 21)
        },
    }
    d = d.with_columns(**second)
    third = {
        **{f"macd_histogram_{f}_{s}": col(f"macd_{f}_{s}") - col(f"macd_signal_{f}_{s}") for f, s in MACD},
        **{
            f"bb_position_{w}": ((c - col(f"bb_lower_{w}")) / (col(f"bb_upper_{w}") - col(f"bb_lower_{w}"))).fill_nan(0.5)
            for w in (20, 50)
        },
        **{f"rsi_{w}": (100 * col(f"_gain_{w}") / (col(f"_gain_{w}") + col(f"_loss_{w}"))).fill_nan(50.0) for w in (14, 21, 30)},
        **{f"stoch_d_{w}": col(f"stoch_k_{w}").rolling_mean(3) for w in (14, 21)},
    }
    return d.with_columns(**third)


def in_talib(d: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the features for which TA-Lib has the same definition: 21 of the 72.

    Its RSI and ATR smooth like Wilder, its bands divide by n, its exponential means begin with a plain one: other numbers.
    """
    import talib

    h, l, c = d["high"], d["low"], d["close"]  # noqa: E741
    f = {f"sma_{w}": talib.SMA(c, w) for w in SPANS}
    for p in (5, 10, 20, 50):
        f[f"momentum_{p}"], f[f"roc_{p}"] = talib.MOM(c, p), talib.ROC(c, p)
    for w in (20, 50):
        f[f"price_channel_high_{w}"], f[f"price_channel_low_{w}"] = talib.MAX(h, w), talib.MIN(l, w)
    for w in (14, 21):
        f[f"williams_r_{w}"] = talib.WILLR(h, l, c, w)
        f[f"stoch_k_{w}"], _ = talib.STOCHF(h, l, c, w, 1)
    return f


def in_pandas_ta(d: "pd.DataFrame") -> "dict[str, pd.Series]":
    """Return the features that pandas-ta-classic defines as we do, computed by itself and not by TA-Lib: 38 of the 72.

    Its RSI and ATR smooth like Wilder, and its MACD begins with plain means: other numbers.
    """
    import pandas_ta_classic as ta

    h, l, c = d["high"], d["low"], d["close"]  # noqa: E741
    f = {"returns": ta.percent_return(c, length=1), "log_returns": ta.log_return(c, length=1)}
    for p in (5, 10, 20, 50):
        f[f"momentum_{p}"], f[f"roc_{p}"] = ta.mom(c, length=p, talib=False), ta.roc(c, length=p, talib=False)
    for w in SPANS:
        f[f"sma_{w}"], f[f"ema_{w}"] = ta.sma(c, length=w, talib=False), ta.ema(c, length=w, talib=False, sma=False)
    for w in (20, 50):
        bands = ta.bbands(c, length=w, std=2, ddof=1, talib=False)
        f[f"bb_lower_{w}"], f[f"bb_upper_{w}"] = bands.iloc[:, 0], bands.iloc[:, 2]
        f[f"bb_position_{w}"] = bands.iloc[:, 4].fillna(0.5)
        channel = ta.donchian(h, l, lower_length=w, upper_length=w)
        f[f"price_channel_low_{w}"], f[f"price_channel_high_{w}"] = channel.iloc[:, 0], channel.iloc[:, 2]
        f[f"volatility_{w}"] = ta.stdev(f["returns"], length=w, ddof=1, talib=False)
    for w in (14, 21):
        f[f"williams_r_{w}"] = ta.willr(h, l, c, length=w, talib=False).fillna(-50.0)
        stochastic = ta.stoch(h, l, c, k=w, d=3, smooth_k=1)
        f[f"stoch_k_{w}"], f[f"stoch_d_{w}"] = (stochastic.iloc[:, at].reindex(c.index).fillna(50.0) for at in (0, 1))
    return f
