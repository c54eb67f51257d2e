"""Streams: ccxt.pro against websockets on loopback that are cut, fall silent, talk nonsense, or say everything twice."""

import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from strategies import START, walk
from venues import Visitor, Woken, serving

from crpbot.errors import ExchangeError
from crpbot.live.dialects import DIALECTS
from crpbot.market.candles import MINUTE, Candles

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ccxt") is None, reason="streams need the extra `live`"),
]

ROWS = 200
MARKETS = {"BTC-USD": walk(ROWS, 1, level=60_000.0), "ETH-USD": walk(ROWS, 2, level=3_000.0)}
BOTH = tuple(MARKETS)
everywhere = pytest.mark.parametrize("venue", DIALECTS)
FIRST = START + 50 * MINUTE


def rows(candles: Candles) -> dict[int, tuple[float, ...]]:
    columns = (candles.time, candles.open, candles.high, candles.low, candles.close, candles.volume)
    return {row[0]: row[1:] for row in zip(*(column.tolist() for column in columns), strict=True)}


TRUTH = {symbol: rows(candles) for symbol, candles in MARKETS.items()}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crpbot.live.stream._FIRST_WAIT", 0.1)


def soon(what: Callable[[], bool]) -> bool:
    """Wait in real time until something has come about; ten seconds at most."""
    until = time.monotonic() + 10
    while not what() and time.monotonic() < until:
        time.sleep(0.005)
    return what()


@contextmanager
def scene(
    venue: str, *, ahead: int = 0, symbols: tuple[str, ...] = BOTH, nap: float = 0.02, **options
) -> Iterator[SimpleNamespace]:
    from streams import sending

    from crpbot.live.feed import RestFeed
    from crpbot.live.stream import StreamFeed

    with serving(MARKETS, lambda: FIRST, clock=True) as house, sending(house, venue) as station:
        clock = Woken(house, ahead=ahead, nap=nap)
        rest = RestFeed(venue, symbols, Visitor(house, ahead=ahead), address=house.address)
        feed = StreamFeed(venue, symbols, clock, rest=rest, address=station.address, **options)
        seen: dict[str, dict[int, tuple[float, ...]]] = {symbol: {} for symbol in symbols}

        def fetch(*, since: int = FIRST) -> None:
            answers = feed.fetch(dict.fromkeys(symbols, (since, house.now() + 5 * MINUTE)))
            for symbol, answer in answers.items():
                found = rows(answer) if isinstance(answer, Candles) else {}
                assert all(row == TRUTH[symbol][when] for when, row in found.items()), symbol
                seen[symbol] |= found

        def heard() -> bool:
            """Return whether all that was sent so far has been understood."""
            latest = station.said.get("BTC-USD", 0)
            return not feed.connected or feed._tape._told >= latest

        try:
            assert soon(lambda: station.subscribed == 1)
            yield SimpleNamespace(house=house, station=station, clock=clock, feed=feed, seen=seen, fetch=fetch, heard=heard)
        finally:
            began = time.monotonic()
            feed.close()
            assert time.monotonic() - began < 10
            assert not feed._thread.is_alive()


def due(here: SimpleNamespace, *, since: int = FIRST) -> set[int]:
    return {when for when in TRUTH["BTC-USD"] if since <= when and when + MINUTE <= here.house.now()}


# -- what comes


@everywhere
@pytest.mark.parametrize("ahead", [-10_000, 0, 10_000])
def test_each_minute_ends_the_waiting_and_the_stream_and_rest_say_the_same(venue: str, ahead: int) -> None:
    with scene(venue, ahead=ahead, nap=3_600.0) as here:
        here.station.play(30_000)
        assert soon(lambda: here.feed.connected)
        guard = threading.Timer(40.0, here.clock.stop)  # or nothing would end the waiting where nobody wakes it
        guard.start()
        for minute in range(1, 6):
            player = threading.Timer(0.05, here.station.play, (MINUTE,))
            player.start()
            here.feed.wait(FIRST + 3_600_000)
            assert not here.clock.stopped
            assert here.house.now() >= FIRST + minute * MINUTE
            player.join()
            assert soon(here.heard)
            here.fetch()
        guard.cancel()
        assert all(set(seen) == due(here) for seen in here.seen.values())
        assert (here.feed.agreements, here.feed.disagreements, here.feed.reconnects) == (8, 0, 0)  # 4 whole minutes of 2
        assert here.feed.skew == pytest.approx(-ahead / 1_000, abs=2.0)  # on this clock a request may take seconds


