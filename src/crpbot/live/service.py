"""The runtime put together: what `crpbot live` starts, on a venue or on a recording."""

import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from crpbot.dataset.drift import FEWEST_MINUTES
from crpbot.disk import locked
from crpbot.errors import CandleError, JournalError, RegistryError
from crpbot.live.clock import ReplayClock, SystemClock, WakingClock
from crpbot.live.desk import Style
from crpbot.live.feed import Feed, ReplayFeed, RestFeed
from crpbot.live.guard import Guard, Tell
from crpbot.live.health import Health, Meters, write_health
from crpbot.live.journal import Journal, open_journal
from crpbot.live.loop import SETTLE, Loop, Setting
from crpbot.live.metrics import read_token, serving
from crpbot.live.roster import FindRules, Roster
from crpbot.live.rules import find_rules
from crpbot.live.states import States
from crpbot.live.trail import Trail
from crpbot.market.candles import MINUTE, Candles
from crpbot.registry.registry import Registry
from crpbot.signals.signal import Signal

if TYPE_CHECKING:
    from collections.abc import Iterator

FeedKind = Literal["rest", "websocket"]
HEALTH, JOURNAL, CANDLES = "health.json", "journal.db", "candles"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What `crpbot live` was asked to do.

    Attributes:
        home: folder of the registry, and of everything that the runtime keeps.
        symbols: of the markets; none is every one with a model.
        journal: address of it; None for a file in `home`.
        style: how signals are made.
        paper: whether paper trades are made.
        history: candles of a market from before the start, where somebody has them.
        shown: where `health.json` and the trail are kept for whoever looks on; None for `home/live`, of a replay for nowhere.
        metrics_host, metrics_port: where Prometheus finds the metrics; no port is nowhere. Others than this machine need a token.

    """

    home: Path
    symbols: tuple[str, ...]
    journal: str | None
    style: Style
    paper: bool = False
    history: Callable[[str], Candles | None] = lambda _: None
    shown: Path | None = None
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Who is told what while it runs.

    Attributes:
        signal: every signal that was written down for the first time.
        health: how everything is, after each turn.

    """

    signal: Callable[[Signal], object] = lambda _: None
    health: Callable[[Health], object] = lambda _: None


def live(
    order: Order,
    *,
    venue: str,
    kind: FeedKind,
    address: str | None = None,
    watch: Watch,
    clock: WakingClock | None = None,
) -> None:
    """Run on a venue until the process is asked to stop (Ctrl-C, SIGTERM).

    Args:
        order: what to do.
        venue: a name of `VENUES`.
        kind: how candles come from it.
        address: scheme, host and port to ask instead of the venue's own.
        watch: who is told.
        clock: ours; by default the machine's.

    Raises:
        CrpbotError: no model may speak, the registry was altered, the venue is unknown, or the journal cannot be opened.

    """
    clock, registry = clock or SystemClock(), Registry(order.home / "registry")
    symbols = _symbols(order, registry)
    with _stopping(clock), ExitStack() as stack:
        rest = RestFeed(venue, symbols, clock, address=address)
        stack.callback(rest.close)
        feed: Feed = rest
        if kind == "websocket":
            from crpbot.live.stream import StreamFeed  # noqa: PLC0415  ccxt.pro and its loop

            listened = None if address is None else address.replace("http", "ws", 1)
            feed = StreamFeed(venue, symbols, clock, rest=rest, address=listened)
            stack.callback(feed.close)
        stack.enter_context(_alone(order.home / "live"))
        rules = partial(find_rules, venue, address=address, clock=clock)
        journal = open_journal(order.journal or order.home / JOURNAL)
        stack.callback(journal.close)
        tell, trouble = stack.enter_context(_notifying(journal, clock))
        folder = order.home / "live"
        _run(order, registry, feed, clock, journal, tell, rules, watch, trouble, folder=folder, binding=True, until=None)


def replay(order: Order, markets: Mapping[str, Candles], *, speed: float, start: int | None = None, watch: Watch) -> None:
    """Run the very same loop on recorded candles: it tells nobody, and leaves registry and journal as they are.

    What it says goes into a journal of its own, `replay.db` in the home folder, which each replay begins anew.

    Args:
        order: what to do.
        markets: the recorded candles by symbol.
        speed: how many times as fast as the market; 0 as fast as it goes.
        start: open time of the first candle that is spoken of, in milliseconds of UTC; by default the first of which something
            can be said: as in batch, exponential means begin with the recording.
        watch: who is told.

    Raises:
        CrpbotError: the journal is the one of the home, the registry was altered, or the recording is too short.

    """
    registry = Registry(order.home / "registry")
    if order.journal is not None and Path(order.journal).resolve() == (order.home / JOURNAL).resolve():
        raise JournalError(f"a replay must have a journal of its own, found that of the home, {order.journal}; name another file")
    first = min(int(candles.time[0]) for candles in markets.values())
    last = max(int(candles.time[-1]) for candles in markets.values())
    needed = max((needed_before(registry, symbol) for symbol in markets), default=0)
    begin = start if start is not None else first + needed * MINUTE
    if begin > last:
        raise CandleError(
            f"a recording must be longer than the {needed:,} candles that a model needs before it speaks; bring more"
        )
    until = last + MINUTE + SETTLE
    clock = ReplayClock(begin + SETTLE, speed=speed, end=until)
    with _stopping(clock), ExitStack() as stack:
        if order.journal is None:
            for file in order.home.glob("replay.db*"):
                file.unlink()
        journal = open_journal(order.journal or order.home / "replay.db")
        stack.callback(journal.close)
        folder = Path(stack.enter_context(TemporaryDirectory()))
        feed = ReplayFeed(markets, clock)
        _run(
            order,
            registry,
            feed,
            clock,
            journal,
            _tell_nobody,
            None,
            watch,
            _no_trouble,
            folder=folder,
            binding=False,
            until=until,
        )


