"""Matrix products."""

from __future__ import annotations

import math

import numpy as np

from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import FLOATS, Value, check_same_kind
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.operators.activations import product
from megengine_lite._core.formats.onnx.operators.table import Call, NotConverted, converts
from megengine_lite._core.ir import params
from megengine_lite._core.ir.onnx_params import EinsumParam
from megengine_lite._core.ir.params import ElemwiseMode

_M = ElemwiseMode


@converts("Gemm")
def _gemm(call: Call) -> Value:
    b, x, y, z = call.builder, call.input(0), call.input(1), call.optional(2)
    alpha, beta = call.real("alpha", 1.0), call.real("beta", 1.0)
    call.know("broadcast")
    check_same_kind([v for v in (x, y, z) if v is not None])
    if x.rank != 2 or y.rank != 2:
        raise NotConverted(f"its inputs have {x.rank} and {y.rank} dimensions, and must be matrices")
    parameters = params.MatrixMul(
        transposeA=bool(call.integer("transA", 0)), transposeB=bool(call.integer("transB", 0))
    )
    if x.is_float32:
        result = b.node("MatrixMul", parameters, [b.exact(x), b.exact(y)], x.kind, 2)
    else:
        turned = zip((x, y), (parameters.transposeA, parameters.transposeB), strict=True)
        result = multiplied(b, *(b.transposed(v, (1, 0)) if turns else v for v, turns in turned))
    if x.kind not in FLOATS and not (alpha.is_integer() and beta.is_integer()):  # fractions of the sum are cut off
        result, z = b.retyped(result, ElementType.DOUBLE), z and b.retyped(z, ElementType.DOUBLE)
    if alpha != 1:
        result = b.elemwise(_M.MUL, result, b.number(alpha, result))
    if z is None or beta == 0:
        return b.retyped(result, x.kind)
    if z.rank > 2:
        raise NotConverted(f"its third input has {z.rank} dimensions, the product two")
    if beta != 1:
        z = b.elemwise(_M.MUL, z, b.number(beta, z))
    columns = b.known_shape(y)
    width = None if columns is None else columns[0 if parameters.transposeB else 1]
    return b.retyped(b.elemwise(_M.ADD, result, _not_larger(b, z, result, width)), x.kind)


def _not_larger(b: GraphBuilder, z: Value, result: Value, width: int | None) -> Value:
    """An addend that is repeated to the shape of a product, an error of the run if it is larger."""
    shape = b.known_shape(z)
    if shape is not None and z.rank and width is not None and shape[-1] not in (1, width):
        raise NotConverted(f"its third input, of shape {shape}, does not fit a product of {width} columns")
    if z.rank == 0 or (shape is not None and math.prod(shape) == 1):
        return z
    if shape is not None and width is not None and math.prod(shape[:-1]) == 1:
        return z  # a row, as of a linear layer, which is not repeated before it is added
    return b.broadcast(z, b.shape(result).var, 2)


@converts("MatMul")
def _matmul(call: Call) -> Value:
    return multiplied(call.builder, call.input(0), call.input(1))


def multiplied(b: GraphBuilder, x: Value, y: Value) -> Value:
    """The product of the last two axes; the ones before broadcast."""
    check_same_kind([x, y])
    if x.rank == 0 or y.rank == 0:
        raise NotConverted("a scalar is no matrix")
    if not x.dtype.is_float:
        return _by_einsum(b, x, y)
    removed = []
    if x.rank == 1:
        x = b.with_axes(x, [0])
        removed.append(-2)
    if y.rank == 1:
        y = b.with_axes(y, [1])
        removed.append(-1)
    result = _product(b, x, y)
    rank = result.rank
    return b.without_axes(result, [a + rank for a in removed]) if removed else result


def _product(b: GraphBuilder, x: Value, y: Value) -> Value:
    if x.rank == 2 and y.rank == 2:
        return b.node("MatrixMul", params.MatrixMul(), [b.exact(x), b.exact(y)], x.kind, 2)
    if y.rank == 2:
        # All rows of a batch by one matrix: one product of two matrices.
        flat = b.node("MatrixMul", params.MatrixMul(), [b.exact(flattened(b, x)), b.exact(y)], x.kind, 2)
        return unflattened(b, flat, x, y)
    rank = max(x.rank, y.rank)
    x, y = (b.with_axes(v, range(rank - v.rank)) if v.rank < rank else v for v in (x, y))
    if rank == 3:
        lead = _common(b, x, y, 1)
        pairs = [b.broadcast(v, _shaped(b, lead, v).var, 3) for v in (x, y)]
        return b.node("BatchedMatrixMul", params.MatrixMul(), [b.exact(v) for v in pairs], x.kind, 3)
    lead = _common(b, x, y, rank - 2)
    count, pairs = product(b, lead), []
    for v in (x, y):
        whole = b.broadcast(v, _shaped(b, lead, v).var, rank)
        pairs.append(b.reshaped(whole, _shaped(b, count, v).var, 3))
    flat = b.node("BatchedMatrixMul", params.MatrixMul(), [b.exact(v) for v in pairs], x.kind, 3)
    return b.reshaped(flat, b.joined([lead, b.dimension(x, -2), b.dimension(y, -1)], 0).var, rank)


def flattened(b: GraphBuilder, x: Value) -> Value:
    """All rows of a batch as one matrix."""
    if x.rank == 2:
        return x
    lead = b.part(b.shape(x), 0, 0, x.rank - 1)
    return b.reshaped(x, b.joined([product(b, lead), b.dimension(x, -1)], 0).var, 2)


def unflattened(b: GraphBuilder, rows: Value, x: Value, y: Value) -> Value:
    """The product of the matrix y with :func:`flattened` rows of x in the shape that it has for x."""
    if x.rank == 2:
        return rows
    lead = b.part(b.shape(x), 0, 0, x.rank - 1)
    return b.reshaped(rows, b.joined([lead, b.dimension(y, -1)], 0).var, x.rank)


def _common(b: GraphBuilder, x: Value, y: Value, count: int) -> Value:
    """The leading dimensions that both broadcast to."""
    parts = [b.part(b.shape(v), 0, 0, count) for v in (x, y)]
    # The larger one; but 0 and 1 make 0.
    some = [b.elemwise(_M.MIN, p, b.constant(np.int64(1))) for p in parts]
    return b.elemwise(_M.MUL, b.elemwise(_M.MAX, *parts), b.elemwise(_M.MUL, *some))


def _shaped(b: GraphBuilder, lead: Value, v: Value) -> Value:
    return b.joined([lead, b.part(b.shape(v), 0, v.rank - 2, None)], 0)


def _by_einsum(b: GraphBuilder, x: Value, y: Value) -> Value:
    """Products of integers, in numpy."""
    left = "mk" if x.rank > 1 else "k"
    right = "kn" if y.rank > 1 else "k"
    out = ("m" if x.rank > 1 else "") + ("n" if y.rank > 1 else "")
    lead = max(x.rank - 2, y.rank - 2, 0)
    equation = f"...{left},...{right}->...{out}"
    return b.node("Einsum", EinsumParam(equation), [b.exact(x), b.exact(y)], x.kind, lead + len(out))
