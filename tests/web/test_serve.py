"""The server as it is started: however it ends, nothing is left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2 as httpx
import pytest
from web.houses import word

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals on Windows")]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("what", ["home", "demo"])
def test_a_server_that_is_asked_to_end_does_so_in_order(how: signal.Signals, what: str, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    environ = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "CRPBOT_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "crpbot", "serve", "--port", "0", *(["--demo"] if what == "demo" else [])]
    server = subprocess.Popen(
        command, env=environ, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    address = next(line.split()[0] for line in server.stdout if line.startswith("http://"))
    with httpx.Client(base_url=address, headers={"sec-fetch-site": "same-origin"}, timeout=30) as browser:
        csrf = word(browser, "/diagnose")
        dropped = browser.post("/api/diagnoses", files={"file": ("a.pt", b"x")}, data={"csrf": csrf})
        assert dropped.status_code == 202
    assert list((tmp_path / "tmp").glob("crpbot-*"))
    server.send_signal(how)
    _, said = server.communicate(timeout=30)
    assert (server.returncode, said) == (0, "")
    assert list((tmp_path / "tmp").glob("crpbot-*")) == []
