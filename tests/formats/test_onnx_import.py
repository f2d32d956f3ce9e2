"""ONNX models become graphs: nodes in any order, functions, branches, scalars, int64, symbolic dimensions."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import expected, load, make, run

from megengine_lite._core.cpu.steps import HostStep
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.formats.onnx import graph_converter
from megengine_lite._core.formats.onnx.inference import Inference
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.graph import AnyNode, AnyVar, TensorSpec, Var
from megengine_lite._core.ir.params import Cumsum
from megengine_lite._core.operators import REGISTRY
from megengine_lite.errors import (
    InternalError,
    LiteError,
    LiteValueError,
    ModelFormatError,
    ShapeError,
    UnsupportedOperatorError,
)

F, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
X = np.arange(-6, 6, dtype=np.float32).reshape(3, 4) / 2


def node(op, inputs, outputs, name="", **attributes):
    return helper.make_node(op, inputs.split(" "), outputs.split(" "), name, **attributes)


def check(model, tolerance=1e-5, **given):
    results = run(load(model), **given)
    for ours, theirs in zip(results, expected(model, **given), strict=True):
        assert ours.shape == (theirs.shape or (1,))
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    return results


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KeyError("no"), InternalError),
        (IndexError("no"), InternalError),
        (TypeError("no"), InternalError),
        (AttributeError("no"), InternalError),
        (ValueError("no"), ModelFormatError),
        (ZeroDivisionError("no"), ModelFormatError),
        (np.exceptions.DTypePromotionError("no"), ModelFormatError),
    ],
)
def test_mistake_in_a_converter_is_our_fault(monkeypatch, error, kind):
    def fails(call):
        raise error

    monkeypatch.setattr(graph_converter, "find_converter", lambda *name: fails)
    model = make([node("Neg", "x", "y", "minus")], [("x", F, [3, 4])], [("y", F, [3, 4])])
    with pytest.raises(kind, match="Neg 'minus'") as raised:
        load(model)
    assert type(raised.value) is kind and raised.value.__cause__ is error


@pytest.mark.parametrize(
    ("error", "is_ours"),
    [(KeyError("no"), True), (TypeError("no"), True), (InternalError("no"), True), (ShapeError("no"), False)],
)
def test_mistake_in_an_inference_while_loading_is_our_fault(monkeypatch, error, is_ours):
    def fails(*arguments):
        raise error

    inference = Inference()
    x, y = Var(0, "x", TensorSpec((3, 4), FLOAT32)), AnyVar(1, "y")
    inference.given[x] = x.spec
    inference.add(AnyNode("Cumsum", Cumsum(axis=1), [x], [y], "total"))
    monkeypatch.setattr(REGISTRY["Cumsum"], "infer", fails, raising=False)
    if not is_ours:
        assert inference.find(y) is None
        return
    with pytest.raises(InternalError) as raised:
        inference.find(y)
    assert raised.value is error or raised.value.__cause__ is error


def test_nodes_in_any_order_and_nodes_that_nothing_needs():
    nodes = [
        node("Add", "b c", "y"),
        node("Unknown", "x", "never"),
        node("Relu", "a", "b"),
        node("Neg", "x", "a"),
        node("Abs", "x", "c"),
    ]
    model = make(nodes, [("x", F, [3, 4])], [("y", F, [3, 4])])
    np.testing.assert_array_equal(run(load(model), x=X)[0], np.maximum(-X, 0) + np.abs(X))


def test_initializers_that_are_also_inputs_are_constants():
    model = make([node("Add", "x w", "y")], [("x", F, [3, 4]), ("w", F, [4])], [("y", F, [3, 4])], {"w": X[0]})
    network = load(model)
    assert network.get_all_input_name() == ["x"]
    np.testing.assert_array_equal(run(network, x=X)[0], X + X[0])


def test_an_input_or_a_constant_can_be_an_output():
    model = make([node("Identity", "x", "y")], [("x", F, [3, 4])], [("y", F, [3, 4]), ("w", F, [2])], {"w": X[0, :2]})
    y, w = run(load(model), x=X)
    np.testing.assert_array_equal(y, X)
    np.testing.assert_array_equal(w, X[0, :2])


def test_optional_inputs_may_be_left_out_at_any_place():
    model = make([node("Clip", "x  high", "y")], [("x", F, [3, 4])], [("y", F, [3, 4])], {"high": np.float32(0.5)})
    check(model, x=X)


def test_symbolic_dimensions_change_between_runs():
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "n"),
        node("Unsqueeze", "n axes", "n1"),
        node("Concat", "n1 rest", "target", axis=0),
        node("Reshape", "x target", "flat"),
        node("MatMul", "flat w", "y"),
    ]
    constants = {
        "zero": np.int64(0),
        "axes": np.array([0]),
        "rest": np.array([-1]),
        "w": np.linspace(-1, 1, 24, dtype=np.float32).reshape(12, 2),
    }
    model = make(nodes, [("x", F, ["batch", 3, "length"])], [("y", F, ["batch", 2])], constants)
    network = load(model)
    assert list(network.get_io_tensor("x").layout.shapes) == [1, 3, 1]
    for batch in (1, 5):
        x = np.random.default_rng(batch).standard_normal((batch, 3, 4)).astype(np.float32)
        np.testing.assert_allclose(run(network, x=x)[0], x.reshape(batch, 12) @ constants["w"], rtol=1e-5, atol=1e-5)


def test_fixed_dimensions_change_as_those_of_other_models():
    network = load(make([node("Relu", "x", "y")], [("x", F, [3, 4])], [("y", F, [3, 4])]))
    np.testing.assert_array_equal(run(network, x=X[:2])[0], np.maximum(X[:2], 0))


def test_scalars_have_one_dimension_and_are_named():
    nodes = [node("ReduceSum", "x", "total", keepdims=0), node("Mul", "total s", "y"), node("Shape", "y", "none")]
    model = make(nodes, [("x", F, [3, 4]), ("s", F, [])], [("y", F, []), ("none", I64, [0])])
    _, none = check(model, x=X, s=np.float32(2))
    assert none.shape == (0,)
    assert load_model(model.SerializeToString()).scalars == {"s", "y"}


def test_a_scalar_index_removes_its_axis_and_a_vector_keeps_it():
    nodes = [node("Gather", "x one", "row", axis=0), node("Gather", "x some", "rows", axis=-1)]
    constants = {"one": np.int64(-1), "some": np.array([0, -2])}
    check(make(nodes, [("x", F, [3, 4])], [("row", F, [4]), ("rows", F, [3, 2])], constants), x=X)


def test_int64_is_int32_at_the_api_and_int64_inside():
    nodes = [node("Mul", "x x", "square"), node("Div", "square x", "y")]
    model = make(nodes, [("x", I64, [3])], [("y", I64, [3])])
    network = load(model)
    value = np.array([-7, 2**31 - 1, 5], np.int32)
    (y,) = run(network, x=value)
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y, value)
    too_large = load(make(nodes[:1], [("x", I64, [3])], [("square", I64, [3])]))
    with pytest.raises(LiteValueError, match="are no int32, which the API has in place of int64"):
        run(too_large, x=value)


def test_integers_are_divided_towards_zero():
    model = make(
        [node("Div", "x y", "z")], [("x", TensorProto.INT32, [4]), ("y", TensorProto.INT32, [4])], [("z", 6, [4])]
    )
    (z,) = run(load(model), x=np.int32([-7, 7, -8, 8]), y=np.int32([2, -2, 2, 3]))
    np.testing.assert_array_equal(z, [-3, -3, -4, 2])


def test_functions_are_replaced_by_their_nodes():
    inner = helper.make_function(
        "own", "Scaled", ["a"], ["b"], [
            helper.make_node("Constant", [], ["c"], value_float=3.0),
            helper.make_node("Mul", ["a", "c"], ["m"]),
            node("LeakyRelu", "m", "b"),
        ], [helper.make_opsetid("", 17)], ["alpha"],
    )  # fmt: skip
    reference = inner.node[2].attribute.add(name="alpha", ref_attr_name="slope", type=1)
    assert reference.ref_attr_name == "slope"
    inner.attribute[:] = ["slope"]
    outer = helper.make_function(
        "own", "Twice", ["a"], ["b"],
        [node("Scaled", "a", "t", domain="own", slope=0.5), node("Scaled", "t", "b", domain="own")],
        [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)],
    )  # fmt: skip
    own = [helper.make_opsetid("own", 1)]
    model = make(
        [node("Twice", "x", "y", domain="own")], [("x", F, [3, 4])], [("y", F, [3, 4])], (), 17, [outer, inner], own
    )
    first = np.where(X < 0, 0.5, 1) * X * 3
    np.testing.assert_allclose(run(load(model), x=X)[0], np.where(first < 0, 0.01, 1) * first * 3, rtol=1e-6)


def test_branches_may_have_names_of_the_graph_around_them():
    out = [helper.make_tensor_value_info("y", F, [3, 4])]
    yes = helper.make_graph([node("Neg", "x", "later"), node("Abs", "later", "y")], "yes", [], out)
    no = helper.make_graph([node("Relu", "x", "y")], "no", [], out)
    nodes = [
        helper.make_node("If", ["c"], ["y"], then_branch=yes, else_branch=no),
        node("Add", "y y", "later"),
    ]
    for choice in (True, False):
        c = {"c": np.array(choice)}
        model = make(nodes, [("x", F, [3, 4])], [("y", F, [3, 4]), ("later", F, [3, 4])], c)
        check(model, x=X)


@pytest.mark.parametrize("inputs", ["x", "x "])
def test_inputs_of_functions_may_be_left_out(inputs):
    own = helper.make_function(
        "own", "AtLeast", ["a", "low"], ["b"], [node("Clip", "a low", "b")], [helper.make_opsetid("", 17)]
    )
    model = make([node("AtLeast", inputs, "y", domain="own")], [("x", F, [3, 4])], [("y", F, [3, 4])], functions=[own])
    np.testing.assert_array_equal(run(load(model), x=X)[0], X)


def test_functions_that_give_what_is_left_out_are_refused():
    own = helper.make_function("own", "Second", ["a", "b"], ["b"], [], [helper.make_opsetid("", 17)])
    model = make([node("Second", "x", "y", domain="own")], [("x", F, [3, 4])], [("y", F, [3, 4])], functions=[own])
    with pytest.raises(ModelFormatError, match="'b', which its caller leaves out"):
        load(model)


def test_groups_of_a_filter_that_is_an_input():
    io = [("x", F, ["n", "c", "h", "w"]), ("f", F, ["o", "i", "p", "q"])], [("y", F, ["n", "o", "h", "w"])]
    given = {"x": np.arange(144, dtype=np.float32).reshape(1, 4, 6, 6) / 9, "f": np.eye(6, 18).astype(np.float32)}
    given["f"] = given["f"].reshape(6, 2, 3, 3)
    check(make([node("Conv", "x f", "y", kernel_shape=[3, 3], group=2)], *io), **given)


def test_length_of_what_is_broadcast_with_nothing():
    nodes = [node("Add", "x e", "s"), node("Size", "s", "y")]
    model = make(nodes, [("x", F, [1]), ("e", F, [0])], [("y", I64, [])])
    assert run(load(model), x=X[0, :1], e=X[0, :0])[0].tolist() == [0]


def test_functions_that_call_themselves_are_refused():
    again = helper.make_function("own", "Again", ["a"], ["b"], [node("Again", "a", "b", domain="own")], [])
    own = [helper.make_opsetid("own", 1)]
    model = make([node("Again", "x", "y", domain="own")], [("x", F, [1])], [("y", F, [1])], (), 17, [again], own)
    with pytest.raises(ModelFormatError, match="'Again' calls itself"):
        load(model)


def test_functions_that_grow_without_end_are_refused():
    functions = []
    for k in range(40):
        body = [node(f"F{k + 1}", "a", "t", domain="own"), node(f"F{k + 1}", "t", "b", domain="own")]
        functions.append(helper.make_function("own", f"F{k}", ["a"], ["b"], body, []))
    functions.append(helper.make_function("own", "F40", ["a"], ["b"], [node("Neg", "a", "b")], []))
    own = [helper.make_opsetid("own", 1)]
    model = make([node("F0", "x", "y", domain="own")], [("x", F, [1])], [("y", F, [1])], (), 17, functions, own)
    with pytest.raises(ModelFormatError, match="more than 131072 nodes"):
        load(model)


@pytest.mark.parametrize("condition", [True, False])
def test_a_branch_on_a_constant_is_chosen(condition):
    y = helper.make_tensor_value_info("y", F, [3, 4])
    then = helper.make_graph([node("Add", "x w", "y")], "then", [], [y], [helper.make_tensor("w", F, [1], [2.0])])
    otherwise = helper.make_graph([node("Sub", "x w", "y")], "else", [], [y])
    nodes = [node("If", "c", "z", then_branch=then, else_branch=otherwise)]
    constants = {"c": np.array(condition), "w": np.float32([5])}
    model = make(nodes, [("x", F, [3, 4])], [("z", F, [3, 4])], constants)
    np.testing.assert_array_equal(run(load(model), x=X)[0], X + 2 if condition else X - 5)


def test_everything_that_is_missing_is_listed_with_the_names_of_nodes():
    nodes = [
        node("Nothing", "x", "a", "first"),
        node("Relu", "a", "b", "behind"),
        node("Other", "x", "c", "second", domain="mine"),
        node("Gelu", "x", "d", "third"),
        node("Sum", "b c d", "y"),
    ]
    model = make(nodes, [("x", F, [3])], [("y", F, [3])], (), 17, (), [helper.make_opsetid("mine", 1)])
    with pytest.raises(UnsupportedOperatorError) as error:
        load(model)
    text = str(error.value)
    for part in (
        "Nothing 'first' (there is no such operator here)",
        "mine.Other 'second'",
        "Gelu 'third'",
    ):
        assert part in text
    assert "behind" not in text


@pytest.mark.parametrize("opset", [5, 99])
def test_versions_of_operators_that_are_not_read_are_refused(opset):
    model = make([node("Relu", "x", "y")], [("x", F, [3])], [("y", F, [3])], (), opset)
    with pytest.raises(UnsupportedOperatorError, match=rf"version {opset} .* only 6 to 28"):
        load(model)


def two(op):
    return [node(op, "x", "y"), node(op, "x", "y")]


@pytest.mark.parametrize(
    "nodes, message",
    [
        (two("Relu"), "the result 'y' of Relu 'y' is the result of another node, too"),
        ([node("Add", "x z", "y"), node("Neg", "y", "z")], "need each other's results"),
        ([node("Add", "x y", "y")], "the node 'y' needs its own result"),
        ([node("Add", "x nowhere", "y")], "the value 'nowhere' is read, and no node before it makes it"),
        ([node("Relu", "x", "other")], "the value 'y' is read"),
        ([node("Transpose", "x", "y", perm=[0])], "is no order of 2 axes"),
        ([node("Concat", "x x", "y", axis=2)], "Concat 'y': there is no axis 2 in 2 dimensions"),
        ([helper.make_node("Add", ["x"], ["y"])], "Add 'y': input 1 is missing"),
        ([node("LeakyRelu", "x", "y", alpha=3)], "'alpha' must be of the kind FLOAT"),
    ],
)
def test_parts_that_do_not_fit_are_refused(nodes, message):
    with pytest.raises(LiteError, match=message):
        load(make(nodes, [("x", F, [3, 4])], [("y", F, [3, 4])]))


@pytest.mark.parametrize("version", [1, 29, 30, 99, 127])
def test_versions_of_the_format_are_all_read(version, tmp_path):
    """From a file and as bytes, which have no name that says what they are."""
    model = make([node("Neg", "x", "y")], [("x", F, [2])], [("y", F, [2])])
    model.ir_version = version
    (tmp_path / "model").write_bytes(model.SerializeToString())
    for source in (model.SerializeToString(), tmp_path / "model"):
        assert run(load(source), x=np.float32([1, 2]))[0].tolist() == [-1, -2]


def test_inputs_without_a_known_rank_or_type_are_refused():
    with pytest.raises(UnsupportedOperatorError, match=r"input 'x' \(it has no shape"):
        load(make([node("Relu", "x", "y")], [("x", F, None)], [("y", F, None)]))
    with pytest.raises(UnsupportedOperatorError, match=r"input 'x' \(it has elements of type STRING"):
        load(make([node("Identity", "x", "y")], [("x", TensorProto.STRING, [1])], [("y", TensorProto.STRING, [1])]))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", ["RNN", "LSTM", "GRU"])
def test_recurrent_layers_with_constant_weights(op, direction, bias):
    """Some of these run by kernels; weights that are inputs, as in the cases of onnx, never do."""
    rng = np.random.default_rng(3)
    gates, directions = {"RNN": 1, "GRU": 3, "LSTM": 4}[op], 2 if direction == "bidirectional" else 1
    constants = {
        "w": rng.standard_normal((directions, gates * 5, 4)).astype(np.float32),
        "r": rng.standard_normal((directions, gates * 5, 5)).astype(np.float32) / 2,
        "b": rng.standard_normal((directions, gates * 10)).astype(np.float32),
    }
    outputs = ["y", "h", "c"] if op == "LSTM" else ["y", "h"]
    inputs = ["x", "w", "r", *(["b"] if bias else [])]
    nodes = [helper.make_node(op, inputs, outputs, hidden_size=5, direction=direction)]
    model = make(nodes, [("x", F, ["t", "n", 4])], [(o, F, None) for o in outputs], constants)
    network = load(model)
    for length, batch in ((3, 2), (6, 1)):
        x = rng.standard_normal((length, batch, 4)).astype(np.float32)
        y, *last = run(network, x=x)
        _check_layer(op, direction, constants, bias, x, y, last)


def _check_layer(op, direction, constants, bias, x, y, last):
    """Compares with a plain loop over the steps."""

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    size = 5
    assert y.shape == (len(x), len(constants["w"]), x.shape[1], size)
    for k in range(len(constants["w"])):
        w, r = constants["w"][k].astype(np.float64), constants["r"][k].astype(np.float64)
        b = constants["b"][k].astype(np.float64) if bias else np.zeros(2 * len(w))
        wb, rb = b[: len(w)], b[len(w) :]
        h = c = np.zeros((x.shape[1], size))
        backward = direction == "reverse" or k == 1
        for t in list(range(len(x)))[:: -1 if backward else 1]:
            a, s = x[t] @ w.T + wb, h @ r.T + rb
            if op == "RNN":
                h = np.tanh(a + s)
            elif op == "LSTM":
                i, o, f, g = np.split(a + s, 4, 1)
                c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
            else:
                z, reset = sigmoid(a[:, :5] + s[:, :5]), sigmoid(a[:, 5:10] + s[:, 5:10])
                inner = (reset * h) @ r[10:].T + rb[10:]
                h = (1 - z) * np.tanh(a[:, 10:] + inner) + z * h
            np.testing.assert_allclose(y[t, k], h, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(last[0][k], h, rtol=1e-4, atol=1e-5)
        if op == "LSTM":
            np.testing.assert_allclose(last[1][k], c, rtol=1e-4, atol=1e-5)


def test_shapes_cost_no_step_in_numpy():
    """Sizes and limits are int64 in the model; nodes that read them run by kernels all the same."""
    nodes = [
        node("Shape", "x", "s"),
        node("Slice", "s zero two", "lead"),
        node("Concat", "lead heads", "split", axis=0),
        node("Reshape", "x split", "h"),
        node("Transpose", "h", "t", perm=[0, 2, 1, 3]),
        node("Slice", "t zero most axis", "part"),
        node("Mul", "two two", "four"),
        node("Expand", "part four_more", "e"),
        node("Split", "e", "a b", axis=3),
        node("Add", "a b", "sum"),
        node(
            "Resize",
            "sum  scales",
            "y",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
    ]
    constants = {
        "zero": np.array([0]),
        "two": np.array([2]),
        "heads": np.array([2, 6]),
        "most": np.array([2**63 - 1]),
        "axis": np.array([2]),
        "four_more": np.array([1, 2, 1, 1]),
        "scales": np.float32([1, 1, 2, 3]),
    }
    model = make(nodes, [("x", F, ["n", "t", 12])], [("y", F, None)], constants)
    network = load(model)
    for length in (5, 7):
        x = np.random.default_rng(length).standard_normal((2, length, 12)).astype(np.float32)
        (y,) = run(network, x=x)
        heads = x.reshape(2, length, 2, 6).transpose(0, 2, 1, 3)
        total = heads[..., :3] + heads[..., 3:]
        np.testing.assert_array_equal(y, total.repeat(2, 2).repeat(3, 3))
    steps = [step for plan in network._engine.session.plans() for step in plan.steps]
    assert steps and not [step for step in steps if isinstance(step, HostStep)]
