"""What `torch.save` and `pickle` write, read as data and without torch: plain values, and tensors as numpy arrays.

It reads the zip that torch writes since 1.6, the older form without a zip, and bare pickles of a scaler. Everything is bounded
before it is read: the file, its parts, what they unpack to, the steps of its pickles, the arrays that are made of them.
"""

import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crpbot.errors import CheckpointError
from crpbot.model.pickles import LONGEST, Budget, Record, plain, read_pickle

MOST_BYTES = 128 * 2**20
"""Of a file, and of what its parts unpack to; a checkpoint of the V7 kind has 0.3 MB."""
_MOST_PARTS = 10_000
_LONGEST_LIST = 2 * 2**20
"""Bytes of the list of parts at the end of a zip."""
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

STANDARD_SCALERS = frozenset({"sklearn.preprocessing._data.StandardScaler", "sklearn.preprocessing.data.StandardScaler"})

_STORAGES: Mapping[str, str] = {
    "Double": "f8", "Float": "f4", "Half": "f2", "BFloat16": "bf16", "Long": "i8", "Int": "i4", "Short": "i2", "Char": "i1",
    "Byte": "u1", "Bool": "b1",
}  # fmt: skip
NUMBER = re.compile(r"([<>|=]?)([fiu][1248]|b1)")
"""A type of numbers, as numpy writes it: the order of its bytes, and its kind."""
TEXT = re.compile(r"([<>|=]?)U([0-9]{1,4})")
"""A type of texts of equal length, likewise."""

_Make = Callable[[Any, Any], Any]


