"""Candles from Parquet and CSV files."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crpbot.errors import CandleError
from crpbot.market.candles import MINUTE, Candles
from crpbot.market.parquet_pages import check_pages_in

if TYPE_CHECKING:
    import polars as pl

COLUMNS = ("time", "open", "high", "low", "close", "volume")
SUFFIXES = (".parquet", ".csv")
IMPORT_IT = "or let `crpbot candles import FILE` read it as an exchange's own file"
"""What else to do about a table that is not in our form."""
MOST_ROWS = 2**31 // 48
"""Of a table that is read as a whole: candles of 85 years, or 2 GiB of them."""
SYMBOL = re.compile(r"[A-Z0-9]{1,20}-[A-Z0-9]{1,20}")
_YEAR_1973, YEAR_2100 = 100_000_000_000, 4_102_444_800_000  # in milliseconds
_UNITS = {"ms": 1, "us": 1_000, "ns": 1_000_000}


def check_symbol(symbol: str) -> str:
    """Return `symbol` when it has the exchange's dashed form; it becomes part of file names."""
    if not SYMBOL.fullmatch(symbol):
        raise CandleError(f"a symbol must look like BTC-USD, found {symbol!r}; use capital letters, digits and one dash")
    return symbol


def find_candles(path: Path) -> Mapping[str, Path]:
    """Return the candle file of each symbol at `path`, by symbol.

    A folder has `BTC-USD.parquet` (or `.csv`) and so on; other files in it are left alone. A single file belongs
    to the symbol that it is named after, or to `""` when its name is no symbol.
    """
    if path.is_dir():
        found = {
            file.stem: file
            for suffix in reversed(SUFFIXES)
            for file in sorted(path.glob(f"*{suffix}"))
            if SYMBOL.fullmatch(file.stem)
        }
        if not found:
            raise CandleError(f"a folder of candles must hold files such as BTC-USD.parquet, found none in {path}")
        return dict(sorted(found.items()))
    if not path.exists():
        raise CandleError(f"candles must be a file or a folder that exists, found nothing at {path}")
    return {path.stem if SYMBOL.fullmatch(path.stem) else "": path}


def read_candles(path: Path) -> Candles:
    """Read the candles of one file with the columns `time, open, high, low, close, volume`.

    `time` is the open time: a UTC timestamp, or a whole number of milliseconds since 1970. Other columns are ignored.

    Raises:
        CandleError: the file cannot be read, lacks a column or a value, or a row breaks a rule of `Candles`.

    """
    return candles_of(read_frame(path), str(path))


def candles_of(frame: "pl.DataFrame", where: str) -> Candles:
    """Return the candles of a table; `where` names it in errors."""
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise CandleError(
            f"{where}: candles need the columns {', '.join(COLUMNS)}; missing {', '.join(missing)}, "
            f"found {', '.join(frame.columns)[:200]}; rename or add them, {IMPORT_IT}"
        )
    try:
        time = milliseconds(frame["time"])
        numbers = [_numbers(frame[column]) for column in COLUMNS[1:]]
        candles = Candles(time, *numbers, filled=marks(frame))
    except CandleError as error:
        raise CandleError(f"{where}: {error}") from None
    if not len(candles):
        raise CandleError(f"{where}: candles must have at least one row, found none; check the file")
    return candles


def marks(frame: "pl.DataFrame") -> np.ndarray[tuple[int], np.dtype[np.bool_]] | None:
    """Return which rows a column `filled` marks as stand-ins; None where there is none."""
    import polars as pl  # noqa: PLC0415  live runs without it

    if "filled" not in frame.columns:
        return None
    column = frame["filled"]
    if column.dtype == pl.String:
        column = column.str.to_lowercase().replace_strict({"true": True, "false": False}, default=None, return_dtype=pl.Boolean)
    if not (column.dtype == pl.Boolean or column.dtype.is_integer()) or column.null_count():
        raise CandleError(f"filled must be true or false in every row, found {column.dtype}; correct or drop the column")
    return column.cast(pl.Boolean).to_numpy()


def write_candles(candles: Candles, path: Path) -> None:
    """Write `candles` as Parquet in the form that `read_candles` reads."""
    write_parquet(frame_of(candles), path)


def write_parquet(frame: "pl.DataFrame", path: Path) -> None:
    """Write a table as Parquet.

    Raises:
        OSError: the disk does not take it; Polars itself calls that a fault of the table.

    """
    import polars as pl  # noqa: PLC0415  live runs without it

    try:
        frame.write_parquet(path)
    except (pl.exceptions.ComputeError, pl.exceptions.PanicException) as error:
        raise OSError(str(error).rpartition("IO error: ")[2]) from None


