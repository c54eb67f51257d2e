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
from crpbot.live.desk import PAGE, Desk, Model, Said, rows_of
from crpbot.live.feed import Answers, Feed
from crpbot.live.follow_up import FollowUp
from crpbot.live.guard import Guard, Tell
from crpbot.live.health import STALE, Counts, Health, MarketHealth, refused
from crpbot.live.journal import Journal
from crpbot.live.records import Event
from crpbot.live.roster import Roster
from crpbot.live.scribe import LATE, Scribe
from crpbot.live.states import States
from crpbot.market.candles import MINUTE, Candles, utc
from crpbot.signals.signal import Signal

SETTLE = 1_500
"""Milliseconds after the close before the venue is asked: it publishes a candle a moment later."""
PATIENCE = 90_000
"""Milliseconds after its close that a minute may come later than the next one; then the venue does not have it."""
RETRIES = (1_000, 2_000, 4_000, 8_000, 15_000)
"""Milliseconds between questions for a candle that should be there."""
SKEW = 10.0
"""Seconds that our clock and the venue's may differ before people are told."""
_HOUR, _DAY = 60, 24 * 60
_FARTHEST = 14 * _DAY
"""Minutes that are kept at most for what is still open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How the loop works.

    Attributes:
        paper: whether paper trades are made.
        until: the clock's time from which on one turn is the last, in milliseconds of UTC; None for never.
        history: candles of a market from before the start, where somebody has them.
        whole: whether a market begins with its first candle, as in a recording: nothing that came before is missed.
        taken: is told candles of a market, of which those that opened before a time were taken; some of them may be known to it.

    """

    paper: bool = False
    whole: bool = False
    until: int | None = None
    history: Callable[[str], Candles | None] = lambda _: None
    taken: Callable[[str, Candles, int], object] = lambda _, __, ___: None


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
        self._far: set[str] = set()  # markets that seem to be left behind by too much to catch up
        self._hours: dict[str, int] = {}
        self._tries = 0
        self._away = False  # whether the journal did not answer in this turn: asking it again would take as long again

    def run(self, *, each: Callable[[Health], object] = lambda _: None) -> None:
        """Work until the clock is stopped, or the end that was set; `each` is told how everything is after each turn."""
        self._event("start", "started")
        whole, behind, last = True, False, False
        try:
            while not self._clock.stopped and (behind or not last):
                last = self._setting.until is not None and self._clock.now() >= self._setting.until  # before it is asked for more
                whole = False
                behind = self.turn()
                whole = True
                each(self.health())
                if not (behind or last):
                    self._feed.wait(self._wake())
        finally:
            for symbol in self._desks if whole else ():  # else candles may have been taken that nobody wrote down
                self._save(symbol)
            self._event("stop", str(self.health()))

    def turn(self) -> bool:
        """Do everything that can be done now, and return whether there is more."""
        self._away = False
        self._reload()
        self._give_history()
        closed = self._clock.now() // MINUTE * MINUTE
        spans = {symbol: span for symbol, desk in self._desks.items() if (span := self._span(desk, closed)) is not None}
        before = {symbol: self._desks[symbol].newest for symbol in spans}
        answers = self._feed.fetch(spans) if spans else {}
        self._write(self._take(answers, spans))
        self._show(answers)
        moved = [symbol for symbol, newest in before.items() if self._desks[symbol].newest != newest]
        self._settle(moved)
        for symbol in moved:
            self._hourly(symbol, closed)
        lacking = any(desk.next is None or desk.next < closed for desk in self._desks.values() if desk.models)
        self._tries = self._tries + 1 if lacking else 0
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
            self._fall_ill("journal" if isinstance(error, JournalError) else "registry", f"nobody may speak: {error}")
            for desk in self._desks.values():
                desk.serve(())
            return
        self._ill.pop("registry", None)
        self._refused = roll.problems
        try:
            opened = self._open_elsewhere() if not self._desks else set()
            for symbol in sorted({*self._desks, *roll.models, *opened}):
                self._serve(symbol, roll.models.get(symbol, ()))
        except JournalError as error:
            self._roster.forget()
            self._fall_ill("journal", str(error))

    def _open_elsewhere(self) -> set[str]:
        """Return markets of which something is open that was said before this start."""
        found = {one.symbol for one in self._journal.open_signals()} | {one.symbol for one in self._journal.open_checks()}
        return {symbol for symbol in found if not self._roster.symbols or symbol in self._roster.symbols}

    def _serve(self, symbol: str, models: Sequence[Model]) -> None:
        desk, follow = self._desks.get(symbol), self._follow.get(symbol)
        before = () if desk is None else desk.models
        if desk is None or follow is None:
            desk = Desk(symbol, whole=self._setting.whole)
            follow = FollowUp(self._journal, symbol, paper=self._setting.paper)
            desk.serve(models)
            follow.serve(models)
            self._resume(desk, follow)
            self._desks[symbol], self._follow[symbol] = desk, follow
        desk.serve(models)
        follow.serve(models)
        if [model.entry for model in before] != [model.entry for model in models]:
            served = ", ".join(f"{model.entry.stage} {model.entry.sha256[:12]}" for model in models)
            self._event("serves", f"{symbol} is served by {served or 'nobody'}", symbol)

    def _resume(self, desk: Desk, follow: FollowUp) -> None:
        """Take a market up where it was left, or from the history that somebody has."""
        now = self._clock.now()
        if not self._states.restore(desk, follow, now=now):
            known = self._setting.history(desk.symbol)
            if known is not None and len(known) and now - int(known.time[-1]) < desk.memory * MINUTE:
                desk.learn(known := known[-2 * desk.memory - 1 :])
                desk.next = int(known.time[-1]) + MINUTE
                desk.silent_until = now // MINUTE * MINUTE
                self._setting.taken(desk.symbol, known, desk.next)
        follow.refresh()
        oldest, first = follow.oldest, desk.first
        if desk.next is not None and oldest is not None and (first is None or oldest < first):
            desk.keep(min((desk.next - oldest) // MINUTE, _FARTHEST) + PAGE)
            older = self._feed.fetch({desk.symbol: (oldest, desk.next)})[desk.symbol]
            if isinstance(older, Candles):
                desk.remember(older)

    def _give_history(self) -> None:
        """Give history to inputs that a new model has brought to a market that goes on; until it is there they wait."""
        waiting = {symbol: desk.next for symbol, desk in self._desks.items() if desk.waiting and desk.next is not None}
        if not waiting:
            return
        spans = {symbol: (self._reach(stop, self._desks[symbol].memory), stop) for symbol, stop in waiting.items()}
        for symbol, answer in self._feed.fetch(spans).items():
            if isinstance(answer, ExchangeError):
                self._unheard[symbol] = str(answer)
                continue
            for inputs in self._desks[symbol].waiting:
                inputs.learn(answer)

    def _reach(self, stop: int, memory: int) -> int:
        """Return the first minute of so much history before `stop`, or of what the venue has."""
        start = stop - (memory + 10) * MINUTE
        depth = self._feed.depth
        return start if depth is None else max(start, self._clock.now() - (depth - 2) * MINUTE)

    # What the feed has

    def _span(self, desk: Desk, closed: int) -> tuple[int, int] | None:
        """Return which minutes of a market are over and not decided on; a new one begins with history."""
        if not desk.models and self._follow[desk.symbol].oldest is None:
            return None
        if desk.next is not None and desk.newest is not None and desk.next > closed + MINUTE:
            desk.next = desk.newest + MINUTE  # our clock was ahead, and has been set right
        if desk.next is not None and self._sure_now() - desk.next > max(desk.memory, _DAY) * MINUTE:
            if desk.symbol in self._far:  # also after the venue has told its time: it is not our clock that has jumped
                desk.begin_anew()
            self._far ^= {desk.symbol}
        start = self._reach(closed, desk.memory) if desk.next is None else desk.next
        stop = closed if desk.next is None else min(closed, start + PAGE * MINUTE)
        return (start, stop) if start < stop else None

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
        now, said = self._true_now(), list[Said]()
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
        if span[1] < self._sure_now() - PATIENCE - MINUTE and desk.next < span[1]:
            desk.next = span[1]  # nothing more is there, and nothing more will come
        return said

    def _show(self, answers: Answers) -> None:
        """Let whoever looks on see what was taken, after everything that matters was done."""
        for symbol, answer in answers.items():
            if isinstance(answer, Candles) and (until := self._desks[symbol].next) is not None:
                self._setting.taken(symbol, answer, until)

    def _sure_now(self) -> float:
        """Return the time that it is by both clocks: ours may have jumped."""
        return self._clock.now() + min(1_000 * (self._feed.skew or 0.0), 0.0)

    def _true_now(self) -> int:
        """Return the time by whichever clock is ahead: what is late by one of them is late."""
        ahead = self._feed.skew or 0.0
        return self._clock.now() + (int(1_000 * ahead) if ahead > 2 else 0)  # it is told in whole seconds

    # What is written down

    def _write(self, said: Sequence[Said]) -> None:
        try:
            written = self._scribe.write(said, now=self._true_now())
            for symbol in written or ():
                self._follow[symbol].refresh()
        except JournalError as error:
            self._fall_ill("journal", str(error))
        else:
            if written is not None:
                self._ill.pop("journal", None)

    def _settle(self, symbols: Sequence[str]) -> None:
        """Write down what is certain by now, of all markets in one transaction."""
        due = [symbol for symbol in symbols if self._follow[symbol].due(self._desks[symbol])]
        if not due or self._away:
            return
        try:
            with self._journal.batch():
                settled = sum(self._follow[symbol].settle(self._desks[symbol], now=self._clock.now()) for symbol in due)
        except JournalError as error:
            self._fall_ill("journal", str(error))
            return
        self.counts.settled += settled
        for symbol in due:
            self._follow[symbol].done()

    def _hourly(self, symbol: str, closed: int) -> None:
        """Look after a market once an hour, not after all of them in the same minute."""
        hour = (closed // MINUTE + zlib.crc32(symbol.encode()) % _HOUR) // _HOUR
        if hour == self._hours.get(symbol) or self._away:
            return
        self._hours[symbol] = hour
        self._save(symbol)
        if symbol in self._roster.unruled:
            self._roster.forget()  # the venue may say them now
        try:
            self._guard.look(self._desks[symbol], now=self._clock.now())
        except (JournalError, RegistryError) as error:
            self._fall_ill(f"guard of {symbol}", str(error))
        else:
            self._ill.pop(f"guard of {symbol}", None)

    def _save(self, symbol: str) -> None:
        """Save where a market is, but never beyond what was written down."""
        if self._scribe.waits(symbol):
            return
        try:
            self._states.save(self._desks[symbol], self._follow[symbol])
        except OSError as error:
            self._fall_ill(f"state of {symbol}", f"the state of {symbol} must be saved, found {error}; check space and rights")
        else:
            self._ill.pop(f"state of {symbol}", None)

    # How it is

    def _wake(self) -> int:
        """Return when there is something to do: a candle that should be there is asked for again, else the next close."""
        now = self._clock.now()
        close = (now - SETTLE) // MINUTE * MINUTE + MINUTE + SETTLE
        return close if self._tries == 0 else min(close, now + RETRIES[min(self._tries, len(RETRIES)) - 1])

    def health(self) -> Health:
        """Return how everything is, and have people told of markets that have fallen silent."""
        now = self._true_now()
        markets = {symbol: self._market_health(desk, now) for symbol, desk in self._desks.items() if desk.models}
        wanted = dict.fromkeys(self._roster.symbols or self._desks, refused("no model of it is live or in shadow"))
        markets |= {symbol: nobody for symbol, nobody in wanted.items() if symbol not in markets}
        for symbol, problem in self._refused.items():
            markets[symbol] = replace(markets.get(symbol) or refused(problem), problem=problem)
        skew, problems = self._feed.skew, list(self._ill.values())
        if skew is not None and abs(skew) > SKEW:
            problems.append(f"the venue's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} ours; set ours right")
        return Health(time=now, markets=markets, problems=tuple(problems), counts=self.counts, skew=skew)

    def _market_health(self, desk: Desk, now: int) -> MarketHealth:
        symbol, newest = desk.symbol, desk.newest
        age = None if newest is None else (now - newest - MINUTE) / 1_000
        late = "no candle yet" if age is None else f"its newest candle is {age:.0f} s old" if age > STALE else ""
        expired = ["its live model has expired" for one in desk.models if one.entry.stage == "live" and one.entry.expired(now)]
        unruled = "its trading rules are not known, so prices are not rounded" if symbol in self._roster.unruled else ""
        problem = "; ".join(filter(None, (late, self._unheard.get(symbol, ""), desk.why, *expired, unruled)))
        if late and newest is not None and symbol not in self._stale:
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
        self._away |= part == "journal"
        if part not in self._ill:
            self._inform(f"ill:{part}:{self._clock.now()}", f"crpbot: {part}", text)
        self._ill[part] = text

    def _inform(self, key: str, title: str, body: str) -> None:
        with suppress(CrpbotError):  # whoever cannot be told sees it in the health
            if not self._away:
                self._tell(key, title, body, until=self._clock.now() + _DAY * MINUTE)

    def _event(self, kind: str, text: str, symbol: str | None = None) -> None:
        with suppress(JournalError):  # it is no reason to stop
            if not self._away:
                self._journal.events.add(Event(time=self._clock.now(), kind=kind, text=text, symbol=symbol))
