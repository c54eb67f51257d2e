"""Where messages to people go: addresses of Apprise, from the environment or from a file, never from the command line."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import pbkdf2_hmac
from pathlib import Path

from crpbot.errors import NotifyError, is_utf8
from crpbot.live.redact import guard_logs, secrets_of

VARIABLE, FILE_VARIABLE = "CRPBOT_NOTIFY", "CRPBOT_NOTIFY_FILE"
LARGEST = 65_536
"""Bytes of a file of addresses."""

_SCHEMA = re.compile(r"([A-Za-z0-9]+)://")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One address of Apprise.

    Attributes:
        url: the address itself: a secret, which `repr` leaves out.
        schema: the service by Apprise's name for it, such as `discord`.
        where: where it was read, such as `line 2 of notify.txt`.

    """

    url: str = field(repr=False)
    schema: str
    where: str

    @property
    def name(self) -> str:
        """What people are told of it."""
        return f"{self.schema} ({self.where})"


def address_id(address: Address) -> str:
    """Return 8 hexadecimal digits that stay the same while the address does, and that nobody can turn back into it.

    The journal keeps them; a slow hash makes guessing a weak password by them dear, and 32 bits leave every guess in doubt.
    """
    return pbkdf2_hmac("sha256", address.url.encode(), b"crpbot.notify/1", 100_000, dklen=4).hex()


def read_addresses(environ: Mapping[str, str]) -> tuple[Address, ...]:
    """Return the addresses of `CRPBOT_NOTIFY` (several between spaces or line ends) and of the file `CRPBOT_NOTIFY_FILE`.

    The file has one address a line; empty lines and lines that begin with `#` are left out, an address that stands twice counts
    once. None of both is no error: nobody is told anything. A file that everybody may read gets a warning in the log. From now
    on no log of this process shows a secret part of them.

    Raises:
        NotifyError: the file cannot be read, or Apprise does not know an address. The message says where, never what.
        ModuleNotFoundError: there are addresses, and no Apprise.

    """
    words = [(word, f"address {i} of {VARIABLE}") for i, word in enumerate(environ.get(VARIABLE, "").split(), 1)]
    if file := environ.get(FILE_VARIABLE):
        lines = enumerate(_read(Path(file)).splitlines(), 1)
        words += [(text, f"line {i} of {Path(file).name}") for i, line in lines if (text := line.strip()) and text[0] != "#"]
    for word, where in words:
        if not is_utf8(word):
            raise NotifyError(f"{where} must be text in UTF-8, found other bytes; write it again")
    for word, _ in words:  # before anybody can log one of them
        guard_logs(secrets_of(word))
    found: dict[str, Address] = {}
    for word, where in words:
        found.setdefault(word, _checked(word, where))
    return tuple(found.values())


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
            mode = path.stat().st_mode
        text = content.decode()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise NotifyError(f"{FILE_VARIABLE} must name a file that can be read, found {path}: {reason}; correct it") from None
    except UnicodeDecodeError:
        raise NotifyError(f"{path} must be text with one address a line, found other bytes; write it again") from None
    if len(content) > LARGEST:
        raise NotifyError(f"{path} must have at most {LARGEST:,} bytes, found more; it should hold one address a line")
    if mode & 0o007:
        _LOG.warning("%s holds secrets and everybody on this machine may read it; chmod 600 (or 640)", path)
    return text


def _taken(word: str) -> bool:
    """Whether Apprise makes a service of an address; some that are none break its own readers, each with another error."""
    from apprise import Apprise  # noqa: PLC0415  likewise

    try:
        return Apprise.instantiate(word) is not None
    except Exception:  # noqa: BLE001  nothing of it may be quoted
        return False


def _checked(word: str, where: str) -> Address:
    from apprise.apprise import N_MGR  # noqa: PLC0415  0.3 s that only those with an address pay

    match = _SCHEMA.match(word)
    schema = match[1].lower() if match else ""
    known = schema in N_MGR  # an unknown one may be a piece of a token: neither we nor Apprise may quote it
    tried = known or schema in {"http", "https"}  # the address of a hook as its service shows it
    if not tried or " " in word or "\t" in word or not _taken(word):
        found = (
            f"one of schema `{schema}` that it does not take" if tried else "no schema that it knows" if schema else "no schema"
        )
        raise NotifyError(
            f"{where} must be one address that Apprise takes, such as tgram://TOKEN/CHAT, found {found}; correct it"
        )
    return Address(url=word, schema=schema, where=where)
