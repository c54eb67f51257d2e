"""What has changed, told to every open page at once: one watcher looks at the files, however many look at the pages."""

import asyncio
import json
from collections.abc import AsyncIterator, Hashable, Mapping
from typing import Any

from crpbot.live.trail import read_trail
from crpbot.web.house import House
from crpbot.web.steady import Steady

EVERY = 0.25
"""Seconds between two looks."""
BEAT = 15.0
"""Seconds without news after which a word of comment keeps the line open."""
MOST_LISTENERS = 200
_WAITING = 256
_AGAIN = "event: again\ndata: {}\n\n"
"""Whoever hears it has missed something, and has to look at everything again."""


class News:
    """Tells listeners what has changed.

    Args:
        house: that is watched.

    """

    def __init__(self, house: House) -> None:
        self._house = house
        self._listeners: set[asyncio.Queue[str]] = set()
        self._versions: Mapping[str, Hashable] = {}
        self._newest: dict[str, int] = {}
        self.counts: dict[str, int] = {}

    async def watch(self) -> None:
        """Look for changes until cancelled."""
        steady = Steady()
        while True:
            with steady:
                for kind, data in await asyncio.to_thread(self.look):
                    self.tell(kind, data)
            await asyncio.sleep(EVERY)

    def look(self) -> list[tuple[str, dict[str, Any]]]:
        """Return what has changed since the last look: a kind, and what there is to say of it."""
        versions = self._house.versions()
        changed = [kind for kind, version in versions.items() if self._versions and version != self._versions.get(kind)]
        first, self._versions = not self._versions, versions
        found: list[tuple[str, dict[str, Any]]] = [(kind, {}) for kind in changed if kind != "candles"]
        if first or "candles" in changed:
            candles = self._candles()
            found += [] if first else candles
        return found

    def _candles(self) -> list[tuple[str, dict[str, Any]]]:
        found = []
        for symbol in self._house.symbols():
            heard = read_trail(self._house.trail, symbol)
            if not len(heard):
                continue
            time = int(heard.time[-1])
            if time != self._newest.get(symbol):
                self._newest[symbol] = time
                numbers = {name: float(getattr(heard, name)[-1]) for name in ("open", "high", "low", "close", "volume")}
                found.append(("candle", {"symbol": symbol, "time": time, **numbers}))
        return found

    def tell(self, kind: str, data: Mapping[str, Any]) -> None:
        """Tell every listener; one that has no room left is told instead, when it listens, to look at everything again."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        text = f"event: {kind}\ndata: {json.dumps(dict(data), allow_nan=False)}\n\n"
        for listener in self._listeners:
            if listener.full():
                while not listener.empty():
                    listener.get_nowait()
                listener.put_nowait(_AGAIN)
            else:
                listener.put_nowait(text)

    @property
    def full(self) -> bool:
        """Whether nobody else may listen."""
        return len(self._listeners) >= MOST_LISTENERS

    async def listen(self) -> AsyncIterator[str]:
        """Give news as they come, in the form of server-sent events, until the listener goes away."""
        queue: asyncio.Queue[str] = asyncio.Queue(_WAITING)
        self._listeners.add(queue)
        try:
            yield "retry: 2000\nevent: hello\ndata: {}\n\n"
            while True:
                try:
                    yield await asyncio.wait_for(queue.get(), BEAT)
                except TimeoutError:
                    yield ": still here\n\n"
        finally:
            self._listeners.discard(queue)
