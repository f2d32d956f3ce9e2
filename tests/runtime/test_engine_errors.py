"""Errors behind the loader: of this package, about a node, and harmless to the session."""

import re

import numpy as np
import pytest
from support.graphs import GraphBuilder, run, session_of

from megengine_lite._core.compile import infer, passes
from megengine_lite._core.cpu import host_memory, planner
from megengine_lite._core.cpu.dispatch import DispatchTable
from megengine_lite._core.ir.dtype import INT32
from megengine_lite._core.ir.params import (
    BN,
    Axis,
    BNFwdMode,
    ConvBias,
    Convolution,
    Cumsum,
    Elemwise,
    ElemwiseMode,
    IndexDescMaskDump,
    IndexDescMaskItem,
    MatrixMul,
    OptionalAxisV1,
    Reduce,
)
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.runtime import plans_by_shape
from megengine_lite._core.system.memory import Storage
from megengine_lite._core.system.memory_limit import memory_limit
from megengine_lite.errors import InternalError, LiteError, LiteIndexError, LiteMemoryError, ShapeError

RNG = np.random.default_rng(7)
ROW = IndexDescMaskDump(items=(IndexDescMaskItem(0, False, False, False, True),))


def sum_graph():
    b = GraphBuilder()
    x = b.input("x", (3, 4))
    return b.finish(b.node("Cumsum", Cumsum(axis=1, exclusive=False), [x], name="total"))


def set_compute(monkeypatch, op, compute):
    """Makes an operator a Python step that does this."""
    monkeypatch.setattr(REGISTRY[op], "compute", compute, raising=False)
    monkeypatch.setattr(planner, "TABLE", DispatchTable(row for row in planner.TABLE.rows if row.op != op))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("no"), ShapeError),
        (IndexError("no"), LiteIndexError),
        (ZeroDivisionError("no"), ShapeError),
        (OverflowError("no"), ShapeError),
        (np.exceptions.DTypePromotionError("no"), ShapeError),
        (MemoryError("no"), LiteMemoryError),
        (RuntimeError("no"), InternalError),
        (TypeError("no"), InternalError),
        (AttributeError("no"), InternalError),
        (KeyError("no"), InternalError),
        (AssertionError("no"), InternalError),
    ],
)
def test_error_of_a_python_step_names_the_node_and_the_session_lives_on(monkeypatch, error, expected):
    session = session_of(sum_graph())
    x = np.ones((3, 4), np.float32)

    def fails(*arguments):
        raise error

    with monkeypatch.context() as patch:
        set_compute(patch, "Cumsum", fails)
        for _ in range(2):
            with pytest.raises(expected, match="Cumsum 'total'") as raised:
                run(session, x=x)
        assert raised.value.__cause__ is error
    np.testing.assert_array_equal(run(session, x=x)[0], np.cumsum(x, axis=1))


@pytest.mark.parametrize("method", ["infer", "needed_values"])
@pytest.mark.parametrize(
    "mistake",
    [
        lambda: None + 1,
        lambda: {}["no"],
        lambda: [][1],
        lambda: int("no"),
        lambda: (lambda a, b: a)(*"abc"[:2], *"c"),
        lambda: [a for a, b in ["abc"]],
        lambda: 1 // 0,
        lambda: b"\xff".decode(),
        lambda: np.zeros(2) + np.zeros(3),
        lambda: np.zeros(2)[5],
        lambda: None.no,
    ],
)
def test_mistake_in_an_inference_is_our_fault(monkeypatch, method, mistake):
    monkeypatch.setattr(REGISTRY["Cumsum"], method, lambda *arguments: mistake(), raising=False)
    with pytest.raises(InternalError, match=r"Cumsum 'total': \w+: .*fault of megengine_lite") as raised:
        run(session_of(sum_graph()), x=np.ones((3, 4), np.float32))
    assert type(raised.value.__cause__).__name__ in str(raised.value)


