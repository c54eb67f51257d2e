"""Where a journal is: a file, or a database by URL. What an address keeps secret is shown nowhere."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from crpbot.errors import JournalError, is_utf8

HOW = "write a file, sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/NAME"
POSTGRESQL = ("postgresql", "postgres", "postgresql+psycopg")
SQLITE = ("sqlite", "sqlite+pysqlite")
HIDDEN = "***"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a journal is.

    Attributes:
        url: with everything in it, so it is not part of the repr.
        shown: what may be shown: no password, and nothing that came after a question mark.
        file: of SQLite; None for PostgreSQL.
        secrets: what must not be shown, in every way that it may be written.

    """

    url: URL = field(repr=False)
    shown: str
    file: Path | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def hide(self, text: str) -> str:
        """Return `text` without the secrets: drivers quote what they were given."""
        for secret in self.secrets:
            text = text.replace(secret, HIDDEN)
        return text


def read_address(address: str | Path) -> Address:
    """Read where a journal is.

    Args:
        address: path of a file, `sqlite:///FILE`, or `postgresql://USER:PASSWORD@HOST:PORT/NAME` with what libpq
            understands after a question mark.

    Raises:
        JournalError: it is none of these; nothing of it is quoted but its scheme.

    """
    text = str(address)
    if not is_utf8(text):
        raise JournalError(f"the address of a journal must be text in UTF-8, found other bytes; {HOW}")
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):/", text) if isinstance(address, str) else None
    if scheme is None or len(scheme[1]) == 1:  # a drive of Windows
        return _of_file(Path(address))
    kind = scheme[1].lower()
    if kind not in POSTGRESQL + SQLITE:
        raise JournalError(f"a journal must be in SQLite or PostgreSQL, found {kind}; {HOW}")
    # Else a part of the password could be taken for the host, and be shown.
    if text.count("@") > 1 or "@" in text.partition("?")[2]:
        raise JournalError(f"an address must have one @, before its host, found others; write %40 for @ and %3F for ?; {HOW}")
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise JournalError(f"the address of a journal must be a URL, found one that cannot be read; {HOW}") from None
    if kind in SQLITE:
        if url.query or url.host or not url.database or url.database == ":memory:" or url.database.startswith("file:"):
            raise JournalError(f"a journal must be a file that others can open too, found no such file in its address; {HOW}")
        return _of_file(Path(url.database))
    if not url.database:
        raise JournalError(f"the address of a journal must name its database, found none; {HOW}")
    bare = URL.create("postgresql", username=url.username, host=url.host, port=url.port, database=url.database)
    return Address(url=url.set(drivername="postgresql+psycopg"), shown=bare.render_as_string(), secrets=_secrets(url))


def _of_file(file: Path) -> Address:
    if not file.name:
        raise JournalError(f"a journal must be a file, found {str(file)!r}; {HOW}")
    return Address(url=URL.create("sqlite+pysqlite", database=str(file)), shown=str(file), file=file)


def _secrets(url: URL) -> tuple[str, ...]:
    """Return the passwords, longest first: as they are, and as they are written in URLs."""
    plain = [] if url.password is None else [str(url.password)]
    for name, value in url.query.items():
        if "password" in name.lower():
            plain += [value] if isinstance(value, str) else value
    written = {form for one in plain if one for form in (one, quote(one), quote(one, safe=""), quote_plus(one))}
    return tuple(sorted(written, key=len, reverse=True))
