"""Rounding and conversion between stored numbers and real values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megengine_lite._core.ir.dtype import BOOL, FLOAT16, INT8, INT32, UINT8, DType, DTypeCode
from megengine_lite._core.ir.quantize import (
    dequantize,
    float_to_int,
    from_float32,
    quantize,
    round_half_away,
    to_float32,
    wrap_int,
)

S8 = DType(DTypeCode.QUANTIZED_S8, 0.5)
U8 = DType(DTypeCode.QUANTIZED8_ASYMM, 0.5, 128)
S4 = DType(DTypeCode.QUANTIZED_S4, 1.0)
S32 = DType(DTypeCode.QUANTIZED_S32, 1.0)
BF16 = DType(DTypeCode.BFLOAT16)


def test_round_half_away_at_halves_and_beside_them():
    x = np.float32([0.5, -0.5, 1.5, 2.5, -2.5, 0.49999997, -0.49999997, 8388609, 1e30, np.inf, -np.inf])
    expected = np.float32([1, -1, 2, 3, -3, 0, 0, 8388609, 1e30, np.inf, -np.inf])
    np.testing.assert_array_equal(round_half_away(x), expected)
    assert np.isnan(round_half_away(np.float32([np.nan])))[0]


@given(st.floats(-1e6, 1e6, width=32))
def test_round_half_away_is_the_nearest_integer(value):
    (rounded,) = round_half_away(np.float32([value]))
    assert rounded == int(rounded)
    assert abs(float(rounded) - value) <= 0.5
    if abs(value) % 1 == 0.5:
        assert abs(rounded) > abs(value)


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (S8, [0.25, -0.25, 0.24, 63.5, 64, 1e9, -1e9], [1, -1, 0, 127, 127, 127, -128]),
        (U8, [0.25, -0.25, -64, -64.5, 63.5, 64], [129, 127, 0, 0, 255, 255]),
        (S4, [7.4, 7.5, -8.4, -9, 0.5], [7, 7, -8, -8, 1]),
        (S32, [2**31, -(2.0**31), 3.5], [2**31 - 128, -(2**31), 4]),
    ],
)
def test_quantize_rounds_and_clamps(dtype, values, expected):
    stored = quantize(np.float32(values), dtype)
    assert stored.dtype == dtype.storage
    assert stored.tolist() == expected


@pytest.mark.parametrize("dtype", [S8, U8, S4])
def test_quantize_of_nan_and_infinity(dtype):
    low, high = dtype.quantized_range
    assert quantize(np.float32([np.nan, np.inf, -np.inf]), dtype).tolist() == [low, high, low]


@pytest.mark.parametrize("dtype", [S8, U8, S4, DType(DTypeCode.QUANTIZED4_ASYMM, 0.1, 3)])
def test_quantize_inverts_dequantize(dtype):
    low, high = dtype.quantized_range
    stored = np.arange(low, high + 1).astype(dtype.storage)
    real = dequantize(stored, dtype)
    np.testing.assert_allclose(real, (np.arange(low, high + 1) - dtype.zero_point) * dtype.scale, rtol=1e-6)
    np.testing.assert_array_equal(quantize(real, dtype), stored)


def test_bfloat16_keeps_the_upper_half_and_rounds_to_even():
    bits = np.uint32([0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001, 0x7F800000, 0xFFC00001])
    stored = from_float32(bits.view(np.float32), BF16)
    assert stored.tolist()[:5] == [0x3F80, 0x3F80, 0x3F82, 0x3F81, 0x7F80]
    assert np.isnan(to_float32(stored, BF16)[5])
    np.testing.assert_array_equal(to_float32(np.uint16([0x3F80, 0xC040]), BF16), np.float32([1, -3]))


def test_float16_overflows_to_infinity():
    assert from_float32(np.float32([1e6, -1e6, 65504]), FLOAT16).tolist() == [np.inf, -np.inf, 65504]


def test_float_to_int_truncates_and_wraps_through_int32():
    x = np.float32([300.5, -1, -1.9, 70000, 3e9, -3e9, np.nan, np.inf])
    assert float_to_int(x, UINT8).tolist() == [44, 255, 255, 112, 0, 0, 0, 0]
    assert float_to_int(x, INT8).tolist() == [44, -1, -1, 112, 0, 0, 0, 0]
    assert float_to_int(x, INT32).tolist() == [300, -1, -1, 70000, *[-(2**31)] * 4]


def test_wrap_int_to_narrow_types():
    x = np.int32([7, 8, 15, 16, -1, -9])
    assert wrap_int(x, DType(DTypeCode.INTB4)).tolist() == [7, -8, -1, 0, -1, 7]
    assert wrap_int(x, DType(DTypeCode.UINTB4)).tolist() == [7, 8, 15, 0, 15, 7]
    assert wrap_int(np.int32([255, 256, -1]), INT8).tolist() == [-1, 0, -1]


def test_to_float32_of_float32_is_no_copy():
    x = np.ones(3, np.float32)
    assert to_float32(x, DType(DTypeCode.FLOAT32)) is x
    assert to_float32(np.array([True, False]), BOOL).tolist() == [1, 0]
