"""Parts of ONNX models that contradict each other, or lack what they need, are refused and named."""

import numpy as np
import pytest
from onnx import TensorProto, helper
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
