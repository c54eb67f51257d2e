"""From candles to probabilities: does anything change when the future does?"""

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.baselines import best_one_feature_rule
from crpbot.market.candles import Candles, utc
from crpbot.quality.audit.check import Check
from crpbot.quality.audit.pipeline import Part, Pipeline, part_of
from crpbot.quality.metrics import Floats, Ints, percent, shares

CUTS = 16
"""Moments in each symbol after which the future is overwritten."""
BEFORE, AFTER = 2_600, 400
"""Candles around such a moment: what the longest memory of a feature needs, and a future to overwrite."""
TELLS = 0.10
"""A feature holds the answer when alone it is so much oftener right than always saying the commonest class."""
MOST_ROWS = 50_000
_SLACK = 1e-9


def future_overwrite(pipeline: Pipeline) -> Check:
    """Overwrite what comes after a moment with other candles: what is said of the candles before must stay, to the last bit.

    The whole path runs twice, features and prediction, on a stretch around each of sixteen moments in every symbol. Where a
    feature changes, its name is given; where it alone foretells labels, it holds the answer. A feature that does not come from
    the candles at all, and foretells labels, holds the answer too.
    """
    rng = np.random.default_rng(0)
    changed, still = np.zeros(len(pipeline.names), bool), np.ones(len(pipeline.names), bool)
    worst, where, moments = 0.0, "", 0
    for symbol, table in pipeline.tables.items():
        candles = pipeline.candles[symbol]
        for cut in _cuts(candles, table.every.time):
            near = candles[max(0, cut - BEFORE) : cut + AFTER]
            place = cut - max(0, cut - BEFORE)
            other = overwritten(near, place, rng)
            now = near.time[place]
            (x, p), (x_other, p_other) = _until(pipeline, near, now), _until(pipeline, other, now)
            moments += 1
            if x.shape != x_other.shape:
                worst, where = 1.0, utc(int(now))
                continue
            moved = np.abs(x - x_other)
            changed |= (moved > _SLACK * np.maximum(np.abs(x), x.std(axis=0))).any(axis=0)
            most = float(np.abs(p - p_other).max(initial=0.0))
            if most > worst:
                worst, where = most, utc(int(now))
            x_new, _ = _until(pipeline, overwritten(near, -1, rng), now)
            still &= (x_new.shape == x.shape) and (x_new == x).all(axis=0)
    return _said(pipeline, changed, still, worst=worst, where=where, moments=moments)


def _said(
    pipeline: Pipeline, changed: NDArray[np.bool_], still: NDArray[np.bool_], *, worst: float, where: str, moments: int
) -> Check:
    told = _tells(pipeline, changed | (still & (pipeline.test.x.std(axis=0) > 0)))
    if told is not None:
        feature, accuracy = told
        return Check(
            name="future-overwrite",
            status="failed",
            leak="label-in-feature",
            value=accuracy,
            words=f"the feature {feature} does not come from the past of its candle, and alone it is right {percent(accuracy)}",
        )
    if changed.any() or worst > _SLACK:
        names = ", ".join(np.array(pipeline.names)[changed][:5]) or "none"
        return Check(
            name="future-overwrite",
            status="failed",
            leak="look-ahead",
            value=worst,
            words=(
                f"with another future after {where or 'a moment'} a probability changes by up to {worst:.2g}; features that "
                f"change: {names}"
            ),
        )
    return Check(
        name="future-overwrite",
        status="passed",
        value=worst,
        words=f"after {moments} moments the future was overwritten; no feature and no probability before changed",
    )


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
    past = (getattr(candles, name)[: last + 1] for name in ("open", "high", "low", "close", "volume"))
    return Candles(candles.time, *(np.concatenate(pair) for pair in zip(past, future, strict=True)))


def _cuts(candles: Candles, time: Ints) -> list[int]:
    """Return candles that have rows, spread over the history."""
    chosen = time[np.linspace(0, len(time) - 1, CUTS + 2).astype(int)[1:-1]]
    return [int(row) for row in np.searchsorted(candles.time, chosen)]


def _until(pipeline: Pipeline, candles: Candles, now: int) -> tuple[Floats, Floats]:
    """Return features and probabilities of the rows up to `now`; later rows are predicted along with them."""
    time, x = pipeline.features(candles)
    past = time <= now
    return x[past], pipeline.predict(x)[past] if len(x) else np.empty((0, 3))


def _tells(pipeline: Pipeline, suspects: NDArray[np.bool_]) -> tuple[str, float] | None:
    """Return the suspect that alone foretells the labels of test rows best, where it does."""
    if not suspects.any():
        return None
    test: Part = part_of(pipeline.test, slice(None, None, max(1, len(pipeline.test) // MOST_ROWS)))
    names = tuple(np.array(pipeline.names)[suspects].tolist())
    rule = best_one_feature_rule(test.x[:, suspects], test.y, names)
    beyond = rule.training_accuracy - float(shares(test.y).max())
    return (rule.feature, rule.training_accuracy) if beyond > TELLS else None
