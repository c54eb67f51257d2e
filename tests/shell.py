"""The command line as a user's shell calls it: a process of its own for each call, with its own exit code and streams.

Most of a short command is the import of torch and its like. So one interpreter (`interpreter.py`) imports them once, and is
forked for each call; what is run in the fork is the `main` of `python -m crpbot`.
"""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from threading import Lock

_LOCK = Lock()
_INTERPRETER = Path(__file__).with_name("interpreter.py")


def crpbot(*words: object, cwd: Path | None = None, interpreter: Path = _INTERPRETER) -> subprocess.CompletedProcess[str]:
    """Call `crpbot` and return what it printed, and its exit code; another `interpreter` may stand in for what is large."""
    given = list(map(str, words))
    if sys.platform != "linux":  # elsewhere a fork of so much is not safe
        command = [sys.executable, "-m", "crpbot", *given]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=300)
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder, name) for name in ("out", "err")]
        for stream in streams:
            stream.touch()
        asked = {"words": given, "cwd": str(cwd or Path.cwd()), "env": dict(os.environ), "streams": list(map(str, streams))}
        with _LOCK:
            process = _started(interpreter)
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            code = int(process.stdout.readline())
        printed, complained = (stream.read_text(encoding="utf-8") for stream in streams)
    return subprocess.CompletedProcess(["crpbot", *given], code, printed, complained)


@cache
def _started(interpreter: Path) -> "subprocess.Popen[str]":
    """Start the interpreter that is forked; it ends with this process."""
    command = [sys.executable, str(interpreter)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(process.terminate)
    return process
