"""What the same recipe gets when it is trained in ways that it must not be: what each leak would fake here."""

import math
from collections.abc import Callable

import numpy as np

from crpbot.dataset.splits import split_by_rows
from crpbot.errors import DatasetError
from crpbot.model.fitting import Dated
from crpbot.quality.audit.check import Check
from crpbot.quality.audit.pipeline import Part, Pipeline, joined, part_of, predicted_by
from crpbot.quality.audit.worth import error_words, over_majority
from crpbot.quality.metrics import Ints, percent

ROWS = 40_000
"""Newest rows that the recipe is trained on again: enough to see an illusion, few enough for a minute."""
_TRAIN, _CALIBRATION, _EMBARGO = 0.70, 0.15, 200
_FAR, _MORE = 3.0, 0.01
"""Standard errors, and share of the rows, from which on a difference between two trainings is no accident."""

_ILLUSION, _PERMUTATION = "random-split-illusion", "label-permutation"

Told = Callable[[str], None]


class _TooFewError(Exception):
    """A recipe needs more rows than there are to train it on again, as an ensemble of many folds does."""


def refit_checks(pipeline: Pipeline, told: Told) -> tuple[Check, ...]:
    """Train the recipe three times on the newest rows of training and calibration; the test block is left alone.

    By time, as it should be; on a shuffled split of the same rows; and by time on labels of another time.
    """
    names = _ILLUSION, _PERMUTATION
    if pipeline.fit is None:
        return tuple(Check(name=name, status="unknown", words="nobody knows how to train it again") for name in names)
    symbol, rows = _newest(pipeline)
    if rows is None:
        return tuple(Check(name=name, status="unknown", words="its training rows are not known, or too few") for name in names)
    try:
        return _refitted(pipeline, symbol, rows, told)
    except _TooFewError as error:
        return tuple(Check(name=name, status="unknown", words=str(error)) for name in names)


def _refitted(pipeline: Pipeline, symbol: str, rows: Part, told: Told) -> tuple[Check, ...]:
    split = split_by_rows(rows.time, rows.known, train=_TRAIN, calibration=_CALIBRATION, embargo=_EMBARGO)
    train, calibration, test = (part_of(rows, block) for block in (split.train, split.calibration, split.test))
    told("training it again by time")
    honest, above_honest, _ = over_majority(test, _fitted(pipeline, train, calibration, test))

    rng = np.random.default_rng(0)
    order = rng.permutation(len(rows))
    cut = np.cumsum([len(train), len(calibration)])
    parts = (order[: cut[0]], order[cut[0] : cut[1]], order[-len(test) :])
    first, second, third = (part_of(rows, np.sort(part)) for part in parts)
    told("training it again on a shuffled split")
    shuffled, above_shuffled, _ = over_majority(third, _fitted(pipeline, first, second, third))
    fake = above_shuffled.value - above_honest.value

    told("training it again on labels of another time")
    blind, above, majority = over_majority(test, _fitted(pipeline, _turned(train), _turned(calibration), test))
    learns = above.errors > _FAR
    return (
        Check(
            name=_ILLUSION,
            status="told",
            value=fake,
            words=(
                f"on {len(rows):,} rows of {symbol} the same recipe is right {percent(honest.value)} by time, "
                f"{100 * above_honest.value:+.1f} points over the commonest class, and {percent(shuffled.value)} on a shuffled "
                f"split, {100 * above_shuffled.value:+.1f} points: that leak would fake {100 * fake:+.1f} points, give or take "
                f"{100 * math.hypot(above_honest.error, above_shuffled.error):.1f}"
            ),
        ),
        Check(
            name=_PERMUTATION,
            status="failed" if learns else "passed",
            leak="learns-noise" if learns else None,
            value=above.errors,
            words=(
                f"trained on labels of another time it is right {percent(blind.value)}, always the commonest class "
                f"{percent(majority)} ({error_words(above)})"
            ),
        ),
    )


def retrained_check(pipeline: Pipeline, told: Told) -> Check:
    """Train the recipe again on all the rows that the model names: it may not do far worse on the test than the model itself."""
    name = "trained-again"
    if pipeline.fit is None or pipeline.train is None:
        return Check(name=name, status="unknown", words="nobody knows how to train it again, or on which rows")
    told("training it again on all of its rows")
    calibration = joined([table.calibration for table in pipeline.tables.values()])
    try:
        again = _fitted(pipeline, pipeline.train, calibration if len(calibration) else pipeline.train, pipeline.test)
    except _TooFewError as error:
        return Check(name=name, status="unknown", words=str(error))
    test = pipeline.test
    more = test.mean((pipeline.predicted == test.y).astype(float) - (again == test.y))
    words = (
        f"trained again on the rows that it names it is right {percent(float((again == test.y).mean()))} on the test; "
        f"the model is {100 * more.value:+.1f} points from that ({error_words(more)})"
    )
    if more.errors > _FAR and more.value > _MORE:
        return Check(name=name, status="failed", leak="knows-more-than-its-rows", value=more.value, words=words)
    return Check(name=name, status="passed", value=more.value, words=words)


def _newest(pipeline: Pipeline) -> tuple[str, Part | None]:
    """Return the newest rows of training and calibration of the symbol that has most."""
    best, found = "", None
    for symbol, table in pipeline.tables.items():
        if table.train is None:
            continue
        known = np.union1d(table.train.time, table.calibration.time)
        known = known[~np.isin(known, table.test.time)][-ROWS:]
        part = part_of(table.every, np.searchsorted(table.every.time, known))
        if found is None or len(part) > len(found):
            best, found = symbol, part
    if found is not None:
        try:
            split_by_rows(found.time, found.known, train=_TRAIN, calibration=_CALIBRATION, embargo=_EMBARGO)
        except DatasetError:
            return best, None
    return best, found


def _turned(part: Part) -> Part:
    """Give each row the label of another time: half of the block away, so that neighbours keep what they have in common."""
    return Part(part.x, np.roll(part.y, len(part) // 2), part.time, part.known)


def _fitted(pipeline: Pipeline, train: Part, calibration: Part, test: Part) -> Ints:
    assert pipeline.fit is not None
    try:
        predict = pipeline.fit(*(Dated(part.x, part.y, part.time, part.known) for part in (train, calibration)))
    except DatasetError as error:
        raise _TooFewError(f"it cannot be trained on so few rows: {error}") from None
    classes: Ints = predicted_by(predict, test.x).argmax(axis=1)
    return classes
