"""What a result is worth beside what chance, one feature and made-up noise would give."""

import math

import numpy as np

from crpbot.dataset.baselines import best_one_feature_rule
from crpbot.dataset.labels import CLASSES, NEUTRAL, average_uniqueness
from crpbot.market.synthetic import level_noise_best_accuracy
from crpbot.quality.audit.check import Check
from crpbot.quality.audit.pipeline import Part, Pipeline
from crpbot.quality.metrics import Ints, Mean, percent, shares

MOST_RULE_ROWS = 200_000
NOISE = 0.3
"""Variance ratio below which candles are a level plus noise: a walk has 1, a level plus noise 1 / horizon."""
BETTER = 2.0
"""Paired standard errors from which on a model knows more than one feature."""
CHANCE = 0.05
"""Chance at which luck counts as ruled out, over all trials."""


def over_majority(test: Part, predicted: Ints) -> tuple[Mean, Mean, float]:
    """Return the accuracy, what it is above the commonest class in hindsight, and that class's share, with block errors."""
    right, share = (predicted == test.y).astype(float), shares(test.y)
    return test.mean(right), test.mean(right - (test.y == share.argmax())), float(share.max())


def deflated(errors: float, trials: int, *, freedom: int | None = None) -> tuple[float, float]:
    """Return the chance that the best of so many trials without any skill gets so far, and how many trials it would survive.

    A trial without skill gets `errors` standard errors or more with the chance p = 1 − Φ(errors); the best of N independent ones
    with 1 − (1 − p)^N (Šidák, Journal of the American Statistical Association 62, 1967; why trials must be counted: Bailey and
    López de Prado, "The Deflated Sharpe Ratio", Journal of Portfolio Management 40, 2014). It survives as many trials as keep
    that chance below 5 %.

    Args:
        errors: standard errors above what chance alone gives; NaN proves nothing.
        trials: that were looked at.
        freedom: degrees of the standard error, where few values tell it: Student's distribution then takes the place of the
            normal one. None for an error that is well known.

    >>> chance, most = deflated(3.0, 10)
    >>> round(chance, 4), round(most)
    (0.0134, 38)
    """
    if not math.isfinite(errors) or freedom == 0:
        return (0.0, math.inf) if errors > 0 and freedom != 0 else (1.0, 0.0)
    alone = 0.5 * math.erfc(errors / math.sqrt(2)) if freedom is None else _student(errors, freedom)
    if alone >= 1:
        return 1.0, 0.0
    return -math.expm1(trials * math.log1p(-alone)), math.log1p(-CHANCE) / math.log1p(-alone) if alone > 0 else math.inf


def _student(errors: float, freedom: int) -> float:
    """Return the chance of Student's distribution above `errors`, exact (Abramowitz & Stegun, 1964, 26.7.3 and 26.7.4)."""
    angle, odd = math.atan(errors / math.sqrt(freedom)), freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for i in range(1 + odd, freedom, 2):
        total += term
        term *= i / (i + 1) * math.cos(angle) ** 2
    between = (angle + math.sin(angle) * total) * 2 / math.pi if odd else math.sin(angle) * total
    return (1 - between) / 2


def luck_check(over: Mean, trials: int, *, counted_by: str) -> Check:
    """Ask whether the best of so many trials without skill would get so far; `counted_by` says who knows of them."""
    if math.isnan(over.error):
        return Check(name="luck", status="unknown", words="the test rows are too few to say how well anything is known")
    chance, _ = deflated(over.errors, trials)
    return Check(
        name="luck",
        status="passed" if chance < CHANCE else "failed",
        value=chance,
        words=(
            f"{100 * over.value:+.1f} points over the commonest class are {error_words(over)}; {luck_words(over, trials)} (tries "
            f"counted by {counted_by})"
        ),
    )


def luck_words(over: Mean, trials: int) -> str:
    """Return how often chance alone gets so far, and how many tries a result survives."""
    chance, most = deflated(over.errors, trials)
    survives = (
        "any number of tries" if most > 1e9 else f"up to {float(f'{most:.2g}'):,.0f} tries" if most >= 1 else "not even one try"
    )
    rare = "below 0.01 %" if chance < 1e-4 else f"of {100 * chance:.{0 if chance > 0.1 else 2}{'f' if chance > 0.1 else 'g'}} %"
    return (
        f"the best of {trials:,} {'try' if trials == 1 else 'tries'} without skill gets there with a chance {rare}; "
        f"it survives {survives}"
    )


