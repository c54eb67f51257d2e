"""What was worked out once and is shown often, and no more of it than there is room for."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from crpbot.errors import CrpbotError

T = TypeVar("T")
ROOM = 2_000
"""Results of one kind: some of each of 500 markets. Names may be a visitor's, who must not be able to fill the memory."""
LONGEST = 20.0
"""Seconds for which a thread waits for another one that works out the same."""


class _Place:
    """Room for one result."""

    __slots__ = ("found", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.found: tuple[Hashable, Any] | None = None


class Remembered:
    """Results by name, each good as long as its version is the same. Threads may share it; one computes, the others wait.

    Of each kind, which is the first part of a name, those are forgotten that nobody has asked for the longest.

    Args:
        room: for so many of one kind; `ROOM` by default.

    """

    def __init__(self, room: int | None = None) -> None:
        self._room = ROOM if room is None else room
        self._lock = threading.Lock()
        self._places: dict[Hashable, OrderedDict[Hashable, _Place]] = {}

    def __len__(self) -> int:
        with self._lock:
            return sum(map(len, self._places.values()))

    def get(self, name: Hashable, version: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` gave for this version; an error is not remembered.

        Raises:
            CrpbotError: another thread has been at the same for too long.

        """
        place = self._place(name)
        if not place.lock.acquire(timeout=LONGEST):
            raise CrpbotError(f"what is asked for must be ready within {LONGEST:g} s, found it still being made; ask again")
        try:
            if place.found is None or place.found[0] != version:
                place.found = (version, make())
            found: T = place.found[1]
            return found
        finally:
            place.lock.release()

    def last(self, name: Hashable) -> Any:  # noqa: ANN401
        """Return what is remembered, of whatever version, or None."""
        with self._lock:
            place = self._of(name).get(name)
        return None if place is None or place.found is None else place.found[1]

    def forget(self, name: Hashable) -> Any:  # noqa: ANN401
        """Return what is remembered, or None, and remember it no more."""
        with self._lock:
            place = self._of(name).pop(name, None)
        return None if place is None or place.found is None else place.found[1]

    def _place(self, name: Hashable) -> _Place:
        """Return the room for a result; where there is no more, that of the one asked for longest ago is given away."""
        with self._lock:
            own = self._of(name)
            place = own.setdefault(name, _Place())
            own.move_to_end(name)
            if len(own) > self._room:
                own.popitem(last=False)
            return place

    def _of(self, name: Hashable) -> OrderedDict[Hashable, _Place]:
        """Return the places of the kind that a name is of."""
        return self._places.setdefault(name[0] if isinstance(name, tuple) else name, OrderedDict())
