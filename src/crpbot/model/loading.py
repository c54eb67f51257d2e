"""Any checkpoint file, ours or foreign, as one type."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from crpbot.errors import CheckpointError
from crpbot.model.checkpoint import Checkpoint, open_payload, read_ours
from crpbot.model.foreign import read_foreign
from crpbot.model.recipe import load_recipe


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint file, or the one in a model folder; nothing in it is executed.

    Raises:
        CheckpointError: the file is no checkpoint, is damaged, or lacks its normalizer.

    """
    file = find_checkpoint(path)
    payload = open_payload(file.read_bytes(), where=str(file))
    if isinstance(payload, Mapping) and str(payload.get("format", "")).startswith("crpbot.checkpoint/"):
        return read_ours(payload, where=str(file))
    return read_foreign(payload, str(file))


def find_checkpoint(path: Path) -> Path:
    """Return `path`, or the one `.pt` file in it when it is a folder."""
    if path.is_dir():
        found = sorted(path.glob("*.pt"))
        if len(found) > 1 and (path / "recipe.toml").is_file():  # the newest training says which one is its own
            recipe = load_recipe(str(path / "recipe.toml"))
            found = [file for file in found if file.name.endswith(f"_{recipe.name}_enhanced.pt")]
        if len(found) != 1:
            names = ", ".join(file.name for file in found) or "none"
            raise CheckpointError(f"{path} must hold one checkpoint, found {names}; name the file")
        return found[0]
    if not path.is_file():
        raise CheckpointError(f"a checkpoint must be a file or a model folder, found nothing at {path}; check the path")
    return path


def file_sha256(path: Path) -> str:
    """Return the digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
