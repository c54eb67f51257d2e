"""The command line as a user's shell calls it."""

import subprocess
import sys
from pathlib import Path


def crpbot(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "crpbot", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=300)
