"""Parts of ONNX models that contradict each other, or lack what they need, are refused and named."""

import numpy as np
import pytest
from onnx import AttributeProto, TensorProto, helper
from support.onnx_models import load, make, run

from megengine_lite.errors import ModelFormatError, ShapeError

F, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
X = [("x", F, [3])]


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def typed(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


# ---- names with two values ------------------------------------------------------------------------------------------

PLACES = [
    ("the model", "an initializer"),
    ("the model", "an input of the graph"),
    ("a branch", "an initializer"),
    ("a loop", "an initializer"),
    ("a loop", "an input of the graph"),
]


@pytest.mark.parametrize("name", ["a", "y"])
@pytest.mark.parametrize("uses", ["before", "behind", "not", "itself"])
@pytest.mark.parametrize(("place", "what"), PLACES)
def test_a_name_has_one_value(place, what, uses, name):
    """A node that makes the value of an initializer or an input: which one others read would follow from the order."""
    nodes = {
        "before": [node("Neg", "a", "z"), node("Abs", "x", "a"), node("Add", "z x", "y")],
        "behind": [node("Abs", "x", "a"), node("Neg", "a", "y")],
        "not": [node("Abs", "x", "a"), node("Neg", "x", "y")],
        "itself": [node("Abs", "a", "a"), node("Neg", "y", "y")],
    }[uses]
    inputs = [typed("x", F, [3])] + [typed(name, F, [3])] * (what != "an initializer")
    stored = [helper.make_tensor(name, F, [3], [1, 1, 1])] * (what == "an initializer")
    states = ["x"] * len(inputs)
    results = [typed("y", F, [3])] * len(inputs)
    match place:
        case "the model":
            model = make(nodes, X, [("y", F, [3])])
            del model.graph.input[:]
            model.graph.input.extend(inputs)
            model.graph.initializer.extend(stored)
        case "a branch":
            branch = helper.make_graph(nodes, "b", [], results, stored)
            chosen = helper.make_node("If", ["c"], ["r"], then_branch=branch, else_branch=branch)
            model = make([chosen], [*X, ("c", BOOL, [])], [("r", F, [3])])
        case "a loop":
            own = [typed("i", I64, []), typed("c", BOOL, [])]
            nodes.append(node("Identity", "c", "goes_on"))
            body = helper.make_graph(nodes, "b", [*own, *inputs], [typed("goes_on", BOOL, []), *results], stored)
            loop = helper.make_node("Loop", ["", "k", *states], ["r", "s"][: len(states)], body=body)
            model = make([loop], [*X, ("k", BOOL, [])], [("r", F, [3])])
    with pytest.raises(ModelFormatError, match=f"the result '{name}' of .* is {what}, too; give one of them another"):
        load(model)


def test_results_of_functions_are_not_their_inputs():
    nodes = [node("Neg", "a", "a"), node("Abs", "a", "b")]
    function = helper.make_function("q", "Twice", ["a"], ["b"], nodes, [helper.make_opsetid("", 17)])
    call = [node("Twice", "x", "y", domain="q")]
    model = make(call, X, [("y", F, [3])], functions=[function], opsets=[helper.make_opsetid("q", 1)])
    with pytest.raises(ModelFormatError, match="the result 'a' of Neg 'a' is an input of the function, too"):
        load(model)


# ---- types ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lacks", ["type", "tensor_type", "elem_type"])
def test_an_input_without_a_type_is_not_valid(lacks):
    model = make([node("Relu", "x", "y")], X, [("y", F, [3])])
    owners = {"type": model.graph.input[0], "tensor_type": model.graph.input[0].type}
    owners.get(lacks, model.graph.input[0].type.tensor_type).ClearField(lacks)
    with pytest.raises(ModelFormatError, match="input 'x' has no type; give it one and export again"):
        load(model)


# ---- sizes ----------------------------------------------------------------------------------------------------------

SIZED = {
    "CenterCropPad": ["x", "s"],
    "ConstantOfShape": ["s"],
    "Expand": ["x", "s"],
    "Reshape": ["x", "s"],
    "Resize": ["x", "", "", "s"],
    "Split": ["x", "s"],
    "Tile": ["x", "s"],
}


@pytest.mark.parametrize("computed", [True, False])
@pytest.mark.parametrize("factor", [2, 2**10, 2**31])
@pytest.mark.parametrize("op", sorted(SIZED))
def test_sizes_that_no_tensor_has_are_told_as_sizes(op, factor, computed):
    """Those that do not fit 32 bits, too, whether they are constants or computed when the model runs."""
    nodes = [helper.make_node(op, SIZED[op], ["y", "z"][: 1 + (op == "Split")]), node("Neg", "x", "n")]
    inputs, given = [("x", F, [2, 3])], {"x": np.ones((2, 3), np.float32)}
    values = {"s": np.array([factor << 30, 3 << 30])}
    if computed:
        nodes.append(node("Mul", "t large", "s"))
        inputs.append(("t", I64, [2]))
        given["t"], values = np.array([min(factor, 2**20), 3], np.int32), {"large": np.array(2**30)}
    with pytest.raises(ShapeError, match=r"size|shape|elements") as raised:
        run(load(make(nodes, inputs, [("y", F, None), ("n", F, None)], values, opset=18)), **given)
    assert "API" not in str(raised.value)


# ---- attributes and values that are given twice ---------------------------------------------------------------------


def leaky(**attributes):
    made = node("LeakyRelu", "x", "y", **attributes)
    return made, made.attribute


def refers():
    """A node whose slope is an attribute of the caller of a function."""
    made, attributes = leaky()
    attributes.add(name="alpha", ref_attr_name="slope", type=AttributeProto.FLOAT)
    return made


@pytest.mark.parametrize("place", ["the model", "a branch"])
def test_only_functions_have_callers(place):
    nodes, inputs = [refers()], X
    if place == "a branch":
        branch = helper.make_graph(nodes, "b", [], [typed("y", F, [3])])
        nodes, inputs = [node("If", "c", "y", then_branch=branch, else_branch=branch)], [*X, ("c", BOOL, [])]
    message = "the attribute 'alpha' of LeakyRelu 'y' stands for 'slope' of a function's caller, and is in no function"
    with pytest.raises(ModelFormatError, match=message):
        load(make(nodes, inputs, [("y", F, [3])]))


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("given, expected", [({"slope": 0.5}, -0.5), ({}, -0.01)])
def test_functions_take_attributes_of_their_callers(given, expected, nested):
    nodes = [refers()]
    if nested:
        branch = helper.make_graph(nodes, "b", [], [typed("y", F, [3])])
        truth = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("c", BOOL, [], [1]))
        nodes = [truth, node("If", "c", "y", then_branch=branch, else_branch=branch)]
    function = helper.make_function("q", "Leaky", ["x"], ["y"], nodes, [helper.make_opsetid("", 17)], ["slope"])
    call = [node("Leaky", "x", "y", domain="q", **given)]
    model = make(call, X, [("y", F, [3])], functions=[function], opsets=[helper.make_opsetid("q", 1)])
    np.testing.assert_allclose(run(load(model), x=-np.ones(3, np.float32))[0], [expected] * 3, rtol=1e-6)


