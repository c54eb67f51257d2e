"""A dashboard that listens, and a browser that looks at it."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn

from crpbot.web.app import make_app
from crpbot.web.setting import Setting


@contextmanager
def listening(setting: Setting) -> Iterator[str]:
    """Give the address of a dashboard that listens in a thread."""
    server = uvicorn.Server(uvicorn.Config(make_app(setting), port=0, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            thread.join(0.02)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def chromium() -> str:
    """Return the browser of this machine; without one the test is left out, but never under CI."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have a browser: apt-get install chromium")
        pytest.skip("there is no browser: apt-get install chromium")
    return found
