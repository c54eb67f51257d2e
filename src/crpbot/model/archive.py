"""What `torch.save` and `pickle` write, read as data and without torch: plain values, and tensors as numpy arrays.

It reads the zip that torch writes since 1.6, the older form without a zip, and bare pickles of a scaler. Everything is bounded
before it is read: the file, its parts, what they unpack to, the steps of a pickle, the size of a tensor.
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
from crpbot.model.pickles import Record, plain, read_pickle

MOST_BYTES = 128 * 2**20
"""Of a file, and of what its parts unpack to; a checkpoint of the V7 kind has 0.3 MB."""
_MOST_PARTS = 10_000
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

STANDARD_SCALERS = frozenset({"sklearn.preprocessing._data.StandardScaler", "sklearn.preprocessing.data.StandardScaler"})

_STORAGES: Mapping[str, str] = {
    "Double": "f8", "Float": "f4", "Half": "f2", "BFloat16": "bf16", "Long": "i8", "Int": "i4", "Short": "i2", "Char": "i1",
    "Byte": "u1", "Bool": "b1",
}  # fmt: skip
_NUMPY_TYPE = re.compile(r"[<>|=]?([fiu][1248]|b1)")
_HARMLESS = frozenset(
    {
        "argparse.Namespace", "collections.OrderedDict", "collections.defaultdict", "datetime.date", "datetime.datetime",
        "datetime.timedelta", "datetime.timezone", "numpy.ndarray", "pathlib.PosixPath", "pathlib.PurePosixPath",
        "pathlib.WindowsPath", "pathlib._local.PosixPath", "torch.Size", "torch.device", "types.SimpleNamespace",
        *(f"{home}.{kind}" for home in ("builtins", "__builtin__") for kind in ("set", "list", "dict", "int", "float", "str")),
    }
)  # fmt: skip
"""What may be named and stays a note: it carries nothing that a checkpoint needs."""


def read_bounded(path: Path) -> bytes:
    """Return the bytes of a file, of at most 128 MiB.

    Raises:
        CheckpointError: it is larger.

    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise CheckpointError(
            f"{path} must be a checkpoint of at most {MOST_BYTES // 2**20} MiB, found {size / 2**20:,.0f} MiB; export the state "
            "dict alone"
        )
    return path.read_bytes()


def read_archive(content: bytes, *, where: str) -> Any:  # noqa: ANN401
    """Return what the bytes of a `.pt` or `.pkl` file hold: plain values, arrays, and `Record` for other objects on the list.

    Args:
        content: the whole file.
        where: names it in errors.

    Raises:
        CheckpointError: it is neither, is damaged, is a bomb, or tries to load something that is not on the list.

    """
    try:
        return _read(content, where)
    except _DAMAGE as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{where} must be a whole file that torch.save wrote, found a damaged one: {reason:.120}; get it again"
        ) from None


_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, KeyError, IndexError, ValueError, TypeError, AttributeError,
    OverflowError, MemoryError, RuntimeError,
)  # fmt: skip
"""What the readers of zips and numbers raise of bytes that are not what they should be."""


def _read(content: bytes, where: str) -> Any:  # noqa: ANN401
    if content[:4] == b"PK\x03\x04":
        return _read_zip(content, where)
    if content[:1] != b"\x80" and not re.match(rb"c[\w.]+\n|\(|[IL]\d|\]|\}", content[:200]):
        raise CheckpointError(f"{where} must be a checkpoint that torch.save wrote, found {_kind(content)}; check the path")
    stream = io.BytesIO(content)
    first = read_pickle(stream, names=_NAMES, where=where)
    if isinstance(first, int) and first == _LEGACY_MAGIC:
        return _read_legacy(stream, where)
    return plain(first, _MAKERS, outside=_no_outside(where), where=where)


