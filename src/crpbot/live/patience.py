"""How long a journal is waited for: the runtime has patience, and whoever shows pages has none for one that never answers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from crpbot.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy import Engine

LONG = 30.0
"""Seconds that the runtime waits."""
_SLOW = 0.25
"""Share of the patience that a failure has to take to be remembered: what is refused at once costs nobody anything."""
_GRACE = 0.5
"""Seconds that a server has to say itself that it was too slow."""


class Patience:
    """Knows how long to wait for a journal, and that it did not answer lately. Threads may share it.

    Args:
        seconds: that connecting, a lock, or a question may take.
        rest: seconds for which a journal that did not answer is left alone. Everybody is told so at once meanwhile; then one
            thread asks again, and the others are still told until that one has an answer. 0 for whoever waits each time, as
            long as it takes: then a question has no limit either, only connecting and locks do.

    """

    def __init__(self, seconds: float = LONG, *, rest: float = 0.0) -> None:
        self.seconds, self.rest = seconds, rest
        self._lock = threading.Lock()
        self._found, self._until = "", 0.0
        self._asks: int | None = None

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Let the journal be asked inside.

        Raises:
            JournalError: it did not answer lately, as was said then.

        """
        if not self.rest:
            yield
            return
        first, started = self._begin(), monotonic()
        try:
            yield
        except JournalError as error:
            if monotonic() - started >= _SLOW * self.seconds:
                self._remember(str(error))
            elif first:
                self._remember("")
            raise
        else:
            if first:
                self._remember("")
        finally:
            if first:
                self._asks = None

    def _begin(self) -> bool:
        """Return whether this thread is the one that asks again."""
        with self._lock:
            if not self._found or self._asks == threading.get_ident():
                return False
            if self._asks is not None or monotonic() < self._until:
                raise JournalError(self._found)
            self._asks = threading.get_ident()
            return True

    def _remember(self, found: str) -> None:
        with self._lock:
            self._found, self._until = found, monotonic() + self.rest


def limit(engine: "Engine", patience: Patience) -> None:
    """Let no answer of PostgreSQL be waited for longer, whatever became of the server: what it limits itself it must be able to.

    The connection is closed then.
    """
    import psycopg  # noqa: PLC0415  an extra
    from sqlalchemy import event  # noqa: PLC0415  an extra

    seconds = patience.seconds + _GRACE

    class Limited(psycopg.Connection[Any]):
        def wait(self, gen: Any, *args: Any, **more: Any) -> Any:  # noqa: ANN401
            try:
                return super().wait(_within(gen, seconds), *args, **more)
            except TimeoutError:
                self.close()
                raise psycopg.OperationalError(f"no answer within {seconds:g} s") from None

    @event.listens_for(engine, "do_connect")
    def _(_dialect: Any, _record: Any, args: Any, more: Any) -> Any:  # noqa: ANN401
        return Limited.connect(*args, **more)


def _within(asked: "Generator[Any, Any, Any]", seconds: float) -> "Generator[Any, Any, Any]":
    """Do as `asked` does, which yields what it waits for and is told 0 each time that it did not come, for so long at most.

    Raises:
        TimeoutError: it took longer.

    """
    until = monotonic() + seconds
    try:
        wanted = next(asked)
        while True:
            came = yield wanted
            if not came and monotonic() > until:
                raise TimeoutError
            wanted = asked.send(came)
    except StopIteration as done:
        return done.value
    finally:
        asked.close()
