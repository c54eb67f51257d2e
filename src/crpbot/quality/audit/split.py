"""Which rows were used for what: do training and test know of each other?"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from crpbot.market.candles import MINUTE, utc
from crpbot.quality.audit.check import Check
from crpbot.quality.audit.pipeline import Pipeline
from crpbot.quality.metrics import Floats, percent

MIXED = 0.01
"""Share of test rows with training rows close by on both sides from which on a split counts as random."""
COPIED = 0.001
"""Share of test rows that are copies of training rows from which on they count."""
UNKNOWN = "nobody knows which rows it was trained on: bring them (crpbot audit --rows)"


def split_check(pipeline: Pipeline) -> Check:
    """Ask whether every training row is earlier than every test row of its symbol."""
    if pipeline.train is None:
        return Check(name="split-by-time", status="unknown", words=UNKNOWN)
    mixed = later = n_test = 0
    for table in pipeline.tables.values():
        train, test = table.train, table.test
        assert train is not None
        n_test += len(test)
        place = np.searchsorted(train.time, test.time)
        before = place > 0
        after = place < len(train)
        later += int(after.sum())
        reach = test.known - test.time
        close_before = before & (test.time - train.time[np.maximum(place - 1, 0)] <= reach)
        close_after = after & (train.time[np.minimum(place, len(train) - 1)] - test.time <= reach)
        mixed += int((close_before & close_after).sum())
    if mixed > MIXED * n_test:
        return Check(
            name="split-by-time",
            status="failed",
            leak="random-split",
            value=mixed / n_test,
            words=f"{percent(mixed / n_test)} of the test rows have training rows within their label's reach on both sides",
        )
    if later:
        return Check(
            name="split-by-time",
            status="failed",
            leak="trained-on-the-future",
            value=later / n_test,
            words=f"{percent(later / n_test)} of the test rows are earlier than some training row",
        )
    return Check(name="split-by-time", status="passed", value=0.0, words="every training row is earlier than every test row")


def purge_check(pipeline: Pipeline) -> Check:
    """Prove for each boundary that the last label before it is known before the first row after it."""
    if pipeline.train is None:
        return Check(name="purge", status="unknown", words=UNKNOWN)
    told: list[str] = []
    least, broken = np.inf, 0
    for symbol, table in pipeline.tables.items():
        for (name, part), (next_name, next_part) in pairwise(table.blocks):
            last, first = int(part.known.max()), int(next_part.time.min())
            minutes = (first - last) / MINUTE
            least = min(least, minutes)
            broken += int((part.known > first).sum())
            told.append(f"{symbol}: the last {name} label is known at {utc(last)}, the first {next_name} row is of {utc(first)}")
    if broken:
        return Check(
            name="purge",
            status="failed",
            leak="no-purge",
            value=float(least),
            words=f"{broken:,} labels are known only after the next block has begun; {'; '.join(told[:4])}",
        )
    return Check(name="purge", status="passed", value=float(least), words="; ".join(told[:4]))


def timestamps_check(pipeline: Pipeline) -> Check:
    """Ask whether one symbol was trained on minutes in which another was tested."""
    name = "timestamps-across-symbols"
    if pipeline.train is None:
        return Check(name=name, status="unknown", words=UNKNOWN)
    if len(pipeline.tables) == 1:
        return Check(name=name, status="passed", value=0.0, words="one symbol: it shares no minute with another")
    worst, n_shared = "", 0
    for trained, table in pipeline.tables.items():
        assert table.train is not None
        for tested, other in pipeline.tables.items():
            shared = 0 if trained == tested else len(np.intersect1d(table.train.time, other.test.time))
            if shared > n_shared:
                worst, n_shared = f"{shared:,} minutes in which {tested} is tested are training rows of {trained}", shared
    if n_shared:
        return Check(name=name, status="failed", leak="shared-timestamps", value=float(n_shared), words=worst)
    return Check(name=name, status="passed", value=0.0, words="no symbol was trained on minutes in which another is tested")


def duplicates_check(pipeline: Pipeline) -> Check:
    """Ask whether test rows are copies of training rows."""
    if pipeline.train is None:
        return Check(name="duplicate-rows", status="unknown", words=UNKNOWN)
    keys = np.unique(row_keys(pipeline.train.x))
    share = float(np.isin(row_keys(pipeline.test.x), keys).mean())
    words = f"{percent(share)} of the test rows are copies of training rows"
    if share > COPIED:
        return Check(name="duplicate-rows", status="failed", leak="duplicate-rows", value=share, words=words)
    return Check(name="duplicate-rows", status="passed", value=share, words=words)


def scaler_check(pipeline: Pipeline) -> Check:
    """Compare mean and scale with those of the training rows, and of rows that they must not have seen."""
    if pipeline.scaler is None:
        return Check(name="scaler", status="passed", words="it has no scaler")
    if pipeline.train is None:
        return Check(name="scaler", status="unknown", words=UNKNOWN)
    everything = [part.x for table in pipeline.tables.values() for _, part in table.blocks]
    known = [x for table in pipeline.tables.values() for name, part in table.blocks if name != "test" for x in (part.x,)]
    far = {
        "training rows": _distance(pipeline.scaler, [pipeline.train.x]),
        "training and calibration rows": _distance(pipeline.scaler, known),
        "training, calibration and test rows": _distance(pipeline.scaler, everything),
        "training and test rows": _distance(pipeline.scaler, [pipeline.train.x, pipeline.test.x]),
        "test rows": _distance(pipeline.scaler, [pipeline.test.x]),
        "all rows of the candles": _distance(pipeline.scaler, [table.every.x for table in pipeline.tables.values()]),
    }
    own, nearest = far["training rows"], min(far, key=lambda name: far[name])
    saw_test = "test" in nearest or nearest.startswith("all")
    if saw_test and own > 10 * far[nearest] and own > _SAME:
        words = (
            f"mean and scale are those of {nearest} (off by {far[nearest]:.1e} deviations), not of the training rows ({own:.1e})"
        )
        return Check(name="scaler", status="failed", leak="scaler-saw-test-rows", value=own, words=words)
    if own > _OTHER and far[nearest] > _OTHER:
        return Check(
            name="scaler",
            status="failed",
            leak="foreign-normalizer",
            value=own,
            words=f"mean and scale are of other rows: {own:.2g} deviations from the training rows at the worst feature",
        )
    words = f"mean and scale are those of the training rows (off by {own:.1e} deviations at most)"
    return Check(name="scaler", status="passed", value=own, words=words)


_SAME = 1e-6
_OTHER = 2.3
"""Distance from which on a scaler is of another market: a scale ten times off."""


def _distance(scaler: tuple[Floats, Floats], parts: list[Floats]) -> float:
    """Return how far mean and scale are off at the worst feature, in deviations and in logarithms of the scale."""
    n_rows = sum(len(x) for x in parts)
    mean = np.sum([x.sum(axis=0) for x in parts], axis=0) / n_rows
    scale = np.sqrt(np.sum([((x - mean) ** 2).sum(axis=0) for x in parts], axis=0) / n_rows)
    varied = scale > 0
    with np.errstate(all="ignore"):
        off = np.abs(scaler[0] - mean) / scale + np.abs(np.log(scaler[1] / scale))
    return float(np.nan_to_num(off[varied], nan=np.inf).max(initial=0.0))


def row_keys(x: Floats) -> NDArray[np.uint64]:
    """Return a number for each row such that equal rows have equal numbers, and others hardly ever."""
    odd = [np.uint64(2 * int(number) + 1) for number in np.random.default_rng(0).integers(1, 2**62, size=(x.shape[1],))]
    keys = np.zeros(len(x), np.uint64)
    for number, column in enumerate(x.T):
        bits = np.ascontiguousarray(column).view(np.uint64) * odd[number]
        keys = (keys ^ (bits >> np.uint64(31)) ^ bits) * np.uint64(0x9E3779B97F4A7C15)
    return keys
