"""What is wrong with candles, row by row, and what that means for training. Nothing is corrected, nothing is filled."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from crpbot.errors import CandleError
from crpbot.market.candles import MINUTE, utc
from crpbot.market.files import COLUMNS, IMPORT_IT, marks, milliseconds, read_frame

LONG = 10
"""Candles in a row from which on a price that does not move, or a market without volume, is worth a word."""
JUMP = 3.0
"""Factor between two neighbouring candles beyond which the unit of the price has most likely changed."""

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]
Times = NDArray[np.int64]

MEANINGS: Mapping[str, str] = {
    "gaps": "minutes are missing: a new segment starts there, no window and no label crosses it, and 199 candles warm up again",
    "duplicates": "a minute is there twice: training refuses the file; keep the one that the venue still shows",
    "disorder": "times go back: training refuses the file; sort it, or split it where two sources were joined",
    "off_minute": "a time is not on the whole minute: training refuses the file; convert the unit, or resample",
    "impossible": "a candle breaks a rule that every market keeps: training refuses the file; fetch that minute again",
    "filled": "stand-ins for missing minutes, as somebody asked for: no row and no label is made of them",
    "frozen": "the price stands still: stand-ins of an outage, or a market that hardly trades; their labels are all NEUTRAL",
    "no_volume": "nobody trades: volume features say nothing there, and nobody could have traded a signal",
    "jumps": "the price changes by a factor of three or more in a minute: two units or two instruments were joined",
}
"""Every kind of finding, and what it means for training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong.

    Attributes:
        kind: a key of `MEANINGS`.
        symbol: of the candles.
        row: the first row of the file that it concerns, from 0.
        first, last: open times of the candles around or within it, in milliseconds of UTC.
        count: how many candles are missing, doubled or concerned.
        rule: which rule is broken, where it is one of several.

    """

    kind: str
    symbol: str
    row: int
    first: int
    last: int
    count: int
    rule: str = ""

    def to_dict(self) -> dict[str, object]:
        """Return it as plain types, with times as people read them."""
        if self.kind == "gaps":
            return {
                "symbol": self.symbol,
                "last_before": utc(self.first),
                "first_after": utc(self.last),
                "missing": self.count,
            }
        plain: dict[str, object] = {"symbol": self.symbol, "row": self.row, "first": _time(self.first), "last": _time(self.last)}
        return plain | {"candles": self.count} | ({"rule": self.rule} if self.rule else {})

    def __str__(self) -> str:
        if self.kind == "gaps":
            return f"{self.count:,} minutes are missing between {utc(self.first)} and {utc(self.last)}"
        where = _time(self.first) if self.first == self.last else f"{_time(self.first)} to {_time(self.last)}"
        rule = f"{self.rule}, " if self.rule else ""
        return f"row {self.row}: {rule}{where}" + (f", {self.count:,} candles" if self.count > 1 else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One symbol that was looked at.

    Attributes:
        symbol: of the candles.
        rows: how many there are.
        first, last: open times, in milliseconds of UTC.
        findings: by kind in the order of `MEANINGS`, by time within a kind.

    """

    symbol: str
    rows: int
    first: int
    last: int
    findings: tuple[Finding, ...]


def check_file(path: Path, symbol: str) -> Checked:
    """Look at one file of candles, as it is.

    Raises:
        CandleError: it cannot be read, lacks a column, or holds something that is no number.

    """
    frame = read_frame(path)
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing or not len(frame):
        found = "no rows" if not missing else ", ".join(frame.columns)[:200]
        raise CandleError(
            f"{path}: candles need rows with {', '.join(COLUMNS)}; found {found}; rename or add columns, {IMPORT_IT}"
        )
    try:
        columns = {name: frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in COLUMNS[1:]}
    except pl.exceptions.PolarsError as error:
        raise CandleError(f"{path}: prices and volume must be numbers: {error}; convert them") from None
    try:
        return check_columns(symbol, milliseconds(frame["time"]), columns, marks(frame))
    except CandleError as error:
        raise CandleError(f"{path}: {error}") from None


def check_columns(symbol: str, time: Times, columns: Mapping[str, Floats], filled: Flags | None = None) -> Checked:
    """Look at columns of candles, in the order in which they stand.

    Args:
        symbol: of the candles.
        time: open times in milliseconds of UTC, shape `(n,)`, n at least 1.
        columns: open, high, low, close and volume, each of shape `(n,)`.
        filled: which are marked as stand-ins; None where none is.

    """
    findings = [*_gaps(symbol, time), *_order(symbol, time), *_off_minute(symbol, time), *_impossible(symbol, time, columns)]
    real = ~filled if filled is not None else np.ones(len(time), bool)
    findings += _runs("filled", symbol, time, ~real, least=1)
    findings += [*_frozen(symbol, time, columns, real), *_no_volume(symbol, time, columns, real), *_jumps(symbol, time, columns)]
    place = {kind: number for number, kind in enumerate(MEANINGS)}
    findings.sort(key=lambda one: (place[one.kind], one.first, one.row))
    return Checked(symbol=symbol, rows=len(time), first=int(time.min()), last=int(time.max()), findings=tuple(findings))


