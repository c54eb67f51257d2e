"""Feeds: a recording, and venues on loopback that fail, are late, or have another time."""

import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import START, walk
from venues import FAULTS, House, Visitor, serving

from crpbot.errors import ExchangeError
from crpbot.live.clock import ReplayClock, SystemClock
from crpbot.live.feed import ReplayFeed, RestFeed
from crpbot.live.rules import market_rules
from crpbot.market.candles import MINUTE, Candles
from crpbot.market.venues import VENUES
from crpbot.signals.rules import MarketRules

pytestmark = pytest.mark.slow  # a venue on loopback, and ccxt

ROWS = 400
MARKETS = {"BTC-USD": walk(ROWS, 1, level=60_000.0), "ETH-USD": walk(ROWS, 2, level=3_000.0)}
BOTH = tuple(MARKETS)
asking = [
    pytest.mark.slow,  # ccxt alone takes seconds
    pytest.mark.skipif(find_spec("ccxt") is None, reason="asking a venue needs the extra `live`"),
]
everywhere = pytest.mark.parametrize("venue", VENUES)


def rows(candles: Candles) -> dict[int, tuple[float, ...]]:
    columns = (candles.time, candles.open, candles.high, candles.low, candles.close, candles.volume)
    return {row[0]: row[1:] for row in zip(*(column.tolist() for column in columns), strict=True)}


TRUTH = {symbol: rows(candles) for symbol, candles in MARKETS.items()}


def given_of(answer: Candles | ExchangeError) -> dict[int, tuple[float, ...]]:
    return rows(answer) if isinstance(answer, Candles) else {}


@contextmanager
def scene(
    venue: str, *, minute: float = 100, ahead: int = 0, symbols: tuple[str, ...] = BOTH, markets=MARKETS, **options
) -> Iterator[tuple[House, Visitor, RestFeed]]:
    with serving(markets, lambda: START + int(minute * MINUTE), clock=True) as house:
        clock = Visitor(house, ahead=ahead)
        feed = RestFeed(venue, symbols, clock, address=house.address, **options)
        try:
            yield house, clock, feed
        finally:
            feed.close()


def spans(first: float, last: float, symbols: tuple[str, ...] = BOTH) -> Mapping[str, tuple[int, int]]:
    return dict.fromkeys(symbols, (START + int(first * MINUTE), START + int(last * MINUTE)))


# -- a recording


@given(st.integers(0, ROWS * MINUTE + MINUTE), st.integers(-5, ROWS), st.integers(0, 50))
def test_a_recording_shows_what_has_closed_and_nothing_else(passed: int, first: int, length: int) -> None:
    feed = ReplayFeed(MARKETS, ReplayClock(START + passed))
    answers = feed.fetch(spans(first, first + length))
    for symbol in BOTH:
        wanted = {t: row for t, row in TRUTH[symbol].items() if START + first * MINUTE <= t < START + (first + length) * MINUTE}
        assert given_of(answers[symbol]) == {t: row for t, row in wanted.items() if t + MINUTE <= START + passed}


def test_a_recording_waits_on_its_clock_and_stops_with_it() -> None:
    clock = ReplayClock(START)
    feed = ReplayFeed(MARKETS, clock)
    feed.wait(START + 90 * MINUTE)
    assert clock.now() == START + 90 * MINUTE
    clock.stop()
    feed.wait(START + 91 * MINUTE)
    assert clock.now() == START + 90 * MINUTE
    assert feed.skew is None
    feed.close()


def test_a_recording_shows_no_stand_ins_and_says_which_market_it_lacks() -> None:
    from crpbot.market.fill import fill_flat

    source = MARKETS["BTC-USD"]
    keep = np.ones(ROWS, bool)
    keep[50:53] = False
    holed = Candles(*(getattr(source, name)[keep] for name in ("time", "open", "high", "low", "close", "volume")))
    filled = fill_flat(holed, most=5)
    assert filled.filled is not None
    answers = ReplayFeed({"BTC-USD": filled}, ReplayClock(START + ROWS * MINUTE)).fetch(spans(0, ROWS))
    assert given_of(answers["BTC-USD"]) == rows(holed)
    assert "none of the name ETH-USD" in str(answers["ETH-USD"])


