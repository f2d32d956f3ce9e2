"""Which sizes of a model may change, and what of its shapes stays."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs import GraphBuilder

from megengine_lite._core.compile import vary_sizes
from megengine_lite._core.compile.vary_sizes import known_shapes
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import INT32
from megengine_lite._core.ir.params import ElemwiseMode, PoolingMode
from megengine_lite.errors import InternalError, LiteMemoryError

ADD = params.Elemwise(mode=ElemwiseMode.ADD)


def convolution(size=8):
    builder = GraphBuilder()
    x, w = builder.input("data", (1, 3, size, size)), builder.constant(np.zeros((4, 3, 3, 3), np.float32))
    y = builder.node("Convolution", params.Convolution(), [x, w])
    return builder.finish(y), y


def test_channels_are_fixed_by_weights_and_sizes_are_not():
    graph, y = convolution()
    known = known_shapes(graph, static=False)
    assert known.free == {("data", 0): "batch", ("data", 2): "height", ("data", 3): "width"}
    assert known.variables[y].dims == (None, 4, None, None)
    assert known.variables[y].shape == (1, 4, 6, 6)
    assert [set(names) for names in known.variables[y].dims_follow] == [{"batch"}, set(), {"height"}, {"width"}]


@pytest.mark.parametrize("kind", [InternalError, LiteMemoryError])
def test_our_faults_do_not_fix_a_size(monkeypatch, kind):
    infer, calls = vary_sizes._infer, []

    def fails_later(*arguments):
        calls.append(arguments)
        if len(calls) > 1:
            raise kind("no")
        return infer(*arguments)

    monkeypatch.setattr(vary_sizes, "_infer", fails_later)
    with pytest.raises(kind):
        known_shapes(convolution()[0], static=False)
    assert len(calls) == 2


@pytest.mark.parametrize("kind", [InternalError, LiteMemoryError])
def test_our_faults_do_not_make_a_length_depend_on_data(monkeypatch, kind):
    def fails(*arguments):
        raise kind("no")

    builder = GraphBuilder()
    x, shape = builder.input("x", (1,)), builder.input("shape", (2,), INT32)
    graph = builder.finish(builder.node("Broadcast", params.OptionalAxisV1(), [x, shape]))
    monkeypatch.setattr(vary_sizes, "infer_node", fails)
    with pytest.raises(kind):
        known_shapes(graph, static=False)


def test_nothing_changes_if_shapes_are_static():
    graph, y = convolution()
    known = known_shapes(graph, static=True)
    assert known.free == {}
    assert known.variables[y].dims == (1, 4, 6, 6)
    assert len(known.sizes) == 1


def test_named_dimensions_can_be_fixed():
    graph, y = convolution()
    known = known_shapes(graph, static=False, fixed={"height"})
    assert set(known.free.values()) == {"batch", "width"}
    assert known.variables[y].dims == (None, 4, 6, None)


def test_dimensions_of_several_inputs_change_together():
    builder = GraphBuilder()
    a, b = builder.input("a", (2, 5)), builder.input("b", (2, 5))
    graph = builder.finish(builder.node("Elemwise", ADD, [a, b]))
    assert known_shapes(graph, static=False).free == {
        ("a", 0): "batch",
        ("b", 0): "batch",
        ("a", 1): "a_1",
        ("b", 1): "a_1",
    }


def test_size_that_a_constant_shape_asks_for_is_fixed():
    builder = GraphBuilder()
    x = builder.input("data", (2, 12))
    y = builder.node("Reshape", params.OptionalAxisV1(), [x, builder.constant(np.array([2, 3, 4], np.int32))])
    known = known_shapes(builder.finish(y), static=False)
    assert known.free == {}
    assert known.variables[y].dims == (2, 3, 4)


def test_smaller_sizes_are_tried_too():
    builder = GraphBuilder()
    x = builder.input("data", (16, 4))
    ends = builder.constant(np.array([12], np.int32))
    item = params.IndexDescMaskItem(axis=0, begin=False, end=True, step=False, idx=False)
    y = builder.node("Subtensor", params.IndexDescMaskDump(items=(item,)), [x, ends])
    assert known_shapes(builder.finish(y), static=False).variables[y].dims[0] is None


def test_values_that_follow_from_sizes_name_them():
    builder = GraphBuilder()
    x = builder.input("data", (2, 3, 4, 32))
    shape = builder.node("GetVarShape", params.OptionalAxisV1(axis=2), [x])
    y = builder.node("AdaptivePooling", params.AdaptivePooling(mode=PoolingMode.MAX), [x, shape])
    known = known_shapes(builder.finish(y), static=False)
    assert known.variables[shape].value is None
    assert known.variables[shape].value_follows == {"height"}


@pytest.mark.parametrize("static", [True, False])
def test_lengths_that_depend_on_data_are_never_fixed(static):
    builder = GraphBuilder()
    x = builder.input("data", (4, 6))
    taken, places = builder.node("CondTake", params.CondTake(), [x, x], 2)
    where = builder.node("NonZero", params.Empty(), [x])
    known = known_shapes(builder.finish(taken, places, where), static)
    assert known.variables[taken].dims == known.variables[places].dims == (None,)
    assert known.variables[where].dims == (2, None)
