"""Deployed forms of strangers who mean harm, or whose disk did: each is a good file with one thing changed, and signed anew."""

import json
from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from crpbot.model.onnx_graph import DIGEST_KEY, FORMAT_KEY, HEADER_KEY, digest

Change = Callable[[onnx.ModelProto], None]


def changed(content: bytes, change: Change, *, sign: bool = True) -> bytes:
    model = onnx.load_from_string(content)
    change(model)
    if sign:
        entry(model, DIGEST_KEY).value = digest(entry(model, HEADER_KEY).value.encode(), model.graph.SerializeToString())
    return model.SerializeToString()


def entry(model: onnx.ModelProto, key: str) -> onnx.StringStringEntryProto:
    return next(one for one in model.metadata_props if one.key == key)


def with_header(**values: object) -> Change:
    """Change keys of the header; None removes one."""

    def change(model: onnx.ModelProto) -> None:
        header = json.loads(entry(model, HEADER_KEY).value) | values
        entry(model, HEADER_KEY).value = json.dumps({key: value for key, value in header.items() if value is not None})

    return change


def header_text(text: str) -> Change:
    return lambda model: setattr(entry(model, HEADER_KEY), "value", text)


def array(model: onnx.ModelProto, name: str = "fc1.weight") -> onnx.TensorProto:
    return next(one for one in model.graph.initializer if one.name == name)


def external(model: onnx.ModelProto) -> None:
    tensor = array(model)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def external_unsaid(model: onnx.ModelProto) -> None:
    array(model).external_data.add(key="location", value="/etc/passwd")


def subgraph(model: onnx.ModelProto) -> None:
    attribute = model.graph.node[0].attribute.add(name="body", type=onnx.AttributeProto.GRAPH)
    attribute.g.name = "inner"


def step(name: str, value: str) -> Change:
    return lambda model: setattr(model.graph.node[-1], name, value)


def shape(*sides: int) -> Change:
    def change(model: onnx.ModelProto) -> None:
        del array(model).dims[:]
        array(model).dims.extend(sides)

    return change


def function(model: onnx.ModelProto) -> None:
    model.functions.add(name="f", domain="d").node.add(op_type="Relu", input=["x"], output=["y"])