VALUES = {
    "f": 0.5,
    "i": 3,
    "s": b"text",
    "t": helper.make_tensor("t", F, [1], [1]),
    "floats": [0.5],
    "ints": [3],
    "strings": [b"text"],
    "tensors": [helper.make_tensor("t", F, [1], [1])],
}


@pytest.mark.parametrize("field", sorted(VALUES))
@pytest.mark.parametrize("also", [True, False])
def test_an_attribute_has_one_value_of_its_kind(field, also):
    """The package onnx and ONNX Runtime refuse all else."""
    made, attributes = leaky(alpha=0.25)
    if not also:
        attributes[0].ClearField("f")
    value = VALUES[field]
    if isinstance(value, list):
        getattr(attributes[0], field).extend(value)
    elif field == "t":
        attributes[0].t.CopyFrom(value)
    else:
        setattr(attributes[0], field, value)
    model = make([made], X, [("y", F, [3])])
    if field == "f":
        load(model)
        return
    message = "has 2 values: f, " if also else "must be of the kind "
    with pytest.raises(ModelFormatError, match=f"the attribute 'alpha' of LeakyRelu 'y' {message}"):
        load(model)


def test_of_two_values_of_a_tensor_the_bytes_count():
    """ONNX Runtime reads them so, too. Lists that are not for the type of the tensor count nowhere."""
    stored = helper.make_tensor("w", F, [3], np.float32([1, 2, 3]).tobytes(), raw=True)
    stored.float_data.extend([7, 8, 9])
    stored.int32_data.extend([7, 8, 9])
    model = make([node("Add", "x w", "y")], X, [("y", F, [3])])
    model.graph.initializer.append(stored)
    np.testing.assert_array_equal(run(load(model), x=np.zeros(3, np.float32))[0], [1, 2, 3])


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
@pytest.mark.parametrize("first, last", [(12, 13), (13, 12)])
def test_of_two_imports_of_a_domain_the_last_one_counts(first, last, domain):
    """So they do for the package onnx and for ONNX Runtime. Softmax of version 12 takes all but the first axis."""
    imports = [helper.make_opsetid(domain, last)]
    model = make(
        [node("Softmax", "x", "y", axis=1)], [("x", F, [1, 2, 2])], [("y", F, [1, 2, 2])], (), first, (), imports
    )
    (y,) = run(load(model), x=np.zeros((1, 2, 2), np.float32))
    np.testing.assert_allclose(y, np.full((1, 2, 2), 0.25 if last == 12 else 0.5))
