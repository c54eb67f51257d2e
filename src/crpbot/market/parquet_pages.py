"""Is what a Parquet file says of its pages possible? Polars believes it, and ends the process where it is not.

A page that says it has fewer than no values makes Polars ask for 2⁶¹ bytes; that is no error that Python could catch. So every
header of a page is read here first, which costs microseconds: the pages themselves are left alone. (The form of the headers:
https://github.com/apache/parquet-format, `parquet.thrift`; how they are written: the compact protocol of Apache Thrift.)
"""

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from crpbot.errors import CandleError

MAGIC = b"PAR1"
MOST_VALUES, DEEPEST = 2**22, 16
"""What may be said about a file in all, and how deep: no more than is said about 44 million rows of a hundred columns."""
_I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 5, 6, 7, 8, 9, 10, 12
_PAGE = {1: _I32, 2: _I32, 3: _I32, 4: _I32, 5: _STRUCT, 6: _STRUCT, 7: _STRUCT, 8: _STRUCT}
_COUNTS = {5: {1: _I32}, 7: {1: _I32}, 8: {1: _I32, 2: _I32, 3: _I32, 5: _I32, 6: _I32}}
"""Of the header of data, of a dictionary, and of data of version 2: values, and the other numbers that cannot be below 0."""
_DATA = (5, 8)
Content = bytes | mmap.mmap
Fields = Mapping[int, tuple[int, Any]]


def check_pages(content: Content, where: str) -> None:
    """Raise `CandleError` where a file says of its pages what cannot be; `where` names it."""
    if len(content) < 12 or content[-4:] != MAGIC:
        return  # Polars says so in words of its own
    try:
        for start, size, values in _chunks(content):
            _check_chunk(content, start, start + size, values)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        reason = str(error) if type(error) is ValueError else "what it says of its columns is damaged"
        raise CandleError(f"{where} must be readable as parquet: {reason}; check the file, or write it again") from None


def check_pages_in(path: Path) -> None:
    """Do the same for a file, of which only the headers are read."""
    with path.open("rb") as file:
        if file.seek(0, 2):
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                check_pages(content, str(path))


def _chunks(content: Content) -> Iterator[tuple[int, int, int]]:
    """Yield where each column of each group of rows begins, its bytes, and its values."""
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    if start < len(MAGIC):
        raise ValueError("its footer is longer than the file")
    footer = _Reader(content, start).struct()
    for group in _of(footer, 4, _LIST):
        for chunk in _of(group, 1, _LIST):
            facts = _of(chunk, 3, _STRUCT)
            values, size, begin = _of(facts, 5, _I64), _of(facts, 7, _I64), _of(facts, 9, _I64)
            if 11 in facts:  # a dictionary comes before the data
                begin = _of(facts, 11, _I64)
            if min(values, size, begin) < 0 or begin + size > len(content):
                raise ValueError("a column lies outside of the file")
            yield begin, size, values


def _check_chunk(content: Content, at: int, end: int, values: int) -> None:
    seen = 0
    while at < end and seen < values:
        reader = _Reader(content, at)
        page = reader.struct()
        for number, kind in _PAGE.items():
            if number in page:
                _of(page, number, kind)
        for number, counts in _COUNTS.items():
            header = page[number][1] if number in page else {}
            found = [_of(header, count, kind) for count, kind in counts.items() if count in header]
            if number in page and not (found and min(found) >= 0):
                raise ValueError(f"a page says that it has {min(found, default='no number of')} values")
            seen += found[0] if number in _DATA and found else 0
        if seen > values:
            raise ValueError(f"pages say that they have {seen:,} values, their column says {values:,}")
        if (size := _of(page, 3, _I32)) < 0:
            raise ValueError(f"a page says that it has {size} bytes")
        at = reader.at + size


def _of(fields: Any, number: int, kind: int) -> Any:  # noqa: ANN401
    """Return a field that must be there, of that kind."""
    found, value = fields[number]
    if found != kind:
        raise TypeError(f"field {number} is of kind {found}")
    return value


class _Reader:
    """Reads the compact protocol as data, and knows of no schema."""

    def __init__(self, content: Content, at: int) -> None:
        self._content, self.at, self._left = content, at, MOST_VALUES

    def struct(self, deep: int = 0) -> dict[int, tuple[int, Any]]:
        """Return fields by number, each with its kind."""
        fields: dict[int, tuple[int, Any]] = {}
        number = 0
        while head := self._byte():
            kind = head & 15
            number = number + (head >> 4) if head >> 4 else self._whole()
            fields[number] = kind, self._value(kind, deep, in_struct=True)
        return fields

    def _value(self, kind: int, deep: int, *, in_struct: bool = False) -> Any:  # noqa: ANN401
        self._left -= 1
        if self._left < 0 or deep > DEEPEST:
            raise ValueError("more is said of its columns than there can be")
        if kind in {1, 2}:
            return kind == 1 if in_struct else self._byte()
        if kind in {3, _DOUBLE}:
            self.at += 1 if kind == 3 else 8
            return None
        if kind in {4, _I32, _I64}:
            return self._whole()
        if kind == _BINARY:
            size = self._varint()  # which moves the place itself
            self.at += size
            return None
        if kind == _STRUCT:
            return self.struct(deep + 1)
        if kind in {_LIST, _SET}:
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._varint()
            return [self._value(head & 15, deep + 1) for _ in range(count)]
        raise ValueError("what it says of its columns is damaged")

    def _byte(self) -> int:
        self.at += 1
        return self._content[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("a number in it has no end")

    def _whole(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
