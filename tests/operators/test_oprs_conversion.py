"""Operators between types: mixed elementwise modes, TypeCvt, simulated quantization."""

import math

import numpy as np
import pytest
from support.definitions import float32, infer_opr, int32, run_opr

from megengine_lite._core.ir.dtype import (
    BOOL,
    FLOAT16,
    FLOAT32,
    INT8,
    INT16,
    INT32,
    UINT8,
    DType,
    DTypeCode,
    from_numpy,
)
from megengine_lite._core.ir.graph import TensorSpec
from megengine_lite._core.ir.params import LSQ, TQT, DTypeTable, ElemwiseMultiType, FakeQuant
from megengine_lite._core.ir.params import ElemwiseMultiTypeMode as M
from megengine_lite.errors import ShapeError

S8 = DType(DTypeCode.QUANTIZED_S8, 0.1)
U8 = DType(DTypeCode.QUANTIZED8_ASYMM, 0.07, 120)
S32 = DType(DTypeCode.QUANTIZED_S32, 0.003)
OUT = DType(DTypeCode.QUANTIZED_S8, 0.05)


def multi(mode, *arrays, **options):
    return run_opr("ElemwiseMultiType", ElemwiseMultiType(mode=mode), *arrays, **options)[0]


def cvt(x, target, source=None):
    return run_opr("TypeCvt", DTypeTable(dtype=target), x, dtypes=(source,))[0]


def round_away(value):
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def test_multiply_add_of_mixed_types():
    x = np.int16([3, -400, 32767])
    assert multi(M.FUSE_MUL_ADD3_INT16x32x32x32, x, int32(2, 3, 2), int32(1, 1, 1)).tolist() == [7, -1199, 65535]
    result = multi(M.FUSE_MUL_ADD3_INT16xF32xF32xF32, x, float32(0.5), float32(1))
    np.testing.assert_array_equal(result, float32(2.5, -199, 16384.5))
    assert multi(M.FUSE_MUL_ADD3_UINT8xF32xF32xF32, np.uint8([255]), float32(2), float32(1)).tolist() == [511]
    assert multi(M.MUL_INT16xF32xF32, x, float32(0.5)).tolist() == [1.5, -200, 16383.5]


def test_multiply_add_to_int8_rounds_halves_to_even_and_clamps():
    x = np.int8([-100, 3, 7, 100, 1])
    result = multi(M.FUSE_MUL_ADD3_IXxF32xF32xI8, x, float32(0.5, 0.5, 0.5, 2, 1), float32(0, 0, 1, 0, 0.5))
    assert result.tolist() == [-50, 2, 4, 127, 2]
    assert result.dtype == np.int8


@pytest.mark.parametrize(
    ("shift", "expected"),
    [(0, [-100, 5, 127, -5]), (1, [-50, 3, 127, -3]), (3, [-13, 1, 127, -1]), (-1, [-128, 10, 127, -10])],
)
def test_rounding_shift(shift, expected):
    x = int32(-100, 5, 3000, -5)
    assert multi(M.ROUND_SHR_SATURATE_IXxI8xI8, x, np.int8([shift])).tolist() == expected


def test_rounding_shift_to_int16_and_by_much():
    x = int32(100000, -(2**31))
    assert multi(M.ROUND_SHR_SATURATE_IXxI8xI16, x, np.int8([2])).tolist() == [25000, -32768]
    assert multi(M.ROUND_SHR_SATURATE_IXxI8xI16, x, np.int8([127])).tolist() == [0, 0]
    assert multi(M.ROUND_SHR_SATURATE_IXxI8xI16, x, np.int8([-128])).tolist() == [32767, -32768]


@pytest.mark.parametrize(
    ("shift", "expected"),
    [(0, [-128, -1, 127, 127]), (8, [-64, 0, 64, 50]), (12, [-4, 0, 4, 3])],
)
def test_add_multiply_shift_in_int16(shift, expected):
    # As the original computed it; the sum wraps.
    x, b = np.int16([32767, 32767, -32768, 25600]), np.int16([1, 32767, -1, 5])
    scalars = (np.int8([v]) for v in (shift, -128, 127))
    mode = M.FUSE_ADD_RMULH_ROUND_SHR_SATURATE_INT16x16x16x8
    assert multi(mode, x, b, np.int16([16384] * 4), *scalars).tolist() == expected


def test_add_multiply_shift_in_int32_clamps_to_its_bounds():
    scalars = (np.int8([v]) for v in (8, -20, 60))
    mode = M.FUSE_ADD_RMULH_ROUND_SHR_SATURATE_INT32x32x32x8
    result = multi(mode, int32(25600, -25600, 30000), int32(5, 5, 10000), int32(*[2**30] * 3), *scalars)
    assert result.tolist() == [50, -20, 60]


