"""Sessions: plans by shape, stages where shapes depend on data, memory of outputs, errors."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest
from support.graphs import GraphBuilder, run, session_of
from support.instruction_sets import INSTRUCTION_SETS

from megengine_lite._core.ir.dtype import FLOAT32, INT32
from megengine_lite._core.ir.graph import ConstantPool
from megengine_lite._core.ir.params import (
    Axis,
    CondTake,
    CondTakeMode,
    Convolution,
    Elemwise,
    ElemwiseMode,
    Empty,
    OptionalAxisV1,
)
from megengine_lite._core.runtime.session import Session
from megengine_lite._core.system.memory import Storage
from megengine_lite.errors import LiteError, LiteIndexError, ShapeError

RNG = np.random.default_rng(3)


def relu_graph(shape=(2, 3)):
    b = GraphBuilder()
    x = b.input("x", shape)
    return b.finish(b.node("Elemwise", Elemwise(mode=ElemwiseMode.RELU), [x], name="y"))


def conv_graph():
    b = GraphBuilder()
    x = b.input("x", (1, 3, 8, 8))
    w = b.constant(RNG.standard_normal((24, 3, 3, 3), dtype=np.float32))
    y = b.node("Convolution", Convolution(pad_h=1, pad_w=1), [x, w])
    return b.finish(b.node("Elemwise", Elemwise(mode=ElemwiseMode.RELU), [y]))


def test_run_plans_once_for_each_shape():
    session = session_of(relu_graph())
    for shape in [(2, 3), (5, 1), (2, 3), (0, 4), (5, 1)]:
        x = RNG.standard_normal(shape, dtype=np.float32)
        np.testing.assert_array_equal(run(session, x=x)[0], np.maximum(x, 0))
    assert len(list(session.plans())) == 3


def test_run_forgets_plans_that_were_used_longest_ago():
    session = session_of(relu_graph(), plan_cache_size=2)
    for n in (1, 2, 3, 1):
        run(session, x=np.ones((n, 2), np.float32))
    shapes = [p.outputs[0].spec.shape for p in session.plans()]
    assert shapes == [(3, 2), (1, 2)]


def test_run_again_allocates_nothing():
    session = session_of(conv_graph())
    run(session, x=np.ones((1, 3, 8, 8), np.float32))
    session.run()
    tracemalloc.start()
    before = tracemalloc.take_snapshot()
    for _ in range(50):
        session.run()
    after = tracemalloc.take_snapshot()
    tracemalloc.stop()
    grown = sum(max(s.size_diff, 0) for s in after.compare_to(before, "filename") if "megengine_lite" in str(s))
    assert grown < 1000


def test_target_shape_from_an_input_decides_the_plan():
    b = GraphBuilder()
    x, target = b.input("x", (2, 6)), b.input("target", (2,), INT32)
    doubled = b.node("Elemwise", Elemwise(mode=ElemwiseMode.ADD), [x, x])
    out = b.node("Reshape", OptionalAxisV1(), [doubled, target])
    session = session_of(b.finish(out))
    x = np.arange(12, dtype=np.float32).reshape(2, 6)
    for shape in [(3, 4), (12, 1), (3, 4)]:
        (y,) = run(session, x=x, target=np.int32(shape))
        np.testing.assert_array_equal(y, (2 * x).reshape(shape))
    assert len(list(session.plans())) == 2


def test_shape_that_depends_on_data_is_planned_when_it_is_known():
    b = GraphBuilder()
    x = b.input("x", (8,))
    taken, index = b.node("CondTake", CondTake(mode=CondTakeMode.GT, val=0.0), [x, x], outputs=2)
    doubled = b.node("Elemwise", Elemwise(mode=ElemwiseMode.ADD), [taken, taken])
    session = session_of(b.finish(doubled, index))
    for _ in range(3):
        for x in (RNG.standard_normal(8, dtype=np.float32), np.ones(8, np.float32), -np.ones(8, np.float32)):
            values, positions = run(session, x=x)
            np.testing.assert_array_equal(values, 2 * x[x > 0])
            np.testing.assert_array_equal(positions, np.flatnonzero(x > 0))


def test_value_computed_from_data_is_read_between_stages():
    b = GraphBuilder()
    x, n = b.input("x", (6,)), b.input("n", (1,), INT32)
    count = b.node("Elemwise", Elemwise(mode=ElemwiseMode.ADD), [n, n])
    out = b.node("Broadcast", Empty(), [b.constant(np.float32([1.5])), count])
    session = session_of(b.finish(out, x))
    for n in (1, 3, 0):
        y, same = run(session, x=np.arange(6, dtype=np.float32), n=np.int32([n]))
        np.testing.assert_array_equal(y, np.full(2 * n, 1.5, np.float32))
        np.testing.assert_array_equal(same, np.arange(6))


def test_output_may_be_an_input_a_constant_and_listed_twice():
    b = GraphBuilder()
    x = b.input("x", (3,))
    c = b.constant(np.float32([4, 5]))
    c.name = "c"
    y = b.node("Elemwise", Elemwise(mode=ElemwiseMode.RELU), [x])
    session = session_of(b.finish(x, c, y))
    x = np.float32([-1, 0, 2])
    for got, want in zip(run(session, x=x), (x, [4, 5], [0, 0, 2]), strict=True):
        np.testing.assert_array_equal(got, want)


def test_bind_output_computes_into_memory_of_the_caller():
    session = session_of(relu_graph())
    memory = np.zeros((2, 3), np.float32)
    session.bind_output(session.output_names[0], Storage.of_buffer(memory), memory.nbytes)
    x = np.float32([[1, -1, 2], [3, -3, 4]])
    run(session, x=x)
    np.testing.assert_array_equal(memory, np.maximum(x, 0))
    session.bind_output(session.output_names[0], None)
    (y,) = run(session, x=-x)
    np.testing.assert_array_equal(y, np.maximum(-x, 0))
    np.testing.assert_array_equal(memory, np.maximum(x, 0))


def test_bind_output_refuses_memory_that_is_too_small():
    session = session_of(relu_graph())
    memory = np.zeros(5, np.float32)
    session.bind_output(session.output_names[0], Storage.of_buffer(memory), memory.nbytes)
    with pytest.raises(ShapeError, match=r"24 bytes.*20"):
        run(session, x=np.zeros((2, 3), np.float32))


def test_set_input_of_another_address_is_seen_by_the_next_run():
    session = session_of(relu_graph())
    for value in (1.0, 2.0, 3.0):
        (y,) = run(session, x=np.full((2, 3), value, np.float32))
        assert (y == value).all()


def test_run_without_input_names_what_is_missing():
    with pytest.raises(LiteError, match=r"'x'.*\(2, 3\).*float32"):
        session_of(relu_graph()).run()


def test_input_of_another_type_and_unknown_names_are_refused():
    session = session_of(relu_graph())
    with pytest.raises(ShapeError, match=r"'x'.*float32.*int32"):
        session.set_input("x", Storage(24), (2, 3), INT32)
    with pytest.raises(LiteIndexError, match="'z'"):
        session.set_input("z", Storage(24), (2, 3), FLOAT32)
    with pytest.raises(LiteIndexError, match="'z'"):
        session.output("z")


def test_shape_that_an_operator_cannot_take_is_refused_and_the_session_lives_on():
    session = session_of(conv_graph())
    with pytest.raises(ShapeError, match="Convolution"):
        run(session, x=np.zeros((1, 4, 8, 8), np.float32))
    assert run(session, x=np.zeros((1, 3, 8, 8), np.float32))[0].shape == (1, 24, 8, 8)


def test_sessions_with_one_pool_pack_weights_once():
    first = session_of(conv_graph())
    second = Session(first.model, first.config, pool=first.pool)
    x = RNG.standard_normal((1, 3, 8, 8), dtype=np.float32)
    np.testing.assert_array_equal(run(first, x=x)[0], run(second, x=x)[0])
    a, b = ({s.address for p in s.plans() for s in p.constants()} for s in (first, second))
    assert a == b
    assert isinstance(first.pool, ConstantPool)


@pytest.mark.parametrize("isa", [*INSTRUCTION_SETS, None])
def test_result_does_not_depend_on_the_number_of_threads(isa):
    graph = conv_graph()
    x = RNG.standard_normal((3, 3, 31, 29), dtype=np.float32)
    results = [run(session_of(graph, threads=t, isa=isa), x=x)[0] for t in (1, 2, 5)]
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


def test_run_profiled_gives_every_step():
    session = session_of(conv_graph())
    run(session, x=np.ones((1, 3, 8, 8), np.float32))
    times = session.run_profiled()
    assert [t.origin.op for t in times if t.flops] == ["FusedConv"]
    assert sum(t.flops for t in times) == 2 * 24 * 3 * 9 * 64
    assert all(t.seconds >= 0 for t in times)
    assert session.memory_usage()["weights"] >= 24 * 3 * 9 * 4


def test_release_graph_keeps_the_plan_for_its_shape():
    graph = conv_graph()
    session = session_of(graph)
    x = RNG.standard_normal((1, 3, 8, 8), dtype=np.float32)
    (expected,) = run(session, x=x)
    session.release_graph()
    np.testing.assert_array_equal(run(session, x=x)[0], expected)
    with pytest.raises(LiteError, match="freed"):
        run(session, x=np.zeros((2, 3, 8, 8), np.float32))
    np.testing.assert_array_equal(run(session, x=x)[0], expected)


def test_release_graph_is_refused_where_shapes_depend_on_data():
    b = GraphBuilder()
    x = b.input("x", (8,))
    taken, _ = b.node("CondTake", CondTake(mode=CondTakeMode.GT, val=0.0), [x, x], outputs=2)
    session = session_of(b.finish(b.node("Elemwise", Elemwise(mode=ElemwiseMode.ADD), [taken, taken])))
    run(session, x=np.ones(8, np.float32))
    with pytest.raises(LiteError, match="cannot be freed"):
        session.release_graph()


def test_bind_output_of_other_memory_needs_no_new_plan():
    session = session_of(relu_graph())
    x = np.float32([[1, -1, 2], [3, -3, 4]])
    run(session, x=x)
    for _ in range(2):
        memory = np.zeros((2, 3), np.float32)
        session.bind_output(session.output_names[0], Storage.of_buffer(memory), memory.nbytes)
        (y,) = run(session, x=x)
        np.testing.assert_array_equal(memory, np.maximum(x, 0))
        np.testing.assert_array_equal(y, memory)


def test_session_and_its_memory_go_with_the_last_reference():
    b = GraphBuilder()
    parts = [b.node("Elemwise", Elemwise(mode=ElemwiseMode.RELU), [b.input(name, (1, 16, 3, 3))]) for name in "xy"]
    whole = b.node("Concat", Axis(axis=1), parts)
    weight = b.constant(np.ones((16, 32, 3, 3), np.float32))
    graph = b.finish(b.node("Convolution", Convolution(), [whole, weight]))
    image = np.ones((1, 16, 3, 3), np.float32)
    gc.disable()
    try:
        session = session_of(graph)
        run(session, x=image, y=image)
        (plan,) = session.plans()
        assert session.pool.nbytes > 0
        gone = [weakref.ref(o) for o in (session, plan, plan.buffers[0], session.pool)]
        del session, plan
        assert [r() for r in gone] == [None] * 4
    finally:
        gc.enable()


def test_input_that_is_an_output_may_get_other_memory():
    b = GraphBuilder()
    x = b.input("x", (3,))
    session = session_of(b.finish(x, b.node("Elemwise", Elemwise(mode=ElemwiseMode.RELU), [x])))
    for value in (1.0, -2.0, 3.0, -4.0):
        same, positive = run(session, x=np.full(3, value, np.float32))
        assert same.tolist() == [value] * 3 and positive.tolist() == [max(value, 0)] * 3
