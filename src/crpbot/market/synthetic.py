"""Known-answer markets: made-up candles whose best possible accuracy can be computed.

A factory that finds an edge in `random-walk`, or none in `level-noise`, is broken, whatever it says of real candles.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from statistics import NormalDist
from typing import Any

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
_TURN = 0.02
"""Chance that the hidden drift of `planted-edge` turns round in a minute."""
_CALM, _WILD, _CHANGE = 0.5, 2.0, 1 / 240
"""Of `volatile`: the step in each regime, in multiples of the walk's, and the chance that the regime changes in a minute."""
HORIZON = 15
"""Candles that the best possible accuracies are computed for unless told otherwise: the horizon of v7."""


@dataclass(frozen=True, slots=True)
class KnownMarket:
    """One made-up market and what can be known about it.

    Attributes:
        make: candles from a generator, a row count and a price level.
        best_accuracy: the accuracy that nobody can beat on average, given the share of NEUTRAL labels, over v7's horizon.
        best_skill: likewise the least directional log loss, as nats below that of a coin, per row that is not NEUTRAL.
        story: one line for people.

    """

    make: Callable[[np.random.Generator, int, float], Candles]
    best_accuracy: Callable[[float], float]
    best_skill: Callable[[float], float]
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
    """Return a walk: the log price moves by independent normal steps, so nothing foretells its direction."""
    return _brownian_candles(rng, math.log(level) + np.cumsum(rng.normal(0.0, _STEP, rows + 1)), _STEP)


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
    if neutral_share >= 1:
        return 1.0
    z = np.linspace(-9.0, 9.0, 20_001)
    t = math.sqrt(2) * NormalDist().inv_cdf((1 + neutral_share) / 2)
    up, down = 1 - _phi(z + t), _phi(z - t)
    best = np.maximum(np.maximum(up, down), 1 - up - down)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return float(np.trapezoid(best * density, z))


def level_noise_best_skill(neutral_share: float) -> float:
    r"""Return the best possible skill on `level-noise`: nats per row that is not NEUTRAL, of whoever knows the level.

    With P(UP) = 1 − Φ(z + t) and P(DOWN) = Φ(z − t) as in `level_noise_best_accuracy`, the mean over the rows that are not
    NEUTRAL of ln 2 − H(P(UP)/(P(UP) + P(DOWN))), H the binary entropy. Without NEUTRAL P(UP) is uniform, with a mean entropy of
    1/2.

    >>> round(level_noise_best_skill(0.0), 6) == round(math.log(2) - 0.5, 6)
    True
    """
    z = np.linspace(-9.0, 9.0, 20_001)
    t = math.sqrt(2) * NormalDist().inv_cdf((1 + min(neutral_share, 1 - 1e-9)) / 2)
    up, down = 1 - _phi(z + t), _phi(z - t)
    density = np.exp(-(z**2) / 2) * (up + down)
    known = [_coin_less_entropy(one, other) for one, other in zip(up, down, strict=True)]
    return float(np.trapezoid(density * known, z) / np.trapezoid(density, z))


def planted_edge(rng: np.random.Generator, rows: int, level: float, *, points: float, joint: bool) -> Candles:
    """Return a walk with a small hidden drift, up or down, that candles betray: an edge of known size.

    The drift of the next minute is +m or −m and turns round with a chance of 2 % a minute. A candle shows it exactly: by its
    range, wide when the drift is up; or, when `joint`, by range and volume together: wide and loud, or narrow and quiet, when it
    is up, while each of the two alone is independent of it. The drift m is such that the best possible accuracy over 15 candles
    at 8 % NEUTRAL is `points` percentage points above always saying one direction.
    """
    up = _two_states(rng, rows + 1, _TURN)
    steps = _STEP * (rng.standard_normal(rows) + _drift_of(points) * np.where(up[:-1], 1.0, -1.0))
    path = math.log(level) + np.concatenate([[0.0], np.cumsum(steps)])
    loud = rng.uniform(size=rows) < 0.5
    wide = up[1:] == loud if joint else up[1:]
    reach = _STEP * np.where(wide, 3.0, 0.1) * rng.uniform(1.0, 1.1, (2, rows))
    start, end = path[:-1], path[1:]
    volume = np.exp(2.0 + np.where(loud, 0.7, -0.7) + rng.normal(0.0, 0.1, rows)) if joint else None
    return _candles(rng, start, np.maximum(start, end) + reach[0], np.minimum(start, end) - reach[1], end, volume=volume)


