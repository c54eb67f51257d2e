"""Four exchanges on loopback, for ccxt to talk to over real HTTP: one server, since their paths are all different.

What is written here about paths, parameters, limits and forms comes from the venues' documentation and from ccxt's own parsers
and the samples in their comments (4.5.90); there is no capture of real traffic. It is ccxt alone that says: the order of the
columns, that coinbase's numbers are JSON numbers and all others' are strings, that coinbase's `end` is inclusive, and that
Advanced Trade is asked for one candle more than a page. What no source says (whether Advanced Trade's `end` is inclusive) can be
switched, and the tests try both.
"""

import json
import math
import random
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from urllib.parse import parse_qs, urlsplit

from crpbot.live.clock import SystemClock
from crpbot.market.candles import MINUTE, Candles

FAULTS = ("limited", "down", "cut", "malformed", "page", "empty", "garbled", "hollow")
"""429 with Retry-After · 503 · the line cut in the middle of the body · and, with status 200: JSON that ends too soon · HTML ·
nothing · what is no gzip and says that it is · a list of one row with nothing in it. Two more only by `script`: "hang", no answer
until `House.release`, and "drip", one byte after the other until then."""
RETRY_AFTER = 2
INCREMENTS = {"price_increment": "0.01", "base_increment": "0.00000001", "quote_min_size": "1"}
KRAKEN_NAMES = {"BTC": "XXBT", "ETH": "XETH", "USD": "ZUSD"}

Bar = tuple[int, float, float, float, float, float]
Query = Mapping[str, str]
Reply = tuple[int, object]


class Hands:
    """A clock that stands until somebody moves it: calling it reads it, in milliseconds of UTC."""

    def __init__(self, start: int) -> None:
        self._now, self._lock = start, Lock()

    def __call__(self) -> int:
        with self._lock:
            return self._now

    def advance(self, by: int) -> int:
        """Move it and return what it says then; it never goes back."""
        with self._lock:
            self._now += max(by, 0)
            return self._now


class Visitor:
    """A clock for who lives with a house, ahead of its clock by some milliseconds; to sleep moves both."""

    def __init__(self, house: "House", *, ahead: int = 0) -> None:
        self._house, self._ahead = house, ahead

    def now(self) -> int:
        return self._house.now() + self._ahead

    def sleep(self, seconds: float) -> None:
        self._house.now.advance(math.ceil(1_000 * seconds))


class Woken(SystemClock):
    """The clock of a house for who waits in real time, `nap` seconds at a time, and is woken or stopped."""

    def __init__(self, house: "House", *, ahead: int = 0, nap: float = 0.02) -> None:
        super().__init__()
        self._house, self._ahead, self._nap = house, ahead, nap

    def now(self) -> int:
        return self._house.now() + self._ahead

    def sleep(self, seconds: float) -> None:
        super().sleep(min(seconds, self._nap))


