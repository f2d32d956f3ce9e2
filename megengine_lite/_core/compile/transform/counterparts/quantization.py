"""Quantized numbers as the real numbers that they stand for.

The original rounds halves away from zero where ONNX rounds them to even numbers, so its quantized types would give
other results. What is between ``QuantizeLinear`` and ``DequantizeLinear`` stays exact as float32: each variable of a
quantized type is one of real numbers in the file. Sums of products of integers are int32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from megengine_lite._core.compile.transform.counterparts.arithmetic import rounded
from megengine_lite._core.compile.transform.counterparts.pieces import Pieces, dtype_of, shape_of
from megengine_lite._core.compile.transform.counterparts.table import written
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32, INT32, DType, DTypeCode
from megengine_lite._core.ir.graph import AnyNode, AnyVar, Var
from megengine_lite._core.ir.params import Convolution, ConvolutionSparse, ElemwiseMode
from megengine_lite._core.ir.quantize import dequantize

_M = ElemwiseMode
_EXACT_PRODUCTS = 256
"""So many products of 8-bit integers have a sum that float32 has exactly: below 2**24."""


@written("TypeCvt", any_size=True)
def _converted(w: Pieces, node: AnyNode) -> Var:
    x, target = node.inputs[0], node.params.dtype
    (source,) = w.types
    if source.code == DTypeCode.QUANTIZED_S32:
        return w.multiply(w.converted(x, FLOAT32), w.constant(np.float32(source.scale)))
    if target.is_quantized:
        return _quantized(w, w.converted(x, FLOAT32), target)
    # The numbers of wide integers are known to fit.
    return w.converted(x, INT32 if target.is_wide else target)


def _quantized(w: Pieces, x: Var, dtype: DType) -> Var:
    """Real numbers, rounded to those that a quantized type has."""
    scale, zero = w.constant(np.float32(dtype.scale)), w.constant(np.float32(dtype.zero_point))
    steps = rounded(w, w.divide(x, scale))
    shifted = w.add(steps, zero) if dtype.zero_point else steps
    whole = _limited(w, shifted, *dtype.quantized_range)
    real = w.multiply(w.subtract(whole, zero) if dtype.zero_point else whole, scale)
    w.whole[real] = whole
    return real


def _limited(w: Pieces, x: Var, low: int, high: int) -> Var:
    return w.elemwise(_M.MIN, w.elemwise(_M.MAX, x, w.number(low, x)), w.number(high, x))


@written("OnnxBytes", any_size=True)
def _bytes(w: Pieces, node: AnyNode) -> Var:
    """Stored integers: the sign bit changes between signed and unsigned ones."""
    x, target = node.inputs[0], node.params.dtype
    (source,) = w.types
    codes = (source.code, target.code)
    if DTypeCode.QUANTIZED_S32 in codes:
        return w.converted(x, INT32)
    change = {"ui": -128, "iu": 128}.get(source.storage.kind + target.storage.kind, 0)
    if source.is_quantized:
        stored = w.whole.get(x) or _stored(w, x, source)
        return w.converted(w.add(stored, w.number(change, stored)) if change else stored, target)
    stored = w.converted(x, FLOAT32)
    offset = change - target.zero_point
    steps = w.add(stored, w.number(offset, stored)) if offset else stored
    return w.multiply(steps, w.constant(np.float32(target.scale)))


def _stored(w: Pieces, x: AnyVar, dtype: DType) -> Var:
    """The stored integers as float32."""
    if x.const is not None and dtype_of(x).is_quantized:
        return w.constant(x.const.array.astype(np.float32))
    steps = rounded(w, w.divide(x, w.constant(np.float32(dtype.scale))))
    return w.add(steps, w.number(dtype.zero_point, steps)) if dtype.zero_point else steps


@written("OnnxQuantize", any_size=True)
def _quantize(w: Pieces, node: AnyNode) -> Var:
    x, scale, zero = node.inputs
    dtype = dtype_of(zero)
    limits = np.iinfo(dtype.storage)
    steps = w.add(rounded(w, w.divide(x, scale)), w.converted(zero, FLOAT32))
    return w.converted(_limited(w, steps, int(limits.min), int(limits.max)), dtype)


@written("MatrixMul", any_size=True)
def _product(w: Pieces, node: AnyNode) -> Var:
    """Of quantized numbers the sums of products of integers, in parts that float32 has exactly."""
    types = w.types
    if not any(t.is_quantized for t in types):
        return w.make(node.op, node.params, node.inputs, node.output_dtype)
    left, right = (_differences(w, v, t) for v, t in zip(node.inputs, types, strict=True))
    axes = (0 if node.params.transposeA else 1, 1 if node.params.transposeB else 0)
    count = shape_of(left)[axes[0]]
    if all(v.const is None for v in node.inputs):  # a matrix of the model has only one size
        w.takes_axes.add(axes[0])
    flags = params.MatrixMul(transposeA=node.params.transposeA, transposeB=node.params.transposeB)

    def product(begin: int, end: int) -> Var:
        return w.make("MatrixMul", flags, [w.part(v, a, begin, end) for v, a in zip((left, right), axes, strict=True)])

    return _sum_of_parts(w, count, _EXACT_PRODUCTS, product)


def _sum_of_parts(w: Pieces, count: int, most: int, product: Callable[[int, int], Var]) -> Var:
    """Products of ``count`` pairs, of which at most so many are summed up in float32, as int32."""
    parts = (w.converted(product(k, min(k + most, count)), INT32) for k in range(0, count, most))
    return functools.reduce(w.add, parts)  # each is added as soon as it is made


@written("Convolution", any_size=True)
def _convolution(w: Pieces, node: AnyNode) -> Var:
    """Of quantized numbers the sums of products of integers, as of matrices. A filter of the model has one size."""
    types, p = w.types, node.params
    if not any(t.is_quantized for t in types):
        return w.make(node.op, p, node.inputs, node.output_dtype)
    x, filters = (_differences(w, v, t) for v, t in zip(node.inputs, types, strict=True))
    *outer, _, channels, height, width = shape_of(filters)
    w.takes_sizes |= node.inputs[1].const is None
    most = max(1, _EXACT_PRODUCTS // (height * width))
    if channels <= most or not outer:
        return _dense_convolution(w, p, x, filters, channels, most)
    dense = p.replace(sparse=ConvolutionSparse.DENSE)
    results = []
    for k in range(outer[0]):
        own = w.reshaped(w.part(filters, 0, k, k + 1), shape_of(filters)[1:])
        data = w.part(x, 1, k * channels, (k + 1) * channels)
        results.append(_dense_convolution(w, dense, data, own, channels, most))
    return w.joined(results, 1)


def _dense_convolution(w: Pieces, p: Convolution, x: Var, filters: Var, channels: int, most: int) -> Var:
    """The sum of convolutions of at most so many channels each, or a single one that has groups."""
    if channels <= most:
        return w.converted(rounded(w, w.make("Convolution", p, [x, filters])), INT32)

    def product(begin: int, end: int) -> Var:
        return rounded(w, w.make("Convolution", p, [w.part(v, 1, begin, end) for v in (x, filters)]))

    return _sum_of_parts(w, channels, most, product)


def _differences(w: Pieces, x: AnyVar, dtype: DType) -> Var:
    """Stored integers without the zero point, as float32."""
    if x.const is not None and dtype_of(x).is_quantized:
        return w.constant(dequantize(x.const.array, DType(dtype.code, 1.0, dtype.zero_point)))
    if dtype.scale == 1.0:
        assert isinstance(x, Var)
        return x
    return rounded(w, w.divide(x, w.constant(np.float32(dtype.scale))))