Q_FORMULAS = {
    M.QADD: lambda x, y: x + y,
    M.QSUB: lambda x, y: x - y,
    M.QMUL: lambda x, y: x * y,
    M.QMAX: max,
    M.QMIN: min,
    M.QTRUE_DIV: lambda x, y: x / y,
    M.QFUSE_ADD_RELU: lambda x, y: max(x + y, 0),
    M.QATAN2: math.atan2,
    M.QPOW: lambda x, y: abs(x) ** y,
    M.QLT: lambda x, y: float(x < y),
    M.QFUSE_ADD_H_SWISH: lambda x, y: (x + y) * min(max(x + y + 3, 0), 6) / 6,
}


@pytest.mark.parametrize("mode", Q_FORMULAS, ids=lambda m: m.name)
def test_quantized_modes_compute_on_real_values(mode):
    rng = np.random.default_rng(0)
    x, y = rng.integers(1, 128, 40).astype(np.int8), rng.integers(121, 256, 40).astype(np.uint8)
    result = multi(mode, x, y, dtypes=(S8, U8), output_dtype=OUT)
    exact = [Q_FORMULAS[mode](int(a) * 0.1, (int(b) - 120) * 0.07) / 0.05 for a, b in zip(x, y, strict=True)]
    expected = [min(max(round_away(v), -128), 127) for v in exact]
    near_half = np.abs(np.abs(np.array(exact) % 1) - 0.5) < 1e-3
    assert (np.array(expected)[~near_half] == result[~near_half]).all()
    assert (~near_half).sum() > 20
    assert result.dtype == np.int8


def test_quantized_mode_to_other_types():
    x = int32(1000, -1000)
    result = multi(M.QRELU, x, dtypes=(S32,), output_dtype=U8)
    assert result.tolist() == [120 + round_away(3 / 0.07), 120]
    q4 = DType(DTypeCode.QUANTIZED_S4, 0.5)
    assert multi(M.QADD, x, x, dtypes=(S32, S32), output_dtype=q4).tolist() == [7, -8]
    result = multi(M.QCOND_LT_MOV, *[np.int8([1])] * 2, np.int8([7]), dtypes=(S8, OUT, S8), output_dtype=S8)
    assert result.tolist() == [0]


def test_every_quantized_mode_runs():
    for mode in M:
        if mode.name.startswith("Q"):
            for n in (1, 2, 3):
                arrays = [np.arange(1, 5, dtype=np.int8)] * n
                try:
                    result = multi(mode, *arrays, dtypes=(S8,) * n, output_dtype=S32)
                except ShapeError as error:
                    assert f"mode {mode.name} needs" in str(error)
                else:
                    assert (result.shape, result.dtype) == ((4,), np.int32)


def test_comparisons_give_bool():
    x, y = float32(1, np.nan, 3, np.inf), float32(1, 2, 2, 1)
    expected = {
        M.EQ: [1, 0, 0, 0],
        M.NEQ: [0, 1, 1, 1],
        M.LT: [0, 0, 0, 0],
        M.LEQ: [1, 0, 0, 0],
    }
    for mode, values in expected.items():
        result = multi(mode, x, y)
        assert result.dtype == np.bool_
        assert result.tolist() == [bool(v) for v in values]
    assert multi(M.ISNAN, x).tolist() == [False, True, False, False]
    assert multi(M.ISINF, x.astype(np.float16)).tolist() == [False, False, False, True]
    assert multi(M.LT, np.int8([-1]), np.int8([[0], [-2]])).tolist() == [[True], [False]]


@pytest.mark.parametrize(
    ("mode", "arrays", "options", "message"),
    [
        (M.QADD, (np.int8([1]), float32(1)), {"dtypes": (S8,), "output_dtype": S8}, "operands must be quantized"),
        (M.QADD, (np.int8([1]), np.int8([1])), {"dtypes": (S8, S8)}, "output type must be quantized, is None"),
        (M.MUL_INT16xF32xF32, (int32(1), float32(1)), {}, "input 0 must be int16, is int32"),
        (M.ROUND_SHR_SATURATE_IXxI8xI8, (int32(1), np.int8([1, 2])), {}, "input 1 must be one number"),
        (M.ROUND_SHR_SATURATE_IXxI8xI8, (float32(1), np.int8([1])), {}, "input 0 must be an integer type"),
        (M.EQ, (int32(1), float32(1)), {}, "one type"),
        (M.ISNAN, (int32(1),), {}, "needs floats"),
        (70, (int32(1),), {}, "mode 70 is not known"),
    ],
)
def test_refused(mode, arrays, options, message):
    with pytest.raises(ShapeError, match=message):
        multi(mode, *arrays, **options)


