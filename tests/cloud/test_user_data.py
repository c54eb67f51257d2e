"""The script of the machine of EC2, run as it is with everything that it calls replaced: it ends the machine, always."""

import hashlib
import os
import subprocess
import time
from pathlib import Path

import pytest

from crpbot.cloud import ec2, sagemaker
from crpbot.cloud.pack import Blob, Package


def run(place: Path, *, failing: tuple[str, ...] = (), altered: str = "") -> list[str]:
    """Run the script and return what it called, in order; what fails still says that it was called."""
    content = {name: name.encode() for name in ("crpbot.zip", "requirements.txt", "constraints.txt", "start.sh")}
    digest = hashlib.sha256("".join(f"{n} {hashlib.sha256(c).hexdigest()}\n" for n, c in content.items()).encode()).hexdigest()
    package = Package("crpbot/packages/x/", digest, tuple(Blob(f"crpbot/packages/x/{n}", c) for n, c in content.items()))
    script = ec2.user_data("run", bucket="bucket", region="us-east-1", package=package, limit_seconds=600)
    (place / "log").mkdir()
    (place / "opt" / "package").mkdir(parents=True)
    for name, part in content.items():
        (place / "opt" / "package" / name).write_bytes(b"another" if name == altered else part)
    (place / "opt" / "venv" / "bin").mkdir(parents=True)
    script = script.replace("/opt/crpbot", str(place / "opt")).replace("/var/log", str(place / "log"))
    for name, folder in {
        **dict.fromkeys(("aws", "python3", "shutdown", "poweroff", "sleep"), place / "bin"),
        "python": place / "opt" / "venv" / "bin",
    }.items():
        folder.mkdir(exist_ok=True)
        code = 1 if name in failing else 0
        (folder / name).write_text(f'#!/bin/bash\necho "{name} $*" >>"{place}/called"\nexit {code}\n')
        (folder / name).chmod(0o755)
    path = f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash"], input=script, env={"PATH": path}, cwd=place, text=True, capture_output=True, timeout=60, check=False)
    end = time.monotonic() + 20
    while "poweroff -ff" not in (called := (place / "called").read_text().splitlines()) and time.monotonic() < end:
        time.sleep(0.02)  # the second timer is a process of its own
    return called


@pytest.mark.parametrize("failing", [(), ("aws",), ("python3",), ("python",), ("aws", "python3", "python")])
def test_the_machine_is_shut_down_whatever_fails(tmp_path: Path, failing: tuple[str, ...]) -> None:
    called = run(tmp_path, failing=failing)
    assert "shutdown -h +10" in called
    assert "shutdown -h now" in called
    assert "sleep 660" in called  # the second timer, which asks nobody
    assert "poweroff -ff" in called


def test_where_shutdown_fails_the_power_is_cut(tmp_path: Path) -> None:
    assert "poweroff -f" in run(tmp_path, failing=("shutdown",))


@pytest.mark.parametrize("altered", ["", "crpbot.zip", "requirements.txt", "constraints.txt", "start.sh"])
def test_code_that_was_changed_in_the_bucket_is_not_run(tmp_path: Path, altered: str) -> None:
    called = run(tmp_path, altered=altered)
    assert any("crpbot.cloud.machine" in line for line in called) == (altered == "")
    assert "shutdown -h now" in called


@pytest.mark.parametrize("altered", ["", "crpbot.zip", "start.sh"])
def test_the_container_runs_the_very_files_that_were_sent(tmp_path: Path, altered: str) -> None:
    place = tmp_path / "input" / "data" / "package"
    place.mkdir(parents=True)
    (tmp_path / "output").mkdir()
    content = dict.fromkeys(("crpbot.zip", "requirements.txt", "constraints.txt", "start.sh"), b"echo started")
    lines = "".join(f"{name} {hashlib.sha256(part).hexdigest()}\n" for name, part in content.items())
    for name, part in content.items():
        (place / name).write_bytes(b"echo another" if name == altered else part)
    words = ["bash", "-c", sagemaker.ENTRY.replace("/opt/ml", str(tmp_path)), hashlib.sha256(lines.encode()).hexdigest()]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert len(sagemaker.ENTRY) <= 256
    assert (done.returncode, done.stdout) == ((1, "") if altered else (0, "started\n"))
    assert (tmp_path / "output" / "failure").exists() == bool(altered)
