"""Candles in the files of others: tables under any usual names, Binance klines, freqtrade, CryptoDataDownload."""

import csv
import gzip
import io
import json
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl
from numpy.typing import NDArray

from crpbot.disk import whole_file
from crpbot.errors import CandleError
from crpbot.market.candles import MINUTE, Candles, utc
from crpbot.market.files import COLUMNS, MOST_ROWS, frame_of, milliseconds, write_candles
from crpbot.market.naming import market_in, market_of
from crpbot.market.parquet_pages import check_pages

MOST_BYTES = 2 * 2**30
"""Of a file, and of what it unpacks to."""
_CHUNK, _FEWEST_STEPS = 2**20, 5  # so many steps tell how long a candle is

_KLINE = (
    *("open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count"),
    *("taker_buy_volume", "taker_buy_quote_volume", "ignore"),
)
"""The columns of a Binance kline; freqtrade has the first six."""
_TIMES = (
    *("open_time", "opentime", "open_timestamp", "unix", "unix_timestamp", "unix_time", "epoch", "timestamp", "time"),
    *("datetime", "date_time", "date", "ts", "t", "index", "index_level_0", ""),
)
"""Names of the open time, the most exact first; a pandas index has the last ones."""
_SYMBOLS = ("symbol", "pair", "ticker", "instrument", "market")
_ROW = r"^row (\d+)"  # the beginning of an error about one
_NUMBER = re.compile(r"\s*[-+]?[\d.]+([eE][-+]?\d+)?\s*")


@dataclass(frozen=True)
class _Table:
    """A table of a stranger, whose columns are read when they are asked for.

    Attributes:
        names: of the columns, as the file has them.
        select: reads the columns that stand at these places.
        label: what errors call the n-th row of the file.
        in_milliseconds: whether times are known to be; otherwise their size tells.

    """

    names: Sequence[str]
    select: Callable[[Sequence[int]], pl.DataFrame]
    label: Callable[[int], str] = "row {}".format
    in_milliseconds: bool = False


def read_foreign(path: Path, *, symbol: str | None = None, minutes: int = 1) -> tuple[str, Candles]:
    """Return whose candles another program wrote to a file, as a symbol in dashed form, and the candles, oldest first.

    What the file is, its content tells: CSV, Parquet, Feather, or a JSON list of lists, also as gzip or alone in a zip. Columns
    go by their names, or by the order of Binance klines where 12 columns have none; others are ignored. Times are UTC:
    timestamps, ISO texts, or numbers since 1970 whose size tells seconds, milli-, micro- and nanoseconds apart, row by row.
    Rows may stand in any order, and twice. Nothing else is put right.

    Args:
        path: of the file.
        symbol: of the candles. By default the name of the file says it, or else a column; dollar coins count as USD.
        minutes: of a candle.

    Raises:
        CandleError: the file cannot be read or unpacks to more than 2 GiB, lacks a column, belongs to no symbol or to another
            one; or a row has no value, breaks a rule of `Candles`, contradicts another row of its minute, or the candles are
            longer than `minutes`. A row is counted from 0, as it stands in the file; a text has the number of its line as well.

    """
    with _errors_with("^", lambda _: f"{path}: "):
        table = _open(_unpacked(path))
        with _errors_with(_ROW, lambda row: table.label(int(row[1]))):
            name = _symbol_of(table, path, symbol)
            candles = _candles(table, table.select(_find_columns(table.names, base=name.split("-")[0])))
            _check_span(candles, minutes)
    return name, candles


def write_foreign(candles: Candles, path: Path, *, symbol: str) -> None:
    """Write candles for another program, in the form that the name ends with; `read_foreign` gives the same bits back.

    `.csv` has times as ISO texts, `.parquet` as timestamps; `.feather` and `.json.gz` are those of freqtrade, which looks for
    a name such as `BTC_USDT-1m.feather`. The file appears whole or not at all.

    Raises:
        CandleError: the name ends otherwise, or says another symbol; there are no candles, or stand-ins and no column for them.

    """
    writer = next((writer for suffix, writer in _WRITERS.items() if path.name.lower().endswith(suffix)), None)
    if writer is None:
        raise CandleError(f"an export must end with {', '.join(_WRITERS)}, found {path}; choose one of these")
    ours, named = market_of(symbol), market_in(path.name)
    if named not in {None, ours}:
        raise CandleError(f"{path} must be named after {ours}, and says {named}; choose another name")
    if not len(candles):
        raise CandleError(f"{path} must get at least one candle, found none; export more")
    if candles.filled is not None and not path.name.lower().endswith((".csv", ".parquet")):
        raise CandleError(f"{path} must have no stand-ins, found {candles.filled.sum()}; export to .csv or .parquet")
    with whole_file(path) as unfinished:
        writer(candles, unfinished)


