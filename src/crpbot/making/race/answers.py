"""The file of an answer: arrays and what is told of them, sealed with a digest, so that a damaged answer is never taken for one.

It is a `.npz` that numpy reads. The list of parts of a zip has no checksum, so a flipped bit may rename a part or drop it: the
digest is over names, types, shapes and bytes of all arrays, and over everything that is told.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from crpbot.errors import CrpbotError
from crpbot.making.race.contenders import TOLD, Answer
from crpbot.model.archive import DAMAGE, Parts

_MOST_TOLD = 65_536
"""Bytes of what is told: notes of a line each."""
_MOST_ROUND = 4_096
"""Bytes of a zip with three parts, besides what is in them."""

_SAYS, _LOGS = "says", "log_probabilities"
_KINDS: Mapping[str, tuple[DTypeLike, tuple[int, ...]]] = {_SAYS: (np.int8, ()), _LOGS: (np.float32, (3,))}
"""Type of each array, and its shape after the rows."""


def pack(key: str, answer: Answer | str) -> bytes:
    """Return the file of an answer, or of why there is none; `key` is of its task."""
    told: dict[str, Any] = {"key": key, "failed": answer if isinstance(answer, str) else ""}
    arrays: dict[str, NDArray[Any]] = {}
    if isinstance(answer, Answer):
        told |= {name: getattr(answer, name) for name in TOLD}
        found = {_SAYS: answer.says, _LOGS: answer.log_probabilities}
        arrays = {name: np.ascontiguousarray(array, _KINDS[name][0]) for name, array in found.items() if array is not None}
    told["sha256"] = _seal(told, arrays)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays, told=np.frombuffer(json.dumps(told).encode(), np.uint8))  # type: ignore[arg-type]
    return buffer.getvalue()


def read(file: Path, key: str, *, rows: int) -> Answer | str | None:
    """Return the answer that a file holds for the task of that key, or why there is none to give.

    None where nobody has asked yet, or the file is of another task, or not as it was written. Nothing is read or made that is
    larger than an answer about so many rows can be.
    """
    most = _MOST_TOLD + _MOST_ROUND + rows * sum(_n_bytes(name, 1) for name in _KINDS)
    try:
        with file.open("rb") as opened:
            content = opened.read(most + 1)
        return None if len(content) > most else _unpack(content, key, rows)
    except (*DAMAGE, CrpbotError):
        return None


def _unpack(content: bytes, key: str, rows: int) -> Answer | str | None:
    parts = Parts(content, "an answer")
    arrays = {}
    for name in _KINDS:
        if f"{name}.npy" in parts.names:
            kind, shape = _KINDS[name]
            arrays[name] = _array(parts.read(f"{name}.npy"), kind, (rows, *shape))
    part = parts.read("told.npy")
    told = json.loads(_array(part, np.uint8, (len(part) - len(_head(np.uint8, (0,))),)).tobytes())
    if len(parts.names) != len(arrays) + 1 or told.pop("sha256") != _seal(told, arrays) or told.pop("key") != key:
        return None
    if failed := told.pop("failed"):
        return str(failed)
    return Answer(says=arrays[_SAYS], log_probabilities=arrays.get(_LOGS), **told)


def _array(part: bytes, kind: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the array of a part, whose head must say this type and this shape and nothing else: it is compared, not read."""
    head = _head(kind, shape)
    if not part.startswith(head):
        raise ValueError("an array has another type or another shape")
    return np.frombuffer(part, kind, offset=len(head)).reshape(shape)


def _head(kind: DTypeLike, shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(np.dtype(kind))
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def _n_bytes(name: str, rows: int) -> int:
    kind, shape = _KINDS[name]
    return int(np.dtype(kind).itemsize * np.prod((rows, *shape)))


def _seal(told: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 of names, types, shapes and bytes of arrays, and of what is told of them."""
    heads = {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()}
    seal = hashlib.sha256(json.dumps({"told": told, "arrays": heads}, sort_keys=True).encode())
    for name in sorted(arrays):
        seal.update(arrays[name].tobytes())
    return seal.hexdigest()
