"""The deployed form as data: the steps that a network is, in the words of ONNX. The writer makes them, the reader asks for them.

`features` (float64) go through the normalizer in float64, so that prices keep their digits, then through layers and temperature
in float32, as in training; `logits` and `probabilities` are float64. Every array of the network is in the graph under its own
name, and nothing is folded: what a diagnosis asks of a checkpoint can be asked of this file too.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from crpbot.model.weights import EPSILON, Weights

FORMAT = "crpbot.onnx/1"
IR_VERSION, OPSET = 8, 17
"""Versions of the file format and of the operators: old enough for every runtime of recent years, and never another."""
PRODUCER, GRAPH = "crpbot", "direction"
FLOAT, DOUBLE = 1, 11
"""What ONNX calls float32 and float64."""
INPUT, OUTPUTS = "features", ("logits", "probabilities")
FORMAT_KEY, HEADER_KEY, DIGEST_KEY = "crpbot.format", "crpbot.header", "crpbot.sha256"
"""The entries of the metadata: format, header as JSON, and the digest of header and graph."""
OPERATORS = frozenset({"BatchNormalization", "Cast", "Div", "Gemm", "Relu", "Softmax", "Sub"})


@dataclass(frozen=True, slots=True)
class Node:
    """One step of the graph.

    Attributes:
        operator: its name, of the operators that belong to ONNX itself.
        inputs, outputs: names of values and arrays.
        attributes: numbers by name; whole ones are int, others are floats with the digits of a float32.

    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, int | float] = field(default_factory=dict)


def nodes_of(weights: Weights) -> tuple[Node, ...]:
    """Return the steps from `features` to `logits` and `probabilities` of a network."""
    nodes, at = [], INPUT

    def then(operator: str, *arrays: str, gives: str, **attributes: float) -> None:
        nonlocal at
        nodes.append(Node(operator, (at, *arrays), (gives,), attributes))
        at = gives

    if weights.normalizer is not None:
        then("Sub", "normalizer.mean", gives="centred")
        then("Div", "normalizer.scale", gives="normalized")
    then("Cast", gives="entered", to=FLOAT)
    for number in range(1, weights.depth + 1):
        then("Gemm", f"fc{number}.weight", f"fc{number}.bias", gives=f"fc{number}", transB=1)
        if weights.norm(number) is not None:
            names = (f"bn{number}.{part}" for part in ("weight", "bias", "running_mean", "running_var"))
            then("BatchNormalization", *names, gives=f"bn{number}", epsilon=float(np.float32(EPSILON)))
        if number < weights.depth:
            then("Relu", gives=f"relu{number}")
    if weights.temperature is not None:
        then("Div", "temperature", gives="tempered")
    then("Cast", gives=OUTPUTS[0], to=DOUBLE)
    then("Softmax", gives=OUTPUTS[1], axis=1)
    return tuple(nodes)


def digest(header: bytes, graph: bytes) -> str:
    """Return the digest of a header and its graph. It shows damage and mix-ups; whoever means harm can work it out anew."""
    return hashlib.sha256(len(header).to_bytes(8, "big") + header + graph).hexdigest()
