"""Websockets of three exchanges on loopback, beside the REST of `venues`: what they send is the candles of the same house.

The messages are those in the comments of ccxt.pro's parsers (4.5.90) and of the venues' documentation; there is no capture of
real traffic.
"""

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from threading import Thread

from aiohttp import WSMsgType, web
from venues import House

from crpbot.market.candles import MINUTE

Event = tuple[int, str, object]  # time in milliseconds, symbol ("" for everybody), message
SHARES = ((100, 0.0), (20_000, 0.3), (40_000, 0.8), (59_990, 1.0))
"""When in its minute a candle changes, and how much of it has happened by then."""


class Station:
    """A venue's websocket. It sends when it is played; what was due in between, by the house's clock, it sends then.

    Attributes:
        doubled: whether each message is sent twice.
        shuffled: how often neighbours of half a second change places, by chance, also over the end of a minute.
        muted: whether nothing is sent any more, while the line stays open.
        refusals: how many of the next lines are refused.
        opened: how many lines there were.
        subscribed: how many are listening now.
        said: when the last message about each symbol was due.

    """

    def __init__(self, house: House, venue: str, seed: int) -> None:
        self.house, self.venue = house, venue
        self.doubled = self.muted = False
        self.shuffled = self.refusals = self.opened = 0
        self.played = house.now()
        self.said: dict[str, int] = {}
        self._chance = random.Random(seed)  # noqa: S311
        self._lines: dict[web.WebSocketResponse, set[str]] = {}
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = 0
        self.start()

    @property
    def address(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def subscribed(self) -> int:
        return sum(bool(symbols) for symbols in self._lines.values())

    def start(self) -> None:
        self._do(self._start())

    def stop(self) -> None:
        """Take the server down; `start` brings it back at the same address."""
        self.cut()
        self._do(self._runner.cleanup())

    def end(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Break all lines without a word."""
        self._do(self._cut())

    def say(self, text: str) -> None:
        """Send a message, whatever it may be, to everybody."""
        self._do(self._send_all(text))

    def play(self, milliseconds: int) -> None:
        """Let so much time pass, and send what is due."""
        until = self.house.now() + milliseconds
        events = sorted(self._events(self.played, until), key=lambda event: event[0])
        for _ in range(self.shuffled):
            place = self._chance.randrange(max(len(events) - 1, 1))
            pair = events[place : place + 2]
            if pair and abs(pair[-1][0] - pair[0][0]) <= 500:
                events[place : place + 2] = pair[::-1]
        for event in events:
            self.house.now.advance(event[0] - self.house.now())
            if not self.muted:
                self._do(self._send(event))
        self.house.now.advance(until - self.house.now())
        self.played = until

    def _events(self, since: int, until: int) -> Iterator[Event]:
        """Yield what happens after `since`, up to and with `until`."""
        first = since // MINUTE * MINUTE - MINUTE
        for symbol, candles in self.house.markets.items():
            for time, *numbers in zip(
                *(getattr(candles, name).tolist() for name in ("time", "open", "high", "low", "close", "volume")), strict=True
            ):
                if first <= time <= until:
                    for event in SPEECH[self.venue](symbol, time, *numbers):
                        if since < event[0] <= until:
                            yield event
        for second in range(since // 1_000 // 5 * 5 + 5, until // 1_000 + 1, 5):
            yield from BEATS[self.venue](self.house, second * 1_000)

    # -- in the thread of the server

    def _do(self, coroutine) -> object:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._line)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _line(self, request: web.Request) -> web.StreamResponse:
        self.opened += 1
        if self.refusals:
            self.refusals -= 1
            return web.Response(status=503)
        line = web.WebSocketResponse()
        await line.prepare(request)
        line.request_of = request
        self._lines[line] = set()
        try:
            async for message in line:
                if message.type == WSMsgType.TEXT:
                    for answer in HEARS[self.venue](self.house, self._lines[line], json.loads(message.data)):
                        await line.send_str(json.dumps(answer))
        finally:
            self._lines.pop(line, None)
        return line

    async def _cut(self) -> None:
        for line in list(self._lines):
            if line.request_of.transport is not None:
                line.request_of.transport.abort()
        self._lines.clear()

    async def _send(self, event: Event) -> None:
        for line, symbols in list(self._lines.items()):
            if event[1] in symbols or (not event[1] and symbols):
                self.said[event[1]] = event[0]
                for _ in range(1 + self.doubled):
                    with suppress(ConnectionError):
                        await line.send_str(json.dumps(event[2]))

    async def _send_all(self, text: str) -> None:
        for line in list(self._lines):
            with suppress(ConnectionError):
                await line.send_str(text)


@contextmanager
def sending(house: House, venue: str, *, seed: int = 7) -> Iterator[Station]:
    station = Station(house, venue, seed)
    try:
        yield station
    finally:
        station.end()


def iso(milliseconds: int, digits: str = "") -> str:
    text = datetime.fromtimestamp(milliseconds / 1_000, tz=UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + digits + "Z"


# -- Coinbase Exchange: trades, and a heartbeat for each product


def matches(symbol: str, time: int, first: float, high: float, low: float, last: float, volume: float) -> Iterator[Event]:
    for number, ((after, _), price) in enumerate(zip(SHARES, (first, high, low, last), strict=True)):
        yield (
            time + after,
            symbol,
            {
                "type": "match",
                "trade_id": time // MINUTE * 4 + number,
                "maker_order_id": "0f358725-2134-435e-be11-753912a326e0",
                "taker_order_id": "252b7002-87a3-425c-ac73-f5b9e23f3caf",
                "side": "sell",
                "size": repr(volume / 4),
                "price": repr(price),
                "product_id": symbol,
                "sequence": time // MINUTE * 10 + number,
                "time": iso(time + after, "814"),
            },
        )


def coinbase_beats(house: House, time: int) -> Iterator[Event]:
    for symbol in house.markets:
        beat = {"type": "heartbeat", "sequence": 90, "last_trade_id": 20, "product_id": symbol, "time": iso(time, "000")}
        yield time, symbol, beat


def coinbase_hears(house: House, symbols: set[str], message: dict) -> Iterator[object]:
    if unknown := [name for name in message["product_ids"] if name not in house.markets]:
        yield {"type": "error", "message": "Failed to subscribe", "reason": f"{unknown[0]} is not a valid product"}
        return
    symbols |= set(message["product_ids"])
    yield {"type": "subscriptions", "channels": [{"name": n, "product_ids": sorted(symbols)} for n in message["channels"]]}


# -- Binance: candles as they grow, and `x` when one has closed


def so_far(share: float, first: float, high: float, low: float, last: float, volume: float) -> tuple[float, ...]:
    if share == 1.0:
        return first, high, low, last, volume
    return first, first + share * (high - first), first - share * (first - low), first, share * volume


def klines(symbol: str, time: int, *numbers: float) -> Iterator[Event]:
    for after, share in (*SHARES[:-1], (MINUTE + 40, 1.0)):
        names = dict(zip("ohlcv", map(repr, so_far(share, *numbers)), strict=True))
        market = symbol.replace("-USD", "USDT")
        line = {"t": time, "T": time + MINUTE - 1, "s": market, "i": "1m", **names, "n": 16, "x": share == 1.0, "q": "0"}
        yield time + after, symbol, {"e": "kline", "E": time + after, "s": market, "k": line}


def binance_hears(house: House, symbols: set[str], message: dict) -> Iterator[object]:
    names = {symbol.replace("-USD", "usdt").lower() + "@kline_1m": symbol for symbol in house.markets}
    symbols |= {names[name] for name in message["params"] if name in names}
    yield {"result": None, "id": message["id"]}


# -- Kraken: candles as they grow, without a word when one has closed


def ohlc(symbol: str, time: int, *numbers: float) -> Iterator[Event]:
    for after, share in SHARES:
        row = {
            "symbol": symbol.replace("-", "/"),
            **dict(zip(("open", "high", "low", "close", "volume"), so_far(share, *numbers), strict=True)),
            "trades": 12,
            "interval_begin": iso(time, "000000"),
            "interval": 1,
            "timestamp": iso(time + MINUTE, "000"),
        }
        yield (
            time + after,
            symbol,
            {"channel": "ohlc", "type": "update", "timestamp": iso(time + after, "394914"), "data": [row]},
        )


def kraken_hears(house: House, symbols: set[str], message: dict) -> Iterator[object]:
    if message["method"] == "ping":
        yield {"method": "pong", "time_in": iso(house.now()), "time_out": iso(house.now())}
        return
    for pair in message["params"]["symbol"]:
        symbol = pair.replace("/", "-")
        known = symbol in house.markets
        symbols |= {symbol} if known else set()
        result = {"channel": "ohlc", "interval": 1, "snapshot": True, "symbol": pair, "warnings": []}
        yield {"method": "subscribe", "req_id": message["req_id"], "success": known, "result": result}


HEARS: dict[str, Callable[[House, set[str], dict], Iterator[object]]] = {
    "coinbase": coinbase_hears,
    "binance": binance_hears,
    "kraken": kraken_hears,
}
SPEECH: dict[str, Callable[..., Iterator[Event]]] = {"coinbase": matches, "binance": klines, "kraken": ohlc}
BEATS: dict[str, Callable[[House, int], Iterator[Event]]] = {
    "coinbase": coinbase_beats,
    "binance": lambda *_: iter(()),
    "kraken": lambda _, time: iter([(time, "", {"channel": "heartbeat"})]),
}
