"""What a checkpoint is written as for others: the deployed form, and the scaler."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crpbot.disk import write_whole
from crpbot.errors import CheckpointError
from crpbot.model.checkpoint import Checkpoint, header_of
from crpbot.model.onnx_file import read_onnx
from crpbot.model.onnx_graph import (
    DIGEST_KEY,
    DOUBLE,
    FORMAT,
    FORMAT_KEY,
    GRAPH,
    HEADER_KEY,
    INPUT,
    IR_VERSION,
    OPSET,
    PRODUCER,
    digest,
    nodes_of,
    outputs_of,
)

CLOSE = 1e-6
"""How far the deployed form may be from torch, in a logit or a probability: in terms of the largest number on the way of its row
through the network, where that is above 1, since everything after the normalizer is a float32."""
PROBE_ROWS = 1_000
"""Rows that a written file must predict as the checkpoint does."""


def export_onnx(checkpoint: Checkpoint, path: Path, *, checkpoint_sha256: str, probe: NDArray[np.float64] | None = None) -> None:
    """Write the deployed form of `checkpoint` to `path`, whole, after proof that it says what the checkpoint says.

    Args:
        checkpoint: to write; one without a normalizer is written without one.
        path: of the new file.
        checkpoint_sha256: digest of the `.pt` file that holds it.
        probe: raw features to predict with both, shape `(n, n_features)`; by default drawn around what it learned from.

    Raises:
        CheckpointError: the file read back predicts something else.

    """
    content = to_onnx(checkpoint, checkpoint_sha256=checkpoint_sha256)
    _, copy = read_onnx(content, where=str(path))
    rows = drawn_rows(checkpoint) if probe is None else probe
    if not says_the_same(copy, checkpoint, rows):
        raise CheckpointError(
            f"{path} must predict what the checkpoint predicts, found other probabilities after reading it back; nothing was "
            "written: please report this as a bug"
        )
    write_whole(path, content)


def says_the_same(one: Checkpoint, other: Checkpoint, x: NDArray[np.float64]) -> bool:
    """Whether two forms of a checkpoint predict the same of raw features `x`, to 1e-6; see `CLOSE`."""
    return bool((distance(one, other, x) <= CLOSE).all())


def distance(one: Checkpoint, other: Checkpoint, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far two forms of a checkpoint are from each other on each row of raw features, shape `(n,)`; see `CLOSE`."""
    found, wanted, weights = one.predict(x), other.predict(x), other.weights
    size = np.maximum(np.abs(wanted.logits).max(axis=1), 1.0)
    for _, sums, _ in weights.layers(x):
        size = np.maximum(size, np.abs(sums).max(axis=1) / min(1.0, other.temperature))
    off = np.zeros(len(x))
    pairs = [(found.logits, wanted.logits), (found.probabilities, wanted.probabilities)]
    if found.disagreement is not None and wanted.disagreement is not None:
        pairs.append((found.disagreement[:, None], wanted.disagreement[:, None]))
    with np.errstate(invalid="ignore"):
        for ours, theirs in pairs:
            same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))  # a network that overflows does so in every form
            off = np.maximum(off, np.where(same, 0.0, np.abs(ours - theirs) / size[:, None]).max(axis=1))
    return np.where(np.isnan(off), np.inf, off)


def to_onnx(checkpoint: Checkpoint, *, checkpoint_sha256: str) -> bytes:
    """Return the deployed form of a checkpoint; the same checkpoint gives the same bytes."""
    import onnx  # noqa: PLC0415  for this file only
    from onnx import helper, numpy_helper  # noqa: PLC0415

    weights = checkpoint.weights
    nodes = []
    for step in nodes_of(weights):
        nodes.append(helper.make_node(step.operator, step.inputs, step.outputs))
        nodes[-1].attribute.extend(helper.make_attribute(name, value) for name, value in step.attributes.items())
    graph = helper.make_graph(
        nodes,
        GRAPH,
        [helper.make_tensor_value_info(INPUT, DOUBLE, ["batch", weights.input_size])],
        [helper.make_tensor_value_info(name, DOUBLE, list(shape)) for name, shape in outputs_of(weights).items()],
        [numpy_helper.from_array(np.asarray(array, order="C"), name) for name, array in weights.arrays.items()],
    )
    header = _encoded(header_of(checkpoint) | {"checkpoint_sha256": checkpoint_sha256})
    model = helper.make_model(
        graph, producer_name=PRODUCER, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
    )
    onnx.checker.check_model(model, full_check=True)
    sha256 = digest(header.encode(), graph.SerializeToString(deterministic=True))
    helper.set_model_props(model, {FORMAT_KEY: FORMAT, HEADER_KEY: header, DIGEST_KEY: sha256})
    return bytes(model.SerializeToString(deterministic=True))


def _encoded(header: dict[str, Any]) -> str:
    return json.dumps(header, sort_keys=True, separators=(",", ":"))


def drawn_rows(checkpoint: Checkpoint) -> NDArray[np.float64]:
    """Return rows around the mean of the features that the network learned from, where it knows them; else around 0."""
    z = np.random.default_rng(0).normal(size=(PROBE_ROWS, len(checkpoint.features)))
    normalizer = checkpoint.weights.normalizer
    return z if normalizer is None else normalizer.mean + normalizer.scale * z


def export_scaler(checkpoint: Checkpoint, path: Path) -> None:
    """Write the normalizer of `checkpoint` as a pickled scikit-learn `StandardScaler` with the same numbers.

    A founding deliverable, for tools that expect one. crpbot itself never unpickles one: pickles run code.
    """
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415  heavy, and for this one file only

    normalizer = checkpoint.weights.normalizer
    if normalizer is None:
        raise CheckpointError("only a checkpoint with a normalizer has a scaler, found one without; nothing to export")
    scaler = StandardScaler()
    scaler.mean_ = normalizer.mean.copy()
    scaler.scale_ = normalizer.scale.copy()
    scaler.var_ = scaler.scale_**2
    scaler.n_features_in_ = len(checkpoint.features)
    if checkpoint.origin is not None:
        scaler.n_samples_seen_ = checkpoint.origin.training_rows
    write_whole(path, pickle.dumps(scaler, protocol=4))