def planted_edge_best_accuracy(neutral_share: float, *, points: float, horizon: int = HORIZON) -> float:
    """Return the best possible accuracy on `planted-edge`, shown by one feature or by two.

    Whoever knows the drift of the next minute knows all that can be known: it is Markovian, and the noise is independent. The
    move over the horizon is then a mixture of normals over how many of its minutes have that drift, which a recursion counts.

    >>> [round(planted_edge_best_accuracy(0.08, points=p), 4) for p in (1, 2, 3)]
    [0.47, 0.48, 0.49]
    """
    return _best_with_drift(_drift_of(points), neutral_share, horizon)


def planted_edge_best_skill(neutral_share: float, *, points: float, horizon: int = HORIZON) -> float:
    """Return the best possible skill on `planted-edge`, shown by one feature or by two: nats per row that is not NEUTRAL.

    ln 2 less the mean binary entropy of P(UP | not NEUTRAL, drift). The two drifts are mirror images, so one speaks for both.

    >>> [round(planted_edge_best_skill(0.08, points=p), 5) for p in (1, 2, 3)]
    [0.00024, 0.00095, 0.00213]
    """
    _, below, above = _chances_with_drift(_drift_of(points), neutral_share, horizon)
    return _coin_less_entropy(above, below)


def volatile(rng: np.random.Generator, rows: int, level: float) -> Candles:
    """Return a walk whose steps are calm for hours and wild for hours: volatility can be foreseen, direction cannot.

    Volume follows the regime. Plain log loss rewards whoever foresees when a move will be NEUTRAL; nobody foresees UP or DOWN.
    """
    wild = _two_states(rng, rows, _CHANGE)
    size = _STEP * np.where(wild, _WILD, _CALM)
    path = math.log(level) + np.concatenate([[0.0], np.cumsum(size * rng.standard_normal(rows))])
    volume = np.exp(rng.normal(2.0, 0.6, rows)) * np.where(wild, 3.0, 1.0)
    return _brownian_candles(rng, path, size, volume=volume)


def volatile_best_accuracy(neutral_share: float, *, horizon: int = HORIZON) -> float:
    """Return the best possible accuracy on `volatile`, for somebody who knows the regime of the next minute.

    In each regime P(UP) = P(DOWN) = (1 − s)/2 for the share s of NEUTRAL moves there, so only NEUTRAL, where it is the most
    probable, can be said with more reason than a coin has. At 8 % it never is, and the best is 46 %: that of `random-walk`.

    >>> round(volatile_best_accuracy(0.08), 4)
    0.46
    """
    spread = {state: _spreads_from(state, horizon) for state in (_CALM, _WILD)}

    def neutral(theta: float, state: float) -> float:
        minutes, deviations = spread[state]
        return sum(p * (2 * _cdf(theta / d) - 1) for p, d in zip(minutes, deviations, strict=True))

    theta = _root(lambda t: sum(neutral(t, state) for state in spread) / 2 - neutral_share, 0.0, 1e3)
    return sum(max((1 - neutral(theta, state)) / 2, neutral(theta, state)) for state in spread) / 2


def _no_skill(_: float) -> float:
    """Return 0: nothing foretells direction."""
    return 0.0


_PLANTED = {
    f"planted-edge{'-joint' if joint else ''}{'' if points == 3 else f'-{points}'}": (points, joint)
    for joint in (False, True)
    for points in (3, 2, 1)
}

MARKETS: Mapping[str, KnownMarket] = {
    "random-walk": KnownMarket(
        random_walk, random_walk_best_accuracy, _no_skill, "independent steps: nothing to find, no model may pass"
    ),
    "volatile": KnownMarket(
        volatile, volatile_best_accuracy, _no_skill, "calm and wild hours: volatility can be foretold, direction not"
    ),
    **{
        name: KnownMarket(
            partial(planted_edge, points=points, joint=joint),
            partial(planted_edge_best_accuracy, points=points),
            partial(planted_edge_best_skill, points=points),
            f"an edge of {points} point{'s' * (points > 1)} over a coin, shown by "
            f"{'two features together' if joint else 'one feature'}",
        )
        for name, (points, joint) in _PLANTED.items()
    },
    "level-noise": KnownMarket(
        level_noise,
        level_noise_best_accuracy,
        level_noise_best_skill,
        "a level plus noise: far easier to foresee than any real market",
    ),
}


