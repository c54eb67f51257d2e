"""The pages of models: why one was refused comes first, a download is what was kept, and whatever a file says stays text."""

import dataclasses
import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from live.worlds import as_if_passed, promoted
from models import market, model
from web.houses import TOKEN, ask, log_in

from crpbot.market.candles import MINUTE
from crpbot.quality.report.html import drawn
from crpbot.registry.ledger import START, Ledger, Line
from crpbot.registry.registry import Registry
from crpbot.web.compare import measures, why_apart
from crpbot.web.render import difference

pytestmark = pytest.mark.slow
NOW = int(market().time[-1]) + MINUTE
NASTY = '"><script>alert(1)</script>'
FAILED = ("calibration", "beats-majority")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A retired model, the live one that has displaced it, and a candidate that was refused."""
    folder = tmp_path_factory.mktemp("home")
    registry = promoted(folder, folder / "made")
    file, judgement = as_if_passed(model(epochs=2), market(), folder / "second")
    assert registry.record(judgement, file, now=NOW).stage == "live"
    file, judgement = as_if_passed(model(epochs=1), market(), folder / "third")
    assert registry.record(refused(judgement), file, now=NOW).stage is None
    return folder


def refused(judgement):
    results = tuple(dataclasses.replace(one, passed=one.name not in FAILED) for one in judgement.verdict.results)
    return dataclasses.replace(judgement, verdict=dataclasses.replace(judgement.verdict, results=results))


def by_stage(home: Path) -> dict[str, str]:
    return {entry.stage: entry.sha256 for entry in Registry(home / "registry").entries(every=True)}


def sealed_anew(home: Path, to: Path, change: Callable[[Line], Line]) -> Path:
    """Copy a registry and make its chain anew with other lines: it is whole, and says what a stranger wants."""
    shutil.copytree(home / "registry", to / "registry")
    path, previous = to / "registry" / "ledger.jsonl", START
    lines = Ledger(path).lines()
    path.unlink()
    for line in lines:
        made = dataclasses.replace(change(line), previous=previous).sealed()
        previous = made.sha256_of_line
        Ledger(path).append(made)
    return to


@pytest.mark.parametrize("page", ["/models", "/ledger", "/data"])
def test_an_empty_home_says_how_to_begin(tmp_path: Path, page: str) -> None:
    with ask(tmp_path, candles=str(tmp_path / "nothing")) as browser:
        found = browser.get(page)
    assert found.status_code == 200
    assert "crpbot candles download" in found.text if page == "/data" else "crpbot run" in found.text


def test_every_model_is_listed_by_stage_with_its_numbers(home: Path) -> None:
    with ask(home, now=NOW) as browser:
        found, page = browser.get("/api/models").json(), browser.get("/models").text
        none = browser.get("/api/models?symbol=ETH-USD").json()
    assert [one["stage"] for one in found] == ["live", "candidate", "retired"]
    assert none == []
    for one in found:
        assert one["gates"] - one["passed"] == (2 if one["stage"] == "candidate" else 0)
        assert one["sha256"] in page
        assert one["reason"] in page


def test_why_a_model_was_refused_stands_above_everything_else(home: Path) -> None:
    sha256 = by_stage(home)["candidate"]
    with ask(home, now=NOW) as browser:
        found, page = browser.get(f"/api/models/{sha256}").json(), browser.get(f"/models/{sha256[:12]}").text
    assert [one["name"] for one in found["failed"]] == list(FAILED)
    above = page[: page.index('id="facts"')]
    for gate in found["failed"]:
        assert gate["name"] in above
        assert gate["limit"].replace("<", "&lt;").replace(">", "&gt;") in above
    if found["why"] is not None:
        assert f"crpbot explain {found['why']['code']}" in above


def test_a_refusal_of_a_later_judgement_is_shown_and_leaves_the_model_what_it_is(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "registry", tmp_path / "registry")
    registry = Registry(tmp_path / "registry")
    file, judgement = as_if_passed(model(epochs=2), market(), tmp_path / "again")
    assert registry.record(refused(judgement), file, now=NOW + MINUTE).stage is None
    sha256 = by_stage(home)["live"]
    with ask(tmp_path, now=NOW + 2 * MINUTE) as browser:
        found, page = browser.get(f"/api/models/{sha256}").json(), browser.get(f"/models/{sha256}").text
    assert found["model"]["stage"] == "live"
    assert found["model"]["passed"] == found["model"]["gates"]
    assert [one["name"] for one in found["failed"]] == list(FAILED)
    assert found["again"]["reason"] in page
    assert found["diagnosis"]["passed"] is False


def test_every_download_is_what_the_ledger_knows(home: Path) -> None:
    sha256 = by_stage(home)["live"]
    with ask(home, now=NOW) as browser:
        page = browser.get(f"/models/{sha256}").text
        files = browser.get(f"/api/models/{sha256}").json()["files"]
        for file in files:
            for place in (f"/models/{sha256}/files/{file['name']}", f"/api/models/{sha256}/files/{file['name']}"):
                answer = browser.get(place)
                assert answer.status_code == 200
                assert answer.headers["content-disposition"] == f'attachment; filename="{file["name"]}"'
                assert answer.headers["x-content-type-options"] == "nosniff"
                if file["sha256"] is not None:
                    assert hashlib.sha256(answer.content).hexdigest() == file["sha256"]
                    assert file["sha256"] in page
        diagnosis = browser.get(f"/models/{sha256}/files/diagnosis.json").json()
        assert browser.get(f"/models/{sha256}/files/report.html").text == drawn([diagnosis])
    assert {Path(file["name"]).suffix for file in files} == {".pt", ".onnx", ".toml", ".json", ".html"}


def test_a_file_that_was_altered_is_not_sent_and_its_page_still_stands(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "registry", tmp_path / "registry")
    sha256 = by_stage(home)["live"]
    entry = next(one for one in Registry(tmp_path / "registry").entries() if one.sha256 == sha256)
    shelf = tmp_path / "registry" / "models" / sha256
    altered = [shelf / "recipe.toml", tmp_path / "registry" / "judgements" / f"{entry.diagnosis_sha256}.json"]
    for file in altered:
        file.chmod(0o644)
        file.write_bytes(file.read_bytes() + b" ")
    (shelf / "model.onnx").chmod(0o644)
    (shelf / "model.onnx").unlink()
    with ask(tmp_path, now=NOW) as browser:
        for name in ("recipe.toml", "model.onnx", "diagnosis.json", "report.html"):
            answer = browser.get(f"/api/models/{sha256}/files/{name}")
            assert answer.status_code == 422, name
            assert "must be what was kept" in answer.json()["error"]
        assert browser.get(f"/models/{sha256}/files/{entry.file}").status_code == 200
        page = browser.get(f"/models/{sha256}")
        others = [browser.get(place).status_code for place in ("/models", f"/compare?a={sha256}&b={by_stage(home)['retired']}")]
    assert page.status_code == 200
    assert "cannot be shown" in page.text
    assert others == [200, 200]


@pytest.mark.parametrize(
    "name", ["ledger.jsonl", "../ledger.jsonl", "..%2fledger.jsonl", "%2e%2e%2f%2e%2e%2fledger.jsonl", "%00", ""]
)
def test_a_visitor_cannot_name_a_file_that_is_not_the_models(home: Path, name: str) -> None:
    with ask(home, now=NOW) as browser:
        assert browser.get(f"/api/models/{by_stage(home)['live']}/files/{name}").status_code == 404


def test_whoever_is_logged_in_sees_what_may_be_done_and_nobody_else_does(home: Path) -> None:
    stages = by_stage(home)
    actions = (f"/models/{stages['live']}/promote", f"/models/{stages['live']}/retire", "/markets/BTC-USD/rollback")
    with ask(home, now=NOW, token=TOKEN) as browser:
        before = browser.get(f"/models/{stages['live']}").text + browser.get("/models").text
        log_in(browser)
        after = browser.get(f"/models/{stages['live']}").text + browser.get("/models").text
        retired = browser.get(f"/models/{stages['retired']}").text
    for action in actions:
        assert f'action="{action}"' not in before
        assert f'action="{action}"' in after
    assert 'href="/login"' in before
    assert f'action="/models/{stages["retired"]}/retire"' not in retired
    forms = re.findall(r'<form method="post" action="/m.*?</form>', after, re.DOTALL)
    assert len(forms) == 3
    assert all('name="csrf"' in form for form in forms)


def test_a_rollback_says_which_model_would_be_live_again_and_that_is_the_one(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "registry", tmp_path / "registry")
    with ask(tmp_path, now=NOW) as browser:
        page = browser.get("/models").text
    said = re.search(r'Live again would be <a href="/models/([0-9a-f]{64})">', page)
    assert said is not None
    assert Registry(tmp_path / "registry").rollback("BTC-USD", now=NOW).sha256 == said[1]


def test_an_expired_model_is_not_promised_back(home: Path) -> None:
    with ask(home, now=NOW + 400 * 24 * 60 * MINUTE, token=TOKEN) as browser:
        log_in(browser)
        page = browser.get("/models").text
    assert "a rollback is refused" in page
    assert 'action="/markets/' not in page


# Two side by side


def test_what_two_differ_by_turns_round_with_them_and_has_an_error(home: Path) -> None:
    stages = by_stage(home)
    a, b = stages["live"], stages["retired"]
    with ask(home, now=NOW) as browser:
        there, back = (browser.get(f"/api/compare?a={x}&b={y}").json() for x, y in ((a, b), (b, a)))
        plain = [browser.get(f"/api/models/{x}").json()["diagnosis"]["metrics"] for x in (a, b)]
        page = browser.get(f"/compare?a={a}&b={b}").text
    assert there["same_rows"]
    for one, other in zip(there["measures"], back["measures"], strict=True):
        assert (one["a"], one["b"]) == (other["b"], other["a"])
        assert one["a"] == plain[0][one["name"]]
        assert one["difference"] == pytest.approx(-other["difference"])
        assert one["error"] == pytest.approx(other["error"])
        assert {one["better"], other["better"]} in ({None}, {"a", "b"})
    known = {one["name"]: one["error"] for one in there["measures"] if one["error"] is not None}
    assert sorted({one["name"] for one in there["measures"]} - set(known)) == ["logit_abs_max"]  # a largest has no error
    for name in ("log_loss", "brier", "class_bias", "confidence_over_60", "confidence_over_99"):
        assert known[name] == pytest.approx(math.hypot(*(one["errors"][name] for one in plain)))
    for one in there["measures"]:
        clear = one["wanted"] and abs(one["difference"]) > 2 * one["error"]
        assert one["better"] == (("b" if (one["difference"] > 0) == (one["wanted"] == "more") else "a") if clear else None)
    accuracy = there["measures"][0]
    assert accuracy["error"] == pytest.approx(math.hypot(*(one["over_majority"]["error"] for one in plain)))
    assert [key["name"] for key in there["recipes"]] == ["training.epochs"]
    assert "training.epochs" in page
    assert "Reliability." in page
    assert "no error is known" not in page
    loss = next(one for one in there["measures"] if one["name"] == "log_loss")
    assert f">{difference(loss['difference'])} ± {loss['error']:.4g}<" in page


def test_a_model_that_was_judged_before_errors_were_kept_has_none_in_a_comparison() -> None:
    plain = {"data": {"sha256": "a"}, "metrics": {"log_loss": 0.908}}
    for other, better in (({"log_loss": 2.535, "errors": {"log_loss": 0.004}}, None), (plain["metrics"], None)):
        found = measures(plain, plain | {"metrics": other}, subtract=True)
        assert (found[2].error, found[2].better) == (None, better)
    new = {"metrics": {"log_loss": 0.908, "errors": {"log_loss": 0.003}}}
    found = measures(new, {"metrics": {"log_loss": 2.535, "errors": {"log_loss": 0.004}}}, subtract=True)
    assert (found[2].error, found[2].better) == (pytest.approx(0.005), "a")


def test_numbers_of_other_rows_are_not_subtracted(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "registry", tmp_path / "registry")
    registry = Registry(tmp_path / "registry")
    file, judgement = as_if_passed(model(epochs=3), market(rows=11_000), tmp_path / "shorter")
    registry.record(judgement, file, now=NOW)
    with ask(tmp_path, now=NOW) as browser:
        stages = by_stage(tmp_path)
        found = browser.get(f"/api/compare?a={stages['live']}&b={stages['candidate']}").json()
        page = browser.get(f"/compare?a={stages['live']}&b={stages['candidate']}").text
    assert not found["same_rows"]
    assert all(one["difference"] is None and one["better"] is None for one in found["measures"])
    assert f"may not be subtracted:</b> {found['apart']}" in page


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"data": {"sha256": "b", "rows": 5}}, "other candles"),
        ({"data": {"sha256": "a", "rows": 4}}, "other rows"),
        ({"data": {"sha256": "a", "rows": 5, "to": "2026"}}, "other rows"),
        ({"label": {"theta": 0.2}}, "labels mean something else"),
        ({"data": {}, "label": None}, "other candles"),
    ],
    ids=str,
)
def test_numbers_may_be_subtracted_only_where_everything_is_the_same(change: dict, words: str) -> None:
    plain = {"data": {"sha256": "a", "rows": 5}, "label": {"theta": 0.1}}
    for one, other in ((plain, plain | change), (plain | change, plain)):
        assert words in why_apart(one, other)
        assert bool(why_apart(one, other)) == bool(change)
    assert why_apart(plain, {})


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("a={0}&b={0}", 422, "twice"),
        ("a={0}&b={1}", 404, "must be the first 12 characters"),
        ("a={0}&b={2}", 404, "must be the first 12 characters"),
        ("a={0}", 422, ""),
        ("", 422, ""),
    ],
)
def test_what_cannot_be_compared_is_refused_with_a_reason(home: Path, query: str, status: int, words: str) -> None:
    live = by_stage(home)["live"]
    asked = query.format(live, "0" * 64, live[:11])
    with ask(home, now=NOW) as browser:
        page, found = browser.get(f"/compare?{asked}"), browser.get(f"/api/compare?{asked}")
    assert (page.status_code, found.status_code) == (status, status)
    assert words in page.text
    assert words in found.json()["error"]


# The ledger


def test_the_ledger_is_shown_whole_with_its_head(home: Path) -> None:
    registry = Registry(home / "registry")
    with ask(home, now=NOW) as browser:
        found, page = browser.get("/api/ledger").json(), browser.get("/ledger").text
        older = browser.get("/api/ledger?limit=1&before=3").json()
        own = browser.get(f"/api/models/{registry.lines()[0].sha256}/ledger").json()
    assert found["whole"]
    assert found["head"] == registry.head()
    assert found["head"] in page
    assert [line["number"] for line in found["lines"]] == [3, 2, 1]
    assert [line["number"] for line in older["lines"]] == [2]
    assert older["more"] == 1
    assert [line["number"] for line in own] == [1]


def test_a_broken_chain_is_said_and_no_model_is_shown(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "registry", tmp_path / "registry")
    path = tmp_path / "registry" / "ledger.jsonl"
    path.write_text(path.read_text().replace('"stage": "candidate"', '"stage": "live"'))
    with ask(tmp_path, now=NOW) as browser:
        found, ledger, models = browser.get("/api/ledger").json(), browser.get("/ledger"), browser.get("/models")
        one, api = browser.get(f"/models/{by_stage(home)['live']}"), browser.get("/api/models")
    assert not found["whole"]
    assert "line 3 altered" in found["trouble"]
    assert (ledger.status_code, models.status_code, one.status_code, api.status_code) == (200, 200, 422, 422)
    assert "BROKEN" in ledger.text
    assert "Nobody may speak" in models.text


# What a stranger writes


def test_what_a_file_says_stays_text_on_every_page(home: Path, tmp_path: Path) -> None:
    """Symbols, recipes, reasons, overrides, names of people and of files: the chain is whole, and every word is hostile."""

    def change(line: Line) -> Line:
        files = {NASTY.replace("/", ".") if name.endswith(".pt") else name: digest for name, digest in line.files.items()}
        return dataclasses.replace(line, symbol=NASTY, recipe=NASTY, reason=NASTY, who=NASTY, override=NASTY, files=files)

    sealed_anew(home, tmp_path, change)
    stages = by_stage(tmp_path)
    pages = [
        "/",
        "/models",
        "/ledger",
        "/data",
        f"/compare?a={stages['live']}&b={stages['candidate']}",
        f"/models?symbol={NASTY}",
    ]
    with ask(tmp_path, now=NOW, token=TOKEN) as browser:
        log_in(browser)
        for page in [*pages, *(f"/models/{sha256}" for sha256 in stages.values())]:
            text = browser.get(page).text
            assert "script&gt;" in text, page
            assert "<script>alert" not in text, page
        names = [file["name"] for file in browser.get(f"/api/models/{stages['live']}").json()["files"]]
    assert NASTY.replace("/", ".") not in names


def test_half_a_character_in_a_reason_hurts_nobody(home: Path, tmp_path: Path) -> None:
    sealed_anew(home, tmp_path, lambda line: dataclasses.replace(line, reason="caf\udce9", override="\x1b[31m"))
    sha256 = by_stage(tmp_path)["live"]
    with ask(tmp_path, now=NOW) as browser:
        for place in ("/", "/models", "/ledger", f"/models/{sha256}", "/api/models", "/api/ledger", f"/api/models/{sha256}"):
            answer = browser.get(place)
            assert answer.status_code == 200, place
            assert "caf?" in answer.text or place == "/"


def test_a_diagnosis_of_an_earlier_version_shows_its_tables(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "registry", tmp_path / "registry")
    folder = tmp_path / "registry" / "judgements"
    digests = {}
    for file in list(folder.iterdir()):
        plain = json.loads(file.read_text())
        for late in ("curves", "words", "selective"):
            del plain[late]
        content = json.dumps(plain).encode()
        digests[file.stem] = hashlib.sha256(content).hexdigest()
        (folder / f"{digests[file.stem]}.json").write_bytes(content)
    (tmp_path / "old").mkdir()
    old = sealed_anew(
        tmp_path, tmp_path / "old", lambda line: dataclasses.replace(line, diagnosis_sha256=digests[line.diagnosis_sha256])
    )
    stages = by_stage(old)
    with ask(old, now=NOW) as browser:
        page = browser.get(f"/models/{stages['candidate']}").text
        both = browser.get(f"/compare?a={stages['live']}&b={stages['candidate']}")
    assert "Gates: market" in page
    assert "beats-majority" in page
    assert both.status_code == 200
    assert "no pictures" in both.text
