"""Which rows was a scaler fitted on? Mean and scale give it away, to the row."""

from collections.abc import Iterator

import numpy as np

from crpbot.market.candles import utc
from crpbot.quality.audit.check import Check
from crpbot.quality.audit.pipeline import Pipeline
from crpbot.quality.audit.split import UNKNOWN
from crpbot.quality.metrics import Floats, Ints

SAME, NEAR = 1e-4, 2e-3
"""Deviations by which mean and scale of the same rows may differ, and of the training rows by another library's arithmetic."""
_PROBES = 4


def scaler_check(pipeline: Pipeline) -> Check:
    """Find the rows whose mean and scale these are.

    Training rows pass, and so do calibration rows with them. Rows from the first test row on are a leak. Where the statistics are
    those of no stretch of rows that begins with the history, with training, or with the blocks joined, nobody knows.
    """
    if pipeline.scaler is None:
        return Check(name="scaler", status="passed", words="it has no scaler")
    if pipeline.train is None:
        return Check(name="scaler", status="unknown", words=UNKNOWN)
    own, worst = _distance(pipeline.scaler, pipeline.train.x)
    first_test = min(int(table.test.time[0]) for table in pipeline.tables.values() if len(table.test))
    best, last = own, 0
    for x, time in _stretches(pipeline) if own > SAME else ():
        end = _best_end(pipeline.scaler, x)
        far, _ = _distance(pipeline.scaler, x[:end])
        if far < best / 2:
            best, last = far, int(time[:end].max())
    if last >= first_test and best <= SAME:
        words = (
            f"mean and scale are those of rows up to {utc(last)} (off by {best:.1e} deviations), where the test begins at "
            f"{utc(first_test)}; from the training rows they are {own:.1e} off"
        )
        return Check(name="scaler", status="failed", leak="scaler-saw-test-rows", value=own, words=words)
    if best <= SAME or own <= NEAR:
        rows = "the training rows" if own <= NEAR else f"rows up to {utc(last)}, before the test"
        words = f"mean and scale are those of {rows} (off by {min(own, best):.1e} deviations at most)"
        return Check(name="scaler", status="passed", value=own, words=words)
    return Check(
        name="scaler",
        status="unknown",
        value=own,
        words=(
            f"mean and scale are of rows that nobody named: off the training rows by {own:.2g} deviations at the feature "
            f"{pipeline.names[worst]}"
        ),
    )


def _stretches(pipeline: Pipeline) -> Iterator[tuple[Floats, Ints]]:
    """Yield rows in an order that a scaler may have been fitted on some first part of."""
    tables = list(pipeline.tables.values())
    if len(tables) == 1:
        table = tables[0]
        assert table.train is not None
        yield table.every.x, table.every.time
        start = int(np.searchsorted(table.every.time, table.train.time[0])) if len(table.train) else 0
        yield table.every.x[start:], table.every.time[start:]
    parts = [[part for part in (table.train, table.calibration, table.test) if part is not None] for table in tables]
    for chosen in (slice(0, 3), slice(0, 3, 2), slice(0, 2), slice(2, 3)):
        joined = [part for blocks in parts for part in blocks[chosen]]
        yield np.concatenate([part.x for part in joined]), np.concatenate([part.time for part in joined])
    if len(tables) > 1:
        yield np.concatenate([table.every.x for table in tables]), np.concatenate([table.every.time for table in tables])


def _best_end(scaler: tuple[Floats, Floats], x: Floats) -> int:
    """Return how many of the first rows have a mean nearest to the scaler's, by the features that wander most."""
    scale = np.where(scaler[1] > 0, scaler[1], 1.0)
    half = len(x) // 2
    wander = np.abs(x[:half].mean(axis=0) - x[half:].mean(axis=0)) / scale if half else np.zeros(x.shape[1])
    probes = np.argsort(-np.nan_to_num(wander))[:_PROBES]
    off = np.zeros(len(x))
    for probe in probes:
        running = np.cumsum((x[:, probe] - scaler[0][probe]) / scale[probe]) / np.arange(1, len(x) + 1)
        off = np.maximum(off, np.abs(running))
    return int(np.argmin(off)) + 1


def _distance(scaler: tuple[Floats, Floats], x: Floats) -> tuple[float, int]:
    """Return how far mean and scale are off at the worst feature, in deviations and logarithms of the scale, and which it is."""
    if not len(x):
        return np.inf, 0
    mean, scale = x.mean(axis=0), x.std(axis=0)
    varied = scale > 1e-9 * np.maximum(np.abs(mean), 1e-12)
    with np.errstate(all="ignore"):
        off = np.abs(scaler[0] - mean) / scale + np.abs(np.log(scaler[1] / scale))
    off = np.where(varied, np.nan_to_num(off, nan=np.inf), 0.0)
    return float(off.max(initial=0.0)), int(off.argmax()) if len(off) else 0
