"""Conversion between stored numbers and the real values they stand for.

A quantized element ``q`` is the real number ``(q - zero_point) * scale``. Quantizing divides by the scale in float32,
rounds to nearest with halves away from zero (or to even numbers, if the type says so) and clamps to the range of the
type; NaN becomes the smallest number.
"""

from __future__ import annotations

import numpy as np

from megengine_lite._core.ir.dtype import DType, DTypeCode

# Ranges of integer types that are narrower than the storage of one element.
_NARROW_BITS = {DTypeCode.INTB1: 1, DTypeCode.INTB2: 2, DTypeCode.INTB4: 4, DTypeCode.UINTB4: 4}


def round_half_away(x: np.ndarray) -> np.ndarray:
    """The nearest integers as floats, halves away from zero (C's ``round``)."""
    whole = np.trunc(x)
    # x - whole is exact, where x + 0.5 would round 0.49999997 and odd numbers above 2**23 wrongly.
    with np.errstate(invalid="ignore"):  # infinity - infinity
        up = np.abs(x - whole) >= 0.5
    result: np.ndarray = whole + np.copysign(up.astype(whole.dtype), x)
    return result


def clamp_to(x: np.ndarray, dtype: DType) -> np.ndarray:
    """Whole numbers (of any type) limited to the range of a quantized type, in its storage type."""
    low, high = dtype.quantized_range
    if np.issubdtype(x.dtype, np.floating):
        result: np.ndarray = np.fmin(np.fmax(x, low), high).astype(dtype.storage)
        return result
    result = np.clip(x, low, high).astype(dtype.storage)
    return result


def steps(x: np.ndarray, dtype: DType) -> np.ndarray:
    """How many scales of a quantized type real values are, as whole numbers in float32, rounded as the type has it."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        exact = x.astype(np.float32, copy=False) / np.float32(dtype.scale)
        found: np.ndarray = np.rint(exact) if dtype.ties_to_even else round_half_away(exact)
    return found


def quantize(x: np.ndarray, dtype: DType) -> np.ndarray:
    """Stored numbers of a quantized type for real values.

    Parameters
    ----------
    x : float array
    dtype : DType
        A quantized type with a scale.
    """
    found = steps(x, dtype)
    if dtype.zero_point:
        found += np.float32(dtype.zero_point)
    return clamp_to(found, dtype)


def dequantize(q: np.ndarray, dtype: DType) -> np.ndarray:
    """Real values (float32) of stored numbers of a quantized type."""
    if dtype.zero_point:
        q = q.astype(np.int32) - dtype.zero_point
    return q.astype(np.float32) * np.float32(dtype.scale)


def to_float32(x: np.ndarray, dtype: DType) -> np.ndarray:
    """Real values of an array of any type but complex, as float32; float32 arrays are not copied."""
    if dtype.is_quantized:
        return dequantize(x, dtype)
    if dtype.code == DTypeCode.BFLOAT16:
        return (x.astype(np.uint32) << 16).view(np.float32)
    return x.astype(np.float32, copy=False)


def to_float64(x: np.ndarray, dtype: DType) -> np.ndarray:
    """The same in double precision, for operators that compute in it."""
    return to_float32(x, dtype).astype(np.float64)


def from_float32(x: np.ndarray, dtype: DType) -> np.ndarray:
    """Stored numbers of a float or quantized type for real values: one rounding, ties to even for floats."""
    if dtype.is_quantized:
        return quantize(x, dtype)
    if dtype.code == DTypeCode.BFLOAT16:
        return _round_to_bfloat16(x.astype(np.float32, copy=False))
    with np.errstate(over="ignore"):
        return x.astype(dtype.storage, copy=False)


def _round_to_bfloat16(x: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(x).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    # Rounding a NaN's bits up could make them infinity or wrap around: any quiet NaN replaces it.
    return np.where(np.isnan(x), 0x7FC0, rounded).astype(np.uint16)


def stored_constant(value: float, dtype: DType) -> np.ndarray:
    """A number of a file as one element of a type; for quantized types it is the number to be stored."""
    number = np.array([value], np.float32)
    if dtype.is_float:
        return from_float32(number, dtype)
    return number != 0 if dtype.code == DTypeCode.BOOL else float_to_int(number, dtype)


def float_to_int(x: np.ndarray, dtype: DType) -> np.ndarray:
    """Integers for floats: truncated towards zero to an int32, of which the low bits are taken.

    Numbers outside of int32, and NaN, count as -2**31, as x86 converts them.
    """
    if x.dtype != np.float32:
        x = x.astype(np.float32)
    whole = np.where(np.abs(x) < 2.0**31, x, np.float32(-(2.0**31))).astype(np.int32)
    return wrap_int(whole, dtype)


def wrap_int(x: np.ndarray, dtype: DType) -> np.ndarray:
    """The low bits of integers, as an integer type."""
    bits = _NARROW_BITS.get(dtype.code)
    if bits is None:
        return x.astype(dtype.storage, copy=False)
    low = x & ((1 << bits) - 1)
    if dtype.storage.kind == "i" and bits > 1:
        half = 1 << (bits - 1)
        low = (low ^ half) - half
    return low.astype(dtype.storage)


def keeps_sums(dtype: DType, scale: float) -> bool:
    """Whether a result of this type is the sums of products themselves; ``scale`` is that of the products."""
    return dtype.code == DTypeCode.INT32 or (dtype.code == DTypeCode.QUANTIZED_S32 and dtype.scale == scale)
