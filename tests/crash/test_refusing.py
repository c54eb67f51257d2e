"""A disk that is full, or a folder that may only be read, is told in one line that names the file; nothing is half-written."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="it forks, and limits the fork")]
NAMES = ("candles-import", "candles-export", "features", "train", "diagnose-json", "diagnose-rows", "promote", "journal")
"""Commands, each of which writes another way; the others are tried by night."""


@cache
def answers() -> list[dict]:
    script = Path(__file__).with_name("refusing.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script, *NAMES], capture_output=True, text=True, check=False, env=environment, timeout=600
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {one["name"] for one in found} == set(NAMES), done.stderr[-2_000:]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_written_is_one_line_with_the_file_and_changes_nothing(name: str) -> None:
    """On a full disk, in a folder that may only be read, and on a small file system where one may be mounted here."""
    tried = [one for one in answers() if one["name"] == name and not one.get("skipped")]
    assert {"full", "read-only"} <= {one["way"] for one in tried}
    for found in tried:
        assert not found["wrong"], found