@dataclass
class House:
    """What the server knows and has seen.

    Attributes:
        markets: all candles that there ever will be, by symbol.
        now: the venue's clock, in milliseconds, as the header `Date` tells it, too. The candle of this minute changes until it
            closes; later ones are not there yet.
        faults: share of the requests for candles that fail, each in one of the ways of `FAULTS`.
        chance: decides which.
        script: faults of the next requests for candles, in order, before chance decides.
        market_script: faults of the next requests for markets.
        spoiled: bars to send in place of others, by symbol and time.
        late: milliseconds after its close at which a candle is published first, also as an unfinished one, by symbol and time.
        absent: candles that are never published, by symbol and time.
        doubled: whether every bar is sent twice.
        inclusive: whether Advanced Trade counts the end in.
        requests: how many of each kind came.
        asked: symbol, first and last minute of each request for candles.
        failed: how many requests failed on purpose.
        connections: how many there were.
        release: ends what hangs.

    """

    markets: Mapping[str, Candles]
    now: Callable[[], int]
    faults: float
    chance: random.Random
    script: deque[str] = field(default_factory=deque)
    market_script: deque[str] = field(default_factory=deque)
    spoiled: dict[tuple[str, int], Bar] = field(default_factory=dict)
    late: dict[tuple[str, int], int] = field(default_factory=dict)
    absent: set[tuple[str, int]] = field(default_factory=set)
    doubled: bool = False
    inclusive: bool = True
    requests: Counter[str] = field(default_factory=Counter)
    asked: list[tuple[str, int, int]] = field(default_factory=list)
    failed: int = 0
    connections: int = 0
    release: Event = field(default_factory=Event)
    lock: Lock = field(default_factory=Lock)
    address: str = ""

    def bars(self, symbol: str, start: int, last: int) -> list[Bar]:
        """Return the bars that opened from `start` to `last`, both inclusive, oldest first."""
        self.asked.append((symbol, start, last))
        candles, now = self.markets[symbol], self.now()
        low, high = candles.time.searchsorted([start, min(last, now) + 1])
        columns = (candles.time, candles.open, candles.high, candles.low, candles.close, candles.volume)
        rows = [
            self.spoiled.get((symbol, int(row[0])), row)
            for row in zip(*(c[low:high].tolist() for c in columns), strict=True)
            if self.published(symbol, int(row[0]), now)
        ]
        bars = [row if row[0] + MINUTE <= now else unfinished(row, (now - row[0]) / MINUTE) for row in rows]
        return [bar for bar in bars for _ in range(1 + self.doubled)]

    def published(self, symbol: str, time: int, now: int) -> bool:
        """Return whether the venue shows a candle, finished or not."""
        late = self.late.get((symbol, time))
        return (symbol, time) not in self.absent and (late is None or time + MINUTE + late <= now)

    def fault(self, kind: str) -> str:
        """Return how the next request of a kind fails; "" when it does not."""
        with self.lock:
            if kind != "candles":
                found = self.market_script.popleft() if self.market_script else ""
            elif self.script:
                found = self.script.popleft()
            else:
                found = self.chance.choice(FAULTS) if self.chance.random() < self.faults else ""
            self.failed += bool(found)
            return found


def unfinished(bar: Bar, share: float) -> Bar:
    """Return what a candle looks like before it closes."""
    time, first, high, low, _, volume = bar
    return (time, first, first + share * (high - first), first - share * (first - low), first, share * volume)


@contextmanager
def serving(
    markets: Mapping[str, Candles], now: Callable[[], int], *, faults: float = 0.0, seed: int = 31, clock: bool = False
) -> Iterator[House]:
    """Run the server until the block ends. With the default seed, also a share of 0.02 meets the first request.

    With `clock`, the house has a clock of its own, which starts at `now()` and moves by `POST /test/clock?advance=MS` only, or by
    `house.now.advance(ms)`; both, and `GET /test/clock`, tell its time, also to another process: `{"now": ms}`.
    """
    house = House(markets, Hands(now()) if clock else now, faults, random.Random(seed))  # noqa: S311
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"house": house}))
    server.daemon_threads = True
    server.block_on_close = False  # clients keep their lines open
    house.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield house
    finally:
        house.release.set()
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    house: House

    def setup(self) -> None:
        super().setup()
        with self.house.lock:
            self.house.connections += 1

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        for kind, pattern, answer in ROUTES:
            if match := re.fullmatch(pattern, parts.path):
                self.house.requests[kind] += 1
                fault = self.house.fault(kind)
                if fault in {"limited", "down"}:
                    self.send(*refused(fault, parts.path))
                else:
                    self.send(*answer(self.house, query, *match.groups()), fault=fault)
                return
        self.send(404, {"message": f"no such path: {self.path}"})

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if parts.path == "/test/clock" and isinstance(self.house.now, Hands):
            self.send(200, {"now": self.house.now.advance(int(parse_qs(parts.query)["advance"][0]))})
        else:
            self.send(404, {"message": f"no such path: {self.path}"})

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(self.house.now() / 1_000 if timestamp is None else timestamp, usegmt=True)

    def send(self, status: int, plain: object, *, fault: str = "") -> None:
        body = json.dumps(plain).encode()
        if fault == "malformed":
            body = body[: len(body) * 2 // 3]
        if fault == "page":
            body = b"<html><body>We will be right back</body></html>"
        body = {"empty": b"", "hollow": b"[[]]"}.get(fault, body)
        self.send_response(status)
        if fault == "garbled":
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Type", "text/html" if fault == "page" else "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if status == 429:
            self.send_header("Retry-After", str(RETRY_AFTER))
        self.end_headers()
        if fault in {"hang", "drip"}:
            for byte in body if fault == "drip" else b"":
                self.wfile.write(bytes([byte]))
                if self.house.release.wait(0.02):
                    break
            self.house.release.wait(30)
            self.close_connection = True
            return
        self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)
        self.close_connection = fault == "cut"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def refused(fault: str, path: str) -> Reply:
    """Return how each venue says that there were too many requests, or that it is down."""
    if path.startswith("/0/"):  # kraken says everything with status 200
        return 200, {"error": ["EAPI:Rate limit exceeded" if fault == "limited" else "EService:Unavailable"]}
    if fault == "down":
        return 503, {"error": "unavailable", "message": "Service Unavailable"}
    if path.startswith("/api/v3/brokerage"):
        return 429, {"errors": [{"id": "rate_limit_exceeded", "message": "Too many requests"}]}
    return 429, {"code": -1003, "msg": "Too many requests.", "message": "Public rate limit exceeded"}


