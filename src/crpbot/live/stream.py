"""Closed candles by websocket: the stream says when, the venue's REST says what.

No number of a stream is served. Kraken and Coinbase do not say which candle has closed, Coinbase streams trades only, and where
a flag says it (Binance) nobody promises that REST will say the same; but history is asked by REST, and live has to be what
history will be. So a stream does two things. It ends the loop's waiting as soon as the venue's own time shows that a minute is
over. And it is a second opinion: where it has heard a whole minute and REST says something else, REST may not be done with it.
Then that minute is held back, with all after it, until REST says what the stream says, or for `SETTLE` seconds; after that REST
counts, and so does the disagreement.
"""

import asyncio
import math
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module

import numpy as np

from crpbot.errors import ExchangeError, printable
from crpbot.live.clock import WakingClock
from crpbot.live.dialects import DIALECTS, Message, News
from crpbot.live.feed import Answers, RestFeed
from crpbot.live.tape import Tape
from crpbot.market.ask import Span
from crpbot.market.candles import MINUTE, Candles
from crpbot.market.venues import Client

SETTLE = 3.0
"""Seconds for which REST may say something else than a stream that has heard the whole minute."""
_SILENCE = 60.0
"""Seconds without a message after which a line is taken for cut; all three venues send something each second or two."""
_FIRST_WAIT, _LAST_WAIT = 0.5, 60.0
"""Seconds before a line is opened again, and the most; they double while no message comes, times 0.5 to 1.5 by chance."""


