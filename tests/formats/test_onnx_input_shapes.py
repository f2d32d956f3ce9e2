"""Shapes of inputs of ONNX models: what the model declares and depends on must hold when it runs."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import load, make, run

import megengine_lite
from megengine_lite.errors import ShapeError

F, I64 = TensorProto.FLOAT, TensorProto.INT64


def node(op, inputs, **attributes):
    return helper.make_node(op, inputs.split(), ["y"], **attributes)


def zeros(*shape):
    return np.zeros(shape, np.float32)


def numbers(*values):
    return np.array(values, np.int32)


WRONG = [
    ("rank", node("Neg", "x"), [("x", F, [3, 4])], {"x": zeros(3, 4, 1)}, "[3, 4] and was given [3, 4, 1]"),
    ("rank", node("Neg", "x"), [("x", F, ["n", None])], {"x": zeros(5)}, "[n, ?] and was given [5]"),
    ("scalar", node("Neg", "x"), [("x", F, [])], {"x": zeros(2)}, "[] and was given [2]"),
    (
        "length of a shape",
        node("Reshape", "x s"),
        [("x", F, [3, 2]), ("s", I64, [2])],
        {"x": zeros(3, 2), "s": numbers(2, 3, 1)},
        "input 's' is declared as [2] and was given [3]: dimension 0 must be 2",
    ),
    (
        "length of a part of a vector",
        node("ConstantOfShape", "s"),
        [("s", I64, [3])],
        {"s": numbers(2, 3)},
        "input 's' is declared as [3] and was given [2]: dimension 0 must be 3",
    ),
    (
        "window of a filter",
        node("Conv", "x f"),
        [("x", F, ["n", 1, 5, 5]), ("f", F, [1, 1, 3, 3])],
        {"x": zeros(1, 1, 5, 5), "f": zeros(1, 1, 2, 3)},
        "input 'f' is declared as [1, 1, 3, 3] and was given [1, 1, 2, 3]: dimension 2 must be 3",
    ),
    (
        "tuples of an index",
        node("GatherND", "x i"),
        [("x", F, [2, 2]), ("i", I64, [1, 1])],
        {"x": zeros(2, 2), "i": np.zeros((1, 2), np.int32)},
        "input 'i' is declared as [1, 1] and was given [1, 2]: dimension 1 must be 1",
    ),
    (
        "symbol",
        node("Add", "x z"),
        [("x", F, ["n", 2]), ("z", F, ["n", 1])],
        {"x": zeros(3, 2), "z": zeros(1, 1)},
        "input 'z' is declared as [n, 1] and was given [1, 1]: 'n' is 1 here and 3 in input 'x'",
    ),
    (
        "number of elements, which may choose a branch",
        node("Size", "x"),
        [("x", F, [3])],
        {"x": zeros(5)},
        "input 'x' is declared as [3] and was given [5]: dimension 0 must be 3",
    ),
    ("symbol in one input", node("Neg", "x"), [("x", F, ["n", "n"])], {"x": zeros(3, 2)}, "'n' is 2 here and 3"),
]


@pytest.mark.parametrize("what, one, inputs, given, message", WRONG, ids=[w[0] for w in WRONG])
def test_what_the_model_depends_on_is_an_error_at_the_run(what, one, inputs, given, message):
    network = load(make([one], inputs, [("y", I64 if one.op_type == "Size" else F, None)]))
    with pytest.raises(ShapeError) as error:
        run(network, **given)
    assert message in str(error.value)


def test_an_error_does_not_stay():
    network = load(make([node("Add", "x z")], [("x", F, ["n", 2]), ("z", F, ["n", 2])], [("y", F, None)]))
    with pytest.raises(ShapeError):
        run(network, x=zeros(3, 2), z=zeros(1, 2))
    for n in (3, 4):
        assert run(network, x=zeros(n, 2), z=zeros(n, 2))[0].shape == (n, 2)
    with pytest.raises(ShapeError):
        run(network, x=zeros(4, 2), z=zeros(3, 2))


def test_an_input_that_nothing_reads_counts_as_well():
    network = load(make([node("Neg", "x")], [("x", F, ["n"]), ("z", F, ["n"])], [("y", F, None)]))
    run(network, x=zeros(3), z=zeros(3))
    with pytest.raises(ShapeError, match="'n' is 2 here and 3 in input 'x'"):
        run(network, x=zeros(3), z=zeros(2))


@pytest.mark.parametrize(
    "op, declared, shape, result",
    [("Size", ["n"], (5,), [5]), ("Shape", [3], (5,), [5]), ("Size", [2, 3], (5, 4), [20]), ("Shape", [2], (0,), [0])],
)
def test_sizes_are_those_that_came(op, declared, shape, result):
    network = load(make([node(op, "x")], [("x", F, declared)], [("y", I64, None)]))
    assert run(network, x=zeros(*shape))[0].tolist() == result


def test_sizes_that_nothing_depends_on_may_be_others():
    for declared, shape in (([3], (5,)), ([2, 3], (4, 1)), ([1], (3,))):
        network = load(make([node("Neg", "x")], [("x", F, declared)], [("y", F, None)]))
        assert run(network, x=zeros(*shape))[0].shape == shape


def squeezed(where):
    """A model whose output has as many dimensions as the input has sizes above 1, which only a run can tell."""
    squeeze = helper.make_node("Squeeze", ["x"], ["s"])
    nodes, functions = [squeeze, helper.make_node("Relu", ["s"], ["y"])], []
    if where == "function":
        inner = [helper.make_node("Squeeze", ["p"], ["q"])]
        functions = [helper.make_function("own", "Cut", ["p"], ["q"], inner, [helper.make_opsetid("", 12)])]
        nodes[0] = helper.make_node("Cut", ["x"], ["s"], domain="own")
    if where == "branch":
        made = helper.make_empty_tensor_value_info("b")
        then, other = (
            helper.make_graph([squeeze, helper.make_node(op, ["s"], ["b"])], op, [], [made]) for op in ("Relu", "Neg")
        )
        nodes = [helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)]
    outputs = [("y", F, None), ("z", F, ["n", "m"])]
    nodes.append(helper.make_node("Abs", ["x"], ["z"]))
    inputs = [("x", F, ["n", "m"]), *([("c", TensorProto.BOOL, [])] if where == "branch" else [])]
    opsets = [helper.make_opsetid("own", 1)] if functions else []
    return make(nodes, inputs, outputs, {}, 12, functions, opsets)


@pytest.mark.parametrize("where", ["graph", "function", "branch"])
def test_outputs_have_the_number_of_dimensions_that_each_run_gives_them(where):
    model = megengine_lite.load(squeezed(where).SerializeToString())
    for shape in [(1, 1), (1, 3), (2, 3), (1, 1), (2, 1), (1, 1), (1, 1)]:
        x = np.arange(1, 1 + shape[0] * shape[1], dtype=np.float32).reshape(shape)
        outputs = model({"x": x, **({"c": np.array(True)} if where == "branch" else {})})
        assert outputs["y"].shape == x.squeeze().shape and outputs["z"].shape == shape
        np.testing.assert_array_equal(outputs["y"], x.squeeze())


def test_prepared_files_keep_the_number_of_dimensions_of_their_outputs(tmp_path):
    source, path = tmp_path / "model.onnx", tmp_path / "model.prepared"
    source.write_bytes(squeezed("graph").SerializeToString())
    with megengine_lite.load(source, threads=1) as model:
        model.prepare(path, np.ones((1, 1), np.float32))
    with megengine_lite.load(source, threads=1, prepared=path) as model:
        assert model(np.float32([[3]]))["y"].shape == ()
