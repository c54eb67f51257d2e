"""Who did what on the dashboard: one line each, besides what the ledger says of models."""

import json
from datetime import UTC, datetime
from pathlib import Path

from fastapi import Request

from crpbot.web.render import house_of, visitor_of

FILE = "audit.jsonl"


def audit_file(home: Path) -> Path:
    """Return where the lines are."""
    return home / "web" / FILE


def note(request: Request, what: str, outcome: str, **about: str) -> None:
    """Write down what a visitor did, and what came of it; secrets are never among it.

    Raises:
        OSError: the disk does not do it; then nothing may be done either.

    """
    write(house_of(request).setting.home, visitor_of(request).address, what, outcome, **about)


def write(home: Path, address: str, what: str, outcome: str, **about: str) -> None:
    """Write down what somebody did from an address."""
    file = audit_file(home)
    file.parent.mkdir(parents=True, exist_ok=True)
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "from": address,
        "what": what,
        **about,
        "outcome": outcome,
    }
    try:
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror} for web/{FILE} in the home folder") from None
