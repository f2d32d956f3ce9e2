"""How much two arrays differ."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from megengine_lite._core.reports.units import shape_text


def compare(a: np.ndarray, b: np.ndarray, tolerance: float, *, quantized: bool = False) -> dict[str, Any]:
    """Largest difference of two arrays, absolute and in parts of the largest finite value of the second one.

    NaN and infinities must be at the same places; ``nan`` and ``infinite`` of the ``count`` numbers are such.
    ``unequal`` numbers are not the same. Integers and truth values are equal only if all are the same (``exact``): the
    nearest class number is a wrong one. ``quantized`` says that integers stand for real numbers; those of eight bits
    always may, so they follow the tolerance.
    """
    found = _differences(a, b, quantized)
    return found if isinstance(found, dict) else _largest(a, *found, tolerance)


def compare_closely(a: np.ndarray, b: np.ndarray, tolerance: float, *, quantized: bool = False) -> dict[str, Any]:
    """As :func:`compare`, with ``mean``, ``snr_db`` and ``cosine``.

    The signal is the second array and the noise the difference; ``snr_db`` is None without noise. ``cosine`` is None
    where one of the arrays is zero.

    >>> found = compare_closely(np.array([3.0, 4.4]), np.array([3.0, 4.0]), 0.2)
    >>> round(found["mean"], 3), round(found["snr_db"], 2), round(found["cosine"], 4)
    (0.2, 21.94, 0.9988)
    """
    found = _differences(a, b, quantized)
    if isinstance(found, dict):
        return found
    x, y, apart, _ = found
    noise, signal = _decibels(apart), _decibels(y)
    most = float(apart.max(initial=0))
    own, other = _unit(x), _unit(y)
    return {
        **_largest(a, *found, tolerance),
        "mean": most * float((apart / most).mean()) if most else 0.0,
        "snr_db": None if noise is None else 0.0 if signal is None else signal - noise,
        "cosine": None if own is None or other is None else float(np.clip(np.vdot(own, other), -1, 1)),
    }


def state_text(found: Mapping[str, Any], different: str) -> str:
    """What a comparison has found, in a few words; ``different`` is the word for numbers that are not equal."""
    if "reason" in found:
        return str(found["reason"])
    count = found["count"]
    told = ["same" if found["equal"] else different]
    if not count:
        told.append("no numbers")
    if found["exact"] and not found["equal"]:
        told.append(f"{found['unequal']:,} of {count:,} numbers")
    for kind, name in (("nan", "NaN"), ("infinite", "infinite")):
        if found[kind]:
            told.append(f"all {name}" if found[kind] == count else f"{found[kind]:,} of {count:,} {name}")
    return ", ".join(told)


def has_numbers(found: Mapping[str, Any]) -> bool:
    """Whether a comparison has found finite numbers in both arrays."""
    return "reason" not in found and bool(found["count"] - found["nan"] - found["infinite"])


def _differences(
    a: np.ndarray, b: np.ndarray, quantized: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool] | dict[str, Any]:
    """The finite values of both as float64, how far they are apart, and whether they must be the same.

    A comparison that says why, if they cannot be compared.
    """
    if a.shape != b.shape:
        return _refused(f"shapes {shape_text(a.shape)} and {shape_text(b.shape)} differ")
    if np.iscomplexobj(a) or np.iscomplexobj(b):
        return _refused("complex numbers are not compared")
    x, y = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(x) & np.isfinite(y)
    if not np.array_equal(x[~finite], y[~finite], equal_nan=True):
        return _refused("NaN or infinities differ")
    x, y = x[finite], y[finite]
    with np.errstate(over="ignore"):
        apart = np.minimum(np.abs(x - y), sys.float_info.max)
    exact = not quantized and _counts(a, b)
    return x, y, _apart_exactly(a[finite], b[finite], apart) if exact else apart, exact


def _refused(reason: str) -> dict[str, Any]:
    return {"equal": False, "reason": reason}


def _counts(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether numbers count or name something. Whole numbers may be stored for results that are real numbers."""
    if _is_whole_type(a):
        return True
    return _is_whole_type(b) and (a.dtype.kind != "f" or bool(np.all(a == np.rint(a))))


def _is_whole_type(array: np.ndarray) -> bool:
    return array.dtype.kind == "b" or (array.dtype.kind in "iu" and array.dtype.itemsize > 1)


def _apart_exactly(a: np.ndarray, b: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """How far numbers are apart where a float64 cannot tell one integer from the next."""
    (bits_a, below_a, whole_a), (bits_b, below_b, whole_b) = _whole(a), _whole(b)
    between = np.where(bits_a > bits_b, bits_a - bits_b, bits_b - bits_a).astype(np.float64)
    return np.where(whole_a & whole_b & (below_a == below_b), between, apart)


def _whole(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The 64 bits of whole numbers, which are below zero, and which numbers are whole and have so few bits."""
    below = values < 0
    if values.dtype.kind != "f":
        return values.astype(np.uint64), below, np.full(values.shape, True)
    whole = (values == np.rint(values)) & (values >= -(2.0**63)) & (values < 2.0**64)
    kept = np.where(whole, values, 0)
    up = np.where(below, 0, kept).astype(np.uint64)
    return np.where(below, np.where(below, kept, 0).astype(np.int64).view(np.uint64), up), below, whole


def _largest(
    a: np.ndarray, x: np.ndarray, y: np.ndarray, apart: np.ndarray, exact: bool, tolerance: float
) -> dict[str, Any]:
    difference = float(apart.max(initial=0))
    largest = float(np.abs(y).max(initial=0))
    relative = min(difference / largest, sys.float_info.max) if largest else difference
    unequal = int(np.count_nonzero(apart))
    nan = int(np.count_nonzero(np.isnan(a))) if a.dtype.kind == "f" and x.size < a.size else 0
    return {
        "equal": not unequal if exact else relative <= tolerance,
        "exact": exact,
        "count": a.size,
        "unequal": unequal,
        "nan": nan,
        "infinite": a.size - x.size - nan,
        "difference": difference,
        "relative": relative,
        "largest": largest,
    }


def _scaled(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Numbers up to 1, whose squares neither overflow nor vanish, and what they were divided by."""
    most = float(np.abs(values).max(initial=0))
    return (values / most if most else values), most


def _decibels(values: np.ndarray) -> float | None:
    """Ten times the logarithm of the sum of squares; None for zero."""
    scaled, most = _scaled(values)
    return 20 * math.log10(most) + 10 * math.log10(float(np.vdot(scaled, scaled))) if most else None


def _unit(values: np.ndarray) -> np.ndarray | None:
    """The vector of length 1 in the same direction; None for zero."""
    scaled, most = _scaled(values)
    return scaled / math.sqrt(float(np.vdot(scaled, scaled))) if most else None
