"""Candles from exchanges, through ccxt: only the minutes that are missing, only candles that have closed.

Addresses, error classes, rate limits and the reading of rows are ccxt's. The paging is ours, on ccxt's plain endpoints: its
`fetch_ohlcv` takes an answer that it cannot read for an empty one, and here an empty answer is a fact that is kept.
"""

import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib import import_module
from threading import Event, Lock
from typing import Any, Protocol, TypeVar

import numpy as np

from crpbot.errors import CandleError, ExchangeError
from crpbot.market.candles import MINUTE, Candles, utc
from crpbot.market.files import check_symbol
from crpbot.market.venues import VENUES, Client, Venue

TRIES = 8
"""How often a request is sent before we give up."""
_FIRST_WAIT, _LAST_WAIT = 0.5, 30.0
"""Seconds before the second try and the most before any; they double in between, times 0.5 to 1.5 by chance."""
_LONGEST_WAIT = 600.0
"""Seconds that a venue may ask for; a longer ban is an error, since somebody is waiting."""
_LATE = 5 * MINUTE
"""A venue may publish a closed minute late: one at the very end that is not there is called absent only after this long."""
_PASSING = {408, 418, 425, 429}  # HTTP statuses below 500 that are worth another try; 418 is binance's second 429

Span = tuple[int, int]
Row = Sequence[Any]  # time in milliseconds, open, high, low, close, volume, as ccxt reads them: nothing is checked yet
Result = TypeVar("Result")


