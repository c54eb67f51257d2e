"""Damage with a purpose: bytes of a good file, changed where its kind has a structure. The same number gives the same damage."""

import io
import json
import lzma
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**400, -0.0, 0.5, 5e-324, 1e308, -1e308),
    *(float("nan"), float("inf"), float("-inf"), "", " ", "\0", "\ud800", "\u202e", "é" * 500, "1e308", "NaN", "BTC-USD", "../x"),
    *("1979-05-27T07:32:00+14:00", "a" * 70_000, [], [[]], [None], {}, {"": ""}, [0] * 3_000, {"a": {"a": {"a": []}}}),
)
"""Values that are at home in JSON, more or less, and nowhere expected."""

CELLS = (
    *("", " ", "0", "-0", "-1", "1e308", "1e309", "nan", "inf", "-inf", "5e-324", "9223372036854775807", "18446744073709551616"),
    *(
        "1" * 400,
        "1_000",
        "0x10",
        "1,5",
        '"',
        '""',
        '"a',
        "\0",
        "true",
        "null",
        "None",
        "é",
        "\u202e",
        "٣",
        "a" * 5_000,
        "[",
        "]]",
    ),
    *("2024-02-30", "2024-06-30T23:59:60Z", "2024-01-01T00:00+14:00", "0001-01-01", "9999-12-31 23:59:59", "1e3", "+5", "\r"),
    *("time", "open", "filled", "symbol", "BTC-USD", "date", "volume"),
)
"""Cells of a table, names of columns among them."""

TOML = (
    *('""', "0", "-1", "1e308", "nan", "inf", "-inf", "9223372036854775808", "1" + "0" * 400, "0x7fffffff", "true", "[]", "[[]]"),
    *("{}", "{ a = 1 }", "1979-05-27T07:32:00Z", "07:32:00", "1979-05-27", '"\\u0000"', '"\\U0001F600"', '"""\nx"""', "'a\tb'"),
    *("[" * 500 + "]" * 500, "[" * 5_000, "[1, 'a', [2.0]]", '"' + "a" * 70_000 + '"', '["fit", "fit"]', '"fit"', "0.5", "7"),
)
"""Values of TOML, and some that are none."""

FORMULAS = (
    *(
        "close",
        "lag(close, 1)",
        "lag(close, 50000)",
        "ema(close, 1)",
        "std(close, 2)",
        "mean(returns, 0)",
        "1 / volume",
        "0",
        "1",
    ),
    *("1e308 * 1e308", "close ** 9", "-" * 200 + "close", "(" * 200 + "close" + ")" * 200, "highest(close, 1e9)", "log(0)"),
    *(
        "9" * 400,
        "1j",
        "close.real",
        "[close]",
        "lambda: 1",
        "f(close)",
        "max(close)",
        "ratio(1, 0, 0)",
        "sqrt(-1)",
        "1_0",
        "0x1",
    ),
    *(
        "__import__('os')",
        "close if close else close",
        "close\n",
        "lag(close, -1)",
        "lag(close, True)",
        "mean(close, 1.5)",
        "nan",
    ),
)
"""Formulas of features, and some that are none."""


DAMAGE = (
    ValueError, KeyError, IndexError, TypeError, RuntimeError, NotImplementedError, EOFError, OSError, lzma.LZMAError, zlib.error,
    zipfile.BadZipFile,
)  # fmt: skip


def damaged(content: bytes, number: int, kind: str) -> bytes:
    """Return a file of that kind with one to four things wrong with it.

    Args:
        content: of a good file.
        number: of the damage.
        kind: a key of `KINDS`.

    """
    chance = Random(f"{kind} {number}")  # noqa: S311  the same each time is what is wanted
    ways = KINDS[kind]
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        way = chance.choice(ways)
        try:
            content = way(content, chance)
        except DAMAGE:
            content = _bytes(content, chance)  # what it was is no longer to be seen
    return content


