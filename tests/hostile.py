"""Files of strangers who mean harm, or whose disk did. None of them may run anything, fill the memory, or give a traceback."""

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

MARK = "EXECUTED"


class Call:
    """Pickles as a call of anything."""

    def __init__(self, function: Callable, *args: object) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple:
        return self.call


def run(command: str = f"touch {MARK}") -> Call:
    return Call(os.system, command)


def saved(payload: object, *, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(payload, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def zipped(parts: dict[str, bytes], *, deflated: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tensor(*, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """A state dict of one tensor with a shape of one's choice over a storage of four numbers."""
    good = saved({"fc1.weight": torch.zeros(4)})
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (name,) = [name for name in parts if name.endswith("data.pkl")]

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", value) for value in values) + b"t"

    # torch writes: … storage, BININT1 0 (offset), BININT1 4, TUPLE1 (size), BININT1 1, TUPLE1 (stride)
    head, found, tail = parts[name].partition(b"QK\x00K\x04\x85")
    assert found
    tail = tail[tail.index(b"K\x01\x85") + 3 :]
    parts[name] = head + b"Q\x8a\x08" + struct.pack("<q", offset) + numbers(size) + numbers(stride) + tail
    return zipped(parts)


def doubled(times: int = 60) -> list:
    value: list = [1]
    for _ in range(times):
        value = [value, value]
    return value


def itself() -> list:
    value: list = []
    value.append(value)
    return value


def deep(depth: int = 5_000) -> bytes:
    return b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."


def number(value: int) -> bytes:
    encoded = pickle.encode_long(value)
    return b"\x8b" + struct.pack("<i", len(encoded)) + encoded


def copies() -> bytes:
    """A list of 1,000 pairs that is made into a table 1,000 times."""
    pairs = b"](" + b"".join(b"K" + bytes([i % 256]) + b"N\x86" for i in range(1_000)) + b"e"
    made = b"h\x02h\x01\x85R0" * 1_000
    return b"\x80\x02ccollections\nOrderedDict\nq\x020" + pairs + b"q\x010" + made + b"N."


def shared_depth() -> bytes:
    """2,000 lists, each in the next one, named innermost first, so that each finds the one below already known."""
    steps = b"K\x01\x94" + b"".join(b"]\x94j" + struct.pack("<I", i) + b"a" for i in range(2_000))
    return b"\x80\x04(" + steps + b"l."


def lying(method: int) -> bytes:
    """A zip whose pickle unpacks to far more than it says."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        archive.writestr("a/data.pkl", b"\x00" * 10_000_000)
    raw = bytearray(content.getvalue())
    place = raw.index(b"PK\x01\x02")
    raw[place + 24 : place + 28] = struct.pack("<I", 100)
    raw[22:26] = struct.pack("<I", 100)
    return bytes(raw)


ZEROS = torch.zeros(10**6)
GOOD = saved({"model_state_dict": {"fc1.weight": torch.zeros(3, 72), "fc1.bias": torch.zeros(3)}})

HOSTILE: dict[str, tuple[bytes | Callable[[], bytes], str]] = {
    "call-in-zip": (saved({"model": run()}), "posix.system"),
    "call-in-legacy": (saved({"model": run()}, legacy=True), "posix.system"),
    "call-in-pickle-0": (pickle.dumps(run(), protocol=0), "posix.system"),
    "call-in-pickle-4": (pickle.dumps(run(), protocol=4), "posix.system"),
    "eval": (saved({"x": Call(eval, f"open('{MARK}', 'w')")}), "__builtin__.eval"),
    "getattr": (b"\x80\x04c__builtin__\ngetattr\n.", "__builtin__.getattr"),
    "inst": (b"(S'touch " + MARK.encode() + b"'\nios\nsystem\n.", "os.system"),
    "name-worked-out": (b"\x80\x04(lN\x93.", "whose name it works out"),
    "extension": (b"\x80\x02\x82\x01.", "EXT1"),
    "whole-module": (saved(torch.nn.Linear(2, 2)), "torch.nn.modules.linear.Linear"),
    "zip-bomb": (lambda: zipped({"a/data.pkl": b"\x00" * 2**28}, deflated=True), "zip bomb"),
    "many-parts": (lambda: zipped({f"a/data/{i}": b"" for i in range(10_001)}), "zip bomb"),
    "billion-laughs": (pickle.dumps(doubled(30)), "more than 200,000"),
    "contains-itself": (saved({"x": itself()}), "contains itself"),
    "nested-deeply": (deep(), "nested too deeply"),
    "huge-tensor": (tensor(size=(2**40,), stride=(0,)), "at most 256 MiB"),
    "tensor-beyond-its-storage": (tensor(size=(2,), stride=(2**40,)), "more numbers than its storage"),
    "tensor-before-its-storage": (tensor(size=(2,), stride=(-1,), offset=1), "impossible shape"),
    "header-of-10-gb": (struct.pack("<Q", 10 * 2**30) + b'{"fc1.weight":', "10,737,418,240 bytes"),
    "text-of-10-gb": (b"\x80\x04\x8d" + struct.pack("<Q", 10 * 2**30) + b"fc1", "damaged"),
    "tables-of-one-list": (copies, "at most 150,000 steps"),
    "many-steps": (b"\x80\x02(" + b"}" * 200_000 + b"l.", "at most 150,000 steps"),
    "long-name": (b"\x80\x02c" + b"a" * 10_000_000 + b"\nb\n.", "tries to load aaaa"),
    "number-of-many-digits": (b"\x80\x02}X\x06\x00\x00\x00format" + number(10**5_000) + b"s.", "bits"),
    "nested-behind-a-memo": (shared_depth, "nested too deeply"),
    "zip-that-lies": (lambda: lying(zipfile.ZIP_DEFLATED), "damaged"),
    "zip-of-another-packer": (lambda: lying(zipfile.ZIP_BZIP2), "a way that torch never uses"),
    "zip-of-lzma": (lambda: lying(zipfile.ZIP_LZMA), "a way that torch never uses"),
    "one-storage-many-tensors": (saved({f"x{i}": ZEROS.view(-1) for i in range(80)}), "at most 256 MiB"),
    "torchscript": (zipped({"a/data.pkl": b"N.", "a/code/x.py": b"import os", "a/constants.pkl": b"N."}), "TorchScript"),
    "another-zip": (zipped({"word/document.xml": b"<xml/>"}), "a zip of word/document.xml"),
    "truncated-zip": (GOOD[: len(GOOD) // 2], "damaged"),
    "truncated-pickle": (pickle.dumps({"a": [1.0] * 50})[:60], "damaged"),
    "damaged-number": (GOOD.replace(b"PK\x01\x02", b"PK\x01\x03", 1), "damaged"),
    "picture": (b"\x89PNG\r\n\x1a\n", "a picture"),
    "text": (b"hello", "5 bytes of another kind"),
    "empty": (b"", "an empty file"),
}
"""By kind: the bytes, or how to make them where that takes long, and words that the refusal has to say."""


@cache
def made(kind: str) -> bytes:
    """Return the bytes of one of the files."""
    given = HOSTILE[kind][0]
    return given if isinstance(given, bytes) else given()


def write(kind: str, folder: Path) -> Path:
    """Write one of the files, and return where."""
    path = folder / f"{kind}.pt"
    path.write_bytes(made(kind))
    return path


KEYS: dict[str, bytes] = {
    "nests": b"\x80\x02}N" + b"\x85" * 100_000 + b"Ns.",
    "doubles": b"\x80\x02}N" + b"2\x86" * 60 + b"Ns.",
    "collide": b"\x80\x02}(" + b"".join(number(i * (2**61 - 1)) + b"N" for i in range(1, 40_001)) + b"u.",
}
"""Tables whose keys crash, hang or slow down whoever hashes them."""