def metadata(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


def rewired(model: onnx.ModelProto) -> None:
    """The first bias where the second belongs: a graph that runs, of the same arrays."""
    steps = [one for one in model.graph.node if one.op_type == "BatchNormalization"]
    steps[0].input[1], steps[0].input[2] = steps[0].input[2], steps[0].input[1]


def constant(model: onnx.ModelProto) -> None:
    """Probabilities that have nothing to do with the logits."""
    model.graph.node[-1].input[0] = "probably"
    model.graph.initializer.append(numpy_helper.from_array(np.array([[0.0, 0.0, 9.0]]), "probably"))


def of_step(operator: str, change: Callable[[onnx.NodeProto], None]) -> Change:
    """Change the first step with that operator."""
    return lambda model: change(next(one for one in model.graph.node if one.op_type == operator))


def numbers(name: str, values: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Change the numbers of an array, and its shape with them."""
    return lambda model: array(model, name).CopyFrom(
        numpy_helper.from_array(np.ascontiguousarray(values(numpy_helper.to_array(array(model, name)))), name)
    )


def members(count: int) -> Change:
    """Say another number of members in the recipe."""

    def change(model: onnx.ModelProto) -> None:
        recipe = json.loads(entry(model, HEADER_KEY).value)["recipe"]
        with_header(recipe=recipe | {"ensemble": recipe["ensemble"] | {"members": count}})(model)

    return change


def founding(model: onnx.ModelProto) -> None:
    """The header of a network of others: nobody but crpbot has ensembles of this kind."""
    header = json.loads(entry(model, HEADER_KEY).value)
    kept = {key: header[key] for key in ("input_size", "feature_columns", "symbol", "checkpoint_sha256")}
    entry(model, HEADER_KEY).value = json.dumps(kept)


HOSTILE_ENSEMBLES: dict[str, tuple[Change, str]] = {
    "a-member-less": (numbers("fc2.weight", lambda a: a[:2]), "not those of one network"),
    "a-member-less-in-a-bias": (numbers("fc2.bias", lambda a: a[:2]), "not those of one network"),
    "flat-in-one-layer": (numbers("fc2.weight", lambda a: a[0]), "no layers, or layers of no width"),
    "one-member": (numbers("fc1.weight", lambda a: a[:1]), "not those of one network"),
    "nan": (numbers("fc2.bias", lambda a: a * np.float32("nan")), "finite numbers of each member"),
    "a-temperature-a-member": (numbers("temperature", lambda a: np.full(3, a)), "not those of one network"),
    "more-members-in-the-recipe": (members(4), "none or others for fc1"),
    "one-member-in-the-recipe": (members(1), "none or others for fc1"),
    "no-recipe": (founding, "several networks"),
    "largest-not-average": (of_step("ReduceMean", lambda step: setattr(step, "op_type", "ReduceMax")), "other steps"),
    "another-axis": (of_step("ReduceMean", lambda step: step.attribute[0].ints.__setitem__(0, 1)), "other steps"),
    "many-axes": (of_step("Transpose", lambda step: step.attribute[0].ints.extend(range(9))), "more than"),
    "another-epsilon": (lambda model: setattr(model.graph.node[4].attribute[0], "f", 0.1), "other steps"),
    "a-number-of-its-own": (of_step("Constant", lambda step: step.attribute.add(name="value", type=4)), "of another kind"),
    "an-output-less": (lambda model: model.graph.output.pop(), "other inputs or outputs"),
    "members-of-another-number": (
        lambda model: setattr(model.graph.output[2].type.tensor_type.shape.dim[0], "dim_value", 4), "other inputs or outputs"
    ),
}  # fmt: skip


HOSTILE: dict[str, tuple[Change, str]] = {
    "external-data": (external, "another file"),
    "external-data-unsaid": (external_unsaid, "another file"),
    "unknown-operator": (step("op_type", "Loop"), "the operator Loop"),
    "custom-domain": (step("domain", "com.evil"), "of com.evil"),
    "custom-opset": (lambda model: model.opset_import.append(helper.make_opsetid("com.evil", 1)), "operators"),
    "later-opset": (lambda model: setattr(model.opset_import[0], "version", 21), "operators"),
    "another-ir": (lambda model: setattr(model, "ir_version", 9), "version 9"),
    "subgraph": (subgraph, "field 6"),
    "function": (function, "functions"),
    "training": (lambda model: model.training_info.add(), "functions or training"),
    "sparse-array": (lambda model: model.graph.sparse_initializer.add(), "field 15"),
    "inner-shape": (lambda model: model.graph.value_info.add(name="fc1"), "field 13"),
    "huge-array": (shape(2**40, 2**40), "bytes for an array"),
    "negative-array": (shape(-256, -72), "bytes for an array"),
    "array-of-other-shape": (shape(72, 256), "not those of one network"),
    "array-of-many-sides": (shape(256, 72, 1, 1), "more than 3 times"),
    "array-of-texts": (lambda model: setattr(array(model), "data_type", TensorProto.STRING), "numbers of kind 8"),
    "array-twice": (lambda model: model.graph.initializer.append(array(model)), "not those of one network"),
    "array-too-many": (lambda model: setattr(array(model, "fc4.bias"), "name", "other"), "not those of one network"),
    "temperature-of-0": (lambda model: setattr(array(model, "temperature"), "raw_data", b"\x00" * 4), "positive temperature"),
    "rewired": (rewired, "other steps"),
    "constant": (constant, "not those of one network"),
    "step-too-many": (lambda model: model.graph.node.append(helper.make_node("Relu", ["logits"], ["x"])), "other steps"),
    "another-attribute": (lambda model: setattr(model.graph.node[-1].attribute[0], "i", 0), "other steps"),
    "another-output": (lambda model: model.graph.output.append(model.graph.output[0]), "other inputs or outputs"),
    "another-input": (lambda model: setattr(model.graph.input[0], "name", "x"), "other inputs or outputs"),
    "many-entries": (lambda model: [model.metadata_props.add(key=str(i)) for i in range(1_000)], "more than 640 parts"),
    "entry-too-many": (lambda model: model.metadata_props.add(key="x"), "other entries"),
    "another-producer": (lambda model: setattr(model, "producer_name", "pytorch"), "other entries"),
    "another-format": (lambda model: setattr(entry(model, FORMAT_KEY), "value", "crpbot.onnx/2"), "found crpbot.onnx/2"),
    "header-no-json": (header_text("{"), "damaged header"),
    "header-no-table": (header_text("[]"), "damaged header"),
    "header-nested": (header_text("[" * 100_000), "damaged header"),
    "header-of-many-digits": (header_text('{"format": ' + "9" * 10_000 + "}"), "damaged header"),
    "header-without-its-origin": (with_header(origin=None), "damaged header"),
    "header-of-another-symbol": (with_header(symbol="../x"), "a symbol like BTC-USD"),
    "header-of-no-checkpoint": (with_header(checkpoint_sha256="x"), "digest of the checkpoint"),
    "header-of-other-features": (with_header(format=None, feature_columns=["returns"]), "1 features in its header and 72 inputs"),
    "header-of-one-feature-often": (with_header(format=None, feature_columns=["returns"] * 72), "72 features in its header"),
    "header-of-unknown-features": (with_header(format=None, feature_columns=["x"] * 72), "features of the founding system"),
    "header-of-no-features": (with_header(format=None, feature_columns=7), "features of the founding system"),
    "foreign-header-of-another-symbol": (with_header(format=None, symbol="<b>"), "no symbol"),
}
"""By kind: what is changed, and words that the refusal has to say."""
