import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, NodeProto, TensorProto

from crpbot.errors import CheckpointError
from crpbot.model.protobuf import BYTES, FIXED32, VARINT, as_float, read_message

KINDS = {1: VARINT, 2: BYTES, 3: FIXED32}


def read(content: bytes, *, most: int = 100) -> object:
    return read_message(content, KINDS, where="it", most=most)


@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.text(), st.binary())
def test_it_reads_what_the_package_of_onnx_writes(dims: list[int], name: str, raw: bytes) -> None:
    tensor = TensorProto(dims=dims, name=name, raw_data=raw, data_type=7)
    message = read_message(tensor.SerializeToString(), {1: VARINT, 2: VARINT, 8: BYTES, 9: BYTES}, where="it", most=1_000)
    assert (message.wholes(1, most=1_000), message.whole(2), message.text(8), message.run(9)) == (tuple(dims), 7, name, raw)


@given(st.lists(st.text()), st.floats(width=32, allow_nan=False))
def test_it_reads_repeated_texts_and_numbers(inputs: list[str], number: float) -> None:
    node = read_message(NodeProto(input=inputs).SerializeToString(), {1: BYTES}, where="it", most=1_000)
    assert node.texts(1) == tuple(inputs)
    attribute = AttributeProto(name="a", f=number, type=AttributeProto.FLOAT).SerializeToString()
    message = read_message(attribute, {1: BYTES, 2: FIXED32, 20: VARINT}, where="it", most=3)
    assert as_float(message.run(2), "it") == number


def test_packed_numbers_are_numbers() -> None:
    assert read(b"\x0a\x03\x05\x96\x01").wholes(1, most=1_000) == (5, 150)
    assert read(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01").whole(1) == -1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x08", "cut off"),
        (b"\x08\x80", "cut off"),
        (b"\x12\x05ab", "cut off"),
        (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01ab", "cut off"),
        (b"\x1d\x00\x00", "cut off"),
        (b"\x08" + b"\xff" * 10, "64 bits"),
        (b"\x08" + b"\xff" * 9 + b"\x7f", "64 bits"),
        (b"\x20\x01", "field 4"),
        (b"\x10\x01", "field 2"),  # a number where bytes belong
        (b"\x0d\x00\x00\x00\x00", "field 1"),
        (b"\x13", "field 2"),  # the groups of old
        (b"\x08\x01" * 101, "more than 100 parts"),
    ],
)
def test_what_is_no_such_message_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        read(content)


@pytest.mark.parametrize(
    ("content", "ask", "words"),
    [
        (b"\x08\x01\x08\x02", lambda message: message.whole(1), "2 times"),
        (b"\x0a\x01\x01", lambda message: message.whole(1), "text in field 1"),
        (b"\x12\x01\xff", lambda message: message.text(2), "text that is none"),
        (b"\x0a\x01\x80", lambda message: message.wholes(1, most=1_000), "cut off"),
        (b"\x08\x01", lambda message: message.parts(1), "a number in field 1"),
        (b"\x08\x01", lambda message: message.run(1), "a number in field 1"),
        (b"\x12\x03abc", lambda message: as_float(message.run(2), "it"), "no number"),
    ],
)
def test_a_value_of_another_kind_is_refused_when_it_is_asked_for(content: bytes, ask: object, words: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(words)):
        ask(read(content))
