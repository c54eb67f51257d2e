"""The lake: candles of every symbol, one Parquet file a month, each whole or not at all, in a folder or in a bucket.

    LAKE/BTC-USD/2024-06.parquet    time, open, high, low, close, volume; any tool reads it as it is
    LAKE/BTC-USD/manifest.json      venue, spans and digests of the months, and minutes that the venue does not have

The files are the truth. A manifest that lags behind, after a process was killed between the two, is measured again from them.
"""

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crpbot.errors import CandleError
from crpbot.market.candles import MINUTE, Candles, utc
from crpbot.market.files import COLUMNS, SYMBOL, YEAR_2100, candles_of, check_symbol, frame_of
from crpbot.market.parquet_pages import check_pages
from crpbot.market.storage import storage_of

if TYPE_CHECKING:
    import polars as pl

FORMAT = "crpbot.lake/1"
MANIFEST = "manifest.json"
_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])\.parquet")
Span = tuple[int, int]
Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """One file.

    Attributes:
        name: year and month of UTC, as `2024-06`.
        rows: candles in it.
        first, last: open times, in milliseconds of UTC.
        sha256: of the candles, as `Candles.sha256`.
        bytes: size of the file.

    """

    name: str
    rows: int
    first: int
    last: int
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What the lake holds of one symbol.

    Attributes:
        symbol: in the dashed form.
        venues: where the candles come from, in the order in which they came.
        months: the files, oldest first.
        absent: runs of minutes `[from, to)` that the venue was asked for and does not have.

    """

    symbol: str
    venues: tuple[str, ...] = ()
    months: tuple[Month, ...] = ()
    absent: tuple[Span, ...] = ()

    @property
    def rows(self) -> int:
        """Candles in all."""
        return sum(month.rows for month in self.months)


def is_lake(place: Path | str) -> bool:
    """Return whether a folder, or `s3://BUCKET/PREFIX`, holds a lake."""
    return (str(place).startswith("s3://") or Path(place).is_dir()) and bool(Lake(place).symbols)


class Lake:
    """Candles under one folder, or under `s3://BUCKET/PREFIX`."""

    def __init__(self, place: Path | str) -> None:
        self._storage = storage_of(place)

    def __str__(self) -> str:
        return str(self._storage)

    @property
    def symbols(self) -> tuple[str, ...]:
        """What it holds, in the order of the alphabet."""
        folders = (name.partition("/") for name in self._storage.names())
        found = {folder for folder, _, file in folders if file == MANIFEST or _MONTH.fullmatch(file)}
        return tuple(sorted(folder for folder in found if SYMBOL.fullmatch(folder)))

    def manifest(self, symbol: str) -> Manifest:
        """Return what is there; months whose file has changed since are measured again."""
        kept = self._stored(symbol)
        known = {month.name: month for month in kept.months}
        months = []
        for name, size in self._months(symbol).items():
            month = known.get(name)
            if month is None or month.bytes != size:
                month = _facts(name, self._candles(symbol, name), size)
            months.append(month)
        return Manifest(symbol=symbol, venues=kept.venues, months=tuple(months), absent=kept.absent)

    def read(self, symbol: str, *, since: int | None = None, until: int | None = None) -> Candles:
        """Return the candles of `[since, until)`, in milliseconds of UTC; all of them by default.

        Raises:
            CandleError: there are none, or a file is damaged.

        """
        import polars as pl  # noqa: PLC0415  live runs without it

        months = self._between(symbol, since, until)
        if not months:
            raise CandleError(f"the lake {self} must hold candles of {symbol}, found none; crpbot candles download {symbol}")
        tables = [self._table(symbol, name) for name in months]
        candles = candles_of(pl.concat(tables, how="diagonal"), f"{self}/{symbol}")  # a column `filled` may be in some
        first = 0 if since is None else int(np.searchsorted(candles.time, since))
        return candles[first : len(candles) if until is None else int(np.searchsorted(candles.time, until))]

    def missing(self, symbol: str, since: int, until: int) -> Sequence[Span]:
        """Return the runs of minutes of `[since, until)` that are neither held nor known to be absent at the venue."""
        wanted = np.arange(-(-since // MINUTE) * MINUTE, until, MINUTE, dtype=np.int64)
        held = self._times(symbol, since, until)
        absent = [(max(start, since), min(end, until)) for start, end in self._stored(symbol).absent]
        known = [np.arange(-(-start // MINUTE) * MINUTE, end, MINUTE, dtype=np.int64) for start, end in absent]
        return runs_of(np.setdiff1d(wanted, np.concatenate([held, *known])))

    def add(self, symbol: str, candles: Candles, *, venue: str, asked: Span | None = None) -> None:
        """Merge candles into the months that they belong to. Other candles of the same minute are an error, and nothing is added.

        Args:
            symbol: of the candles.
            candles: closed ones, without order to what is there.
            venue: where they come from.
            asked: minutes of `[from, to)` that are not among the candles are known to be absent at the venue.

        Raises:
            CandleError: a minute is held already, with other numbers.

        """
        stored = self.manifest(symbol)
        months = {month.name: month for month in stored.months}
        fresh = {name: self._merged(symbol, name, candles[rows], held=name in months) for name, rows in _by_month(candles.time)}
        for name, month in fresh.items():
            buffer = io.BytesIO()
            frame_of(month).write_parquet(buffer, compression_level=3)
            content = buffer.getvalue()
            self._storage.write(f"{symbol}/{name}.parquet", content)
            months[name] = _facts(name, month, len(content))
        absent = stored.absent
        if asked is not None:
            empty = np.setdiff1d(np.arange(asked[0], asked[1], MINUTE, dtype=np.int64), self._times(symbol, *asked))
            absent = _joined([*absent, *runs_of(empty)])
        if absent and len(candles):  # what came after all is not absent
            gone = [np.setdiff1d(np.arange(start, end, MINUTE, dtype=np.int64), candles.time) for start, end in absent]
            absent = tuple(span for times in gone for span in runs_of(times))
        venues = stored.venues if venue in stored.venues else (*stored.venues, venue)
        in_order = tuple(months[name] for name in sorted(months))
        self._store(Manifest(symbol=symbol, venues=venues, months=in_order, absent=absent))

    @contextmanager
    def lock(self, symbol: str) -> Iterator[None]:
        """Keep other processes from writing a symbol; a killed process lets go by itself.

        Raises:
            CandleError: another process writes it.

        """
        with self._storage.lock(f"{check_symbol(symbol)}/.lock") as ours:
            if not ours:
                raise CandleError(
                    f"{self}/{symbol} must be written by one process at a time, found another one at it; wait until it has ended"
                )
            yield

    def damaged(self, symbol: str) -> tuple[str, ...]:
        """Return the months that cannot be read, are gone, or lack candles that the manifest says they have.

        A month that has grown since is whole: the import that made it grow was killed before it wrote the manifest, and the next
        one does.
        """
        there, stored = self._months(symbol), {month.name: month for month in self._stored(symbol).months}
        return tuple(
            name for name in sorted({*there, *stored}) if not self._whole(symbol, name, stored.get(name), there.get(name))
        )

    def _whole(self, symbol: str, name: str, month: Month | None, size: int | None) -> bool:
        try:
            candles = self._candles(symbol, name) if size is not None else None
        except CandleError:
            return False
        if candles is None or month is None or candles.sha256 == month.sha256:
            return candles is not None
        grown = len(candles) > month.rows and candles.time[0] <= month.first and candles.time[-1] >= month.last
        return bool(grown and month.bytes != size)

    def _merged(self, symbol: str, name: str, new: Candles, *, held: bool) -> Candles:
        if not held:
            return new
        old = self._candles(symbol, name)
        _, ours, theirs = np.intersect1d(old.time, new.time, assume_unique=True, return_indices=True)
        for column in COLUMNS[1:]:
            differs = getattr(old, column)[ours] != getattr(new, column)[theirs]
            if differs.any():
                row = int(differs.argmax())
                before, after = (getattr(one, column)[rows][row] for one, rows in ((old, ours), (new, theirs)))
                raise CandleError(
                    f"a minute must have one candle, found {column} {before:g} held and {after:g} new at "
                    f"{utc(int(old.time[ours][row]))}; delete the month {self}/{symbol}/{name}.parquet to take the new"
                )
        other = np.setdiff1d(np.arange(len(new)), theirs)
        time = np.concatenate([old.time, new.time[other]])
        order = np.argsort(time)
        columns = (np.concatenate([getattr(old, column), getattr(new, column)[other]])[order] for column in COLUMNS[1:])
        filled = np.concatenate([_marks(old), _marks(new)[other]])[order]
        return Candles(time[order], *columns, filled=filled)

    def _months(self, symbol: str) -> Mapping[str, int]:
        """Return the months of a symbol with the sizes of their files, oldest first."""
        folder = f"{check_symbol(symbol)}/"
        found = {name.removeprefix(folder): size for name, size in self._storage.names(folder).items()}
        return {name[:7]: found[name] for name in sorted(found) if _MONTH.fullmatch(name)}

    def _between(self, symbol: str, since: int | None, until: int | None) -> list[str]:
        low = "" if since is None else _month(since)
        high = "9999-99" if until is None else _month(until)
        return [name for name in self._months(symbol) if low <= name <= high]

    def _times(self, symbol: str, since: int, until: int) -> Times:
        parts = [
            self._table(symbol, name, ["time"])["time"].to_physical().to_numpy() for name in self._between(symbol, since, until)
        ]
        time = np.concatenate([np.empty(0, np.int64), *parts])
        return time[(time >= since) & (time < until)]

    def _table(self, symbol: str, name: str, columns: list[str] | None = None) -> "pl.DataFrame":
        import polars as pl  # noqa: PLC0415  live runs without it

        where = f"{symbol}/{name}.parquet"
        try:
            content = self._storage.read(where)
            check_pages(content, f"{self}/{where}")
            return pl.read_parquet(io.BytesIO(content), columns=columns)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise CandleError(f"{self}/{where} must be readable: {error}; restore or delete that month") from None

    def _candles(self, symbol: str, name: str) -> Candles:
        return candles_of(self._table(symbol, name), f"{self}/{symbol}/{name}.parquet")

    def _stored(self, symbol: str) -> Manifest:
        where = f"{check_symbol(symbol)}/{MANIFEST}"
        try:
            plain = json.loads(self._storage.read(where))
        except FileNotFoundError:
            return Manifest(symbol=symbol)
        except (ValueError, RecursionError) as error:
            raise CandleError(f"{self}/{where} must be JSON, found {error}; delete it, the months stay") from None
        try:
            if plain["format"] != FORMAT:
                raise CandleError(f"{self}/{where} must have the format {FORMAT}, found {plain['format']!r}; update crpbot")
            return Manifest(
                symbol=symbol,
                venues=tuple(map(str, plain["venues"])),
                months=tuple(map(_month_of, plain["months"])),
                absent=tuple(_span_of(*span) for span in plain["absent"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise CandleError(f"{self}/{where} must be a whole manifest, found {error!r}; delete it, the months stay") from None

    def _store(self, manifest: Manifest) -> None:
        plain = {"format": FORMAT, **asdict(manifest)}
        self._storage.write(f"{manifest.symbol}/{MANIFEST}", (json.dumps(plain, indent=1) + "\n").encode())


def _facts(name: str, candles: Candles, size: int) -> Month:
    first, last = int(candles.time[0]), int(candles.time[-1])
    return Month(name=name, rows=len(candles), first=first, last=last, sha256=candles.sha256, bytes=size)


def _month_of(plain: Mapping[str, Any]) -> Month:
    """Return a month of a manifest, each fact of the type that it must have."""
    month = Month(**plain)
    for one in fields(month):
        if type(getattr(month, one.name)) is not one.type:
            raise TypeError(f"{one.name} is {getattr(month, one.name)!r:.40}")
    return month


def _span_of(start: Any, end: Any) -> Span:  # noqa: ANN401
    if not (type(start) is type(end) is int and 0 <= start < end <= YEAR_2100):
        raise ValueError(f"minutes from {start!r:.40} to {end!r:.40}")
    return start, end


def _marks(candles: Candles) -> NDArray[np.bool_]:
    """Return which candles are stand-ins."""
    return np.zeros(len(candles), bool) if candles.filled is None else candles.filled


def runs_of(times: Times) -> list[Span]:
    """Return whole minutes, in order, as runs `[from, to)`."""
    if not len(times):
        return []
    breaks = np.flatnonzero(np.diff(times) > MINUTE) + 1
    return [(int(run[0]), int(run[-1]) + MINUTE) for run in np.split(times, breaks)]


def _joined(spans: Sequence[Span]) -> tuple[Span, ...]:
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


def _by_month(time: Times) -> Iterator[tuple[str, slice]]:
    months = time.astype("datetime64[ms]").astype("datetime64[M]")
    names, starts = np.unique(months, return_index=True)
    for number, name in enumerate(names):
        yield str(name), slice(int(starts[number]), int(starts[number + 1]) if number + 1 < len(starts) else len(time))


def _month(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m")
