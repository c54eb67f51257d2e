"""The ledger: every decision about every model, one line each, chained by digests and never rewritten.

A line holds the digest of the line before it and its own, over everything else in it. So a line that is edited, taken out or put
in breaks the chain; and who makes the whole chain anew makes another head, while every signal carries the head of its day.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from crpbot.disk import locked, naming, open_regular, settle
from crpbot.errors import RegistryError
from crpbot.registry.stages import Move, Stage, check_stage

FORMAT = "crpbot.ledger/1"
START = "0" * 64
"""What the first line has for the digest of the line before it."""
_TEXTS = ("sha256", "reason", "override", "who")
_MAYBE_TEXTS = ("symbol", "was", "recipe", "recipe_sha256", "candles_sha256", "gate_table", "diagnosis_sha256")
_KINDS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("number", "time"), (int,)),
    **dict.fromkeys(("proven_until", "expires"), (int, NoneType)),
    **dict.fromkeys(_TEXTS, (str,)),
    **dict.fromkeys(_MAYBE_TEXTS, (str, NoneType)),
}
"""Of which type each part of a line must be."""
_PATIENCE = 30.0
"""Seconds to wait for another process that writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One decision.

    Attributes:
        number: of the line, from 1.
        previous: digest of the line before.
        time: when, in milliseconds of UTC.
        who: the user, as the system names it, or the part of crpbot that decided.
        move: what was done.
        symbol: of the market; None where a foreign file does not say.
        sha256: digest of the checkpoint.
        was: its stage before; None for one that was never seen.
        stage: its stage after.
        reason: why, in words.
        override: why it may rehearse although it was refused, in somebody's words; else empty.
        recipe: name of its recipe; None for a foreign one.
        recipe_sha256: digest of the recipe; None likewise.
        candles_sha256: digest of the candles that it was judged on; None where nothing was judged.
        gate_table: that decided; None likewise.
        diagnosis_sha256: digest of what was measured, as it is kept; None likewise.
        proven_until: open time of the last candle that it was judged on; None likewise.
        expires: from when on it may not speak; None where it cannot.
        files: digests of what is kept of the model, by name; empty where nothing is.
        code_sha256: digest of the crpbot that wrote this.
        version: of it.
        sha256_of_line: digest of all that.

    """

    number: int
    previous: str
    time: int
    who: str
    move: Move
    symbol: str | None
    sha256: str
    was: Stage | None
    stage: Stage
    reason: str
    override: str = ""
    recipe: str | None = None
    recipe_sha256: str | None = None
    candles_sha256: str | None = None
    gate_table: str | None = None
    diagnosis_sha256: str | None = None
    proven_until: int | None = None
    expires: int | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    code_sha256: str
    version: str
    sha256_of_line: str = ""

    def sealed(self) -> "Line":
        """Return the line with its digest."""
        return Line(**{**asdict(self), "sha256_of_line": self.digest()})

    def digest(self) -> str:
        """Return the digest of everything but the digest."""
        plain = {name: value for name, value in asdict(self).items() if name != "sha256_of_line"}
        text = json.dumps({"format": FORMAT, **plain}, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


class Ledger:
    """The lines of one file, oldest first."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> tuple[Line, ...]:
        """Return every line, after proof that the chain is whole.

        Half a line at the end was being written when its process ended: it was never decided.

        Raises:
            RegistryError: a line was altered, taken out, put in, or is of another version.

        """
        found: list[Line] = []
        for number, raw in enumerate(self._whole().splitlines(), start=1):
            line = self._read(raw, number)
            if line.number != number or line.previous != head_of(found) or line.digest() != line.sha256_of_line:
                raise RegistryError(
                    f"{self.path} must be as it was written, found line {number} altered, or one before it taken out or put in; "
                    "restore it from a backup: what it says cannot be believed"
                )
            found.append(line)
        return tuple(found)

    def _whole(self) -> bytes:
        """Return the lines that were written to their end; the last one may lack nothing but its line break."""
        try:
            with open_regular(self.path) as file:
                content = file.read()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise RegistryError(f"{self.path} must be readable, found {error}; check its rights, and the disk") from None
        head, _, tail = content.rpartition(b"\n")
        try:
            json.loads(tail)
        except (ValueError, RecursionError):
            return head + b"\n" if head else b""
        return content

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Keep other processes from deciding until the block ends.

        Raises:
            RegistryError: another one does not finish.

        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + _PATIENCE
        while True:
            with locked(self.path.with_suffix(".lock")) as ours:
                if ours:
                    yield
                    return
            if time.monotonic() > until:
                raise RegistryError(f"one process at a time must write {self.path}, found another that does not end; stop it")
            time.sleep(0.02)

    def append(self, line: Line) -> None:
        """Write a line so that it is there for good, or not at all; only inside of `turn`."""
        with naming(self.path), self.path.open("ab+") as file:
            whole = self._whole()
            file.truncate(len(whole))  # half a line, of a process that was killed
            plain = json.dumps({"format": FORMAT, **asdict(line)}, ensure_ascii=True)
            file.write((b"" if not whole or whole.endswith(b"\n") else b"\n") + plain.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if not whole:
            settle(self.path.parent)  # a ledger that has just begun has a name that must stay

    def _read(self, raw: bytes, number: int) -> Line:
        try:
            plain = json.loads(raw)
            if plain.pop("format") != FORMAT:
                raise RegistryError(f"{self.path} must have the format {FORMAT}, found another in line {number}; update crpbot")
            return _line(plain)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RegistryError(
                f"{self.path} must have one decision a line, found another in line {number}: {str(error)[:100]}; restore it"
            ) from None


def head_of(lines: Sequence[Line]) -> str:
    """Return the digest of the last line."""
    return lines[-1].sha256_of_line if lines else START


def _line(plain: Mapping[str, Any]) -> Line:
    """Make a line of plain values, each of the type that it must have."""
    line = Line(**plain)
    if len(plain) != len(fields(Line)):
        raise ValueError("something is missing")
    for name, kinds in _KINDS.items():
        if type(getattr(line, name)) not in kinds:
            raise ValueError(f"{name} is {type(getattr(line, name)).__name__}")
    if line.move not in get_args(Move):
        raise ValueError(f"{line.move!r:.20} is no move")
    check_stage(line.stage)
    if not all(isinstance(text, str) for text in (*line.files, *line.files.values())):
        raise ValueError("a text is none")
    if any(name in {"", ".", ".."} or set(name) & set("/\\\0") for name in line.files):  # each stays in its folder
        raise ValueError("a file has no plain name")
    return line
