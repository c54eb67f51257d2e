"""Promote, roll back, retire: from the page as from the command line, with the same refusals in the same words."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from live.worlds import promoted
from models import market
from shell import crpbot
from web.houses import TOKEN, ask, ended, log_in, word

from crpbot.market.candles import MINUTE
from crpbot.market.files import write_candles
from crpbot.market.sample import read_sample
from crpbot.registry.registry import Registry

pytestmark = pytest.mark.slow
NOW = int(market().time[-1]) + MINUTE
WHY = "<b>silent</b> since Monday"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home where a second model has displaced the first, and the candles of both."""
    folder = tmp_path_factory.mktemp("made")
    for epochs in (2, 4):
        promoted(folder / "home", folder / "models", epochs=epochs)
    (folder / "candles").mkdir()
    write_candles(market(), folder / "candles" / "BTC-USD.parquet")
    return folder


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "home", tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def browser(home: Path, made: Path) -> Iterator[TestClient]:
    with ask(home, token=TOKEN, now=NOW, candles=str(made / "candles")) as found:
        log_in(found)
        yield found


def send(browser: TestClient, path: str, **fields: str) -> object:
    return browser.post(path, data={"csrf": word(browser, "/diagnose"), **fields})


def stages(home: Path) -> dict[str, str]:
    return {entry.sha256: entry.stage for entry in Registry(home / "registry").entries(every=True)}


def noted(home: Path) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in (home / "web" / "audit.jsonl").read_text().splitlines()]
    return [(line["what"], line["outcome"]) for line in lines if line["what"] != "login"]


def test_a_rollback_brings_back_the_one_before_and_says_who_asked(browser: TestClient, home: Path) -> None:
    live, retired = (next(sha for sha, stage in stages(home).items() if stage == one) for one in ("live", "retired"))
    answer = send(browser, "/markets/BTC-USD/rollback", why=WHY)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/models/{retired}")
    assert stages(home) == {retired: "live", live: "retired"}
    last = Registry(home / "registry").lines()[-1]
    assert last.who.endswith(" (dashboard)")
    assert (last.move, last.reason) == ("rollback", WHY)
    again = send(browser, "/markets/BTC-USD/rollback", why=WHY)
    assert again.status_code == 422
    cli = crpbot("rollback", "BTC-USD", "--home", home)
    assert cli.returncode == 2
    words = cli.stderr.removeprefix("error: ").strip()
    assert words in again.text
    assert noted(home) == [
        ("rollback", "tried"),
        ("rollback", f"done: BTC-USD {retired[:12]} is live"),
        ("rollback", "tried"),
        ("rollback", f"refused: {words}"),
    ]


def test_a_model_is_retired_for_a_reason_and_once(browser: TestClient, home: Path) -> None:
    live = next(sha for sha, stage in stages(home).items() if stage == "live")
    assert send(browser, f"/models/{live}/retire", why=" ").status_code == 422
    answer = send(browser, f"/models/{live[:12]}/retire", why=WHY)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/models/{live}")
    assert stages(home)[live] == "retired"
    assert send(browser, f"/models/{live}/retire", why=WHY).status_code == 422
    assert send(browser, f"/models/{'0' * 64}/retire", why=WHY).status_code == 404


def test_a_program_with_the_token_does_the_same(home: Path) -> None:
    with ask(home, token=TOKEN, now=NOW) as browser:
        headers = {"authorization": f"Bearer {TOKEN}"}
        found = browser.post("/api/markets/BTC-USD/rollback", json={"why": WHY}, headers=headers).json()
        assert (found["symbol"], found["stage"], found["reason"]) == ("BTC-USD", "live", WHY)
        retired = browser.post(f"/api/models/{found['sha256']}/retire", json={"why": WHY}, headers=headers)
        assert retired.json()["stage"] == "retired"
        again = browser.post("/api/markets/BTC-USD/rollback", json={}, headers=headers)
        assert again.status_code == 422
        assert again.json()["error"].startswith("a rollback must have")


def test_what_is_refused_on_the_command_line_is_refused_here_in_the_same_words(
    browser: TestClient, home: Path, made: Path, tmp_path: Path
) -> None:
    """And with an override it rehearses, and never more."""
    shutil.copytree(home, tmp_path / "other")
    live = next(sha for sha, stage in stages(home).items() if stage == "live")
    before = stages(home)
    page = send(browser, f"/models/{live}/promote").headers["location"]
    assert page.startswith("/errands/")
    found = ended(browser, page)
    (file,) = (home / "registry" / "models" / live).glob("*.pt")
    cli = crpbot("promote", file, "--candles", made / "candles", "--home", tmp_path / "other")
    assert cli.returncode == 1
    assert found["state"] == "refused"
    assert found["words"] == Registry(tmp_path / "other" / "registry").lines()[-1].reason
    assert found["words"] in " ".join(cli.stdout.split())
    assert found["words"] in browser.get(page).text
    assert stages(home) == before == stages(tmp_path / "other")
    mine, theirs = (Registry(place / "registry").lines()[-1] for place in (home, tmp_path / "other"))
    assert (mine.move, mine.candles_sha256, mine.time) == ("refuse", theirs.candles_sha256, NOW)
    assert mine.who == f"{theirs.who} (dashboard)"
    assert noted(home) == [("promote", "tried"), ("promote", f"refused: {found['words']}")]

    retired = next(sha for sha, stage in before.items() if stage == "retired")
    found = ended(browser, send(browser, f"/models/{retired}/promote", override=WHY).headers["location"])
    assert (found["state"], found["stage"]) == ("done", "shadow")
    assert WHY in found["words"]
    assert stages(home) == {live: "live", retired: "shadow"}


def test_what_passes_every_gate_is_live_and_a_dropped_file_may_be_promoted(tmp_path: Path) -> None:
    """On the home of the demo: a real model on real candles, after it was retired; more of them would only take longer."""
    from crpbot.web.demo import unpack
    from crpbot.web.played import END

    unpack(tmp_path)
    (tmp_path / "lake").mkdir()
    write_candles(read_sample("ETH-USD")[-90 * 24 * 60 :], tmp_path / "lake" / "ETH-USD.parquet")
    with ask(tmp_path, token=TOKEN, now=END, until=lambda: END, candles=str(tmp_path / "lake")) as browser:
        log_in(browser)
        (entry,) = (one for one in Registry(tmp_path / "registry").entries() if (one.symbol, one.stage) == ("ETH-USD", "live"))
        content = Registry(tmp_path / "registry").checkpoint(entry).read_bytes()
        send(browser, f"/models/{entry.sha256}/retire", why="to see")
        data = {"csrf": word(browser, "/diagnose")}
        dropped = browser.post("/diagnose", files={"file": (entry.file, content)}, data=data).headers["location"]
        assert ended(browser, dropped)["passed"] is True
        assert "Promote this one" in browser.get(dropped).text
        found = ended(browser, send(browser, f"{dropped}/promote").headers["location"])
    assert (found["state"], found["words"], found["stage"]) == ("done", "promoted: every market gate passed", "live")
    assert stages(tmp_path)[entry.sha256] == "live"
