"""The loop: waits for the close, fills what was missed, lets models speak, and writes down what they said before anybody hears.

Each turn asks the feed for every minute that is over and was not yet decided on, market by market. A minute is decided on once:
its candle is taken; or a later one is there and `PATIENCE` has passed, so that the venue does not have it, and a new segment
starts. No model speaks of a later candle before that. What was said goes into the journal in one transaction, with the messages
about it: a process that is killed has said all of a minute or nothing, and says the rest when it is started again. What it finds
out too late for anybody to follow is written down as expired.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from crpbot.errors import CrpbotError, ExchangeError, JournalError, RegistryError
from crpbot.live.clock import WakingClock
from crpbot.live.desk import Desk, Model, Said, rows_of
from crpbot.live.feed import Answers, Feed
from crpbot.live.follow_up import FollowUp
from crpbot.live.guard import Guard, Tell
from crpbot.live.health import STALE, Counts, Health, MarketHealth
from crpbot.live.journal import Journal
from crpbot.live.records import Event
from crpbot.live.roster import Roster
from crpbot.live.scribe import LATE, Scribe
from crpbot.live.states import States
from crpbot.market.candles import MINUTE, Candles, utc
from crpbot.signals.signal import Signal

PAGE = 3_000
"""Minutes of a market that are asked for in one turn: who was away for long catches up in several."""
SETTLE = 1_500
"""Milliseconds after the close before the venue is asked: it publishes a candle a moment later."""
PATIENCE = 90_000
"""Milliseconds after its close that a minute may come later than the next one; then the venue does not have it."""
RETRIES = (1_000, 2_000, 4_000, 8_000, 15_000)
"""Milliseconds between questions for a candle that should be there."""
_HOUR = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How the loop works.

    Attributes:
        paper: whether paper trades are made.
        until: the clock's time at which it ends, in milliseconds of UTC; None for never.
        history: candles of a market from before the start, where somebody has them.

    """

    paper: bool = False
    until: int | None = None
    history: Callable[[str], Candles | None] = lambda _: None