class StreamFeed:
    """A venue that is listened to, and asked by REST for every candle.

    Args:
        venue: a name of `DIALECTS`.
        symbols: in the dashed form.
        clock: ours; it is woken when a minute is over.
        rest: the same venue, for the candles.
        address: scheme (`ws` or `wss`), host and port to listen to instead of the venue's own.
        silence: real seconds without a message after which the line is taken for cut.

    Raises:
        ExchangeError: the venue has no stream here, or ccxt is not installed.

    """

    def __init__(
        self,
        venue: str,
        symbols: Sequence[str],
        clock: WakingClock,
        *,
        rest: RestFeed,
        address: str | None = None,
        silence: float = _SILENCE,
    ) -> None:
        if venue not in DIALECTS:
            raise ExchangeError(
                f"a stream must be of {', '.join(DIALECTS)}; found {venue!r}; choose one of these, or ask by REST"
            )
        try:
            self._ccxt = import_module("ccxt.pro")
        except ImportError:
            raise ExchangeError("a stream must have ccxt with ccxt.pro, found none; pip install 'crpbot[live]'") from None
        self._how, self._clock, self._rest = DIALECTS[venue], clock, rest
        self._address, self._silence = address, silence
        self._pairs = {symbol: self._how.pair(symbol) for symbol in symbols}
        names = {self._how.market(symbol): symbol for symbol in symbols}
        self._tape = Tape(names, agreements=self._how.agreements(len(names)), flags=self._how.flags)
        self._chance = np.random.default_rng()
        self._arrived = threading.Event()
        self._doubted: dict[tuple[str, int], int] = {}
        self._judged: dict[tuple[str, int], bool] = {}
        self.reconnects = self.agreements = self.disagreements = 0
        self.trouble = ""
        self._over = False
        self._loop = asyncio.new_event_loop()
        self._cut = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=f"stream-{venue}", daemon=True)
        self._thread.start()

    @property
    def skew(self) -> float | None:
        """Seconds by which the venue's clock is ahead of ours, as REST told it last."""
        return self._rest.skew

    @property
    def depth(self) -> int | None:
        """Minutes before now that can be had by REST; None where there is no limit."""
        return self._rest.depth

    @property
    def connected(self) -> bool:
        """Whether the line stands and all that was asked for is coming."""
        return self._tape.whole

    def wait(self, until: int) -> None:
        """Return at `until`, or earlier when a minute is over by the venue's time, or when the clock is stopped."""
        while not self._arrived.is_set() and not self._clock.stopped and (left := until - self._clock.now()) > 0:
            self._clock.sleep(left / 1_000)
        self._arrived.clear()

    def fetch(self, spans: Mapping[str, Span]) -> Answers:
        """Ask REST for all; what the stream contradicts is held back until it is settled."""
        now = self._clock.now()
        for past in (self._doubted, self._judged):
            for key in [key for key in past if key[1] < now - 60 * MINUTE]:
                del past[key]
        answers = self._rest.fetch(spans)
        return {symbol: self._settled(symbol, answer, self._clock.now()) for symbol, answer in answers.items()}

    def _settled(self, symbol: str, answer: Candles | ExchangeError, now: int) -> Candles | ExchangeError:
        if isinstance(answer, ExchangeError):
            return answer
        for row, time in enumerate(answer.time.tolist()):
            key, heard = (symbol, time), self._tape.candle(symbol, time)
            if heard is None or key in self._judged:
                continue
            same = _same(answer, row, heard)
            if not same and now - self._doubted.setdefault(key, now) < SETTLE * 1_000:
                return answer[:row]
            self._judged[key] = same
            self.agreements += same
            self.disagreements += not same
        return answer

    def close(self) -> None:
        """Hang up."""
        self._over = True
        with suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._cut.set)
        self._thread.join(10)
        self._rest.close()

    # -- in the thread of the stream

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._listen())
        finally:
            self._loop.close()

    async def _listen(self) -> None:
        """Keep a line open until it is over."""
        pause = _FIRST_WAIT
        while not self._over:
            heard = await self._hold_line()
            self._tape.cut()
            if self._over:
                return
            self.reconnects += 1
            pause = _FIRST_WAIT if heard else min(2 * pause, _LAST_WAIT)
            self._cut = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._cut.wait(), pause * self._chance.uniform(0.5, 1.5))

    async def _hold_line(self) -> bool:
        """Listen until the line is cut, and return whether anything was heard."""
        client, self._cut = self._client(), asyncio.Event()
        cut, last, understand = self._cut, [self._loop.time(), 0.0], client.handle_message

        def end(task: "asyncio.Future[object]") -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                self.trouble = printable(f"{type(error).__name__}: {error}")[:200]
                cut.set()

        def hear(line: Client, message: Message) -> None:
            understand(line, message)
            news = self._how.read(message)  # what cannot be read raises, and so cuts the line
            if news.alive:
                last[0], last[1] = self._loop.time(), 1.0
            self._tell(news)

        def greet(line: Client, _: object = None) -> None:
            line.future("the line itself").add_done_callback(end)  # ccxt rejects it when the line is lost

        client.handle_message, client.on_connected = hear, greet
        self._loop.set_exception_handler(lambda _, context: self._stumble(cut, context))
        talk = asyncio.ensure_future(self._how.subscribe(client, list(self._pairs.values())))
        talk.add_done_callback(end)
        try:
            while not cut.is_set() and not self._over and (left := last[0] + self._silence - self._loop.time()) > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(cut.wait(), left)
        finally:
            talk.cancel()
            await asyncio.gather(talk, return_exceptions=True)
            await client.close()
        return bool(last[1])

    def _stumble(self, cut: asyncio.Event, context: Mapping[str, object]) -> None:
        """End a line at a message that cannot be understood: ccxt would go on waiting, and never read again."""
        if "handle" in context:
            self.trouble = printable(f"a message that cannot be read: {context.get('exception')}")[:200]
            cut.set()

    def _tell(self, news: News) -> None:
        if self._tape.hear(news):
            self._arrived.set()
            self._clock.wake()

    def _client(self) -> Client:
        client = getattr(self._ccxt, self._how.client)()
        client.set_markets(
            [
                {
                    "id": self._how.market(symbol),
                    "lowercaseId": self._how.market(symbol).lower(),
                    "symbol": pair,
                    **dict(zip(("base", "quote"), pair.split("/"), strict=True)),
                    "type": "spot",
                    "spot": True,
                    "active": True,
                    "info": {"wsname": pair},
                }
                for symbol, pair in self._pairs.items()
            ]
        )
        if self._address is not None:
            place = client.urls["api"]
            for name in self._how.address[:-1]:
                place = place[name]
            place[self._how.address[-1]] = self._address + self._how.path
        return client


def _same(candles: Candles, row: int, heard: Sequence[float]) -> bool:
    """Return whether a row says the same; volumes may have been added in another order."""
    prices = [float(column[row]) for column in (candles.open, candles.high, candles.low, candles.close)]
    return prices == list(heard[:4]) and math.isclose(candles.volume[row], heard[4], rel_tol=1e-9, abs_tol=1e-12)