def _kind(content: bytes) -> str:
    known = {
        b"PAR1": "a Parquet file",
        b"\x89PNG": "a picture",
        b"\x93NUM": "a numpy array",
        b"\x1f\x8b": "a gzip file",
        b"\x7fELF": "a program",
    }
    for magic, name in known.items():
        if content.startswith(magic):
            return name
    if len(content) > 8 and content[8:9] == b"{":
        return f"a safetensors file (its header would have {int.from_bytes(content[:8], 'little'):,} bytes)"
    return f"{len(content):,} bytes of another kind" if content else "an empty file"


def _read_zip(content: bytes, where: str) -> Any:  # noqa: ANN401
    archive = zipfile.ZipFile(io.BytesIO(content))
    _check_parts(archive.infolist(), where)
    parts = archive.namelist()
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
            storages[key] = _numbers(archive.read(f"{folder}/data/{key}"), kind, big=order == b"big")
        return storages[key]

    tree = read_pickle(io.BytesIO(archive.read(pickles[0])), names=_NAMES, where=where)
    return plain(tree, _MAKERS, outside=outside, where=where)


def _check_parts(infos: list[zipfile.ZipInfo], where: str) -> None:
    total = sum(info.file_size for info in infos)
    if total > MOST_BYTES or len(infos) > _MOST_PARTS or len({info.filename for info in infos}) != len(infos):
        raise CheckpointError(
            f"{where} must unpack to at most {MOST_BYTES // 2**20} MiB in at most {_MOST_PARTS:,} parts with names of their "
            "own, found "
            f"{total / 2**20:,.0f} MiB in {len(infos):,} parts; it is a zip bomb or no checkpoint"
        )


def _read_legacy(stream: io.BytesIO, where: str) -> Any:  # noqa: ANN401
    """Read the form before torch 1.6: magic, version, machine, the object, the keys of the storages, and their numbers."""
    read_pickle(stream, names=_NAMES, where=where)
    read_pickle(stream, names=_NAMES, where=where)
    tree = read_pickle(stream, names=_NAMES, where=where)
    keys = read_pickle(stream, names=_NAMES, where=where)
    kinds: dict[str, str] = {}

    def note(reference: Any) -> None:  # noqa: ANN401
        kind, key = _reference(reference, where)
        kinds[key] = kind

    plain(tree, {}, outside=note, where=where)
    storages: dict[str, NDArray[Any]] = {}
    for key in keys:
        (count,) = struct.unpack("<q", stream.read(8))
        size = count * _width(kinds[key])
        part = stream.read(size) if 0 <= size <= MOST_BYTES else b""
        if len(part) != size:
            raise ValueError(f"storage {key} is cut off")
        storages[key] = _numbers(part, kinds[key], big=False)
    return plain(tree, _MAKERS, outside=lambda reference: storages[_reference(reference, where)[1]], where=where)


def _no_outside(where: str) -> Callable[[Any], Any]:
    def refuse(_: Any) -> Any:  # noqa: ANN401
        raise CheckpointError(f"{where} must be whole, found a pickle of tensors without their numbers; get the .pt file")

    return refuse


def _reference(reference: Any, where: str) -> tuple[str, str]:  # noqa: ANN401
    """Return kind and key of a storage: torch writes ("storage", its type, its key, its device, how many numbers)."""
    if isinstance(reference, tuple) and len(reference) >= 5 and reference[0] == "storage" and isinstance(reference[2], str):
        kind = str(reference[1]).removeprefix("torch.").removesuffix("Storage")
        if kind in _STORAGES and re.fullmatch(r"\w+", reference[2]):
            return kind, reference[2]
    raise CheckpointError(f"{where} must refer to plain tensors, found another reference; export a state dict")


def _width(kind: str) -> int:
    return 2 if kind == "BFloat16" else np.dtype(_STORAGES[kind]).itemsize