@everywhere
def test_waiting_ends_on_time_where_no_minute_ends_and_when_it_is_stopped(venue: str) -> None:
    with scene(venue) as here:
        here.station.play(10_000)
        threading.Timer(0.05, here.station.play, (20_000,)).start()
        here.feed.wait(FIRST + 29_000)
        assert FIRST + 29_000 <= here.clock.now() <= FIRST + 30_000
        threading.Timer(0.05, here.clock.stop).start()
        here.feed.wait(FIRST + 3_600_000)
        assert here.clock.now() == FIRST + 30_000


# -- whatever fails


@everywhere
@pytest.mark.parametrize("seed", range(2))
def test_whatever_fails_each_candle_is_the_venue_s_final_one_and_in_the_end_all_are_there(venue: str, seed: int) -> None:
    chance = random.Random(f"{venue} {seed}")  # noqa: S311
    with scene(venue, ahead=chance.choice([-10_000, 0, 10_000]), silence=0.4) as here:
        station, house = here.station, here.house
        house.faults, station.doubled, station.shuffled = 0.3, True, 30
        faults = {
            "cut": station.cut,
            "nonsense": lambda: station.say(
                chance.choice(["{]", "\x00", "[1, 2", '{"type": "match"}', '{"e": "kline"}', "[[]]"])
            ),
            "restart": lambda: (station.stop(), station.start()),
            "silence": lambda: setattr(station, "muted", True),
            "refusal": lambda: (setattr(station, "refusals", 1), station.cut()),
            "nothing": lambda: None,
        }
        for number in range(18):
            station.play(chance.randrange(1_000, MINUTE))
            before, fault = here.feed.reconnects, list(faults)[number % 6]
            faults[fault]()
            here.fetch()
            station.play(MINUTE)
            if fault == "silence":
                assert soon(lambda before=before: here.feed.reconnects > before)
            if chance.random() < 0.5:
                assert soon(lambda: station.subscribed == 1)
            here.fetch()
            station.muted = False
        house.faults, station.refusals = 0.0, 0
        assert soon(lambda: station.subscribed == 1)
        for _ in range(3):
            station.play(MINUTE)
        house.now.advance(20_000)
        here.fetch()
        house.now.advance(4_000)
        here.fetch()
        assert all(set(seen) == due(here) for seen in here.seen.values())
        assert house.failed > 5
        assert here.feed.reconnects >= 3
        assert here.feed.disagreements == 0


@everywhere
def test_a_minute_in_which_the_line_was_cut_is_no_second_opinion_and_comes_by_rest(venue: str) -> None:
    with scene(venue) as here:
        here.station.play(90_000)
        assert soon(here.heard)
        here.station.cut()
        assert soon(lambda: here.feed.reconnects == 1 and here.station.subscribed == 1)
        assert "NetworkError" in here.feed.trouble
        for _ in range(3):
            here.station.play(MINUTE)
            assert soon(here.heard)
        here.fetch()
        assert all(set(seen) == due(here) for seen in here.seen.values())
        whole = {time: here.feed._tape.candle("BTC-USD", time) is not None for time in sorted(due(here))}
        assert list(whole.values()) == [False, False, True, True]


@everywhere
def test_a_line_that_falls_silent_is_opened_again(venue: str) -> None:
    with scene(venue, silence=0.3) as here:
        here.station.muted = True
        assert soon(lambda: here.feed.reconnects >= 2)
        here.station.muted = False
        assert soon(lambda: here.station.subscribed == 1)