def needed_before(registry: Registry, symbol: str) -> int:
    """Return how many candles without a gap the models of a symbol need before they speak; 0 where there is none."""
    found = [registry.speaker(entry) for entry in registry.entries() if entry.symbol == symbol]
    return max((one.feature_set.warm_up + FEWEST_MINUTES - 1 for one in found), default=0)


def _run(
    order: Order,
    registry: Registry,
    feed: Feed,
    clock: WakingClock,
    journal: Journal,
    tell: Tell,
    rules: FindRules | None,
    watch: Watch,
    trouble: Callable[[], str],
    *,
    folder: Path,
    binding: bool,
    until: int | None,
) -> None:
    meters, shown = Meters(), order.shown or folder
    guard = Guard(registry, journal, tell, binding=binding)

    def heard(one: Signal, late: int) -> None:
        meters.delay.observe(late / 1_000)
        with suppress(OSError):  # a log that cannot be written is no reason to stop
            watch.signal(one)

    def each(health: Health) -> None:
        if undelivered := trouble():
            health = replace(health, problems=(*health.problems, undelivered))
        meters.show(health, guard.evidence)
        with suppress(OSError):  # the disk is full: whoever looks finds no sign of life
            write_health(health, shown / HEALTH)
        with suppress(OSError):
            watch.health(health)

    roster = Roster(registry, journal, order.symbols, style=order.style, find_rules=rules)
    roster.read()  # a ledger that was altered is an error at once, not a silence
    roster.forget()
    trail = Trail(shown / CANDLES)
    setting = Setting(paper=order.paper, until=until, history=order.history, whole=not binding, taken=trail.take)
    with ExitStack() as stack:
        if order.metrics_port is not None:
            token = read_token(order.metrics_host, os.environ)
            stack.enter_context(serving(meters.registry, host=order.metrics_host, port=order.metrics_port, token=token))
        Loop(feed, clock, roster, journal, guard, States(folder), tell, setting, heard=heard).run(each=each)


def _symbols(order: Order, registry: Registry) -> tuple[str, ...]:
    """Return the markets that are meant.

    Raises:
        RegistryError: no model may speak of any.

    """
    speaking = dict.fromkeys(entry.symbol for entry in registry.entries())
    wanted = order.symbols or tuple(speaking)
    if not any(symbol in speaking for symbol in wanted):
        raise RegistryError(
            f"a model of {', '.join(wanted) or 'some market'} must be live or in shadow, found none; crpbot promote one first"
        )
    return wanted


@contextmanager
def _alone(folder: Path) -> "Iterator[None]":
    """Be the only runtime of a home: two would tell everything twice.

    Raises:
        RegistryError: another one runs.

    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock") as ours:
        if not ours:
            raise RegistryError(
                f"one runtime at a time must work in {folder.parent}, found another; stop it, or take another --home"
            )
        yield


def _tell_nobody(key: str, title: str, body: str, *, until: int) -> bool:  # noqa: ARG001  a recording is no news
    return False


def _no_trouble() -> str:
    return ""


@contextmanager
def _notifying(journal: Journal, clock: WakingClock) -> "Iterator[tuple[Tell, Callable[[], str]]]":
    """Give what tells people, and what says which trouble there is with that."""
    from crpbot.live.addresses import read_addresses  # noqa: PLC0415  Apprise is slow to import
    from crpbot.live.notify import Notifier  # noqa: PLC0415  likewise

    addresses = read_addresses(os.environ)
    if not addresses:
        yield _tell_nobody, _no_trouble
        return
    notifier = Notifier(addresses, journal.outbox, clock)
    notifier.start()

    def trouble() -> str:
        counters = notifier.counters()
        waits = counters.waiting and counters.last_error
        return f"{counters.waiting} messages wait to be delivered: {counters.last_error}" if waits else ""

    try:
        yield notifier.tell, trouble
    finally:
        notifier.stop()


@contextmanager
def _stopping(clock: WakingClock) -> "Iterator[None]":
    """Stop gracefully at the first Ctrl-C or SIGTERM; at the second one at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(_number: int, _frame: object) -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        clock.stop()

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def speaking_before(registry: Registry, markets: Mapping[str, Candles], symbols: Sequence[str]) -> tuple[str, ...]:
    """Return the symbols of recordings that begin before what a model has not seen: of these, its words prove nothing."""
    found = []
    for entry in registry.entries():
        if entry.symbol not in markets or (symbols and entry.symbol not in symbols):
            continue
        origin = registry.speaker(entry).origin
        if origin is not None and int(markets[entry.symbol].time[0]) < origin.unseen_from:
            found.append(entry.symbol)
    return tuple(dict.fromkeys(found))
