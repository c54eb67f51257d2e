"""The overview: what is wrong comes first, and it is what the registry says."""

import shutil
from pathlib import Path

import pytest
from live.worlds import promoted
from models import market
from web.houses import ask

from crpbot.market.candles import MINUTE
from crpbot.registry.registry import DAY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    promoted(folder, folder / "made")
    return folder


def test_an_empty_home_says_how_to_begin(tmp_path: Path) -> None:
    with ask(tmp_path, candles=str(tmp_path / "nothing")) as browser:
        page = browser.get("/")
    assert page.status_code == 200
    assert "crpbot run" in page.text


def test_a_live_model_is_shown_with_its_numbers(home: Path) -> None:
    with ask(home, now=int(market().time[-1]) + MINUTE) as browser:
        found = browser.get("/api/overview").json()
        page = browser.get("/").text
    (one,) = [market for market in found["markets"] if market["stage"] is not None]
    assert (one["symbol"], one["stage"]) == ("BTC-USD", "live")
    assert one["accuracy"] is not None
    assert one["sha256"][:8] in page


def test_what_needs_attention_comes_first(home: Path) -> None:
    with ask(home, now=int(market().time[-1]) + 400 * DAY) as browser:
        found = browser.get("/api/overview").json()
    assert "expired" in found["attention"][0]["words"]
    assert [one["rank"] for one in found["attention"]] == sorted(one["rank"] for one in found["attention"])


def test_a_ledger_that_was_altered_is_the_first_thing_that_is_said(home: Path, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    registry.mkdir()
    (registry / "ledger.lock").touch()
    text = (home / "registry" / "ledger.jsonl").read_text()
    (registry / "ledger.jsonl").write_text(text.replace('"stage": "live"', '"stage": "shadow"'))
    with ask(tmp_path) as browser:
        page, found = browser.get("/"), browser.get("/api/overview").json()
    assert page.status_code == 200
    assert found["attention"][0]["rank"] == 0
    assert "altered" in found["attention"][0]["words"]


def test_what_is_kept_of_a_model_and_was_altered_is_said(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "registry", tmp_path / "registry")
    (file,) = (tmp_path / "registry" / "judgements").iterdir()
    file.chmod(0o644)
    file.write_text(file.read_text().replace("0.", "1.", 1))
    with ask(tmp_path) as browser:
        found = browser.get("/api/overview").json()
    assert "judged" in found["attention"][0]["words"]