@contextmanager
def _errors_with(pattern: str, text: Callable[[re.Match[str]], str]) -> Iterator[None]:
    try:
        yield
    except CandleError as error:
        raise CandleError(re.sub(pattern, text, str(error), count=1)) from None


def _unpacked(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = _bounded(file)
        if content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                members = archive.infolist()
                if len(members) != 1:
                    raise CandleError(f"a zip must hold exactly one file, found {len(members)}; unpack it, and read one of them")
                with archive.open(members[0]) as member:
                    return _bounded(member)
        if content.startswith(b"\x1f\x8b"):
            with gzip.open(io.BytesIO(content)) as unpacking:
                return _bounded(unpacking)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, MemoryError, RuntimeError, ValueError) as error:
        found = str(error) or "more than fits into memory"
        raise CandleError(f"it must be a whole file, found a damaged or missing one: {found}; get it again") from None
    return content


def _bounded(file: IO[bytes] | gzip.GzipFile) -> bytes:
    content = bytearray()
    while chunk := file.read(_CHUNK):
        content += chunk
        if len(content) > MOST_BYTES:
            raise CandleError(f"it must have at most {MOST_BYTES:,} bytes when unpacked, found more; split it")
    return bytes(content)


def _open(content: bytes) -> _Table:
    if content.startswith(b"PAR1"):
        check_pages(content, "it")
        return _binary("Parquet", pl.scan_parquet, content)
    if content.startswith(b"ARROW1"):
        return _binary("Feather", pl.scan_ipc, content)
    text = content.removeprefix(b"\xef\xbb\xbf").rstrip()
    return _json(text) if text[:_CHUNK].lstrip().startswith(b"[") else _csv(text)


@contextmanager
def _readable(kind: str) -> Iterator[None]:
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, csv.Error, OSError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CandleError(f"it must be readable as {kind}: {reason}; get it again") from None


def _binary(kind: str, scan: Callable[[IO[bytes]], pl.LazyFrame], content: bytes) -> _Table:
    with _readable(kind):
        table = scan(io.BytesIO(content))
        names = table.collect_schema().names()
        rows = table.select(pl.len()).collect().item()
    if rows > MOST_ROWS:
        raise CandleError(f"it must have at most {MOST_ROWS:,} rows, found {rows:,}; split it")

    def select(columns: Sequence[int]) -> pl.DataFrame:
        with _readable(kind):
            return table.select([names[column] for column in columns]).collect()

    return _Table(names, select)


def _json(text: bytes) -> _Table:
    flat = text.translate(None, b" \t\r\n")
    columns = flat[: flat.find(b"]")].count(b",") + 1
    if not flat.startswith(b"[[") or not flat.endswith(b"]]") or columns not in {6, len(_KLINE)}:
        raise CandleError(
            "JSON must be a list of candles [milliseconds, open, high, low, close, volume], "
            f"found {text[:60].decode(errors='replace')!r}; convert it"
        )
    select = partial(_select_text, flat[2:-2].replace(b"],[", b"\n"), columns, ",")
    return _Table(_KLINE[:columns], select, in_milliseconds=True)


def _csv(text: bytes) -> _Table:
    lines = text[:_CHUNK].decode(errors="replace").split("\n")[:20]
    place = next((n for n, line in enumerate(lines) if re.match(r"(?!#|http).*[,;\t|]", line)), None)
    if place is None:
        raise CandleError(f"it must be a table with a header, found {lines[0][:60]!r}; convert it to CSV")
    separator = max(",;\t|", key=lines[place].count)
    with _readable("a table with a header"):
        fields = next(csv.reader([lines[place].rstrip("\r")], delimiter=separator))
    headless = all(map(_NUMBER.fullmatch, fields[: len(COLUMNS)]))
    if headless and len(fields) != len(_KLINE):
        raise CandleError(f"a table without a header must have the 12 columns of Binance klines, found {len(fields)}; add one")
    skip = place if headless else place + 1
    *_, rows = [*text.split(b"\n", skip), b""][: skip + 1]
    select = partial(_select_text, rows, len(fields), separator)
    return _Table(_KLINE if headless else fields, select, label=lambda row: f"row {row} (line {row + skip + 1})")


