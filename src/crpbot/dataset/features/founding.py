"""The 72 features of the founding system: one table, by name, formula, unit and function."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from crpbot.dataset.features.bars import Bars
from crpbot.dataset.features.rolling import Array, lag

WARM_UP = 199
"""Rows at the start of a segment that have no features: the longest window is 200 candles."""


class Unit(Enum):
    """What a feature is measured in, and so how it scales: twice the price, twice a PRICE feature, the same PURE one."""

    PRICE = "quote currency"
    VOLUME = "base currency"
    PURE = "scale-free"


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of what a model sees.

    Attributes:
        name: its name in files and checkpoints.
        unit: what it is measured in.
        formula: how it is computed, for people.
        compute: how it is computed, for one segment.

    """

    name: str
    unit: Unit
    formula: str
    compute: Callable[[Bars], Array]


def _family(
    name: str, unit: Unit, formula: str, parameters: tuple[int | tuple[int, int], ...], compute: Callable[..., Array]
) -> list[Feature]:
    """Return one feature for each parameter; `n`, or `f` and `s`, in the formula stand for it."""
    members = []
    for parameter in parameters:
        numbers = parameter if isinstance(parameter, tuple) else (parameter,)
        tail = "_".join(str(number) for number in numbers)

        def column(bars: Bars, numbers: tuple[int, ...] = numbers) -> Array:
            return compute(bars, *numbers)

        members.append(Feature(f"{name}_{tail}", unit, formula, column))
    return members


_PRICE, _VOLUME, _PURE = Unit.PRICE, Unit.VOLUME, Unit.PURE
_SPANS = (5, 10, 20, 50, 200)
_MACD = ((12, 26), (5, 35))

_TABLE = [
    # moves
    Feature("returns", _PURE, "c / c[1 ago] − 1", lambda b: b.returns),
    Feature("log_returns", _PURE, "ln(c / c[1 ago])", lambda b: np.log(b.close / lag(b.close, 1))),
    *_family("returns_lag", _PURE, "returns, n candles ago", (1, 2, 3, 5), lambda b, n: lag(b.returns, n)),
    *_family("momentum", _PRICE, "c − c[n ago]", (5, 10, 20, 50), lambda b, n: b.close - lag(b.close, n)),
    *_family("roc", _PURE, "100·(c / c[n ago] − 1)", (5, 10, 20, 50), lambda b, n: 100 * (b.close / lag(b.close, n) - 1)),
    # the candle itself
    Feature("close_open_ratio", _PURE, "c / o", lambda b: b.close / b.open),
    Feature("high_low_ratio", _PURE, "h / l", lambda b: b.high / b.low),
    # averages
    *_family("sma", _PRICE, "mean of c over n", _SPANS, lambda b, n: b.sma(n)),
    *_family("ema", _PRICE, "exponential mean of c, span n", _SPANS, lambda b, n: b.ema(n)),
    *_family("price_to_sma", _PURE, "c / sma_n", _SPANS, lambda b, n: b.close / b.sma(n)),
    *_family("price_to_ema", _PURE, "c / ema_n", _SPANS, lambda b, n: b.close / b.ema(n)),
    *_family("macd", _PRICE, "ema_f − ema_s", _MACD, lambda b, f, s: b.macd(f, s)),
    *_family("macd_signal", _PRICE, "ema_9 of macd_f_s", _MACD, lambda b, f, s: b.macd_signal(f, s)),
    *_family("macd_histogram", _PRICE, "macd_f_s − macd_signal_f_s", _MACD, lambda b, f, s: b.macd(f, s) - b.macd_signal(f, s)),
    # bands and channels
    *_family("bb_lower", _PRICE, "sma_n − 2·std of c over n", (20, 50), lambda b, n: b.sma(n) - 2 * b.std(n)),
    *_family("bb_upper", _PRICE, "sma_n + 2·std of c over n", (20, 50), lambda b, n: b.sma(n) + 2 * b.std(n)),
    *_family("bb_position", _PURE, "(c − bb_lower_n) / (bb_upper_n − bb_lower_n)", (20, 50), lambda b, n: b.band_position(n)),
    *_family("price_channel_high", _PRICE, "max of h over n", (20, 50), lambda b, n: b.highest(n)),
    *_family("price_channel_low", _PRICE, "min of l over n", (20, 50), lambda b, n: b.lowest(n)),
    *_family("price_channel_position", _PURE, "(c − low) / (high − low), channel of n", (20, 50), lambda b, n: b.position(n)),
    # oscillators
    *_family("rsi", _PURE, "100·mean gain / (mean gain + mean loss) over n", (14, 21, 30), lambda b, n: b.rsi(n)),
    *_family("stoch_k", _PURE, "100·(c − min l) / (max h − min l) over n", (14, 21), lambda b, n: b.stoch_k(n)),
    *_family("stoch_d", _PURE, "mean of stoch_k_n over 3", (14, 21), lambda b, n: b.stoch_d(n)),
    *_family("williams_r", _PURE, "−100·(max h − c) / (max h − min l) over n", (14, 21), lambda b, n: b.williams_r(n)),
    # ranges and volume
    *_family("atr", _PRICE, "mean true range over n", (14,), lambda b, n: b.atr(n)),
    *_family("volatility", _PURE, "std of returns over n", (20, 50), lambda b, n: b.volatility(n)),
    Feature("volume_ratio", _PURE, "v / mean of v over 20", lambda b: b.volume_ratio),
    *_family("volume_lag", _PURE, "volume_ratio, n candles ago", (1, 2, 3, 5), lambda b, n: lag(b.volume_ratio, n)),
    Feature("volume_price_trend", _VOLUME, "v·returns", lambda b: b.volume * b.returns),
]

FOUNDING_72: Mapping[str, Feature] = {feature.name: feature for feature in sorted(_TABLE, key=lambda f: f.name)}
"""The features by name, in the order of the network's inputs: alphabetical, digits as text."""
