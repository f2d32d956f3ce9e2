"""Joining and splitting."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.formats.onnx.graph_values import Value, check_same_kind
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.operators.shapes import element
from megengine_lite._core.formats.onnx.operators.table import Call, NotConverted, converts
from megengine_lite._core.ir import params
from megengine_lite._core.ir.onnx_params import OnnxMode


@converts("Concat")
def _concat(call: Call) -> Value:
    values = [call.input(k) for k in range(max(len(call.inputs), 1))]
    check_same_kind(values)
    return call.builder.joined(values, call.normalized(call.integer("axis"), values[0].rank))


@converts("Split")
def _split(call: Call) -> list[Value | None]:
    b, x, count = call.builder, call.input(0), call.n_outputs
    axis = call.axis("axis", 0, x.rank)
    if call.version >= 18 and (said := call.integer("num_outputs", count)) != count:
        raise NotConverted(f"num_outputs is {said}, and it has {count} outputs")
    lengths = call.optional(1) if call.version >= 13 else None
    given = call.integers("split") if call.version < 13 else None
    if given is not None:
        lengths = b.constant(np.array(given, np.int64))
    if lengths is not None:
        numbers = [element(b, lengths, k) for k in range(count)]
    else:
        # Equal parts, rounded up; the last one is smaller if they do not fit.
        whole, parts = b.dimension(x, axis), b.constant(np.array([count]))
        more = b.elemwise(params.ElemwiseMode.ADD, whole, b.constant(np.array([count - 1])))
        each = b.onnx_elemwise(OnnxMode.DIVIDE, more, parts)
        before = b.elemwise(params.ElemwiseMode.MUL, each, b.constant(np.array([count - 1])))
        numbers = [each.var] * (count - 1) + [b.elemwise(params.ElemwiseMode.SUB, whole, before).var]
    sizes = map(b.size, numbers)
    made = b.nodes_of("Split", params.Axis(axis=axis), [x.var, *sizes], count)
    return [Value(var, x.kind, x.rank, x.dtype) for var in made]


@converts("OneHot", since=9)
def _one_hot(call: Call) -> Value:
    b = call.builder
    index, depth, values = (call.input(k) for k in range(3))
    axis = call.axis("axis", -1, index.rank + 1)
    count = b.retyped(depth.with_rank(0), ElementType.INT64)
    zero, one = b.constant(np.int64(0)), b.constant(np.int64(1))
    inputs = [b.exact(v) for v in (zero, count, one)]
    places = b.node("Range", None, inputs, ElementType.INT64, 1)
    # An index below zero counts from the end: it is one of the places less their number.
    position = b.with_axes(b.retyped(index, ElementType.INT64), [axis])
    from_end = b.elemwise(params.ElemwiseMode.SUB, places, count)
    others = [k for k in range(index.rank + 1) if k != axis]
    equal = [b.compare(params.ElemwiseMultiTypeMode.EQ, position, b.with_axes(v, others)) for v in (places, from_end)]
    hits = b.elemwise(params.ElemwiseMode.OR, *equal)
    off, on = (b.part(values, 0, k, k + 1).with_rank(0) for k in (0, 1))
    parameters = params.Empty()
    return b.node("Where", parameters, [hits.var, b.exact(on), b.exact(off)], values.kind, index.rank + 1)
