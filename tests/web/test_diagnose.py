"""Diagnose: a file is dropped and judged as on the command line; what means harm is refused in a sentence and never runs."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from hostile import HOSTILE, MARK, made, saved
from models import ensemble, market
from web.houses import TOKEN, ask, ended, listening, word

from crpbot.market.files import write_candles
from crpbot.model.pt_file import save_checkpoint
from crpbot.web.errands import MOST_UPLOADS
from crpbot.web.security import MOST_UPLOAD
from crpbot.web.setting import Setting

pytestmark = pytest.mark.slow
NAME = "lstm_BTC-USD_v7_enhanced.pt"


@pytest.fixture(scope="module")
def candles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("candles")
    write_candles(market(rows=5_000), folder / "BTC-USD.parquet")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("made") / NAME
    save_checkpoint(ensemble(), file, probe=np.ones((2, 72)))
    return file.read_bytes()


@pytest.fixture(scope="module")
def browser(candles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with ask(tmp_path_factory.mktemp("home"), candles=str(candles)) as found:
        yield found


def drop(browser: TestClient, content: bytes, name: str = NAME, **fields: str) -> str:
    """Drop a file by the form, and return the page that tells of it."""
    answer = browser.post("/diagnose", files={"file": (name, content)}, data={"csrf": word(browser, "/diagnose"), **fields})
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def test_two_files_are_dropped_at_once_and_both_get_their_report(browser: TestClient, checkpoint: bytes) -> None:
    first, second = drop(browser, checkpoint), drop(browser, b"hello", "other.pt")
    assert first != second
    page = browser.get(first)
    assert 'data-live="jobs"' in page.text
    found = ended(browser, first, calls="diagnoses")
    assert (found["state"], found["passed"]) == ("done", False)
    assert found["command"].startswith(f"crpbot diagnose {NAME} --candles ")
    assert found["judgement"]["model"]["symbol"] == "BTC-USD"
    page = browser.get(first).text
    assert "REFUSED" in page
    assert "data-live" not in page.split('id="errand"')[1].split(">")[0]
    assert browser.get(f"{first}/diagnosis.json").json() == found["judgement"]
    report = browser.get(f"{first}/report.html")
    assert report.headers["content-disposition"] == 'attachment; filename="report.html"'
    assert "<h1>" in report.text
    assert ended(browser, second, calls="diagnoses")["state"] == "refused"
    assert [one["name"] for one in browser.get("/api/diagnoses").json()] == ["other.pt", NAME]


def test_what_a_file_says_stays_text(browser: TestClient) -> None:
    bad = "<script>alert(1)</script>"
    header = {"fc1.weight": torch.zeros(3, 1), "fc1.bias": torch.zeros(3), "feature_columns": [bad]}
    page = drop(browser, saved(header), f"{bad}.pt")
    assert bad in ended(browser, page, calls="diagnoses")["words"]
    for text in (browser.get(page).text, browser.get("/diagnose").text, browser.get("/jobs").text):
        assert bad not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in browser.get(page).text


@pytest.mark.parametrize("kind", ["call-in-zip", "zip-bomb", "huge-tensor"])
def test_a_hostile_file_is_refused_in_a_sentence_and_never_runs(browser: TestClient, kind: str) -> None:
    found = ended(browser, drop(browser, made(kind), "a.pt"), calls="diagnoses")
    assert found["state"] == "refused"
    assert HOSTILE[kind][1] in found["words"]
    assert found["words"].startswith("a.pt"), "no path of this machine is told"
    assert not Path(MARK).exists()


def test_a_page_that_calls_itself_a_checkpoint_is_none(browser: TestClient) -> None:
    found = ended(browser, drop(browser, b"<html><script>alert(1)</script></html>", "page.onnx"), calls="diagnoses")
    assert found["state"] == "refused"


@pytest.mark.parametrize(("path", "kind"), [("/diagnose", "text/html"), ("/api/diagnoses", "application/json")])
def test_fifty_megabytes_are_refused_before_they_are_read(browser: TestClient, path: str, kind: str) -> None:
    answer = browser.post(path, content=b"x" * 10, headers={"content-length": str(50 * 2**20)})
    assert answer.status_code == 413
    assert answer.headers["content-type"].startswith(kind)
    assert "33,554,432" in answer.text


def test_a_length_that_lies_is_noticed_while_it_is_read(browser: TestClient) -> None:
    field = f'--x\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n{word(browser, "/diagnose")}\r\n'
    head = field.encode() + b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.pt"\r\n\r\n'
    parts = iter([head, *[bytes(2**20)] * (MOST_UPLOAD // 2**20 + 1)])
    answer = browser.post("/api/diagnoses", content=parts, headers={"content-type": "multipart/form-data; boundary=x"})
    assert answer.status_code == 413, answer.text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"symbol": "../../etc"}, "a symbol must look like"),
        ({"label": "/etc/passwd"}, "a label must be that of a recipe"),
        ({"features": "x" * 20_001}, "at most 20000"),
    ],
)
def test_options_that_cannot_be_are_refused(browser: TestClient, fields: dict[str, str], words: str) -> None:
    data = {"csrf": word(browser, "/diagnose"), **fields}
    answer = browser.post("/api/diagnoses", files={"file": ("a.pt", b"x")}, data=data)
    assert answer.status_code == 422
    assert words in answer.json()["error"]


def test_without_a_file_there_is_nothing_to_judge(browser: TestClient) -> None:
    answer = browser.post("/diagnose", data={"csrf": word(browser, "/diagnose")})
    assert answer.status_code == 422


def test_a_form_of_another_session_counts_for_nothing(browser: TestClient) -> None:
    for csrf in ("", "0" * 64):
        answer = browser.post("/diagnose", files={"file": ("a.pt", b"x")}, data={"csrf": csrf})
        assert answer.status_code == 403


def test_an_errand_that_nobody_knows_is_not_found(browser: TestClient) -> None:
    assert browser.get(f"/diagnose/{'0' * 32}").status_code == 404
    assert browser.get("/diagnose/../etc").status_code in {404, 422}
    assert browser.get(f"/api/diagnoses/{'0' * 32}").json()["error"].startswith("an errand must be")


def test_elsewhere_only_whoever_has_the_token_may_drop_a_file(tmp_path: Path) -> None:
    with ask(tmp_path, host="0.0.0.0", token=TOKEN) as other:  # noqa: S104  what is tested
        assert other.post("/api/diagnoses", files={"file": ("a.pt", b"x")}).status_code == 401
        answer = other.post("/api/diagnoses", files={"file": ("a.pt", b"x")}, headers={"authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 202
        lines = [json.loads(line) for line in (tmp_path / "web" / "audit.jsonl").read_text().splitlines()]
    assert [(line["what"], line["outcome"], line["file"]) for line in lines] == [("diagnose", "asked", "a.pt")]


def opened(folder: Path) -> Iterator[int]:
    """Yield the sizes of the files in a folder that this process has open, also of those without a name."""
    for one in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if one.readlink().is_relative_to(folder):
                yield one.stat().st_size


class Sender:
    """A browser that sends the first bytes of a file of 5 MB, and holds the rest back."""

    def __init__(self, address: str, csrf: str, cookie: str) -> None:
        self.left = bytes(5 * 2**20)
        head = (
            f'--x\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n{csrf}\r\n'
            '--x\r\nContent-Disposition: form-data; name="file"; filename="a.pt"\r\n\r\n'
        ).encode()
        self.end = b"\r\n--x--\r\n"
        where = address.removeprefix("http://")
        host, port = where.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        self.socket.sendall(
            f"POST /api/diagnoses HTTP/1.1\r\nHost: {where}\r\nSec-Fetch-Site: same-origin\r\nCookie: {cookie}\r\n"
            f"Content-Type: multipart/form-data; boundary=x\r\n"
            f"Content-Length: {len(head) + len(self.left) + len(self.end)}\r\n\r\n".encode()
            + head
        )

    def send(self, n: int) -> None:
        self.socket.sendall(self.left[:n])
        self.left = self.left[n:]

    def finish(self) -> None:
        self.send(len(self.left))
        self.socket.sendall(self.end)

    def status(self) -> int:
        return int(self.socket.recv(64).split()[1])

    def close(self) -> None:
        self.socket.close()


def test_a_file_is_taken_only_when_it_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of a form of somebody else, not beside many others, not for ever; and whoever is refused may send to the end."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr("crpbot.web.upload.SILENCE", 4.0)
    with (
        listening(Setting(home=tmp_path / "home", now=lambda: 0)) as address,
        httpx.Client(base_url=address) as browser,
        ExitStack() as left,
    ):
        csrf = word(browser, "/diagnose")
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())

        def sender(csrf: str = csrf) -> Sender:
            return left.enter_context(closing(Sender(address, csrf, cookie)))

        stranger = sender("0" * 64)
        assert stranger.status() == 403
        stranger.finish()
        senders = [sender() for _ in range(MOST_UPLOADS)]
        for one in senders:
            one.send(4 * 2**20)
        until = time.monotonic() + 3
        while sum(opened(tmp_path / "tmp")) < MOST_UPLOADS * 2**20:
            assert time.monotonic() < until
            time.sleep(0.02)
        late = sender()
        assert late.status() == 429
        late.finish()
        senders[0].finish()
        assert senders[0].status() == 202
        assert {one.status() for one in senders[1:]} == {408}
        assert sum(opened(tmp_path / "tmp")) < 2**20
        again = sender()
        again.finish()
        assert again.status() == 202


def test_what_cannot_be_written_down_is_not_kept_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    with ask(tmp_path / "home") as browser:
        csrf = word(browser, "/diagnose")
        (tmp_path / "home" / "web" / "audit.jsonl").mkdir(parents=True)
        answer = browser.post("/api/diagnoses", files={"file": ("a.pt", b"x")}, data={"csrf": csrf})
        assert answer.status_code == 503
        assert "web/audit.jsonl" in answer.json()["error"]
        assert not list((tmp_path / "tmp").glob("*/*/*"))
