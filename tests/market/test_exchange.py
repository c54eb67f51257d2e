"""Downloads: real ccxt against loopback servers that speak as the venues do. Only the addresses are other."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import START, walk
from venues import FAULTS, RETRY_AFTER, House, serving

from crpbot.errors import CandleError, ExchangeError
from crpbot.market.ask import TRIES, pace_of, pages
from crpbot.market.candles import MINUTE, Candles, utc
from crpbot.market.exchange import Downloaded, Progress, download
from crpbot.market.lake import Lake
from crpbot.market.venues import VENUES

pytestmark = [
    pytest.mark.slow,  # ccxt alone takes seconds
    pytest.mark.skipif(find_spec("ccxt") is None, reason="downloads need the extra `live`"),
]

ROWS = 3_000
MARKETS = {"BTC-USD": walk(ROWS, 1, level=60_000.0), "ETH-USD": walk(ROWS, 2, level=3_000.0)}
END = START + ROWS * MINUTE
LATER = END + 60 * MINUTE
SPANS = {venue: (END - (700 * MINUTE if venue == "kraken" else ROWS * MINUTE), END) for venue in VENUES}
"""Kraken has no more than its newest 720 minutes."""
everywhere = pytest.mark.parametrize("venue", VENUES)


class Shelf:
    """A lake in memory; it can break at one of the next additions."""

    def __init__(self) -> None:
        self.held: dict[str, dict[int, tuple[float, ...]]] = {}
        self.absent: dict[str, set[int]] = {}
        self.breaks_in = math.inf
        self.locked = Counter[str]()
        self._lock = threading.Lock()

    def missing(self, symbol: str, since: int, until: int) -> Sequence[tuple[int, int]]:
        known = {*self.held.get(symbol, ()), *self.absent.get(symbol, ())}
        wanted = [minute for minute in range(-(-since // MINUTE) * MINUTE, until, MINUTE) if minute not in known]
        starts = [b for a, b in pairwise([-1, *wanted]) if b - a != MINUTE]
        stops = [a + MINUTE for a, b in pairwise([*wanted, math.inf]) if b - a != MINUTE]
        return list(zip(starts, stops, strict=True))

    def add(self, symbol: str, candles: Candles, *, venue: str, asked: tuple[int, int] | None = None) -> None:
        assert venue in VENUES
        assert self.locked[symbol] == 1
        with self._lock:
            self.breaks_in -= 1
            if self.breaks_in < 0:
                raise OSError("the disk is full")
        held = self.held.setdefault(symbol, {})
        for row in zip(*(column.tolist() for column in columns(candles)), strict=True):
            assert row[0] not in held, "what is held was fetched again"
            held[row[0]] = row[1:]
        if asked is not None:
            self.absent.setdefault(symbol, set()).update(set(range(*asked, MINUTE)) - set(held))

    @contextmanager
    def lock(self, symbol: str) -> Iterator[None]:
        assert self.locked[symbol] == 0
        self.locked[symbol] += 1
        try:
            yield
        finally:
            self.locked[symbol] -= 1

    def read(self, symbol: str) -> Candles:
        held = self.held.get(symbol, {})
        times = sorted(held)
        numbers = np.array([held[time] for time in times]).reshape(-1, 5)
        return Candles(np.array(times, np.int64), *numbers.T)


def columns(candles: Candles) -> tuple[np.ndarray, ...]:
    return candles.time, candles.open, candles.high, candles.low, candles.close, candles.volume


def chosen(candles: Candles, keep: np.ndarray) -> Candles:
    return Candles(*(column[keep] for column in columns(candles)))


def part(candles: Candles, since: int, until: int) -> Candles:
    return chosen(candles, (candles.time >= since) & (candles.time < until))


@contextmanager
def scene(*, markets: Mapping[str, Candles] = MARKETS, now: int = LATER, faults: float = 0.0) -> Iterator[SimpleNamespace]:
    """Give a server, a clock, an empty shelf, and `fill`, which downloads to it without really waiting."""
    clock, shelf, slept = [now], Shelf(), []
    with serving(markets, lambda: clock[0], faults=faults) as house:

        def fill(venue: str, since: int, until: int, *, symbols: Sequence[str] = tuple(markets), into=shelf, **others):
            options = {"now": lambda: clock[0], "address": house.address, "sleep": slept.append, **others}
            return download(into, symbols, venue=venue, since=since, until=until, **options)

        yield SimpleNamespace(house=house, clock=clock, shelf=shelf, slept=slept, fill=fill)


def end_of(venue: str) -> int:
    """Return a time at which the venue still has what `SPANS` asks for."""
    return END + (MINUTE if venue == "kraken" else 60 * MINUTE)


# -- what comes


@everywhere
@pytest.mark.parametrize("faults", [0.02, 0.3])
def test_a_download_is_the_source_row_for_row_whatever_fails_on_the_way(tmp_path: Path, venue: str, faults: float) -> None:
    lake = Lake(tmp_path)
    with scene(now=end_of(venue), faults=faults) as here:
        found = here.fill(venue, *SPANS[venue], into=lake)
        failed = here.house.failed
    rows = (SPANS[venue][1] - SPANS[venue][0]) // MINUTE
    assert found == (Downloaded("BTC-USD", rows, 0), Downloaded("ETH-USD", rows, 0))
    for symbol, source in MARKETS.items():
        assert lake.read(symbol).sha256 == part(source, *SPANS[venue]).sha256
    assert failed


@everywhere
@pytest.mark.parametrize("fault", FAULTS)
def test_every_kind_of_fault_passes_seven_times(venue: str, fault: str) -> None:
    with scene(now=end_of(venue)) as here:
        here.house.script.extend([fault] * (TRIES - 1))
        here.fill(venue, END - 250 * MINUTE, END, symbols=["BTC-USD"])
        assert here.house.requests["candles"] == TRIES
        assert here.shelf.read("BTC-USD").sha256 == part(MARKETS["BTC-USD"], END - 250 * MINUTE, END).sha256
        assert not here.shelf.absent["BTC-USD"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_list_of_markets_may_fail_as_well(fault: str) -> None:
    with scene(now=END) as here:
        here.house.market_script.extend([fault] * (TRIES - 1))
        here.fill("kraken", END - 10 * MINUTE, END)
        assert here.house.requests["markets"] == TRIES
        assert len(here.shelf.read("ETH-USD")) == 10


@everywhere
def test_a_download_that_is_cut_again_and_again_comes_to_the_same(venue: str) -> None:
    chance = np.random.default_rng(len(venue))
    with scene(now=end_of(venue), faults=0.02) as here:
        for _ in range(200):
            here.shelf.breaks_in = int(chance.integers(0, 5))
            try:
                here.fill(venue, *SPANS[venue])
                break
            except OSError:
                continue
        for symbol, source in MARKETS.items():
            assert here.shelf.read(symbol).sha256 == part(source, *SPANS[venue]).sha256


@everywhere
def test_nothing_is_asked_when_nothing_is_missing(venue: str) -> None:
    with scene(now=end_of(venue)) as here:
        here.fill(venue, END - 400 * MINUTE, END)
        seen = here.house.requests.copy()
        assert here.fill(venue, END - 400 * MINUTE, END) == (Downloaded("BTC-USD", 0, 0), Downloaded("ETH-USD", 0, 0))
        assert here.house.requests == seen


@everywhere
def test_both_ends_and_a_hole_are_filled_with_three_requests(venue: str) -> None:
    first, end = END - 700 * MINUTE, END
    source = MARKETS["BTC-USD"]
    held = (source.time >= first + 20 * MINUTE) & (source.time < end - 20 * MINUTE)
    hole = (source.time >= first + 340 * MINUTE) & (source.time < first + 350 * MINUTE)
    with scene(now=end_of(venue)) as here:
        with here.shelf.lock("BTC-USD"):
            here.shelf.add("BTC-USD", chosen(source, held & ~hole), venue=venue)
        here.fill(venue, first, end, symbols=["BTC-USD"])
        assert here.shelf.read("BTC-USD").sha256 == part(source, first, end).sha256
        assert here.house.requests["candles"] == (1 if VENUES[venue].page >= 700 else 3)


@everywhere
def test_as_few_requests_as_can_be(venue: str) -> None:
    since, until = SPANS[venue]
    with scene(now=end_of(venue)) as here:
        here.fill(venue, since, until)
        assert here.house.requests["candles"] == 2 * math.ceil((until - since) // MINUTE / VENUES[venue].page)
        assert here.house.requests["markets"] == (1 if venue == "kraken" else 0)


@given(st.sets(st.integers(0, 400), min_size=1), st.integers(1, 60))
def test_pages_cover_what_is_missing_once_and_are_as_few_as_can_be(minutes: set[int], most: int) -> None:
    shelf = Shelf()
    shelf.absent["X-Y"] = {MINUTE * minute for minute in set(range(401)) - minutes}
    found = list(pages(shelf.missing("X-Y", 0, 401 * MINUTE), most))
    covered = [minute // MINUTE for page in found for start, stop in page for minute in range(start, stop, MINUTE)]
    assert covered == sorted(minutes)
    assert all(page[-1][1] - page[0][0] <= most * MINUTE for page in found)
    least, reach = 0, -1
    for minute in sorted(minutes):
        if minute >= reach:
            least, reach = least + 1, minute + most
    assert len(found) == least


# -- what does not come


@everywhere
def test_minutes_that_the_venue_lacks_are_known_and_not_asked_for_again(venue: str) -> None:
    since, until = END - 400 * MINUTE, END
    keep = np.ones(ROWS, bool)
    keep[-390:-380] = keep[-101] = keep[-1] = False
    with scene(markets={"BTC-USD": chosen(MARKETS["BTC-USD"], keep)}, now=END + 10 * MINUTE) as here:
        assert here.fill(venue, since, until) == (Downloaded("BTC-USD", 388, 12),)
        assert here.shelf.absent["BTC-USD"] == set(MARKETS["BTC-USD"].time[~keep].tolist())
        seen = here.house.requests["candles"]
        here.fill(venue, since, until)
        assert here.house.requests["candles"] == seen


@everywhere
def test_a_closed_minute_that_the_venue_has_not_published_yet_is_not_called_absent(venue: str) -> None:
    with scene(markets={"BTC-USD": part(MARKETS["BTC-USD"], START, END - MINUTE)}, now=END + 1_000) as here:
        here.fill(venue, END - 10 * MINUTE, END)
        assert len(here.shelf.read("BTC-USD")) == 9
        assert not here.shelf.absent["BTC-USD"]
        here.house.markets = MARKETS
        here.fill(venue, END - 10 * MINUTE, END)
        assert len(here.shelf.read("BTC-USD")) == 10


@everywhere
@pytest.mark.parametrize("past", [0, 1, MINUTE - 1])
def test_a_candle_that_has_not_closed_is_never_kept(venue: str, past: int) -> None:
    with scene(now=END - 10 * MINUTE + past) as here:
        here.fill(venue, END - 50 * MINUTE, END)
        assert here.shelf.read("BTC-USD").sha256 == part(MARKETS["BTC-USD"], END - 50 * MINUTE, END - 10 * MINUTE).sha256
        assert not here.shelf.absent["BTC-USD"]
        here.clock[0] = END
        here.fill(venue, END - 50 * MINUTE, END)
        assert here.shelf.read("BTC-USD").sha256 == part(MARKETS["BTC-USD"], END - 50 * MINUTE, END).sha256


@pytest.mark.parametrize("inclusive", [True, False])
def test_it_does_not_matter_whether_advanced_trade_counts_the_end_in(inclusive: bool) -> None:  # noqa: FBT001
    with scene() as here:
        here.house.inclusive = inclusive
        here.fill("coinbase-advanced", START, END)
        assert here.shelf.read("ETH-USD").sha256 == MARKETS["ETH-USD"].sha256


def test_minutes_of_another_span_or_twice_the_same_are_cut_away() -> None:
    with scene() as here:
        here.house.bars = lambda *asked: House.bars(here.house, asked[0], asked[1] - 5 * MINUTE, asked[2] + 5 * MINUTE) * 2
        here.fill("coinbase", START + 10 * MINUTE, END - 10 * MINUTE, symbols=["BTC-USD"])
        assert here.shelf.read("BTC-USD").sha256 == MARKETS["BTC-USD"][10:-10].sha256


# -- waiting


@pytest.mark.parametrize("venue", ["coinbase", "coinbase-advanced", "binance"])
def test_retry_after_is_waited_for(venue: str) -> None:
    with scene() as here:
        here.fill(venue, END - 10 * MINUTE, END, symbols=["BTC-USD"])
        assert sum(here.slept) < 1
        here.house.script.append("limited")
        here.fill(venue, END - 20 * MINUTE, END, symbols=["BTC-USD"])
        assert RETRY_AFTER * 0.99 <= sum(here.slept) < RETRY_AFTER + 1
        assert max(here.slept) <= 1.0


def test_retry_after_holds_all_symbols_back() -> None:
    with scene() as here:
        here.house.script.append("limited")
        here.fill("coinbase", START, END)
        throttle = sum(
            0.1 * request for request in range(21)
        )  # the fake waits take no time, so each request waits for all before
        assert sum(here.slept) > throttle + 5 * RETRY_AFTER  # and for the end of the pause, too


def test_a_long_ban_is_not_sat_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("venues.RETRY_AFTER", 7_200)
    with scene() as here:
        here.house.script.append("limited")
        with pytest.raises(ExchangeError, match="run it again in 120 minutes to go on"):
            here.fill("binance", START, END)


def test_waits_double_and_are_never_the_same() -> None:
    with scene() as here:
        here.house.script.extend(["down"] * (TRIES - 1))
        here.fill("coinbase", END - 10 * MINUTE, END, symbols=["BTC-USD"])
        assert 0.5 * 61.5 < sum(here.slept) < 1.5 * 61.5 + 1
        assert 0.5 not in here.slept


def test_the_symbols_share_the_rate_limit_of_the_venue() -> None:
    waits: list[float] = []
    pace = pace_of(0.1, waits.append, threading.Event())
    workers = [threading.Thread(target=lambda: [pace.take(1) for _ in range(10)]) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    waits.clear()
    pace.take(1)
    assert sum(waits) == pytest.approx(30 * 0.1, abs=0.2)  # the fake waits took no time, so all thirty are still to come


def test_a_download_takes_its_time_on_the_clock() -> None:
    with scene() as here:
        began = time.monotonic()
        here.fill("coinbase", END - 1_500 * MINUTE, END, sleep=time.sleep)
        assert here.house.requests["candles"] == 10
        assert time.monotonic() - began >= 9 * 0.1  # ten a second, as ccxt knows of coinbase


# -- giving up


@everywhere
def test_after_eight_tries_it_says_what_to_do_and_keeps_what_came(venue: str) -> None:
    page = VENUES[venue].page
    since = END - min(page + 20, 700) * MINUTE
    with scene(now=end_of(venue)) as here:
        here.house.script.extend(["", *["down"] * 99] if page < 700 else ["down"] * 99)
        with pytest.raises(ExchangeError) as caught:
            here.fill(venue, since, END, symbols=["ETH-USD"])
        words = str(caught.value)
        missing = utc(since + page * MINUTE) if page < 700 else utc(since)
        assert f"{venue} must give ETH-USD from {missing}, found in try 8 Exchange" in words
        assert "what was fetched is kept: run it again later to go on" in words
        assert here.house.requests["candles"] == TRIES + (page < 700)
        assert len(here.shelf.read("ETH-USD")) == (page if page < 700 else 0)


@everywhere
def test_a_market_that_the_venue_lacks_is_refused_at_once(venue: str) -> None:
    with scene(now=end_of(venue)) as here:
        with pytest.raises(ExchangeError, match="check the symbol"):
            here.fill(venue, END - 10 * MINUTE, END, symbols=["NOT-USD"])
        assert here.house.requests["candles"] <= 1
        assert not here.shelf.absent


def test_nobody_at_the_address() -> None:
    with scene() as here, pytest.raises(ExchangeError, match=r"coinbase must give BTC-USD from .*, found in try 8 NetworkError"):
        here.fill("coinbase", START, END, symbols=["BTC-USD"], address="http://127.0.0.1:1")


def test_the_first_failure_ends_the_others_after_their_page() -> None:
    with scene() as here:
        with pytest.raises(ExchangeError, match="must give NOT-USD"):
            here.fill("coinbase", START, END, symbols=["BTC-USD", "NOT-USD", "ETH-USD"])
        assert here.house.requests["candles"] < 15
        here.fill("coinbase", START, END)
        assert here.shelf.read("BTC-USD").sha256 == MARKETS["BTC-USD"].sha256


@everywhere
def test_a_bar_that_cannot_be_is_refused_with_its_minute_and_rule_and_its_page_is_not_kept(venue: str) -> None:
    bad = END - 30 * MINUTE
    with scene(now=end_of(venue)) as here:
        here.house.spoiled["BTC-USD", bad] = (bad, 5.0, 4.0, 3.0, 3.5, 1.0)
        with pytest.raises(ExchangeError, match="high must not be below open or close; found time=") as caught:
            here.fill(venue, END - 50 * MINUTE, END, symbols=["BTC-USD"])
        assert utc(bad) in str(caught.value)
        assert venue in str(caught.value)
        assert not here.shelf.held
        assert not here.shelf.absent


def test_kraken_says_that_it_has_nothing_older() -> None:
    with scene(now=END) as here:
        with pytest.raises(ExchangeError, match=r"most recent 720 minutes only.* take another venue"):
            here.fill("kraken", END - 800 * MINUTE, END)
        assert not here.house.requests["candles"]


def test_wrong_arguments_are_named() -> None:
    for words, error, options in [
        ("a venue must be one of coinbase, .* found 'mtgox'", ExchangeError, {"venue": "mtgox"}),
        ("must end after it starts", ExchangeError, {"until": START}),
        ("a symbol must look like BTC-USD", CandleError, {"symbols": ["btc/usd"]}),
    ]:
        given = {"symbols": ["BTC-USD"], "venue": "coinbase", "since": START, "until": END, **options}
        with pytest.raises(error, match=words):
            download(Shelf(), given.pop("symbols"), now=lambda: LATER, **given)


# -- around it


def test_progress_ends_where_it_should() -> None:
    seen: list[Progress] = []
    with scene() as here:
        here.fill("coinbase", START, END, watch=seen.append)
    for symbol in MARKETS:
        rows = [progress.rows for progress in seen if progress.symbol == symbol]
        assert rows == list(range(300, ROWS + 1, 300))
    assert {progress.of_rows for progress in seen} == {ROWS}
    assert all(progress.rows_per_second > 0 for progress in seen)


@pytest.mark.parametrize("name", sorted({venue.client for venue in VENUES.values()}))
def test_the_servers_speak_as_ccxt_expects_also_where_downloads_do_not_ask(name: str) -> None:
    import ccxt

    with scene(now=END) as here:
        client = getattr(ccxt, name)({"enableRateLimit": False, "options": {"fetchMarkets": {"types": ["spot"]}}})
        if name in {"coinbase", "binance"}:
            client.has["fetchCurrencies"] = False
            client.options["fetchMarkets"] = {"types": ["spot"]} if name == "binance" else "fetchMarketsV3"
        for key in ("public", "rest"):
            client.urls["api"][key] = here.house.address + ("/api/v3" if name == "binance" else "")
        symbol = "ETH/USDT" if name == "binance" else "ETH/USD"
        assert symbol in client.load_markets()
        rows = client.fetch_ohlcv(symbol, "1m", since=END - 100 * MINUTE, limit=100)
        source = part(MARKETS["ETH-USD"], END - 100 * MINUTE, END)
        np.testing.assert_array_equal(np.array(rows, float), np.stack(columns(source), axis=1))
        if name != "coinbase":  # ccxt asks its time elsewhere
            assert client.fetch_time() == pytest.approx(END, abs=1000)


@pytest.mark.slow
def test_a_killed_download_goes_on_where_it_was(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from crpbot.market.lake import Lake; from crpbot.market.exchange import download\n"
        "folder, address, since, until, now = sys.argv[1:]\n"
        "download(Lake(Path(folder)), ['BTC-USD', 'ETH-USD'], venue='coinbase', since=int(since), until=int(until),\n"
        "         now=lambda: int(now), address=address)"
    )
    with scene() as here:
        command = [sys.executable, "-c", code, str(tmp_path), here.house.address, str(START), str(END), str(LATER)]
        for requests in (3, 8):
            child = subprocess.Popen(command)
            while here.house.requests["candles"] < requests and child.poll() is None:
                time.sleep(0.005)
            os.kill(child.pid, signal.SIGKILL)
            assert child.wait() == -signal.SIGKILL
        here.fill("coinbase", START, END, into=Lake(tmp_path))
        for symbol, source in MARKETS.items():
            assert Lake(tmp_path).read(symbol).sha256 == source.sha256
        assert here.house.requests["candles"] <= 20 + 2 * 2  # two kills lost at most one page a symbol each


def test_a_clock_that_runs_ahead_keeps_no_open_candle_and_calls_nothing_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours is an hour ahead; the venue's answers tell the time."""
    from email.utils import formatdate

    import venues

    moment = END - 100 * MINUTE + 30_000
    monkeypatch.setattr(venues.Handler, "date_time_string", lambda *_: formatdate(moment / 1_000, usegmt=True))
    with scene(now=moment) as here:
        lake = Lake(tmp_path)
        here.fill("coinbase", START, END, into=lake, now=lambda: moment + 60 * MINUTE)
        until = moment // MINUTE * MINUTE
        for symbol, source in MARKETS.items():
            assert lake.read(symbol).sha256 == part(source, START, until).sha256
            assert list(lake.missing(symbol, START, END))[-1] == (until, END)
