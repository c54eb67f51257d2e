"""Protocol buffers as data: a bounded reader of the wire format, which knows nothing of any schema.

(The encoding: https://protobuf.dev/programming-guides/encoding.) A message is a row of fields; a field is its number, how it is
written, and a value. What a field means is for the caller to know, who names the fields that there may be.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from crpbot.errors import CheckpointError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""How a value is written."""

Value = int | bytes


@dataclass(frozen=True, eq=False)
class Message:
    """A message that was read.

    Attributes:
        fields: values by number, in their order: whole numbers below 2⁶⁴ as they stand, everything else as its bytes.
        where: names the message in errors.

    """

    fields: Mapping[int, tuple[Value, ...]]
    where: str

    def whole(self, number: int, default: int = 0) -> int:
        """Return the one whole number of a field, signed as int64."""
        value = self._one(number, default)
        if not isinstance(value, int):
            raise broken(self.where, f"text in field {number}, where a number belongs")
        return value - 2**64 if value >= 2**63 else value

    def run(self, number: int) -> bytes:
        """Return the one run of bytes of a field; empty where there is none."""
        value = self._one(number, b"")
        if not isinstance(value, bytes):
            raise broken(self.where, f"a number in field {number}, where bytes belong")
        return value

    def text(self, number: int) -> str:
        """Return the one text of a field; empty where there is none."""
        return as_text(self.run(number), self.where)

    def texts(self, number: int) -> tuple[str, ...]:
        """Return all texts of a field."""
        return tuple(as_text(part, self.where) for part in self.parts(number))

    def parts(self, number: int) -> tuple[bytes, ...]:
        """Return all runs of bytes of a field."""
        values = self.fields.get(number, ())
        parts = tuple(value for value in values if isinstance(value, bytes))
        if len(parts) != len(values):
            raise broken(self.where, f"a number in field {number}, where bytes belong")
        return parts

    def wholes(self, number: int, *, most: int) -> tuple[int, ...]:
        """Return all whole numbers of a field, written one by one or packed together, of which there may be `most`."""
        found: list[int] = []
        for value in self.fields.get(number, ()):
            if isinstance(value, int):
                found.append(value)
                continue
            at = 0
            while at < len(value):
                one, at = _varint(value, at, self.where)
                found.append(one)
                if len(found) > most:  # a run of them may be megabytes long
                    break
        if len(found) > most:
            raise broken(self.where, f"field {number} more than {most} times")
        return tuple(one - 2**64 if one >= 2**63 else one for one in found)

    def _one(self, number: int, default: Value) -> Value:
        values = self.fields.get(number, (default,))
        if len(values) != 1:
            raise broken(self.where, f"field {number} {len(values)} times, where it belongs once")
        return values[0]


def read_message(content: bytes, kinds: Mapping[int, int], *, where: str, most: int) -> Message:
    """Read one message.

    Args:
        content: of it.
        kinds: how each field that there may be is written; a field of whole numbers may be packed too.
        where: names it in errors.
        most: fields that it may have.

    Raises:
        CheckpointError: it is cut off, holds another field, or too many.

    """
    fields: dict[int, list[Value]] = {}
    at, count = 0, 0
    while at < len(content):
        key, at = _varint(content, at, where)
        number, kind = key >> 3, key & 7
        count += 1
        if count > most:
            raise broken(where, f"more than {most:,} parts")
        if number not in kinds or (kind != kinds[number] and (kind, kinds[number]) != (BYTES, VARINT)):
            raise broken(where, f"field {number}, which has no place there")
        value, at = _value(content, at, kind, where)
        fields.setdefault(number, []).append(value)
    return Message({number: tuple(values) for number, values in fields.items()}, where)


def as_float(content: bytes, where: str) -> float:
    """Return the number that four bytes are."""
    if len(content) != 4:
        raise broken(where, "no number where one belongs")
    return float(struct.unpack("<f", content)[0])


def as_text(content: bytes, where: str) -> str:
    """Return the text that bytes are."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise broken(where, "text that is none") from None


def broken(where: str, found: str) -> CheckpointError:
    """Return what to say of a file that is not what it should be."""
    return CheckpointError(f"{where} must be a model.onnx as crpbot writes it, found {found}; export it again")


def _value(content: bytes, at: int, kind: int, where: str) -> tuple[Value, int]:
    if kind == VARINT:
        return _varint(content, at, where)
    if kind == BYTES:
        size, at = _varint(content, at, where)
    else:
        size = 8 if kind == FIXED64 else 4
    if size > len(content) - at:
        raise broken(where, "a file that is cut off")
    return content[at : at + size], at + size


def _varint(content: bytes, at: int, where: str) -> tuple[int, int]:
    """Read a whole number: seven bits a byte, the least first, at most 64 bits."""
    value = 0
    for place in range(10):
        if at >= len(content):
            raise broken(where, "a file that is cut off")
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            if value >= 2**64:
                break
            return value, at
    raise broken(where, "a number of more than 64 bits")