def shift_check(test: Part, predicted: Ints) -> Check:
    """Compare with every other assignment of the same predictions to the same labels: both as they are, shifted in time.

    Shifts keep what neighbours have in common, so they are the honest permutations of rows that overlap. Those of less than a day
    either way are left out. All are computed at once, as correlations (fast Fourier transform).
    """
    n_rows = len(test)
    right = np.zeros(n_rows)
    for label in range(len(CLASSES)):
        said, was = (predicted == label).astype(float), (test.y == label).astype(float)
        right += np.fft.irfft(np.fft.rfft(was) * np.conj(np.fft.rfft(said)), n_rows)
    near = min(1_440, n_rows // 4)
    others = np.rint(right[near : n_rows - near])
    chance = (1 + float((others >= round(float(right[0]))).sum())) / (1 + len(others))
    return Check(
        name="label-shift",
        status="told",
        value=chance,
        words=(
            f"the same predictions against the labels of other times are right {percent(float(others.mean()) / n_rows)}, at most "
            f"{percent(float(others.max()) / n_rows)}; of {len(others):,} shifts {100 * chance:.2g} % do as well"
        ),
    )


def one_feature_check(pipeline: Pipeline, predicted: Ints) -> Check:
    """Tell what the best rule of one feature gets, chosen on training rows."""
    train, test = pipeline.train, pipeline.test
    if train is None:
        return Check(name="one-feature-rule", status="unknown", words="its training rows are not known, so no rule can be chosen")
    step = max(1, len(train) // MOST_RULE_ROWS)
    rule = best_one_feature_rule(train.x[::step], train.y[::step], pipeline.names)
    theirs = rule.predict(test.x, pipeline.names) == test.y
    ahead = test.mean((predicted == test.y).astype(float) - theirs)
    better = ahead.errors >= BETTER
    return Check(
        name="one-feature-rule",
        status="told",
        value=float(theirs.mean()),
        words=(
            f"one feature alone ({rule}) is right {percent(float(theirs.mean()))}; the model is {100 * ahead.value:+.1f} points "
            f"from that, {error_words(ahead)}{'' if better else ': nothing shows that it knows more'}"
        ),
    )


def noise_check(pipeline: Pipeline) -> Check:
    """Tell what a level plus noise would give, and ask whether the candles are one.

    The variance ratio is that of moves over the horizon to moves of one candle, over the horizon: 1 for a walk, less where moves
    undo each other (Lo & MacKinlay, "Stock Market Prices Do Not Follow Random Walks", Review of Financial Studies 1, 1988).
    """
    best = level_noise_best_accuracy(float((pipeline.test.y == NEUTRAL).mean()))
    ratios = {symbol: _variance_ratio(pipeline, symbol) for symbol in pipeline.tables}
    symbol, ratio = min(ratios.items(), key=lambda pair: pair[1])
    made_up = ratio < NOISE and pipeline.source != "synthetic"
    return Check(
        name="level-plus-noise",
        status="failed" if made_up else "told",
        value=best,
        words=(
            f"a level plus noise, as made-up candles often are, would let anybody be right {percent(best)}; "
            f"{symbol} has a variance ratio of {ratio:.2f} (a walk 1, a level plus noise, or nothing but a spread, "
            f"{1 / pipeline.rule.horizon:.2f})"
        ),
    )


def _variance_ratio(pipeline: Pipeline, symbol: str) -> float:
    candles, horizon = pipeline.candles[symbol], pipeline.rule.horizon
    one, many = [], []
    for segment in candles.segments(max_gap_minutes=pipeline.max_gap_minutes):
        path = np.log(candles.close[segment])
        one.append(np.diff(path))
        many.append(path[horizon:] - path[:-horizon])
    short, long = (float(np.concatenate(moves).var()) for moves in (one, many))
    return long / (horizon * short) if short > 0 and horizon > 1 else 1.0


def sample_check(test: Part, accuracy: Mean) -> Check:
    """Tell how many independent outcomes the test rows carry, and what that does to the error."""
    effective = float(average_uniqueness(test.time[test.order], test.known[test.order]).sum())
    naive = math.sqrt(accuracy.value * (1 - accuracy.value) / len(test))
    known = f"{100 * accuracy.error:.2f} points" if math.isfinite(accuracy.error) else "unknown"
    return Check(
        name="effective-sample",
        status="told",
        value=effective,
        words=(
            f"{len(test):,} test rows carry about {effective:,.0f} independent outcomes; the standard error of the accuracy is "
            f"{known}, not the {100 * naive:.2f} points of rows that do not overlap"
        ),
    )


def error_words(mean: Mean) -> str:
    """Return how far a mean is from 0."""
    return "nobody knows how far from chance" if math.isnan(mean.errors) else f"{mean.errors:+.1f} standard errors"


def claim_words(claim: float, accuracy: Mean) -> str:
    """Return how far a claim is above what was measured."""
    far = f", {(claim - accuracy.value) / accuracy.error:.1f} standard errors below" if accuracy.error > 0 else ""
    return f"{percent(claim)} was claimed; measured is {percent(accuracy.value)}{far}"


def refuted(claim: float, accuracy: Mean) -> bool:
    """Return whether a claim is above the 95 % interval of what was measured; where that is unknown, above the measured."""
    return claim > (accuracy.interval[1] if math.isfinite(accuracy.error) else accuracy.value)
