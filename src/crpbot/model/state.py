"""The state of a training run that is not finished: everything that its next epoch depends on, in one file."""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crpbot.disk import write_whole
from crpbot.errors import CheckpointError
from crpbot.model.archive import read_archive, read_bounded
from crpbot.model.folder import STATE

FORMAT = "crpbot.state/1"


def state_key(plain: Mapping[str, Any], *tensors: Tensor) -> str:
    """Return the digest of all that a run is made of; a state may only be taken up by the run that left it."""
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for tensor in tensors:
        digest.update(np.ascontiguousarray(tensor.cpu().numpy()).data)
    return digest.hexdigest()


def state_file(folder: Path, key: str) -> Path:
    """Return the file of the run with that key, in a folder where others may keep theirs."""
    return folder / f"{key[:16]}{STATE}"


def save_state(file: Path, key: str, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
    """Write the state of the run with that key, whole.

    Args:
        file: of the state.
        key: of the run.
        tensors: by name.
        plain: anything else, of plain JSON types.

    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "key": key, "plain": json.dumps(plain), "tensors": dict(tensors)}, buffer)
    write_whole(file, buffer.getvalue())


def load_state(file: Path, key: str) -> tuple[Mapping[str, Tensor], Mapping[str, Any]] | None:
    """Return tensors and plain values of the run with that key; None where there is no state, or none of this run."""
    if not file.is_file():
        return None
    try:
        payload = read_archive(read_bounded(file), where=str(file))
        if payload["format"] != FORMAT or payload["key"] != key:
            return None
        tensors = {str(name): torch.from_numpy(value) for name, value in payload["tensors"].items()}
        plain = json.loads(payload["plain"])
        return (tensors, plain) if isinstance(plain, dict) else None
    except (CheckpointError, OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None  # damaged: the run begins anew, and ends the same