# -- a venue that is asked


class TestRest:
    pytestmark = asking

    @everywhere
    @pytest.mark.parametrize("ahead", [-10_000, 0, 10_000])
    def test_whatever_fails_each_candle_is_the_venue_s_final_one_and_in_the_end_all_are_there(
        self, venue: str, ahead: int
    ) -> None:
        chance = random.Random(f"{venue} {ahead}")  # noqa: S311
        with scene(venue, ahead=ahead) as (house, _clock, feed):
            house.faults, house.doubled = 0.3, True
            seen: dict[str, dict[int, tuple[float, ...]]] = {symbol: {} for symbol in BOTH}
            for symbol in BOTH:
                for minute in range(100, 130):
                    fate, where = chance.random(), (symbol, START + minute * MINUTE)
                    if fate < 0.2:
                        house.late[where] = chance.randrange(30_000, 150_000)
                    elif fate < 0.3:
                        house.absent.add(where)
            for minute in range(101, 135):
                house.faults *= minute < 131
                feed.wait(START + minute * MINUTE + chance.choice([0, 300, 2_000]))
                for symbol, answer in feed.fetch(spans(100, minute)).items():
                    for time, row in given_of(answer).items():
                        assert row == TRUTH[symbol][time]
                        assert house.published(symbol, time, house.now())
                        seen[symbol][time] = row
            assert house.failed > 5
            for symbol in BOTH:
                times = {START + minute * MINUTE for minute in range(100, 133)}
                assert set(seen[symbol]) >= {time for time in times if (symbol, time) not in house.absent}
                assert not {time for time in seen[symbol] if (symbol, time) in house.absent}
            assert feed.skew == pytest.approx(-ahead / 1_000, abs=1.0)

    @everywhere
    @pytest.mark.parametrize("ahead", [-3_000, 0, 3_000])
    def test_no_candle_comes_before_both_clocks_say_that_it_is_over_and_soon_after_it_does(self, venue: str, ahead: int) -> None:
        close = START + 101 * MINUTE
        with scene(venue, minute=100.9, ahead=ahead) as (house, clock, feed):
            came = None
            while came is None:
                answer = feed.fetch(spans(99, 103, ("BTC-USD",)))["BTC-USD"]
                assert isinstance(answer, Candles)
                times = set(answer.time.tolist())
                assert times >= {START + 99 * MINUTE}
                if START + 100 * MINUTE in times:
                    came = min(house.now(), clock.now())
                assert given_of(answer).items() <= TRUTH["BTC-USD"].items()
                clock.sleep(0.1)
            assert close <= came < close + 3_500  # of which kraken's pace takes up to two

    @pytest.mark.parametrize("pause", [0.9, 2.0, 30.0])
    def test_an_answer_that_was_read_before_the_close_and_stamped_after_it_is_no_proof(self, pause: float) -> None:
        with scene("coinbase", minute=100.999, ahead=10_000) as (house, clock, feed):
            read = house.bars

            def slow(*asked: object) -> object:
                bars = read(*asked)
                clock.sleep(pause)
                return bars

            house.bars = slow
            answer = feed.fetch(spans(99, 103, ("BTC-USD",)))["BTC-USD"]
            assert house.now() > START + 101 * MINUTE
            assert answer.time.tolist() == [START + 99 * MINUTE]

    def test_a_venue_that_does_not_tell_its_time_is_believed_what_was_over_when_it_was_asked(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("venues.Handler.date_time_string", lambda *_: "")
        with scene("coinbase", minute=100.999) as (house, clock, feed):
            read = house.bars

            def slow(*asked: object) -> object:
                bars = read(*asked)
                clock.sleep(2.0)
                return bars

            house.bars = slow
            assert feed.fetch(spans(99, 103, ("BTC-USD",)))["BTC-USD"].time.tolist() == [START + 99 * MINUTE]
            assert len(feed.fetch(spans(99, 103, ("BTC-USD",)))["BTC-USD"]) == 2
            assert feed.skew is None

    @everywhere
    @pytest.mark.parametrize("fault", FAULTS)
    def test_every_kind_of_fault_passes(self, venue: str, fault: str) -> None:
        with scene(venue, workers=1) as (house, _clock, feed):
            house.script.extend([fault] * 3)
            answers = feed.fetch(spans(90, 99))
            assert {symbol: given_of(answer) for symbol, answer in answers.items()} == {
                symbol: rows(source[90:99]) for symbol, source in MARKETS.items()
            }

    @everywhere
    def test_a_symbol_that_fails_takes_no_other_down(self, venue: str) -> None:
        bad = START + 95 * MINUTE
        with scene(venue, symbols=(*BOTH, "NOT-USD")) as (house, _clock, feed):
            house.spoiled["ETH-USD", bad] = (bad, 5.0, 4.0, 3.0, 3.5, 1.0)
            answers = feed.fetch(spans(90, 99, (*BOTH, "NOT-USD")))
            assert given_of(answers["BTC-USD"]) == rows(MARKETS["BTC-USD"][90:99])
            assert "high must not be below open or close" in str(answers["ETH-USD"])
            assert "check the symbol" in str(answers["NOT-USD"])
            assert list(answers) == [*BOTH, "NOT-USD"]

    def test_a_list_of_markets_that_does_not_come_is_asked_for_again_the_next_time(self) -> None:
        with scene("kraken") as (house, _clock, feed):
            house.market_script.extend(["down"] * 99)
            answers = feed.fetch(spans(90, 99))
            assert all("its list of markets" in str(answer) for answer in answers.values())
            house.market_script.clear()
            assert all(len(answer) == 9 for answer in feed.fetch(spans(90, 99)).values())

    @everywhere
    def test_no_call_takes_longer_than_the_patience(self, venue: str) -> None:
        with scene(venue, workers=1, patience=10.0) as (house, clock, feed):
            feed.fetch(spans(90, 99))
            house.faults = 1.0
            before = house.now()
            answers = feed.fetch(spans(90, 99))
            assert all(isinstance(answer, ExchangeError) for answer in answers.values())
            assert house.now() - before <= 10_000
            house.faults = 0.0
            clock.sleep(10.0)
            assert all(len(answer) == 9 for answer in feed.fetch(spans(90, 99)).values())

    @pytest.mark.parametrize("venue", ["coinbase", "coinbase-advanced", "binance"])
    def test_a_ban_is_kept_to_without_waiting_for_its_end(self, venue: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("venues.RETRY_AFTER", 90)
        with scene(venue, workers=1) as (house, clock, feed):
            house.script.append("limited")
            began = house.now()
            for _ in range(4):
                answers = feed.fetch(spans(90, 99))
                assert all(isinstance(answer, ExchangeError) for answer in answers.values())
                assert house.requests["candles"] == 1
                clock.sleep(15.0)
            clock.sleep(31.0)
            assert house.now() - began > 90_000
            assert all(len(answer) == 9 for answer in feed.fetch(spans(90, 99)).values())

    def test_who_got_no_answer_goes_first_the_next_time(self) -> None:
        symbols = tuple(f"C{number:02}-USD" for number in range(30))
        markets = dict.fromkeys(symbols, MARKETS["BTC-USD"])
        with scene("coinbase", symbols=symbols, markets=markets, workers=1, patience=1.05) as (_house, clock, feed):
            served: list[str] = []
            for _ in range(3):
                answers = feed.fetch(spans(90, 99, symbols))
                served += [symbol for symbol, answer in answers.items() if isinstance(answer, Candles)]
                clock.sleep(1.0)
            assert set(served) == set(symbols)
            assert len(served) < 2 * len(symbols)

    @everywhere
    def test_long_spans_come_in_as_few_pages_as_can_be(self, venue: str) -> None:
        with scene(venue, minute=ROWS) as (house, _clock, feed):
            answers = feed.fetch(spans(1, ROWS - 1))
            assert {symbol: given_of(answer) for symbol, answer in answers.items()} == {
                symbol: rows(source[1:-1]) for symbol, source in MARKETS.items()
            }
            assert house.requests["candles"] == 2 * (2 if VENUES[venue].page == 300 else 1)

    def test_nothing_is_asked_when_nothing_can_have_closed(self) -> None:
        with scene("coinbase") as (house, _clock, feed):
            answers = feed.fetch(spans(100, 110))
            assert [len(answer) for answer in answers.values()] == [0, 0]
            assert not house.requests["candles"]
            assert feed.skew is None

    @everywhere
    def test_lines_are_kept(self, venue: str) -> None:
        with scene(venue, workers=2) as (house, _clock, feed):
            for minute in range(101, 121):
                feed.wait(START + minute * MINUTE + 2_000)
                feed.fetch(spans(minute - 1, minute))
            assert house.requests["candles"] == 40
            assert house.connections <= 2

    def test_a_line_that_is_silent_or_drips_holds_nobody_else_up(self) -> None:
        with scene("coinbase", workers=2, patience=1.0) as (house, clock, feed):
            house.script.append("drip")
            answers = feed.fetch(spans(1, 99))
            assert sorted(isinstance(answer, ExchangeError) for answer in answers.values()) == [False, True]
            stuck = next(symbol for symbol, answer in answers.items() if isinstance(answer, ExchangeError))
            assert f"found a line of {stuck} that hangs" in str(answers[stuck])
            assert len(feed.fetch(spans(90, 99))[next(symbol for symbol in BOTH if symbol != stuck)]) == 9
            house.script.extend(["hang"] * 8)
            house.release.set()
            for _ in range(50):
                answers = feed.fetch(spans(90, 99))
                clock.sleep(2.0)
                if all(isinstance(answer, Candles) for answer in answers.values()):
                    break
            assert {symbol: given_of(answer) for symbol, answer in answers.items()} == {
                symbol: rows(source[90:99]) for symbol, source in MARKETS.items()
            }

    def test_a_stop_ends_the_waiting(self) -> None:
        clock = SystemClock()
        feed = RestFeed("coinbase", BOTH, clock, address="http://127.0.0.1:1")
        threading.Timer(0.1, clock.stop).start()
        feed.wait(clock.now() + 3_600_000)
        answers = feed.fetch({"BTC-USD": (clock.now() - 10 * MINUTE, clock.now())})
        assert isinstance(answers["BTC-USD"], ExchangeError)
        feed.close()

    def test_a_venue_that_is_none_is_refused(self) -> None:
        with pytest.raises(ExchangeError, match=r"a venue must be one of coinbase, .* found 'mtgox'"):
            RestFeed("mtgox", BOTH, SystemClock())


# -- what an order must keep to


class TestRules:
    pytestmark = asking

    @everywhere
    def test_tick_lot_and_least_order_come_from_the_venue(self, venue: str) -> None:
        lot, least, tick = {"binance": (1e-5, 5.0, 0.01), "kraken": (1e-8, 0.5, 0.1)}.get(venue, (1e-8, 1.0, 0.01))
        with scene(venue) as (house, clock, _feed):
            house.market_script.append("down")
            found = market_rules(venue, BOTH, address=house.address, clock=clock)
        assert found == dict.fromkeys(BOTH, MarketRules(tick=tick, lot=lot, min_notional=least))

    @everywhere
    def test_what_cannot_be_had_is_an_error_that_says_what_to_do(self, venue: str) -> None:
        with scene(venue) as (house, clock, _feed):
            with pytest.raises(ExchangeError, match="none of the name NOT-USD; check the symbol"):
                market_rules(venue, ["BTC-USD", "NOT-USD"], address=house.address, clock=clock)
            house.market_script.extend(["down"] * 99)
            with pytest.raises(ExchangeError, match=r"its list of markets.*give tick, lot and least order yourself"):
                market_rules(venue, BOTH, address=house.address, clock=clock)