class Store(Protocol):
    """Where candles are kept, such as `crpbot.market.lake.Lake`. Spans are `[from, to)` in milliseconds of UTC."""

    def missing(self, symbol: str, since: int, until: int) -> Sequence[Span]:
        """Return the runs of minutes that are neither held nor known to be absent at the venue, in order."""

    def add(self, symbol: str, candles: Candles, *, venue: str, asked: Span | None = None) -> None:
        """Merge candles; the other minutes of `asked` are known to be absent."""

    def lock(self, symbol: str) -> AbstractContextManager[None]:
        """Keep other processes from writing a symbol."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a symbol is: of the `of_rows` minutes that were missing, the venue has answered for `rows`, candle or none."""

    symbol: str
    rows: int
    of_rows: int
    rows_per_second: float


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What came of a symbol: candles that were added, and minutes that the venue was asked for and does not have."""

    symbol: str
    rows: int
    absent: int


def download(
    lake: Store,
    symbols: Sequence[str],
    *,
    venue: str,
    since: int,
    until: int,
    now: Callable[[], int],
    address: str | None = None,
    watch: Callable[[Progress], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    workers: int = 4,
) -> tuple[Downloaded, ...]:
    """Fill the lake with the closed candles of `[since, until)` that it lacks, and return what came, by symbol.

    Each page is kept as soon as it is there: an end at any moment loses one page a symbol, and another call goes on from there.
    The symbols are fetched side by side, and share the venue's rate limit. When one fails, the others stop after their page.

    Args:
        lake: where the candles go.
        symbols: in the dashed form.
        venue: a name of `VENUES`.
        since: first minute, in milliseconds of UTC.
        until: end, exclusive; what has not closed by now is left out.
        now: the clock, in milliseconds of UTC.
        address: scheme, host and port to ask instead of the venue's own.
        watch: told after each page, one call at a time.
        sleep: waits some seconds, at most one at a time, so that an interrupt is heard.
        workers: symbols at a time.

    Raises:
        ExchangeError: the venue or a market is unknown; or the venue refuses, fails `TRIES` times in a row, no longer has
            minutes that old, or sends a candle that cannot be. What was fetched before stays.
        CandleError: a symbol has another form, or the lake refuses.

    """
    if venue not in VENUES:
        raise ExchangeError(f"a venue must be one of {', '.join(VENUES)}; found {venue!r}; choose one of these")
    if since >= until:
        raise ExchangeError(f"a download must end after it starts, found {utc(since)} to {utc(until)}; swap them")
    symbols = [check_symbol(symbol) for symbol in dict.fromkeys(symbols)]
    if not any(lake.missing(symbol, since, min(until, _closed(now))) for symbol in symbols):
        return tuple(Downloaded(symbol, 0, 0) for symbol in symbols)
    over = Event()
    first = _client(VENUES[venue], address)
    pace = _pace(first.rateLimit / 1000, sleep, over)
    trip = _Trip(lake, venue, VENUES[venue], address, now, watch or (lambda _: None), Lock(), pace)
    markets = _markets(trip, first, symbols)
    with ThreadPoolExecutor(min(workers, len(symbols)), thread_name_prefix=venue) as pool:
        futures = [pool.submit(_fill, trip, symbol, markets[symbol], since, until) for symbol in symbols]
        try:
            ended, _ = wait(futures, return_when=FIRST_EXCEPTION)
            return tuple([future.result() for future in futures if future in ended])
        finally:
            over.set()
            for future in futures:
                future.cancel()


@dataclass(frozen=True, slots=True)
class _Pace:
    """When to send, in seconds: `take` waits for the next moment, `hold` puts it off for everybody, `rest` waits alone."""

    take: Callable[[float | None], None]
    hold: Callable[[float], None]
    rest: Callable[[float], None]


@dataclass(frozen=True, slots=True)
class _Trip:
    """What the symbols of one download share."""

    lake: Store
    name: str
    venue: Venue
    address: str | None
    now: Callable[[], int]
    watch: Callable[[Progress], object]
    turn: Lock
    pace: _Pace


def _fill(trip: _Trip, symbol: str, market: str, since: int, until: int) -> Downloaded:
    rows = absent = done = 0
    with trip.lake.lock(symbol):
        closed = _closed(trip.now)
        missing = trip.lake.missing(symbol, since, min(until, closed))
        total = _minutes(missing)
        if not total:
            return Downloaded(symbol, 0, 0)
        client, began = _client(trip.venue, trip.address), time.monotonic()
        client.throttle = trip.pace.take
        for spans in _pages(missing, trip.venue.page):
            answer = _fetch(trip, client, symbol, market, spans)
            closed = min(closed, _told(client))
            more_rows, more_absent = _keep(trip, symbol, spans, answer, closed)
            rows, absent, done = rows + more_rows, absent + more_absent, done + _minutes(spans)
            with trip.turn:
                trip.watch(Progress(symbol, done, total, done / max(time.monotonic() - began, 1e-9)))
    return Downloaded(symbol, rows, absent)


def _pages(missing: Sequence[Span], most: int) -> Iterator[list[Span]]:
    """Yield the spans that one request is for: the fewest pages of `most` minutes that cover all that is missing, in order.

    >>> list(_pages([(0, 120_000), (240_000, 480_000)], 5))
    [[(0, 120000), (240000, 300000)], [(300000, 480000)]]
    """
    page: list[Span] = []
    for begin, stop in missing:
        start = begin
        while start < stop:
            if page and start >= page[0][0] + most * MINUTE:
                yield page
                page = []
            end = min(stop, (page[0][0] if page else start) + most * MINUTE)
            page.append((start, end))
            start = end
    if page:
        yield page


def _fetch(trip: _Trip, client: Client, symbol: str, market: str, spans: Sequence[Span]) -> list[Row]:
    """Return the rows of the venue from the first to the last minute of `spans`, and maybe others, as ccxt reads them."""
    start, stop = spans[0][0], spans[-1][1]

    def ask() -> list[Row]:
        depth = trip.venue.depth
        if depth is not None and start < (oldest := _closed(trip.now) - depth * MINUTE):
            raise ExchangeError(
                f"{trip.name} must be asked for its most recent {trip.venue.page} minutes only, found {symbol} at {utc(start)}; "
                f"ask from {utc(oldest)} on, and take another venue, such as coinbase, or files for what is older"
            )
        rows = trip.venue.ask(client, market, start, stop)
        if not isinstance(rows, list) or not all(isinstance(row, list | dict) for row in rows):
            raise TypeError(f"no list of candles but {str(rows)[:100]!r}")
        read = [client.parse_ohlcv(row) for row in rows]
        if not all(isinstance(row[0], int) for row in read):
            raise TypeError("a candle without a time")
        return read

    return _insist(trip, client, f"{symbol} from {utc(start)}", ask)


def _keep(trip: _Trip, symbol: str, spans: Sequence[Span], rows: Sequence[Row], closed: int) -> tuple[int, int]:
    """Put what came into the lake, and return the number of candles and of absent minutes; all of it, or nothing."""
    settled = max([closed - _LATE, *(row[0] + MINUTE for row in rows if row[0] < closed)])
    spans = [(start, min(stop, closed)) for start, stop in spans if start < closed]  # the venue's clock may be behind ours
    try:
        pieces = [_candles(rows, span) for span in spans]
    except CandleError as error:
        rule = str(error).partition(": ")[2].rpartition("; ")[0]
        raise ExchangeError(
            f"{trip.name} must send possible candles of {symbol}: {rule}; nothing of this page is kept: try again later, "
            "and if it stays, ask for what is before and after that minute"
        ) from None
    absent = 0
    for (start, stop), candles in zip(spans, pieces, strict=True):
        known = min(stop, settled)
        if known > start:
            trip.lake.add(symbol, candles, venue=trip.name, asked=(start, known))
            absent += (known - start) // MINUTE - len(candles)
    return sum(map(len, pieces)), absent


def _candles(rows: Sequence[Row], span: Span) -> Candles:
    """Return the candles of a span, each once, in order."""
    found = {row[0]: row for row in rows if span[0] <= row[0] < span[1]}
    times = sorted(found)
    numbers = np.array([found[moment][1:6] for moment in times], dtype=np.float64).reshape(-1, 5)
    return Candles(np.array(times, dtype=np.int64), *numbers.T)


def _insist(trip: _Trip, client: Client, what: str, call: Callable[[], Result]) -> Result:
    """Call until it works: what may pass is tried `TRIES` times, what a venue refuses once."""
    ccxt = import_module("ccxt")
    chance = np.random.default_rng(zlib.crc32(f"{trip.name} {what}".encode()))
    for attempt in range(1, TRIES + 1):
        client.last_response_headers = {}
        try:
            return call()
        except (ccxt.BaseError, AttributeError, LookupError, TypeError, ValueError) as error:
            problem = f"{trip.name} must give {what}, found in try {attempt} {type(error).__name__}: {str(error)[:200]}"
            if not _may_pass(ccxt, error):
                raise ExchangeError(f"{problem}; check the symbol, and that {trip.name} serves this network") from None
            header = client.last_response_headers.get("Retry-After", "")
            told = float(header) if header.isdecimal() else 0.0
            if attempt == TRIES or told > _LONGEST_WAIT:
                later = f"in {told / 60:.0f} minutes" if told > _LONGEST_WAIT else "later"
                raise ExchangeError(f"{problem}; what was fetched is kept: run it again {later} to go on") from None
            pause = max(told, min(_LAST_WAIT, _FIRST_WAIT * 2 ** (attempt - 1)) * chance.uniform(0.5, 1.5))
            everybody = isinstance(error, ccxt.RateLimitExceeded | ccxt.DDoSProtection)
            (trip.pace.hold if everybody else trip.pace.rest)(pause)
    raise AssertionError("the last try returns or raises")


def _may_pass(ccxt: Client, error: Exception) -> bool:
    """Return whether another try may work: ccxt's classes alone do not say, so the HTTP status goes first."""
    status: int = getattr(getattr(error.__context__, "response", None), "status_code", 200)
    if status >= 400:
        return status >= 500 or status in _PASSING
    return error.__context__ is not None or not isinstance(error, ccxt.ExchangeError)  # the connection failed, not the venue