def _bytes(content: bytes, chance: Random) -> bytes:
    """Cut, flip, insert, repeat or overwrite bytes."""
    at = chance.randrange(len(content) + 1)
    size = chance.choice((1, 1, 2, 4, 8, 64, 4_096))
    new = chance.choice((b"\xff" * 8, b"\x00" * 8, b"\x7f\xff\xff\xff", b"\x80" * 10, b"\x01", chance.randbytes(size)))
    way = chance.randrange(6)
    if way == 0:
        return content[:at]
    if way == 1:
        return content[:at] + content[at + size :]
    if way == 2:
        return content[:at] + new + content[at:]
    if way == 3:
        return content[:at] + content[at : at + size] * 3 + content[at:]
    if way == 4 and content:
        at = min(at, len(content) - 1)
        return content[:at] + bytes([content[at] ^ (1 << chance.randrange(8))]) + content[at + 1 :]
    return content[:at] + new + content[at + len(new) :]


def _cell(content: bytes, chance: Random) -> bytes:
    """Put something odd into a cell, or into every one of a column; move, repeat or drop a line or a column."""
    text = content.decode("utf-8", "surrogateescape")
    lines = text.split("\n")
    row = chance.choice((0, chance.randrange(len(lines))))
    cells = lines[row].split(",")
    column = chance.randrange(len(cells))
    way = chance.randrange(6)
    if way == 0:
        cells[column] = chance.choice(CELLS)
    elif way == 1:
        cells.insert(column, chance.choice((cells[column], chance.choice(CELLS))))
    elif way == 2:
        del cells[column]
    elif way == 3:
        odd = chance.choice(CELLS)
        rows = [line.split(",") for line in lines]
        return _encoded("\n".join(",".join([*one[:column], odd, *one[column + 1 :]]) for one in rows))
    elif way == 4:
        lines.insert(row, lines[chance.randrange(len(lines))])
    else:
        del lines[row]
        return _encoded("\n".join(lines))
    lines[row] = ",".join(cells)
    return _encoded("\n".join(lines))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass" if "\ud800" in text else "surrogateescape")


def _places(plain: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at]
    items = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    for key, value in items:
        found += _places(value, (*at, key))
    return found


def _json(content: bytes, chance: Random) -> bytes:
    """Change a value of JSON for an odd one, drop it, or name it otherwise; or nest it deeply, or say a key twice."""
    return _encoded(_json_text(content.decode("utf-8", "surrogateescape"), chance))


def _json_text(text: str, chance: Random) -> str:
    plain = json.loads(text)
    places = _places(plain)
    place = chance.choice(places)
    odd = chance.choice(ODD)
    way = chance.randrange(8)
    if way == 0:
        deep = chance.choice((50, 900, 5_000, 100_000))
        return text.replace(chance.choice((":", ",")), ":" + "[" * deep + "]" * deep + ",", 1) if deep > 900 else "[" * deep
    if not place:
        return json.dumps(odd)
    inner = plain
    for key in place[:-1]:
        inner = inner[key]
    last = place[-1]
    if way == 1:
        del inner[last]
    elif way == 2 and isinstance(inner, dict):
        inner[chance.choice(("", "format", "\0", "a" * 100, f"{last}x"))] = inner.pop(last)
    elif way == 3 and isinstance(inner, dict):
        return json.dumps(plain).replace("{", '{"' + str(last).replace('"', "") + '": ' + json.dumps(odd) + ", ", 1)
    elif way == 4:
        inner[last] = [inner[last]]
    else:
        inner[last] = odd
    return json.dumps(plain, ensure_ascii=chance.random() < 0.5)


def _json_line(content: bytes, chance: Random) -> bytes:
    """Do that to one line of many."""
    lines = content.split(b"\n")
    row = chance.randrange(len(lines))
    way = chance.randrange(5)
    if way == 0:
        lines.insert(chance.randrange(len(lines)), lines[row])
    elif way == 1:
        del lines[row]
    else:
        lines[row] = _json(lines[row], chance)
    return b"\n".join(lines)


