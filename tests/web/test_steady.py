"""What goes on in the background goes on, whatever lies in the home folder; and what cannot be read is said."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from web.houses import ask

from crpbot.errors import RegistryError
from crpbot.web import overview
from crpbot.web.house import House
from crpbot.web.setting import Setting
from crpbot.web.steady import Steady

pytestmark = pytest.mark.slow
SOON = 20.0


def sign(home: Path, text: str | None = None, *, problem: str = "", **more: object) -> None:
    """Write a sign of life of the runtime."""
    (home / "live").mkdir(exist_ok=True)
    markets = {"BTC-USD": {"problem": problem}}
    plain = {"time": 1_780_000_000_000, "written": time.time(), "markets": markets, "problems": [], **more}
    (home / "live" / "health.json").write_text(json.dumps(plain) if text is None else text)


def until(true: Callable[[], bool]) -> None:
    latest = time.monotonic() + SOON
    while not true():
        assert time.monotonic() < latest
        time.sleep(0.05)


BAD = {
    "a time without end": {"time": math.inf},
    "a time that is none": {"time": math.nan},
    "a time of no calendar": {"time": 10**30},
    "a time before all": {"time": -1},
    "words for a time": {"time": "now"},
    "written without end": {"written": math.inf},
    "written never": {"written": math.nan},
    "written at a number of 400 digits": {"written": 10**400},
    "written tomorrow": {"written": 4_000_000_000},
    "no markets": {"markets": None},
    "markets of numbers": {"markets": {"BTC-USD": 1}},
}


@pytest.mark.parametrize("text", [*map(json.dumps, BAD.values()), "", "[]", "[" * 100_000, "{", '{"time": 1e999}', "\ud800"])
def test_a_sign_of_life_that_cannot_be_read_is_said(tmp_path: Path, text: str) -> None:
    house = House(Setting(home=tmp_path, now=lambda: 1))
    sign(tmp_path)
    known = json.loads((tmp_path / "live" / "health.json").read_text())
    if text.startswith('{"'):
        text = json.dumps(known)[:-1] + ", " + text[1:]  # the last one counts
    (tmp_path / "live" / "health.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    runtime = house.runtime()
    assert runtime is not None
    assert not runtime.well
    assert "must be readable" in runtime.problems[""]


def test_no_sign_of_life_is_none(tmp_path: Path) -> None:
    assert House(Setting(home=tmp_path, now=lambda: 1)).runtime() is None


def test_half_a_character_in_a_problem_is_no_error_of_the_page(tmp_path: Path) -> None:
    sign(tmp_path, problem="half \ud800 a character")
    with ask(tmp_path) as browser:
        assert (browser.get("/").status_code, browser.get("/api/overview").status_code) == (200, 200)


def test_the_overview_tells_of_what_cannot_be_read_and_goes_on(tmp_path: Path) -> None:
    sign(tmp_path)
    with ask(tmp_path) as browser:
        until(lambda: said(browser)["runtime"] == "crpbot live is well")
        sign(tmp_path, '{"time": 1e999, "markets": {}, "problems": [], "written": 1}')
        until(lambda: said(browser)["runtime"] == "crpbot live has trouble")
        assert "must be readable" in said(browser)["attention"][0]["words"]
        sign(tmp_path, problem="the exchange is gone")
        until(lambda: said(browser)["attention"][0]["words"] == "the exchange is gone")


def said(browser: TestClient) -> dict[str, object]:
    return browser.get("/api/overview").json()


def test_no_error_ends_what_keeps_the_pages_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions, broken = House.versions, []

    def damaged(house: House) -> dict[str, object]:
        if len(broken) < 10:
            broken.append(ZeroDivisionError("a bug"))
            raise broken[-1]
        return versions(house)

    sign(tmp_path)
    monkeypatch.setattr(House, "versions", damaged)
    with ask(tmp_path) as browser:
        news = browser.app.state.news
        until(lambda: len(broken) == 10)
        until(lambda: browser.app.state.desk.last() is not None)
        time.sleep(0.5)
        sign(tmp_path, problem="the exchange is gone")
        until(lambda: said(browser)["runtime"] == "crpbot live has trouble")
        until(lambda: news.counts.get("health", 0) > 0)


def test_an_overview_that_cannot_be_made_anew_is_not_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ask(tmp_path) as browser:
        until(lambda: browser.app.state.desk.last() is not None)

        def damaged(_: House) -> None:
            raise RegistryError("nothing can be read")

        monkeypatch.setattr(overview, "look", damaged)
        sign(tmp_path)
        until(lambda: browser.get("/api/overview").status_code == 422)
        monkeypatch.undo()
        until(lambda: said(browser)["runtime"] == "crpbot live is well")


def test_a_bug_is_told_once_and_what_cannot_be_read_never(capsys: pytest.CaptureFixture[str]) -> None:
    steady = Steady()
    for error in (RegistryError("altered"), OSError("gone"), ValueError("a bug"), ValueError("a bug")):
        with steady:
            raise error
    assert capsys.readouterr().err.count("ValueError: a bug") == 1
    with pytest.raises(KeyboardInterrupt), steady:
        raise KeyboardInterrupt
