"""Features as a file for other tools."""

from pathlib import Path

import polars as pl

from crpbot.dataset.features.compute import Features
from crpbot.disk import whole_file
from crpbot.market.candles import Candles
from crpbot.market.files import write_parquet


def write_features(features: Features, candles: Candles, path: Path) -> None:
    """Write Parquet with `time` (timestamp, ms, UTC) and then the features in order, float64."""
    columns = {"time": candles.time[features.rows]}
    columns.update(zip(features.names, features.values.T, strict=True))
    frame = pl.DataFrame(columns).with_columns(pl.col("time").cast(pl.Datetime("ms", "UTC")))
    with whole_file(path) as partial:
        write_parquet(frame, partial)
