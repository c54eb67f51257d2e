"""How venues speak by websocket: what they are told, and what their messages say. The line itself is ccxt.pro's.

The messages are those of ccxt's own parsers (4.5.90) and of the venues' documentation; there is no capture of real traffic. The
messages themselves are read, since ccxt's `watch_ohlcv` gives unfinished candles and drops the flag that says so.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from crpbot.market.candles import MINUTE
from crpbot.market.venues import Client, tether

Message: TypeAlias = Any  # JSON
_MOST = 1e30


@dataclass(frozen=True, slots=True)
class Bar:
    """A candle as it stands: open, high, low, close, volume; `final` where the venue says that it has closed."""

    market: str
    time: int
    numbers: tuple[float, ...]
    final: bool


@dataclass(frozen=True, slots=True)
class Trade:
    """One trade: milliseconds of UTC, the venue's number of it, price and size."""

    market: str
    time: int
    number: int
    price: float
    size: float


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What a message says: the venue's time in milliseconds of UTC, subscriptions that it answers, candles, trades.

    What only answers our own knocking is no sign that the stream is `alive`.
    """

    told: int | None = None
    agreed: int = 0
    bars: tuple[Bar, ...] = ()
    trades: tuple[Trade, ...] = ()
    alive: bool = True


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one venue is listened to.

    Attributes:
        client: the name of ccxt.pro's class.
        address: the names in ccxt's `urls["api"]`, one in the other, of where the line goes.
        path: what stands there after the host.
        market: the venue's name of a market in the dashed form.
        pair: ccxt's name of it.
        subscribe: ask for the messages, from a client and ccxt's names.
        agreements: how many answers follow, for so many markets.
        read: say what a message says.
        flags: whether the venue says which candle has closed; where it does not, one has closed when the venue's time is past it.

    """

    client: str
    address: tuple[str, ...]
    path: str
    market: Callable[[str], str]
    pair: Callable[[str], str]
    subscribe: Callable[[Client, Sequence[str]], Awaitable[Any]]
    agreements: Callable[[int], int]
    read: Callable[[Message], News]
    flags: bool


def _slash(symbol: str) -> str:
    return symbol.replace("-", "/")


def _tether_slash(symbol: str) -> str:
    return _slash(symbol) + "T" * symbol.endswith("-USD")


def _time(text: str) -> int:
    """Return milliseconds; venues write up to nine decimals of a second."""
    return int(datetime.fromisoformat(text).timestamp() * 1_000 + 0.001)


def _number(said: float | str) -> float:
    """Return a number of a market. One without end, or beyond all of them, cannot be added to others: the line is cut."""
    number = float(said)
    if not abs(number) <= _MOST:
        raise ValueError(f"a number of a market must be at most {_MOST:g}, found {number:g}")
    return number


async def _subscribe_coinbase(client: Client, pairs: Sequence[str]) -> None:
    """Trades; and a heartbeat each second, so that a quiet market and a dead line are two things."""
    await client.watch_trades_for_symbols(list(pairs), params={"channels": ["matches", "heartbeat"]})


def _read_coinbase(message: Message) -> News:
    kind = message.get("type")
    if kind == "subscriptions":
        return News(agreed=1)
    if kind == "heartbeat":
        return News(told=_time(message["time"]))
    if kind != "match":
        return News()
    time = _time(message["time"])
    price, size = _number(message["price"]), _number(message["size"])
    trade = Trade(str(message["product_id"]), time, int(message["trade_id"]), price, size)
    return News(told=time, trades=(trade,))


async def _subscribe_binance(client: Client, pairs: Sequence[str]) -> None:
    await client.watch_ohlcv_for_symbols([[pair, "1m"] for pair in pairs])


def _read_binance(message: Message) -> News:
    if message.get("e") != "kline":
        return News(agreed=int("id" in message and "error" not in message))
    line = message["k"]
    numbers = tuple(_number(line[name]) for name in "ohlcv")
    return News(told=int(message["E"]), bars=(Bar(str(line["s"]), int(line["t"]), numbers, bool(line["x"])),))


async def _subscribe_kraken(client: Client, pairs: Sequence[str]) -> None:
    """All with one message: ccxt sends one a second."""
    await client.watch_ohlcv(pairs[0], "1m", params={"params": {"symbol": list(pairs)}})


def _read_kraken(message: Message) -> News:
    if method := message.get("method"):  # a market that it refuses is answered as well; REST says what is wrong with it
        return News(agreed=int(method == "subscribe"), alive=method != "pong")
    if message.get("channel") != "ohlc":
        return News()
    names = ("open", "high", "low", "close", "volume")
    bars = tuple(
        Bar(
            str(row["symbol"]),
            _time(row["interval_begin"]) // MINUTE * MINUTE,
            tuple(_number(row[name]) for name in names),
            final=False,
        )
        for row in message["data"]
    )
    return News(told=_time(message["timestamp"]), bars=bars)


DIALECTS: Mapping[str, Dialect] = {
    "coinbase": Dialect(
        "coinbaseexchange", ("ws",), "", str, _slash, _subscribe_coinbase, lambda _: 1, _read_coinbase, flags=False
    ),
    "binance": Dialect(
        "binance", ("ws", "spot"), "/stream/ws", tether, _tether_slash, _subscribe_binance, lambda _: 1, _read_binance, flags=True
    ),
    "kraken": Dialect("kraken", ("ws", "publicV2"), "/v2", _slash, _slash, _subscribe_kraken, int, _read_kraken, flags=False),
}
