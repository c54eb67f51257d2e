"""From candles to probabilities: does anything change when the future does?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.baselines import best_one_feature_rule
from crpbot.market.candles import MINUTE, Candles, utc
from crpbot.market.files import COLUMNS
from crpbot.quality.audit.check import Check
from crpbot.quality.audit.pipeline import Part, Pipeline, part_of, predicted_by
from crpbot.quality.metrics import Floats, Ints, percent, shares

CUTS = 16
"""Moments in each symbol after which the future is overwritten."""
BEFORE, AFTER = 2_600, 400
"""Candles around such a moment: what the longest memory of a feature needs, and a future to overwrite."""
TELLS = 0.10
"""A feature holds the answer when alone it is so much oftener right than always saying the commonest class."""
MOST_ROWS = 50_000
_SLACK = 1e-9


@dataclass(frozen=True, eq=False)
class _Moment:
    """What another future did at one moment.

    Attributes:
        time: of the moment.
        changed: which features of candles up to it changed.
        still: which features did not change even when all candles did.
        moved: the largest change of a probability.
        steady: whether the same candles get the same probabilities twice.

    """

    time: int
    changed: NDArray[np.bool_]
    still: NDArray[np.bool_]
    moved: float
    steady: bool


def future_overwrite(pipeline: Pipeline) -> Check:
    """Overwrite what comes after a moment with other candles: what is said of the candles before must stay, to nine digits.

    The whole path runs again, features and prediction, on a stretch around each of sixteen moments in every symbol; the stretch
    is as long as the features need. Where a feature changes, its name is given; where it alone foretells labels, it holds the
    answer. A feature that does not change when all candles do, and is no clock, comes from somewhere that nobody can see.
    """
    name, rng = "future-overwrite", np.random.default_rng(0)
    moments = [
        moment
        for symbol, table in pipeline.tables.items()
        for cut in _cuts(pipeline.candles[symbol], table.every.time)
        if (moment := _overwrite(pipeline, pipeline.candles[symbol], cut, rng)) is not None
    ]
    if not moments:
        words = "no candle has features before which the future could be overwritten"
        return Check(name=name, status="unknown", words=words)
    if not all(moment.steady for moment in moments):
        words = "the same candles get other probabilities each time: what another future changes cannot be told"
        return Check(name=name, status="unknown", words=words)
    changed = np.any([moment.changed for moment in moments], axis=0)
    unseen = np.all([moment.still for moment in moments], axis=0)
    unseen[unseen] = ~_clocks(pipeline, unseen)
    told = _tells(pipeline, changed | unseen)
    if told is not None:
        feature, accuracy = told
        words = f"the feature {feature} does not come from the past of its candle, and alone it is right {percent(accuracy)}"
        return Check(name=name, status="failed", leak="label-in-feature", value=accuracy, words=words)
    worst = max(moments, key=lambda moment: moment.moved)
    if changed.any() or worst.moved > _SLACK:
        words = (
            f"with another future after {utc(worst.time)} a probability changes by up to {worst.moved:.2g}; "
            f"features that change: {_some(pipeline, changed)}"
        )
        return Check(name=name, status="failed", leak="look-ahead", value=worst.moved, words=words)
    if unseen.any():
        words = f"features that stay when all candles change: {_some(pipeline, unseen)}; nobody can see what they are made from"
        return Check(name=name, status="unknown", value=float(unseen.sum()), words=words)
    words = f"after {len(moments)} moments the future was overwritten; no feature and no probability before changed"
    return Check(name=name, status="passed", value=worst.moved, words=words)


def _overwrite(pipeline: Pipeline, candles: Candles, cut: int, rng: np.random.Generator) -> _Moment | None:
    """Run the path with another future after candle `cut`; None where no candle up to it has features."""
    before, now = BEFORE, int(candles.time[cut])
    while True:  # a feature may remember longer than we think
        start = max(0, cut - before)
        near = candles[start : cut + AFTER]
        x, p = _until(pipeline, near, now)
        if len(x) or start == 0:
            break
        before *= 4
    if not len(x):
        return None
    _, again = _until(pipeline, near, now)
    x_other, p_other = _until(pipeline, overwritten(near, cut - start, rng), now)
    x_new, _ = _until(pipeline, overwritten(near, -1, rng), now)
    nothing = np.zeros(len(pipeline.names), bool)
    same_rows = x.shape == x_other.shape  # else rows come or go with the future
    limit = _SLACK * np.maximum(np.abs(x), x.std(axis=0))
    return _Moment(
        time=now,
        changed=(np.abs(x - x_other) > limit).any(axis=0) if same_rows else nothing,
        still=(x_new == x).all(axis=0) if x_new.shape == x.shape else nothing,
        moved=float(np.abs(p - p_other).max(initial=0.0)) if same_rows else 1.0,
        steady=np.array_equal(p, again),
    )


def _some(pipeline: Pipeline, chosen: NDArray[np.bool_]) -> str:
    return ", ".join(np.array(pipeline.names)[chosen][:5]) or "none"


def _clocks(pipeline: Pipeline, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of the chosen features are constant within each symbol, or tell nothing but the time of the day or week."""
    clocks = np.ones(int(chosen.sum()), bool)
    for table in pipeline.tables.values() if chosen.any() else ():
        x, minute = table.every.x[:, chosen], table.every.time // MINUTE
        found = (x == x[:1]).all(axis=0)
        for period in (1_440, 10_080):
            _, first, number = np.unique(minute % period, return_index=True, return_inverse=True)
            if len(first) <= len(x) / 2:  # else too little repeats
                found |= (x == x[first[number]]).all(axis=0)
        clocks &= found
    return clocks


