"""The trail says what the loop took, whatever happens to its files."""

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live.test_loop import STYLE

from crpbot.live.clock import ReplayClock
from crpbot.live.desk import rows_of
from crpbot.live.feed import ReplayFeed
from crpbot.live.guard import Guard
from crpbot.live.journal import open_journal
from crpbot.live.loop import SETTLE, Loop, Setting
from crpbot.live.roster import Roster
from crpbot.live.service import Order, Watch, replay
from crpbot.live.states import States
from crpbot.live.trail import KEPT, Trail, read_trail, trail_version
from crpbot.market.candles import MINUTE, Candles
from crpbot.market.synthetic import make_market
from crpbot.registry.registry import Registry
from crpbot.web import demo, played

SYMBOL = "BTC-USD"
MARKET = make_market("random-walk", SYMBOL, rows=10_000)
END = int(MARKET.time[-1]) + MINUTE


def same(found: Candles, wanted: Candles) -> bool:
    return found.sha256 == wanted.sha256


def until(row: int) -> int:
    return int(MARKET.time[row - 1]) + MINUTE


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.booleans()), max_size=12))
def test_a_trail_is_what_was_taken_each_candle_once(tmp_path_factory: pytest.TempPathFactory, parts: list) -> None:
    """Parts may overlap, repeat what was taken before a restart, and leave holes."""
    folder = tmp_path_factory.mktemp("trail")
    trail, taken = Trail(folder), dict[int, tuple]()
    for first, last, restarted in parts:
        trail = Trail(folder) if restarted else trail
        part = MARKET[first:last]
        trail.take(SYMBOL, part, END)
        taken |= {row[0]: row for row in rows_of(part) if row[0] > max(taken, default=-1)}
        assert list(rows_of(read_trail(folder, SYMBOL))) == list(taken.values())


def test_what_was_not_decided_on_is_not_shown(tmp_path: Path) -> None:
    trail = Trail(tmp_path)
    trail.take(SYMBOL, MARKET[:10], until(7))
    assert same(read_trail(tmp_path, SYMBOL), MARKET[:7])
    trail.take(SYMBOL, MARKET[:10], END)
    assert same(read_trail(tmp_path, SYMBOL), MARKET[:10])


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_half_a_line_is_not_read_and_a_restart_goes_on_after_the_last_whole_one(tmp_path: Path, cut: int) -> None:
    Trail(tmp_path).take(SYMBOL, MARKET[:10], END)
    file = tmp_path / f"{SYMBOL}.csv"
    file.write_bytes(file.read_bytes()[:-cut])
    assert same(read_trail(tmp_path, SYMBOL), MARKET[:9])
    Trail(tmp_path).take(SYMBOL, MARKET[8:12], END)
    assert same(read_trail(tmp_path, SYMBOL), MARKET[:12])


@given(st.binary(max_size=80), st.integers(0, 10), st.sampled_from([b"", b"\n"]))
def test_damage_is_left_out_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, damage: bytes, place: int, ending: bytes
) -> None:
    folder = tmp_path_factory.mktemp("trail")
    Trail(folder).take(SYMBOL, MARKET[:10], END)
    file = folder / f"{SYMBOL}.csv"
    lines = file.read_bytes().splitlines(keepends=True)
    lines.insert(place, damage + (ending if place == 10 else b"\n"))
    file.write_bytes(b"".join(lines))
    assert same(read_trail(folder, SYMBOL), MARKET[:10])


@pytest.mark.parametrize("line", ["nan", "60000,1,2,3,4,5", "60000,nan,1,1,1,1", "60001,1,1,1,1,1", "9" * 30 + ",1,1,1,1,1"])
def test_a_line_that_is_no_candle_is_left_out(tmp_path: Path, line: str) -> None:
    Trail(tmp_path).take(SYMBOL, MARKET[:3], END)
    file = tmp_path / f"{SYMBOL}.csv"
    file.write_text(line + "\n" + file.read_text())
    assert same(read_trail(tmp_path, SYMBOL), MARKET[:3])


def test_a_candle_that_is_there_twice_is_read_once(tmp_path: Path) -> None:
    Trail(tmp_path).take(SYMBOL, MARKET[:10], END)
    file = tmp_path / f"{SYMBOL}.csv"
    file.write_bytes(file.read_bytes() + b"".join(file.read_bytes().splitlines(keepends=True)[4:8]))
    assert same(read_trail(tmp_path, SYMBOL), MARKET[:10])


def test_a_trail_is_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    trail, most = Trail(tmp_path), 0
    for row in range(0, len(MARKET), 100):
        trail.take(SYMBOL, MARKET[row : row + 100], END)
        lines = len((tmp_path / f"{SYMBOL}.csv").read_bytes().splitlines())
        most = max(most, lines)
        assert lines >= min(row + 100, KEPT)
    assert most <= 2 * KEPT
    assert same(read_trail(tmp_path, SYMBOL), MARKET[-KEPT:])
    assert same(read_trail(tmp_path, SYMBOL, newest=5), MARKET[-5:])
    assert len(read_trail(tmp_path, SYMBOL, newest=0)) == 0


def test_whoever_reads_meanwhile_sees_a_part_and_never_nonsense(tmp_path: Path) -> None:
    part = MARKET[:7_000]  # it is cut on the way

    def write() -> None:
        trail = Trail(tmp_path)
        for row in range(0, len(part), 7):
            trail.take(SYMBOL, part[row : row + 7], END)

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        found = read_trail(tmp_path, SYMBOL, newest=50)
        first = int(part.time.searchsorted(found.time[0])) if len(found) else 0
        assert same(found, part[first : first + len(found)])
    writer.join()
    assert same(read_trail(tmp_path, SYMBOL), part[-KEPT:])


