"""Which rows were used for what: do training and test know of each other?"""

import numpy as np
from numpy.typing import NDArray

from crpbot.market.candles import MINUTE, utc
from crpbot.quality.audit.check import Check
from crpbot.quality.audit.pipeline import Pipeline, Table
from crpbot.quality.metrics import Floats, Ints, percent

MIXED = 0.01
"""Share of test rows with training rows close by on both sides from which on a split counts as random."""
COPIED = 0.001
"""Share of test rows that are copies of training rows from which on they count."""
COMPLETE, MISSING = 0.99, 0.01
"""Share of the labelled rows of its span that a test block must have, and share of named rows that may be missing."""
WINDOW, MOVED = 20, 10
"""Candles whose returns are compared to find copied history, and how many of these must not be 0."""
UNKNOWN = "nobody knows which rows it was trained on: bring them (crpbot audit --rows)"


def split_check(pipeline: Pipeline) -> Check:
    """Ask whether every training row is earlier than every test row of its symbol."""
    name = "split-by-time"
    if not pipeline.told:
        return Check(name=name, status="unknown", words=UNKNOWN)
    mixed = later = n_test = 0
    for table in pipeline.tables.values():
        train, test = table.used["training"], table.used["test"]
        n_test += len(test)
        if not len(train):
            continue
        place = np.searchsorted(train.time, test.time)
        reach = test.known - test.time
        before = (place > 0) & (test.time - train.time[np.maximum(place - 1, 0)] <= reach)
        after = (place < len(train)) & (train.time[np.minimum(place, len(train) - 1)] - test.time <= reach)
        later += int((place < len(train)).sum())
        mixed += int((before & after).sum())
    if mixed > MIXED * n_test:
        words = f"{percent(mixed / n_test)} of the test rows have training rows within their label's reach on both sides"
        return Check(name=name, status="failed", leak="random-split", value=mixed / n_test, words=words)
    if later:
        words = f"{percent(later / n_test)} of the test rows are earlier than some training row"
        return Check(name=name, status="failed", leak="trained-on-the-future", value=later / n_test, words=words)
    return Check(name=name, status="passed", value=0.0, words="every training row is earlier than every test row")


def purge_check(pipeline: Pipeline) -> Check:
    """Prove that every label that the fit has seen was known before the first test row of its symbol."""
    name = "purge"
    if not pipeline.told:
        return Check(name=name, status="unknown", words=UNKNOWN)
    told: list[str] = []
    least, broken, tuned = np.inf, 0, 0
    for symbol, table in pipeline.tables.items():
        first = _first(table)
        for block in ("training", "calibration"):
            used = table.used[block]
            if first is None or not len(used):
                continue
            earlier = used.time < first
            late = used.known[earlier] > first
            broken += int(late.sum())
            tuned += int((~earlier).sum()) if block == "calibration" else 0
            if earlier.any():
                last = int(used.known[earlier].max())
                least = min(least, (first - last) / MINUTE)
                told.append(f"{symbol}: the last {block} label is known at {utc(last)}, the first test row is of {utc(first)}")
    words = "; ".join(told[:4])
    if tuned:
        said = f"{tuned:,} calibration rows lie in the test block or after it"
        return Check(name=name, status="failed", leak="tuned-on-test", value=float(tuned), words=said)
    if broken:
        said = f"{broken:,} labels that the fit has seen are known only after the test has begun; {words}"
        return Check(name=name, status="failed", leak="no-purge", value=float(least), words=said)
    return Check(
        name=name, status="passed", value=float(least) if np.isfinite(least) else None, words=words or "nothing to purge"
    )


def timestamps_check(pipeline: Pipeline) -> Check:
    """Ask whether the fit has seen minutes of one symbol in which, or after which, another was tested."""
    name = "timestamps-across-symbols"
    if not pipeline.told:
        return Check(name=name, status="unknown", words=UNKNOWN)
    if len(pipeline.tables) == 1:
        return Check(name=name, status="passed", value=0.0, words="one symbol: it shares no minute with another")
    worst, words = 0, ""
    for fitted, table in pipeline.tables.items():
        for tested, other in pipeline.tables.items():
            first, seen = _first(other), table.fitted
            late = 0 if fitted == tested or first is None else int((seen.known > first).sum())
            if late > worst and first is not None:
                worst = late
                where = f"{utc(first)}, where the test of {tested} begins"
                words = f"{late:,} rows of {fitted} that the fit has seen know prices after {where}"
    if worst:
        return Check(name=name, status="failed", leak="shared-timestamps", value=float(worst), words=words)
    return Check(name=name, status="passed", value=0.0, words="the fit has seen no minute in which any symbol is tested")


