"""How each exchange is asked for 1-minute candles, on ccxt's plain endpoints."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from crpbot.errors import CandleError
from crpbot.market.candles import MINUTE

Client: TypeAlias = Any  # of ccxt, or ccxt itself
Answer: TypeAlias = Any  # JSON


def printable_address(address: str | None) -> str | None:
    """Return an address that may be printed.

    Raises:
        CandleError: it carries a password.

    """
    if address is not None and "@" in address:
        raise CandleError("an address must not carry a password, since addresses are printed; found one; leave it out")
    return address


@dataclass(frozen=True, slots=True)
class Venue:
    """How one exchange is asked for 1-minute candles.

    Attributes:
        client: the name of ccxt's class.
        address: the name in ccxt's `urls["api"]` of where the requests go.
        path: what stands there after the host.
        clock: where it tells its time.
        page: most minutes that one request is answered for.
        ask: get the rows, as they come, from a client, the venue's name of the market and `[from, to)`; and maybe other minutes.
        market: the venue's name of a market in the dashed form; None where it follows no rule and has to be looked up.
        depth: minutes before now that can be had; None where there is no limit.
        list_of: ccxt's option `fetchMarkets` that lists the spot markets with one request; None where it has no such option.

    """

    client: str
    address: str
    path: str
    clock: str
    page: int
    ask: Callable[[Client, str, int, int], Answer]
    market: Callable[[str], str] | None = None
    depth: int | None = None
    list_of: Any = None


def _ask_coinbase(client: Client, market: str, start: int, stop: int) -> Answer:
    """Both ends are inclusive, and a range of more than 300 candles is refused."""
    first, last = client.iso8601(start), client.iso8601(stop - MINUTE)
    return client.publicGetProductsIdCandles({"id": market, "granularity": 60, "start": first, "end": last})


def _ask_coinbase_advanced(client: Client, market: str, start: int, stop: int) -> Answer:
    """Nothing says whether the end is inclusive: to ask for a candle more, as ccxt does, is right either way (350 may be had)."""
    query = {"product_id": market, "granularity": "ONE_MINUTE", "start": str(start // 1000), "end": str(stop // 1000)}
    return client.v3PublicGetBrokerageMarketProductsProductIdCandles(query)["candles"]


def _ask_binance(client: Client, market: str, start: int, stop: int) -> Answer:
    query = {"symbol": market, "interval": "1m", "startTime": start, "endTime": stop - 1, "limit": (stop - start) // MINUTE}
    return client.publicGetKlines(query)


def _ask_kraken(client: Client, market: str, start: int, _: int) -> Answer:
    """`since` is exclusive, and there is no end."""
    return client.publicGetOHLC({"pair": market, "interval": 1, "since": start // 1000 - 60})["result"][market]


def tether(symbol: str) -> str:
    """Return binance's name of a market, which has no dollars: that of BTC-USD is the one in USDT.

    >>> tether("BTC-USD"), tether("BTC-EUR")
    ('BTCUSDT', 'BTCEUR')
    """
    return symbol.replace("-", "") + "T" * symbol.endswith("-USD")


VENUES: Mapping[str, Venue] = {
    "coinbase": Venue("coinbaseexchange", "public", "", "https://api.exchange.coinbase.com/time", 300, _ask_coinbase, str),
    "coinbase-advanced": Venue(
        "coinbase",
        "rest",
        "",
        "https://api.coinbase.com/api/v3/brokerage/time",
        300,
        _ask_coinbase_advanced,
        str,
        list_of="fetchMarketsV3",
    ),
    "binance": Venue(
        "binance",
        "public",
        "/api/v3",
        "https://api.binance.com/api/v3/time",
        1000,
        _ask_binance,
        tether,
        list_of={"types": ["spot"]},
    ),
    # Of kraken's 720, one has not closed, and a minute may pass between our clock and its answer.
    "kraken": Venue("kraken", "public", "", "https://api.kraken.com/0/public/Time", 720, _ask_kraken, depth=718),
}