def _select_text(rows: bytes, width: int, separator: str, columns: Sequence[int]) -> pl.DataFrame:
    names = [f"column_{column}" for column in range(width + 1)]  # the last one is what is too much in a row
    with _readable("a table"):
        table = pl.read_csv(
            separator.join(names).encode() + b"\n" + rows, separator=separator, infer_schema=False, truncate_ragged_lines=True,
            columns=[names[column] for column in (*columns, width)],
        )  # fmt: skip
    lines = rows.count(b"\n") + 1 if rows else 0
    if len(table) != lines:  # a quotation mark that is never closed swallows rows
        raise CandleError(f"every row must be one line, found {len(table)} rows in {lines} lines; correct the quotation marks")
    surplus = table[names[width]].alias("the row")
    _forbid(surplus, surplus.is_not_null(), f"must have {width} values")
    return table.select(pl.col(names[column]).str.strip_chars() for column in columns)


def _find_columns(names: Sequence[str], *, base: str) -> list[int]:
    volume, coin = ("volume", "vol", "base_volume", "base_asset_volume", "volumefrom", "v"), base.lower()
    aliases = {
        "time": _TIMES,
        **{price: (price, f"{price}_price", f"price_{price}", price[0]) for price in COLUMNS[1:-1]},
        "volume": (f"volume_{coin}", f"vol_{coin}", f"{coin}_volume", *volume),
    }
    found = {meaning: _places(names, several) for meaning, several in aliases.items()}
    missing = [meaning for meaning, places in found.items() if not places]
    if missing:
        raise CandleError(
            f"candles of {base} need the columns {', '.join(COLUMNS)}; missing {', '.join(missing)}, "
            f"found {', '.join(names)[:200]}; rename or add them"
        )
    for meaning, places in found.items():
        if len(places) > 1:
            raise CandleError(f"one column must be the {meaning}, found {len(places)} of that name; drop the others")
    return [places[0] for places in (*found.values(), _places(names, ("filled",))) if places]


