"""Reading and writing the messages of ONNX files: the same as the package onnx reads and writes."""

import random
import struct

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from megengine_lite._core.formats.onnx.messages import AttributeType, ElementType, ModelProto
from megengine_lite._core.formats.onnx.reader import MAX_DEPTH, MAX_ITEMS, read_model
from megengine_lite._core.formats.onnx.writer import write_model
from megengine_lite._core.formats.wire.cursor import Cursor
from megengine_lite.errors import LiteError, ModelFormatError

# The package onnx makes the numbers of its cases as it lists them.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def sized(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def integer(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def model(graph: bytes = b"", **also: bytes) -> bytes:
    return integer(1, 8) + sized(7, graph) + b"".join(also.values())


def read(data: bytes) -> ModelProto:
    return read_model(Cursor(data, what="file"))


def every_kind() -> onnx.ModelProto:
    """A model with each part that is read."""
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["z"])],
        "branch",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )
    attributes = {
        "f": 0.5,
        "i": -7,
        "s": b"\xff\0text",
        "t": numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "t"),
        "g": branch,
        "floats": [0.25, -1e30],
        "ints": [-1, 2**63 - 1, -(2**63)],
        "strings": ["a", "", "ü"],
        "tensors": [numpy_helper.from_array(np.array(["x", "yz"], object))],
        "graphs": [branch, branch],
    }
    node = helper.make_node("Op", ["x", "", "y"], ["o"], "name", domain="d", overload="v", **attributes)
    node.attribute.add(name="r", ref_attr_name="outer", type=onnx.AttributeProto.INT)
    data = [
        helper.make_tensor("floats", TensorProto.FLOAT, [3], [1, 2, 3]),
        helper.make_tensor("ints", TensorProto.INT32, [2], [-5, 2**31 - 1]),
        helper.make_tensor("longs", TensorProto.INT64, [2], [-(2**62), 5]),
        helper.make_tensor("doubles", TensorProto.DOUBLE, [1], [1e300]),
        helper.make_tensor("unsigned", TensorProto.UINT64, [1], [2**64 - 1]),
        helper.make_tensor("raw", TensorProto.INT16, [2], b"\1\2\3\4", raw=True),
    ]
    shape = ["batch", 3, None]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, shape),
        helper.make_value_info("q", helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, None))),
        helper.make_value_info("p", helper.make_optional_type_proto(helper.make_tensor_type_proto(1, []))),
        helper.make_value_info("m", helper.make_map_type_proto(7, helper.make_tensor_type_proto(1, [2]))),
        helper.make_value_info("s", helper.make_sparse_tensor_type_proto(1, [2])),
    ]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("o", 1, [])], data)
    sparse = helper.make_sparse_tensor(data[0], data[2], [4])
    graph.sparse_initializer.append(sparse)
    graph.value_info.append(helper.make_tensor_value_info("v", 9, [1]))
    function = helper.make_function(
        "d", "F", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], [helper.make_opsetid("ai.onnx", 17)], ["k"]
    )
    made = helper.make_model(graph, functions=[function], opset_imports=[helper.make_opsetid("d", 1)])
    made.producer_version, made.domain, made.model_version = "1.0", "dd", 3
    helper.set_model_props(made, {"key": "value"})
    return made


def test_every_part_is_read_and_written_as_onnx_does():
    made = every_kind()
    data = made.SerializeToString()
    record = read(data)
    assert b"".join(write_model(record)) == data
    node = record.graph.node[0]
    assert (node.input, node.output) == (["x", "", "y"], ["o"])
    by_name = {a.name: a for a in node.attribute}
    assert (by_name["f"].f, by_name["i"].i, bytes(by_name["s"].s)) == (0.5, -7, b"\xff\0text")
    assert list(by_name["ints"].ints) == [-1, 2**63 - 1, -(2**63)]
    assert [bytes(s).decode() for s in by_name["strings"].strings] == ["a", "", "ü"]
    assert by_name["r"].reference == "outer"
    assert by_name["g"].type == AttributeType.GRAPH
    tensors = {t.name: t for t in record.graph.initializer}
    assert list(tensors["ints"].int32_data) == [-5, 2**31 - 1]
    assert list(tensors["unsigned"].uint64_data) == [2**64 - 1]
    assert list(tensors["doubles"].double_data) == [1e300]
    dims = record.graph.input[0].type.tensor.shape.dim
    assert [(d.value, d.parameter) for d in dims] == [(None, "batch"), (3, ""), (None, "")]
    assert record.functions[0].node[0].op_type == "Neg"


def without_skipped(message):
    """The message without what is skipped, and without texts that are stored and empty."""
    skipped = {
        "doc_string",
        "denotation",
        "metadata_props",
        "quantization_annotation",
        "training_info",
        "configuration",
    }
    for field, value in message.ListFields():
        if field.name in skipped or value == "":
            message.ClearField(field.name)
        elif field.type == field.TYPE_MESSAGE:
            for item in [value] if hasattr(value, "ListFields") else value:
                without_skipped(item)
    return message