def _toml(content: bytes, chance: Random) -> bytes:
    """Change a value of TOML for an odd one, or repeat, drop, add or rename a key or a section."""
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    row = chance.choice([n for n, line in enumerate(lines) if line.strip()] or [0])
    key, equals, value = lines[row].partition(" = ")
    way = chance.randrange(8)
    if way < 3 and equals:
        lines[row] = f"{key} = {chance.choice(TOML)}"
    elif way == 3 and equals and '"' in value:
        lines[row] = f"{key} = {json.dumps(chance.choice(FORMULAS))}"
    elif way == 4:
        lines.insert(
            row, chance.choice((lines[row], "[network]", "[[network]]", "x = 1", '"" = 1', "a.b.c = 1", "[features.a.b]"))
        )
    elif way == 5:
        del lines[row]
    elif way == 6 and equals:
        lines[row] = f"{chance.choice(('name', 'epochs', 'hidden', 'where', key + 'x'))} = {value}"
    else:
        lines += [f"[features.{chance.choice(('formulas', 'where'))}]", f"f = {json.dumps(chance.choice(FORMULAS))}"]
    return _encoded("\n".join(lines))


def _formula(content: bytes, chance: Random) -> bytes:
    """Put one formula where a number or a name stands in another."""
    text = content.decode("utf-8", "surrogateescape")
    words = list(re.finditer(r"\b(close|open|high|low|volume|lag|mean|\d+)\b", text))
    word = words[chance.randrange(len(words))]
    return _encoded(text[: word.start()] + chance.choice(FORMULAS).replace('"', "") + text[word.end() :])


def _zip(content: bytes, chance: Random) -> bytes:
    """Damage, rename, repeat, drop or pack otherwise one part of a zip, which stays one; or let its list of parts lie."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = [(info.filename, archive.read(info)) for info in archive.infolist()]
    small = [n for n, (_, part) in enumerate(parts) if len(part) < 20_000]
    place = chance.choice(small or range(len(parts)))
    name, part = parts[place]
    way = chance.randrange(9)
    if way < 4:
        parts[place] = name, _bytes(part, chance)
    elif way == 4:
        parts[place] = chance.choice(("", "../x", "a/data.pkl", name + "x", "a/b/c", "x" * 300, "é")), part
    elif way == 5:
        parts.append(parts[place])
    elif way == 6:
        del parts[place]
    elif way == 7:
        parts[place] = name, part * chance.choice((2, 20))
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", chance.choice((0, 8, 8, 12, 14))) as archive:
        warnings.simplefilter("ignore")  # of a name that stands twice
        for one, inside in parts:
            archive.writestr(one, inside)
    packed = bytearray(buffer.getvalue())
    if way == 8:
        at = packed.rindex(b"PK\x01\x02") + chance.choice((8, 10, 16, 20, 24, 28, 30, 42))
        packed[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\xff\xff\xff\x7f", chance.randbytes(4)))
    return bytes(packed)


def _text(content: bytes, chance: Random) -> bytes:
    """Put something odd into a line of text."""
    text = content.decode("utf-8", "surrogateescape")
    at = chance.randrange(len(text) + 1)
    odd = (
        *("@", ":", "/", "//", "?", "#", "%", "%00", "%zz", "[", "]", "[::1]", ":99999", ":-1", ":x", "\0", "\n", " ", "\ud800"),
        *("é", "://", "sqlite:///", "postgresql://", "?password=x", "&a=", "***", "a" * 3_000, "..", "~", "\\", "{", "}", '"'),
    )
    return _encoded(text[:at] + chance.choice(odd) + text[at + chance.choice((0, 0, 1, 5)) :])


Way = Callable[[bytes, Random], bytes]
KINDS: dict[str, tuple[Way, ...]] = {
    "bytes": (_bytes,),
    "table": (_cell, _cell, _cell, _bytes),
    "json": (_json, _json, _json, _bytes),
    "lines": (_json_line, _json_line, _json_line, _bytes),
    "toml": (_toml, _toml, _formula, _bytes),
    "zip": (_zip, _zip, _bytes),
    "text": (_text, _text, _bytes),
}
"""What can be done to a file, by its kind."""
