"""What a stream has said of each minute, and whether it can be all of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock

from crpbot.live.dialects import News, Trade
from crpbot.market.ask import closed_by
from crpbot.market.candles import MINUTE

Numbers = tuple[float, ...]  # open, high, low, close, volume

_KEPT = 15 * MINUTE
_TAIL = 1_000
"""Messages may change places by so many milliseconds: by so much a line has to begin before a minute and to end after it."""


@dataclass(slots=True)
class _Minute:
    """One minute of one market: a candle that the venue sent, or the trades that it sent."""

    numbers: Numbers | None = None
    final: bool = False
    trades: dict[int, Trade] = field(default_factory=dict)

    def candle(self) -> Numbers | None:
        if not self.trades:
            return self.numbers
        trades = sorted(self.trades.values(), key=lambda trade: (trade.time, trade.number))
        prices = [trade.price for trade in trades]
        return prices[0], max(prices), min(prices), prices[-1], math.fsum(trade.size for trade in trades)


class Tape:
    """The minutes that a line was whole for: subscribed before they began, and not cut before they were over.

    All times are the venue's own, so that it does not matter what our clock says. One thread writes it and another reads it.

    Args:
        names: our names of the markets, by the venue's.
        agreements: answers of the venue before its messages count.
        flags: whether the venue says which candle has closed.

    """

    def __init__(self, names: Mapping[str, str], *, agreements: int, flags: bool) -> None:
        self._names, self._agreements, self._flags = names, agreements, flags
        self._minutes: dict[tuple[str, int], _Minute] = {}
        self._agreed = 0
        self._since = self._told = -1
        self._lock = Lock()

    @property
    def whole(self) -> bool:
        """Whether the line stands and all that was asked for is coming."""
        return self._since >= 0

    def hear(self, news: News) -> bool:
        """Take a message, and return whether it shows that a minute is over."""
        with self._lock:
            self._agreed += news.agreed
            if self._agreed < self._agreements:
                return False
            before = self._told
            if news.told is not None:
                self._told = max(self._told, news.told)
                self._since = news.told if self._since < 0 else self._since
            for bar in news.bars:
                if (minute := self._minute(bar.market, bar.time)) is not None and not minute.final:
                    minute.numbers, minute.final = bar.numbers, bar.final
            for trade in news.trades:
                if (minute := self._minute(trade.market, closed_by(trade.time))) is not None and not minute.final:
                    minute.trades[trade.number] = trade  # also when it comes twice
            over = 0 <= before < closed_by(self._told)
            if over:
                self._tidy()
            return over

    def _tidy(self) -> None:
        self._minutes = {key: kept for key, kept in self._minutes.items() if key[1] > self._told - _KEPT}
        for (_, time), minute in self._minutes.items():
            if minute.trades and time + 2 * MINUTE <= self._told:  # no trade comes so late: keep the sum of them
                minute.numbers, minute.final = minute.candle(), True
                minute.trades = {}

    def _minute(self, market: str, time: int) -> _Minute | None:
        if market not in self._names or not 0 <= self._since <= time - _TAIL:
            return None
        return self._minutes.setdefault((self._names[market], time), _Minute())

    def cut(self) -> None:
        """Forget the minutes that were not over: the rest of them was not heard."""
        with self._lock:
            over = self._told - MINUTE - _TAIL
            self._minutes = {key: kept for key, kept in self._minutes.items() if key[1] <= over}
            self._agreed, self._since, self._told = 0, -1, -1

    def candle(self, symbol: str, time: int) -> Numbers | None:
        """Return open, high, low, close and volume of a minute that is over, as the stream told it; None if it may lack some."""
        with self._lock:
            minute = self._minutes.get((symbol, time))
            if minute is None or (self._flags and not minute.final) or time + MINUTE > self._told >= 0:
                return None
            return minute.candle()
