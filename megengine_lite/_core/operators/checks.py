"""Checks that many operators need: shapes, types, numbers of inputs, and integers in tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir.dtype import DType, DTypeCode
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.operators.base import fail
from megengine_lite._core.system.memory import MAX_NDIM
from megengine_lite.errors import LiteIndexError

MAX_ELEMENTS = 2**63 - 1


def check_shape(node: AnyNode, shape: Sequence[int]) -> tuple[int, ...]:
    """A shape that a tensor can have; counting its elements does not overflow."""
    shape = tuple(shape)
    if not 1 <= len(shape) <= MAX_NDIM:
        raise fail(node, f"shape {shape} must have 1 to {MAX_NDIM} dimensions")
    if min(shape) < 0:
        raise fail(node, f"shape {shape} has a negative dimension")
    # Zeros are left out: strides are computed from the other dimensions all the same.
    if math.prod(d or 1 for d in shape) > MAX_ELEMENTS:
        raise fail(node, f"shape {shape} is too large")
    return shape


def int32_value(node: AnyNode, numbers: Sequence[int]) -> np.ndarray:
    """Sizes as the value of an int32 tensor."""
    if any(not -(1 << 31) <= n < 1 << 31 for n in numbers):
        raise fail(node, f"of the sizes {list(numbers)} one is too large: they must fit 32 bits")
    return np.array(numbers, np.int32)


def check_count(node: AnyNode, ins: Sequence[TensorSpec], *allowed: int) -> None:
    """Raises if the number of inputs is none of those allowed."""
    if len(ins) not in allowed:
        raise fail(node, f"needs {' or '.join(map(str, allowed))} inputs, has {len(ins)}")


def check_ndim(node: AnyNode, spec: TensorSpec, ndim: int, what: str) -> tuple[int, ...]:
    """The shape of an input that must have so many dimensions."""
    shape = spec.shape
    if shape is None or len(shape) != ndim:
        raise fail(node, f"{what} must have {ndim} dimensions, its shape is {shape}")
    return shape


def check_same_shape(node: AnyNode, spec: TensorSpec, shape: tuple[int, ...], what: str) -> None:
    """Raises if an input has another shape than it must have."""
    if spec.shape != shape:
        raise fail(node, f"{what} must have shape {shape}, has {spec.shape}")


def broadcasts_to(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether a tensor of ``shape`` can be repeated to ``target``."""
    missing = len(target) - len(shape)
    return missing >= 0 and all(d in (1, t) for d, t in zip(shape, target[missing:], strict=True))


def same_dtype(a: DType, b: DType) -> bool:
    """Whether values of the two types mean the same; scales may differ by the rounding of their computation."""
    if a is b:
        return True
    return a.code == b.code and a.zero_point == b.zero_point and math.isclose(a.scale, b.scale, rel_tol=1e-4)


def common_dtype(node: AnyNode, ins: Sequence[TensorSpec]) -> DType:
    """The one type that all inputs have."""
    if not ins:
        raise fail(node, "needs at least one input")
    dtype = ins[0].dtype
    for spec in ins[1:]:
        if not same_dtype(dtype, spec.dtype):
            raise fail(node, f"inputs must have one type, have {', '.join(str(s.dtype) for s in ins)}")
    return dtype


def check_float(node: AnyNode, ins: Sequence[TensorSpec]) -> DType:
    """The one float type that all inputs have."""
    dtype = common_dtype(node, ins)
    if not dtype.is_float:
        raise fail(node, f"works on floats, not on {dtype}")
    return dtype


_NOT_COMPUTED = frozenset((DTypeCode.INTB1, DTypeCode.INTB2, DTypeCode.COMPLEX64))


def check_computable(node: AnyNode, dtype: DType) -> None:
    """Raises for types that no tensor of a running model has."""
    if dtype.code in _NOT_COMPUTED:
        raise fail(node, f"type {dtype.name} is not supported")
    if dtype.is_quantized and not dtype.scale > 0:
        raise fail(node, f"{dtype} must have a positive scale")


_INDEX_CODES = frozenset(
    (DTypeCode.INT32, DTypeCode.INT16, DTypeCode.INT8, DTypeCode.UINT8, DTypeCode.UINT16, DTypeCode.INT64)
)


def check_index_dtype(node: AnyNode, spec: TensorSpec, what: str) -> None:
    """Raises unless an input holds plain integers."""
    if spec.dtype.code not in _INDEX_CODES:
        raise fail(node, f"{what} must be integers, is {spec.dtype}")


def to_integers(node: AnyNode, value: np.ndarray | None, what: str) -> list[int]:
    """The numbers of a tensor of sizes or positions; floats are truncated towards zero."""
    if value is None:
        raise fail(node, f"the value of {what} is not known")
    if value.ndim != 1:
        raise fail(node, f"{what} must be a vector, its shape is {value.shape}")
    kind = value.dtype.kind
    if kind == "i" or kind == "u":
        result: list[int] = value.tolist()
        return result
    if kind != "f" or not np.isfinite(value).all():
        raise fail(node, f"{what} must be whole numbers, is {value.tolist()}")
    return [int(v) for v in value.tolist()]


def to_shape(node: AnyNode, value: np.ndarray | None, what: str = "the target shape") -> tuple[int, ...]:
    """The shape that a tensor of sizes describes."""
    return check_shape(node, to_integers(node, value, what))


def to_integer(node: AnyNode, value: np.ndarray | None, what: str) -> int:
    """The number in a tensor of one element."""
    numbers = to_integers(node, value if value is None else value.reshape(-1), what)
    if len(numbers) != 1:
        raise fail(node, f"{what} must be one number, has {len(numbers)}")
    return numbers[0]


def index_error(node: AnyNode, message: str) -> LiteIndexError:
    """An error about an index value, to be raised by the caller."""
    return LiteIndexError(str(fail(node, message)))
