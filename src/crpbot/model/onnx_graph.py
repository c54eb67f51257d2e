"""The deployed form as data: the steps that a network is, in the words of ONNX. The writer makes them, the reader asks for them.

`features` (float64) go through the normalizer in float64, so that prices keep their digits, then through layers and temperature
in float32, as in training; `logits` and `probabilities` are float64. Every array of the network is in the graph under its own
name, and nothing is folded: what a diagnosis asks of a checkpoint can be asked of this file too.

An ensemble is one graph too: its layers have the members as a first axis more, the average of their probabilities and the
temperature after it are steps of the graph, and a third output, `members`, is what each of them says: `(members, batch, 3)`.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from crpbot.dataset.labels import CLASSES
from crpbot.model.weights import EPSILON, Weights

FORMAT = "crpbot.onnx/1"
IR_VERSION, OPSET = 8, 17
"""Versions of the file format and of the operators: old enough for every runtime of recent years, and never another."""
PRODUCER, GRAPH = "crpbot", "direction"
FLOAT, DOUBLE = 1, 11
"""What ONNX calls float32 and float64."""
INPUT, OUTPUTS = "features", ("logits", "probabilities")
MEMBERS = "members"
"""A third output, of ensembles only."""
FORMAT_KEY, HEADER_KEY, DIGEST_KEY = "crpbot.format", "crpbot.header", "crpbot.sha256"
"""The entries of the metadata: format, header as JSON, and the digest of header and graph."""
_OF_ONE = {"BatchNormalization", "Cast", "Div", "Gemm", "Relu", "Softmax", "Sub"}
_OF_MANY = {"Add", "Constant", "Exp", "Identity", "Log", "LogSoftmax", "MatMul", "Mul", "ReduceMax", "ReduceMean", "Sqrt"}
OPERATORS = frozenset(_OF_ONE | _OF_MANY | {"Squeeze", "Transpose", "Unsqueeze"})
Number = int | float | tuple[int, ...]
_EPSILON = float(np.float32(EPSILON))


@dataclass(frozen=True, slots=True)
class Node:
    """One step of the graph.

    Attributes:
        operator: its name, of the operators that belong to ONNX itself.
        inputs, outputs: names of values and arrays.
        attributes: numbers by name; whole ones are int, or several of them, others are floats with the digits of a float32.

    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Number] = field(default_factory=dict)


Then = Callable[..., str]
"""Takes the next step: operator, inputs, `gives` for its output, and attributes; returns `gives`."""


def outputs_of(weights: Weights) -> Mapping[str, tuple[str | int, ...]]:
    """Return the shape of each output of a network."""
    shapes: dict[str, tuple[str | int, ...]] = dict.fromkeys(OUTPUTS, ("batch", len(CLASSES)))
    return shapes if weights.members == 1 else shapes | {MEMBERS: (weights.members, "batch", len(CLASSES))}


def nodes_of(weights: Weights) -> tuple[Node, ...]:
    """Return the steps from `features` to `logits` and `probabilities` of a network, and to `members` of an ensemble."""
    nodes: list[Node] = []

    def then(operator: str, *inputs: str, gives: str, **attributes: Number) -> str:
        nodes.append(Node(operator, inputs, (gives,), attributes))
        return gives

    at = INPUT
    if weights.normalizer is not None:
        at = then("Sub", at, "normalizer.mean", gives="centred")
        at = then("Div", at, "normalizer.scale", gives="normalized")
    at = then("Cast", at, gives="entered", to=FLOAT)
    if weights.members == 1:
        _one(weights, at, then)
    else:
        _many(weights, at, then)
    return tuple(nodes)


def _one(weights: Weights, at: str, then: Then) -> None:
    for number in range(1, weights.depth + 1):
        at = then("Gemm", at, f"fc{number}.weight", f"fc{number}.bias", gives=f"fc{number}", transB=1)
        if weights.norm(number) is not None:
            at = then("BatchNormalization", at, *_norm(number), gives=f"bn{number}", epsilon=_EPSILON)
        if number < weights.depth:
            at = then("Relu", at, gives=f"relu{number}")
    if weights.temperature is not None:
        at = then("Div", at, "temperature", gives="tempered")
    then("Cast", at, gives=OUTPUTS[0], to=DOUBLE)
    then("Softmax", OUTPUTS[0], gives=OUTPUTS[1], axis=1)


def _many(weights: Weights, at: str, then: Then) -> None:
    """Take the steps of `_one` for all members at once, average what they say as `weights.pooled` does, and divide that."""
    then("Constant", gives="rows", value_ints=(1,))  # the axis that parameters of units lack
    if weights.batch_normalization:
        then("Constant", gives="epsilon", value_float=_EPSILON)
    for number in range(1, weights.depth + 1):
        name = f"fc{number}"
        turned = then("Transpose", f"{name}.weight", gives=f"{name}.turned", perm=(0, 2, 1))
        product = then("MatMul", at, turned, gives=f"{name}.product")
        at = then("Add", product, then("Unsqueeze", f"{name}.bias", "rows", gives=f"{name}.offset"), gives=name)
        if weights.norm(number) is not None:
            at = _normalized(number, at, then)
        if number < weights.depth:
            at = then("Relu", at, gives=f"relu{number}")
    own = then("LogSoftmax", then("Cast", at, gives="wide", to=DOUBLE), gives="own", axis=2)
    top = then("ReduceMax", own, gives="top", axes=(0,), keepdims=1)
    average = then("Exp", then("Sub", own, top, gives="below"), gives="grown")
    average = then("Log", then("ReduceMean", average, gives="mean", axes=(0,), keepdims=1), gives="log")
    average = then("Add", average, top, gives="average")
    average = then("Squeeze", average, then("Constant", gives="first", value_ints=(0,)), gives="pooled")
    if weights.temperature is None:
        then("Identity", average, gives=OUTPUTS[0])
    else:
        wide = then("Cast", "temperature", gives="wide.temperature", to=DOUBLE)
        then("Div", average, wide, gives=OUTPUTS[0])
        own = then("Div", own, wide, gives="tempered")
    then("Softmax", OUTPUTS[0], gives=OUTPUTS[1], axis=1)
    then("Softmax", own, gives=MEMBERS, axis=2)


def _normalized(number: int, at: str, then: Then) -> str:
    """Normalize sums of shape `(members, batch, units)`: the operator of ONNX knows one network only."""
    gamma, beta, mean, variance = (then("Unsqueeze", name, "rows", gives=f"{name}.wide") for name in _norm(number))
    name = f"bn{number}"
    deviation = then("Sqrt", then("Add", variance, "epsilon", gives=f"{name}.raised"), gives=f"{name}.deviation")
    scale = then("Div", gamma, deviation, gives=f"{name}.scale")
    centred = then("Sub", at, mean, gives=f"{name}.centred")
    return then("Add", then("Mul", centred, scale, gives=f"{name}.scaled"), beta, gives=name)


def _norm(number: int) -> tuple[str, ...]:
    return tuple(f"bn{number}.{part}" for part in ("weight", "bias", "running_mean", "running_var"))


def digest(header: bytes, graph: bytes) -> str:
    """Return the digest of a header and its graph. It shows damage and mix-ups; whoever means harm can work it out anew."""
    return hashlib.sha256(len(header).to_bytes(8, "big") + header + graph).hexdigest()
