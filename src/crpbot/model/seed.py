"""The founding files: a state dict with the scaler's numbers beside it, and the scaler, as the founding system takes them."""

import io
from pathlib import Path
from typing import Any

import torch

from crpbot.dataset.features.sets import feature_set
from crpbot.disk import write_whole
from crpbot.errors import CheckpointError
from crpbot.model.archive import read_archive
from crpbot.model.checkpoint import Checkpoint
from crpbot.model.export import drawn_rows, export_scaler, says_the_same
from crpbot.model.folder import scaler_name
from crpbot.model.foreign import NoWeights, read_foreign


def export_seed(checkpoint: Checkpoint, path: Path) -> tuple[Path, ...]:
    """Write the founding form of `checkpoint` to `path`, and its scaler beside it, after proof that the file says the same.

    Returns:
        What was written: the `.pt` file, and the `.pkl` where the checkpoint has a normalizer.

    Raises:
        CheckpointError: its features are not those of the founding system, or the file read back predicts something else.

    """
    founding = feature_set("founding-72").names
    if not set(checkpoint.features) <= set(founding):
        raise CheckpointError(
            "the founding form must have features of the founding system, found a checkpoint of other ones; export it as onnx"
        )
    weights, normalizer = checkpoint.weights, checkpoint.weights.normalizer
    if weights.members > 1:
        raise CheckpointError(
            f"the founding form must hold one network, found an ensemble of {weights.members}; export it as onnx"
        )
    state = {name: torch.tensor(array) for name, array in weights.arrays.items() if not name.startswith("normalizer.")}
    payload: dict[str, Any] = {
        "model_state_dict": state,
        "input_size": weights.input_size,
        "feature_columns": list(checkpoint.features),
    }
    if checkpoint.symbol is not None:
        payload["symbol"] = checkpoint.symbol
    if normalizer is not None:
        payload["scaler_params"] = {"mean": normalizer.mean.tolist(), "scale": normalizer.scale.tolist()}
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    copy = read_foreign(read_archive(buffer.getvalue(), where=str(path)), str(path))
    if isinstance(copy, NoWeights) or not says_the_same(copy, checkpoint, drawn_rows(checkpoint)):
        raise CheckpointError(
            f"{path} must predict what the checkpoint predicts, found something else after reading it back; nothing was "
            "written: please report this as a bug"
        )
    write_whole(path, buffer.getvalue())
    if normalizer is None:
        return (path,)
    scaler = path.with_name(scaler_name(checkpoint.symbol or path.stem))
    export_scaler(checkpoint, scaler)
    return path, scaler