def overwritten(candles: Candles, last: int, rng: np.random.Generator) -> Candles:
    """Return candles that are the same up to row `last`, and then go another way: wilder, with other volumes; −1 changes all."""
    n_rows = len(candles) - last - 1
    start = candles.close[last] if last >= 0 else 1.7 * candles.close[0]
    close = start * np.exp(np.cumsum(rng.normal(0.0, 0.01, n_rows)))
    opened = np.concatenate([[start], close[:-1]])
    up, down = rng.uniform(1.0, 1.01, (2, n_rows))
    high, low = np.maximum(opened, close) * up, np.minimum(opened, close) / down
    volume = rng.exponential(10.0 * float(candles.volume.mean()) + 1.0, n_rows)
    future = (opened, high, low, close, volume)
    past = (getattr(candles, name)[: last + 1] for name in COLUMNS[1:])
    return Candles(candles.time, *(np.concatenate(pair) for pair in zip(past, future, strict=True)))


def _cuts(candles: Candles, time: Ints) -> list[int]:
    """Return candles that have rows, spread over the history."""
    chosen = time[np.linspace(0, len(time) - 1, CUTS + 2).astype(int)[1:-1]]
    return [int(row) for row in np.searchsorted(candles.time, chosen)]


def _until(pipeline: Pipeline, candles: Candles, now: int) -> tuple[Floats, Floats]:
    """Return features and probabilities of the rows up to `now`; later rows are predicted along with them."""
    time, x = pipeline.features(candles)
    past = time <= now
    return x[past], predicted_by(pipeline.predict, x)[past] if len(x) else np.empty((0, 3))


def _tells(pipeline: Pipeline, suspects: NDArray[np.bool_]) -> tuple[str, float] | None:
    """Return the suspect that alone foretells the labels of test rows best, where it does."""
    if not suspects.any():
        return None
    test: Part = part_of(pipeline.test, slice(None, None, max(1, len(pipeline.test) // MOST_ROWS)))
    names = tuple(np.array(pipeline.names)[suspects].tolist())
    rule = best_one_feature_rule(test.x[:, suspects], test.y, names)
    beyond = rule.training_accuracy - float(shares(test.y).max())
    return (rule.feature, rule.training_accuracy) if beyond > TELLS else None
