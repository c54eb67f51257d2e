"""Labels: what the price did after a candle. DOWN = 0, NEUTRAL = 1, UP = 2, in this order everywhere."""

import hashlib
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.features.compute import compute_features
from crpbot.dataset.features.sets import average_true_range
from crpbot.market.candles import MINUTE, Candles

CLASSES = ("DOWN", "NEUTRAL", "UP")
DOWN, NEUTRAL, UP = range(3)
UNLABELLED = -1
"""Stands for a label that there never will be."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_Number = TypeVar("_Number", float, Floats)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exits:
    """Where a trade ends: the distances of an order plan, and of the label `triple-barrier`.

    Attributes:
        distance: what `stop` counts: multiples of the average true range of 14 candles, or percent of the entry price.
        stop: from the entry to the stop loss.
        reward: the distance to the take profit over that to the stop loss.

    """

    distance: Literal["atr", "percent"] = "atr"
    stop: float = 1.5
    reward: float = 1.8

    def stop_distance(self, entry: _Number, atr: _Number) -> _Number:
        """Return how far the stop loss is from `entry`, in quote currency; the take profit is `reward` times as far."""
        return self.stop * atr if self.distance == "atr" else self.stop / 100 * entry


ATR_EXITS = Exits()
"""Stop loss at 1.5 average true ranges, take profit 1.8 times as far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRule:
    """What a label says of the candles after its own.

    Attributes:
        kind: `horizon` looks at the log return over the next `horizon` candles; `triple-barrier` at which exit is met first.
        horizon: in candles; a trade that has met no exit by then has expired.
        exits: of `triple-barrier`.

    """

    kind: Literal["horizon", "triple-barrier"]
    horizon: int
    exits: Exits = ATR_EXITS

    def __str__(self) -> str:
        if self.kind == "horizon":
            return f"the move over the next {self.horizon} candles"
        unit = "average true ranges" if self.exits.distance == "atr" else "%"
        return (
            f"whether a long (UP) or a short trade (DOWN) wins within {self.horizon} candles: "
            f"stop loss at {self.exits.stop:g} {unit}, take profit {self.exits.reward:g} times as far"
        )


def label_moves(candles: Candles, rule: LabelRule, *, max_gap_minutes: int = 0) -> tuple[Floats, Ints]:
    """Return what the price did after each candle, and when that is known. `classify` makes labels of it.

    Returns:
        For `horizon`, the log return ln(c[t + horizon] / c[t]). For `triple-barrier` 1 where a long trade wins, −1 where a short
        one does, 0 where neither. Shape `(n,)`; NaN for the last `horizon` candles of a segment.
        The close time of the candle that decides, in milliseconds of UTC, shape `(n,)`; 0 where there is no label.

    """
    moves, known = np.full(len(candles), np.nan), np.zeros(len(candles), np.int64)
    atr = np.full(len(candles), np.nan)
    if rule.kind == "triple-barrier" and rule.exits.distance == "atr":
        found = compute_features(candles, average_true_range(), max_gap_minutes=max_gap_minutes)
        atr[found.rows] = found.values[:, 0]
    for segment in candles.segments(max_gap_minutes=max_gap_minutes):
        rows = segment.stop - segment.start - rule.horizon
        if rows < 1:
            continue
        labelled = slice(segment.start, segment.start + rows)
        if rule.kind == "horizon":
            after = np.full(rows, rule.horizon)
            moves[labelled] = np.log(candles.close[segment][rule.horizon :] / candles.close[labelled])
        else:
            moves[labelled], after = first_exits(candles[segment], atr[labelled], rule)
        known[labelled] = candles.time[np.arange(segment.start, segment.start + rows) + after] + MINUTE
    known[np.isnan(moves)] = 0
    return moves, known


def of_stand_ins(candles: Candles, known: Ints) -> NDArray[np.bool_]:
    """Return which candles are stand-ins for missing minutes, or have a label that looks at one; `known` as of `label_moves`."""
    if candles.filled is None:
        return np.zeros(len(candles), bool)
    until = np.concatenate([[0], np.cumsum(candles.filled)])
    last = np.searchsorted(candles.time, known - MINUTE, side="right")
    marked: NDArray[np.bool_] = until[np.maximum(last, np.arange(1, len(candles) + 1))] > until[:-1]
    return marked