def test_models_of_the_backend_tests_are_written_as_they_were():
    from onnx.backend.test.loader import load_model_tests

    cases = load_model_tests(kind="node")
    assert len(cases) > 1700
    for case in cases:
        made = case.model
        again = onnx.load_from_string(b"".join(write_model(read(made.SerializeToString()))))
        assert without_skipped(again) == without_skipped(made), case.name


def test_numbers_are_read_packed_and_one_by_one():
    packed = sized(1, varint(2) + varint(300)) + integer(1, 5)
    floats = sized(4, struct.pack("<2f", 1, 2)) + varint(4 << 3 | 5) + struct.pack("<f", 3)
    doubles = varint(10 << 3 | 1) + struct.pack("<d", -0.5)
    negative = sized(5, varint(2**64 - 3)) + integer(5, 2**64 - 4) + integer(5, 2**32 - 5)
    tensor = read(model(sized(5, packed + floats + doubles + negative))).graph.initializer[0]
    assert list(tensor.dims) == [2, 300, 5]
    assert list(tensor.float_data) == [1, 2, 3]
    assert list(tensor.double_data) == [-0.5]
    assert list(tensor.int32_data) == [-3, -4, -5]


def test_zeros_behind_a_model_are_padding():
    assert read(model(sized(2, b"g")) + bytes(15)).graph.name == "g"


def test_unknown_fields_of_every_form_are_skipped():
    unknown = (
        integer(99, 2**63) + sized(98, b"\xff" * 9) + varint(97 << 3 | 1) + bytes(8) + varint(96 << 3 | 5) + bytes(4)
    )
    graph = unknown + sized(2, b"g") + unknown
    assert read(model(graph, also=unknown)).graph.name == "g"


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "without a graph"),
        (integer(1, 8), "without a graph"),
        (model()[:-1] + b"\5", "has field 7 of 5 bytes, but 0 are left"),
        (integer(1, 8) + b"\x3a", "a number that does not end"),
        (integer(1, 8) + b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "but 0 are left"),
        (b"\x08" + b"\xff" * 10 + b"\1", "a number that does not end"),
        (b"\xf8\xff\xff\xff\xff\1\0", "without a valid number"),
        (model() + bytes(25), "without a valid number"),
        (model(bytes(2)), "without a valid number"),
        (model(b"\x0b\x0c"), "field 1 in a form that no writer uses"),
        (model(b"\x0e"), "field 1 in a form that no writer uses"),
        (model(integer(2, 5)), "GraphProto.name is not stored as text"),
        (sized(1, b"\1") + model(), "ModelProto.ir_version is not stored as integer"),
        (model(also=sized(7, b"")), "ModelProto has graph twice"),
        (model(sized(5, sized(4, bytes(6)))), "no whole number of elements"),
        (model(sized(5, sized(1, b"\1\x80"))), "a number that does not end"),
    ],
)
def test_damage_is_refused(data, message):
    with pytest.raises(ModelFormatError, match=message):
        read(data)


def test_messages_nested_too_deeply_are_refused():
    def nested(levels: int) -> bytes:
        graph = b""
        for _ in range(levels):
            graph = sized(1, sized(5, sized(6, graph)))
        return model(graph)

    allowed = (MAX_DEPTH - 2) // 3
    assert read(nested(allowed)).graph.node[0].attribute[0].g is not None
    with pytest.raises(ModelFormatError, match=f"nested more than {MAX_DEPTH} times"):
        read(nested(allowed + 1))
    with pytest.raises(ModelFormatError, match="nested more than"):
        read(nested(3000))


@pytest.mark.parametrize("part", [b"\x0a\0", sized(1, b"\x0a\0" * 1000)])
def test_too_many_parts_are_refused(part):
    with pytest.raises(ModelFormatError, match=f"more than {MAX_ITEMS} parts"):
        read(model(part * (MAX_ITEMS * 2 // len(part) + 1)))


def test_every_cut_of_a_file_is_an_error_or_a_smaller_model():
    data = every_kind().SerializeToString()
    whole = read(data)
    for length in range(len(data)):
        try:
            cut = read(data[:length])
        except ModelFormatError:
            continue
        assert cut != whole


def test_damaged_files_give_a_model_or_an_error():
    data = every_kind().SerializeToString()
    outcomes = set()
    for seed in range(3000):
        rng = random.Random(seed)
        changed = bytearray(data)
        for _ in range(rng.choice((1, 2, 8))):
            at = rng.randrange(len(changed))
            changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        try:
            read(bytes(changed))
            outcomes.add("read")
        except LiteError as error:
            outcomes.add(type(error))
    assert outcomes == {"read", ModelFormatError}


def test_element_types_and_attributes_have_the_numbers_of_onnx():
    types = dict(TensorProto.DataType.items())
    assert {t.name: int(t) for t in ElementType}.items() <= types.items()
    assert {t.name: int(t) for t in AttributeType} == dict(onnx.AttributeProto.AttributeType.items())
