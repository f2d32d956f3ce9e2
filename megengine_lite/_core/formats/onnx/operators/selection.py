"""Selections whose sizes depend on data, and parts that change places."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.formats.onnx.graph_values import Value, check_kind, check_same_kind
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.operators.constants import target_kind
from megengine_lite._core.formats.onnx.operators.convolution import window_of
from megengine_lite._core.formats.onnx.operators.images import one_of
from megengine_lite._core.formats.onnx.operators.table import Call, NeedsShapes, NotConverted, converts
from megengine_lite._core.formats.onnx.tensors import DTYPES
from megengine_lite._core.ir.dtype import INT32
from megengine_lite._core.ir.onnx_image_params import Blocks, Suppression, Unpooling
from megengine_lite._core.ir.onnx_params import CacheUpdate, Distinct, OtherType, SequenceAxes


@converts("NonMaxSuppression", since=10)
def _non_max_suppression(call: Call) -> Value:
    b, boxes, scores = call.builder, call.input(0), call.input(1)
    most, overlap, least = call.optional(2), call.optional(3), call.optional(4)
    if not boxes.kind is scores.kind is ElementType.FLOAT:
        raise NotConverted("boxes and scores of other types than float32 do not exist in the standard")
    limits = [
        b.constant(np.array([0])).var if most is None else most.var,
        b.constant(np.float32(0)).var if overlap is None else b.exact(overlap),
        *([] if least is None else [b.exact(least)]),
    ]
    parameters = Suppression(bool(call.integer("center_point_box", 0)), least is not None)
    inputs = [b.exact(boxes), b.exact(scores), *limits]
    kept, counts = b.nodes_of("SuppressedBoxes", parameters, inputs, 2)
    found = b.node("KeptBoxes", None, [kept, counts], ElementType.INT64, 2, INT32)
    b.sizes[found.var, 1] = 3
    return found


@converts("Unique", since=11)
def _unique(call: Call) -> list[Value | None]:
    b, x = call.builder, call.input(0)
    axis = call.axis("axis", 0, x.rank) if "axis" in call.attributes else None
    is_sorted = bool(call.integer("sorted", 1))
    first, *places = b.nodes_of("Unique", Distinct(axis, is_sorted), [b.exact(x)], 4)
    rank = 1 if axis is None else x.rank
    return [b.carried(first, x.kind, rank), *(b.carried(v, ElementType.INT64, 1, INT32) for v in places)]


@converts("ReverseSequence", since=10)
def _reverse_sequence(call: Call) -> Value:
    x, lengths = call.input(0), call.input(1)
    axes = SequenceAxes(call.integer("batch_axis", 1), call.integer("time_axis", 0))
    if {axes.batch, axes.time} != {0, 1}:
        raise NotConverted(f"batch_axis is {axes.batch} and time_axis {axes.time}; they must be 0 and 1 or 1 and 0")
    return call.builder.moved("ReverseSequence", axes, x, lengths.var)


@converts("TensorScatter", since=24)
def _tensor_scatter(call: Call) -> Value:
    b, cache, update, begins = call.builder, call.input(0), call.input(1), call.optional(2)
    check_same_kind([cache, update])
    (data, new), dtype = b.same_carrier([cache, update])
    circular = one_of(call, "mode", "linear", ("linear", "circular")) == "circular"
    parameters = CacheUpdate(call.axis("axis", -2, cache.rank), circular)
    inputs = [data, new] if begins is None else [data, new, begins.var]
    return b.node("TensorScatter", parameters, inputs, cache.kind, cache.rank, dtype)


@converts("MaxUnpool", since=9)
def _max_unpool(call: Call) -> Value:
    b, x, places, shape = call.builder, call.input(0), call.input(1), call.optional(2)
    check_kind(x.kind, "iuf")
    window = window_of(call, call.integers("kernel_shape") or [], x.rank - 2)
    parameters = Unpooling(window.size, window.strides, window.begin, window.end)
    inputs = [b.exact(x), places.var] if shape is None else [b.exact(x), places.var, shape.var]
    return b.node("MaxUnpool", parameters, inputs, x.kind, x.rank)


@converts("Col2Im", since=18)
def _columns_to_image(call: Call) -> Value:
    b, x, image, block = call.builder, call.input(0), call.input(1), call.input(2)
    check_kind(x.kind, "iuf")
    axes = b.length_of(image)
    if axes is None:
        raise NeedsShapes("the number of axes of its image is not known")
    window = window_of(call, [1] * axes, axes)
    parameters = Blocks(window.strides, window.dilations, window.begin, window.end)
    return b.node("Col2Im", parameters, [b.exact(x), image.var, block.var], x.kind, axes + 2)


@converts("Det", since=11)
def _determinant(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    check_kind(x.kind, "f")
    if x.rank < 2:
        raise NotConverted(f"a matrix has two dimensions, its input has {x.rank}")
    return b.node("Det", None, [b.exact(x)], x.kind, x.rank - 2)


@converts("BitCast", since=26)
def _bit_cast(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    kind = target_kind(call, "to", ElementType.UNDEFINED)
    if DTYPES[kind].itemsize != DTYPES[x.kind].itemsize:
        raise NotConverted(f"elements of {x.kind.name} and {kind.name} have not the same size")
    if DTYPES[kind].itemsize == 8:
        raise NotConverted(
            "bits of 8 bytes are not read as another type: inputs and outputs have 4 bytes in their place"
        )
    return b.node("BitCast", OtherType(DTYPES[kind]), [b.exact(x)], kind, x.rank)
