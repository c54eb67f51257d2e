"""Candles for the charts, as columns."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query, Request

from crpbot.market.files import SYMBOL
from crpbot.web.refusal import NOT_FOUND, REFUSED
from crpbot.web.render import house_of

router = APIRouter()
LATEST = 1 << 53
"""Times beyond are none: a number of JavaScript ends there."""
Symbol = Annotated[str, Path(pattern=f"^{SYMBOL.pattern}$", description="of a market, like BTC-USD")]
Moment = Annotated[int, Query(ge=0, le=LATEST, description="milliseconds of UTC")]


@dataclass(frozen=True, slots=True, kw_only=True)
class CandleColumns:
    """Candles of a market, oldest first; each column has one number a candle.

    Attributes:
        symbol: of the market.
        time: when each opened, in milliseconds of UTC.
        open, high, low, close: prices in quote currency.
        volume: in base currency.
        more: whether there are older ones.

    """

    symbol: str
    time: list[int]
    open: list[float]
    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[float]
    more: bool


@router.get("/api/candles/{symbol}", tags=["candles"], responses=REFUSED | NOT_FOUND)
def candles(
    request: Request,
    symbol: Symbol,
    count: Annotated[int, Query(ge=1, le=10_000, description="at most so many")] = 1_500,
    before: Moment | None = None,
) -> CandleColumns:
    """Return the newest candles of a market, or the newest of those that opened before a moment."""
    house = house_of(request)
    if symbol not in house.symbols():
        raise HTTPException(404, f"a market must be one of those that this home knows, found {symbol}; see /api/overview")
    found = house.candles(symbol, count=count + 1, before=before)
    shown = found[-count:]
    return CandleColumns(
        symbol=symbol,
        time=shown.time.tolist(),
        open=shown.open.tolist(),
        high=shown.high.tolist(),
        low=shown.low.tolist(),
        close=shown.close.tolist(),
        volume=shown.volume.tolist(),
        more=len(found) > count,
    )
