"""Which rows somebody used for what, as a table: what no file of others tells."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from crpbot.errors import CandleError, DatasetError
from crpbot.market.files import check_symbol, milliseconds, read_frame
from crpbot.quality.audit.pipeline import Blocks

NAMES = ("train", "calibration", "test")


def read_rows(path: Path, *, symbol: str | None) -> Mapping[str, Blocks]:
    """Read a table with the columns `time`, `block` (train, calibration or test) and `symbol`; blocks by symbol.

    Args:
        path: of a Parquet or CSV file; `time` is the open time of each row's candle, as in files of candles.
        symbol: of all rows, where the file has no such column.

    Raises:
        DatasetError: a column is missing or holds something else.

    """
    if not path.is_file():
        raise DatasetError(f"the rows must be in a file, found nothing at {path}; check the path")
    try:
        frame = read_frame(path)
        missing = [name for name in ("time", "block") if name not in frame.columns]
        if "symbol" not in frame.columns:
            missing += [] if symbol else ["symbol"]
            frame = frame.with_columns(symbol=pl.lit(symbol))
        if missing:
            raise DatasetError(
                f"{path}: rows need the columns time, block and symbol; missing {', '.join(missing)}, found "
                f"{', '.join(frame.columns)}; rename or add them"
            )
        frame = frame.with_columns(time=pl.Series(milliseconds(frame["time"])), block=pl.col("block").cast(pl.String))
    except CandleError as error:
        raise DatasetError(f"{path}: {error}") from None
    except pl.exceptions.PolarsError as error:
        raise DatasetError(f"{path}: block must be text, found {error}; correct it") from None
    if frame.is_empty():
        raise DatasetError(f"{path} must name at least one row, found none; write which rows were used for what")
    unknown = set(frame["block"].to_list()) - set(NAMES)
    if unknown:
        raise DatasetError(f"{path}: block must be one of {', '.join(NAMES)}, found {min(map(str, unknown))!r}; correct it")
    parts = frame.partition_by("symbol", as_dict=True)
    return {check_symbol(str(name)): Blocks(**{block: _times(part, block) for block in NAMES}) for (name,), part in parts.items()}


def _times(frame: pl.DataFrame, block: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.unique(frame.filter(pl.col("block") == block)["time"].to_numpy())
