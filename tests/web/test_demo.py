"""The demo: what comes with the package, and the market that is replayed on it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from crpbot.errors import CrpbotError
from crpbot.live.health import read_health
from crpbot.live.journal import open_journal
from crpbot.live.service import Watch
from crpbot.live.trail import read_trail
from crpbot.market.candles import MINUTE
from crpbot.market.sample import read_sample
from crpbot.registry.registry import Registry
from crpbot.web import demo, played

ARCHIVE = Path(demo.__file__).parent / demo.ARCHIVE


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    demo.unpack(folder)
    return folder


# What comes with the package


def test_the_archive_is_whole_and_small_and_made_by_nobody() -> None:
    assert ARCHIVE.stat().st_size <= 3_000_000
    with ZipFile(ARCHIVE) as archive:
        assert archive.testzip() is None
        assert {one.date_time for one in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        said = b"".join(archive.read(name) for name in archive.namelist() if name.endswith((".json", ".jsonl", ".db")))
    assert not [word for word in (b"/tmp", b"/home", b"/work", b"/root", b"/Users") if word in said]


def test_everything_is_kept_of_its_judgements_that_a_page_draws() -> None:
    with ZipFile(ARCHIVE) as archive:
        judgements = [json.loads(archive.read(name)) for name in archive.namelist() if "/judgements/" in name]
    assert len(judgements) == 5
    for plain in judgements:
        assert plain["curves"]
        assert plain["words"]


def test_its_ledger_proves_and_so_does_everything_that_is_kept(home: Path) -> None:
    registry = Registry(home / "registry")
    assert {line.who for line in registry.lines()} == {"the demo"}
    for entry in registry.entries(every=True):
        assert registry.checkpoint(entry).exists()
        assert entry.proven_until < played.CUT
    for entry in registry.entries():
        assert not entry.expired(played.END)
        origin = registry.speaker(entry).origin
        assert origin is not None
        assert origin.source == "sample"


def test_its_models_are_what_it_says(home: Path) -> None:
    entries = Registry(home / "registry").entries(every=True)
    assert {(one.symbol, one.recipe, str(one.stage)) for one in entries} == {
        ("BTC-USD", "v8", "live"),
        ("ETH-USD", "v7", "live"),
        ("BTC-USD", "v7", "retired"),
        ("BTC-USD", "v7-lost-scaler", "candidate"),
        ("SOL-USD", "v7", "candidate"),
    }
    why = {(one.symbol, one.recipe): one.reason for one in entries}
    assert "normalizer-present" in why["BTC-USD", "v7-lost-scaler"]
    assert "beats-majority" in why["SOL-USD", "v7"]


def test_a_rollback_has_somewhere_to_go_until_the_demo_is_over(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "home")
    entry = Registry(tmp_path / "home" / "registry").rollback("BTC-USD", now=played.END, who="somebody")
    assert (entry.recipe, entry.stage) == ("v7", "live")


def test_its_journal_has_the_week_before_with_what_became_of_it(home: Path, tmp_path: Path) -> None:
    shutil.copy(home / played.JOURNAL, tmp_path / "journal.db")
    journal = open_journal(tmp_path / "journal.db")
    assert journal.heads() <= {line.sha256_of_line for line in Registry(home / "registry").lines()}
    for symbol in played.SYMBOLS:
        said = journal.signals(symbol, limit=10_000)
        assert len(said) > 100
        assert {one.stage for one in said} == {"live"}
        assert all(played.CUT <= one.candle < played.START and one.confidence >= played.THRESHOLD for one in said)
        assert sum(one.outcome is not None for one in said) > 0.9 * len(said)
        assert journal.paper.summary(symbol).trades
    assert {event.kind for event in journal.events.newest(100)} == {"start", "serves", "stop"}
    assert all(event.time < played.START for event in journal.events.newest(100))
    journal.close()


def test_no_name_in_an_archive_leads_out_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ZipFile(tmp_path / "bad.zip", "w") as archive:
        for name in ("../out.txt", "/out.txt", "inner/../../out.txt"):
            archive.writestr(name, "out")
    monkeypatch.setattr(demo, "ARCHIVE", str(tmp_path / "bad.zip"))
    demo.unpack(tmp_path / "home")
    assert {file.relative_to(tmp_path).parts[0] for file in tmp_path.rglob("*")} == {"bad.zip", "home"}


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_a_speed_that_is_none_is_refused(speed: float) -> None:
    with pytest.raises(CrpbotError, match="above 0"), demo.demo(speed):
        pass


# The market that is replayed on it


@pytest.fixture(scope="module")
def running() -> Iterator[demo.Demo]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRPBOT_WEB_TOKEN", "not for the player")
        with demo.demo() as one:
            yield one
    assert not one.home.exists()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="only Linux tells what a process was given")
def test_the_player_is_given_no_token(running: demo.Demo) -> None:
    player = json.loads((running.home / "live" / "health.json").read_text())["pid"]
    given = (Path("/proc") / str(player) / "environ").read_bytes()
    assert b"PATH=" in given
    assert b"not for the player" not in given


@pytest.mark.slow
def test_a_candle_is_seen_within_two_seconds_of_its_close(running: demo.Demo) -> None:
    """One of some candles: how busy this machine is says nothing of the demo."""
    for symbol in running.symbols:
        assert any(seconds_until_seen(running, symbol) < 2 for _ in range(10))


def seconds_until_seen(running: demo.Demo, symbol: str) -> float:
    """Return how long after its close, in seconds of ours, the next candle of a market is seen; it is that of the sample."""
    folder = running.home / "live" / "candles"
    before = read_trail(folder, symbol).time[-1]
    while (found := read_trail(folder, symbol)).time[-1] == before:
        time.sleep(0.01)
    now, known = running.now(), read_sample(symbol)
    first = int(known.time.searchsorted(found.time[0]))
    assert found.sha256 == known[first : first + len(found)].sha256
    return (now - int(found.time[-1]) - MINUTE) / 60_000


@pytest.mark.slow
def test_nothing_is_known_of_what_is_still_to_come(running: demo.Demo) -> None:
    for symbol in (*running.symbols, "SOL-USD"):
        before, known, after = running.now(), running.candles(symbol), running.now()
        assert known.time[-1] + MINUTE <= after
        assert before - 2 * MINUTE < known.time[-1] or symbol == "SOL-USD"
        assert known.sha256 == read_sample(symbol)[: len(known)].sha256


@pytest.mark.slow
def test_it_is_well_and_says_what_it_is(running: demo.Demo) -> None:
    well, words = read_health(running.home / "live" / "health.json")
    assert well, words
    for part in ("2026-05-25", "2026-05-18", "52%", "60%", "bundled"):
        assert part in running.words


@pytest.mark.slow
def test_a_rollback_is_taken_up_at_the_next_candle(running: demo.Demo) -> None:
    entry = Registry(running.home / "registry").rollback("BTC-USD", now=running.now(), who="somebody")
    latest = time.monotonic() + 30
    served = f"live {entry.sha256[:12]}"
    while served not in json.loads((running.home / "live" / "health.json").read_text())["markets"]["BTC-USD"]["models"]:
        assert time.monotonic() < latest
        time.sleep(0.05)
    time.sleep(1.1)
    well, words = read_health(running.home / "live" / "health.json")
    assert well, words


@pytest.mark.slow
def test_it_says_when_it_is_over() -> None:
    until = played.START + 20 * MINUTE
    with demo.demo(1_200, until=until) as short:
        health, latest = short.home / "live" / "health.json", time.monotonic() + 30
        while "the recording is over" not in read_health(health)[1]:
            assert time.monotonic() < latest
            time.sleep(0.05)
        assert short.now() == until
        well, words = read_health(health)
        assert well, words
        for symbol in short.symbols:
            assert read_trail(short.home / "live" / "candles", symbol).time[-1] == until - MINUTE
    assert not short.home.exists()


@pytest.mark.slow
def test_it_speaks_in_its_first_hour_and_not_of_what_its_journal_has(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "home")
    played.play(tmp_path / "home", start=played.START, until=played.START + 60 * MINUTE, speed=0, watch=Watch())
    journal = open_journal(tmp_path / "home" / played.JOURNAL)
    said = journal.signals(since=played.START)
    assert len(said) > 2
    assert {one.status for one in said} == {"signal"}
    assert not [one for one in journal.open_signals() if one.candle < played.START - 30 * MINUTE]
    journal.close()


PARENT = """
import time
from crpbot.web import demo
with demo.demo() as one:
    print(one.home, flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_behind_however_it_ends(how: signal.Signals) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    home = Path(parent.stdout.readline().strip())
    child = json.loads((home / "live" / "health.json").read_text())["pid"]
    parent.send_signal(how)
    parent.communicate(timeout=30)
    latest = time.monotonic() + 30
    while home.exists() or alive(child):
        assert time.monotonic() < latest, (home.exists(), alive(child))
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
def test_a_market_that_does_not_begin_is_an_error_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    homes = []
    unpack = demo.unpack

    def damaged(home: Path) -> None:
        homes.append(home)
        unpack(home)
        ledger = home / "registry" / "ledger.jsonl"
        ledger.write_text(ledger.read_text().replace("promote", "retire", 1))

    monkeypatch.setattr(demo, "unpack", damaged)
    with pytest.raises(CrpbotError, match=r"must begin to play, found: .*ledger"), demo.demo():
        pass
    assert not homes[0].exists()