def rows_check(pipeline: Pipeline) -> Check:
    """Ask whether the rows that were named are there, and whether the test block is all of its span: rows may not be chosen."""
    name = "test-block"
    named = missing = span = tested = between = 0
    for table in pipeline.tables.values():
        every, first = table.every.time, _first(table)
        named += sum(len(used) for used in table.used.values())
        missing += sum(int((~np.isin(used.time, every)).sum()) for used in table.used.values())
        if first is None:
            continue
        within = every[(every >= first) & (every <= table.used["test"].time[-1])]
        span += len(within)
        tested += int(np.isin(within, table.used["test"].time).sum())
        if "training" in table.used and len(table.fitted):
            between += int(((every > table.fitted.time.max()) & (every < first)).sum())
    share = tested / span if span else 1.0
    words = f"{percent(share)} of the labelled rows between its first and its last are tested"
    if missing > MISSING * named:
        said = f"{missing:,} of the {named:,} rows that were named are not among the candles: bring the candles that they are of"
        return Check(name=name, status="unknown", value=missing / named, words=said)
    if share < COMPLETE:
        return Check(name=name, status="unknown", value=share, words=f"{words}: nobody knows why the others are not")
    if between > max(2_880, 0.05 * tested):
        said = f"{between:,} labelled rows lie between the fit and the first test row: nobody knows why they are not tested"
        return Check(name=name, status="unknown", value=float(between), words=said)
    return Check(name=name, status="passed", value=share, words=f"{words}; {between:,} rows lie between the fit and the test")


def duplicates_check(pipeline: Pipeline) -> Check:
    """Ask whether test rows are copies of training rows, by their features or by the returns of the last candles."""
    name = "duplicate-rows"
    if pipeline.train is None:
        return Check(name=name, status="unknown", words=UNKNOWN)
    share = float(np.isin(row_keys(pipeline.test.x), np.unique(row_keys(pipeline.train.x))).mean())
    train, test = ([_return_keys(pipeline, symbol, block) for symbol in pipeline.tables] for block in ("training", "test"))
    moved = float(np.isin(np.concatenate(test), np.unique(np.concatenate(train))).sum()) / len(pipeline.test)
    words = (
        f"{percent(share)} of the test rows are copies of training rows, {percent(moved)} have the last {WINDOW} returns of one"
    )
    if max(share, moved) > COPIED:
        return Check(name=name, status="failed", leak="duplicate-rows", value=max(share, moved), words=words)
    return Check(name=name, status="passed", value=max(share, moved), words=words)


def row_keys(x: Floats) -> NDArray[np.uint64]:
    """Return a number for each row such that equal rows have equal numbers, and others hardly ever."""
    odd = [np.uint64(2 * int(number) + 1) for number in np.random.default_rng(0).integers(1, 2**62, size=(x.shape[1],))]
    keys = np.zeros(len(x), np.uint64)
    for number, column in enumerate(x.T):
        bits = np.ascontiguousarray(column).view(np.uint64) * odd[number]
        keys = (keys ^ (bits >> np.uint64(31)) ^ bits) * np.uint64(0x9E3779B97F4A7C15)
    return keys


def _return_keys(pipeline: Pipeline, symbol: str, block: str) -> NDArray[np.uint64]:
    """Return a key of the last returns at each row of a block: history that was copied to another price level keeps them."""
    candles, table = pipeline.candles[symbol], pipeline.tables[symbol]
    returns = np.round(np.diff(np.log(candles.close), prepend=np.log(candles.close[:1])), 8) + 0.0
    place = np.searchsorted(candles.time, (table.train if block == "training" and table.train is not None else table.test).time)
    place = place[place >= WINDOW]
    windows = np.stack([returns[place - lag] for lag in range(WINDOW)], axis=1)
    return row_keys(windows[(windows != 0).sum(axis=1) >= MOVED])


def _first(table: Table) -> int | None:
    times: Ints = table.used["test"].time
    return int(times[0]) if len(times) else None