def first_exits(segment: Candles, atr: Floats, rule: LabelRule) -> tuple[Floats, NDArray[np.intp]]:
    """Follow a long and a short trade from the close of each candle until their exits, by the definition of `triple-barrier`.

    A trade enters at the close of candle t. It wins when a later candle, up to `horizon` of them, reaches its take profit and
    neither that candle nor one before has reached its stop loss: within one candle nobody knows what came first, so the worse
    counts. Both cannot win, since the way to one take profit leads over the other trade's stop loss. (The triple barrier of
    López de Prado, Advances in Financial Machine Learning, 2018, section 3.3, for both sides at once, with the distances of our
    orders.)

    Args:
        segment: candles without a gap.
        atr: average true range of the first `len(segment) - horizon` candles; NaN where there is none, and so no label.
        rule: with the exits.

    Returns:
        1 where the long trade wins, −1 where the short one does, 0 where neither; NaN without a distance. Shape as `atr`.
        After how many candles both trades are over, 1 to `horizon`.

    """
    horizon = rule.horizon
    entry = segment.close[: len(atr)]
    stop = rule.exits.stop_distance(entry, atr)
    take = rule.exits.reward * stop
    highs, falls = _Ahead(segment.high, horizon), _Ahead(-segment.low, horizon)
    long_take, long_stop = highs.first_at_least(entry + take), falls.first_at_least(-(entry - stop))
    short_take, short_stop = falls.first_at_least(-(entry - take)), highs.first_at_least(entry + stop)
    moves = (long_take < long_stop).astype(np.float64) - (short_take < short_stop)
    moves[np.isnan(stop)] = np.nan
    after = np.maximum(np.minimum(long_take, long_stop), np.minimum(short_take, short_stop))
    return moves, np.minimum(after, horizon)


class _Ahead:
    """Finds the first of the next `horizon` rows that reaches a level, for every row at once, in log2(horizon) steps.

    Args:
        x: a series, shape `(n,)`.
        horizon: rows to look ahead.

    """

    def __init__(self, x: Floats, horizon: int) -> None:
        self._horizon = horizon
        self._highest = [x]  # of 1, 2, 4, … rows from each row on
        while 2 ** len(self._highest) <= horizon:
            half, step = self._highest[-1], 2 ** (len(self._highest) - 1)
            self._highest.append(np.maximum(half[:-step], half[step:]))

    def first_at_least(self, level: Floats) -> NDArray[np.intp]:
        """Return for each row t the least k in 1 … horizon with x[t + k] >= level[t], or horizon + 1; NaN is never reached."""
        rows = np.arange(len(level))
        passed = np.zeros(len(level), np.intp)
        for bit in reversed(range(len(self._highest))):
            highest, size = self._highest[bit], 2**bit
            ahead = highest[np.minimum(rows + 1 + passed, len(highest) - 1)]
            passed += size * ((passed + size <= self._horizon) & ~(ahead >= level))
        return passed + 1


def fit_theta(moves: Floats, rule: LabelRule, *, neutral_share: float) -> float:
    """Return the θ within which `neutral_share` of `moves` lie; pass training rows only. `triple-barrier` has none: 0.

    >>> fit_theta(np.array([-0.04, -0.01, 0.02, 0.03, 0.05]), LabelRule(kind="horizon", horizon=15), neutral_share=0.25)
    0.02
    """
    return float(np.quantile(np.abs(moves), neutral_share)) if rule.kind == "horizon" else 0.0


def classify(moves: Floats, theta: float) -> Ints:
    """Return the label of each move: UP above θ, DOWN below −θ, NEUTRAL between; shape `(n,)`.

    >>> classify(np.array([-0.03, 0.02, 0.05]), 0.02).tolist()
    [0, 1, 2]
    """
    return np.where(moves > theta, UP, np.where(moves < -theta, DOWN, NEUTRAL)).astype(np.int64)


def average_uniqueness(time: Ints, known: Ints) -> Floats:
    """Return how much of each label is its own: the mean, over the candles it looks at, of 1 / labels that look at that candle.

    The sum over labels is the effective number of independent rows: labels over a horizon of H candles overlap H-fold, so n of
    them are worth about n / H. (López de Prado 2018, sections 4.2 to 4.4.)

    Args:
        time: open time of each label's candle, in milliseconds of UTC, increasing, shape `(n,)`.
        known: when each label is known, in milliseconds of UTC, at least one minute after its candle closed.

    Returns:
        Above 0, at most 1, shape `(n,)`.

    """
    if not len(time):
        return np.empty(0)
    # Between neighbouring edges the number of labels that look at a candle does not change.
    edges, place = np.unique(np.concatenate([time + MINUTE, known]), return_inverse=True)
    first, last = place[: len(time)], place[len(time) :]
    labels = np.cumsum(np.bincount(first, minlength=len(edges)) - np.bincount(last, minlength=len(edges)))[:-1]
    share = np.divide(np.diff(edges), labels, out=np.zeros(len(labels)), where=labels > 0)
    shares = np.concatenate([[0.0], np.cumsum(share)])
    unique: Floats = (shares[last] - shares[first]) / (known - time - MINUTE)
    return unique


def label_digest(time: Ints, y: Ints) -> str:
    """Return the SHA-256 of labels and of the candles they belong to: the same candles and rule give the same digest."""
    digest = hashlib.sha256()
    for column in (time, y):
        digest.update(column.astype("<i8").tobytes())
    return digest.hexdigest()
