"""A process of our own: its words are passed on, and a signal to us is a signal to it."""

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType

INTERRUPTED = 128 + signal.SIGTERM
"""Exit code of a process that was told to stop."""
_ERRORS = 2
"""Where its results are printed, too: standard output is for ours."""


class Child:
    """A process that is started now. While it runs, SIGTERM is handed on to it and does not end us."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.interrupted = False
        self._process: subprocess.Popen[str] | None = None
        signal.signal(signal.SIGTERM, self._end)
        process = subprocess.Popen(  # noqa: S603  our own command
            command, env=environment, stdout=_ERRORS, stderr=subprocess.PIPE, text=True, errors="replace"
        )
        self._process = process
        if self.interrupted:  # the signal came before there was anybody to hand it to
            process.terminate()

    def wait(self, watch: Callable[[str], None] = lambda _: None) -> tuple[int, str]:
        """Pass its words on until it ends; return its exit code and its last line.

        Args:
            watch: is told every line.

        """
        last = ""
        assert self._process is not None
        assert self._process.stderr is not None
        with self._process:
            for line in self._process.stderr:
                sys.stderr.write(line)
                sys.stderr.flush()
                last = line.strip() or last
                watch(line)
            code = self._process.wait()
        return code, last

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self.interrupted = True
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
