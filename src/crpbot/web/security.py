"""Who may come in, and what a page may do: everything passes here before any room of the dashboard hears of it.

The dashboard listens on this machine only, unless it is told otherwise, and then whoever wants to see anything needs the token.
To change something one has to be logged in, everywhere. A form counts only when it comes from a page of ours: by what the
browser says of its origin, and by a word that only our pages of this visitor hold. A page may load nothing from elsewhere and
run no script that is written into it.
"""

import asyncio
import hashlib
import hmac
import math
import re
import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crpbot.live.metrics import is_loopback
from crpbot.web.setting import Setting

COOKIE = "crpbot"
LASTS = 12 * 3600.0
"""Seconds that a login lasts."""
TRIES, WITHIN = 5, 60.0
"""So many wrong tokens an address may send in so many seconds, by the form and by programs each. No limit for all addresses
together: it would let anybody lock out everybody, and a token is too long to be guessed."""
MOST_HEAD = 32 * 1024
"""Bytes of all headers of a request: those of a browser have a few hundred, and the cookies of other programs on this machine
some thousands."""
MOST_BODY = 64 * 1024
"""Bytes of what a form may send, but for a checkpoint."""
MOST_UPLOAD = 32 * 1024 * 1024
"""Bytes of a checkpoint with its form: our own have a quarter of a million, and nobody needs a tenth of this."""
UPLOADS = ("/diagnose", "/api/diagnoses")
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with none at all, Chromium says of our own forms that they come from nowhere
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_MOST_DRAINED, _LONGEST_DRAIN, _LONGEST_SILENCE = 128 * 1024 * 1024, 10.0, 1.0
"""Bytes and seconds that a browser may go on sending what is refused: most hear an answer only when they have sent all."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_PUBLIC = ("/static/", "/login", "/pictures.css", "/favicon.ico")
_OURS = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{64})", re.ASCII)
"""What a cookie of ours holds: the name of a browser, and our mark on it."""
WRONG, TOO_OFTEN = "refused: the token is wrong", "refused: too many wrong tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who asks.

    Attributes:
        id: of the browser; empty for a program that brings the token itself.
        csrf: the word that a form of ours brings along.
        trusted: whether the token was given: may change things.
        address: that it comes from.
        new: whether its browser has no cookie of ours yet.

    """

    id: str
    csrf: str
    trusted: bool
    address: str
    new: bool = False


