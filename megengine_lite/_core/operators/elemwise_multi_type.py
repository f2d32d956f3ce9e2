"""Elementwise operators whose inputs and output differ in type: fixed point, quantized, comparisons."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import BOOL, FLOAT32, INT8, INT16, INT32, UINT8, DType
from megengine_lite._core.ir.graph import AnyNode, Node, TensorSpec, Var
from megengine_lite._core.ir.params import ElemwiseMode
from megengine_lite._core.ir.params import ElemwiseMultiTypeMode as Mode
from megengine_lite._core.ir.quantize import dequantize, quantize, to_float32
from megengine_lite._core.operators.base import ElementwiseOperator, broadcast_shapes, fail, register
from megengine_lite._core.operators.checks import common_dtype
from megengine_lite._core.operators.elemwise_functions import FUNCTIONS, Function, rmulh
from megengine_lite._core.operators.facts import InOriginal
from megengine_lite._core.operators.origins import KnownOrigins, NumberOrigins, Origin, aligned_numbers, numbers_of

Array = np.ndarray

Q_FUNCTIONS: dict[int, Function] = {
    mode: FUNCTIONS[ElemwiseMode[mode.name[1:]]] for mode in Mode if mode.name.startswith("Q")
}
"""Mode -> function of real values, for the modes on quantized types."""

_COMPARISONS: dict[int, np.ufunc] = {
    Mode.EQ: np.equal,
    Mode.NEQ: np.not_equal,
    Mode.LT: np.less,
    Mode.LEQ: np.less_equal,
    Mode.ISNAN: np.isnan,
    Mode.ISINF: np.isinf,
}


def _saturate(x: Array, dtype: DType) -> Array:
    info = np.iinfo(dtype.storage)
    result: np.ndarray = np.clip(x, info.min, info.max).astype(dtype.storage)
    return result


def _round_shift(x: Array, shift: Array) -> Array:
    """x / 2**shift in 64 bits, to nearest with halves away from zero; negative shifts multiply."""
    x = x.astype(np.int64)
    # After a shift of 62 only the sign of an int32 number is left; after one of -31 it is beyond any smaller type.
    right = np.clip(shift, 0, 62).astype(np.int64)
    left = np.clip(-shift.astype(np.int64), 0, 31)
    half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), 0)
    result: np.ndarray = np.sign(x) * ((np.abs(x) + half) >> right) << left
    return result


def _add_rmulh_shift(x: Array, b: Array, factor: Array, shift: Array, low: Array, high: Array) -> Array:
    product = rmulh(x + b, factor)
    result: np.ndarray = np.minimum(np.maximum(_round_shift(product, shift), low), high).astype(np.int8)
    return result


def _affine_to_int8(x: Array, k: Array, b: Array) -> Array:
    result: np.ndarray = np.fmin(np.fmax(np.rint(x.astype(np.float32) * k + b), -128), 127).astype(np.int8)
    return result


def _multiply_add(x: Array, k: Array, b: Array) -> Array:
    result: np.ndarray = x.astype(k.dtype) * k + b
    return result


class _Signature(NamedTuple):
    """Types of the operands (None: any plain integer), of the output, and the formula."""

    operands: tuple[DType | None, ...]
    output: DType
    call: Callable[..., Array]


_FIXED: dict[int, _Signature] = {
    Mode.FUSE_MUL_ADD3_INT16x32x32x32: _Signature((INT16, INT32, INT32), INT32, _multiply_add),
    Mode.FUSE_MUL_ADD3_IXxF32xF32xI8: _Signature((None, FLOAT32, FLOAT32), INT8, _affine_to_int8),
    Mode.ROUND_SHR_SATURATE_IXxI8xI8: _Signature(
        (None, INT8), INT8, lambda x, shift: _saturate(_round_shift(x, shift), INT8)
    ),
    Mode.FUSE_ADD_RMULH_ROUND_SHR_SATURATE_INT16x16x16x8: _Signature(
        (INT16, INT16, INT16, INT8, INT8, INT8), INT8, _add_rmulh_shift
    ),
    Mode.FUSE_ADD_RMULH_ROUND_SHR_SATURATE_INT32x32x32x8: _Signature(
        (INT32, INT32, INT32, INT8, INT8, INT8), INT8, _add_rmulh_shift
    ),
    Mode.ROUND_SHR_SATURATE_IXxI8xI16: _Signature(
        (None, INT8), INT16, lambda x, shift: _saturate(_round_shift(x, shift), INT16)
    ),
    Mode.FUSE_MUL_ADD3_INT16xF32xF32xF32: _Signature((INT16, FLOAT32, FLOAT32), FLOAT32, _multiply_add),
    Mode.MUL_INT16xF32xF32: _Signature((INT16, FLOAT32), FLOAT32, lambda x, y: x.astype(np.float32) * y),
    Mode.FUSE_MUL_ADD3_UINT8xF32xF32xF32: _Signature((UINT8, FLOAT32, FLOAT32), FLOAT32, _multiply_add),
}

# Results of these are never below 0.
_NON_NEGATIVE = (Mode.QRELU, Mode.QABS, Mode.QSIGMOID, Mode.QEXP, Mode.QFUSE_ADD_RELU, Mode.QFUSE_ADD_SIGMOID)


def _never_equal(pair: Sequence[Origin], negative: Sequence[Collection[Origin]], known: KnownOrigins) -> bool:
    """Whether of two numbers one is a size and the other one below 0, for inputs of all sizes."""
    return any(known.is_size(x) and known.is_fixed(y) and y in negative[y.input] for x, y in (pair, pair[::-1]))


@register
class ElemwiseMultiType(ElementwiseOperator):
    """A function of operands that broadcast together, each of its own type.

    Modes that begin with Q apply the function of Elemwise to the real values of quantized operands and quantize the
    result to the output type that the file names.
    """

    name = "ElemwiseMultiType"
    param = params.ElemwiseMultiType
    in_original = InOriginal(has_workspace=False, predicts_results=True)
    element_types = "by its function"

    def makes_non_negative(self, node: Node, is_non_negative: Callable[[Var], bool]) -> bool:
        return node.params.mode in _NON_NEGATIVE

    def original_label(self, node: AnyNode) -> str:
        return Mode(node.params.mode).name

    def number_origins(self, node: AnyNode, specs: Sequence[TensorSpec], known: KnownOrigins) -> NumberOrigins:
        """A size never equals a negative number, as the -1 that stands for a size in what exporters write."""
        found = aligned_numbers([s.shape for s in specs], range(len(specs)))
        if node.params.mode != Mode.EQ:
            return found
        negative = [
            {number for number, n in zip(numbers_of(s.shape, k), s.value.reshape(-1), strict=True) if n < 0}
            if s.value is not None
            else set()
            for k, s in enumerate(specs)
        ]
        return [[] if isinstance(pair, list) and _never_equal(pair, negative, known) else pair for pair in found]

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        mode = node.params.mode
        if mode in Q_FUNCTIONS:
            dtype = self._infer_quantized(node, ins)
        elif mode in _COMPARISONS:
            dtype = self._infer_comparison(node, ins)
        elif mode in _FIXED:
            dtype = self._infer_fixed(node, ins)
        else:
            raise fail(node, f"mode {mode} is not known")
        return [TensorSpec(broadcast_shapes(node, [s.shape for s in ins]), dtype)]

    @staticmethod
    def _check_arity(node: AnyNode, ins: Sequence[TensorSpec], arity: int) -> None:
        if len(ins) != arity:
            raise fail(node, f"mode {Mode(node.params.mode).name} needs {arity} inputs, has {len(ins)}")

    def _infer_quantized(self, node: AnyNode, ins: Sequence[TensorSpec]) -> DType:
        self._check_arity(node, ins, Q_FUNCTIONS[node.params.mode].arity)
        for spec in ins:
            if not spec.dtype.is_quantized:
                raise fail(node, f"operands must be quantized, one is {spec.dtype}")
        dtype = node.output_dtype
        if dtype is None or not dtype.is_quantized:
            raise fail(node, f"the output type must be quantized, is {dtype}")
        return dtype

    def _infer_comparison(self, node: AnyNode, ins: Sequence[TensorSpec]) -> DType:
        unary = node.params.mode in (Mode.ISNAN, Mode.ISINF)
        self._check_arity(node, ins, 1 if unary else 2)
        dtype = common_dtype(node, ins)
        if unary and not dtype.is_float:
            raise fail(node, f"needs floats, has {dtype}")
        return BOOL

    def _infer_fixed(self, node: AnyNode, ins: Sequence[TensorSpec]) -> DType:
        signature = _FIXED[node.params.mode]
        self._check_arity(node, ins, len(signature.operands))
        for i, (spec, expected) in enumerate(zip(ins, signature.operands, strict=True)):
            plain_integer = spec.dtype.storage.kind in "iu" and not spec.dtype.is_quantized and not spec.dtype.is_float
            if not (plain_integer if expected is None else spec.dtype == expected):
                raise fail(node, f"input {i} must be {expected or 'an integer type'}, is {spec.dtype}")
            if expected == INT8 and spec.size != 1:
                raise fail(node, f"input {i} must be one number, its shape is {spec.shape}")
        return signature.output

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        mode = node.params.mode
        if mode in Q_FUNCTIONS:
            real = [dequantize(x, s.dtype) for x, s in zip(ins, in_specs, strict=True)]
            return [quantize(Q_FUNCTIONS[mode].call(*real), out_specs[0].dtype)]
        if mode in _COMPARISONS:
            if in_specs[0].dtype.is_float:
                ins = [to_float32(x, s.dtype) for x, s in zip(ins, in_specs, strict=True)]
            return [_COMPARISONS[mode](*ins)]
        return [_FIXED[mode].call(*ins)]
