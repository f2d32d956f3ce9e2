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


def sparse(name):
    """An initializer that is too large as a dense one."""
    values = onnx.numpy_helper.from_array(np.float32([1, 2]), name)
    return helper.make_sparse_tensor(values, onnx.numpy_helper.from_array(np.array([1, 3]), "places"), [2**31])


def with_other_faults(kind):
    """A model with nodes of no known operator, and something else that cannot be read."""
    nodes = [node("Add", "x s", "first")]
    nodes += [helper.make_node("Foo", ["y"], ["a"], "foo"), helper.make_node("Bar", ["a"], ["z"], "bar")]
    functions, opsets, opset = [], [], 17
    initializers = {} if kind == "sparse" else {"s": np.float32([1, 2, 3, 4])}
    if kind == "function":
        body = [helper.make_node("Baz", ["p"], ["q"], "baz")]
        functions = [helper.make_function("own", "Call", ["p"], ["q"], body, [helper.make_opsetid("", 99)])]
        opsets = [helper.make_opsetid("own", 1)]
        nodes.append(helper.make_node("Call", ["x"], ["w"], "call", domain="own"))
        nodes.append(helper.make_node("Sum", ["w", "z"], ["v"]))
    outputs = [("v" if kind == "function" else "z", F, None)]
    opset = {"new": 99, "old": 3}.get(kind, opset)
    model = make(nodes, [("x", F, [4])], outputs, initializers, opset, functions, opsets)
    if kind == "sparse":
        model.graph.sparse_initializer.append(sparse("s"))
    return model


OTHER_FAULTS = {
    "sparse": r"Add 'first' \(sparse tensor 's' of shape \(2147483648,\) would have more than 268435456 bytes",
    "new": "operators of version 99 of the standard are not read, only 6 to .*; a newer megengine_lite may read it",
    "old": "operators of version 3 of the standard are not read, only 6 to .*; convert the model",
    "function": r"version 99 .* Baz 'baz' \(there is no such operator here\)",
}


@pytest.mark.parametrize("kind", OTHER_FAULTS)
def test_what_is_missing_is_listed_next_to_other_faults(kind):
    with pytest.raises(UnsupportedOperatorError, match=OTHER_FAULTS[kind]) as caught:
        load(with_other_faults(kind))
    for name in ("foo", "bar"):
        assert f"'{name}' (there is no such operator here)" in str(caught.value)


@pytest.mark.parametrize("where", ["graph", "branch", "output", "unread"])
def test_sparse_initializers_that_are_too_large_are_told_by_what_reads_them(where):
    nodes, output = [node("Neg", "s" if where == "graph" else "x", "reader")], "y"
    if where == "branch":
        made = [helper.make_tensor_value_info("p", F, None)]
        inner = helper.make_graph([helper.make_node("Relu", ["s"], ["p"], "inner")], "inner", [], made)
        inner.sparse_initializer.append(sparse("s"))
        other = helper.make_graph([helper.make_node("Relu", ["x"], ["p"])], "other", [], made)
        nodes = [node("If", "c", "if", then_branch=inner, else_branch=other)]
    model = make(nodes, [("x", F, [4]), ("c", TensorProto.BOOL, [])], [("s" if where == "output" else output, F, None)])
    if where != "branch":
        model.graph.sparse_initializer.append(sparse("s"))
    if where == "unread":
        np.testing.assert_array_equal(run(load(model), x=np.float32([1, 2, 3, 4]))[0], [-1, -2, -3, -4])
        return
    reader = {"graph": "Neg 'reader'", "branch": "Relu 'inner'", "output": "output 's'"}[where]
    with pytest.raises(UnsupportedOperatorError, match=f"{reader} .sparse tensor 's' of shape"):
        load(model)
