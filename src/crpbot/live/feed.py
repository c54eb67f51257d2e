"""Closed candles as they come: from a venue that is asked again and again, or from a recording. Both look the same to the loop.

A candle is given only when it is over by both clocks. By ours it has to be before the venue is asked. The venue's clock is told
by its answers, in whole seconds (`Date`). The time that the question was on its way is taken from that, since what is in an
answer may have been read at any moment of it. Or a later minute stands in the same answer, which proves as much.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event
from typing import Protocol

import numpy as np

from crpbot.errors import ExchangeError
from crpbot.live.clock import Clock, SystemClock
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
from crpbot.market.candles import MINUTE, Candles
from crpbot.market.files import check_symbol
from crpbot.market.venues import Client

Answers = Mapping[str, Candles | ExchangeError]

_AFTER = "it is asked again {later}, and what is missing then"
_REFUSED = "nothing of this answer is used, and it is asked again"


class Feed(Protocol):
    """Where the loop gets its candles."""

    def wait(self, until: int) -> None:
        """Return at `until`, in milliseconds of UTC, or earlier when a closed candle has arrived or stop was asked."""

    def fetch(self, spans: Mapping[str, Span]) -> Answers:
        """Return the closed candles of `[from, to)` of each symbol as the venue has them now.

        Minutes that it does not have, or not yet, are left out. What goes wrong with a symbol is its answer, and nobody else's.
        """

    @property
    def skew(self) -> float | None:
        """Seconds by which the venue's clock is ahead of ours, as last told; None where it has not told."""

    @property
    def depth(self) -> int | None:
        """Minutes before now that can be had; None where there is no limit."""

    def close(self) -> None:
        """Let go of lines and threads."""


class ReplayFeed:
    """Recorded candles, each from the moment on at which it closed by `clock`."""

    skew: float | None = None
    depth: int | None = None

    def __init__(self, markets: Mapping[str, Candles], clock: Clock) -> None:
        self._markets, self._clock = markets, clock

    def wait(self, until: int) -> None:
        """Return at `until`, or when the clock is stopped."""
        self._clock.sleep((until - self._clock.now()) / 1_000)

    def fetch(self, spans: Mapping[str, Span]) -> Answers:
        """Return what a venue would have had at this moment; stand-ins for missing minutes (`filled`) no venue has."""
        return {symbol: self._part(symbol, span) for symbol, span in spans.items()}

    def _part(self, symbol: str, span: Span) -> Candles | ExchangeError:
        if symbol not in self._markets:
            return ExchangeError(f"a recording must hold the market, found none of the name {symbol}; give its candles")
        candles = self._markets[symbol]
        first, last = candles.time.searchsorted([span[0], min(span[1], closed_by(self._clock.now()))])
        part = candles[first : max(first, last)]
        if part.filled is None:
            return part
        real = np.flatnonzero(~part.filled)
        numbers = [column[real] for column in (part.open, part.high, part.low, part.close, part.volume)]
        return Candles(part.time[real], *numbers)

    def close(self) -> None:
        """Do nothing: a recording holds no line."""


@dataclass(slots=True)
class _Line:
    """A client with its connection, which is kept, and when its last request went out by our clock."""

    client: Client
    sent: int = 0


