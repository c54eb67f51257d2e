"""The overview: what is wrong comes first, and it is what the registry says."""

import shutil
from pathlib import Path

import pytest
from journals import HORIZON, START
from live.worlds import promoted
from models import market
from web.houses import ask
from web.spoken import NOW, candles, joined

from crpbot.errors import JournalError
from crpbot.live.health import Health, write_health
from crpbot.live.journal import open_journal
from crpbot.market.candles import MINUTE
from crpbot.market.files import write_candles
from crpbot.registry.registry import DAY, Registry

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
    (one,) = [market for market in found["markets"] if market["symbol"] == "BTC-USD"]
    assert (one["stage"], one["accuracy"]) == ("live", None)
    assert one["close"] is not None


@pytest.mark.parametrize("when", ["at once", "later"])
def test_a_journal_that_cannot_be_read_denies_no_model(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    shutil.copytree(home / "registry", tmp_path / "registry")
    if when == "at once":
        (tmp_path / "journal.db").write_bytes(b"no journal" * 1_000)
    else:
        open_journal(tmp_path / "journal.db").close()
        monkeypatch.setattr("crpbot.web.overview.promise", damaged)
    with ask(tmp_path, now=int(market().time[-1]) + 400 * DAY) as browser:
        page, found = browser.get("/").text, browser.get("/api/overview").json()
    (one,) = [market for market in found["markets"] if market["symbol"] == "BTC-USD"]
    assert one["stage"] == "live"
    assert None not in (one["accuracy"], one["close"], one["drift"])
    assert not found["signals_known"]
    alarms = [alarm for alarm in found["attention"] if "journal" in alarm["words"]]
    assert [(alarm["rank"], alarm["symbol"]) for alarm in alarms] == [(0, "")]
    assert any("expired" in alarm["words"] for alarm in found["attention"])
    card = page.split('aria-labelledby="market-1"')[1].split("</article>")[0]
    assert "No model has been judged" not in card
    assert "none yet" not in card
    assert card.count("unknown") == 2


def damaged(*_: object) -> None:
    raise JournalError("the journal must be whole, found a hole in it; bring back a copy")


def test_a_registry_that_cannot_be_read_denies_no_model(tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "ledger.jsonl").write_text("{}\n")
    with ask(tmp_path) as browser:
        page, found = browser.get("/").text, browser.get("/api/overview").json()
    assert found["markets"]
    assert not found["models_known"]
    assert "No model has been judged" not in page
    assert "no model<" not in page


def test_across_a_gap_nothing_is_said_to_be_of_a_day(tmp_path: Path) -> None:
    (tmp_path / "candles").mkdir()
    write_candles(joined(candles(-400_000, 1_400), candles(0, 300)), tmp_path / "candles" / "BTC-USD.parquet")
    with ask(tmp_path, now=NOW, candles=str(tmp_path / "candles")) as browser:
        page, found = browser.get("/").text, browser.get("/api/overview").json()
        signals = browser.get("/signals?symbol=BTC-USD").text
    assert found["markets"][0]["change"] is None
    assert "in 24 h" not in page
    assert 'aria-label="The last 5 h of BTC-USD"' in page
    assert len(page.split('points="')[1].split('"')[0].split()) == 300
    assert f"+{100 * 299 / 60_001:.2f} % in 4 h" in signals


def test_six_hours_are_drawn_of_candles_without_a_gap(home: Path) -> None:
    with ask(home) as browser:
        page = browser.get("/").text
    assert 'aria-label="The last 6 h of BTC-USD"' in page
    assert len(page.split('points="')[1].split('"')[0].split()) == 360


def test_a_recording_that_is_over_is_said_once_and_is_no_alarm(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "registry", tmp_path / "registry")
    (tmp_path / "live").mkdir()
    over = Health(time=0, markets={}, over="the recording is over: it ends at noon")
    write_health(over, tmp_path / "live" / "health.json")
    with ask(tmp_path, now=int(market().time[-1]) + MINUTE) as browser:
        page, found = browser.get("/").text, browser.get("/api/overview").json()
    assert page.count("recording is over") == 1
    assert (found["over"], found["runtime_well"]) == (True, True)
    assert not [alarm for alarm in found["attention"] if "over" in alarm["words"]]


def test_what_came_true_has_its_interval(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "registry", tmp_path / "registry")
    (entry,) = Registry(tmp_path / "registry").entries()
    journal = open_journal(tmp_path / "journal.db")
    for at in range(40):
        candle = START + HORIZON * at * MINUTE
        said = {"horizon": HORIZON, "probabilities": (0.1, 0.35, 0.55), "recorded": candle}
        journal.add_check(model=entry.sha256, symbol=entry.symbol, candle=candle, **said)
        journal.settle_check(at + 1, 2 if at % 2 else 0, now=candle + HORIZON * MINUTE)
    journal.close()
    with ask(tmp_path) as browser:
        page, found = browser.get("/").text, browser.get("/api/overview").json()
    (one,) = [market for market in found["markets"] if market["symbol"] == "BTC-USD"]
    low, high = one["promise"]["interval"]
    assert f"({100 * low:.1f} to {100 * high:.1f}, 95 %)" in page