def read_bounded(path: Path) -> bytes:
    """Return the bytes of a file, of at most 128 MiB.

    Raises:
        CheckpointError: it is larger.

    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise CheckpointError(
            f"{path} must be a checkpoint of at most {MOST_BYTES // 2**20} MiB, found more; export the state dict alone"
        )
    return content


def read_archive(content: bytes, *, where: str) -> Any:  # noqa: ANN401
    """Return what the bytes of a `.pt` or `.pkl` file hold: plain values, arrays, and `Record` for other objects on the list.

    Args:
        content: the whole file.
        where: names it in errors.

    Raises:
        CheckpointError: it is neither, is damaged, is a bomb, or tries to load something that is not on the list.

    """
    try:
        return _read(content, Budget(where))
    except DAMAGE as error:
        raise CheckpointError(
            f"{where} must be a whole file that torch.save wrote, found a damaged one: {str(error)[:120]}; get it again"
        ) from None


DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, KeyError, IndexError, ValueError, TypeError, AttributeError,
    OverflowError, MemoryError, RuntimeError, NotImplementedError,
)  # fmt: skip
"""What the readers of zips and numbers raise of bytes that are not what they should be."""


def _read(content: bytes, budget: Budget) -> Any:  # noqa: ANN401
    if content[:4] == b"PK\x03\x04":
        return _read_zip(content, budget)
    if content[:1] != b"\x80" and not re.match(rb"c[\w.]+\n|\(|[IL]\d|\]|\}", content[:200]):
        raise CheckpointError(
            f"{budget.where} must be a checkpoint that torch.save wrote, found {_kind(content)}; check the path"
        )
    first, end = read_pickle(content, 0, names=_NAMES, budget=budget)
    if isinstance(first, int) and first == _LEGACY_MAGIC:
        return _read_legacy(content, end, budget)
    return plain(first, _makers(budget), outside=_no_outside(budget.where), where=budget.where)


def _kind(content: bytes) -> str:
    known = {
        b"PAR1": "a Parquet file", b"\x89PNG": "a picture", b"\x93NUM": "a numpy array", b"\x1f\x8b": "a gzip file",
        b"\x7fELF": "a program",
    }  # fmt: skip
    for magic, name in known.items():
        if content.startswith(magic):
            return name
    if len(content) > 8 and content[8:9] == b"{":
        return f"a safetensors file (its header would have {int.from_bytes(content[:8], 'little'):,} bytes)"
    return f"{len(content):,} bytes of another kind" if content else "an empty file"


class Parts:
    """The parts of a zip, none of which unpacks to more than it says or than the file may.

    Args:
        content: of the zip.
        where: names it in errors.

    Raises:
        CheckpointError: it is a bomb.

    """

    def __init__(self, content: bytes, where: str) -> None:
        self._where = where
        end = len(content) - 22
        if end >= 0 and content[end : end + 4] != b"PK\x05\x06":
            end = content.rfind(b"PK\x05\x06", max(0, end - 65_536))
        if end >= 0 and int.from_bytes(content[end + 12 : end + 16], "little") > _LONGEST_LIST:
            raise self._bomb("a list of parts of many megabytes")
        self._archive = zipfile.ZipFile(io.BytesIO(content))
        infos = self._archive.infolist()
        self._infos = {info.filename: info for info in infos}
        total = sum(info.file_size for info in infos)
        if total > MOST_BYTES or len(infos) > _MOST_PARTS or len(self._infos) != len(infos):
            raise self._bomb(f"{total / 2**20:,.0f} MiB in {len(infos):,} parts")

    @property
    def names(self) -> list[str]:
        """Names of the parts."""
        return list(self._infos)

    def read(self, name: str) -> bytes:
        """Return the bytes of a part, and never more than it is said to have."""
        info = self._infos[name]
        if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise ValueError("its parts are packed in a way that torch never uses")
        with self._archive.open(info) as part:
            content = part.read(info.file_size)
        if len(content) != info.file_size:
            raise ValueError("one of its parts is cut off")
        return content

    def _bomb(self, found: str) -> CheckpointError:
        return CheckpointError(
            f"{self._where} must unpack to at most {MOST_BYTES // 2**20} MiB in at most {_MOST_PARTS:,} parts with names of "
            "their own, "
            f"found {found}; it is a zip bomb or no checkpoint"
        )


def _read_zip(content: bytes, budget: Budget) -> Any:  # noqa: ANN401
    where, archive = budget.where, Parts(content, budget.where)
    parts = archive.names
    pickles = [name for name in parts if name.count("/") == 1 and name.endswith("/data.pkl")]
    folder = pickles[0].partition("/")[0] if pickles else ""
    if len(pickles) != 1 or any(name.startswith((f"{folder}/code/", f"{folder}/constants.pkl")) for name in parts):
        found = "a TorchScript program" if pickles else f"a zip of {', '.join(sorted(parts)[:4]) or 'nothing'}"
        raise CheckpointError(f"{where} must be a checkpoint that torch.save wrote, found {found:.200}; save model.state_dict()")
    order = archive.read(f"{folder}/byteorder") if f"{folder}/byteorder" in parts else b"little"
    storages: dict[str, NDArray[Any]] = {}

    def outside(reference: Any) -> NDArray[Any]:  # noqa: ANN401
        kind, key = _reference(reference, where)
        if key not in storages:
            storages[key] = _numbers(archive.read(f"{folder}/data/{key}"), kind, budget, big=order == b"big")
        return storages[key]

    steps = archive.read(pickles[0])
    if len(steps) > LONGEST:
        raise CheckpointError(
            f"{where} must have a pickle of at most {LONGEST // 2**20} MiB, found more; save model.state_dict()"
        )
    tree, _ = read_pickle(steps, 0, names=_NAMES, budget=budget)
    return plain(tree, _makers(budget), outside=outside, where=where)


def _read_legacy(content: bytes, end: int, budget: Budget) -> Any:  # noqa: ANN401
    """Read the form before torch 1.6: magic, version, machine, the object, the keys of the storages, and their numbers."""
    found = []
    for _ in range(4):
        value, end = read_pickle(content, end, names=_NAMES, budget=budget)
        found.append(value)
    _, _, tree, keys = found
    kinds: dict[str, str] = {}

    def note(reference: Any) -> None:  # noqa: ANN401
        kind, key = _reference(reference, budget.where)
        kinds[key] = kind

    plain(tree, {}, outside=note, where=budget.where)
    storages: dict[str, NDArray[Any]] = {}
    for key in keys:
        (count,) = struct.unpack_from("<q", content, end)
        size = count * _width(kinds[key])
        part = content[end + 8 : end + 8 + size] if 0 <= size <= MOST_BYTES else b""
        if len(part) != size or key in storages:
            raise ValueError("one of its storages is cut off")
        storages[key] = _numbers(part, kinds[key], budget, big=False)
        end += 8 + size
    makers = _makers(budget)
    return plain(tree, makers, outside=lambda reference: storages[_reference(reference, budget.where)[1]], where=budget.where)


def _no_outside(where: str) -> Callable[[Any], Any]:
    def refuse(_: Any) -> Any:  # noqa: ANN401
        raise CheckpointError(f"{where} must be whole, found a pickle of tensors without their numbers; get the .pt file")

    return refuse


def _reference(reference: Any, where: str) -> tuple[str, str]:  # noqa: ANN401
    """Return kind and key of a storage: torch writes ("storage", its type, its key, its device, how many numbers)."""
    if isinstance(reference, tuple) and len(reference) >= 5 and reference[0] == "storage" and isinstance(reference[2], str):
        kind = str(reference[1])[:40].removeprefix("torch.").removesuffix("Storage")
        if kind in _STORAGES and re.fullmatch(r"\w{1,40}", reference[2]):
            return kind, reference[2]
    raise CheckpointError(f"{where} must refer to plain tensors, found another reference; export a state dict")


def _width(kind: str) -> int:
    return 2 if kind == "BFloat16" else np.dtype(_STORAGES[kind]).itemsize


def _numbers(content: bytes, kind: str, budget: Budget, *, big: bool) -> NDArray[Any]:
    order = ">" if big else "<"
    budget.make(len(content))
    if kind == "BFloat16":  # the upper half of a float32
        budget.make(2 * len(content))
        return (np.frombuffer(content, f"{order}u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(content, f"{order}{_STORAGES[kind]}").astype(_STORAGES[kind], copy=False)


class _Making:
    """Makes arrays from bytes, within a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def tensor(self, args: Any, _: Any) -> NDArray[Any]:  # noqa: ANN401
        """Make the array of `torch._utils._rebuild_tensor_v2(storage, offset, size, stride, …)`."""
        storage, offset, size, stride = args[:4]
        whole = all(isinstance(n, int) and n >= 0 for n in (offset, *size, *stride)) and len(size) == len(stride) <= 32
        if not whole or not isinstance(storage, np.ndarray) or storage.ndim != 1:
            raise ValueError("a tensor has an impossible shape")
        count = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if count and last >= len(storage):
            raise ValueError("a tensor has more numbers than its storage")
        if not count:
            return np.empty(size, storage.dtype)
        self._budget.make(count * storage.itemsize)
        strides = tuple(step * storage.itemsize for step in stride)
        return np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False).copy()

    def array(self, _: Any, state: Any) -> Any:  # noqa: ANN401
        """Make the array of `numpy.core.multiarray._reconstruct` and its state: (version, shape, type, order, numbers)."""
        _, shape, kind, fortran, numbers = state
        return self._filled(numbers, kind, shape, "F" if fortran else "C")

    def from_buffer(self, args: Any, _: Any) -> Any:  # noqa: ANN401
        """Make the array of `numpy.core.numeric._frombuffer(numbers, type, shape, order)`."""
        return self._filled(*args)

    def encoded(self, args: Any, _: Any) -> bytes:  # noqa: ANN401
        """Make the bytes of `_codecs.encode(text, "latin1")`."""
        text, encoding = args
        if encoding != "latin1":
            raise ValueError("bytes have an unknown encoding")
        self._budget.make(len(text))
        return bytes(text.encode("latin1"))

    def _filled(self, numbers: Any, kind: Any, shape: Any, order: Any) -> Any:  # noqa: ANN401
        if isinstance(numbers, list):  # an array of objects, as the feature names of a scaler are
            return numbers
        if isinstance(kind, np.dtype):
            self._budget.make(len(numbers))
            return np.frombuffer(numbers, kind).reshape(shape, order=order).astype(kind.newbyteorder("="))
        if isinstance(kind, str) and (match := TEXT.fullmatch(kind)) and int(match[2]):
            self._budget.make(8 * len(numbers))
            return np.frombuffer(numbers, kind).reshape(-1).tolist()
        return f"an array of {kind!s:.20}"  # a note: nothing that is needed