def _pace(seconds: float, sleep: Callable[[float], None], over: Event) -> _Pace:
    """Return ccxt's own throttle, `seconds` for a request of cost 1, but for all clients together: limits are by address."""
    lock, free = Lock(), 0.0

    def rest(left: float) -> None:
        while left > 0 and not over.is_set():
            sleep(min(left, 1.0))
            left -= 1.0

    def take(cost: float | None = None) -> None:
        nonlocal free
        with lock:
            start = max(time.monotonic(), free)
            free = start + seconds * (1.0 if cost is None else cost)
        rest(start - time.monotonic())
        if over.is_set():
            raise ExchangeError("a download must run to its end, found it stopped; run it again to go on")

    def hold(pause: float) -> None:
        nonlocal free
        with lock:
            free = max(free, time.monotonic() + pause)

    return _Pace(take, hold, rest)


def _client(venue: Venue, address: str | None) -> Client:
    try:
        ccxt = import_module("ccxt")  # two seconds, so not before it is needed
    except ImportError:
        raise ExchangeError("a download must have ccxt, found none; pip install 'crpbot[live]'") from None
    client = getattr(ccxt, venue.client)()
    if address is not None:
        client.urls["api"] = {**client.urls["api"], venue.address: address + venue.path}
    return client


def _markets(trip: _Trip, client: Client, symbols: Sequence[str]) -> dict[str, str]:
    """Return the venue's name of each market; where they have to be looked up, with one request."""
    if trip.venue.market is not None:
        return {symbol: trip.venue.market(symbol) for symbol in symbols}

    def look_up() -> dict[str, str]:
        listed = client.load_markets()
        if not listed:  # an answer that ccxt could not read
            raise TypeError("no markets")
        return {symbol: listed.get(symbol.replace("-", "/"), {}).get("id", "") for symbol in symbols}

    client.throttle = trip.pace.take
    client.has["fetchCurrencies"] = False
    markets = _insist(trip, client, "its list of markets", look_up)
    if unknown := [symbol for symbol, market in markets.items() if not market]:
        raise ExchangeError(f"{trip.name} must have the market, found none of the name {', '.join(unknown)}; check the symbol")
    return markets


def _closed(now: Callable[[], int]) -> int:
    """Return the open time of the first minute that has not closed."""
    return now() // MINUTE * MINUTE


def _told(client: Client) -> int:
    """Return the first minute that has not closed by the venue's own clock, as its last answer told the time."""
    stamps = [value for name, value in (client.last_response_headers or {}).items() if name.lower() == "date"]
    try:
        return int(parsedate_to_datetime(stamps[0]).timestamp() * 1_000) // MINUTE * MINUTE
    except (IndexError, TypeError, ValueError):
        return sys.maxsize  # it does not tell: ours has to do


def _minutes(spans: Sequence[Span]) -> int:
    return sum(stop - start for start, stop in spans) // MINUTE
