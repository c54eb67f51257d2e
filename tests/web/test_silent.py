"""A journal that does not answer is said to be away, and nobody waits long for it: not the first visitor, nor forty at once."""

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import httpx2 as httpx
import pytest
from live.worlds import promoted
from models import market
from silent import silent
from web.houses import ask, listening
from web.spoken import NOW, spoken

from crpbot.market.candles import MINUTE
from crpbot.web.setting import Setting

pytestmark = pytest.mark.slow
ALL = ("/", "/signals", "/api/signals", "/models", "/data", "/jobs", "/api/overview", "/api/reliability?symbol=BTC-USD")


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crpbot.web.house._PATIENCE", 2.0)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    promoted(folder, folder / "made")
    return folder


@pytest.fixture
def server(home: Path) -> Iterator[str]:
    with silent() as address:
        setting = Setting(home=home, now=lambda: int(market().time[-1]) + MINUTE, journal=address)
        with listening(setting) as here:
            yield here


def test_no_page_waits_long_even_if_forty_are_asked_for_at_once(server: str) -> None:
    took: dict[str, list[float]] = {}
    lock = threading.Lock()

    def get(path: str) -> None:
        started = monotonic()
        answer = httpx.get(server + path, timeout=30)
        with lock:
            took.setdefault(path, []).append(monotonic() - started)
        assert answer.status_code in {200, 422}

    for longest in (6.0, 1.5):  # the second time it is known; this machine may be busy
        took.clear()
        threads = [threading.Thread(target=get, args=(path,)) for path in ALL * 5]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(map(len, took.values())) == len(threads)
        assert max(map(max, took.values())) < longest, took


def test_the_pages_go_on_without_it_and_say_so_once(server: str) -> None:
    overview = httpx.get(server + "/api/overview", timeout=30).json()
    assert len({one["words"] for one in overview["attention"] if "the journal" in one["words"]}) == 1
    assert httpx.get(server + "/signals").text.count("the journal postgresql://somebody@") == 1
    (told,) = httpx.get(server + "/api/models").json()
    assert told["stage"] == "live"
    assert httpx.get(server + "/data").status_code == 200


def test_a_locked_journal_is_said_to_be_locked(tmp_path: Path) -> None:
    folder = spoken(tmp_path)
    locks = sqlite3.connect(folder / "journal.db", isolation_level=None)
    locks.execute("PRAGMA locking_mode = EXCLUSIVE")
    locks.execute("BEGIN EXCLUSIVE")
    with ask(folder, now=NOW, candles=str(folder / "candles")) as browser:
        started = monotonic()
        page = browser.get("/signals")
        assert monotonic() - started < 8
        assert page.status_code == 200
        assert "locked" in page.text
        started = monotonic()
        assert browser.get("/api/signals").status_code == 422
        assert monotonic() - started < 1
    locks.close()