def _two_states(rng: np.random.Generator, n: int, change: float) -> NDArray[np.bool_]:
    """Return a Markov chain of two states that is left with the chance `change`; it starts in either, as likely."""
    turns: NDArray[np.int64] = np.cumsum(rng.uniform(size=n) < change)
    state: NDArray[np.bool_] = (turns + int(rng.integers(2))) % 2 == 1
    return state


@lru_cache
def _minutes_in_state(change: float, horizon: int) -> tuple[float, ...]:
    """Return the chance that k of the next `horizon` minutes are in the state of the first, for k = 0 … horizon."""
    here, there = np.zeros(horizon + 1), np.zeros(horizon + 1)
    here[1] = 1.0
    for _ in range(horizon - 1):
        stay, back = here * (1 - change), there * change
        leave, away = here * change, there * (1 - change)
        here, there = np.concatenate([[0.0], (stay + back)[:-1]]), leave + away
    return tuple((here + there).tolist())


def _best_with_drift(drift: float, neutral_share: float, horizon: int) -> float:
    """Return the chance of the most probable class when the drift of the next minute is up."""
    return max(_chances_with_drift(drift, neutral_share, horizon))


def _chances_with_drift(drift: float, neutral_share: float, horizon: int) -> tuple[float, float, float]:
    """Return the chances of NEUTRAL, DOWN and UP when the drift of the next minute is up."""
    chances = np.array(_minutes_in_state(_TURN, horizon))
    means = drift * (2.0 * np.arange(horizon + 1) - horizon) / math.sqrt(horizon)

    def below(x: float) -> float:
        return float(chances @ _phi(x - means))

    theta = _root(lambda t: below(t) - below(-t) - neutral_share, 0.0, 40.0)
    return neutral_share, below(-theta), 1 - below(theta)


def _coin_less_entropy(one: float, other: float) -> float:
    """Return ln 2 less the entropy of a choice between two outcomes with chances in this ratio, in nats."""
    shares = [chance / (one + other) for chance in (one, other) if chance > 0]
    return math.log(2) + sum(share * math.log(share) for share in shares)


@lru_cache
def _drift_of(points: float) -> float:
    """Return the drift, in steps of the walk, that makes the best accuracy `points` above 46 %."""
    return _root(lambda drift: _best_with_drift(drift, 0.08, HORIZON) - 0.46 - points / 100, 0.0, 1.0)


def _spreads_from(state: float, horizon: int) -> tuple[tuple[float, ...], list[float]]:
    """Return the chances of each number of minutes in `state`, and the deviation of the move, in steps of the walk."""
    other = _WILD + _CALM - state
    counts = range(horizon + 1)
    return _minutes_in_state(_CHANGE, horizon), [math.sqrt(k * state**2 + (horizon - k) * other**2) for k in counts]


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Return where a rising function is 0, by bisection."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


def _cdf(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


def _brownian_candles(
    rng: np.random.Generator,
    path: NDArray[np.float64],
    size: float | NDArray[np.float64],
    *,
    volume: NDArray[np.float64] | None = None,
) -> Candles:
    """Return candles of a log price, with the high and low of a Brownian path of standard deviation `size` between its points.

    For a path from `a` to `b` with variance s² the highest point is distributed as (a + b + √((a − b)² − 2·s²·ln U)) / 2 with U
    uniform (Karatzas & Shreve, Brownian Motion and Stochastic Calculus, 1991, section 2.8).
    """
    start, end = path[:-1], path[1:]
    up, down = (np.sqrt((start - end) ** 2 - 2 * size**2 * np.log(rng.uniform(size=len(start)))) for _ in range(2))
    return _candles(rng, start, (start + end + up) / 2, (start + end - down) / 2, end, volume=volume)


def _candles(
    rng: np.random.Generator,
    start: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    end: NDArray[np.float64],
    *,
    volume: NDArray[np.float64] | None = None,
) -> Candles:
    time = START + MINUTE * np.arange(len(start), dtype=np.int64)
    if volume is None:
        volume = np.exp(rng.normal(2.0, 0.6, len(start)))
    first, last = np.exp(start), np.exp(end)
    highest = np.maximum(np.exp(high), np.maximum(first, last))  # exp may round one step the wrong way
    lowest = np.minimum(np.exp(low), np.minimum(first, last))
    return Candles(time, first, highest, lowest, last, volume)


def _phi(z: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    return np.array([_cdf(value) for value in z])
