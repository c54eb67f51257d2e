"""How a venue is asked, for downloads and live feeds alike: at its pace, again when what failed may pass, and believing nothing.

Addresses, error classes, rate limits and the reading of rows are ccxt's. The paging is ours, on ccxt's plain endpoints: its
`fetch_ohlcv` takes an answer that it cannot read for an empty one, and here an empty answer is a fact that is kept.
"""

import math
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib import import_module
from threading import Event, Lock
from typing import Any, TypeVar

import numpy as np

from crpbot.errors import CandleError, ExchangeError
from crpbot.market.candles import MINUTE, Candles, utc
from crpbot.market.venues import VENUES, Client, Venue

TRIES = 8
"""How often a request is sent before we give up."""
_FIRST_WAIT, _LAST_WAIT = 0.5, 30.0
"""Seconds before the second try and the most before any; they double in between, times 0.5 to 1.5 by chance."""
_LONGEST_WAIT = 600.0
"""Seconds that a venue may ask for; a longer ban is an error, since somebody is waiting."""
_PASSING = {408, 418, 425, 429}  # HTTP statuses below 500 that are worth another try; 418 is binance's second 429

Span = tuple[int, int]  # `[from, to)` in milliseconds of UTC
Row = Sequence[Any]  # time in milliseconds, open, high, low, close, volume, as ccxt reads them: nothing is checked yet
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Pace:
    """When to send, in seconds: `take` waits for the next moment, `hold` puts it off for everybody, `rest` waits alone."""

    take: Callable[[float | None], None]
    hold: Callable[[float], None]
    rest: Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How somebody asks.

    Attributes:
        name: of the venue.
        pace: shared by all who ask it.
        after: what to do when all tries have failed; `{later}` is when.
        left: seconds that there still are; what would have to wait longer fails at once.

    """

    name: str
    pace: Pace
    after: str
    left: Callable[[], float] = lambda: math.inf


def venue_of(name: str) -> Venue:
    """Return a venue of the table.

    Raises:
        ExchangeError: there is none of this name.

    """
    if name not in VENUES:
        raise ExchangeError(f"a venue must be one of {', '.join(VENUES)}; found {name!r}; choose one of these")
    return VENUES[name]


def client_of(venue: Venue, address: str | None) -> Client:
    """Return ccxt's client of a venue, or of who answers for it at another address.

    Raises:
        ExchangeError: ccxt is not installed.

    """
    try:
        ccxt = import_module("ccxt")  # two seconds, so not before it is needed
    except ImportError:
        raise ExchangeError("asking a venue must have ccxt, found none; pip install 'crpbot[live]'") from None
    client = getattr(ccxt, venue.client)({"options": {"fetchMarkets": venue.list_of}} if venue.list_of else {})
    client.has["fetchCurrencies"] = False
    if address is not None:
        client.urls["api"] = {**client.urls["api"], venue.address: address + venue.path}
    return client


def list_markets(manner: Manner, client: Client) -> Mapping[str, Any]:
    """Return ccxt's table of all markets by their names there, such as `BTC/USD`."""

    def look_up() -> Mapping[str, Any]:
        listed: Mapping[str, Any] = client.load_markets()
        if not listed:  # an answer that ccxt could not read
            raise TypeError("no markets")
        return listed

    return insist(manner, client, "its list of markets", look_up)


def names_of(manner: Manner, venue: Venue, client: Client, symbols: Sequence[str]) -> dict[str, str]:
    """Return the venue's name of each market, "" where it has none; where they have to be looked up, with one request."""
    if venue.market is not None:
        return {symbol: venue.market(symbol) for symbol in symbols}
    listed = list_markets(manner, client)
    return {symbol: listed.get(symbol.replace("-", "/"), {}).get("id", "") for symbol in symbols}


def no_market(manner: Manner, symbols: Sequence[str]) -> ExchangeError:
    """Return the error that a venue lacks a market."""
    return ExchangeError(f"{manner.name} must have the market, found none of the name {', '.join(symbols)}; check the symbol")


def ask_rows(
    manner: Manner, venue: Venue, client: Client, symbol: str, market: str, span: Span, now: Callable[[], int]
) -> list[Row]:
    """Return the rows of the venue from the first to the last minute of a span, and maybe others, as ccxt reads them.

    Raises:
        ExchangeError: the venue refuses, fails `TRIES` times in a row, or no longer has minutes that old.

    """
    start, stop = span

    def ask() -> list[Row]:
        if venue.depth is not None and start < (oldest := closed_by(now()) - venue.depth * MINUTE):
            raise ExchangeError(
                f"{manner.name} must be asked for its most recent {venue.page} minutes only, found {symbol} at {utc(start)}; "
                f"ask from {utc(oldest)} on, and take another venue, such as coinbase, or files for what is older"
            )
        rows = venue.ask(client, market, start, stop)
        if not isinstance(rows, list) or not all(isinstance(row, list | dict) for row in rows):
            raise TypeError(f"no list of candles but {str(rows)[:100]!r}")
        read = [client.parse_ohlcv(row) for row in rows]
        if not all(isinstance(row[0], int) for row in read):
            raise TypeError("a candle without a time")
        return read

    return insist(manner, client, f"{symbol} from {utc(start)}", ask)


