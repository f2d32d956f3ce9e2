"""Errors about ONNX models: all types that are not computed at once, no text of numpy, names escaped and cut."""

import collections

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.onnx_models import load, make, run

from megengine_lite._core.formats.onnx.operators import CONVERTERS
from megengine_lite.errors import LiteError, ModelFormatError, UnsupportedOperatorError

F = TensorProto.FLOAT
OPSET = 24
TYPES = (F, 2, 3, 5, 6, 7, 9, 10, 11, 12, 13, 16)
SHAPES = ([2, 3], [1, 3, 4, 4])
# Their inputs are lists of numbers whose values decide.
OTHER = {"GatherElements", "OneHot", "Range"}
ABOUT_TYPES = ("type", "is not defined for", "works on floats", "needs floats", "must be bool", "do not fit together")


def node(op, inputs="x", name="", **attributes):
    return helper.make_node(op, inputs.split(" "), ["y"], name, **attributes)


def models():
    for _, op in sorted(CONVERTERS):
        if op in OTHER or not onnx.defs.has(op, OPSET) or not onnx.defs.get_schema(op, OPSET).inputs:
            continue
        schema = onnx.defs.get_schema(op, OPSET)
        many = schema.inputs[0].option == onnx.defs.OpSchema.FormalParameterOption.Variadic
        count = 2 if many else max(schema.min_input, 1)
        known = {"axis": 0, "kernel_shape": [2, 2], "to": 1}
        attributes = {k: v for k, v in known.items() if k in schema.attributes}
        for kind in TYPES:
            kinds = [
                kind if many or schema.inputs[k].type_str == schema.inputs[0].type_str else TensorProto.INT64
                for k in range(count)
            ]
            for shape in SHAPES:
                names = [f"x{k}" for k in range(count)]
                one = helper.make_node(op, names, ["y"], **attributes)
                inputs = [(name, k, shape) for name, k in zip(names, kinds, strict=True)]
                model = make([one], inputs, [("y", 0, None)], opset=OPSET)
                model.graph.output[0].ClearField("type")
                yield op, kind, model


@pytest.mark.filterwarnings("ignore")
def test_types_that_are_not_computed_are_refused_at_load_and_not_at_the_run():
    late, outcomes = {}, collections.Counter()
    for op, kind, model in models():
        try:
            network = load(model)
        except LiteError:
            outcomes["refused"] += 1
            continue
        given = {}
        for name in network.get_all_input_name():
            layout = network.get_io_tensor(name).layout
            given[name] = np.ones(layout.shapes[: layout.ndim], layout.dtype)
        try:
            run(network, **given)
            outcomes["ran"] += 1
        except LiteError as error:
            if any(part in str(error) for part in ABOUT_TYPES):
                late[op, kind] = str(error)
    assert not late
    assert min(outcomes["refused"], outcomes["ran"]) > 500


def test_all_types_that_are_not_computed_are_listed():
    nodes = [
        helper.make_node("And", ["x", "x"], ["a"], "first"),
        helper.make_node("Softmax", ["i"], ["b"], "second"),
        helper.make_node("Add", ["x", "i"], ["c"], "third"),
        helper.make_node("Gelu", ["x"], ["d"], "fourth"),
    ]
    outputs = [(k, F, None) for k in "abcd"]
    with pytest.raises(UnsupportedOperatorError) as error:
        load(make(nodes, [("x", F, [2]), ("i", TensorProto.INT64, [2])], outputs))
    for part in (
        "And 'first' (it is not computed in FLOAT)",
        "Softmax 'second' (it is not computed in INT64)",
        "Add 'third' (its inputs are of the types FLOAT, INT64; they must be the same)",
        "Gelu 'fourth' (it is read from version 20 of the operators on, the model has 17)",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("opset, says", [(5, False), (29, True), (99, True)])
def test_newer_operators_are_called_so(opset, says):
    with pytest.raises(UnsupportedOperatorError) as error:
        load(make([node("Relu")], [("x", F, [3])], [("y", F, [3])], (), opset))
    assert ("a newer megengine_lite may read it" in str(error.value)) == says


UNFIT = [
    (node("Slice", "x two one zero"), {"two": [0, 0], "one": [1], "zero": [0, 1]}),
    (node("Split", "x one"), {"one": [1]}),
    (node("Pad", "x one"), {"one": [1]}),
    (node("Einsum", "x x", equation="ab,bc->ad"), {}),
    (node("Transpose", perm=[0, 0]), {}),
    (node("Tile", "x one"), {"one": [1]}),
    (node("Reshape", "x one"), {"one": [-5]}),
    (node("Expand", "x two"), {"two": [2, 2]}),
    (node("Resize", "x  two"), {"two": np.float32([2])}),
]


@pytest.mark.parametrize("one, constants", UNFIT, ids=[n.op_type for n, _ in UNFIT])
def test_no_text_of_numpy_is_shown(one, constants):
    model = make([one], [("x", F, [3, 4])], [("y", F, None)], {k: np.array(v) for k, v in constants.items()})
    with pytest.raises(LiteError) as error:
        run(load(model), x=np.zeros((3, 4), np.float32))
    text = str(error.value).lower()
    assert not [
        part for part in ("numpy", "ufunc", "out of bounds", "could not be broadcast", "unpack") if part in text
    ]


EVIL = "a\x1b[2J\n" + "b" * 5000


@pytest.mark.parametrize("where", ["op_type", "name", "domain", "attribute", "input", "output"])
def test_names_of_a_model_are_escaped_and_cut(where):
    one = node("Relu", "x", "n")
    inputs, outputs = [("x", F, [2])], [("y", F, None)]
    if where == "attribute":
        one.attribute.append(helper.make_attribute(EVIL, 1))
    elif where == "input":
        one.input[0] = EVIL
    elif where == "output":
        outputs = [(EVIL, F, None)]
    elif where == "name":
        one.name, one.op_type = EVIL, "Nothing"
    else:
        setattr(one, where, EVIL)
    with pytest.raises((ModelFormatError, UnsupportedOperatorError)) as error:
        load(make([one], inputs, outputs))
    text = str(error.value)
    assert "\x1b" not in text and "\n" not in text and len(text) < 500
    assert "a\\x1b[2J" in text


def test_names_of_dimensions_are_escaped_and_cut():
    network = load(make([node("Neg")], [("x", F, [EVIL])], [("y", F, None)]))
    with pytest.raises(LiteError) as error:
        run(network, x=np.zeros((2, 2), np.float32))
    assert "\x1b" not in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 500