@everywhere
@pytest.mark.parametrize(
    "text", ["{]", "[1, 2", "\x00\x01", '"what"', "17", '{"e": "kline", "type": "match", "channel": "ohlc"}']
)
def test_a_message_that_cannot_be_read_ends_the_line_at_once(venue: str, text: str) -> None:
    with scene(venue) as here:
        here.station.say(text)
        assert soon(lambda: here.feed.reconnects == 1)
        assert here.feed.trouble
        assert soon(lambda: here.station.subscribed == 1)


def test_who_is_refused_comes_back_later_and_later() -> None:
    with scene("coinbase") as here:
        here.station.refusals = 3
        here.station.cut()
        began = time.monotonic()
        assert soon(lambda: here.feed.reconnects >= 4 and here.station.subscribed == 1)
        assert time.monotonic() - began > 0.5 * (0.1 + 0.2 + 0.4)
        assert here.station.opened == 5


def test_a_market_that_the_venue_does_not_stream_leaves_rest() -> None:
    with scene("kraken", symbols=(*BOTH, "NOT-USD")) as here:
        here.station.play(3 * MINUTE + 2_000)
        assert soon(lambda: here.feed.connected)
        answers = here.feed.fetch(dict.fromkeys((*BOTH, "NOT-USD"), (FIRST, here.house.now())))
        assert "none of the name NOT-USD" in str(answers["NOT-USD"])
        assert len(answers["BTC-USD"]) == 3


# -- when they say different things


def another(numbers: tuple[float, ...]) -> tuple[float, ...]:
    return *numbers[:4], numbers[4] * 0.75


@everywhere
@pytest.mark.parametrize("insists", [False, True])
def test_a_candle_that_rest_is_not_done_with_is_held_back_and_what_rest_insists_on_counts(venue: str, insists: bool) -> None:  # noqa: FBT001
    with scene(venue) as here:
        here.station.play(30_000)
        assert soon(lambda: here.feed.connected)
        for _ in range(3):
            here.station.play(MINUTE)
            assert soon(here.heard)
        early = FIRST + MINUTE
        here.house.spoiled["BTC-USD", early] = (early, *another(TRUTH["BTC-USD"][early]))

        def times() -> list[list[int]]:
            spans = dict.fromkeys(BOTH, (FIRST, here.house.now()))
            return [answer.time.tolist() for answer in here.feed.fetch(spans).values()]

        first, second, third = FIRST, FIRST + MINUTE, FIRST + 2 * MINUTE
        assert times() == [[first], [first, second, third]]
        if not insists:
            here.house.spoiled.clear()
        else:
            here.house.now.advance(1_000)
            assert times() == [[first], [first, second, third]]
            here.house.now.advance(3_000)
        assert times() == [[first, second, third]] * 2
        assert here.feed.disagreements == insists
        before = here.feed.agreements
        assert times() == [[first, second, third]] * 2  # judged once
        assert here.feed.agreements == before == 4 - insists


def test_volumes_that_were_added_in_another_order_are_the_same() -> None:
    with scene("coinbase") as here:
        here.station.play(30_000)
        assert soon(lambda: here.feed.connected)
        here.station.play(2 * MINUTE)
        assert soon(here.heard)
        second = FIRST + MINUTE
        numbers = TRUTH["BTC-USD"][second]
        here.house.spoiled["BTC-USD", second] = (second, *numbers[:4], math.nextafter(numbers[4], math.inf))
        answers = here.feed.fetch(dict.fromkeys(BOTH, (FIRST, here.house.now())))
        assert len(answers["BTC-USD"]) == 2
        assert here.feed.agreements == 2


@pytest.mark.parametrize("venue", ["mtgox", "coinbase-advanced"])
def test_a_venue_without_a_stream_is_refused(venue: str) -> None:
    from crpbot.live.stream import StreamFeed

    with scene("coinbase") as here, pytest.raises(ExchangeError, match="a stream must be of coinbase, binance, kraken"):
        StreamFeed(venue, BOTH, here.clock, rest=here.feed._rest)
