"""Matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import INT16, INT32, DType, DTypeCode
from megengine_lite._core.ir.graph import AnyNode, Node, TensorSpec
from megengine_lite._core.ir.params import MatrixMulFormat
from megengine_lite._core.ir.quantize import from_float32, to_float64
from megengine_lite._core.operators.base import Operator, ProductOperator, fail, register
from megengine_lite._core.operators.checks import check_count, check_float, check_ndim, common_dtype
from megengine_lite._core.operators.facts import MATRIX, VECTOR, InFiles, InOriginal
from megengine_lite._core.operators.origins import Shape, ShapeOrigins, Size
from megengine_lite._core.operators.samples import COMMON, first_only

Array = np.ndarray
_C = DTypeCode

# Type of the product of quantized types.
_PRODUCTS = {
    _C.QUANTIZED_S8: _C.QUANTIZED_S32,
    _C.QUANTIZED8_ASYMM: _C.QUANTIZED_S32,
    _C.QUANTIZED4_ASYMM: _C.QUANTIZED_S32,
    _C.QUANTIZED_S4: _C.QUANTIZED_S16,
}
# Rows and columns of the blocks of packed operands.
_BLOCK = {MatrixMulFormat.MK4: 4, MatrixMulFormat.MK8: 8, MatrixMulFormat.MK4_DOT: 4}


def product_dtype(node: AnyNode, ins: Sequence[TensorSpec]) -> DType:
    """The type of a product of two matrices."""
    a, b = ins[0].dtype, ins[1].dtype
    if a.is_quantized and a.code == b.code and a.code in _PRODUCTS:
        scale = float(np.float32(a.scale) * np.float32(b.scale))
        return _chosen(node, DType(_PRODUCTS[a.code], scale))
    if a.is_float:
        return check_float(node, ins)
    if a == b and a.code == _C.INT8:
        return _chosen(node, INT32, INT16)
    if a == b == INT16:
        return INT32
    raise fail(node, f"cannot multiply {a} by {b}")


def _chosen(node: AnyNode, *possible: DType) -> DType:
    """The output type that the file names, which must be one of these; the first if it names none."""
    named = node.output_dtype
    if named is None:
        return possible[0]
    if named.code not in [d.code for d in possible]:
        raise fail(node, f"the output cannot be {named}")
    return named


def multiply(a: Array, b: Array, in_specs: Sequence[TensorSpec], out: DType) -> Array:
    """The product over the last and the last but one dimension, summed in double precision.

    Sums of products of integers of up to 16 bits are exact that way.
    """
    left, right = in_specs[0].dtype, in_specs[1].dtype
    if out.is_float:
        product = np.matmul(to_float64(a, left), to_float64(b, right))
        return from_float32(product.astype(np.float32), out)
    product = np.matmul(a.astype(np.float64) - left.zero_point, b.astype(np.float64) - right.zero_point)
    result: np.ndarray = product.astype(np.int64).astype(out.storage)
    return result


def _multiply_adds(node: Node) -> int:
    a, b = node.inputs[:2]
    out = node.outputs[0].spec.size
    if node.params.format != MatrixMulFormat.DEFAULT:
        return math.isqrt(a.spec.size * b.spec.size * out)  # (m k) (k n) (m n)
    depth = a.shape[-2] if node.params.transposeA and len(a.shape) > 1 else a.shape[-1]
    return out * depth


@register
class MatrixMul(ProductOperator):
    """Product of two matrices, each transposed or not, plain or packed in blocks."""

    name = "MatrixMul"
    param = params.MatrixMul
    in_files = InFiles(revision=2)
    in_original = InOriginal(chooses_algorithm=True)
    runs_in_float32 = True
    sample_inputs = (MATRIX, MATRIX)

    def multiply_adds(self, node: Node) -> int:
        return _multiply_adds(node)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        dtype = product_dtype(node, ins)
        if node.params.format != MatrixMulFormat.DEFAULT:
            return [TensorSpec(self._packed_shape(node, ins), dtype)]
        m, k = self._rows_columns(node, ins[0], node.params.transposeA, "A")
        k_b, n = self._rows_columns(node, ins[1], node.params.transposeB, "B")
        if k != k_b:
            raise fail(node, f"a {m}x{k} matrix cannot be multiplied by a {k_b}x{n} matrix")
        return [TensorSpec((m, n), dtype)]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        p = node.params
        if p.format != MatrixMulFormat.DEFAULT:
            return None
        return [[[Size(0, 1 if p.transposeA else 0)], [Size(1, 0 if p.transposeB else 1)]]]

    @staticmethod
    def _rows_columns(node: AnyNode, spec: TensorSpec, transposed: bool, what: str) -> tuple[int, int]:
        rows, columns = check_ndim(node, spec, 2, what)
        return (columns, rows) if transposed else (rows, columns)

    @staticmethod
    def _packed_shape(node: AnyNode, ins: Sequence[TensorSpec]) -> tuple[int, ...]:
        p = node.params
        if p.transposeA or p.transposeB:
            raise fail(node, "packed operands cannot be transposed")
        if p.format == MatrixMulFormat.N32K4_DOT:
            m, k = check_ndim(node, ins[0], 2, "A")
            n_blocks, k_blocks, *block = check_ndim(node, ins[1], 4, "B")
            if block != [32, 4] or k != 4 * k_blocks:
                raise fail(node, f"shapes {ins[0].shape} and {ins[1].shape} do not fit format N32K4_DOT")
            return (m, 32 * n_blocks)
        if p.format not in _BLOCK:
            raise fail(node, f"format {p.format} is not known")
        size = _BLOCK[p.format]
        m_blocks, k_blocks, *block = check_ndim(node, ins[0], 4, "A")
        k_blocks_b, n, inner = check_ndim(node, ins[1], 3, "B")
        if block != [size, size] or inner != size or k_blocks != k_blocks_b:
            raise fail(
                node, f"shapes {ins[0].shape} and {ins[1].shape} do not fit format {MatrixMulFormat(p.format).name}"
            )
        return (m_blocks, n, size)

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p, (a, b) = node.params, ins
        if p.format == MatrixMulFormat.N32K4_DOT:
            b = b.transpose(1, 3, 0, 2).reshape(a.shape[1], -1)
        elif p.format != MatrixMulFormat.DEFAULT:
            size = _BLOCK[p.format]
            order = (0, 2, 1, 3) if p.format == MatrixMulFormat.MK4_DOT else (0, 3, 1, 2)
            rows, depth = a.shape[0] * size, a.shape[1] * size
            a = a.transpose(order).reshape(rows, depth)
            b = b.transpose(0, 2, 1).reshape(depth, -1)
            product = multiply(a, b, in_specs, out_specs[0].dtype)
            return [product.reshape(-1, size, product.shape[1]).transpose(0, 2, 1)]
        a = a.T if p.transposeA else a
        b = b.T if p.transposeB else b
        return [multiply(a, b, in_specs, out_specs[0].dtype)]

    def keeps_samples(self, node: Node, rows: Sequence[int]) -> bool:
        p = node.params
        return first_only(self, node, rows) and not p.transposeA and p.format == MatrixMulFormat.DEFAULT


@register
class BatchedMatrixMul(ProductOperator):
    """Products of the matrices of two batches, each transposed or not."""

    name = "BatchedMatrixMul"
    param = params.MatrixMul
    in_files = InFiles(revision=2)
    in_original = InOriginal(chooses_algorithm=True)
    runs_in_float32 = True
    sample_inputs = ((2, 4, 4), (2, 4, 4))

    def multiply_adds(self, node: Node) -> int:
        return _multiply_adds(node)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        p = node.params
        if p.format != MatrixMulFormat.DEFAULT:
            raise fail(node, f"format {p.format} is not known for batches")
        batch, m, k = check_ndim(node, ins[0], 3, "A")
        batch_b, k_b, n = check_ndim(node, ins[1], 3, "B")
        m, k = (k, m) if p.transposeA else (m, k)
        k_b, n = (n, k_b) if p.transposeB else (k_b, n)
        if batch != batch_b or k != k_b:
            raise fail(node, f"{batch} {m}x{k} matrices cannot be multiplied by {batch_b} {k_b}x{n} matrices")
        return [TensorSpec((batch, m, n), product_dtype(node, ins))]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        p = node.params
        return [[[Size(0, 0)], [Size(0, 2 if p.transposeA else 1)], [Size(1, 1 if p.transposeB else 2)]]]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        a, b = ins
        a = a.swapaxes(1, 2) if node.params.transposeA else a
        b = b.swapaxes(1, 2) if node.params.transposeB else b
        return [multiply(a, b, in_specs, out_specs[0].dtype)]

    def keeps_samples(self, node: Node, rows: Sequence[int]) -> bool:
        ranks = {len(v.shape) for v in (*node.inputs, *node.outputs)}
        return ranks == {3} and rows[0] == rows[1] != COMMON and node.params.format == MatrixMulFormat.DEFAULT


@register
class Dot(Operator):
    """Product of two vectors, of which one may have length 1 and is repeated; the result has shape [1]."""

    name = "Dot"
    param = params.Empty
    runs_in_float32 = True
    sample_inputs = (VECTOR, VECTOR)

    def multiply_adds(self, node: Node) -> int:
        return max(v.spec.size for v in node.inputs)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        (n,), (m,) = (check_ndim(node, s, 1, "an operand") for s in ins)
        if n != m and 1 not in (n, m):
            raise fail(node, f"vectors of {n} and {m} elements cannot be multiplied")
        dtype = common_dtype(node, ins)
        if not dtype.is_float and dtype.storage.kind not in "iu":
            raise fail(node, f"is not defined for {dtype}")
        return [TensorSpec((1,), product_dtype(node, ins) if dtype.is_quantized else dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        a, b = np.broadcast_arrays(*ins)
        if in_specs[0].dtype == INT32:
            return [np.sum(a * b, dtype=np.int32).reshape(1)]  # beyond what double precision holds; wraps
        return [multiply(a[None], b[:, None], in_specs, out_specs[0].dtype).reshape(1)]
