"""The checkpoint as a `.pt` file: tensors and plain JSON types, written and read back by torch, executed by nobody."""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from crpbot.disk import write_whole
from crpbot.errors import CheckpointError
from crpbot.model.archive import read_archive
from crpbot.model.checkpoint import (
    DAMAGED,
    Checkpoint,
    check_normalizer,
    check_shapes,
    check_temperature,
    damaged,
    header_of,
    read_header,
)
from crpbot.model.network import DirectionNetwork
from crpbot.model.recipe import Recipe
from crpbot.model.weights import Weights


def to_bytes(checkpoint: Checkpoint) -> bytes:
    """Return the file of a checkpoint: tensors and plain JSON types; the same checkpoint gives the same bytes.

    A repaired foreign one is written in the founding form, since nobody knows its recipe, label or origin.

    Raises:
        CheckpointError: the recipe normalizes and the network has no fitted normalizer, it lacks recipe, label or origin, or it
            is served in another form.

    """
    whole = checkpoint.symbol and checkpoint.recipe and checkpoint.label and checkpoint.origin
    if not whole and not (checkpoint.repairs and checkpoint.origin is None):
        raise CheckpointError(
            "a checkpoint must be written with its symbol, recipe, label and origin, found one without; train it here"
        )
    network = checkpoint.network
    if isinstance(network, DirectionNetwork):
        state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in network.state_dict().items()}
    elif isinstance(network, Weights) and network.members > 1:  # an ensemble is no module: numpy serves it
        state = {name: torch.from_numpy(np.array(array)) for name, array in network.arrays.items()}
    else:
        raise CheckpointError("a .pt file must be written from a .pt file, found the deployed form; name the .pt beside it")
    # A pickle notes which strings are one object: a round trip through JSON makes that the same in every run.
    payload: dict[str, Any] = json.loads(json.dumps(header_of(checkpoint)))
    payload["model_state_dict"] = state
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    return buffer.getvalue()


def save_checkpoint(
    checkpoint: Checkpoint, path: Path, *, probe: NDArray[np.float64], read: Callable[[Any, str], Checkpoint] | None = None
) -> None:
    """Write `checkpoint` to `path`, whole, after proof that the file gives the same probabilities.

    Args:
        checkpoint: to write.
        path: of the new file.
        probe: raw features to predict with both, shape `(n, n_features)`.
        read: makes a checkpoint of what the file holds; `read_ours` by default.

    Raises:
        CheckpointError: the normalizer is missing or not fitted, or the file read back predicts something else.

    """
    content = to_bytes(checkpoint)
    payload = read_archive(content, where=str(path))
    copy = read_ours(payload, where=str(path)) if read is None else read(payload, str(path))
    if not np.array_equal(copy.predict(probe).probabilities, checkpoint.predict(probe).probabilities):
        raise CheckpointError(
            f"{path} must predict what the network in memory predicts, found other probabilities after reading it back; "
            "nothing was written: please report this as a bug"
        )
    write_whole(path, content)


def read_ours(payload: Mapping[str, Any], *, where: str) -> Checkpoint:
    """Read what a checkpoint of ours holds; `where` names it in errors.

    Raises:
        CheckpointError: it is damaged, altered, of another version, or lacks its normalizer.

    """
    header = read_header(payload, where=where)
    recipe, features = header.recipe, header.features
    assert recipe is not None
    try:
        arrays = {str(name): value for name, value in payload["model_state_dict"].items() if _is_array(value)}
        state = {name: torch.from_numpy(value) for name, value in arrays.items()}
    except DAMAGED as error:
        raise damaged(error, where) from None
    check_shapes(arrays, header, where)
    if recipe.network.normalizer == "fit" and not {"normalizer.mean", "normalizer.scale"} <= arrays.keys():
        raise CheckpointError(
            f"{where}: recipe {recipe.name} normalizes, so the checkpoint must hold its normalizer; found none. "
            "Without it every prediction is nonsense: train it again, or repair it"
        )
    if recipe.ensemble.members > 1:
        network: DirectionNetwork | Weights = Weights(arrays)
    else:
        network = _module(recipe, state, features, where)
    check_normalizer(network.weights.normalizer, header, where)
    check_temperature(network.weights.temperature, where)
    return Checkpoint(**vars(header), network=network)


def _module(recipe: Recipe, state: Mapping[str, torch.Tensor], features: tuple[str, ...], where: str) -> DirectionNetwork:
    """Return a single network, in evaluation mode."""
    network = DirectionNetwork.from_recipe(
        recipe.network, input_size=len(features), normalizer="normalizer.mean" in state or recipe.network.normalizer == "fit"
    )
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{where} must hold the weights of recipe {recipe.name}: {reason}; train it again") from None
    return network.eval()


def _is_array(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiub"
