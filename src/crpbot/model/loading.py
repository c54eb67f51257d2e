"""Any checkpoint file, ours or foreign, as one type."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crpbot.errors import CheckpointError
from crpbot.market.files import SYMBOL
from crpbot.model.archive import describe, read_archive, read_bounded
from crpbot.model.folder import CHECKPOINT, ONNX_NAME, RECIPE_NAME, symbol_in
from crpbot.model.former import OURS
from crpbot.model.recipe import load_recipe

if TYPE_CHECKING:
    from crpbot.model.checkpoint import Checkpoint
    from crpbot.model.subject import Subject

ONNX_SUFFIX = ".onnx"


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A checkpoint file that was read as data, and not yet believed. Reading it needs no torch and executes nothing.

    Attributes:
        path: of the file.
        sha256: its digest.
        payload: what it holds; of a deployed form, its header.
        deployed: the checkpoint in a deployed form, which is whole as soon as it is read; None for every other file.

    """

    path: Path
    sha256: str
    payload: Mapping[Any, Any]
    deployed: "Checkpoint | None" = None

    @property
    def ours(self) -> bool:
        """Whether crpbot wrote it, by what it says."""
        said = self.payload.get("format")
        return isinstance(said, str) and said.startswith(OURS)

    @property
    def market(self) -> str | None:
        """The symbol that it was trained on: as it says, or as its name does."""
        said = self.payload.get("symbol")
        return said if isinstance(said, str) and SYMBOL.fullmatch(said) else symbol_in(self.path.name)


def open_model(path: Path) -> ModelFile:
    """Read a checkpoint file, the deployed form of one, or what is in a model folder, as data.

    Raises:
        CheckpointError: the file is no checkpoint, is damaged, or tries to do something.

    """
    file = find_checkpoint(path)
    content = read_bounded(file)
    if file.suffix == ONNX_SUFFIX:
        from crpbot.model.onnx_file import read_onnx  # noqa: PLC0415  it is about another kind of file

        header, deployed = read_onnx(content, where=str(file))
        return ModelFile(file, hashlib.sha256(content).hexdigest(), header, deployed)
    payload = read_archive(content, where=str(file))
    if not isinstance(payload, Mapping):
        raise CheckpointError(f"{file} must hold a state dict, found {describe(payload)}; save model.state_dict()")
    return ModelFile(file, hashlib.sha256(content).hexdigest(), payload)


def subject_in(model: ModelFile, *, scaler: Path | None = None, features: tuple[str, ...] | None = None) -> "Subject":
    """Return what is to be diagnosed.

    Args:
        model: that was read.
        scaler: file with the scaler of a checkpoint that lacks one.
        features: names of the inputs of a foreign file that does not say.

    Raises:
        CheckpointError: the file holds no network that can be fed from candles, or already has what is brought.

    """
    from crpbot.model.subject import subject_of, weightless_subject  # noqa: PLC0415  it waits until the file is screened

    found = _believed(model, scaler=scaler, features=features)
    return weightless_subject(found) if isinstance(found, str) else subject_of(found)


def checkpoint_in(model: ModelFile, *, scaler: Path | None = None, features: tuple[str, ...] | None = None) -> "Checkpoint":
    """Return the checkpoint that a file holds; the arguments and errors of `subject_in`, and no file without weights."""
    found = _believed(model, scaler=scaler, features=features)
    if isinstance(found, str):
        raise CheckpointError(f"{model.path} must hold the weights of a network, found {found:.200}; save model.state_dict()")
    return found


def checkpoint_of(payload: Any, where: str) -> "Checkpoint":  # noqa: ANN401
    """Return the checkpoint that plain values from `read_archive` describe; `where` names them in errors."""
    return checkpoint_in(ModelFile(Path(where), "", payload))


def load_checkpoint(path: Path) -> "Checkpoint":
    """Read a checkpoint file, or the one in a model folder; nothing in it is executed.

    Raises:
        CheckpointError: the file is no checkpoint, is damaged, or lacks its normalizer.

    """
    return checkpoint_in(open_model(path))


def _believed(model: ModelFile, *, scaler: Path | None, features: tuple[str, ...] | None) -> "Checkpoint | str":
    """Return the checkpoint in a file, or what it holds in words where that is no weight at all."""
    if model.deployed is not None:
        if scaler is not None or features:
            raise CheckpointError(f"{model.path} must be judged as it is deployed, found --scaler or --features; leave them out")
        return model.deployed
    from crpbot.model.foreign import NoWeights, read_foreign  # noqa: PLC0415  torch waits until the file is screened
    from crpbot.model.pt_file import read_ours  # noqa: PLC0415
    from crpbot.model.remedies import with_scaler  # noqa: PLC0415
    from crpbot.model.scaler import read_scaler  # noqa: PLC0415

    where = str(model.path)
    brought = None if scaler is None else read_scaler(scaler)
    if not model.ours:
        found = read_foreign(model.payload, where, scaler=brought, features=features)
        return found.holds if isinstance(found, NoWeights) else found
    if features:
        raise CheckpointError(f"{where} must lack the names of its inputs for others to be brought; leave out --features")
    checkpoint = read_ours(model.payload, where=where)
    return checkpoint if brought is None else with_scaler(checkpoint, brought, where)


def find_checkpoint(path: Path) -> Path:
    """Return `path`, or the one `.pt` file in it when it is a folder; its deployed form where there is no torch, or no `.pt`."""
    if path.is_dir():
        deployed = path / ONNX_NAME
        if deployed.is_file() and (find_spec("torch") is None or not any(path.glob(f"*{CHECKPOINT}"))):
            return deployed
        found = sorted(path.glob(f"*{CHECKPOINT}"))
        if len(found) > 1 and (path / RECIPE_NAME).is_file():  # the newest training says which one is its own
            recipe = load_recipe(str(path / RECIPE_NAME))
            found = [file for file in found if file.name.endswith(f"_{recipe.name}_enhanced.pt")]
        if len(found) != 1:
            names = ", ".join(file.name for file in found) or "none"
            raise CheckpointError(f"{path} must hold one checkpoint, found {names}; name the file")
        path = found[0]
    if not path.is_file():
        raise CheckpointError(f"a checkpoint must be a file or a model folder, found nothing at {path}; check the path")
    return path


def file_sha256(path: Path) -> str:
    """Return the digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