# -- Coinbase Exchange: numbers, newest first, [seconds, LOW, HIGH, open, close, volume]


def exchange_candles(house: House, query: Query, symbol: str) -> Reply:
    if symbol not in house.markets:
        return 404, {"message": "NotFound"}
    if query.get("granularity") != "60":
        return 400, {"message": "Unsupported granularity"}
    now = house.now()
    if "start" in query and "end" in query:
        start, last = (int(datetime.fromisoformat(query[name]).timestamp() * 1000) for name in ("start", "end"))
    else:
        start, last = now - 299 * MINUTE, now
    if (last - start) // MINUTE + 1 > 300:
        text = "granularity too small for the requested time range. Count of aggregations requested exceeds 300"
        return 400, {"message": text}
    bars = house.bars(symbol, start, last)
    return 200, [[time // 1000, low, high, first, close, volume] for time, first, high, low, close, volume in reversed(bars)]


def exchange_products(house: House, _: Query) -> Reply:
    return 200, [
        {
            "id": symbol,
            **pair(symbol, "base_currency", "quote_currency"),
            "quote_increment": "0.01",
            "base_increment": "0.00000001",
            "min_market_funds": "1",
            "status": "online",
        }
        for symbol in house.markets
    ]


def exchange_currencies(house: House, _: Query) -> Reply:
    names = sorted({name for symbol in house.markets for name in symbol.split("-")})
    return 200, [
        {"id": name, "name": name, "min_size": "0.01", "status": "online", "max_precision": "0.01", "details": {"type": "crypto"}}
        for name in names
    ]


# -- Coinbase Advanced Trade: strings, newest first, at most 350


def advanced_candles(house: House, query: Query, symbol: str) -> Reply:
    if symbol not in house.markets:
        return 404, {
            "error": "NOT_FOUND",
            "error_details": "valid product_id is required",
            "message": "valid product_id is required",
        }
    start, end = int(query["start"]) * 1000, int(query["end"]) * 1000
    if query["granularity"] != "ONE_MINUTE" or (end - start) // MINUTE > 350:
        text = "start and end argument is invalid - number of candles requested should be less than 350"
        return 400, {"error": "INVALID_ARGUMENT", "error_details": text, "message": text}
    bars = house.bars(symbol, start, end if house.inclusive else end - 1)
    names = ("open", "high", "low", "close", "volume")
    return 200, {
        "candles": [
            {"start": str(bar[0] // 1000), **{name: repr(number) for name, number in zip(names, bar[1:], strict=True)}}
            for bar in reversed(bars)
        ]
    }


def advanced_products(house: House, query: Query) -> Reply:
    if query.get("product_type") == "FUTURE":
        return 200, {"products": [], "num_products": 0}
    products = [
        {"product_id": symbol, **pair(symbol, "base_currency_id", "quote_currency_id"), "product_type": "SPOT"} | INCREMENTS
        for symbol in house.markets
    ]
    return 200, {"products": products, "num_products": len(products)}


# -- Binance: strings, oldest first, 500 unless told, 1,000 at most; dollars are USDT


def binance_candles(house: House, query: Query) -> Reply:
    symbols = {symbol.replace("-USD", "USDT"): symbol for symbol in house.markets}
    if query["symbol"] not in symbols:
        return 400, {"code": -1121, "msg": "Invalid symbol."}
    if query["interval"] != "1m":
        return 400, {"code": -1120, "msg": "Invalid interval."}
    limit = min(int(query.get("limit", 500)), 1000) * (1 + house.doubled)
    start, last = int(query.get("startTime", 0)), int(query.get("endTime", house.now()))
    bars = house.bars(symbols[query["symbol"]], start, last)
    return 200, [
        [bar[0], *map(repr, bar[1:]), bar[0] + MINUTE - 1, "0", 1, "0", "0", "0"]
        for bar in (bars[:limit] if "startTime" in query else bars[-limit:])
    ]


def binance_information(house: House, _: Query) -> Reply:
    symbols = [
        {
            "symbol": symbol.replace("-USD", "USDT"),
            "baseAsset": symbol.split("-")[0],
            "quoteAsset": "USDT",
            "status": "TRADING",
            "permissions": ["SPOT"],
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000", "tickSize": "0.01"},
                {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000", "stepSize": "0.00001"},
                {"filterType": "NOTIONAL", "minNotional": "5", "applyMinToMarket": True, "maxNotional": "9000000"},
            ],
        }
        for symbol in house.markets
    ]
    return 200, {"timezone": "UTC", "serverTime": house.now(), "symbols": symbols}


# -- Kraken: strings, oldest first, after `since`, never more than the newest 720, the unfinished one always among them


def kraken_candles(house: House, query: Query) -> Reply:
    symbols = {kraken_name(symbol): symbol for symbol in house.markets}
    if query["pair"] not in symbols:
        return 200, {"error": ["EQuery:Unknown asset pair"]}
    now = house.now()
    start = max(int(query.get("since", 0)) * 1000 + 1, now // MINUTE * MINUTE - 719 * MINUTE)
    rows = [
        [bar[0] // 1000, *map(repr, bar[1:5]), repr(bar[4]), repr(bar[5]), 1]
        for bar in house.bars(symbols[query["pair"]], start, now)
    ]
    last = rows[-2][0] if len(rows) > 1 else 0
    return 200, {"error": [], "result": {query["pair"]: rows, "last": last}}


def kraken_pairs(house: House, _: Query) -> Reply:
    pairs = {}
    for symbol in house.markets:
        base, quote = (KRAKEN_NAMES.get(name, name) for name in symbol.split("-"))
        names = {"altname": symbol.replace("-", ""), "wsname": symbol.replace("-", "/"), "base": base, "quote": quote}
        pairs[kraken_name(symbol)] = {**names, "pair_decimals": 1, "lot_decimals": 8, "costmin": "0.5", "status": "online"}
    return 200, {"error": [], "result": pairs}


def kraken_assets(house: House, _: Query) -> Reply:
    names = {name for symbol in house.markets for name in symbol.split("-")}
    assets = {KRAKEN_NAMES.get(name, name): {"aclass": "currency", "altname": name, "decimals": 8} for name in sorted(names)}
    return 200, {"error": [], "result": assets}


def kraken_name(symbol: str) -> str:
    return "".join(KRAKEN_NAMES.get(name, name) for name in symbol.split("-"))


def pair(symbol: str, base: str, quote: str) -> dict[str, str]:
    return dict(zip((base, quote), symbol.split("-"), strict=True))


ROUTES: tuple[tuple[str, str, Callable[..., Reply]], ...] = (
    ("candles", r"/products/([^/]+)/candles", exchange_candles),
    ("markets", r"/products", exchange_products),
    ("markets", r"/currencies", exchange_currencies),
    ("time", r"/time", lambda house, _: (200, {"epoch": house.now() / 1000})),
    ("candles", r"/api/v3/brokerage/market/products/([^/]+)/candles", advanced_candles),
    ("markets", r"/api/v3/brokerage/market/products", advanced_products),
    ("time", r"/api/v3/brokerage/time", lambda house, _: (200, {"epochMillis": str(house.now())})),
    ("candles", r"/api/v3/klines", binance_candles),
    ("markets", r"/api/v3/exchangeInfo", binance_information),
    ("time", r"/api/v3/time", lambda house, _: (200, {"serverTime": house.now()})),
    ("candles", r"/0/public/OHLC", kraken_candles),
    ("markets", r"/0/public/AssetPairs", kraken_pairs),
    ("markets", r"/0/public/Assets", kraken_assets),
    ("clock", r"/test/clock", lambda house, _: (200, {"now": house.now()})),
    ("time", r"/0/public/Time", lambda house, _: (200, {"error": [], "result": {"unixtime": house.now() // 1000}})),
)