def _makers(budget: Budget) -> Mapping[str, _Make]:
    """Return the table of what is made, by name. It is the list of what a pickle may call."""
    making = _Making(budget)
    return {
        "torch._utils._rebuild_tensor_v2": making.tensor,
        "torch._utils._rebuild_parameter": lambda args, _: args[0],
        "_codecs.encode": making.encoded,
        "__builtin__.bytes": lambda args, _: Record("bytes", args) if args else b"",
        "numpy.dtype": _type,
        **{f"numpy.{core}.multiarray._reconstruct": making.array for core in ("core", "_core")},
        **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
        **{f"numpy.{core}.numeric._frombuffer": making.from_buffer for core in ("core", "_core")},
    }


def _type(args: Any, state: Any) -> Any:  # noqa: ANN401
    """Make the type of `numpy.dtype(text, …)` and its state, whose second item is the order of the bytes; others stay text."""
    order = state[1] if isinstance(state, tuple) and state[1] in ("<", ">") else "="
    text = str(args[0])[:20]
    if match := NUMBER.fullmatch(text):
        return np.dtype(f"{order}{match[2]}")
    return f"{order}U{match[2]}" if (match := TEXT.fullmatch(text)) else text


def _scalar(args: Any, _: Any) -> Any:  # noqa: ANN401
    kind, numbers = args
    if not isinstance(kind, np.dtype):
        return Record("numpy.scalar", args)
    return np.frombuffer(numbers, kind)[0].item()


