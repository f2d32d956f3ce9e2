"""How much two arrays differ."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from megengine_lite._core.reports.units import shape_text


def compare(a: np.ndarray, b: np.ndarray, tolerance: float) -> dict[str, Any]:
    """Largest difference of two arrays, absolute and in parts of the largest finite value of the second one.

    NaN and infinities must be at the same places.
    """
    found = _finite(a, b)
    if isinstance(found, str):
        return {"equal": False, "reason": found}
    return _largest(*found, tolerance)


def compare_closely(a: np.ndarray, b: np.ndarray, tolerance: float) -> dict[str, Any]:
    """As :func:`compare`, with ``unequal`` (how many numbers are not the same), ``mean``, ``snr_db`` and ``cosine``.

    The signal is the second array and the noise the difference; ``snr_db`` is None without noise. ``cosine`` is None
    where one of the arrays is zero.

    >>> found = compare_closely(np.array([3.0, 4.4]), np.array([3.0, 4.0]), 0.2)
    >>> round(found["mean"], 3), round(found["snr_db"], 2), round(found["cosine"], 4)
    (0.2, 21.94, 0.9988)
    """
    found = _finite(a, b)
    if isinstance(found, str):
        return {"equal": False, "reason": found}
    x, y = found
    noise, signal, own = (float(np.vdot(v, v)) for v in (x - y, y, x))
    return {
        **_largest(x, y, tolerance),
        "unequal": int(np.count_nonzero(x != y)),
        "mean": float(np.abs(x - y).mean()) if x.size else 0.0,
        "snr_db": None if not noise else 10 * math.log10(signal / noise) if signal and math.isfinite(noise) else 0.0,
        "cosine": float(np.vdot(x, y)) / math.sqrt(own) / math.sqrt(signal) if own and signal else None,
    }


def _finite(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray] | str:
    """The finite values of both as float64, or why they cannot be compared."""
    if a.shape != b.shape:
        return f"shapes {shape_text(a.shape)} and {shape_text(b.shape)} differ"
    if np.iscomplexobj(a) or np.iscomplexobj(b):
        return "complex numbers are not compared"
    x, y = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(x) & np.isfinite(y)
    if not np.array_equal(x[~finite], y[~finite], equal_nan=True):
        return "NaN or infinities differ"
    return x[finite], y[finite]


def _largest(x: np.ndarray, y: np.ndarray, tolerance: float) -> dict[str, Any]:
    difference = float(np.abs(x - y).max(initial=0))
    largest = float(np.abs(y).max(initial=0))
    relative = difference / largest if largest else difference
    return {"equal": relative <= tolerance, "difference": difference, "relative": relative, "largest": largest}
