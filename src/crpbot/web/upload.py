"""What is asked before a file is taken: whether the form is ours, whether there is room, and how many are being sent already.

Without it the whole body would lie on the disk before anybody looks at it. The word of a form of ours is its first field.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from starlette.types import Message, Receive

from crpbot.web.login import meant
from crpbot.web.render import visitor_of

if TYPE_CHECKING:
    from crpbot.web.errands import Errands

LONGEST, SILENCE = 120.0, 10.0
"""Seconds that a file may take to arrive, and that nothing of it may arrive."""
_HEAD = 4_096
"""Bytes in which the first field must be."""
_WORD = re.compile(
    rb'\A(?:--[^\r\n]{1,100}\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n([0-9a-f]{0,200})\r\n--'
    rb"|csrf=([0-9a-f]{0,200})(?:&|\Z))",
    re.IGNORECASE,
)


class UploadRoute(APIRoute):
    """A route whose body is taken only when it is wanted."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        answer = super().get_route_handler()
        if "POST" not in (self.methods or ()):
            return answer

        async def take(request: Request) -> Response:
            errands: Errands = request.app.state.errands
            errands.check_room("diagnose")
            receive, begun = _patient(request.receive), list[Message]()
            if visitor_of(request).id:
                begun = await _begin(receive)
                meant(request, _word(begun))
            with errands.upload():
                return await answer(Request(request.scope, _after(begun, receive)))

        return take


async def _begin(receive: Receive) -> list[Message]:
    """Return the messages that hold the first field, or as much as it may be."""
    begun: list[Message] = []
    while not begun or (begun[-1].get("more_body") and len(_content(begun)) < _HEAD and not _WORD.match(_content(begun))):
        begun.append(await receive())
    return begun


def _content(begun: list[Message]) -> bytes:
    return b"".join(message.get("body", b"") for message in begun)[:_HEAD]


def _word(begun: list[Message]) -> str:
    found = _WORD.match(_content(begun))
    return "" if found is None else (found[1] or found[2] or b"").decode()


def _after(begun: list[Message], receive: Receive) -> Receive:
    """Return what gives again what was received already, and then the rest."""

    async def take() -> Message:
        return begun.pop(0) if begun else await receive()

    return take


def _patient(receive: Receive) -> Receive:
    """Return what waits for a body, but not for ever."""
    until = asyncio.get_running_loop().time() + LONGEST

    async def take() -> Message:
        try:
            async with asyncio.timeout_at(min(until, asyncio.get_running_loop().time() + SILENCE)):
                return await receive()
        except TimeoutError:
            words = f"a file must arrive within {LONGEST:g} seconds and without a pause of {SILENCE:g}, found less; send it again"
            raise HTTPException(408, words) from None

    return take
