"""The deployed form, read without torch and without the package that wrote it: as data first, and only then served.

A file is taken to bits by `protobuf`, and it has to be what the writer would make of the arrays in it, step by step. So there are
no operators, files or functions of others in what onnxruntime is given.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.features.sets import feature_set
from crpbot.dataset.labels import CLASSES
from crpbot.errors import CheckpointError
from crpbot.market.files import SYMBOL
from crpbot.model.checkpoint import (
    DAMAGED,
    SHA256,
    Checkpoint,
    Header,
    check_normalizer,
    check_shapes,
    check_temperature,
    damaged,
    read_header,
    read_repairs,
)
from crpbot.model.onnx_graph import (
    DIGEST_KEY,
    DOUBLE,
    FLOAT,
    FORMAT,
    FORMAT_KEY,
    GRAPH,
    HEADER_KEY,
    INPUT,
    IR_VERSION,
    MEMBERS,
    OPERATORS,
    OPSET,
    OUTPUTS,
    PRODUCER,
    Node,
    Number,
    digest,
    nodes_of,
    outputs_of,
)
from crpbot.model.protobuf import BYTES, FIXED32, VARINT, Message, as_float, broken, read_message
from crpbot.model.weights import DEEPEST, WIDEST, Floats, Weights, rows_at_a_time, shapes_of

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_MOST_PARTS, _MOST_STEPS = 10 * DEEPEST, 24 * DEEPEST
"""Parts of any message, and arrays and steps of a graph, at most."""
_LONGEST_HEADER = 2**20
"""Bytes of a header."""

# What the messages of ONNX may hold here, by field, and how it is written: onnx.proto of IR version 8. What is left out (sparse
# and quantized arrays, subgraphs, shapes within the graph, and so on) is refused wherever it stands.
_MODEL = {1: VARINT, 2: BYTES, 7: BYTES, 8: BYTES, 14: BYTES}
_OPSET = {1: BYTES, 2: VARINT}
_ENTRY = {1: BYTES, 2: BYTES}
_GRAPH = {1: BYTES, 2: BYTES, 5: BYTES, 11: BYTES, 12: BYTES}
_NODE = {1: BYTES, 2: BYTES, 3: BYTES, 4: BYTES, 5: BYTES, 7: BYTES}
_ATTRIBUTE = {1: BYTES, 2: FIXED32, 3: VARINT, 8: VARINT, 20: VARINT}
_TENSOR = {1: VARINT, 2: VARINT, 8: BYTES, 9: BYTES, 13: BYTES, 14: VARINT}
_VALUE = {1: BYTES, 2: BYTES}
_TYPE = {1: BYTES}
_TENSOR_TYPE = {1: VARINT, 2: BYTES}
_SHAPE = {1: BYTES}
_DIMENSION = {1: VARINT, 2: BYTES}
_KINDS: Mapping[int, np.dtype[Any]] = {FLOAT: np.dtype("<f4"), DOUBLE: np.dtype("<f8")}
_ATTRIBUTE_FLOAT, _ATTRIBUTE_INT, _ATTRIBUTE_INTS = 1, 2, 7


@dataclass(frozen=True, eq=False)
class Graph:
    """A network in the deployed form, served by onnxruntime.

    Attributes:
        content: the file, read and found sound.
        weights: the arrays in it.
        checkpoint_sha256: digest of the `.pt` file that it was made from.

    """

    content: bytes
    weights: Weights
    checkpoint_sha256: str

    def with_weights(self, weights: Weights) -> Weights:
        """Return other weights, to be served by numpy: what-ifs are not deployed."""
        return weights

    def serve(self, x: Floats) -> Floats:
        """Return the logits of raw features as served, shape `(len(x), 3)`, float64."""
        (logits,) = self._run(OUTPUTS[:1], x)
        return logits

    def speak(self, x: Floats) -> tuple[Floats, Floats | None]:
        """Return the logits of raw features as served, and what each member says, as `Network` has it."""
        if self.weights.members == 1:
            return self.serve(x), None
        logits, members = self._run((OUTPUTS[0], MEMBERS), x)
        return logits, members

    def _run(self, outputs: tuple[str, ...], x: Floats) -> list[Floats]:
        weights, session = self.weights, _session(self.content)
        chunk = rows_at_a_time(weights.input_size, *(weights.members * width for width in weights.hidden))
        parts = [
            session.run(outputs, {INPUT: np.ascontiguousarray(x[start : start + chunk], np.float64)})
            for start in range(0, max(len(x), 1), chunk)
        ]
        columns: list[Floats] = [
            one[0] if len(one) == 1 else np.concatenate(one, axis=-2) for one in zip(*parts, strict=True)
        ]  # rows are the last axis but one
        return columns


@lru_cache(maxsize=64)
def _session(content: bytes) -> "InferenceSession":
    """Start a session: on the processor, with one thread, from these bytes alone.

    Raises:
        CheckpointError: onnxruntime refuses what the reader let through.

    """
    import onnxruntime as ort  # noqa: PLC0415  it is needed only where something is predicted

    ort.disable_telemetry_events()  # nothing about a model leaves this machine
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; they are raised as well
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  its errors have no common base
        raise CheckpointError(
            f"a deployed form must be one that onnxruntime can serve, found: {error!s:.200}; export it again"
        ) from None


def read_onnx(content: bytes, *, where: str) -> tuple[Mapping[str, Any], Checkpoint]:
    """Read a deployed form; nothing in it is executed, and nothing is served yet.

    Args:
        content: of the file.
        where: names it in errors.

    Returns:
        Its header as it stands there, and the checkpoint.

    Raises:
        CheckpointError: it is damaged, altered, of another version, or anything else than crpbot writes.

    """
    model = read_message(content, _MODEL | dict.fromkeys((20, 25), BYTES), where=where, most=_MOST_PARTS)
    if model.parts(20) or model.parts(25):
        raise broken(where, "functions or training steps of its own")
    opsets = [read_message(part, _OPSET, where=f"{where}: operators", most=2) for part in model.parts(8)]
    versions = [(opset.text(1), opset.whole(2)) for opset in opsets]
    if model.whole(1) != IR_VERSION or versions != [("", OPSET)]:
        raise broken(where, f"version {model.whole(1)} with operators {versions} instead of {IR_VERSION} with [('', {OPSET})]")
    entries = [read_message(part, _ENTRY, where=f"{where}: metadata", most=2) for part in model.parts(14)]
    metadata = {entry.text(1): entry.run(2) for entry in entries}
    if metadata.get(FORMAT_KEY) != FORMAT.encode():
        found = metadata.get(FORMAT_KEY, b"").decode(errors="replace")[:40]
        raise CheckpointError(
            f"{where} must say that it has the format {FORMAT}, found {found or 'no header of crpbot'}; an ONNX file of others "
            "cannot be read: bring its .pt, or pass a function that serves it to crpbot.diagnose"
        )
    if metadata.keys() != {FORMAT_KEY, HEADER_KEY, DIGEST_KEY} or len(entries) != len(metadata) or model.text(2) != PRODUCER:
        raise broken(where, "other entries than crpbot makes")
    weights = _graph(model.run(7), f"{where}: graph")
    header = metadata[HEADER_KEY]
    if metadata[DIGEST_KEY] != digest(header, model.run(7)).encode():
        raise CheckpointError(
            f"{where} must have a header that belongs to its graph, found another; it was altered: export it again"
        )
    payload = _json(header, where)
    sha256 = payload.get("checkpoint_sha256")
    if not (isinstance(sha256, str) and SHA256.fullmatch(sha256)):
        raise broken(where, "no digest of the checkpoint that it was made from")
    said = _header(payload, weights, where)
    check_temperature(weights.temperature, where)
    return payload, Checkpoint(**vars(said), network=Graph(content, weights, sha256))


def _json(header: bytes, where: str) -> Mapping[str, Any]:
    try:
        payload = json.loads(header[: _LONGEST_HEADER + 1])
        if not isinstance(payload, dict):
            raise TypeError("it is no table")
    except DAMAGED as error:
        raise damaged(error, where) from None
    return payload


def _header(payload: Mapping[str, Any], weights: Weights, where: str) -> Header:
    """Read the header, and compare it with the graph."""
    if "format" in payload:
        header = read_header(payload, where=where)
        check_shapes(weights.arrays, header, where)
        check_normalizer(weights.normalizer, header, where)
        _check_kind(header, weights, where)
    else:
        founding, names = feature_set("founding-72").names, payload.get("feature_columns")
        symbol = payload.get("symbol")
        if not isinstance(names, list) or not all(isinstance(name, str) and name in founding for name in names):
            raise broken(where, "no features of the founding system")
        if symbol is not None and not (isinstance(symbol, str) and SYMBOL.fullmatch(symbol)):
            raise broken(where, "no symbol like BTC-USD")
        if weights.members > 1:
            raise broken(where, "several networks, which the founding system had not")
        header = Header(features=tuple(names), symbol=symbol, repairs=read_repairs(payload, where))
    if len(set(header.features)) != len(header.features) or len(header.features) != weights.input_size:
        raise broken(where, f"{len(header.features)} features in its header and {weights.input_size} inputs in its graph")
    return header


def _check_kind(header: Header, weights: Weights, where: str) -> None:
    """Compare what the recipe says of the layers with the layers."""
    assert header.recipe is not None
    choice = header.recipe.network
    wanted = (choice.hidden, choice.batch_normalization and bool(choice.hidden), choice.temperature == "learned")
    if (weights.hidden, weights.batch_normalization, weights.temperature is not None) != wanted:
        raise broken(where, f"other layers than recipe {header.recipe.name} has")


def _graph(content: bytes, where: str) -> Weights:
    """Read the graph, which has to be the one that its own arrays make."""
    graph = read_message(content, _GRAPH, where=where, most=_MOST_STEPS)
    arrays = dict(_array(part, where) for part in graph.parts(5))
    weights = Weights(arrays)
    _check_arrays(weights, len(graph.parts(5)), where)
    found = tuple(_node(part, where) for part in graph.parts(1))
    if repr(found) != repr(nodes_of(weights)) or graph.text(2) != GRAPH:
        raise broken(where, "other steps than its arrays make")
    inputs, outputs = ([_value(part, where) for part in graph.parts(number)] for number in (11, 12))
    classes = [(name, DOUBLE, shape) for name, shape in outputs_of(weights).items()]
    if inputs != [(INPUT, DOUBLE, ("batch", weights.input_size))] or outputs != classes:
        raise broken(where, "other inputs or outputs than its arrays make")
    return weights


def _check_arrays(weights: Weights, count: int, where: str) -> None:
    """Check that the arrays are those of one network of a sane size."""
    arrays = weights.arrays
    matrices = [arrays[f"fc{number}.weight"] for number in range(1, weights.depth + 1)]
    if (
        not matrices
        or len(matrices) > DEEPEST
        or any(matrix.ndim not in {2, 3} or matrix.ndim != matrices[0].ndim or 0 in matrix.shape for matrix in matrices)
    ):
        raise broken(where, "no layers, or layers of no width")
    widths = (matrices[0].shape[-1], *(matrix.shape[-2] for matrix in matrices))
    wanted = shapes_of(
        widths,
        batch_normalization=weights.batch_normalization,
        temperature="temperature" in arrays,
        normalizer="normalizer.mean" in arrays,
        members=weights.members,
    )
    kinds = all((array.dtype == np.float64) == name.startswith("normalizer.") for name, array in arrays.items())
    sane = max(widths) <= WIDEST and widths[-1] == len(CLASSES) and count == len(arrays)
    if not sane or not kinds or {name: array.shape for name, array in arrays.items()} != wanted:
        raise broken(where, "arrays that are not those of one network")


def _array(content: bytes, where: str) -> tuple[str, NDArray[Any]]:
    tensor = read_message(content, _TENSOR, where=f"{where}: array", most=8)
    if tensor.parts(13) or tensor.whole(14):
        raise broken(where, "numbers in another file (external data)")
    name, shape, kind = tensor.text(8), tensor.wholes(1, most=3), _KINDS.get(tensor.whole(2))
    raw = tensor.run(9)
    if kind is None:
        raise broken(where, f"numbers of kind {tensor.whole(2)}")
    size = 1
    for side in shape:
        size *= side if 0 <= side <= WIDEST else WIDEST + 1
    if size * kind.itemsize != len(raw):
        raise broken(where, f"{len(raw):,} bytes for an array of shape {shape}")
    return name, np.frombuffer(raw, kind).reshape(shape)


def _node(content: bytes, where: str) -> Node:
    node = read_message(content, _NODE, where=f"{where}: step", most=16)
    operator, domain = node.text(4), node.text(7)
    if node.parts(3):
        raise broken(where, "a step with a name")
    if operator not in OPERATORS or domain:
        raise broken(where, f"the operator {operator[:40]}{f' of {domain[:40]}' if domain else ''}")
    attributes = [_attribute(part, where) for part in node.parts(5)]
    if len(dict(attributes)) < len(attributes):
        raise broken(where, "an attribute twice")
    return Node(operator, node.texts(1), node.texts(2), dict(attributes))


def _attribute(content: bytes, where: str) -> tuple[str, Number]:
    attribute = read_message(content, _ATTRIBUTE, where=f"{where}: attribute", most=5)
    kind, name = attribute.whole(20), attribute.text(1)
    held = attribute.fields.keys() & {2, 3, 8}
    if kind == _ATTRIBUTE_FLOAT and held <= {2}:
        return name, as_float(attribute.run(2), where)
    if kind == _ATTRIBUTE_INT and held <= {3}:
        return name, attribute.whole(3)
    if kind == _ATTRIBUTE_INTS and held <= {8}:
        return name, attribute.wholes(8, most=3)
    raise broken(where, f"an attribute {name[:40]} of another kind")


def _value(content: bytes, where: str) -> tuple[str, int, tuple[str | int, ...]]:
    """Return name, kind and shape of an input or output."""
    value = read_message(content, _VALUE, where=f"{where}: value", most=2)
    kind = read_message(value.run(2), _TYPE, where=f"{where}: type", most=1)
    tensor = read_message(kind.run(1), _TENSOR_TYPE, where=f"{where}: type", most=2)
    shape = read_message(tensor.run(2), _SHAPE, where=f"{where}: shape", most=4)
    sides = (read_message(part, _DIMENSION, where=f"{where}: shape", most=1) for part in shape.parts(1))
    return value.text(1), tensor.whole(1), tuple(_side(side) for side in sides)


def _side(side: Message) -> str | int:
    return side.text(2) if 2 in side.fields else side.whole(1)
