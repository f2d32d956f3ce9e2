"""Files of MegEngine's have no node that the original drops, refuses or computes wrong because of shapes or numbers."""

import numpy as np
import pytest
from onnx import TensorProto, helper, parser
from support.graphs import run as run_session
from support.graphs import session_of
from support.onnx_cases import what_the_original_lacks
from support.onnx_models import load, make, run

from megengine_lite._core.compile.transform.for_original import for_original
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.formats.mge.to_record import new_record
from megengine_lite._core.formats.mge.writer_v2 import write_v2

F = TensorProto.FLOAT
RNG = np.random.default_rng(1)


def real(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def written(nodes, x, constants, declared):
    """The operators of the file, which gives what the model gives."""
    model = make(nodes, [("x", F, declared)], [("y", F, None)], constants)
    graph = for_original(load_model(model.SerializeToString()).graph, "model", {"x": x.shape})
    assert what_the_original_lacks(graph) == []
    content = b"".join(bytes(c) for c in write_v2(new_record(graph)))
    np.testing.assert_allclose(run(load(content), x=x)[0], run(load(model), x=x)[0], rtol=1e-5, atol=1e-6)
    return [node.op for node in graph.nodes], content, model


@pytest.mark.parametrize(("shape", "axis"), [((5,), -1), ((5,), 0), ((2, 3, 4), 0), ((2, 3, 4), -3), ((2, 3), 1)])
@pytest.mark.parametrize("mean", [0, 1000])
def test_layer_norms_are_pieces_that_are_one_step_here(shape, axis, mean):
    """The original loses digits where the mean is large, and needs an axis in front of the normalized ones."""
    x, rest = real(*shape) + np.float32(mean), shape[axis:]
    one = helper.make_node("LayerNormalization", ["x", "w", "b"], ["y"], axis=axis)
    _, content, _ = written([one], x, {"w": real(*rest), "b": real(*rest)}, list(shape))
    assert steps_of(content, x) == ["GeneralNorm"]


def steps_of(content, x):
    """The operators that a file becomes here."""
    session = session_of(load_model(content).graph)
    run_session(session, x=x)
    (plan,) = session.plans()
    return [step.origin.op for step in plan.steps]


def view(target_first):
    """x.view(x.size(0), -1), or x.view(-1, x.size(-1))."""
    parts = ["n", "rest"] if target_first else ["rest", "n"]
    return [
        helper.make_node("Shape", ["v"], ["s"]),
        helper.make_node("Gather", ["s", "place"], ["n"]),
        helper.make_node("Concat", parts, ["t"], axis=0),
        helper.make_node("Reshape", ["v", "t"], ["r"]),
        helper.make_node("Neg", ["r"], ["y"]),
    ], {"place": np.array([0 if target_first else -1]), "rest": np.array([-1])}


@pytest.mark.parametrize("target_first", [True, False])
def test_reshapes_to_a_shape_that_is_known_and_stays_are_left_out(target_first):
    """The data have a shape that the file makes a constant of, whatever its inputs are."""
    nodes, constants = view(target_first)
    before = [helper.make_node("Reshape", ["x", "fixed"], ["u"]), helper.make_node("Relu", ["u"], ["v"])]
    constants["fixed"] = np.array([4, 6])
    operators, *_ = written(before + nodes, real(2, 12), constants, ["n", 12])
    assert operators.count("Reshape") == 1


@pytest.mark.parametrize("target_first", [True, False])
def test_reshapes_to_a_shape_that_may_change_are_kept(target_first):
    nodes, constants = view(target_first)
    before = [helper.make_node("Relu", ["x"], ["v"])]
    operators, content, model = written(before + nodes, real(2, 6), constants, ["n", 6])
    assert "Reshape" in operators
    x = real(5, 6)
    np.testing.assert_allclose(run(load(content), x=x)[0], run(load(model), x=x)[0], rtol=1e-6)


OWN_SHAPE = {
    "0": "r = Reshape(a, zero)",
    "its size": "s = Shape(a) r = Reshape(a, s)",
    "the size of what is equal": "b = Relu(x) s = Shape(b) r = Reshape(a, s)",
    "its size, repeated": "s = Shape(a) r = Expand(a, s)",
    "a single part": "r = Concat<axis = 0>(a)",
    "the same type": "r = Cast<to = 1>(a)",
    "a power of 1": "r = Pow(a, one)",
    "a power of 0": "p = Pow(a, none) r = Add(p, a)",
    "again": "i = Identity(a) r = Identity(i)",
}


@pytest.mark.parametrize("declared", ["n", "6"])
@pytest.mark.parametrize("kind", OWN_SHAPE)
def test_what_changes_nothing_is_left_out_or_kept_by_the_original(kind, declared):
    """The original drops such nodes while it loads them, and then misses them."""
    constants = "int64[1] zero = {0}, float one = {1}, float none = {0}"
    text = f"g (float[{declared}] x) => (float[] y) <{constants}> {{ a = Relu(x) {OWN_SHAPE[kind]} y = Neg(r) }}"
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    graph = for_original(load_model(model.SerializeToString()).graph, "model", {"x": (6,)})
    assert what_the_original_lacks(graph) == []
    content = b"".join(bytes(c) for c in write_v2(new_record(graph)))
    sizes = (6, 1, 5) if declared == "n" and "repeated" not in kind else (6,)
    for size in sizes:
        x = real(size)
        np.testing.assert_allclose(run(load(content), x=x)[0], run(load(model), x=x)[0], rtol=1e-6)


@pytest.mark.parametrize("op", ["Reshape", "Expand"])
def test_the_size_of_one_axis_is_no_shape(op):
    """The original takes it for the size of the first axis, where it reads the shape of the result."""
    data = "x" if op == "Reshape" else "two"
    text = f"""g (float[n, m] v, float[p, q] u, float[a, b] x) => (float[] y, float[] z)
    <int64[1] one = {{1}}, int64[1] end = {{2}}, float two = {{2}}> {{
        s = Shape(v) t = Slice(s, one, end) r = {op}({data}, t) w = Shape(r) k = Concat<axis = 0>(w, end)
        e = Reshape(u, k) y = Neg(e) z = Neg(r)
    }}"""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    given = {"v": real(2, 6), "u": real(3, 4), "x": real(2, 3)}
    source = load_model(model.SerializeToString()).graph
    graph = for_original(source, "model", {name: array.shape for name, array in given.items()})
    assert what_the_original_lacks(graph) == []
    content = b"".join(bytes(c) for c in write_v2(new_record(graph)))
    for file, here in zip(run(load(content), **given), run(load(model), **given), strict=True):
        np.testing.assert_array_equal(file, here)


@pytest.mark.parametrize("op", ["Add", "Sub"])
def test_negated_parts_have_no_gaps_where_a_row_is_added(op):
    nodes = [
        helper.make_node("Slice", ["x", "begin", "end", "axis"], ["part"]),
        helper.make_node("Neg", ["part"], ["v"]),
        helper.make_node("ReduceMax", ["v"], ["row"], axes=[0]),
        helper.make_node(op, ["v", "row"], ["y"]),
    ]
    constants = {"begin": np.array([3]), "end": np.array([6]), "axis": np.array([3])}
    written(nodes, real(2, 1, 7, 6), constants, ["n", 1, 7, 6])


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("shape", [(6, 4), (2, 6, 4)])
def test_products_read_no_parts_with_gaps(shape, columns):
    order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
    nodes = [
        helper.make_node("Slice", ["x", "begin", "end", "axis"], ["part"]),
        helper.make_node("Transpose", ["part"], ["turned"], perm=order),
        helper.make_node("MatMul", ["part", "turned"], ["y"]),
    ]
    constants = {"begin": np.array([1]), "end": np.array([1 + columns]), "axis": np.array([-1])}
    written(nodes, real(*shape), constants, list(shape))


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize(("shape", "axis"), [((4, 6), -1), ((2, 6, 5), 1), ((3, 1), 1)])
def test_softmax_of_masked_rows(op, shape, axis):
    """The original's operator has NaN where all numbers of a row are small. Here the pieces are one step again."""
    x = real(*shape)
    x[0] = -10000
    _, content, model = written([helper.make_node(op, ["x"], ["y"], axis=axis)], x, {}, ["n", *shape[1:]])
    more = real(5, *shape[1:])
    for network in (load(content), load(model)):
        (y,) = run(network, x=more)
        assert np.isfinite(y).all()
        assert y.shape == more.shape


@pytest.mark.parametrize("axis", [-1, 1])
def test_softmax_in_pieces_is_one_step_here(axis):
    x = real(2, 6, 5)
    _, content, _ = written([helper.make_node("Softmax", ["x"], ["y"], axis=axis)], x, {}, ["n", 6, 5])
    assert steps_of(content, x) == ["Softmax"]
