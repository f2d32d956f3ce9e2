"""Quantized numbers: to them, from them, and products of them."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import Value
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.operators.activations import choose
from megengine_lite._core.formats.onnx.operators.constants import target_kind
from megengine_lite._core.formats.onnx.operators.matrices import multiplied
from megengine_lite._core.formats.onnx.operators.reductions import reduced
from megengine_lite._core.formats.onnx.operators.table import Call, NotConverted, converts
from megengine_lite._core.formats.onnx.tensors import DTYPES
from megengine_lite._core.ir.onnx_params import OnnxMode
from megengine_lite._core.ir.params import ElemwiseMode, ElemwiseMultiTypeMode, ReduceMode

_M = ElemwiseMode
_BYTES = (ElementType.UINT8, ElementType.INT8, ElementType.UINT16, ElementType.INT16)


def _along(call: Call, x: Value, numbers: Value, axis: int) -> Value:
    """Scales or zero points, one for each position of an axis, with as many axes as the data."""
    if numbers.rank > 1:
        raise NotConverted("scales for blocks of an axis are not computed here")
    if numbers.rank == 0 or numbers.length == 1:
        return numbers.with_rank(0)
    return call.builder.with_axes(numbers, [k for k in range(x.rank) if k != axis])


def dequantized(b: GraphBuilder, x: Value, scale: Value, zero: Value | None, kind: ElementType) -> Value:
    """The real values of quantized numbers."""
    real = b.retyped(x, ElementType.FLOAT)
    if zero is not None:
        real = b.elemwise(_M.SUB, real, b.retyped(zero, ElementType.FLOAT))
    return b.retyped(b.elemwise(_M.MUL, real, b.retyped(scale, ElementType.FLOAT)), kind)


def quantized(b: GraphBuilder, x: Value, scale: Value, zero: Value | None, kind: ElementType) -> Value:
    """Quantized numbers for real values: halves go to the even neighbour."""
    if kind not in _BYTES:
        raise NotConverted(f"{kind.name} is no type of quantized numbers here")
    limits = np.iinfo(DTYPES[kind].storage)
    steps = b.onnx_elemwise(OnnxMode.ROUND_EVEN, b.elemwise(_M.TRUE_DIV, x, scale))
    if zero is not None:
        steps = b.elemwise(_M.ADD, steps, b.retyped(zero, ElementType.FLOAT))
    low, high = b.number(int(limits.min), steps), b.number(int(limits.max), steps)
    return b.retyped(b.elemwise(_M.MIN, b.elemwise(_M.MAX, steps, low), high), kind)


@converts("QuantizeLinear", since=10)
def _quantize(call: Call) -> Value:
    b, x, scale, zero = call.builder, call.input(0), call.input(1), call.optional(2)
    if call.integer("block_size", 0):
        raise NotConverted("scales for blocks of an axis are not computed here")
    kind = target_kind(call, "output_dtype", ElementType.UINT8) if zero is None else zero.kind
    call.know("output_dtype", "precision", "axis")
    axis = call.axis("axis", 1, x.rank) if x.rank > 1 else 0
    real, steps = (b.retyped(v, ElementType.FLOAT) for v in (x, scale))
    steps = _along(call, x, steps, axis)
    return quantized(b, real, steps, None if zero is None else _along(call, x, zero, axis), kind)


@converts("DequantizeLinear", since=10)
def _dequantize(call: Call) -> Value:
    b, x, scale, zero = call.builder, call.input(0), call.input(1), call.optional(2)
    if call.integer("block_size", 0):
        raise NotConverted("scales for blocks of an axis are not computed here")
    call.know("axis")
    axis = call.axis("axis", 1, x.rank) if x.rank > 1 else 0
    kind = target_kind(call, "output_dtype", scale.kind)
    zero = None if zero is None else _along(call, x, zero, axis)
    return dequantized(b, x, _along(call, x, scale, axis), zero, kind)


@converts("DynamicQuantizeLinear", since=11)
def _dynamic(call: Call) -> list[Value | None]:
    b, x = call.builder, call.input(0)
    if x.kind != ElementType.FLOAT:
        raise NotConverted(f"it is not computed in {x.kind.name}")
    axes, zero = list(range(x.rank)), b.number(0, x)
    low, high = (
        b.without_axes(reduced(b, x, axes, mode), axes) if x.rank else x for mode in (ReduceMode.MIN, ReduceMode.MAX)
    )
    low, high = b.elemwise(_M.MIN, low, zero), b.elemwise(_M.MAX, high, zero)
    span = b.elemwise(_M.SUB, high, low)
    # Nothing but zeros has the span 1.
    span = choose(b, b.compare(ElemwiseMultiTypeMode.EQ, span, zero), b.number(1, x), span)
    scale = b.elemwise(_M.TRUE_DIV, span, b.number(255, x))
    first = b.elemwise(_M.NEGATE, b.elemwise(_M.TRUE_DIV, low, scale))
    limited = b.elemwise(_M.MIN, b.elemwise(_M.MAX, first, zero), b.number(255, x))
    point = b.retyped(b.onnx_elemwise(OnnxMode.ROUND_EVEN, limited), ElementType.UINT8)
    return [quantized(b, x, scale, point, ElementType.UINT8), scale, point]


@converts("MatMulInteger", since=10)
def _matmul_integer(call: Call) -> Value:
    b = call.builder
    operands = []
    for place in (0, 1):
        x, zero = call.input(place), call.optional(place + 2)
        wide = b.retyped(x, ElementType.INT32)
        if zero is not None:
            point = b.retyped(zero, ElementType.INT32)
            if point.rank == 1 and point.length != 1:  # one for each row of the first, each column of the second
                point = b.with_axes(point, [1]) if place == 0 else point
            wide = b.elemwise(_M.SUB, wide, point)
        operands.append(wide)
    return multiplied(b, *operands)


@converts("QLinearMatMul", since=10)
def _quantized_matmul(call: Call) -> Value:
    b = call.builder
    x, x_scale, x_zero, y, y_scale, y_zero, scale, zero = (call.input(k) for k in range(8))
    if any(v.rank and v.length != 1 for v in (x_scale, y_scale, scale)):
        raise NotConverted("scales for rows or columns are not computed here")
    left = dequantized(b, x, x_scale, x_zero, ElementType.FLOAT)
    right = dequantized(b, y, y_scale, y_zero, ElementType.FLOAT)
    return quantized(b, multiplied(b, left, right), b.retyped(scale, ElementType.FLOAT), zero, zero.kind)