def frame_of(candles: Candles) -> "pl.DataFrame":
    """Return candles as a table, `time` as a UTC timestamp in milliseconds; stand-ins are marked by a column `filled`."""
    import polars as pl  # noqa: PLC0415  live runs without it

    columns = COLUMNS if candles.filled is None else (*COLUMNS, "filled")
    frame = pl.DataFrame({column: getattr(candles, column) for column in columns})
    return frame.with_columns(pl.col("time").cast(pl.Datetime("ms", "UTC")))


def read_frame(path: Path) -> "pl.DataFrame":
    """Read a Parquet or CSV file, whatever its columns."""
    try:
        import polars as pl  # noqa: PLC0415  live runs without it
    except ModuleNotFoundError:
        raise CandleError(f"{path} needs Polars, which the image of live leaves out; use a whole installation") from None

    if path.suffix not in SUFFIXES:
        raise CandleError(f"a table must be a .parquet or .csv file, found {path}; convert it first")
    if path.is_fifo():  # whoever reads it may wait for ever
        raise CandleError(f"a table must be a regular file, found a pipe at {path}; write what comes out of it to a file")
    try:
        if path.suffix == ".csv":
            _check_lines(path)
            return pl.read_csv(path, infer_schema_length=None)
        check_pages_in(path)
        rows = pl.scan_parquet(path).select(pl.len()).collect().item()
        if rows > MOST_ROWS:  # a file of some kilobytes can say that it holds any number of them
            raise CandleError(f"{path} must have at most {MOST_ROWS:,} rows, found {rows:,}; split it")
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:  # some damage makes it panic
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CandleError(f"{path} must be readable as {path.suffix[1:]}: {reason}; check the file") from None


def _check_lines(path: Path) -> None:
    """Refuse a line of a mebibyte or more: Polars holds it many times over, and ends the process where memory is short."""
    with path.open("rb") as file:
        while len(chunk := file.read(2**20)) == 2**20:
            if b"\n" not in chunk:
                raise CandleError(f"{path} must have one row a line, found a line of a mebibyte; check the file")


def milliseconds(time: "pl.Series") -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return UTC timestamps, or whole milliseconds since 1970, as such milliseconds."""
    import polars as pl  # noqa: PLC0415  live runs without it

    _forbid_nulls(time)
    if time.dtype == pl.String:
        text = time
        try:
            time = text.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
        except pl.exceptions.ComputeError:  # no form that polars can guess
            time = pl.Series("time", [None] * len(text), dtype=pl.Datetime("us", "UTC"))
        if time.null_count():
            row = time.is_null().arg_max()
            raise CandleError(
                f"row {row}: time must be a UTC timestamp or milliseconds since 1970, found {text[row or 0]!r}; convert it"
            )
    if isinstance(time.dtype, pl.Datetime):
        per_millisecond = _UNITS[time.dtype.time_unit]
        ticks = time.to_physical().to_numpy()
        broken = ticks % per_millisecond != 0
        if broken.any():
            row = int(broken.argmax())
            raise CandleError(f"row {row}: time must be on the whole minute; found {time[row]}; drop the row")
        return ticks // per_millisecond
    if not time.dtype.is_integer():
        raise CandleError(
            f"time must be a UTC timestamp or a whole number of milliseconds since 1970, found {time.dtype}; convert it"
        )
    found = time.cast(pl.Int64, strict=False).fill_null(np.iinfo(np.int64).max)
    for wrong, unit in (
        (found >= YEAR_2100, "micro- or nanoseconds"),
        (found.is_between(1, _YEAR_1973) & (found % MINUTE != 0), "seconds"),
    ):
        if wrong.any():
            row = wrong.arg_max() or 0
            raise CandleError(
                f"row {row}: time must be in milliseconds since 1970, found {time[row]}, which looks like {unit}; "
                f"convert it, {IMPORT_IT}"
            )
    return found.to_numpy()


def _numbers(column: "pl.Series") -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    import polars as pl  # noqa: PLC0415  live runs without it

    _forbid_nulls(column)
    try:
        return column.cast(pl.Float64).to_numpy()
    except pl.exceptions.PolarsError:
        if column.dtype != pl.String:
            raise CandleError(f"{column.name} must be numbers, found {column.dtype}; convert it") from None
        row = column.cast(pl.Float64, strict=False).is_null().arg_max() or 0
        raise CandleError(f"row {row}: {column.name} must be a number, found {column[row]!r}; correct the row") from None


def _forbid_nulls(column: "pl.Series") -> None:
    if column.null_count():
        row = column.is_null().arg_max()
        raise CandleError(f"row {row}: {column.name} must have a value, found none; correct or drop the row")