def _gaps(symbol: str, time: Times) -> list[Finding]:
    whole = np.unique(time - time % MINUTE)
    rows = np.flatnonzero(np.diff(whole) > MINUTE)
    return [
        Finding(
            kind="gaps",
            symbol=symbol,
            row=int(np.searchsorted(time, whole[row + 1])),
            first=int(whole[row]),
            last=int(whole[row + 1]),
            count=int((whole[row + 1] - whole[row]) // MINUTE - 1),
        )
        for row in rows.tolist()
    ]


def _order(symbol: str, time: Times) -> list[Finding]:
    values, first, counts = np.unique(time, return_index=True, return_counts=True)
    doubled = [
        Finding(
            kind="duplicates", symbol=symbol, row=int(first[i]), first=int(values[i]), last=int(values[i]), count=int(counts[i])
        )
        for i in np.flatnonzero(counts > 1).tolist()
    ]
    back = np.flatnonzero(np.diff(time) < 0) + 1
    return doubled + [
        Finding(kind="disorder", symbol=symbol, row=row, first=int(time[row - 1]), last=int(time[row]), count=1)
        for row in back.tolist()
    ]


def _off_minute(symbol: str, time: Times) -> list[Finding]:
    return _runs("off_minute", symbol, time, time % MINUTE != 0, least=1)


RULES: tuple[tuple[str, Callable[[Mapping[str, Floats]], Flags]], ...] = (
    ("prices must be finite and positive", lambda c: ~_all(c, lambda p: np.isfinite(p) & (p > 0))),
    ("high must not be below open, low or close", lambda c: c["high"] < np.fmax(np.fmax(c["open"], c["close"]), c["low"])),
    ("low must not be above open or close", lambda c: c["low"] > np.fmin(c["open"], c["close"])),
    ("volume must be finite and not negative", lambda c: ~(np.isfinite(c["volume"]) & (c["volume"] >= 0))),
)
"""What every candle keeps, and which candles break it."""


def _impossible(symbol: str, time: Times, columns: Mapping[str, Floats]) -> list[Finding]:
    return [
        finding for rule, broken in RULES for finding in _runs("impossible", symbol, time, broken(columns), least=1, rule=rule)
    ]


def _frozen(symbol: str, time: Times, columns: Mapping[str, Floats], real: Flags) -> list[Finding]:
    close = columns["close"]
    flat = _all(columns, lambda price: price == close) & real
    same = (close[1:] == close[:-1]) & flat[1:] & flat[:-1]
    still = np.concatenate([[False], same]) | np.concatenate([same, [False]])
    return _runs("frozen", symbol, time, still, least=LONG)


def _no_volume(symbol: str, time: Times, columns: Mapping[str, Floats], real: Flags) -> list[Finding]:
    return _runs("no_volume", symbol, time, (columns["volume"] == 0) & real, least=LONG)


def _jumps(symbol: str, time: Times, columns: Mapping[str, Floats]) -> list[Finding]:
    close = columns["close"]
    with np.errstate(all="ignore"):
        factor = np.exp(np.abs(np.log(close[1:] / close[:-1])))
    rows = np.flatnonzero(np.isfinite(factor) & (factor >= JUMP) & (np.diff(time) <= MINUTE)) + 1
    return [
        Finding(
            kind="jumps",
            symbol=symbol,
            row=row,
            first=int(time[row - 1]),
            last=int(time[row]),
            count=1,
            rule=f"{close[row - 1]:g} to {close[row]:g}",
        )
        for row in rows.tolist()
    ]


def _all(columns: Mapping[str, Floats], holds: Callable[[Floats], Flags]) -> Flags:
    found: Flags = np.logical_and.reduce([holds(columns[name]) for name in ("open", "high", "low", "close")])
    return found


def _runs(kind: str, symbol: str, time: Times, flags: Flags, *, least: int, rule: str = "") -> list[Finding]:
    """Return the runs of rows with a flag that are long enough; a gap in time ends a run."""
    if not flags.any():
        return []
    rows = np.flatnonzero(flags)
    breaks = np.flatnonzero((np.diff(rows) > 1) | (np.diff(time[rows]) > MINUTE)) + 1
    return [
        Finding(
            kind=kind, symbol=symbol, row=int(run[0]), first=int(time[run[0]]), last=int(time[run[-1]]), count=len(run), rule=rule
        )
        for run in np.split(rows, breaks)
        if len(run) >= least
    ]


def _time(milliseconds_: int) -> str:
    return utc(milliseconds_) if milliseconds_ % MINUTE == 0 else f"{milliseconds_} ms"