def test_mistake_in_a_pass_names_the_node_at_hand(monkeypatch):
    def visit(node):
        return {}[node.op]

    monkeypatch.setitem(passes._ALL, "fuse_conv", lambda graph, pool: [visit(node) for node in graph.nodes])
    with pytest.raises(InternalError, match=r"^pass fuse_conv \(last node: Cumsum 'total'\): KeyError: 'Cumsum'; "):
        run(session_of(sum_graph()), x=np.ones((3, 4), np.float32))


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ((infer.__dict__, "_cut"), "shape inference"),
        ((passes._ALL, "fuse_conv"), "pass fuse_conv"),
        ((planner.__dict__, "assign_offsets"), "the plan"),
    ],
)
@pytest.mark.parametrize("error", [KeyError("no"), IndexError("no"), MemoryError("no"), KeyboardInterrupt()])
def test_mistake_while_planning_is_our_fault(monkeypatch, place, says, error):
    def fails(*arguments):
        raise error.with_traceback(None)  # without that of earlier tests

    session = session_of(sum_graph())
    x = np.ones((3, 4), np.float32)
    with monkeypatch.context() as patch:
        patch.setitem(*place, fails)
        ours = isinstance(error, LookupError)
        with pytest.raises(InternalError if ours else type(error)) as raised:
            run(session, x=x)
    if ours:
        assert raised.value.__cause__ is error
        assert re.match(rf"{says}( \(last node: \w+ '\w*'\))?: {type(error).__name__}: ", str(raised.value))
        assert "fault of megengine_lite, please report it" in str(raised.value)
    np.testing.assert_array_equal(run(session, x=x)[0], np.cumsum(x, axis=1))


@pytest.mark.parametrize(
    "result", [np.zeros((3, 5), np.float32), np.zeros((3, 4), np.float64), np.zeros((1, 4), np.float32)]
)
def test_result_that_is_not_as_inferred_is_our_fault(monkeypatch, result):
    set_compute(monkeypatch, "Cumsum", lambda *arguments: [result])
    with pytest.raises(InternalError, match=r"Cumsum 'total': computed .*, inferred float32 \(3, 4\); this is a fault"):
        run(session_of(sum_graph()), x=np.ones((3, 4), np.float32))


def relu_graph():
    b = GraphBuilder()
    x = b.input("x", (2, 3))
    return b.finish(b.node("Elemwise", Elemwise(mode=ElemwiseMode.RELU), [x], name="act"))


def limit_memory(monkeypatch, nbytes):
    for module in (infer, planner, plans_by_shape):
        monkeypatch.setattr(module, "memory_limit", lambda: nbytes)


def test_plan_that_needs_more_memory_than_there_is_names_the_largest_node(monkeypatch):
    b = GraphBuilder()
    x, y = b.input("x", (1, 8)), b.input("y", (8, 1))
    product = b.node("MatrixMul", MatrixMul(), [y, x], name="outer")
    session = session_of(b.finish(b.node("Reduce", Reduce(axis=0), [product], name="sum")))
    limit_memory(monkeypatch, 2_801_000)
    with pytest.raises(LiteError, match=rf"needs 2\.7 MiB of memory.*'{product.name}'"):
        run(session, x=np.ones((1, 1000), np.float32), y=np.ones((700, 1), np.float32))
    (out,) = run(session, x=np.ones((1, 10), np.float32), y=np.ones((20, 1), np.float32))
    np.testing.assert_array_equal(out, np.full((1, 10), 20.0))


def test_single_tensor_that_is_larger_than_the_memory_is_refused_while_inferring():
    b = GraphBuilder()
    x = b.input("x", (1,))
    shape = b.constant(np.array([1 << 30, 1 << 20], np.int32))
    session = session_of(b.finish(b.node("Broadcast", OptionalAxisV1(), [x, shape], name="big")))
    with pytest.raises(ShapeError, match=r"Broadcast 'big'.*\(1073741824, 1048576\)"):
        run(session, x=np.ones(1, np.float32))


def test_lack_of_memory_is_an_error_of_the_package(monkeypatch):
    def fails(*arguments):
        raise MemoryError

    session = session_of(relu_graph())
    with monkeypatch.context() as patch:
        patch.setattr(host_memory.np, "zeros", fails)
        with pytest.raises(LiteError, match="not enough memory"):
            run(session, x=np.ones((2, 3), np.float32))
    assert run(session, x=np.ones((2, 3), np.float32))[0].sum() == 6


def test_memory_limit_is_known():
    assert 1 << 26 < memory_limit() <= 1 << 50


def test_kept_outputs_take_a_part_of_the_memory(monkeypatch):
    session = session_of(relu_graph())
    limit_memory(monkeypatch, 4 << 20)
    for rows in range(1, 9):
        run(session, x=np.ones((rows, 1 << 16), np.float32))
    assert sum(b.nbytes for p in session.plans() for b in p.buffers) <= 8 * (1 << 18)
    assert len(list(session.plans())) == 1


def test_weights_are_not_folded_into_something_much_larger():
    b = GraphBuilder()
    x = b.input("x", (1,))
    wide = b.node("Broadcast", OptionalAxisV1(), [b.constant(np.ones(1, np.float32)), b.constant(np.int32([300, 400]))])
    session = session_of(b.finish(b.node("Elemwise", Elemwise(mode=ElemwiseMode.ADD), [x, wide])))
    (out,) = run(session, x=np.float32([2]))
    assert out.shape == (300, 400)
    assert (out == 3).all()
    assert session.memory_usage()["weights"] < 1000


