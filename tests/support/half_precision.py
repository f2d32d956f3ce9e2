"""Weights in half precision, as numpy has them: what the kernels must compute with."""

from __future__ import annotations

import numpy as np

PRECISIONS = ("bfloat16", "float16")


def rounded(values: np.ndarray, precision: str) -> np.ndarray:
    """float32 numbers that a precision holds: the nearest ones, ties to even."""
    if precision == "float16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).astype(np.float32)
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    up = ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return np.where(np.isnan(values), values, up)
