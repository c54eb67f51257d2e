"""What time it is, and waiting: the machine's clock, or that of a recording which is played."""

import math
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Protocol


class Clock(Protocol):
    """What the loop and the feeds know of time."""

    def now(self) -> int:
        """Return the time, in milliseconds of UTC."""

    def sleep(self, seconds: float) -> None:
        """Return after so many seconds of this clock, or earlier."""


class WakingClock(Clock, Protocol):
    """A clock whose sleep can be ended from outside."""

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called: nobody sleeps any more."""

    def wake(self) -> None:
        """End the sleep that somebody is in, or the next one."""

    def stop(self) -> None:
        """End all sleep, now and from now on; may be called by a signal handler."""


class _Bell:
    """Sleep that can be ended, in real seconds. A signal handler may fill a `SimpleQueue`; a lock it may not take."""

    def __init__(self) -> None:
        self._rung: SimpleQueue[None] = SimpleQueue()
        self.stopped = False

    def wake(self) -> None:
        if self._rung.empty():
            self._rung.put(None)

    def stop(self) -> None:
        self.stopped = True
        self._rung.put(None)

    def _doze(self, seconds: float) -> None:
        if not self.stopped and seconds > 0:
            with suppress(Empty):
                self._rung.get(timeout=min(seconds, 1e6))
        if self.stopped:
            self._rung.put(None)  # for the next sleeper


class SystemClock(_Bell):
    """The machine's clock."""

    def now(self) -> int:
        """Return the time, in milliseconds of UTC."""
        return time.time_ns() // 1_000_000

    def sleep(self, seconds: float) -> None:
        """Return after so many seconds, or when it is woken or stopped."""
        self._doze(seconds)


class ReplayClock(_Bell):
    """The clock of a recording.

    With `speed` N it goes N times as fast as ours. With 0, or infinity, it stands still until somebody sleeps, and then it is
    that much later at once: as fast as it goes. At `end` it stops, as the recording does: nothing grows older then.
    """

    def __init__(self, start: int, *, speed: float = 0.0, end: int | None = None) -> None:
        super().__init__()
        self._end = end
        self._start, self._began = start, time.monotonic()
        self._speed = 0.0 if math.isinf(speed) else speed
        self._lock = Lock()

    def now(self) -> int:
        """Return the time there, in milliseconds of UTC."""
        passed = int((time.monotonic() - self._began) * self._speed * 1_000) if self._speed else 0
        now = self._start + passed
        return now if self._end is None else min(now, self._end)

    def sleep(self, seconds: float) -> None:
        """Return after so many seconds of this clock, or when it is woken or stopped."""
        if self._speed:
            self._doze(seconds / self._speed)
        elif not self.stopped:
            with self._lock:
                self._start += math.ceil(max(seconds, 0.0) * 1_000)
