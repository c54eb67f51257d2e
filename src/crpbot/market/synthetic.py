"""Known-answer markets: made-up candles whose best possible accuracy can be computed.

A factory that finds an edge in `random-walk`, or none in `level-noise`, is broken, whatever it says of real candles.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from crpbot.errors import CandleError
from crpbot.market.candles import MINUTE, Candles

DEFAULT_ROWS = 200_000
MOST_ROWS = 20_000_000
DEFAULT_SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")
START = 1_704_067_200_000
"""The open time of the first made-up candle: 2024-01-01T00:00Z."""

_LEVELS = {"BTC-USD": 60_000.0, "ETH-USD": 3_000.0, "SOL-USD": 150.0}
_STEP = 0.0005
"""Standard deviation of the log price's move in a minute on the random walk, about that of BTC-USD."""
_NOISE = 0.001
"""Standard deviation of the log price around its level on `level-noise`."""


@dataclass(frozen=True, slots=True)
class KnownMarket:
    """One made-up market and what can be known about it.

    Attributes:
        make: candles from a generator, a row count and a price level.
        best_accuracy: the accuracy that nobody can beat on average, given the share of NEUTRAL labels.
        story: one line for people.

    """

    make: Callable[[np.random.Generator, int, float], Candles]
    best_accuracy: Callable[[float], float]
    story: str


def make_market(name: str, symbol: str, *, rows: int = DEFAULT_ROWS, seed: int = 0) -> Candles:
    """Return `rows` candles of the known-answer market `name`; the same arguments give the same candles."""
    if name not in MARKETS:
        raise CandleError(f"a synthetic market must be one of {', '.join(MARKETS)}; found {name!r}")
    if not 1 <= rows <= MOST_ROWS:
        raise CandleError(f"a synthetic market must have 1 to {MOST_ROWS:,} rows, found {rows}; choose fewer")
    words = hashlib.sha256(f"{name} {symbol}".encode()).digest()[:8]
    rng = np.random.default_rng([seed, int.from_bytes(words, "little")])
    return MARKETS[name].make(rng, rows, _LEVELS.get(symbol, 100.0))


def random_walk(rng: np.random.Generator, rows: int, level: float) -> Candles:
    """Return a walk: the log price moves by independent normal steps, so nothing foretells its direction.

    The high and low of each minute follow the law of a Brownian path between open and close: for a path from `a` to
    `b` with variance s², the highest point is distributed as (a + b + √((a − b)² − 2·s²·ln U)) / 2 with U uniform
    (Karatzas & Shreve, Brownian Motion and Stochastic Calculus, 1991, section 2.8).
    """
    path = math.log(level) + np.cumsum(rng.normal(0.0, _STEP, rows + 1))
    start, end = path[:-1], path[1:]
    reach_up, reach_down = (np.sqrt((start - end) ** 2 - 2 * _STEP**2 * np.log(rng.uniform(size=rows))) for _ in range(2))
    return _candles(rng, start, (start + end + reach_up) / 2, (start + end - reach_down) / 2, end)


def random_walk_best_accuracy(neutral_share: float) -> float:
    r"""Return the best possible accuracy on `random-walk`.

    The steps to come are independent of everything seen, and symmetric: P(UP) = P(DOWN) = (1 − s)/2 for a share s of
    NEUTRAL labels, at every candle. No rule beats the larger of (1 − s)/2 and s.

    >>> round(random_walk_best_accuracy(0.08), 4)
    0.46
    """
    return max((1 - neutral_share) / 2, neutral_share)


def level_noise(rng: np.random.Generator, rows: int, level: float) -> Candles:
    """Return a fixed level plus independent normal noise: what "made-up prices" in a tutorial often are.

    The log close is log(level) + σ·z with z independent from candle to candle; a candle opens at the close before it.
    Wicks are independent of everything. This market is foreseeable to a degree that no real one is: see
    `level_noise_best_accuracy`.
    """
    noise = math.log(level) + _NOISE * rng.standard_normal(rows + 1)
    start, end = noise[:-1], noise[1:]
    up, down = 0.2 * _NOISE * np.abs(rng.standard_normal((2, rows)))
    return _candles(rng, start, np.maximum(start, end) + up, np.minimum(start, end) - down, end)


def level_noise_best_accuracy(neutral_share: float) -> float:
    r"""Return the best possible accuracy on `level-noise`.

    The return over any horizon is σ·(z′ − z) with z′ a fresh standard normal and z known (the level is the mean of all
    closes). NEUTRAL is |z′ − z| ≤ t, and since z′ − z has variance 2, a share s of NEUTRAL labels means t = √2·q for
    the standard normal quantile q at (1 + s)/2. Given z: P(UP) = 1 − Φ(z + t), P(DOWN) = Φ(z − t), NEUTRAL the rest. The best
    accuracy is the mean over z of the largest of the three. Without NEUTRAL (t = 0) it is the mean of max(Φ, 1 − Φ)
    with Φ(z) uniform: exactly 3/4. Computed by the trapezoid rule on z within ±9.

    >>> round(level_noise_best_accuracy(0.0), 6)
    0.75
    >>> round(level_noise_best_accuracy(0.08), 3)
    0.708
    """
    z = np.linspace(-9.0, 9.0, 20_001)
    t = math.sqrt(2) * NormalDist().inv_cdf((1 + neutral_share) / 2)
    up, down = 1 - _phi(z + t), _phi(z - t)
    best = np.maximum(np.maximum(up, down), 1 - up - down)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return float(np.trapezoid(best * density, z))


MARKETS: Mapping[str, KnownMarket] = {
    "random-walk": KnownMarket(random_walk, random_walk_best_accuracy, "independent steps: nothing to find, no model may pass"),
    "level-noise": KnownMarket(
        level_noise, level_noise_best_accuracy, "a level plus noise: far easier to foresee than any real market"
    ),
}


def _candles(
    rng: np.random.Generator,
    start: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    end: NDArray[np.float64],
) -> Candles:
    time = START + MINUTE * np.arange(len(start), dtype=np.int64)
    volume = np.exp(rng.normal(2.0, 0.6, len(start)))
    first, last = np.exp(start), np.exp(end)
    highest = np.maximum(np.exp(high), np.maximum(first, last))  # exp may round one step the wrong way
    lowest = np.minimum(np.exp(low), np.minimum(first, last))
    return Candles(time, first, highest, lowest, last, volume)


def _phi(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in z])
