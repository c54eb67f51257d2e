"""Dashboards of small homes, asked in the same process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

import uvicorn
from fastapi.testclient import TestClient
from starlette.types import ASGIApp

from crpbot.web.app import make_app
from crpbot.web.setting import Setting

TOKEN = "a token that is long enough"  # noqa: S105  of these tests only
HERE = "http://127.0.0.1:8000"


def ask(home: Path, *, now: int = 1_780_000_000_000, token: str | None = None, **more: object) -> TestClient:
    """Return a browser of the dashboard of `home`; use it in a `with`, so that the watcher runs."""
    setting = Setting(home=home, now=lambda: now, token=token, **more)
    return TestClient(make_app(setting), base_url=HERE, follow_redirects=False, headers={"sec-fetch-site": "same-origin"})


@contextmanager
def listening(what: Setting | ASGIApp, *, port: int = 0, **more: Any) -> Iterator[str]:
    """Give the address of a real server of a dashboard, or of another application, in a thread of this process."""
    app = make_app(what) if isinstance(what, Setting) else what
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", timeout_graceful_shutdown=1, **more))
    thread = Thread(target=server.run)
    thread.start()
    try:
        until = monotonic() + 30
        while not server.started:
            assert monotonic() < until
            sleep(0.02)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def log_in(browser: TestClient, token: str = TOKEN) -> None:
    """Log a browser in, by the form."""
    answer = browser.post("/login", data={"token": token, "csrf": word(browser, "/login")})
    assert answer.status_code == 303, answer.text


def ended(browser: TestClient, page: str, *, calls: str = "errands") -> dict:
    """Return an errand, by the address of its page, once nothing more comes of it."""
    for _ in range(1_200):
        found = browser.get(f"/api/{calls}/{page.rpartition('/')[2]}").json()
        if found["state"] not in {"waiting", "running"}:
            return found
        sleep(0.05)
    raise AssertionError(found)


def word(browser: TestClient, page: str) -> str:
    """Return the word that the forms of a page bring along."""
    text = browser.get(page).text
    return text.split('name="csrf" value="')[1].split('"')[0]
