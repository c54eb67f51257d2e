"""A process of our own beside the dashboard: what it is told, what it may use, and how it ends."""

import json
import os
import signal
import site
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crpbot.disk import read_regular
from crpbot.errors import printable
from crpbot.web.child import ANSWER, OUT_OF_MEMORY

CHILD = (sys.executable, "-P", "-m", "crpbot.web.child")
"""Starts it; a file in its working folder is no module of it."""
GIB, MIB = 2**30, 2**20
_LONGEST_ANSWER = 8 * MIB
_TAIL = 64 * 1024
"""Bytes of what it has said that are looked at."""
_SAID = ".said"
_SHAPE: Mapping[str, Any] = {
    "state": str,
    "words": str,
    "passed": bool | None,
    "stage": str | None,
    "audit": dict | None,
    "judgement": dict | None,
}
"""What an answer may say."""
_STATES = ("done", "refused", "failed")
_PASSED_ON = (
    *("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ"),
    *("SYSTEMROOT", "WINDIR"),
)
"""What a Python needs to start as this one did; tokens, keys and addresses are not among it."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS", "MALLOC_ARENA_MAX")
"""Each thread takes memory, and the pages want a processor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a process may use.

    Attributes:
        memory: bytes of its own.
        seconds: by the clock, and of the processor.
        file: bytes of any file that it writes.

    """

    memory: int
    seconds: float
    file: int = 64 * MIB


class Process:
    """A process that is started now.

    Args:
        request: what it is told.
        folder: its own: working folder, home, and place for what it writes.
        command: that starts it.

    """

    def __init__(self, request: Mapping[str, Any], folder: Path, *, command: Sequence[str] = CHILD) -> None:
        self._folder = folder
        (folder / ANSWER).unlink(missing_ok=True)
        with (folder / _SAID).open("wb") as said:
            self._process = subprocess.Popen(  # noqa: S603  our own command
                command,
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                cwd=folder,
                env=clean_environment(folder),
                start_new_session=True,  # with whatever it starts, it can be ended as a whole
            )
        assert self._process.stdin is not None
        with suppress(OSError):  # it ended at once, and says why
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def wait(self, limits: Limits) -> Mapping[str, Any]:
        """Return what it has answered, or how it ended, as `state` and `words`; it is gone then."""
        try:
            code: int | None = self._process.wait(limits.seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            self.close()
        return self._answer() or self._ended(code, limits)

    def end(self) -> None:
        """End it, and whatever it has started."""
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        elif self._process.poll() is None:
            self._process.kill()

    def close(self) -> None:
        """End it, if it has not ended, and wait until it is gone."""
        self.end()
        with suppress(OSError):
            self._process.communicate()

    def _answer(self) -> Mapping[str, Any] | None:
        try:
            plain = json.loads(read_regular(self._folder / ANSWER, most=_LONGEST_ANSWER))
        except (OSError, ValueError, RecursionError):
            return None
        return plain if _is_answer(plain) else None

    def _ended(self, code: int | None, limits: Limits) -> Mapping[str, Any]:
        """Return what is to be said of a process that ended without an answer."""
        said = self._said()
        if code is None or code == -getattr(signal, "SIGXCPU", -1):
            words = f"it must be done within {limits.seconds:g} seconds, and was not: it was ended"
        elif any(words in said.lower() for words in OUT_OF_MEMORY) or code == -getattr(signal, "SIGKILL", -1):
            words = f"it must be done within {limits.memory / GIB:.2g} GiB of memory, and was not: it was ended"
        else:
            sys.stderr.write(said + "\n")
            last = printable(said.strip().splitlines()[-1])[:200] if said.strip() else "no word"
            words = f"it must give an answer, and ended with code {code} instead: {last}; the dashboard's terminal has more"
        return {"state": "failed", "words": words}

    def _said(self) -> str:
        file = self._folder / _SAID
        with file.open("rb") as found:
            found.seek(max(0, file.stat().st_size - _TAIL))
            return found.read().decode(errors="replace")


def _is_answer(plain: object) -> bool:
    """Return whether that is an answer: its state, its words, and nothing that is none of ours."""
    return (
        isinstance(plain, dict)
        and {"state", "words"} <= plain.keys() <= _SHAPE.keys()
        and plain["state"] in _STATES
        and all(isinstance(value, _SHAPE[name]) for name, value in plain.items())
    )


def clean_environment(folder: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a process: nothing of ours but what a Python needs to start, and its own folder as its home."""
    kept = {name: environ[name] for name in _PASSED_ON if name in environ}
    if "PYTHONPATH" in kept:  # it works elsewhere
        kept["PYTHONPATH"] = os.pathsep.join(str(Path(part).absolute()) for part in kept["PYTHONPATH"].split(os.pathsep) if part)
    if site.ENABLE_USER_SITE:
        kept["PYTHONUSERBASE"] = site.getuserbase()
    places = dict.fromkeys(("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP"), str(folder))
    return {**kept, **places, **dict.fromkeys(_THREADS, "1")}