def _numbers(content: bytes, kind: str, *, big: bool) -> NDArray[Any]:
    order = ">" if big else "<"
    if kind == "BFloat16":  # the upper half of a float32
        return (np.frombuffer(content, f"{order}u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(content, f"{order}{_STORAGES[kind]}").astype(_STORAGES[kind], copy=False)


def _tensor(args: Any, _: Any) -> NDArray[Any]:  # noqa: ANN401
    """Make the array of `torch._utils._rebuild_tensor_v2(storage, offset, size, stride, …)`."""
    storage, offset, size, stride = args[:4]
    whole = all(isinstance(n, int) and n >= 0 for n in (offset, *size, *stride)) and len(size) == len(stride) <= 8
    if not whole or not isinstance(storage, np.ndarray) or storage.ndim != 1:
        raise ValueError("a tensor has an impossible shape")
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count > len(storage) or (count and last >= len(storage)):
        raise ValueError("a tensor has more numbers than its storage")
    if not count:
        return np.empty(size, storage.dtype)
    strides = tuple(step * storage.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False).copy()


def _array(args: Any, state: Any) -> Any:  # noqa: ANN401
    """Make the array of `numpy.core.multiarray._reconstruct` and its state: (version, shape, type, order, numbers)."""
    del args
    _, shape, kind, fortran, numbers = state
    return _filled(numbers, kind, shape, "F" if fortran else "C")


def _from_buffer(args: Any, _: Any) -> Any:  # noqa: ANN401
    """Make the array of `numpy.core.numeric._frombuffer(numbers, type, shape, order)`."""
    numbers, kind, shape, order = args
    return _filled(numbers, kind, shape, order)


def _filled(numbers: Any, kind: Any, shape: Any, order: Any) -> Any:  # noqa: ANN401
    if isinstance(numbers, list):  # an array of objects, as the feature names of a scaler are
        return numbers
    if not isinstance(kind, np.dtype):
        raise ValueError("an array has numbers of an unknown type")  # noqa: TRY004  becomes "damaged"
    return np.frombuffer(numbers, kind).reshape(shape, order=order).copy()


def _number_type(args: Any, state: Any) -> Any:  # noqa: ANN401
    """Make the type of `numpy.dtype(text, …)` and its state, whose second item is the order of the bytes."""
    order = state[1] if isinstance(state, tuple) else "="
    match = _NUMPY_TYPE.fullmatch(str(args[0]))
    return np.dtype(f"{order if order in '<>' else '='}{match[1]}") if match else str(args[0])


def _scalar(args: Any, _: Any) -> Any:  # noqa: ANN401
    kind, numbers = args
    return np.frombuffer(numbers, kind)[0].item()


def _encoded(args: Any, _: Any) -> bytes:  # noqa: ANN401
    text, encoding = args
    if encoding != "latin1":
        raise ValueError("bytes have an unknown encoding")
    return bytes(text.encode("latin1"))


_MAKERS: Mapping[str, Callable[[Any, Any], Any]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda args, _: args[0],
    "_codecs.encode": _encoded,
    "numpy.dtype": _number_type,
    **{f"numpy.{core}.multiarray._reconstruct": _array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _from_buffer for core in ("core", "_core")},
}
_TYPES = frozenset(
    f"torch.{kind}"
    for kind in (
        *(f"float{bits}" for bits in (64, 32, 16)),
        *(f"int{bits}" for bits in (64, 32, 16, 8)),
        "bfloat16",
        "uint8",
        "bool",
    )
)
_NAMES = frozenset(_MAKERS) | _HARMLESS | STANDARD_SCALERS | _TYPES | {f"torch.{kind}Storage" for kind in _STORAGES}


def numbers_of(value: Any) -> NDArray[np.float64] | None:  # noqa: ANN401
    """Return an array, a number or a flat list of numbers as float64; None for anything else."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return value.astype(np.float64)
    if isinstance(value, list | tuple) and all(isinstance(item, int | float) for item in value):
        return np.array([float(item) if abs(item) < 1e300 else math.inf for item in value], np.float64)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return np.array(float(value) if abs(value) < 1e300 else math.inf)
    return None


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
        words.append("".join(c if c.isprintable() else "?" for c in str(key))[:60] + shape)
    return ", ".join(words) + (f" and {len(payload) - 8} more" if len(payload) > 8 else "") or "nothing"
