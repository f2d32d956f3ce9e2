"""Elementwise functions for types and rules that ``Elemwise`` does not have."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from megengine_lite._core.ir.dtype import BOOL, FLOAT32, INT32, DType
from megengine_lite._core.ir.graph import AnyNode, AnyVar, TensorSpec
from megengine_lite._core.ir.onnx_params import OnnxMode
from megengine_lite._core.ir.onnx_reduction import OnnxReduction
from megengine_lite._core.ir.quantize import from_float32, to_float32
from megengine_lite._core.operators.base import (
    ElementwiseOperator,
    Operator,
    broadcast_shapes,
    fail,
    normalize_axis,
    register,
)
from megengine_lite._core.operators.checks import check_count, common_dtype, to_integers
from megengine_lite._core.operators.origins import (
    KnownOrigins,
    NumberOrigins,
    Shape,
    ShapeOrigins,
    kept_sizes,
    numbers_of,
    sizes_of,
)
from megengine_lite.errors import LiteError, LiteValueError

_M = OnnxMode


def _divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    quotient: np.ndarray
    if x.dtype.kind == "f":
        quotient = np.divide(x, y)
        return quotient
    quotient = np.floor_divide(x, y)
    # numpy rounds down; where there is a rest and the signs differ, that is one too little.
    quotient += ((x < 0) != (y < 0)) & (quotient * y != x)
    return quotient


def _shift_left(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    bits = 8 * x.itemsize
    shifted: np.ndarray = np.left_shift(x, np.minimum(y, bits - 1))
    return np.where(y < bits, shifted, x.dtype.type(0))


def _shift_right(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    bits = 8 * x.itemsize
    shifted: np.ndarray = np.right_shift(x, np.minimum(y, bits - 1))
    return shifted if x.dtype.kind == "i" else np.where(y < bits, shifted, x.dtype.type(0))


_FUNCTIONS: dict[OnnxMode, tuple[int, str, Callable[..., np.ndarray]]] = {
    _M.NARROW: (1, "iuf", lambda x: x),
    _M.DIVIDE: (2, "iuf", _divide),
    _M.REMAINDER: (2, "iuf", np.fmod),
    _M.MODULO: (2, "iuf", np.mod),
    _M.POWER: (2, "iuf", np.power),
    _M.BIT_AND: (2, "iu", np.bitwise_and),
    _M.BIT_OR: (2, "iu", np.bitwise_or),
    _M.BIT_XOR: (2, "iu", np.bitwise_xor),
    _M.BIT_NOT: (1, "iu", np.invert),
    _M.SHIFT_LEFT: (2, "iu", _shift_left),
    _M.SHIFT_RIGHT: (2, "iu", _shift_right),
    _M.IS_POSITIVE_INFINITY: (1, "f", np.isposinf),
    _M.IS_NEGATIVE_INFINITY: (1, "f", np.isneginf),
    _M.MAX: (2, "iuf", np.maximum),
    _M.MIN: (2, "iuf", np.minimum),
}


def kinds_of(mode: OnnxMode) -> str:
    """The kinds of types that a function is defined for."""
    return _FUNCTIONS[mode][1]


_QUESTIONS = (_M.IS_POSITIVE_INFINITY, _M.IS_NEGATIVE_INFINITY)


def _kind(dtype: DType) -> str:
    return "f" if dtype.is_float else dtype.storage.kind


@register
class OnnxElemwise(ElementwiseOperator):
    """Functions with the rules of ONNX: division of integers, bits, rounding to even, and the like."""

    name = "OnnxElemwise"
    in_files = None
    element_types = "by its function"

    def divisor(self, node: AnyNode) -> AnyVar | None:
        return node.inputs[1] if node.params.mode in (_M.DIVIDE, _M.REMAINDER, _M.MODULO) else None

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        mode = node.params.mode
        arity, kinds, _ = _FUNCTIONS[mode]
        check_count(node, ins, arity)
        dtype = ins[0].dtype if mode == _M.POWER else common_dtype(node, ins)
        if dtype.is_quantized or _kind(dtype) not in kinds:
            raise fail(node, f"mode {mode.name} is not defined for {dtype}")
        if mode == _M.NARROW:
            out = FLOAT32 if _kind(dtype) == "f" else INT32
        else:
            out = BOOL if mode in _QUESTIONS else dtype
        return [TensorSpec(broadcast_shapes(node, [s.shape for s in ins]), out)]

    def number_origins(self, node: AnyNode, specs: Sequence[TensorSpec], known: KnownOrigins) -> NumberOrigins:
        if node.params.mode == _M.NARROW and _kind(specs[0].dtype) != "f":
            return numbers_of(specs[0].shape, 0)
        return super().number_origins(node, specs, known)

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        mode, out = node.params.mode, out_specs[0].dtype
        if mode == _M.NARROW:
            return [_narrowed(node, ins[0], in_specs[0].dtype)]
        if mode == _M.POWER:
            return [_power(ins, in_specs)]
        call = _FUNCTIONS[mode][2]
        if not in_specs[0].dtype.is_float:
            return [call(*ins)]
        result = call(*(to_float32(x, s.dtype) for x, s in zip(ins, in_specs, strict=True)))
        return [result if mode in _QUESTIONS else from_float32(result, out)]


def too_large(node: AnyNode, wide: DType) -> LiteError:
    """The error about numbers of a wide type that do not fit."""
    if node.params.of_sizes:
        return fail(node, "there are sizes or places that are too large: they must fit 32 bits")
    there = "too large for float32" if _kind(wide) == "f" else "no int32"
    return LiteValueError(str(fail(node, f"there are numbers that are {there}, which the API has in place of {wide}")))


def _narrowed(node: AnyNode, x: np.ndarray, wide: DType) -> np.ndarray:
    if _kind(wide) == "f":
        with np.errstate(over="ignore"):  # told below
            found = x.astype(np.float32)
        if (np.isinf(found) & np.isfinite(x)).any():
            raise too_large(node, wide)
        return found
    limits = np.iinfo(np.int32)
    if x.size and not (limits.min <= x.min() and x.max() <= limits.max):
        raise too_large(node, wide)
    return x.astype(np.int32)


def _power(ins: Sequence[np.ndarray], specs: Sequence[TensorSpec]) -> np.ndarray:
    """A power in the type of its base."""
    dtype = specs[0].dtype
    x, y = (to_float32(a, s.dtype) if s.dtype.is_float else a for a, s in zip(ins, specs, strict=True))
    if dtype.is_float:
        return from_float32(np.power(x, y.astype(np.float32)), dtype)
    if x.dtype.kind != "f" and y.dtype.kind != "f" and not (y < 0).any():
        result: np.ndarray = np.power(x, y.astype(x.dtype))
        return result
    result = np.power(x.astype(np.float64), y.astype(np.float64)).astype(dtype.storage)
    return result


_REDUCTIONS: dict[OnnxReduction, Callable[..., np.ndarray]] = {
    OnnxReduction.SUM: np.sum,
    OnnxReduction.MEAN: np.mean,
    OnnxReduction.MAX: np.max,
    OnnxReduction.MIN: np.min,
    OnnxReduction.PRODUCT: np.prod,
}


@register
class OnnxReduce(Operator):
    """A reduction along axes, which stay with length 1; of elements of any type, also of none at all."""

    name = "OnnxReduce"
    in_files = None
    element_types = "floats, integers, bool"

    def needed_values(self, node: AnyNode) -> tuple[int, ...]:
        return (1,) if len(node.inputs) == 2 else ()

    @staticmethod
    def _axes(node: AnyNode, ndim: int, value: np.ndarray | None) -> tuple[int, ...]:
        p = node.params
        if p.axes is not None:
            axes: tuple[int, ...] = p.axes
            return axes
        given = to_integers(node, value, "the list of axes")
        if not given:
            return () if p.none_is_none else tuple(range(ndim))
        return tuple(sorted({normalize_axis(node, a, ndim) for a in given}))

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1 if node.params.axes is not None else 2)
        if ins[0].dtype.is_quantized:
            raise fail(node, f"is not defined for {ins[0].dtype}")
        axes = self._axes(node, len(ins[0].shape), ins[-1].value)
        return [TensorSpec(tuple(1 if k in axes else d for k, d in enumerate(ins[0].shape)), ins[0].dtype)]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        if node.params.axes is None:
            return [[[size, *numbers_of(shapes[1], 1)] for size in sizes_of(shapes[0], 0)]]
        return [kept_sizes(shapes[0], node.params.axes)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        x, dtype, mode = ins[0], in_specs[0].dtype, node.params.mode
        if dtype.is_float:
            x = to_float32(x, dtype)
        also = {}
        if mode in (OnnxReduction.MAX, OnnxReduction.MIN):
            if x.dtype.kind == "f":
                limit: float = np.inf
            elif x.dtype.kind == "b":
                limit = 1
            else:
                limit = np.iinfo(x.dtype).max
            low = -np.inf if x.dtype.kind == "f" else 0 if x.dtype.kind in "bu" else np.iinfo(x.dtype).min
            also["initial"] = x.dtype.type(low if mode == OnnxReduction.MAX else limit)
        else:
            also["dtype"] = np.float64 if x.dtype.kind == "f" or mode == OnnxReduction.MEAN else x.dtype
        axes = self._axes(node, x.ndim, ins[-1])
        result = _REDUCTIONS[mode](x, axis=axes, keepdims=True, **also)
        if dtype.is_float:
            return [from_float32(result.astype(np.float32), dtype)]
        return [result.astype(dtype.storage)]