class Limit:
    """So many events in so many seconds, by name. Threads may share it."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._lock = threading.Lock()
        self._seen: dict[str, deque[float]] = {}
        self._told: set[str] = set()

    def wait(self, name: str) -> float:
        """Return how many seconds `name` has to wait; 0 where it need not."""
        with self._lock:
            seen = self._recent(name)
            return 0.0 if len(seen) < self._most else self._seconds - (monotonic() - seen[0])

    def first(self, name: str) -> bool:
        """Return whether nobody has asked this since `name` was last counted: a flood is told of once."""
        with self._lock:
            known = name in self._told
            self._told.add(name)
            return not known

    def count(self, name: str) -> None:
        """Count an event."""
        with self._lock:
            self._recent(name).append(monotonic())
            for other in [other for other in self._seen if not self._recent(other)]:
                del self._seen[other]
            self._told = {other for other in self._told if other in self._seen and other != name}

    def _recent(self, name: str) -> deque[float]:
        seen = self._seen.setdefault(name, deque())
        while seen and seen[0] <= monotonic() - self._seconds:
            seen.popleft()
        return seen


class Doorman:
    """Knows visitors again. Nothing of it outlives the process: after a restart everybody logs in anew.

    Args:
        token: that lets in; None where nobody can be let in.

    """

    def __init__(self, token: str | None) -> None:
        self._token = token
        self._secret = secrets.token_bytes(32)
        self._inside: dict[str, float] = {}
        self._lock = threading.Lock()
        self.by_form, self.by_programs = Limit(TRIES, WITHIN), Limit(TRIES, WITHIN)

    @property
    def has_token(self) -> bool:
        """Whether anybody can log in."""
        return self._token is not None

    def visitor(self, headers: Headers, address: str) -> Visitor:
        """Return who asks, by token or by cookie; without a cookie of ours a new one. The right token is never kept waiting."""
        given = bearer(headers)
        if given is not None and self._is_token(given):
            return Visitor(id="", csrf="", trusted=True, address=address)
        known = next((one for one, mark in cookies(headers) if self._is_mark(one, mark)), None)
        one = known or secrets.token_hex(16)
        with self._lock:
            trusted = self._inside.get(one, 0.0) > monotonic()
        return Visitor(id=one, csrf=self._mark("form", one), trusted=trusted, address=address, new=known is None)

    def cookie(self, visitor: Visitor) -> str:
        """Return what the cookie of a visitor holds."""
        return f"{visitor.id}.{self._mark('cookie', visitor.id)}"

    def let_in(self, token: str, address: str) -> Visitor | None:
        """Return a new visitor who may change things, or None where the token is not the one."""
        if not self._is_token(token):
            self.by_form.count(address)
            return None
        one = secrets.token_hex(16)  # not the one of before: somebody may have planted it
        with self._lock:
            self._inside = {name: until for name, until in self._inside.items() if until > monotonic()}
            self._inside[one] = monotonic() + LASTS
        return Visitor(id=one, csrf=self._mark("form", one), trusted=True, address=address)

    def let_out(self, visitor: Visitor) -> None:
        """Log a visitor out."""
        with self._lock:
            self._inside.pop(visitor.id, None)

    def is_meant(self, visitor: Visitor, word: str) -> bool:
        """Return whether a form of ours was sent by this visitor; a program with the token needs no word."""
        return not visitor.id or hmac.compare_digest(word.encode(), visitor.csrf.encode())

    def _is_token(self, token: str) -> bool:
        return self._token is not None and hmac.compare_digest(token.encode(), self._token.encode())

    def _is_mark(self, one: str, mark: str) -> bool:
        return hmac.compare_digest(mark, self._mark("cookie", one))

    def _mark(self, use: str, text: str) -> str:
        return hmac.new(self._secret, f"{use}:{text}".encode(), hashlib.sha256).hexdigest()


class Door:
    """What every request passes: the host, the origin, the size, the visitor, and the headers of the answer.

    Args:
        app: what is behind it.
        setting: what the dashboard was told.
        doorman: who knows visitors.
        said: makes the answer of a status and words, for a page or a program.
        noted: writes down what came of a token that somebody brought from an address; it may block.

    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        setting: Setting,
        doorman: Doorman,
        said: Callable[[Request, int, str], Response],
        noted: Callable[[str, str], None],
    ) -> None:
        self._app, self._setting, self._doorman, self._said, self._noted = app, setting, doorman, said, noted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MOST_HEAD:
            words = f"the headers of a request may have {MOST_HEAD:,} bytes, found more; delete the cookies of this address"
            await _no(scope, 431, words)(scope, receive, send)
            return
        if not scope["query_string"].isascii():  # the libraries below would stumble over it
            await _no(scope, 400, "what follows the ? of an address must be percent-encoded, found other bytes")(
                scope, receive, send
            )
            return
        headers, path = Headers(scope=scope), scope["path"]
        address = scope["client"][0] if scope["client"] else ""
        visitor = self._doorman.visitor(headers, address)
        scope.setdefault("state", {})["visitor"] = visitor
        most = MOST_UPLOAD if path in UPLOADS else MOST_BODY

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._dress(MutableHeaders(scope=message), scope, headers, visitor)
            await send(message)

        refusal = (
            self._misnamed(scope, headers)
            or await self._wrong_token(scope, headers, visitor)
            or self._refusal(scope, headers, visitor, most)
        )
        if refusal is not None:
            if refusal.status_code == 413 and visitor.id and not path.startswith("/api/"):
                await _drain(receive)
            await refusal(scope, receive, answer)
            return
        await self._app(scope, _bounded(receive, most), answer)

    def _misnamed(self, scope: Scope, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if not self._setting.open or is_loopback(_name(host)):
            return None
        # Another site may give its name the address of this machine; an address in its place can only be that of this machine.
        return _no(scope, 421, f"this dashboard must be asked as localhost or by its address, found {host[:100]!r}")

    async def _wrong_token(self, scope: Scope, headers: Headers, visitor: Visitor) -> Response | None:
        """Refuse a program whose token is not ours; where there is none at all, none is wrong."""
        if not visitor.id or not self._doorman.has_token or bearer(headers) is None:
            return None
        limit, address = self._doorman.by_programs, visitor.address
        wait = math.ceil(limit.wait(address))
        if not wait:
            limit.count(address)
        if not wait or limit.first(address):
            with suppress(OSError):  # it is refused anyhow
                await asyncio.to_thread(self._noted, address, TOO_OFTEN if wait else WRONG)
        if wait:
            refusal = _no(scope, 429, f"the token must be right, found too many wrong ones; try again in {wait} seconds")
            refusal.headers["Retry-After"] = str(wait)
        else:
            refusal = _no(scope, 401, "the token must be that of this dashboard, found another; see CRPBOT_WEB_TOKEN")
            refusal.headers["WWW-Authenticate"] = "Bearer"
        return refusal

    def _refusal(self, scope: Scope, headers: Headers, visitor: Visitor, most: int) -> Response | None:
        host = headers.get("host", "")
        if scope["method"] not in _SAFE:
            if visitor.id and not _from_here(headers, host):
                words = "a form must come from a page of this dashboard, found another origin; open it here"
                return self._said(Request(scope), 403, words)
            length = headers.get("content-length", "0")
            if not length.isdecimal() or len(length) > 18 or int(length) > most:
                return self._said(Request(scope), 413, f"at most {most:,} bytes may be sent here, found {length[:20]}; send less")
        if not self._setting.open and not visitor.trusted and not scope["path"].startswith(_PUBLIC):
            if scope["path"].startswith(("/api/", "/openapi")):
                return JSONResponse({"error": "the token must be given: Authorization: Bearer TOKEN"}, 401)
            return RedirectResponse("/login", 303)
        return None

    def _dress(self, out: MutableHeaders, scope: Scope, headers: Headers, visitor: Visitor) -> None:
        for name, value in HEADERS.items():
            out.setdefault(name, value)
        out.setdefault("Cache-Control", "no-store")
        page = out.get("content-type", "").startswith("text/html")
        if visitor.new and page and "set-cookie" not in out:
            out.append("Set-Cookie", cookie_words(self._doorman.cookie(visitor), headers, secure=scope["scheme"] == "https"))


def cookie_name(headers: Headers) -> str:
    """Return the name of our cookie, with the port that a browser asks: all ports of a machine share their cookies."""
    try:
        port = urlsplit(f"//{headers.get('host', '')}").port
    except ValueError:
        port = None
    return COOKIE if port is None else f"{COOKIE}-{port}"


def cookie_words(value: str, headers: Headers, *, secure: bool) -> str:
    """Return the header that gives a visitor the cookie: no script reads it, and no other site sends it."""
    return f"{cookie_name(headers)}={value}; Path=/; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}"


def cookies(headers: Headers) -> list[tuple[str, str]]:
    """Return the name and the mark of each cookie that may be ours; those of other programs may be as odd as they like."""
    name, found = cookie_name(headers), []
    for part in headers.get("cookie", "").split(";"):
        one, _, value = part.strip().partition("=")
        if one == name and (ours := _OURS.fullmatch(value)):
            found.append((ours[1], ours[2]))
    return found


def bearer(headers: Headers) -> str | None:
    """Return the token that a program brings; None where it brings none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


class TooMuchError(HTTPException):
    """More was sent than was announced."""

    def __init__(self, most: int) -> None:
        super().__init__(413, f"at most {most:,} bytes may be sent here, found more; send less")


async def _drain(receive: Receive) -> None:
    """Let a browser send what it has begun to send, and keep nothing of it."""
    taken = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_LONGEST_DRAIN):
            while taken < _MOST_DRAINED:
                message = await asyncio.wait_for(receive(), _LONGEST_SILENCE)
                taken += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


def _bounded(receive: Receive, most: int) -> Receive:
    taken = 0

    async def take() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise TooMuchError(most)
        return message

    return take


def _no(scope: Scope, status: int, words: str) -> Response:
    """Refuse without a page: it would not be ours that a browser shows."""
    if scope["path"].startswith("/api/"):
        return JSONResponse({"error": words}, status)
    return Response(words + "\n", status, media_type="text/plain")


def _from_here(headers: Headers, host: str) -> bool:
    """Return whether a browser says that a page of ours asks; all of today say so."""
    origin = headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc == host
    return headers.get("sec-fetch-site") in {"same-origin", "none"}


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