class RestFeed:
    """A venue that is asked by REST.

    What fails in passing is tried again, with growing waits and as the venue's `Retry-After` says, but no call of `fetch` takes
    longer than `patience`: what has not come by then is an `ExchangeError`, and those who got none go first next time. A ban by
    the venue is kept to, also over several calls.

    Args:
        venue: a name of `VENUES`.
        symbols: in the dashed form.
        clock: ours; waiting between requests is on it.
        address: scheme, host and port to ask instead of the venue's own.
        workers: symbols at a time; they share the pace of the venue.
        patience: seconds of `clock` that a call of `fetch` may take; a line that hangs is given up after as many real seconds.

    Raises:
        ExchangeError: the venue is unknown, or ccxt is not installed.
        CandleError: a symbol has another form.

    """

    def __init__(
        self,
        venue: str,
        symbols: Sequence[str],
        clock: Clock,
        *,
        address: str | None = None,
        workers: int = 4,
        patience: float = 20.0,
    ) -> None:
        self.venue, self._venue, self._address = venue, venue_of(venue), address
        self.symbols = tuple(check_symbol(symbol) for symbol in dict.fromkeys(symbols))
        self._clock, self._patience = clock, patience
        self._seconds: Callable[[], float] = time.monotonic if isinstance(clock, SystemClock) else lambda: clock.now() / 1_000
        self._deadline = 0.0
        self._over = Event()
        first = client_of(self._venue, address)
        pace = pace_of(first.rateLimit / 1_000, clock.sleep, self._over, monotonic=self._seconds, left=self._left)
        self._manner = Manner(name=venue, pace=pace, after=_AFTER, left=self._left)
        self._idle: SimpleQueue[_Line] = SimpleQueue()
        self._lines: list[_Line] = []
        self._idle.put(self._equip(first))
        self._names: dict[str, str] = {}
        self._hanging: dict[str, Future[Candles | ExchangeError]] = {}
        self._answered: dict[str, int] = {}
        self._calls = 0
        self._skew: float | None = None
        self._pool = ThreadPoolExecutor(max(1, min(workers, len(self.symbols))), thread_name_prefix=f"feed-{venue}")

    @property
    def skew(self) -> float | None:
        """Seconds by which the venue's clock is ahead of ours, give or take 0.5 and half of what the answer took."""
        return self._skew

    @property
    def depth(self) -> int | None:
        """Minutes before now that can be had; None where there is no limit."""
        return self._venue.depth

    def wait(self, until: int) -> None:
        """Return at `until`, or when the clock is stopped."""
        self._clock.sleep((until - self._clock.now()) / 1_000)

    def fetch(self, spans: Mapping[str, Span]) -> Answers:
        """Ask for all, side by side."""
        self._deadline, self._calls = self._seconds() + self._patience, self._calls + 1
        problem = self._look_up(spans)
        self._hanging = {symbol: future for symbol, future in self._hanging.items() if not future.done()}
        ready = [symbol for symbol in spans if symbol in self._names and symbol not in self._hanging]
        ready.sort(key=lambda symbol: self._answered.get(symbol, 0))  # who got no answer last time goes first
        asked = {symbol: self._pool.submit(self._ask, symbol, spans[symbol]) for symbol in ready}
        wait(asked.values(), timeout=2 * self._patience)
        self._hanging |= {symbol: future for symbol, future in asked.items() if not future.done()}
        answers = {symbol: future.result() for symbol, future in asked.items() if symbol not in self._hanging}
        self._answered |= {symbol: self._calls for symbol, answer in answers.items() if isinstance(answer, Candles)}
        for symbol in self._hanging:
            answers[symbol] = ExchangeError(
                f"{self.venue} must answer in time, found a line of {symbol} that hangs; it is asked again when that has ended"
            )
        return {symbol: answers.get(symbol, problem) for symbol in spans}

    def _look_up(self, spans: Mapping[str, Span]) -> ExchangeError:
        """Learn the venue's names of markets, with one request where one is needed, and return why some have none."""
        new = [check_symbol(symbol) for symbol in spans if symbol not in self._names]
        try:
            with self._line() as line:
                found = names_of(self._manner, self._venue, line.client, new) if new else {}
        except ExchangeError as error:
            return error
        self._names |= {symbol: name for symbol, name in found.items() if name}
        return no_market(self._manner, [symbol for symbol, name in found.items() if not name])

    def _ask(self, symbol: str, span: Span) -> Candles | ExchangeError:
        try:
            with self._line() as line:
                return self._pages(line, symbol, span)
        except ExchangeError as error:
            return error

    def _pages(self, line: _Line, symbol: str, span: Span) -> Candles:
        rows: list[Row] = []
        until = min(span[1], closed_by(self._clock.now()))  # by our clock, before the venue is asked
        if span[0] >= until:
            return candles_of(self._manner, symbol, [], span, after=_REFUSED)
        for page in pages([(span[0], until + MINUTE)], self._venue.page):  # one more: its row proves that the one before is over
            answer = ask_rows(self._manner, self._venue, line.client, symbol, self._names[symbol], page[0], self._clock.now)
            over = self._over_by(line, answer)
            rows += [row for row in answer if page[0][0] <= row[0] < min(page[0][1], over)]
        return candles_of(self._manner, symbol, rows, (span[0], until), after=_REFUSED)

    def _over_by(self, line: _Line, rows: Sequence[Row]) -> int:
        """Return the first minute of an answer that may not have been over, by the venue's clock, when the answer was made."""
        received, told = self._clock.now(), told_by(line.client)
        if told is None:
            return sys.maxsize  # ours has to do
        self._skew = (told + 500 - (line.sent + received) / 2) / 1_000
        surely = closed_by(told - max(received - line.sent, 0))
        newest = max((row[0] for row in rows if row[0] <= told), default=-sys.maxsize)
        return max(surely, newest)

    @contextmanager
    def _line(self) -> Iterator[_Line]:
        """Borrow a client that nobody else uses."""
        try:
            line = self._idle.get_nowait()
        except Empty:
            line = self._equip(client_of(self._venue, self._address))
        try:
            yield line
        finally:
            self._idle.put(line)

    def _equip(self, client: Client) -> _Line:
        line = _Line(client)

        def take(cost: float | None = None) -> None:
            self._manner.pace.take(cost)
            line.sent = self._clock.now()

        client.throttle = take
        client.timeout = int(1_000 * min(10.0, max(self._patience / 2, 0.1)))
        self._lines.append(line)
        return line

    def _left(self) -> float:
        return 0.0 if getattr(self._clock, "stopped", False) else self._deadline - self._seconds()

    def close(self) -> None:
        """Close the lines; a question that is on its way ends in an error that nobody hears."""
        self._over.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for line in self._lines:
            line.client.session.close()