PLAIN = (np.float32, np.float16, np.int8, np.uint8, np.int16, np.int32)


@pytest.mark.parametrize("source", PLAIN)
@pytest.mark.parametrize("target", PLAIN)
def test_cvt_keeps_numbers_that_both_types_hold(source, target):
    x = np.array([0, 1, 2, 100], source)
    result = cvt(x, from_numpy(target))
    assert result.dtype == target
    assert result.tolist() == [0, 1, 2, 100]


def test_cvt_at_the_limits():
    assert cvt(int32(256, -1, 130), INT8).tolist() == [0, -1, -126]
    assert cvt(float32(-1.9, 1.9, 300.5), UINT8).tolist() == [255, 1, 44]
    assert cvt(float32(1e6), FLOAT16).tolist() == [np.inf]
    assert cvt(int32(2**24 + 1), FLOAT32).tolist() == [2**24]


def test_cvt_from_and_to_bool():
    assert cvt(float32(0, -0.0, 0.5, np.nan), BOOL).tolist() == [False, False, True, True]
    assert cvt(int32(0, 256), BOOL).tolist() == [False, True]
    assert cvt(np.array([True, False]), INT16).tolist() == [1, 0]
    assert cvt(np.array([True, False]), FLOAT16).tolist() == [1, 0]


def test_cvt_of_quantized_types():
    x = float32(1.0, -2, 0.3, 40)
    q = cvt(x, S8)
    assert q.tolist() == [10, -20, 3, 127]
    np.testing.assert_allclose(cvt(q, FLOAT32, S8), [1, -2, 0.3, 12.7], rtol=1e-6)
    assert cvt(q, U8, S8).tolist() == [120 + round_away(v / 0.07) for v in (1, -2, 0.3, 12.7 - 3.27)]
    assert cvt(q, INT8, S8).tolist() == [1, -2, 0, 12]
    assert cvt(np.int8([1, -2, 100]), DType(DTypeCode.QUANTIZED_S8, 0.5)).tolist() == [2, -4, 127]
    assert cvt(q, S8, S8).tolist() == q.tolist()
    assert cvt(q, S32, S8).tolist() == [round_away(v / 0.003) for v in (1, -2, 0.3, 12.7)]


def test_cvt_refuses_a_scale_of_zero():
    with pytest.raises(ShapeError, match="positive scale"):
        infer_opr("TypeCvt", DTypeTable(dtype=DType(DTypeCode.QUANTIZED_S8)), TensorSpec((1,), FLOAT32))


def test_fake_quant():
    x = float32(-1, 0.24, 0.26, 100)
    result = run_opr("FakeQuant", FakeQuant(qmin=-4, qmax=7), x, float32(0.5), float32(1))[0]
    assert result.tolist() == [-1, 0, 0.5, 3]


def test_tqt():
    result = run_opr("TQT", TQT(qmin=-8, qmax=7), float32(0.3, -0.125, 9, -9), float32(-2))[0]
    assert result.tolist() == [0.25, -0.25, 1.75, -2]


def test_lsq():
    result = run_opr("LSQ", LSQ(qmin=-2, qmax=2), float32(0.3, 5, -5), float32(0.5), float32(0.25), float32(1))[0]
    assert result.tolist() == [0.375, 0.875, -1.125]


def test_fake_quant_per_channel_and_refused():
    x = np.ones((2, 3, 4), np.float32)
    scale = float32(1, 2, 4).reshape(1, 3, 1)
    result = run_opr("FakeQuant", FakeQuant(qmin=-1, qmax=1), x, scale, float32(0))[0]
    np.testing.assert_array_equal(result, np.broadcast_to(float32(1, 2, 0).reshape(1, 3, 1), x.shape))
    with pytest.raises(ShapeError, match="does not broadcast to"):
        run_opr("FakeQuant", FakeQuant(), x[:, :1], scale, float32(0))
    with pytest.raises(ShapeError, match="above qmax"):
        run_opr("TQT", TQT(qmin=1, qmax=0), x, float32(0))


def test_infer_of_cvt():
    assert infer_opr("TypeCvt", DTypeTable(dtype=INT32), TensorSpec((2, 3), FLOAT32)) == [TensorSpec((2, 3), INT32)]