def test_a_disk_that_does_not_do_it_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    Trail(tmp_path / "file").take(SYMBOL, MARKET[:3], END)
    trail = Trail(tmp_path)
    trail.take(SYMBOL, MARKET[:3], END)

    def full(symbol: str, lines: bytes) -> None:
        with (tmp_path / f"{symbol}.csv").open("ab") as file:
            file.write(lines[: len(lines) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(trail, "_append", full)
        trail.take(SYMBOL, MARKET[3:4], END)
    assert same(read_trail(tmp_path, SYMBOL), MARKET[:3])
    trail.take(SYMBOL, MARKET[4:6], END)
    assert np.array_equal(read_trail(tmp_path, SYMBOL).time, MARKET.time[[0, 1, 2, 4, 5]])


def test_a_version_changes_with_every_candle_and_names_the_market(tmp_path: Path) -> None:
    assert trail_version(tmp_path / "none") == {}
    assert len(read_trail(tmp_path / "none", SYMBOL)) == 0
    trail = Trail(tmp_path)
    trail.take(SYMBOL, MARKET[:2], END)
    trail.take("ETH-USD", MARKET[:2], END)
    before = trail_version(tmp_path)
    trail.take(SYMBOL, MARKET[:3], END)
    after = trail_version(tmp_path)
    assert {symbol for symbol in after if after[symbol] != before[symbol]} == {SYMBOL}
    trail.take(SYMBOL, MARKET[:3], END)
    assert trail_version(tmp_path) == after


class Played:
    """A loop on the models of the demo."""

    def __init__(self, home: Path, candles: Candles, start: int, history: Candles | None = None) -> None:
        self.clock, journal, registry = (
            ReplayClock(start + SETTLE),
            open_journal(home / "journal.db"),
            Registry(home / "registry"),
        )
        roster = Roster(registry, journal, (SYMBOL,), style=STYLE, find_rules=None)
        guard = Guard(registry, journal, lambda *_, **__: None, binding=False)
        trail, self.folder, self.close = Trail(home / "candles"), home / "candles", journal.close
        setting = Setting(taken=trail.take, history=lambda _: history)
        states = States(home / "states")
        feed = ReplayFeed({SYMBOL: candles}, self.clock)
        self.loop = Loop(feed, self.clock, roster, journal, guard, states, lambda *_, **__: None, setting)

    def turns(self, minutes: int) -> None:
        for _ in range(minutes):
            self.loop.turn()
            self.clock.sleep(60)


def home_in(folder: Path) -> Path:
    demo.unpack(folder)
    return folder


@pytest.mark.slow
def test_what_the_loop_took_is_in_the_trail_also_after_a_restart(tmp_path: Path) -> None:
    home, candles = home_in(tmp_path), played.recording(SYMBOL, start=played.START, until=played.START + 300 * MINUTE)
    first = Played(home, candles, played.START)
    first.turns(10)
    begun = read_trail(first.folder, SYMBOL)
    assert len(begun) > 2_000  # the history that it began with
    first.loop._save(SYMBOL)
    first.turns(5)
    first.close()  # killed: its state is five candles old
    second = Played(home, candles, played.START + 30 * MINUTE)
    second.turns(2)
    second.close()
    found = read_trail(second.folder, SYMBOL, newest=2 * KEPT)
    wanted = candles[int(candles.time.searchsorted(begun.time[0])) : int(candles.time.searchsorted(played.START + 31 * MINUTE))]
    assert same(found, wanted)


@pytest.mark.slow
def test_history_that_somebody_has_is_in_the_trail(tmp_path: Path) -> None:
    home, candles = home_in(tmp_path), played.recording(SYMBOL, start=played.START, until=played.START + 10 * MINUTE)
    known = candles[: int(candles.time.searchsorted(played.START))]
    world = Played(home, candles[-10:], played.START + 2 * MINUTE, history=known)
    world.turns(1)
    world.close()
    found = read_trail(world.folder, SYMBOL, newest=2 * KEPT)
    wanted = candles[: int(candles.time.searchsorted(played.START + 2 * MINUTE))]
    assert same(found, wanted[-len(found) :])
    assert len(found) > 2_000


@pytest.mark.slow
def test_a_replay_is_shown_where_it_was_asked_for_and_nowhere_else(tmp_path: Path) -> None:
    home, candles = home_in(tmp_path / "home"), played.recording(SYMBOL, start=played.START, until=played.START + 5 * MINUTE)
    before = sorted(home.rglob("*"))
    order = Order(home=home, symbols=(SYMBOL,), journal=str(tmp_path / "j.db"), style=STYLE)
    replay(order, {SYMBOL: candles}, speed=0, start=played.START, watch=Watch())
    assert sorted(home.rglob("*")) == before
    shown = Order(home=home, symbols=(SYMBOL,), journal=str(tmp_path / "j.db"), style=STYLE, shown=tmp_path / "shown")
    replay(shown, {SYMBOL: candles}, speed=0, start=played.START, watch=Watch())
    assert (tmp_path / "shown" / "health.json").exists()
    assert same(read_trail(tmp_path / "shown" / "candles", SYMBOL, newest=20), candles[-20:])
    assert sorted(home.rglob("*")) == before
