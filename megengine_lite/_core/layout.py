"""Shapes and element types as callers write them."""

from __future__ import annotations

from collections.abc import Iterable
from operator import index

import numpy as np

from megengine_lite._core.memory import NUMPY_TYPES, code_of
from megengine_lite.errors import LiteArgumentError, LiteTypeError, LiteValueError

MAX_DIM = 7

_SCALAR_CODES = {t.type: code for code, t in enumerate(NUMPY_TYPES)}

ACCEPTED = ", ".join(t.name for t in NUMPY_TYPES)
"""Names of the element types that tensors can have."""


def to_integer(value: object, name: str) -> int:
    """A Python int from any kind of integer; ``name`` says what it is, for the message."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return index(value)  # type: ignore[arg-type]  # that is what is asked here
    except TypeError:
        raise LiteTypeError(f"{name} is an int, not {type(value).__name__}") from None


def to_shape(shape: Iterable[int]) -> tuple[int, ...]:
    """A shape from any iterable of integers."""
    try:
        dims = tuple(map(index, shape))
    except TypeError as error:
        raise LiteTypeError(f"a shape is an iterable of integers, not {shape!r} ({error})") from None
    if len(dims) > MAX_DIM:
        raise LiteArgumentError(f"a tensor has at most {MAX_DIM} dimensions, {list(dims)} are {len(dims)}")
    for d in dims:
        if not 0 <= d < 1 << 62:
            raise LiteValueError(f"{d} cannot be a dimension of shape {list(dims)}")
    return dims


def _unsupported(dtype: object) -> LiteTypeError:
    return LiteTypeError(f"element type {dtype!r} is not supported; tensors hold {ACCEPTED}")


def to_dtype_code(dtype: object) -> int:
    """Number of the ``LiteDataType`` that ``dtype`` spells.

    Spellings are members and numbers of ``LiteDataType``, names that numpy knows, ``numpy.dtype`` instances
    and numpy scalar classes; None and ``""`` mean float32. Instances of ``numpy.dtype("uint32")`` count as int32,
    as in the original.
    """
    if dtype is None:
        return 0
    if isinstance(dtype, np.dtype):
        code = code_of(dtype)
    elif isinstance(dtype, str):
        if not dtype:
            return 0
        try:
            code = code_of(np.dtype(dtype)) if np.dtype(dtype) != np.uint32 else None
        except TypeError:
            raise _unsupported(dtype) from None
    elif isinstance(dtype, type):
        code = _SCALAR_CODES.get(dtype)
    elif isinstance(dtype, int | np.integer) and not isinstance(dtype, bool):
        code = int(dtype) if 0 <= dtype < len(NUMPY_TYPES) else None
    else:
        code = None
    if code is None:
        raise _unsupported(dtype)
    return code


def elements_to_array(data: object, dtype: np.dtype) -> np.ndarray:
    """Numbers of a list or another sequence as a dense array of a tensor's type; nothing wraps or is cut off."""
    try:
        raw = np.asarray(data)
    except ValueError as error:
        raise LiteTypeError(f"the data is not a list of numbers or a regular nested one: {error}") from None
    if raw.size == 0:
        return raw.astype(dtype)
    if raw.dtype.kind == "O" and all(isinstance(x, int | float) for x in raw.flat):
        if dtype.kind != "f":
            raise LiteValueError(f"some numbers are far out of the range of {dtype}")
        try:
            raw = raw.astype(np.float64)
        except OverflowError:
            raise LiteValueError(f"some numbers are far out of the range of {dtype}") from None
    if raw.dtype.kind not in "biuf":
        raise LiteTypeError(f"the data holds elements that are not numbers ({raw.dtype})")
    if dtype.kind != "f":
        if raw.dtype.kind == "f":
            raise LiteTypeError(f"real numbers cannot be stored in a tensor of {dtype}; round them first")
        info = np.iinfo(dtype)
        low, high = raw.min(), raw.max()
        if int(low) < info.min or int(high) > info.max:
            raise LiteValueError(f"numbers from {low} to {high} do not fit into {dtype} ({info.min} to {info.max})")
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(raw, dtype)
    if dtype.kind == "f" and (too_large := np.isinf(array) & np.isfinite(raw)).any():
        raise LiteValueError(f"{raw[too_large][0]} does not fit into {dtype} (at most {np.finfo(dtype).max})")
    return array
