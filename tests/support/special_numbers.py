"""Zeros, infinities, NaN, denormal, largest and smallest numbers, and how results of them are compared."""

import numpy as np

TINY = np.finfo(np.float32).tiny
LARGEST = np.finfo(np.float32).max
DENORMAL = np.array([71362], np.uint32).view(np.float32)[0]  # 1e-40

SPECIAL = np.array(
    [0, -0.0, DENORMAL, -DENORMAL, TINY, -TINY, np.inf, -np.inf, np.nan, LARGEST, -LARGEST, 1, -1, 0.5, -2.5, 3, 100],
    np.float32,
)


def as_kernels_see(x):
    """Denormal numbers as zeros."""
    return np.where(np.abs(x) < TINY, np.copysign(np.float32(0), x), x)


def assert_same(actual, expected, label="", rtol=1e-5, atol=1e-37):
    """NaN and infinities in the same places, the other numbers close; denormal results are zeros."""
    assert actual.shape == expected.shape, f"{label}: {actual.shape}, expected {expected.shape}"
    if actual.dtype.kind == "f":
        actual, expected = as_kernels_see(actual), as_kernels_see(expected)
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol, err_msg=label)


def assert_identical(actual, expected, label=""):
    """Bit by bit; any NaN is like any other."""
    if actual.dtype.kind == "f":
        assert np.isnan(actual).tolist() == np.isnan(expected).tolist(), label
        actual, expected = (np.where(np.isnan(a), np.float32(0), a) for a in (actual, expected))
    np.testing.assert_array_equal(actual.view(np.uint8), expected.view(np.uint8), err_msg=label)