def _places(names: Sequence[str], aliases: Sequence[str]) -> list[int]:
    plain = [re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") for name in names]
    return next(([place for place, name in enumerate(plain) if name == alias] for alias in aliases if alias in plain), [])


def _symbol_of(table: _Table, path: Path, given: str | None) -> str:
    said = market_of(given) if given is not None else market_in(path.name)
    places = _places(table.names, _SYMBOLS)
    column = table.select(places[:1]).to_series().alias("symbol") if places else pl.Series()
    if isinstance(column.dtype, (pl.String, pl.Categorical, pl.Enum)) and column.null_count() < len(column):
        first = str((column := column.cast(pl.String)).drop_nulls()[0])
        _forbid(column, column != first, f"must be {first!r} as in the first row")
        written = market_in(first)
        if written is not None and said is not None and written != said:
            raise CandleError(f"its candles must be of {said}, and its rows say {first!r}; correct --symbol or the name")
        said = said or written
    if said is None:
        raise CandleError("candles must belong to a symbol, found none in the name of the file or in it; say which with --symbol")
    return said


def _candles(table: _Table, frame: pl.DataFrame) -> Candles:
    frame.columns = [*COLUMNS, "filled"][: frame.width]
    time = _times(frame["time"], in_milliseconds=table.in_milliseconds)
    marks = _marks(frame["filled"]) if "filled" in frame.columns else np.zeros(len(time))
    numbers = np.stack([*(_numbers(frame[name]) for name in COLUMNS[1:]), marks])
    rows = _oldest_first(time, numbers)
    with _errors_with(_ROW, lambda candle: f"row {rows[int(candle[1])]}"):
        return Candles(time[rows], *numbers[:-1, rows], filled=numbers[-1, rows] > 0)


def _oldest_first(time: NDArray[np.int64], numbers: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the rows in the order of time, without those that repeat another row bit for bit."""
    rows = np.argsort(time, kind="stable")
    again = time[rows][1:] == time[rows][:-1]
    bits = numbers.view(np.int64)[:, rows]
    other = again & (bits[:, 1:] != bits[:, :-1]).any(axis=0)
    if other.any():
        place = int(other.argmax())
        first, second = rows[place], rows[place + 1]
        raise CandleError(
            f"row {second}: a minute must have one candle, found two for {utc(int(time[first]))}: open, high, low, close, volume "
            f"are {numbers[:-1, second].tolist()}, and in row {first} {numbers[:-1, first].tolist()}; drop the wrong one"
        )
    kept: NDArray[np.intp] = np.delete(rows, np.flatnonzero(again) + 1)
    return kept


def _times(time: pl.Series, *, in_milliseconds: bool) -> NDArray[np.int64]:
    if time.dtype == pl.Date:
        time = time.cast(pl.Datetime("ms"))
    if isinstance(time.dtype, pl.Datetime) or not (time.dtype == pl.String or time.dtype.is_numeric()):
        return milliseconds(time)
    _forbid(time, time.is_null(), "must have a value")
    floats = time.cast(pl.Float64, strict=False)
    if time.dtype == pl.String and floats.is_null().all():
        _forbid(time, ~time.str.contains(r"^\d{4}[-/]\d\d[-/]\d\d"), "must be a number since 1970 or begin like 2024-06-01")
        return milliseconds(time)
    ticks = time.cast(pl.Int64, strict=False).fill_null(floats.cast(pl.Int64, strict=False))
    _forbid(time, ticks.is_null() | (ticks.cast(pl.Float64) != floats), "must be a whole number since 1970")
    return ticks.to_numpy() if in_milliseconds else _by_size(time, ticks.to_numpy())


def _by_size(time: pl.Series, ticks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return numbers since 1970 in milliseconds: from 1973 to 2100, no number can be meant in two units."""
    minutes, known = np.zeros_like(ticks), np.zeros(len(ticks), dtype=bool)
    for second in (1, 10**3, 10**6, 10**9):
        meant = (ticks >= 10**8 * second) & (ticks < 4_102_444_800 * second)
        _forbid(time, pl.Series(meant & (ticks % (60 * second) != 0)), "must be on the whole minute")
        minutes, known = np.where(meant, ticks // (60 * second), minutes), known | meant
    _forbid(time, pl.Series(~known), "must be seconds, milli-, micro- or nanoseconds since 1970, between 1973 and 2100")
    return minutes * MINUTE


def _numbers(column: pl.Series) -> NDArray[np.float64]:
    if column.dtype != pl.String and not column.dtype.is_numeric():
        raise CandleError(f"{column.name} must be numbers, found {column.dtype}; convert it")
    _forbid(column, column.is_null(), "must have a value")
    numbers = column.cast(pl.Float64, strict=False)
    _forbid(column, numbers.is_null(), "must be a number")
    return numbers.to_numpy()


def _marks(column: pl.Series) -> NDArray[np.float64]:
    texts = column.cast(pl.String).str.to_lowercase().fill_null("nothing")
    _forbid(column, ~texts.is_in(["true", "false"]), "must be true or false")
    return (texts == "true").cast(pl.Float64).to_numpy()


def _forbid(column: pl.Series, broken: pl.Series, rule: str) -> None:
    if broken.any():
        row = broken.arg_max() or 0
        raise CandleError(f"row {row}: {column.name} {rule}, found {column[row]!r}; correct or drop the row")


def _check_span(candles: Candles, minutes: int) -> None:
    if not len(candles):
        raise CandleError("candles must have at least one row, found none; check the file")
    steps = np.diff(candles.time) // MINUTE
    found = int(np.gcd.reduce(steps))
    if len(steps) >= _FEWEST_STEPS and found != minutes:
        raise CandleError(f"candles must be one every {minutes} min, found one every {found} min; get those of {minutes} min")


def _write_json(candles: Candles, path: Path) -> None:
    rows = list(zip(*(getattr(candles, name).tolist() for name in COLUMNS), strict=True))
    path.write_bytes(gzip.compress(json.dumps(rows, separators=(",", ":")).encode(), 6, mtime=0))


_WRITERS: Mapping[str, Callable[[Candles, Path], None]] = {
    ".csv": lambda candles, path: frame_of(candles).write_csv(path, datetime_format="%Y-%m-%dT%H:%M:%SZ"),
    ".parquet": write_candles,
    ".feather": lambda candles, path: frame_of(candles).rename({"time": "date"}).write_ipc(path, compression="lz4"),
    ".json.gz": _write_json,
}
