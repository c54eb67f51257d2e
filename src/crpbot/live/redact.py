"""Secret parts of addresses, kept out of every text that leaves the process."""

import json
import logging
import re
import traceback
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote

MASK = "***"
SHORT = 4
"""Shorter secrets are masked where they stand alone: "ab" inside of "table" is no secret, and a text of masks says nothing."""

PLAIN = frozenset(
    {"verify", "redirect", "rto", "cto", "format", "overflow", "retry", "wait", "optional", "emojis", "tz", "image", "detect"}
)
"""Settings of addresses whose values are no secrets: yes, no, numbers of seconds."""

_SCHEMA = re.compile(r"^\s*[A-Za-z0-9+.-]*://")
_PORT = re.compile(r":\d{1,5}(?=$|[/?])")
Redact = Callable[[str], str]


def secrets_of(address: str) -> frozenset[str]:
    """Return every secret part of an address: host, user, password, parts of the path, values of the query.

    The host counts, since many services have their token there (`discord://ID/TOKEN`, `tgram://TOKEN/CHAT`). The schema, the
    port and the values of `PLAIN` settings do not.

    >>> secrets_of("json://example.org:80/deep?cto=3&key=k%40y") >= {"example.org", "deep", "k%40y", "k@y"}
    True
    """
    rest = _SCHEMA.sub("", address.strip())
    before, _, query = rest.partition("?")
    user, at, place = before.rpartition("@")
    found = {rest, user, *re.split(r"[/:,;#\s]+", _PORT.sub("", place)), *re.split(r"[/:@,;\s]+", user)}
    found |= {value for key, value in parse_qsl(query) if key.lower() not in PLAIN}
    pairs = [part.partition("=")[::2] for part in query.split("&")]  # as they stand, before anything is decoded
    found |= {value for key, value in pairs if key.lower() not in PLAIN}
    if at:
        found.add(b64encode(unquote(user).encode()).decode())  # the form of an Authorization header
    return frozenset(form for part in found for form in _forms(part) if form)


def _forms(part: str) -> Iterator[str]:
    """Yield the ways in which libraries write a text down: as it is, percent-encoded once or not at all, as JSON, as Python."""
    plain = unquote(part)
    for text in (part, plain):
        yield from (text, quote(text, safe=""), quote(text), quote_plus(text), json.dumps(text)[1:-1], repr(text)[1:-1])


def redactor(secrets: Iterable[str]) -> Redact:
    """Return a function that masks the secrets in a text, whatever the case of their letters."""
    ordered = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
    if not ordered:
        return str
    pattern = re.compile("|".join(map(_pattern, ordered)), re.IGNORECASE)
    return lambda text: pattern.sub(MASK, text)


def _pattern(secret: str) -> str:
    alone = len(secret) < SHORT
    return rf"(?<![^\W_]){re.escape(secret)}(?![^\W_])" if alone else re.escape(secret)


class _Guard:
    """The factory of log records: what any library logs, at any level, is masked before a handler sees it.

    Loggers and handlers belong to others, and a filter on a logger is not asked about its children; the factory sees everything.
    """

    def __init__(self) -> None:
        self.secrets: frozenset[str] = frozenset()
        self.redact: Redact = str
        self.inner: Callable[..., logging.LogRecord] | None = None

    def learn(self, secrets: Iterable[str]) -> None:
        self.secrets |= frozenset(secrets)
        self.redact = redactor(self.secrets)
        if self.inner is None:
            self.inner = logging.getLogRecordFactory()
            logging.setLogRecordFactory(self)

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:  # noqa: ANN401  whatever logging gives
        record = (self.inner or logging.LogRecord)(*args, **kwargs)
        try:
            said = record.getMessage()
        except Exception:  # noqa: BLE001  a record that cannot be written would be quoted by logging itself, with its arguments
            said, record.msg, record.args = "", self.redact(f"{record.msg!r} {record.args!r}"), None
        clean = self.redact(said)
        if clean != said:
            record.msg, record.args = clean, None
        if record.exc_info and record.exc_info[0] is not None:
            trace = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
            if (clean := self.redact(trace)) != trace:
                record.exc_info, record.exc_text = None, clean
        return record


_GUARD = _Guard()


def guard_logs(secrets: Iterable[str]) -> None:
    """Mask these secrets in every log record of this process from now on."""
    _GUARD.learn(secrets)
