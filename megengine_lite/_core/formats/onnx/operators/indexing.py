"""Gathering, scattering, searching."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import Value, check_same_kind
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.operators.table import Call, NeedsShapes, converts
from megengine_lite._core.formats.onnx.tensors import DTYPES
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import INT32
from megengine_lite._core.ir.onnx_params import AlongAxis, GatherND, Scatter, SortedTopK
from megengine_lite._core.ir.params import IndexDescMaskItem


def taken(b: GraphBuilder, x: Value, index: Value, axis: int) -> Value:
    """The parts of an axis at the positions of an index, whose axes take its place."""
    item = IndexDescMaskItem(axis, False, False, False, True)
    parameters = params.IndexDescMaskDump(items=(item,))
    rank = x.rank - 1 + index.rank
    length = index.extent if x.rank == 1 else None
    if index.rank:
        return b.moved("IndexingMultiAxisVec", parameters, x, index.var, rank=rank, length=length)
    if index.known is not None:
        place = int(index.known.reshape(-1)[0])
        return b.moved("Subtensor", parameters, x, b.integers([place]), rank=rank)
    found = b.moved("IndexingMultiAxisVec", parameters, x, index.var, rank=x.rank)
    return b.without_axes(found, [axis])


@converts("Gather")
def _gather(call: Call) -> Value:
    x, index = call.input(0), call.input(1)
    return taken(call.builder, x, index, call.axis("axis", 0, x.rank))


@converts("GatherElements", since=11)
def _gather_elements(call: Call) -> Value:
    x, index = call.input(0), call.input(1)
    return call.builder.moved("GatherElements", AlongAxis(call.axis("axis", 0, x.rank)), x, index.var)


@converts("GatherND", since=11)
def _gather_nd(call: Call) -> Value:
    x, index = call.input(0), call.input(1)
    batch, depth = call.integer("batch_dims", 0), _depth(call, index)
    rank = index.rank - 1 + x.rank - batch - depth
    return call.builder.moved("GatherND", GatherND(batch), x, index.var, rank=rank)


def _depth(call: Call, index: Value) -> int:
    """Length of the last axis of an index, if it can be known."""
    shape = call.builder.known_shape(index)
    if shape is not None:
        return shape[-1]
    known = call.builder.sizes.get((index.var, index.rank - 1))
    if known is not None:
        return known
    raise NeedsShapes("the last dimension of its index is not known")


@converts("ScatterElements", "Scatter", since=9)
def _scatter_elements(call: Call) -> Value:
    b, x, index, updates = call.builder, call.input(0), call.input(1), call.input(2)
    check_same_kind([x, updates])
    (data, new), dtype = b.same_carrier([x, updates])
    parameters = Scatter(call.text("reduction", "none"), call.axis("axis", 0, x.rank))
    return b.node("ScatterElements", parameters, [data, index.var, new], x.kind, x.rank, dtype)


@converts("ScatterND", since=11)
def _scatter_nd(call: Call) -> Value:
    b, x, index, updates = call.builder, call.input(0), call.input(1), call.input(2)
    check_same_kind([x, updates])
    (data, new), dtype = b.same_carrier([x, updates])
    parameters = Scatter(call.text("reduction", "none"))
    return b.node("ScatterND", parameters, [data, index.var, new], x.kind, x.rank, dtype)


@converts("NonZero", since=9)
def _non_zero(call: Call) -> Value:
    x = call.input(0)
    found = call.builder.node("NonZero", params.Empty(), [x.var], ElementType.INT64, 2, INT32)
    call.builder.sizes[found.var, 0] = max(x.rank, 1)
    return found


@converts("Compress", since=9)
def _compress(call: Call) -> Value:
    b, x, mask = call.builder, call.input(0), call.input(1)
    if "axis" in call.attributes:
        axis = call.axis("axis", 0, x.rank)
    else:
        x, axis = b.reshaped(x, b.integers([1]), 1, 0), 0
    mask = b.sliced(mask, 0, None, b.dimension(x, axis).var, None)  # what is longer than the axis does not count
    places = b.node("NonZero", params.Empty(), [mask.var], ElementType.INT64, 2, INT32)
    index = b.without_axes(places, [0])
    return taken(b, x, index, axis)


@converts("ArgMax", "ArgMin")
def _arg_reduce(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    axis = call.axis("axis", 0, x.rank)
    op = "Argmax" if call.op == "ArgMax" else "Argmin"
    last = bool(call.integer("select_last_index", 0))
    if last:  # the first one from behind
        x = b.part(x, axis, None, None, -1)
    found = b.node(op, params.Axis(axis=axis), [b.exact(x)], ElementType.INT64, x.rank, INT32)
    if last:
        end = b.elemwise(params.ElemwiseMode.SUB, b.dimension(x, axis), b.constant(np.array([1])))
        found = b.elemwise(params.ElemwiseMode.SUB, end, found)
    return found if call.integer("keepdims", 1) else b.without_axes(found, [axis])


@converts("TopK")
def _top_k(call: Call) -> list[Value | None]:
    b, x = call.builder, call.input(0)
    k = b.integers([call.integer("k")]) if call.version < 10 else call.input(1).var
    parameters = SortedTopK(call.axis("axis", -1, x.rank), bool(call.integer("largest", 1)))
    values, places = b.nodes_of("SortedTopK", parameters, [b.exact(x), k], 2)
    return [
        Value(values, x.kind, x.rank, DTYPES[x.kind]),
        Value(places, ElementType.INT64, x.rank, INT32),
    ]
