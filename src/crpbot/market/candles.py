"""Closed candles of one market, valid by construction."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass, field, fields
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crpbot.errors import CandleError

MINUTE = 60_000
"""One minute, and so the grid of the candles, in milliseconds."""


def utc(milliseconds: int) -> str:
    """Write a time as `2025-01-29T01:36Z`.

    >>> utc(1738114560000)
    '2025-01-29T01:36Z'
    """
    try:
        return datetime.fromtimestamp(milliseconds / 1000, tz=UTC).isoformat()[:16] + "Z"
    except (OverflowError, OSError, ValueError):  # no calendar goes so far
        return f"{milliseconds} ms"


@dataclass(frozen=True, eq=False)
class Candles:
    """Closed 1-minute candles of one market, oldest first.

    Every array has shape `(n,)` and cannot be written to. Candles that exist are valid: the rules are
    checked here, once, and nowhere else. A missing minute is allowed; it starts a new segment (`segments`).

    Attributes:
        time: when each candle opened, in milliseconds of UTC since 1970, on the whole minute.
        open: first price, in quote currency (USD for BTC-USD).
        high: highest price.
        low: lowest price.
        close: last price.
        volume: amount traded, in base currency (BTC for BTC-USD).
        filled: which candles are stand-ins for missing minutes, made by `market.fill`; None where none is. No row and no label is
            made of them.

    Raises:
        CandleError: a row breaks a rule; the message names the row (counted from 0), the rule and the values.

    """

    time: NDArray[np.int64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]
    filled: NDArray[np.bool_] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.filled is not None and not np.any(self.filled):
            object.__setattr__(self, "filled", None)
        for one in self._columns():
            dtype: type = {"time": np.int64, "filled": np.bool_}.get(one.name, np.float64)
            column: NDArray[Any] = np.ascontiguousarray(getattr(self, one.name), dtype=dtype).view()
            column.flags.writeable = False
            object.__setattr__(self, one.name, column)
            if column.shape != self.time.shape or column.ndim != 1:
                raise CandleError(
                    f"every column must have one value a candle: time has shape {self.time.shape}, "
                    f"{one.name} has {column.shape}; pass arrays of one length"
                )
        self._check_rows()

    def _columns(self) -> "tuple[Field[Any], ...]":
        """Return the columns that are there."""
        return fields(self) if self.filled is not None else fields(self)[:6]

    def _check_rows(self) -> None:
        body_high, body_low = np.maximum(self.open, self.close), np.minimum(self.open, self.close)
        prices = (self.open, self.high, self.low, self.close)
        finite = np.logical_and.reduce([np.isfinite(price) for price in prices])
        positive = np.logical_and.reduce([price > 0 for price in prices])
        forbid = self._forbid
        forbid(self.time % MINUTE != 0, lambda _: "time must be on the whole minute")
        forbid(
            np.diff(self.time, prepend=np.iinfo(np.int64).min // 2) <= 0,
            lambda row: f"time must increase from row to row, and the row before is {_readable(int(self.time[row - 1]))}",
        )
        forbid(~finite, lambda _: "prices must be finite numbers")
        forbid(~positive, lambda _: "prices must be positive")
        forbid(body_high > self.high, lambda _: "high must not be below open or close")
        forbid(body_low < self.low, lambda _: "low must not be above open or close")
        forbid(~((self.volume >= 0) & np.isfinite(self.volume)), lambda _: "volume must be finite and not negative")

    def _forbid(self, broken: NDArray[np.bool_], rule: Callable[[int], str]) -> None:
        if broken.any():
            row = int(broken.argmax())
            found = ", ".join(f"{f.name}={getattr(self, f.name)[row]}" for f in fields(self)[1:6])
            raise CandleError(
                f"row {row}: {rule(row)}; found time={_readable(int(self.time[row]))}, {found}; "
                "correct or drop the row at its source"
            )

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, rows: slice) -> "Candles":
        filled = None if self.filled is None else self.filled[rows]
        return Candles(*(getattr(self, f.name)[rows] for f in fields(self)[:6]), filled=filled)

    def segments(self, *, max_gap_minutes: int = 0) -> Iterator[slice]:
        """Yield the runs of rows without a gap, oldest first.

        A new segment starts wherever more than `max_gap_minutes` minutes are missing. No window, lag or label
        crosses from one segment to the next.
        """
        if len(self) == 0:
            return
        starts = np.flatnonzero(np.diff(self.time) > MINUTE * (1 + max_gap_minutes)) + 1
        edges = [0, *starts.tolist(), len(self)]
        for start, stop in pairwise(edges):
            yield slice(start, stop)

    @cached_property
    def sha256(self) -> str:
        """The digest of every number, in the order of the columns."""
        digest = hashlib.sha256()
        for one in self._columns():
            digest.update(getattr(self, one.name).data)
        return digest.hexdigest()


def _readable(milliseconds: int) -> str:
    return utc(milliseconds) if milliseconds % MINUTE == 0 else f"{milliseconds} ms"
