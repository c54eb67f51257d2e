"""Candles from exchanges, through ccxt: only the minutes that are missing, only candles that have closed.

How a venue is asked is in `ask`. Here is what is asked for, what is kept, and which minutes are known to be absent.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Event, Lock
from typing import Protocol

from crpbot.errors import ExchangeError
from crpbot.market.ask import (
    Manner,
    Row,
    Span,
    ask_rows,
    candles_of,
    client_of,
    closed_by,
    names_of,
    no_market,
    pace_of,
    pages,
    told_by,
    venue_of,
)
from crpbot.market.candles import MINUTE, Candles, utc
from crpbot.market.files import check_symbol
from crpbot.market.venues import Venue

_AFTER = "what was fetched is kept: run it again {later} to go on"
_REFUSED = "nothing of this page is kept: try again later, and if it stays, ask for what is before and after that minute"
_LATE = 5 * MINUTE
"""A venue may publish a closed minute late: one at the very end that is not there is called absent only after this long."""


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
    how = venue_of(venue)
    if since >= until:
        raise ExchangeError(f"a download must end after it starts, found {utc(since)} to {utc(until)}; swap them")
    symbols = [check_symbol(symbol) for symbol in dict.fromkeys(symbols)]
    if not any(lake.missing(symbol, since, min(until, closed_by(now()))) for symbol in symbols):
        return tuple(Downloaded(symbol, 0, 0) for symbol in symbols)
    over = Event()
    first = client_of(how, address)
    manner = Manner(name=venue, pace=pace_of(first.rateLimit / 1000, sleep, over), after=_AFTER)
    trip = _Trip(lake, how, address, now, watch or (lambda _: None), Lock(), manner)
    first.throttle = manner.pace.take
    markets = names_of(manner, how, first, symbols)
    if unknown := [symbol for symbol, market in markets.items() if not market]:
        raise no_market(manner, unknown)
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
class _Trip:
    """What the symbols of one download share."""

    lake: Store
    venue: Venue
    address: str | None
    now: Callable[[], int]
    watch: Callable[[Progress], object]
    turn: Lock
    manner: Manner


def _fill(trip: _Trip, symbol: str, market: str, since: int, until: int) -> Downloaded:
    rows = absent = done = 0
    with trip.lake.lock(symbol):
        closed = closed_by(trip.now())
        missing = trip.lake.missing(symbol, since, min(until, closed))
        total = _minutes(missing)
        if not total:
            return Downloaded(symbol, 0, 0)
        client, began = client_of(trip.venue, trip.address), time.monotonic()
        client.throttle = trip.manner.pace.take
        for spans in pages(missing, trip.venue.page):
            whole = (spans[0][0], spans[-1][1])
            answer = ask_rows(trip.manner, trip.venue, client, symbol, market, whole, trip.now)
            told = told_by(client)  # the venue's clock may be behind ours
            closed = closed if told is None else min(closed, closed_by(told))
            more_rows, more_absent = _keep(trip, symbol, spans, answer, closed)
            rows, absent, done = rows + more_rows, absent + more_absent, done + _minutes(spans)
            with trip.turn:
                trip.watch(Progress(symbol, done, total, done / max(time.monotonic() - began, 1e-9)))
    return Downloaded(symbol, rows, absent)


def _keep(trip: _Trip, symbol: str, spans: Sequence[Span], rows: Sequence[Row], closed: int) -> tuple[int, int]:
    """Put what came into the lake, and return the number of candles and of absent minutes; all of it, or nothing."""
    settled = max([closed - _LATE, *(row[0] + MINUTE for row in rows if row[0] < closed)])
    spans = [(start, min(stop, closed)) for start, stop in spans if start < closed]
    pieces = [candles_of(trip.manner, symbol, rows, span, after=_REFUSED) for span in spans]
    absent = 0
    for (start, stop), candles in zip(spans, pieces, strict=True):
        known = min(stop, settled)
        if known > start:
            trip.lake.add(symbol, candles, venue=trip.manner.name, asked=(start, known))
            absent += (known - start) // MINUTE - len(candles)
    return sum(map(len, pieces)), absent


def _minutes(spans: Sequence[Span]) -> int:
    return sum(stop - start for start, stop in spans) // MINUTE