def candles_of(manner: Manner, symbol: str, rows: Sequence[Row], span: Span, *, after: str) -> Candles:
    """Return the candles of a span, each once, in order.

    Raises:
        ExchangeError: a row cannot be a candle; the message ends with `after`.

    """
    found = {row[0]: row for row in rows if span[0] <= row[0] < span[1]}
    times = sorted(found)
    numbers = np.array([found[moment][1:6] for moment in times], dtype=np.float64).reshape(-1, 5)
    try:
        return Candles(np.array(times, dtype=np.int64), *numbers.T)
    except CandleError as error:
        rule = str(error).partition(": ")[2].rpartition("; ")[0]
        raise ExchangeError(f"{manner.name} must send possible candles of {symbol}: {rule}; {after}") from None


def insist(manner: Manner, client: Client, what: str, call: Callable[[], Result]) -> Result:
    """Call until it works: what may pass is tried `TRIES` times while there is time, what a venue refuses once."""
    ccxt = import_module("ccxt")
    chance = np.random.default_rng(zlib.crc32(f"{manner.name} {what}".encode()))
    for attempt in range(1, TRIES + 1):
        client.last_response_headers = {}
        try:
            return call()
        except (ccxt.BaseError, AttributeError, LookupError, TypeError, ValueError) as error:
            problem = f"{manner.name} must give {what}, found in try {attempt} {type(error).__name__}: {str(error)[:200]}"
            if not _may_pass(ccxt, error):
                raise ExchangeError(f"{problem}; check the symbol, and that {manner.name} serves this network") from None
            header = client.last_response_headers.get("Retry-After", "")
            told = float(header) if header.isdecimal() else 0.0
            pause = max(told, min(_LAST_WAIT, _FIRST_WAIT * 2 ** (attempt - 1)) * chance.uniform(0.5, 1.5))
            everybody = isinstance(error, ccxt.RateLimitExceeded | ccxt.DDoSProtection)
            if everybody:
                manner.pace.hold(min(pause, _LONGEST_WAIT))
            if attempt == TRIES or told > _LONGEST_WAIT or pause > manner.left():
                later = f"in {told / 60:.0f} minutes" if told > _LONGEST_WAIT else "later"
                raise ExchangeError(f"{problem}; {manner.after.format(later=later)}") from None
            if not everybody:
                manner.pace.rest(pause)
    raise AssertionError("the last try returns or raises")


def _may_pass(ccxt: Client, error: Exception) -> bool:
    """Return whether another try may work: ccxt's classes alone do not say, so the HTTP status goes first."""
    status: int = getattr(getattr(error.__context__, "response", None), "status_code", 200)
    if status >= 400:
        return status >= 500 or status in _PASSING
    return error.__context__ is not None or not isinstance(error, ccxt.ExchangeError)  # the connection failed, not the venue


def pace_of(
    seconds: float,
    sleep: Callable[[float], None],
    over: Event,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    left: Callable[[], float] = lambda: math.inf,
) -> Pace:
    """Return ccxt's own throttle, `seconds` for a request of cost 1, but for all clients together: limits are by address.

    Whose turn comes later than there are seconds `left` gets an `ExchangeError` at once, and so does everybody when it is `over`.
    """
    lock, free = Lock(), 0.0

    def rest(still: float) -> None:
        while still > 0 and not over.is_set():
            sleep(min(still, 1.0))
            still -= 1.0

    def take(cost: float | None = None) -> None:
        nonlocal free
        with lock:
            now = monotonic()
            start = max(now, free)
            if start - now > left():
                raise ExchangeError(
                    f"a venue must be asked at its pace, found {start - now:.0f} s to wait and {max(left(), 0):.0f} s left; "
                    "ask again later"
                )
            free = start + seconds * (1.0 if cost is None else cost)
        rest(start - monotonic())
        if over.is_set():
            raise ExchangeError("asking a venue must run to its end, found it stopped; run it again to go on")

    def hold(pause: float) -> None:
        nonlocal free
        with lock:
            free = max(free, monotonic() + pause)

    return Pace(take, hold, rest)


def pages(missing: Sequence[Span], most: int) -> Iterator[list[Span]]:
    """Yield the spans that one request is for: the fewest pages of `most` minutes that cover all that is missing, in order.

    >>> list(pages([(0, 120_000), (240_000, 480_000)], 5))
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


def closed_by(now: int) -> int:
    """Return the open time of the first minute that has not closed."""
    return now // MINUTE * MINUTE


def told_by(client: Client) -> int | None:
    """Return the venue's own time, as its last answer told it in whole seconds; None where it does not tell."""
    stamps = [value for name, value in (client.last_response_headers or {}).items() if name.lower() == "date"]
    try:
        return int(parsedate_to_datetime(stamps[0]).timestamp() * 1_000)
    except (IndexError, TypeError, ValueError):
        return None
