"""Messages to people: written down first, then delivered by a thread, so that the loop never waits and nothing is lost.

A message is put into the outbox once for each address, under `KEY@ID` with the address's own id. So each address has its own
tries, its own backoff and its own limit; when one of two fails, the other has its message and never gets it again, also after
a restart. Each entry ends in one of two ways: the address took it, or `until` passed.

- **At most so many a minute** (a token bucket for each address). What would go beyond is joined into one message, the
  longest-lived first, with the number of those whose titles did not fit.
- **A failure** is tried again after 2 s, 4 s, 8 s, … up to 5 minutes, each less up to a half by chance, until `until`. A
  message that a service does not like does not hold up the others.
- **A server that hangs** holds up its own address only, no longer than `patience`. If it takes the message later, that counts.
- **A message may arrive twice** where its server took it without saying so: the line was cut, the process ended, or the answer
  took longer than `patience`.
- **A changed address:** what waits for an address that is gone goes to those that never had it.
"""

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from threading import Event, Lock, Thread
from typing import Protocol

from crpbot.live.addresses import Address, address_id
from crpbot.live.post import deliver
from crpbot.live.redact import guard_logs, redactor, secrets_of

FIRST_DELAY, LONGEST_DELAY = 2.0, 300.0
"""Seconds before the second try, and at most between two."""
DIGEST = 1_500
"""Characters of a joined message: it fits into one message of every service that people use."""
LEFT_BEHIND = 4
"""Deliveries to one address that may hang at the same time; beyond it the address waits for one of them to end."""
BUSY, IDLE = 1.0, 5.0
"""Seconds at most between two looks at the outbox, while something waits and while nothing does."""

_ID = re.compile(r"[0-9a-f]{8}")
_LOG = logging.getLogger(__name__)


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> int:
        """Return milliseconds of UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of the outbox: `until` in milliseconds of UTC, `tries` that failed so far."""

    key: str
    title: str
    body: str
    until: int
    tries: int = 0


class Kept(Protocol):
    """What the notifier reads of a message; `Message` is one."""

    @property
    def key(self) -> str: ...  # noqa: D102
    @property
    def title(self) -> str: ...  # noqa: D102
    @property
    def body(self) -> str: ...  # noqa: D102
    @property
    def until(self) -> int: ...  # noqa: D102
    @property
    def tries(self) -> int: ...  # noqa: D102


class Outbox(Protocol):
    """Where messages wait, on disk; used from two threads. Times are milliseconds of UTC."""

    def put(self, key: str, title: str, body: str, *, now: int, until: int) -> bool:
        """Keep a message; return False when the key is known, whatever became of it."""

    def pending(self, now: int) -> Sequence[Kept]:
        """Return what is neither sent nor past its `until`, oldest first."""

    def sent(self, key: str, now: int) -> object:
        """Note that a message arrived."""

    def failed(self, key: str, error: str, now: int) -> object:
        """Note a try that failed, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What became of deliveries (one message to one address) since the start, and what the last failure said.

    `failed` counts tries, `expired` those whose `until` passed unsent, `waiting` those in the outbox now.
    """

    sent: int
    failed: int
    expired: int
    waiting: int
    last_error: str


@dataclass(slots=True)
class _Flight:
    """A delivery under way in a thread of its own. `answer` is "" for success, and counts once `done` is set."""

    messages: Sequence[Kept]
    deadline: float
    done: Event = field(default_factory=Event)
    answer: str = ""


@dataclass(slots=True)
class _Lane:
    """What is known of one address. Times in milliseconds of UTC, `tokens` as of `filled`."""

    address: Address
    tokens: float
    filled: int
    failures: int = 0
    pause: int = 0
    flight: _Flight | None = None
    behind: list[_Flight] = field(default_factory=list)


