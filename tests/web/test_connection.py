"""Connections: nobody holds one for nothing, and nobody holds them all."""

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest
import uvicorn
from web.houses import TOKEN, listening

from crpbot.web import connection
from crpbot.web.connection import Connection
from crpbot.web.security import MOST_HEAD
from crpbot.web.serve import serve
from crpbot.web.setting import Setting

pytestmark = pytest.mark.slow
HEAD = b"HTTP/1.1\r\nHost: 127.0.0.1\r\n"
SOON = 20.0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LONGEST_HEAD", "LONGEST_BODY", "LONGEST_TAKING"):
        monkeypatch.setattr(connection, name, 0.5)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MOST_OF_ONE", 5)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[str]:
    setting = Setting(home=tmp_path, now=lambda: 0, token=TOKEN)
    with listening(setting, http=Connection, timeout_keep_alive=60) as found:
        yield found


def opened(place: str, sent: bytes = b"") -> socket.socket:
    """Return a connection, on which something was sent."""
    parts = urlsplit(place)
    found = socket.create_connection((parts.hostname, parts.port), timeout=SOON)
    found.sendall(sent)
    return found


def ended(one: socket.socket) -> bool:
    """Return whether the server ends a connection, some time; what it says before is nothing to us."""
    try:
        while one.recv(65_536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def cut(one: socket.socket) -> bool:
    """Return whether a connection is over by now."""
    one.settimeout(0)
    try:
        return one.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


LATE = {
    "nothing": b"",
    "half a head": b"GET / " + HEAD,
    "half a body": b"POST /login " + HEAD + b"Sec-Fetch-Site: none\r\nContent-Length: 9\r\n\r\nx",
    "half a body of many": b"POST /login " + HEAD + b"Sec-Fetch-Site: none\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
    "a body that nobody wants": b"POST /nothing " + HEAD + b"Sec-Fetch-Site: none\r\nContent-Length: 9\r\n\r\nx",
    "half of a second request": b"GET /favicon.ico " + HEAD + b"\r\nGET / " + HEAD,
    "nothing after an answer": b"GET /favicon.ico " + HEAD + b"\r\n",
}


@pytest.mark.usefixtures("quick")
def test_a_connection_that_is_late_with_its_request_is_cut_and_one_that_listens_is_not(place: str) -> None:
    with opened(place, b"GET /api/events " + HEAD + b"\r\n") as listener:
        connections = {name: opened(place, sent) for name, sent in LATE.items()}
        for name, one in connections.items():
            assert ended(one), name
            one.close()
        time.sleep(1.0)
        assert b"hello" in listener.recv(65_536)
        assert not cut(listener)


@pytest.mark.usefixtures("quick")
def test_one_byte_now_and_then_is_no_request(place: str) -> None:
    until = time.monotonic() + SOON
    with opened(place, b"GET / HTTP/1.1\r\n") as one:
        while not cut(one):
            assert time.monotonic() < until
            with suppress(BrokenPipeError, ConnectionResetError):
                one.sendall(b"X")
            time.sleep(0.1)


@pytest.mark.usefixtures("few")
def test_connections_that_ask_for_nothing_shut_nobody_out(place: str) -> None:
    """(The oldest of them makes room.)"""
    idle = [opened(place) for _ in range(50)]
    assert httpx.get(f"{place}/api/health", timeout=SOON).status_code == 200
    time.sleep(0.2)
    assert [cut(one) for one in idle] == [*[True] * 46, *[False] * 4]
    for one in idle:
        one.close()


@pytest.mark.usefixtures("few")
def test_where_all_are_being_answered_the_newest_has_to_go(place: str) -> None:
    listeners = [opened(place, b"GET /api/events " + HEAD + b"\r\n") for _ in range(5)]
    for one in listeners:
        assert one.recv(100)
    with opened(place) as late:
        assert ended(late)
    assert not any(cut(one) for one in listeners)
    for one in listeners:
        one.close()
    with httpx.Client(transport=httpx.HTTPTransport(retries=20), timeout=SOON) as client:
        assert client.get(f"{place}/api/health").status_code == 200


def test_all_addresses_together_have_a_limit_as_well(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MOST", 7)
    idle = [opened(place) for _ in range(20)]
    assert httpx.get(f"{place}/api/health", timeout=SOON).status_code == 200
    time.sleep(0.2)
    assert [cut(one) for one in idle] == [*[True] * 14, *[False] * 6]
    for one in idle:
        one.close()


@pytest.mark.usefixtures("quick")
def test_an_answer_that_nobody_takes_is_not_kept_for_ever() -> None:
    over = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            try:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                for _ in range(100):
                    await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})
            finally:
                over.append(await receive())

    with listening(app, http=Connection) as place, opened(place, b"GET / " + HEAD + b"\r\n"):
        latest = time.monotonic() + SOON
        while not over:
            assert time.monotonic() < latest
            time.sleep(0.05)
    assert over == [{"type": "http.disconnect"}]


def test_serve_listens_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[uvicorn.Config] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: started.append(server.config))  # noqa: ARG005
    serve(Setting(home=tmp_path, now=lambda: 0, port=0))
    assert (started[0].http, started[0].h11_max_incomplete_event_size) == (Connection, MOST_HEAD)
