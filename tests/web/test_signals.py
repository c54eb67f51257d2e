"""The Signals page: what the journal says is what is shown, and what cannot be shown is said."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from journals import MODEL, START, check, keep, signal
from sqlalchemy import event
from web.houses import ask
from web.spoken import NOW, fill, spoken

from crpbot.live.journal import open_journal
from crpbot.market.candles import MINUTE
from crpbot.quality.trust import thin, wilson
from crpbot.web.house import House
from crpbot.web.promise import promise
from crpbot.web.setting import Setting

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spoken(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def browser(home: Path) -> Iterator[TestClient]:
    with ask(home, now=NOW, candles=str(home / "candles")) as browser:
        yield browser


def pages(browser: TestClient, **asked: object) -> list[dict]:
    """Return the signals of all pages."""
    found, before = [], ""
    while before is not None:
        one = browser.get("/api/signals", params={**asked, "before": before}).json()
        found += one["signals"]
        before = one["next"]
    return found


def test_page_by_page_every_signal_comes_once_and_the_newest_first(browser: TestClient) -> None:
    for limit in (1, 7, 40, 100):
        assert [one["id"] for one in pages(browser, limit=limit)] == list(range(40, 0, -1))


def test_what_is_asked_for_is_what_comes(browser: TestClient) -> None:
    everything = pages(browser)
    for name, value, fits in (
        ("stage", "shadow", lambda one: one["stage"] == "shadow"),
        ("outcome", "open", lambda one: one["outcome"] is None),
        ("outcome", "stop loss", lambda one: one["outcome"] == "stop loss"),
        ("since", START + 30 * MINUTE, lambda one: one["candle"] >= START + 30 * MINUTE),
        ("model", MODEL, lambda _: True),
        ("symbol", "ETH-USD", lambda _: False),
    ):
        assert pages(browser, limit=9, **{name: value}) == [one for one in everything if fits(one)], name


def test_what_is_seldom_is_looked_for_bit_by_bit(browser: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = pages(browser)
    monkeypatch.setattr("crpbot.web.signals.AT_ONCE", 7)
    assert pages(browser, outcome="stop loss", limit=2) == [one for one in everything if one["outcome"] == "stop loss"]
    assert pages(browser, stage="shadow", since=START + 5 * MINUTE) == [
        one for one in everything if one["stage"] == "shadow" and one["candle"] >= START + 5 * MINUTE
    ]
    page = browser.get("/signals?outcome=gap").text
    assert "None of 7 signals is like that." in page
    assert 'rel="next"' in page


def test_the_honesty_that_is_shown_is_that_of_the_model_that_is_asked_for(tmp_path: Path) -> None:
    spoken(tmp_path)
    other = "b" * 64
    journal = open_journal(tmp_path / "journal.db")
    for at in range(600, 645, 15):
        check(journal, at, model=other)
    for one in journal.open_checks(model=other):
        journal.settle_check(one.id, 0, now=NOW + 99 * MINUTE)
    journal.close()
    with ask(tmp_path, now=NOW, candles=str(tmp_path / "candles")) as browser:
        for query, model, n in (("", MODEL, 18), (f"&model={MODEL}", MODEL, 18), (f"&model={other}", other, 3)):
            page = browser.get(f"/signals?symbol=BTC-USD{query}").text
            told = browser.get(f"/api/reliability?symbol=BTC-USD{query}").json()
            assert (told["model_sha256"], told["n"]) == (model, n)
            assert f'Of model <a href="/models/{model}">' in page
            assert f"Counted: {n} checks" in page
            assert f'href="/api/reliability?symbol=BTC-USD{query.replace("&", "&amp;")}"' in page


def test_an_altered_ledger_is_said_also_where_a_model_is_asked_for(tmp_path: Path) -> None:
    spoken(tmp_path)
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "ledger.lock").touch()
    (tmp_path / "registry" / "ledger.jsonl").write_text("{}\n")
    with ask(tmp_path, now=NOW, candles=str(tmp_path / "candles")) as browser:
        page = browser.get(f"/signals?model={MODEL[:12]}")
    assert page.status_code == 200
    assert "ledger" in page.text.split('role="alert">')[1].split("</p>")[0]


def test_that_a_signal_can_come_true_and_lose_is_explained_where_both_are_shown(browser: TestClient) -> None:
    page = browser.get("/signals?symbol=BTC-USD").text
    assert page.count("a signal can come true and lose, or not and earn") == 1
    assert "a signal can come true" not in browser.get("/signals?symbol=ETH-USD").text


def test_a_signal_is_told_as_it_was_said_with_its_fills(browser: TestClient) -> None:
    found = browser.get("/api/signals/2").json()
    said = signal(1, side="SHORT", confidence=0.51)
    assert found["said"] == json.loads(json.dumps(said.to_dict()))
    assert found["plan"]["entry"] == found["line"]["entry"] == said.plan.entry
    assert [one["kind"] for one in found["fills"]] == ["entry", "exit"]
    assert "SHORT BTC-USD, confidence 51.0%" in found["words"]
    assert found["hummingbot"]["probabilities"] == list(said.probabilities)
    page = browser.get("/signals?signal=2").text
    for words in ("LIMIT SELL", "take profit", "+4.2 bp", "Paper entry", "SHORT BTC-USD, confidence 51.0%"):
        assert words in page
    assert browser.get("/signals/2").status_code == browser.get("/api/signals/99").status_code == 404
    assert "There is no signal 99" in browser.get("/signals?signal=99").text


def test_the_table_leads_to_each_signal_and_to_the_older_ones(browser: TestClient) -> None:
    page = browser.get("/signals?symbol=BTC-USD&stage=live").text
    assert page.count('id="signal-') == 25
    older = page.split('rel="next"')[0].rsplit('href="', 1)[1].split('"')[0].replace("&amp;", "&")
    rest = browser.get(older).text
    assert rest.count('id="signal-') == sum(one["stage"] == "live" for one in pages(browser)) - 25
    assert 'id="signal-1"' in rest


def test_what_a_file_says_is_never_markup(browser: TestClient) -> None:
    page = browser.get("/signals?symbol=BTC-USD").text
    assert "a minute was &lt;b&gt;lost&lt;/b&gt;" in page
    assert "of the other market" not in page


def test_reliability_counts_only_what_does_not_overlap(browser: TestClient, home: Path) -> None:
    journal = open_journal(home / "journal.db")
    for of in ("checks", "signals"):
        known = journal.predictions(MODEL, "BTC-USD", of=of)
        kept = thin(known)
        found = browser.get(f"/api/reliability?symbol=BTC-USD&of={of}").json()
        true = int(known.hit[kept].sum())
        assert (found["n"], found["given"], found["came_true"]) == (len(kept), len(known.hit), true / len(kept))
        assert found["interval"] == list(wilson(true, len(kept)))
        assert found["said"] == pytest.approx(known.confidence[kept].mean())
        for one in found["bins"]:
            inside = (known.confidence[kept] >= one["low"]) & (known.confidence[kept] < one["high"])
            assert (one["n"], one["came_true"]) == (inside.sum(), known.hit[kept][inside].mean())
    journal.close()
    assert found["given"] > found["n"]
    assert f"{found['n']} of {found['given']} signals" in found["words"]


def test_the_picture_is_on_the_page_with_its_numbers_in_a_table(browser: TestClient) -> None:
    page = browser.get("/signals?symbol=BTC-USD").text
    assert "<svg" in page
    assert "style=" not in page
    assert "55 to 60 %" in page
    assert "1 trade in BTC-USD, 1 earned something" in page


def test_candles_are_those_of_the_disk_and_of_the_runtime(browser: TestClient) -> None:
    found = browser.get("/api/candles/BTC-USD?count=100").json()
    assert found["time"] == [START + (520 - 100 + at) * MINUTE for at in range(100)]
    assert found["more"]
    before = browser.get(f"/api/candles/BTC-USD?count=5&before={found['time'][0]}").json()
    assert before["time"] == [found["time"][0] - (5 - at) * MINUTE for at in range(5)]
    first = browser.get(f"/api/candles/BTC-USD?before={START - 398 * MINUTE}").json()
    assert (len(first["time"]), first["more"]) == (2, False)


@pytest.mark.parametrize(
    "address",
    [
        "/api/candles/../etc",
        "/api/candles/btc",
        "/api/candles/ETH-EUR",
        "/api/candles/BTC-USD?count=0",
        "/api/candles/BTC-USD?before=-1",
        "/api/signals/0",
        "/api/signals/99999999999999999999",
        "/api/signals?before=1",
        "/api/signals?before=99999999999999999-1",
        "/api/signals?outcome=won",
        "/api/signals?model=abcabcabcabc",
        "/api/signals?limit=100000",
        "/api/reliability",
        "/api/reliability?symbol=ETH-USD",
        "/signals?symbol=<script>",
        "/signals?signal=x",
        "/signals?before=7",
    ],
)
def test_nonsense_is_refused_in_words(browser: TestClient, address: str) -> None:
    found = browser.get(address)
    assert found.status_code in {404, 422}
    assert "found" in found.text or "Not Found" in found.text


def test_a_home_without_anything_says_how_to_begin(tmp_path: Path) -> None:
    with ask(tmp_path, candles=str(tmp_path / "nothing")) as browser:
        page = browser.get("/signals")
        assert browser.get("/api/signals").json() == {"signals": [], "next": None}
    assert page.status_code == 200
    for words in ("There is no model. Make and judge one: crpbot run.", "Nobody listens to the market"):
        assert words in page.text
    assert not (tmp_path / "journal.db").exists()  # to look makes nothing


def test_a_signal_that_was_damaged_is_said_and_the_others_are_shown(home: Path, tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "journal.db")
    fill(journal)
    journal.close()
    with sqlite3.connect(tmp_path / "journal.db") as connection:
        connection.execute("UPDATE signals SET json = '{\"plan\": 7' WHERE id = 40")
    connection.close()
    with ask(tmp_path, now=NOW, candles=str(home / "candles")) as browser:
        page = browser.get("/signals?signal=40")
        assert browser.get("/api/signals/40").status_code == 422
        assert browser.get("/api/signals?limit=1").json()["signals"][0]["entry"] is None
    assert page.status_code == 200
    assert "a journal must hold each signal as it was said, found signal 40" in page.text
    assert 'id="signal-39"' in page.text


def test_a_file_that_is_no_journal_is_said_beside_the_candles(home: Path, tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"somebody's diary " * 99)
    with ask(tmp_path, now=NOW, candles=str(home / "candles")) as browser:
        page = browser.get("/signals?symbol=BTC-USD")
    assert page.status_code == 200
    assert "the journal" in page.text
    assert 'data-symbol="BTC-USD"' in page.text


def test_a_page_reads_what_is_shown_and_what_is_new_however_long_the_journal_is(home: Path, tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "journal.db")
    read: list[int] = []
    with journal.batch():
        for at in range(600):
            keep(journal, signal(at), at)
            check(journal, 15 * at)
        for number in range(1, 599):
            journal.settle_check(number, 2, now=NOW)
    with ask(tmp_path, now=NOW, candles=str(home / "candles")) as browser:
        browser.get("/signals?symbol=BTC-USD")
        engine = browser.app.state.house.journal().store._engine
        engine.dispose()

        def count(connection: sqlite3.Connection, *_: object) -> None:
            connection.set_progress_handler(lambda: read.append(1), 100)

        event.listen(engine, "connect", count)
        keep(journal, signal(600), 600)
        journal.settle_check(599, 2, now=NOW)
        page = browser.get("/signals?symbol=BTC-USD").text
    journal.close()
    assert 'id="signal-601"' in page
    assert ">599</td>" in page
    assert len(read) < 100  # hundreds of steps of the database; to read every check once is several times as much


def test_a_promise_that_is_kept_up_to_date_is_that_of_all_checks(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "journal.db")
    house = House(Setting(home=tmp_path, now=lambda: NOW))
    for number in range(1, 60):
        check(journal, 15 * number)
        if number > 3:  # the last ones are open
            journal.settle_check(number - 3, 2 if number % 3 else 0, now=NOW)
        if number % 7 == 0:
            seen = promise(house, MODEL, "BTC-USD")
            fresh = promise(House(Setting(home=tmp_path, now=lambda: NOW)), MODEL, "BTC-USD")
            assert seen == fresh
            assert seen.n == number - 3
    house.close()
    journal.close()
