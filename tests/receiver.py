"""A loopback server that takes messages to people, or fails in the ways in which such servers do."""

import json
import socket
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from crpbot.live.addresses import Address
from crpbot.live.notify import Message, Notifier

HOUR = 3_600_000

with warnings.catch_warnings():  # Apprise looks for a module that Python 3.13 has no more; here warnings are errors
    warnings.simplefilter("ignore", DeprecationWarning)
    from apprise import Apprise

    Apprise.instantiate("json://localhost")


@dataclass
class Receiver:
    """What arrived, as (path, body); `script` has what happens to the next requests, `always` to all others.

    A fate is a status code, `cut` (the line is closed), `hang` (no answer before `release` is set), or `late` (taken after it).
    """

    port: int = 0
    taken: list[tuple[str, str]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    script: list[int | str] = field(default_factory=list)
    always: int | str = 200
    refuses: str = "\0"
    elsewhere: str = ""
    release: threading.Event = field(default_factory=threading.Event)

    @property
    def address(self) -> str:
        return f"json://127.0.0.1:{self.port}/hook"

    @property
    def titles(self) -> list[str]:
        return [json.loads(body)["title"] for _, body in self.taken]


class _Handler(BaseHTTPRequestHandler):
    receiver: Receiver

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        box = self.receiver
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        box.asked.append((self.path, body))
        fate = box.script.pop(0) if box.script else box.always
        if fate in {"hang", "late"}:
            box.release.wait(60)
        if fate in {"hang", "cut"}:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        status = 400 if box.refuses in body else fate if isinstance(fate, int) else 200
        if status == 200:
            box.taken.append((self.path, body))
        echo = {"ok": status == 200, "result": {}, "description": f"{self.path} {self.headers} {body}"}  # all that it was told
        answer = json.dumps(echo).encode()
        self.send_response(status)
        if box.elsewhere:
            self.send_header("Location", box.elsewhere)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


@contextmanager
def receiver() -> Iterator[Receiver]:
    box = Receiver()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"receiver": box}))
    server.daemon_threads = True
    box.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield box
    finally:
        box.release.set()
        server.shutdown()
        server.server_close()
        thread.join()


def patch_hosts(server: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    from apprise.plugins.discord import NotifyDiscord
    from apprise.plugins.telegram import NotifyTelegram

    monkeypatch.setattr(NotifyTelegram, "notify_url", f"http://127.0.0.1:{server.port}/bot")
    monkeypatch.setattr(NotifyDiscord, "notify_url", f"http://127.0.0.1:{server.port}/api/webhooks")


@dataclass
class Hand:
    """A clock that is moved by hand."""

    time: int = 1_700_000_000_000

    def now(self) -> int:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += round(1_000 * seconds)


@dataclass
class Box:
    """An outbox in memory: what is on disk elsewhere, so that it outlives a notifier."""

    messages: dict[str, Message] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    broken: list[str] = field(default_factory=list)

    def put(self, key: str, title: str, body: str, *, now: int, until: int) -> bool:  # noqa: ARG002
        with self.lock:
            new = key not in self.messages
            self.messages.setdefault(key, Message(key=key, title=title, body=body, until=until))
            return new

    def pending(self, now: int) -> Sequence[Message]:
        self._break("pending")
        with self.lock:
            return [one for one in self.messages.values() if one.key not in self.done and one.until > now]

    def sent(self, key: str, now: int) -> None:
        self._break("sent")
        self.done[key] = now

    def failed(self, key: str, error: str, now: int) -> None:  # noqa: ARG002
        self._break("failed")
        self.errors.append(error)
        self.messages[key] = replace(self.messages[key], tries=self.messages[key].tries + 1)

    def _break(self, call: str) -> None:
        if call in self.broken:
            self.broken.remove(call)
            raise OSError("database is locked")


def at(*urls: str) -> tuple[Address, ...]:
    return tuple(Address(url=url, schema=url.partition("://")[0], where=f"line {i}") for i, url in enumerate(urls, 1))


def drive(notifier: Notifier) -> None:
    """Let the notifier do, in this thread, whatever it can do without time passing."""
    while True:
        notifier.work()
        flights = [lane.flight for lane in notifier._lanes.values() if lane.flight]
        if not flights:
            return
        for flight in flights:
            assert flight.done.wait(30)