_NOTES = frozenset(
    {
        "argparse.Namespace", "collections.Counter", "collections.OrderedDict", "collections.defaultdict", "collections.deque",
        "datetime.date", "datetime.datetime", "datetime.time", "datetime.timedelta", "datetime.timezone", "decimal.Decimal",
        "numpy.ndarray", "pathlib.PosixPath", "pathlib.PurePosixPath", "pathlib.PureWindowsPath", "pathlib.WindowsPath",
        "pathlib._local.PosixPath", "torch.Size", "torch.device", "types.SimpleNamespace",
        *(
            f"{home}.{kind}"
            for home in ("builtins", "__builtin__")
            for kind in (
                "set", "frozenset", "list", "dict", "int", "long", "float", "str", "unicode", "bytearray", "complex", "range",
                "xrange",
            )
        ),
        *(f"torch.{kind}{bits}" for kind in ("float", "int", "uint", "complex") for bits in (8, 16, 32, 64, 128)),
        "torch.bfloat16", "torch.bool",
    }
)  # fmt: skip
"""What may be named and stays a note: it carries nothing that a checkpoint needs."""
_NAMES = frozenset(_makers(Budget(""))) | _NOTES | STANDARD_SCALERS | {f"torch.{kind}Storage" for kind in _STORAGES}


def numbers_of(value: Any) -> NDArray[np.float64] | None:  # noqa: ANN401
    """Return an array, a number or a flat list of numbers as float64; None for anything else."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return value.astype(np.float64)
    if isinstance(value, list | tuple) and all(isinstance(item, int | float) for item in value):
        return np.array([_float(item) for item in value], np.float64)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return np.array(_float(value))
    return None


def _float(value: float) -> float:
    return float(value) if isinstance(value, float) or value.bit_length() < 1_000 else math.inf


def describe(payload: Any) -> str:  # noqa: ANN401
    """Say what a payload holds, for a person: the first keys, with the shapes of tensors.

    >>> describe({"epoch": 3, "lstm.weight_ih_l0": np.zeros((4, 31))})
    'epoch, lstm.weight_ih_l0 (4×31)'
    """
    if not isinstance(payload, Mapping):
        return payload.name if isinstance(payload, Record) else type(payload).__name__
    words = []
    for key, value in list(payload.items())[:8]:
        shape = f" ({'×'.join(map(str, value.shape))})" if isinstance(value, np.ndarray) and value.ndim else ""
        words.append((key[:60] if isinstance(key, str) else str(key)) + shape)
    return ", ".join(words) + (f" and {len(payload) - 8} more" if len(payload) > 8 else "") or "nothing"
