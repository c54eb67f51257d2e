"""What goes on in the background goes on: an error of one round is no reason to end, and a bug is told once in a while."""

import traceback
from time import monotonic
from types import TracebackType

from crpbot.errors import CrpbotError

AGAIN = 600.0
"""Seconds after which a bug that is still there is told again."""


class Steady:
    """A block that every round of a task passes, and that lets no error out. Whatever cannot be read is what the pages tell."""

    def __init__(self) -> None:
        self._told = -AGAIN

    def __enter__(self) -> None:
        """Begin a round."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        """End it: what would end the task is printed, but for what ends the program."""
        if not isinstance(error, Exception):
            return False
        if not isinstance(error, CrpbotError | OSError) and monotonic() - self._told >= AGAIN:
            self._told = monotonic()
            traceback.print_exception(error)
        return True
