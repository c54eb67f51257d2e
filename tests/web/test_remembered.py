"""What was worked out once is shown often, and no name that a visitor thinks of fills the memory."""

import threading
from pathlib import Path
from time import monotonic

import pytest
from web.houses import ask
from web.spoken import NOW, spoken

from crpbot.errors import CrpbotError
from crpbot.web.remembered import Remembered


def test_a_result_is_made_once_for_each_version() -> None:
    kept, made = Remembered(), []
    for version in (1, 1, 2, 2, 1):
        assert kept.get(("a", "b"), version, lambda version=version: made.append(version) or version) == version
    assert made == [1, 2, 1]
    assert (kept.last(("a", "b")), kept.forget(("a", "b")), kept.last(("a", "b"))) == (1, 1, None)


def test_of_each_kind_those_are_forgotten_that_nobody_has_asked_for_the_longest() -> None:
    kept = Remembered(room=3)
    kept.get("journal", True, lambda: "open")
    for number in range(1_000):
        kept.get(("often",), 0, lambda: "asked")
        kept.get(("paper", number), 0, lambda number=number: number)
        kept.get(("paper", 0), 0, lambda: pytest.fail("was asked for all the time"))
    assert len(kept) == 5
    assert [kept.last(("paper", number)) for number in (0, 1, 998, 999)] == [0, None, 998, 999]
    assert kept.last("journal") == "open"


def test_names_that_fail_fill_nothing_either() -> None:
    kept = Remembered(room=3)

    def fail() -> None:
        raise CrpbotError("no")

    for number in range(100):
        with pytest.raises(CrpbotError):
            kept.get(("paper", number), 0, fail)
    assert len(kept) == 3


def test_nobody_waits_for_another_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crpbot.web.remembered.LONGEST", 0.1)
    kept, started, turn = Remembered(), threading.Event(), threading.Event()

    def slow() -> str:
        started.set()
        turn.wait(10)
        return "made"

    makes = threading.Thread(target=lambda: kept.get("a", 0, slow))
    makes.start()
    started.wait(10)
    began = monotonic()
    with pytest.raises(CrpbotError, match="still being made"):
        kept.get("a", 0, lambda: "twice")
    assert monotonic() - began < 5
    assert kept.get("b", 0, lambda: "another") == "another"
    turn.set()
    makes.join()
    assert kept.get("a", 0, lambda: "twice") == "made"


@pytest.mark.slow
def test_what_visitors_ask_for_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crpbot.web.remembered.ROOM", 5)
    with ask(spoken(tmp_path), now=NOW, candles=str(tmp_path / "candles")) as browser:
        kept = browser.app.state.house.kept
        for number in range(12):
            for path in (f"/signals?symbol=A{number}-USD", f"/api/candles/A{number}-USD"):
                browser.get(path)
            for model in ("", f"&model={number:064x}"):
                browser.get(f"/api/reliability?symbol=A{number}-USD{model}&of=signals")
                browser.get(f"/signals?symbol=A{number}-USD{model}")
        assert max(map(len, kept._places.values())) == 5