def test_type_of_an_input_is_checked_when_its_shape_stays():
    session = session_of(relu_graph())
    x = np.ones((2, 3), np.float32)
    run(session, x=x)
    with pytest.raises(ShapeError, match="'x' is float32, got int32"):
        session.set_input("x", Storage.of_buffer(x), (2, 3), INT32)


def two_lookups():
    b = GraphBuilder()
    x, i, k = b.input("x", (4, 2)), b.input("i", (3,), INT32), b.input("k", (3,), INT32)
    return b.finish(*(b.node("IndexingMultiAxisVec", ROW, [x, v], name=f"rows of {v.name}") for v in (i, k)))


def test_native_steps_report_each_wrong_index_once():
    session = session_of(two_lookups())
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    good, bad = np.int32([0, -1, 3]), np.int32([0, 4, 1])
    run(session, x=x, i=good, k=good)
    for i, k, name in ((bad, bad, "rows of i"), (good, bad, "rows of k"), (bad, good, "rows of i")):
        with pytest.raises(LiteIndexError, match=name):
            run(session, x=x, i=i, k=k)
        with pytest.raises(LiteError, match="no value"):
            session.output(session.output_names[0])
        for out in run(session, x=x, i=good, k=good):
            np.testing.assert_array_equal(out, x[good])
    with pytest.raises(LiteIndexError, match="rows of i"):
        session.set_input("i", Storage.of_buffer(bad), bad.shape, INT32)
        session.run_profiled()


@pytest.mark.parametrize("index", [-1, 3, 2**31 - 1, -(2**31)])
def test_one_hot_index_that_is_negative_or_too_large_is_refused(index):
    b = GraphBuilder()
    x, i = b.input("x", (2, 3)), b.input("i", (2,), INT32)
    session = session_of(b.finish(b.node("IndexingOneHot", Axis(axis=1), [x, i], name="pick")))
    with pytest.raises(LiteIndexError, match="IndexingOneHot 'pick'"):
        run(session, x=np.ones((2, 3), np.float32), i=np.int32([0, index]))


def test_batch_norm_whose_statistics_are_read_gives_all_of_them():
    b = GraphBuilder()
    x = b.input("x", (2, 3, 4, 4))
    scale, bias, mean, variance = (b.constant(RNG.uniform(0.5, 2, (1, 3, 1, 1)).astype(np.float32)) for _ in range(4))
    outs = b.node("BatchNorm", BN(fwd_mode=BNFwdMode.INFERENCE), [x, scale, bias, mean, variance], outputs=4)
    graph = b.finish(outs[0], outs[1], outs[3])
    x = RNG.standard_normal((2, 3, 4, 4)).astype(np.float32)
    got_mean, got_variance, y = run(session_of(graph), x=x)
    s, t, m, v = (c.const.array for c in (scale, bias, mean, variance))
    np.testing.assert_array_equal(got_mean, m)
    np.testing.assert_array_equal(got_variance, v)
    np.testing.assert_allclose(y, (x - m) / np.sqrt(v + BN().epsilon) * s + t, atol=1e-5)


def test_transposed_convolution_of_very_many_phases_is_planned_at_once():
    b = GraphBuilder()
    x = b.input("x", (1, 2, 2, 2))
    w = b.constant(RNG.standard_normal((2, 3, 2, 2)).astype(np.float32))
    session = session_of(b.finish(b.node("ConvolutionBackwardData", Convolution(stride_h=1, stride_w=2000), [w, x])))
    x = RNG.standard_normal((1, 2, 2, 2)).astype(np.float32)
    (out,) = run(session, x=x)
    assert out.shape == (1, 3, 3, 2002)
    np.testing.assert_allclose(
        out[0, :, 0, 2000], np.einsum("i,io->o", x[0, :, 0, 1], w.const.array[:, :, 0, 0]), atol=1e-5
    )
    assert sum(len(p.steps) for p in session.plans()) < 10


def test_operator_without_inputs_is_refused():
    for op, params in (("GetVarShape", OptionalAxisV1()), ("Concat", Axis(axis=0)), ("ConvBiasForward", ConvBias())):
        b = GraphBuilder()
        session = session_of(b.finish(b.node(op, params, [], name="alone")))
        with pytest.raises(ShapeError, match=f"{op} 'alone'"):
            session.run()
