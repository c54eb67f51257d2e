"""The bundled real candles: a year of BTC-USD and ETH-USD, two segments of SOL-USD.

The files hold whole ticks, not floats: minutes since the row before, open less the close before, close less open, the
two wicks, and
the volume. Small integers compress to half the size, and `ticks / 10**decimals` is the exchange's number to the last bit.
Provenance and terms: `README.md` beside this file; the code's licence does not cover the data.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crpbot.market.candles import MINUTE, Candles

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class Precision:
    """How many decimals the exchange gives: of prices, in quote currency, and of volumes, in base currency."""

    price: int
    volume: int


SAMPLE: Mapping[str, Precision] = {
    "BTC-USD": Precision(price=2, volume=6),
    "ETH-USD": Precision(price=2, volume=5),
    "SOL-USD": Precision(price=4, volume=3),
}


def read_sample(symbol: str) -> Candles:
    """Return the bundled candles of `symbol`, one of `SAMPLE`."""
    import polars as pl  # noqa: PLC0415  live runs without it

    with as_file(files(__package__) / f"{symbol}.parquet") as path:
        return unpack(pl.read_parquet(path), SAMPLE[symbol])


def pack(candles: Candles, precision: Precision) -> "pl.DataFrame":
    """Turn candles into the columns of the bundled files; `unpack` gives the same bits back.

    Raises:
        ValueError: a price or a volume has more decimals than `precision`, so that packing would change it.

    """
    import polars as pl  # noqa: PLC0415  live runs without it

    first, high, low, last = (
        np.rint(price * 10**precision.price).astype(np.int64)
        for price in (candles.open, candles.high, candles.low, candles.close)
    )
    minutes = candles.time // MINUTE
    frame = pl.DataFrame(
        {
            "minutes": np.diff(minutes, prepend=0).astype(np.int32),
            "gap": (first - np.concatenate([[0], last[:-1]])).astype(np.int32),
            "body": (last - first).astype(np.int32),
            "upper_wick": (high - np.maximum(first, last)).astype(np.int32),
            "lower_wick": (np.minimum(first, last) - low).astype(np.int32),
            "volume": np.rint(candles.volume * 10**precision.volume).astype(np.int64),
        }
    )
    if unpack(frame, precision).sha256 != candles.sha256:
        raise ValueError(f"prices and volumes must have at most {precision} decimals; raise the precision")
    return frame


def unpack(frame: "pl.DataFrame", precision: Precision) -> Candles:
    """Turn the columns of a bundled file into candles."""
    column = {name: frame[name].to_numpy().astype(np.int64) for name in frame.columns}
    last = np.cumsum(column["gap"] + column["body"])
    first = last - column["body"]
    high = np.maximum(first, last) + column["upper_wick"]
    low = np.minimum(first, last) - column["lower_wick"]

    def price(ticks: NDArray[np.int64]) -> NDArray[np.float64]:
        return ticks / 10.0**precision.price

    volume = column["volume"] / 10.0**precision.volume
    return Candles(np.cumsum(column["minutes"]) * MINUTE, price(first), price(high), price(low), price(last), volume)
