"""Connections: whoever holds one has to ask for something, and to take the answer, in good time; nobody holds them all.

The server itself counts connections and bounds them, but waits for ever for a request that has begun, or never begins.
"""

import asyncio
from collections.abc import Collection
from itertools import count
from operator import itemgetter

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

LONGEST_HEAD = 10.0
"""Seconds within which the headers of a request must have come."""
LONGEST_BODY = 60.0
"""Seconds within which what it brings must have come: a checkpoint of 32 MB by a slow line."""
LONGEST_TAKING = 60.0
"""Seconds that what waits of an answer may take to be taken."""
MOST, MOST_OF_ONE = 500, 300
"""Connections of all and of one address: more than may listen for news, since behind a proxy all are of one."""
_TURNS = count()


class Connection(H11Protocol):
    """One connection. It is cut when it is late; where there are too many, the one that we have waited for longest makes room.

    Attributes:
        turn: grows from one that we began to wait for to the next (a clock is too coarse); None while a request is answered.

    """

    turn: int | None = None
    _state: object = None
    _late: asyncio.TimerHandle | None = None
    _untaken: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the server has it
        """Begin to wait, if there is room."""
        super().connection_made(transport)
        self._wait()
        own = [one for one in self._all() if one.address == self.address]
        for most, of in ((MOST_OF_ONE, own), (MOST, self._all())):
            if len(of) > most:
                _longest_waiting(of, self).cut()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self.turn = None
        _stop(self._late)
        _stop(self._untaken)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Take what has come, and see what is missing yet."""
        super().handle_events()
        self._wait()

    def pause_writing(self) -> None:
        """Wait for somebody to take the answer."""
        super().pause_writing()
        _stop(self._untaken)
        self._untaken = self.loop.call_later(LONGEST_TAKING, self.cut)

    def resume_writing(self) -> None:
        """Go on."""
        _stop(self._untaken)
        super().resume_writing()

    @property
    def address(self) -> str:
        """Where it comes from."""
        return self.client[0] if self.client else ""

    def _all(self) -> list["Connection"]:
        return [one for one in self.connections if isinstance(one, Connection)]

    def _wait(self) -> None:
        """Give it the time that what is missing may take, counted from when it began to be missing."""
        state = self.conn.their_state
        if state is self._state:
            return
        self._state = state
        _stop(self._late)
        longest = {h11.IDLE: LONGEST_HEAD, h11.SEND_BODY: LONGEST_BODY}.get(state)
        self.turn = None if longest is None else next(_TURNS)
        self._late = None if longest is None else self.loop.call_later(longest, self.cut)

    def cut(self) -> None:
        """End it at once, without a word: nobody listens."""
        self.turn = None
        self.connections.discard(self)  # now, and not when the loop comes round to it: it makes room
        self.transport.abort()


def _longest_waiting(connections: Collection[Connection], newest: Connection) -> Connection:
    """Return the connection that makes room; the newest one where all others are being answered."""
    waiting = [(one.turn, one) for one in connections if one.turn is not None]
    return min(waiting, key=itemgetter(0), default=(0, newest))[1]


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