class Loop:
    """The runtime of some markets.

    Args:
        feed: of closed candles.
        clock: of the same world.
        roster: says who speaks.
        journal: that everything is written to.
        guard: of the models.
        states: where markets go on after a restart.
        tell: people.
        setting: of the loop.
        heard: is told every signal that was written down for the first time, and milliseconds since its candle closed.

    """

    def __init__(
        self,
        feed: Feed,
        clock: WakingClock,
        roster: Roster,
        journal: Journal,
        guard: Guard,
        states: States,
        tell: Tell,
        setting: Setting,
        *,
        heard: Callable[[Signal, int], object] = lambda _, __: None,
    ) -> None:
        self._feed, self._clock, self._roster, self._journal = feed, clock, roster, journal
        self._guard, self._states, self._tell, self._setting = guard, states, tell, setting
        self.counts = Counts()
        self._scribe = Scribe(journal, tell, self.counts, heard)
        self._desks: dict[str, Desk] = {}
        self._follow: dict[str, FollowUp] = {}
        self._refused: Mapping[str, str] = {}  # models that may not speak, by symbol
        self._unheard: dict[str, str] = {}  # markets whose venue does not answer
        self._ill: dict[str, str] = {}  # parts of the whole
        self._stale: set[str] = set()
        self._hours: dict[str, int] = {}
        self._tries = 0

    def run(self, *, each: Callable[[Health], object] = lambda _: None) -> None:
        """Work until the clock is stopped, or the end that was set; `each` is told how everything is after each turn."""
        self._event("start", "started")
        try:
            while not self._clock.stopped and (self._setting.until is None or self._clock.now() < self._setting.until):
                behind = self.turn()
                each(self.health())
                if not behind:
                    self._feed.wait(self._wake())
        finally:
            for symbol in self._desks:
                self._save(symbol)
            self._event("stop", str(self.health()))

    def turn(self) -> bool:
        """Do everything that can be done now, and return whether there is more."""
        self._reload()
        closed = self._clock.now() // MINUTE * MINUTE
        spans = {symbol: span for symbol, desk in self._desks.items() if (span := self._span(desk, closed)) is not None}
        before = {symbol: self._desks[symbol].newest for symbol in spans}
        said = self._take(self._feed.fetch(spans) if spans else {}, spans)
        self._write(said)
        for symbol, newest in before.items():
            if self._desks[symbol].newest != newest:
                self._settle(symbol)
                self._hourly(symbol, closed)
        self._tries = self._tries + 1 if any(desk.next is None or desk.next < closed for desk in self._desks.values()) else 0
        return any(stop < closed and self._desks[symbol].next == stop for symbol, (_, stop) in spans.items())

    # Who speaks

    def _reload(self) -> None:
        """Let those speak of whom the registry says so, as soon as it says so."""
        if not self._roster.changed():
            return
        try:
            roll = self._roster.read()
        except (RegistryError, JournalError) as error:
            self._roster.forget()
            self._fall_ill("registry", f"nobody may speak: {error}")
            for desk in self._desks.values():
                desk.serve(())
            return
        self._ill.pop("registry", None)
        self._refused = roll.problems
        for symbol in sorted({*self._desks, *roll.models}):
            self._serve(symbol, roll.models.get(symbol, ()))

    def _serve(self, symbol: str, models: Sequence[Model]) -> None:
        desk, follow = self._desks.get(symbol), self._follow.get(symbol)
        before = () if desk is None else desk.models
        if desk is None or follow is None:
            desk, follow = Desk(symbol), FollowUp(self._journal, symbol, paper=self._setting.paper)
            self._desks[symbol], self._follow[symbol] = desk, follow
            desk.serve(models)
            follow.serve(models)
            self._resume(desk, follow)
        desk.serve(models)
        follow.serve(models)
        if desk.next is not None and desk.unfed:  # a new model has brought other inputs
            history = self._ask(symbol, desk.next - desk.memory * MINUTE, desk.next)
            if history is not None:
                for inputs in desk.unfed:
                    inputs.learn(history)
        if [model.entry for model in before] != [model.entry for model in models]:
            served = ", ".join(f"{model.entry.stage} {model.entry.sha256[:12]}" for model in models)
            self._event("serves", f"{symbol} is served by {served or 'nobody'}", symbol)

    def _resume(self, desk: Desk, follow: FollowUp) -> None:
        """Take a market up where it was left, or from the history that somebody has."""
        if not self._states.restore(desk, follow, now=self._clock.now()):
            known = self._setting.history(desk.symbol)
            if known is not None and len(known):
                desk.learn(known[-2 * desk.memory - 1 :])
                desk.next = int(known.time[-1]) + MINUTE
        follow.refresh()
        oldest, first = follow.oldest, desk.first
        if desk.next is not None and oldest is not None and (first is None or oldest < first):
            older = self._ask(desk.symbol, oldest, desk.next)
            if older is not None:
                desk.remember(older)

    def _ask(self, symbol: str, start: int, stop: int) -> Candles | None:
        answer = self._feed.fetch({symbol: (start, stop)})[symbol]
        return answer if isinstance(answer, Candles) else None

    # What the feed has

    def _span(self, desk: Desk, closed: int) -> tuple[int, int] | None:
        """Return which minutes of a market are over and not decided on; a new one begins with history."""
        start = closed - (desk.memory + 10) * MINUTE if desk.next is None else desk.next
        stop = min(closed, start + PAGE * MINUTE)
        return (start, stop) if start < stop and desk.models else None

    def _take(self, answers: Answers, spans: Mapping[str, tuple[int, int]]) -> list[Said]:
        said: list[Said] = []
        for symbol, answer in answers.items():
            if isinstance(answer, ExchangeError):
                self.counts.errors += 1
                self._unheard[symbol] = str(answer)
            else:
                self._unheard.pop(symbol, None)
                said += self._take_candles(self._desks[symbol], answer, spans[symbol])
        return said

    def _take_candles(self, desk: Desk, candles: Candles, span: tuple[int, int]) -> list[Said]:
        now, said = self._clock.now(), list[Said]()
        if desk.next is None:
            if len(candles):
                desk.learn(candles)
                desk.next = int(candles.time[-1]) + MINUTE
            return said
        for row in rows_of(candles):
            time = row[0]
            if time > desk.next:
                if now - (desk.next + MINUTE) < PATIENCE:
                    return said  # it may still come, and nobody speaks before that
                self.counts.gaps += 1
                self._event("gap", f"{desk.symbol} has no candle from {utc(desk.next)} to {utc(time - MINUTE)}", desk.symbol)
            self.counts.candles += 1
            self.counts.late += now - (time + MINUTE) > LATE
            said += desk.take(row, now=now)
        if span[1] < now - PATIENCE - MINUTE and desk.next < span[1]:
            desk.next = span[1]  # nothing more is there, and nothing more will come
        return said

    # What is written down

    def _write(self, said: Sequence[Said]) -> None:
        try:
            written = self._scribe.write(said, now=self._clock.now())
            for symbol in written:
                self._follow[symbol].refresh()
        except JournalError as error:
            self._fall_ill("journal", str(error))
        else:
            self._ill.pop("journal", None)

    def _settle(self, symbol: str) -> None:
        follow = self._follow[symbol]
        try:
            with self._journal.batch():
                self.counts.settled += follow.settle(self._desks[symbol], now=self._clock.now())
        except JournalError as error:
            self._fall_ill("journal", str(error))
            with suppress(JournalError):
                follow.refresh()

    def _hourly(self, symbol: str, closed: int) -> None:
        """Look after a market once an hour, not after all of them in the same minute."""
        hour = (closed // MINUTE + zlib.crc32(symbol.encode()) % _HOUR) // _HOUR
        if hour == self._hours.get(symbol):
            return
        self._hours[symbol] = hour
        self._save(symbol)
        try:
            self._guard.look(self._desks[symbol], now=self._clock.now())
        except (JournalError, RegistryError) as error:
            self._fall_ill("guard", str(error))
        else:
            self._ill.pop("guard", None)

    def _save(self, symbol: str) -> None:
        """Save where a market is, but never beyond what was written down."""
        if self._scribe.waits(symbol):
            return
        try:
            self._states.save(self._desks[symbol], self._follow[symbol])
        except OSError as error:
            self._fall_ill("disk", f"the state of {symbol} must be saved, found {error}; check space and rights")
        else:
            self._ill.pop("disk", None)

    # How it is

    def _wake(self) -> int:
        """Return when there is something to do: a candle that should be there is asked for again, else the next close."""
        now = self._clock.now()
        close = (now - SETTLE) // MINUTE * MINUTE + MINUTE + SETTLE
        return close if self._tries == 0 else min(close, now + RETRIES[min(self._tries, len(RETRIES)) - 1])

    def health(self) -> Health:
        """Return how everything is, and have people told of markets that have fallen silent."""
        now = self._clock.now()
        markets = {symbol: self._market_health(desk, now) for symbol, desk in self._desks.items()}
        for symbol, problem in self._refused.items():
            known = markets.get(symbol) or MarketHealth(candle=None, age=None, models=(), problem="", expires={})
            markets[symbol] = replace(known, problem=problem)
        return Health(time=now, markets=markets, problems=tuple(self._ill.values()), counts=self.counts, skew=self._feed.skew)

    def _market_health(self, desk: Desk, now: int) -> MarketHealth:
        symbol, newest = desk.symbol, desk.newest
        age = None if newest is None else (now - newest - MINUTE) / 1_000
        late = "no candle yet" if age is None else f"its newest candle is {age:.0f} s old" if age > STALE else ""
        problem = "; ".join(part for part in (late, self._unheard.get(symbol, "")) if part) if desk.models else ""
        if desk.models and late and newest is not None and symbol not in self._stale:
            self._stale.add(symbol)
            self._inform(f"stale:{symbol}:{newest}", f"crpbot: {symbol} is stale", f"{symbol} is not spoken of: {problem}")
        if not late:
            self._stale.discard(symbol)
        return MarketHealth(
            candle=newest,
            age=age,
            models=tuple(f"{model.entry.stage} {model.entry.sha256[:12]}" for model in desk.models),
            problem=problem,
            expires={model.entry.stage: (model.entry.expires - now) / 1_000 for model in desk.models},
        )

    def _fall_ill(self, part: str, text: str) -> None:
        """Remember what is wrong, and have people told when it begins."""
        if part not in self._ill:
            self._inform(f"ill:{part}:{self._clock.now()}", f"crpbot: {part}", text)
        self._ill[part] = text

    def _inform(self, key: str, title: str, body: str) -> None:
        with suppress(CrpbotError):  # whoever cannot be told sees it in the health
            self._tell(key, title, body, until=self._clock.now() + 24 * 60 * MINUTE)

    def _event(self, kind: str, text: str, symbol: str | None = None) -> None:
        with suppress(JournalError):  # it is no reason to stop
            self._journal.events.add(Event(time=self._clock.now(), kind=kind, text=text, symbol=symbol))
