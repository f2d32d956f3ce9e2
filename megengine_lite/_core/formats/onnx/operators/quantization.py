"""Quantized numbers: to them, from them, and products of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import Value
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.operators.activations import choose
from megengine_lite._core.formats.onnx.operators.constants import target_kind
from megengine_lite._core.formats.onnx.operators.convolution import (
    convolution,
    convolved,
    filter_size,
    window_of,
    with_padding,
    with_symmetric_padding,
)
from megengine_lite._core.formats.onnx.operators.matrices import flattened, multiplied, unflattened
from megengine_lite._core.formats.onnx.operators.table import MICROSOFT, Call, NotConverted, converts
from megengine_lite._core.formats.onnx.tensors import DTYPES
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32, INT8, INT32, UINT8, DType, DTypeCode
from megengine_lite._core.ir.graph import AnyVar, DerivedConstant, TensorSpec, Var
from megengine_lite._core.ir.onnx_params import OnnxBytes, OnnxReduce
from megengine_lite._core.ir.onnx_reduction import OnnxReduction
from megengine_lite._core.ir.params import ElemwiseMode, ElemwiseMultiTypeMode, ReduceMode

_M = ElemwiseMode
_BYTES_OF_KERNELS = (ElementType.UINT8, ElementType.INT8)
_BYTES = (ElementType.UINT8, ElementType.INT8, ElementType.UINT16, ElementType.INT16)


def _along(b: GraphBuilder, x: Value, numbers: Value, axis: int) -> Value:
    """Scales or zero points, one for each position of an axis, or for each element, with as many axes as the data."""
    if numbers.rank > 1 and numbers.rank == x.rank:
        return numbers
    if numbers.rank > 1:
        raise NotConverted(f"scales of {numbers.rank} dimensions do not fit data of {x.rank}")
    if _is_one(numbers):
        return numbers.with_rank(0)
    return b.with_axes(numbers, [k for k in range(x.rank) if k != axis])


def _is_one(numbers: Value) -> bool:
    return numbers.rank == 0 or numbers.length == 1


def _quantized_type(scale: Value, zero: Value | None, kind: ElementType) -> DType | None:
    """The quantized type whose numbers have one known scale and zero point; None if there is none."""
    known = scale.known if _is_one(scale) else None
    point = np.zeros(1, DTYPES[kind].storage) if zero is None else zero.known if _is_one(zero) else None
    if kind not in _BYTES_OF_KERNELS or known is None or point is None:
        return None
    number, offset = float(np.float32(known.item())), int(point.item())
    if not 0 < number < np.inf:
        return None
    if kind == ElementType.INT8 and offset == 0:
        return DType(DTypeCode.QUANTIZED_S8, number, 0, True)
    if kind == ElementType.INT8:
        offset += 128  # as OnnxBytes has it
    return DType(DTypeCode.QUANTIZED8_ASYMM, number, offset, True)


def _with_bytes_of(b: GraphBuilder, x: Value, dtype: DType) -> AnyVar:
    return b.nodes_of("OnnxBytes", OnnxBytes(dtype), [b.exact(x)])[0]


def _dequantized_constant(b: GraphBuilder, parts: Sequence[Value], axis: int, kind: ElementType) -> Value | None:
    """The real values of constants, which keep their scales; None if they are not constants.

    They are made when they are read: kernels of int8 take the integers.
    """
    constants = [v.var.const for v in parts]
    x, scale = parts[0], parts[1]
    if x.rank == 0 or kind != ElementType.FLOAT or not isinstance(x.var, Var) or scale.rank > 1:
        return None
    known = [c for c in constants if c is not None]
    if len(known) < len(constants):
        return None
    shape = [1] * x.rank
    shape[axis] = -1
    shapes = [v.var.spec.shape for v in parts if isinstance(v.var, Var)]
    if any(math.prod(s) not in (1, x.var.spec.shape[axis]) for s in shapes[1:]):
        return None

    def made(q: np.ndarray, scales: np.ndarray, *zeros: np.ndarray) -> np.ndarray:
        real = q.astype(np.float32)
        for zero in zeros:
            real = real - zero.astype(np.float32).reshape(shape if zero.size > 1 else (1,))
        return real * scales.astype(np.float32).reshape(shape if scales.size > 1 else (1,))

    constant = DerivedConstant(known, made)
    constant.scales = known[1]
    return Value(Var(b.new_id(), b.label, TensorSpec(x.var.spec.shape, FLOAT32), constant), kind, x.rank, FLOAT32)


def dequantized(b: GraphBuilder, x: Value, scale: Value, zero: Value | None, axis: int, kind: ElementType) -> Value:
    """The real values of quantized numbers, with scales and zero points for all or along an axis."""
    scale = b.retyped(scale, ElementType.FLOAT)  # also half precision, which the kernels of int8 do not read
    parts = [x, scale] if zero is None else [x, scale, zero]
    constant = _dequantized_constant(b, parts, axis, kind)
    if constant is not None:
        return constant
    dtype = _quantized_type(scale, zero, x.kind)
    if dtype is not None:
        parameters = params.DTypeTable(dtype=FLOAT32)
        (var,) = b.nodes_of("TypeCvt", parameters, [_with_bytes_of(b, x, dtype)])
        return b.retyped(Value(var, ElementType.FLOAT, x.rank, FLOAT32), kind)
    real = b.retyped(x, ElementType.FLOAT)
    if zero is not None:
        real = b.elemwise(_M.SUB, real, b.retyped(_along(b, x, zero, axis), ElementType.FLOAT))
    return b.retyped(b.elemwise(_M.MUL, real, _along(b, x, scale, axis)), kind)


def quantized(b: GraphBuilder, x: Value, scale: Value, zero: Value | None, axis: int, kind: ElementType) -> Value:
    """Quantized numbers for real values: halves go to the even neighbour."""
    if kind not in _BYTES:
        raise NotConverted(f"{kind.name} is no type of quantized numbers here")
    dtype = _quantized_type(scale, zero, kind)
    if dtype is not None:
        (var,) = b.nodes_of("TypeCvt", params.DTypeTable(dtype=dtype), [b.exact(x)])
        (var,) = b.nodes_of("OnnxBytes", OnnxBytes(DTYPES[kind]), [var])
        return Value(var, kind, x.rank, DTYPES[kind])
    of_numbers = x.is_float32 and scale.is_float32 and DTYPES[kind] in (INT8, UINT8)
    if of_numbers and zero is not None and zero.rank == scale.rank == 0:
        inputs = [b.exact(x), b.exact(scale), b.exact(b.retyped(zero, kind))]
        return Value(b.nodes_of("OnnxQuantize", None, inputs)[0], kind, x.rank, DTYPES[kind])
    limits = np.iinfo(DTYPES[kind].storage)
    steps = b.elemwise(_M.ROUND_EVEN, b.elemwise(_M.TRUE_DIV, x, _along(b, x, scale, axis)))
    if zero is not None:
        steps = b.elemwise(_M.ADD, steps, b.retyped(_along(b, x, zero, axis), ElementType.FLOAT))
    low, high = b.number(int(limits.min), steps), b.number(int(limits.max), steps)
    return b.retyped(b.elemwise(_M.MIN, b.elemwise(_M.MAX, steps, low), high), kind)


def _of_elements(call: Call, x: Value, numbers: Value | None, axis: int) -> Value | None:
    """Scales or zero points; those for blocks of an axis become those for each element."""
    b, size = call.builder, call.integer("block_size", 0)
    if size == 0 or numbers is None:
        return numbers
    if size < 0 or numbers.rank != x.rank or not x.rank:
        raise NotConverted(f"blocks of {size} elements with scales of {numbers.rank} dimensions are not defined")
    sizes = [b.dimension(numbers, k) for k in range(x.rank)]
    block = b.constant(np.array([size]))
    wide = b.with_axes(numbers, [axis + 1])
    wide = b.broadcast(wide, b.joined([*sizes[: axis + 1], block, *sizes[axis + 1 :]], 0).var, x.rank + 1)
    sizes[axis] = b.elemwise(_M.MUL, sizes[axis], block)
    wide = b.reshaped(wide, b.joined(sizes, 0).var, x.rank)
    return b.sliced(wide, axis, None, b.size(b.dimension(x, axis).var), None)


@converts("QuantizeLinear", since=10)
@converts("QuantizeLinear", domain=MICROSOFT)
def _quantize(call: Call) -> Value:
    b, x, scale, zero = call.builder, call.input(0), call.input(1), call.optional(2)
    kind = target_kind(call, "output_dtype", ElementType.UINT8) if zero is None else zero.kind
    call.know("output_dtype", "precision", "axis")
    axis = call.axis("axis", 1, x.rank) if x.rank > 1 else 0
    scale, zero = _of_elements(call, x, scale, axis) or scale, _of_elements(call, x, zero, axis)
    real, steps = (b.retyped(v, ElementType.FLOAT) for v in (x, scale))
    return quantized(b, real, steps, zero, axis, kind)


@converts("DequantizeLinear", since=10)
@converts("DequantizeLinear", domain=MICROSOFT)
def _dequantize(call: Call) -> Value:
    b, x, scale, zero = call.builder, call.input(0), call.input(1), call.optional(2)
    call.know("axis")
    axis = call.axis("axis", 1, x.rank) if x.rank > 1 else 0
    scale, zero = _of_elements(call, x, scale, axis) or scale, _of_elements(call, x, zero, axis)
    return dequantized(b, x, scale, zero, axis, target_kind(call, "output_dtype", scale.kind))


@converts("DynamicQuantizeLinear", since=11)
def _dynamic(call: Call) -> list[Value | None]:
    b, x = call.builder, call.input(0)
    if x.kind != ElementType.FLOAT:
        raise NotConverted(f"it is not computed in {x.kind.name}")
    # The range has 0 in it, so that what the kernels make of nothing but infinities does not matter.
    flat, zero = b.reshaped(x, b.integers([1]), 1, 0), b.number(0, x)
    low, high = (
        b.without_axes(b.node("OnnxReduce", OnnxReduce(mode, (0,), is_finite=True), [flat.var], x.kind, 1), [0])
        for mode in (OnnxReduction.MIN, OnnxReduction.MAX)
    )
    low, high = b.elemwise(_M.MIN, low, zero), b.elemwise(_M.MAX, high, zero)
    span = b.elemwise(_M.SUB, high, low)
    # Nothing but zeros has the span 1.
    span = choose(b, b.compare(ElemwiseMultiTypeMode.EQ, span, zero), b.number(1, x), span)
    scale = b.elemwise(_M.TRUE_DIV, span, b.number(255, x))
    first = b.elemwise(_M.NEGATE, b.elemwise(_M.TRUE_DIV, low, scale))
    limited = b.elemwise(_M.MIN, b.elemwise(_M.MAX, first, zero), b.number(255, x))
    point = b.retyped(b.elemwise(_M.ROUND_EVEN, limited), ElementType.UINT8)
    return [quantized(b, x, scale, point, 0, ElementType.UINT8), scale, point]


@converts("MatMulInteger", since=10)
def _matmul_integer(call: Call) -> Value:
    b, x, y = call.builder, call.input(0), call.input(1)
    zeros = [call.optional(2), call.optional(3)]
    if x.rank > 1 and y.rank == 2 and y.var.const is not None and _are_single(*zeros):
        return _integer_product(b, x, y, *zeros)
    operands = []
    for place, (v, zero) in enumerate(zip((x, y), zeros, strict=True)):
        wide = b.retyped(v, ElementType.INT32)
        if zero is not None:
            point = b.retyped(zero, ElementType.INT32)
            if point.rank == 1 and point.length != 1:  # one for each row of the first, each column of the second
                point = b.with_axes(point, [1]) if place == 0 else point
            wide = b.elemwise(_M.SUB, wide, point)
        operands.append(wide)
    return multiplied(b, *operands)


def _are_single(zero: Value | None, weights_zero: Value | None) -> bool:
    """Whether data have one zero point, and weights one that is known, as kernels of int8 want it."""
    is_known = weights_zero is None or (_is_one(weights_zero) and weights_zero.known is not None)
    return is_known and (zero is None or _is_one(zero))


def _integer_product(b: GraphBuilder, x: Value, y: Value, x_zero: Value | None, y_zero: Value | None) -> Value:
    """Products of rows of 8-bit numbers and a constant matrix, by the kernels of int8.

    A zero point of x that is known when the model runs is taken off the sums: times the sum of each column.
    """
    later = x_zero is not None and x_zero.known is None
    rows = flattened(b, x)
    left = _with_bytes_of(b, rows, _integers(x, None if later else x_zero))
    right = _with_bytes_of(b, y, _integers(y, y_zero))
    (sums,) = b.nodes_of("MatrixMul", params.MatrixMul(), [left, right])
    result = Value(b.nodes_of("OnnxBytes", OnnxBytes(INT32), [sums])[0], ElementType.INT32, 2, INT32)
    if later:
        assert x_zero is not None
        wide = b.retyped(y, ElementType.INT32)
        if y_zero is not None:
            wide = b.elemwise(_M.SUB, wide, b.retyped(y_zero, ElementType.INT32).with_rank(0))
        parameters = params.Reduce(mode=ReduceMode.SUM, axis=0)
        columns = b.node("Reduce", parameters, [wide.var], ElementType.INT32, 2)
        point = b.retyped(x_zero, ElementType.INT32).with_rank(0)
        result = b.elemwise(_M.SUB, result, b.elemwise(_M.MUL, columns, point))
    return unflattened(b, result, x, y)


def _integers(x: Value, zero: Value | None) -> DType:
    """The quantized type of plain numbers with this zero point."""
    point = 0 if zero is None or zero.known is None else int(zero.known.item())
    return DType(DTypeCode.QUANTIZED8_ASYMM, 1.0, point + (128 if x.kind == ElementType.INT8 else 0), True)


@converts("QLinearMatMul", since=10)
def _quantized_matmul(call: Call) -> Value:
    b = call.builder
    x, x_scale, x_zero, y, y_scale, y_zero, scale, zero = (call.input(k) for k in range(8))
    if not _is_one(x_scale) or not _is_one(scale) or not (_is_one(y_scale) or y.rank == 2):
        raise NotConverted("scales for rows, or for columns of several matrices, are not computed here")
    left = dequantized(b, x, x_scale, x_zero, 0, ElementType.FLOAT)
    right = dequantized(b, y, y_scale, y_zero, y.rank - 1, ElementType.FLOAT)
    return quantized(b, multiplied(b, left, right), b.retyped(scale, ElementType.FLOAT), zero, 0, zero.kind)


@converts("QLinearConv", since=10)
def _quantized_conv(call: Call) -> Value:
    return quantized_convolution(call, call.input(0))


def quantized_convolution(call: Call, x: Value) -> Value:
    """A convolution of data with channels in front, by the other inputs and the attributes of a call."""
    b = call.builder
    x_scale, x_zero, w, w_scale, w_zero, scale, zero = (call.input(k) for k in range(1, 8))
    bias = call.optional(8)
    if not all(_is_one(v) for v in (x_scale, x_zero, scale, zero)):
        raise NotConverted("only scales of filters can differ between channels")
    left = dequantized(b, x, x_scale, x_zero, 0, ElementType.FLOAT)
    right = dequantized(b, w, w_scale, w_zero, 0, ElementType.FLOAT)
    if bias is not None:
        products = b.elemwise(_M.MUL, w_scale, x_scale.with_rank(0))
        bias = dequantized(b, bias, products, None, 0, ElementType.FLOAT)
    result = convolution(call, left, right, bias)
    return quantized(b, result, b.retyped(scale, ElementType.FLOAT), zero, 0, zero.kind)


@converts("ConvInteger", since=10)
def _conv_integer(call: Call) -> Value:
    b, x, w = call.builder, call.input(0), call.input(1)
    x_zero, w_zero = (_equal(b, call.optional(k)) for k in (2, 3))
    shape = b.known_shape(w)
    if w.rank < 5 and _are_single(x_zero, w_zero):
        return _integer_conv(call, x, w, x_zero, w_zero)
    if w.rank < 5 and _are_single(x_zero, None) and w_zero is not None and shape is not None:
        # Zero points of filters are taken off the sums: times the sums of the data.
        sums = _integer_conv(call, x, w, x_zero, None)
        data = _integer_conv(call, x, b.constant(np.ones(shape, np.int8)), x_zero, None)
        points = b.retyped(w_zero, ElementType.INT32)
        points = points.with_rank(0) if _is_one(points) else b.with_axes(points, list(range(1, w.rank - 1)))
        return b.elemwise(_M.SUB, sums, b.elemwise(_M.MUL, data, points))
    one = b.constant(np.float64(1))  # sums in float32 would be rounded
    data, filters = (dequantized(b, v, one, z, 0, ElementType.DOUBLE) for v, z in ((x, x_zero), (w, w_zero)))
    return b.retyped(convolution(call, data, filters, None), ElementType.INT32)


def _equal(b: GraphBuilder, zero: Value | None) -> Value | None:
    """One zero point in place of known ones that are all the same."""
    known = None if zero is None or not zero.rank else zero.known
    if zero is None or known is None or not known.size or (known != known[0]).any():
        return zero
    return b.constant(known[0], zero.kind)


def _integer_conv(call: Call, x: Value, w: Value, x_zero: Value | None, w_zero: Value | None) -> Value:
    """A convolution of 8-bit numbers, by the kernels of int8 if the filter is constant.

    A zero point of x that is known when the model runs is taken off the sums: times the sum of each filter. Then it is
    also what the padding consists of, so that all sums have as many terms.
    """
    b, groups, axes = call.builder, call.positive("group", 1), w.rank - 2
    if x.rank != w.rank or not 0 < axes < 3:
        raise NotConverted(f"data of {x.rank} and a filter of {w.rank} dimensions are not computed here")
    window = window_of(call, filter_size(call, w), axes)
    later = x_zero is not None and x_zero.known is None
    fill = None if x_zero is None else x_zero.with_rank(0)
    x, window = with_symmetric_padding(b, x, window, fill)
    if later and any(window.begin):
        x, window = with_padding(b, x, window, fill)
    types = _integers(x, None if later else x_zero), _integers(w, w_zero)
    data, filters = (
        Value(_with_bytes_of(b, v, t), ElementType.INT32, v.rank, t) for v, t in zip((x, w), types, strict=True)
    )
    sums = convolved(b, data, filters, window, groups, dtype=DType(DTypeCode.QUANTIZED_S32, 1.0))
    result = Value(b.nodes_of("OnnxBytes", OnnxBytes(INT32), [sums.var])[0], ElementType.INT32, x.rank, INT32)
    if not later or fill is None:
        return result
    totals = _sums_of_filters(b, w, w_zero)
    return b.elemwise(_M.SUB, result, b.elemwise(_M.MUL, totals, b.retyped(fill, ElementType.INT32)))


def _sums_of_filters(b: GraphBuilder, w: Value, zero: Value | None) -> Value:
    """Of each output channel, in the shape of an image of one pixel."""
    wide = b.retyped(w, ElementType.INT32)
    if zero is not None:
        wide = b.elemwise(_M.SUB, wide, b.retyped(zero, ElementType.INT32).with_rank(0))
    for axis in range(1, w.rank):
        parameters = params.Reduce(mode=ReduceMode.SUM, axis=axis)
        wide = b.node("Reduce", parameters, [b.exact(wide)], ElementType.INT32, w.rank)
    return b.transposed(wide, [1, 0, *range(2, w.rank)])