class Notifier:
    """Delivers messages from an outbox to every address. One notifier at a time may work on an outbox."""

    def __init__(
        self,
        addresses: Sequence[Address],
        outbox: Outbox,
        clock: Clock,
        *,
        per_minute: int = 20,
        patience: float = 30.0,
        chance: Callable[[], float] | None = None,
    ) -> None:
        """Make a notifier that does nothing before `start`.

        Args:
            addresses: none is no error: then nobody is told anything.
            outbox: where messages wait.
            clock: for everything but the patience, which is about real servers and real seconds.
            per_minute: messages to one address, and how many may come at once.
            patience: seconds after which a delivery counts as failed, whatever its server does.
            chance: returns numbers from 0 to 1, for the backoff.

        """
        secrets = frozenset[str]().union(*(secrets_of(address.url) for address in addresses))
        guard_logs(secrets)
        self._redact = redactor(secrets)
        self._outbox, self._clock, self._patience, self._per_minute = outbox, clock, patience, per_minute
        self._chance = chance or Random().random  # noqa: S311  jitter
        self._lanes = {address_id(one): _Lane(one, float(per_minute), clock.now()) for one in addresses}
        self._due: dict[str, int] = {}
        self._arrived: set[str] = set()  # delivered, and not yet noted in the outbox
        self._seen: dict[str, int] = {}
        self._handed: set[str] = set()
        self._sent = self._failed = self._expired = 0
        self._last_error = ""
        self._lock, self._wake = Lock(), Event()
        self._stopping = self._closed = False
        self._thread = Thread(target=self._run, name="notifier", daemon=True)

    def start(self) -> None:
        """Begin to deliver, first what an earlier process left."""
        if self._lanes:
            self._thread.start()

    def tell(self, key: str, title: str, body: str, *, until: int) -> bool:
        """Have people told, once for each key; return at once, True when the key is new to an address.

        The message is on disk when this returns. After `until` (milliseconds of UTC) it is not sent any more.
        """
        new = [self._outbox.put(f"{key}@{lane}", title, body, now=self._clock.now(), until=until) for lane in self._lanes]
        self._wake.set()
        return any(new)

    def stop(self, timeout: float = 5.0) -> int:
        """Send what can be sent at once, for at most `timeout` seconds; return how many stay in the outbox for the next start.

        Afterwards the outbox is not touched any more.
        """
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        self._closed = True
        if self._lock.acquire(timeout=1):  # a look at the outbox that is under way ends first
            self._lock.release()
        return len(self._seen)

    def counters(self) -> Counters:
        """Return what became of the messages so far."""
        return Counters(
            sent=self._sent,
            failed=self._failed,
            expired=self._expired,
            waiting=len(self._seen),
            last_error=self._last_error,
        )

    def work(self) -> float:
        """Note what came back and send off what is due; never waits for a server. Returns seconds until the next look."""
        with self._lock:
            if self._closed:
                return IDLE
            now = self._clock.now()
            self._collect(now)
            waiting = self._waiting(now)
            for name, lane in self._lanes.items():
                self._depart(lane, waiting[name], now)
            ends = [lane.flight.deadline - time.monotonic() for lane in self._lanes.values() if lane.flight]
            return max(0.0, min(BUSY if self._seen else IDLE, *ends, IDLE))

    def _run(self) -> None:
        while not self._closed:
            self._wake.clear()
            try:
                rest = self.work()
            except Exception as error:  # noqa: BLE001  the outbox is a database: it may be locked or gone for a while
                self._last_error = self._redact(f"outbox: {type(error).__name__}: {error}"[:1_000])
                _LOG.warning("the outbox does not answer: %s", self._last_error)
                rest = IDLE
                if self._stopping:
                    return
            if self._stopping and not any(lane.flight for lane in self._lanes.values()):
                return
            self._wake.wait(rest)

    def _collect(self, now: int) -> None:
        """Take note of every delivery that ended, and leave behind those that took too long."""
        for lane in self._lanes.values():
            for late in [flight for flight in lane.behind if flight.done.is_set()]:
                lane.behind.remove(late)
                if not late.answer:
                    self._took(late.messages)
            flight = lane.flight
            if flight is None:
                continue
            if flight.done.is_set() and not flight.answer:
                lane.failures, lane.pause, lane.flight = 0, 0, None
                self._took(flight.messages)
            elif flight.done.is_set() or time.monotonic() >= flight.deadline:
                lane.flight = None
                if not flight.done.is_set():
                    lane.behind.append(flight)
                answer = flight.answer or f"no answer within {self._patience:g} s"
                self._refused(lane, flight.messages, f"{lane.address.name}: {answer}", now)
        for key in tuple(self._arrived):
            self._outbox.sent(key, now)
            self._arrived.discard(key)

    def _took(self, messages: Iterable[Kept]) -> None:
        keys = {message.key for message in messages} - self._arrived
        self._arrived |= keys
        self._sent += len(keys)

    def _refused(self, lane: _Lane, messages: Iterable[Kept], error: str, now: int) -> None:
        lane.failures += 1
        lane.pause = now + self._delay(lane.failures)
        self._last_error = error
        _LOG.warning("not delivered: %s", error)
        for message in messages:
            self._failed += 1
            self._due[message.key] = now + self._delay(message.tries + 1)
            self._outbox.failed(message.key, error, now)

    def _delay(self, tries: int) -> int:
        """Return milliseconds before the next try: doubled each time, less up to a half by chance."""
        longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(tries - 1, 30))
        return round(1_000 * longest * (1 - self._chance() / 2))

    def _waiting(self, now: int) -> Mapping[str, list[Kept]]:
        """Return what waits for each address, oldest first, and count what expired since the last look."""
        found: dict[str, list[Kept]] = {name: [] for name in self._lanes}
        for message in self._outbox.pending(now):
            name = message.key.rpartition("@")[2]
            if name in found:
                found[name].append(message)
            elif message.key not in self._handed:
                self._hand_over(message, now)
        flying = {m.key: m.until for lane in self._lanes.values() if lane.flight for m in lane.flight.messages}
        seen = {m.key: m.until for messages in found.values() for m in messages} | flying
        gone = self._seen.keys() - seen.keys()
        self._expired += sum(self._seen[key] <= now for key in gone)
        for key in gone:
            self._due.pop(key, None)
        self._seen = seen
        return found

    def _hand_over(self, message: Kept, now: int) -> None:
        """Give a message that is for no address of ours to all that we have: somebody else put it, or its address is gone."""
        base, _, name = message.key.rpartition("@")
        orphan = bool(base) and _ID.fullmatch(name) is not None
        for lane in self._lanes:
            key = f"{base if orphan else message.key}@{lane}"
            self._outbox.put(key, message.title, message.body, now=now, until=message.until)
        if orphan:
            self._outbox.failed(message.key, "its address is gone; handed to the others", now)
        else:
            self._outbox.sent(message.key, now)
        self._handed.add(message.key)
        self._wake.set()

    def _depart(self, lane: _Lane, waiting: Sequence[Kept], now: int) -> None:
        """Send off one delivery, if the address is free, its limit allows it, and something is due."""
        lane.tokens = min(self._per_minute, lane.tokens + max(0, now - lane.filled) / 60_000 * self._per_minute)
        lane.filled = now
        furthest = now + round(1_000 * LONGEST_DELAY)  # what is beyond was set before the clock was put back
        if lane.flight or len(lane.behind) >= LEFT_BEHIND or lane.tokens < 1 or now < lane.pause <= furthest:
            return
        taken = self._arrived | {m.key for flight in lane.behind for m in flight.messages if flight.done.is_set()}
        due = [m for m in waiting if m.key not in taken and not now < self._due.get(m.key, 0) <= furthest]
        if not due:
            return
        due.sort(key=lambda message: message.tries)
        messages = due if len(due) > 1 and lane.tokens < 2 else due[:1]
        lane.tokens -= 1
        lane.flight = _Flight(messages, time.monotonic() + self._patience)
        Thread(target=self._fly, args=(lane.address, lane.flight), name="delivery", daemon=True).start()

    def _fly(self, address: Address, flight: _Flight) -> None:
        title, body = digest(flight.messages)
        flight.answer = deliver(address, title, body, self._redact)
        flight.done.set()
        self._wake.set()


def digest(messages: Sequence[Kept]) -> tuple[str, str]:
    r"""Return title and body of one message, or of several joined: their titles, the longest-lived first, as far as they fit.

    >>> digest([Message(key=str(i), title=f"LONG {i}", body="...", until=i) for i in (1, 2)])
    ('2 messages', 'LONG 2\nLONG 1')
    """
    if len(messages) == 1:
        return messages[0].title, messages[0].body
    lines, length = list[str](), 0
    for message in sorted(messages, key=lambda one: -one.until):
        line = message.title[:200]
        length += len(line) + 1
        if length > DIGEST:
            lines.append(f"and {len(messages) - len(lines)} more messages; `crpbot journal` has them")
            break
        lines.append(line)
    return f"{len(messages)} messages", "\n".join(lines)
