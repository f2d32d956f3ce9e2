"""Elementwise operators on one type, against formulas of their own."""

import math

import numpy as np
import pytest
from support.definitions import float32, infer_opr, int32, run_opr

from megengine_lite._core.ir.dtype import BOOL, FLOAT32, INT32, DType, DTypeCode
from megengine_lite._core.ir.graph import TensorSpec
from megengine_lite._core.ir.params import Elemwise, ElemwiseMode, Empty, Fill, PowC
from megengine_lite._core.operators.elemwise_functions import FUNCTIONS, erf, erfc, erfcinv, erfinv
from megengine_lite.errors import ShapeError

M = ElemwiseMode
SQRT2PI = math.sqrt(2 * math.pi)


def elemwise(mode, *arrays, **options):
    return run_opr("Elemwise", Elemwise(mode=mode), *arrays, **options)[0]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def normal_cdf(x):
    return 0.5 * math.erfc(-x / math.sqrt(2))


# Each formula once more, on Python floats.
SCALAR = {
    M.RELU: lambda x: max(x, 0),
    M.ABS: abs,
    M.ACOS: lambda x: math.acos(x / 4),
    M.ASIN: lambda x: math.asin(x / 4),
    M.CEIL: math.ceil,
    M.COS: math.cos,
    M.EXP: math.exp,
    M.EXPM1: math.expm1,
    M.FLOOR: math.floor,
    M.LOG: lambda x: math.log(abs(x) + 0.1),
    M.LOG1P: lambda x: math.log1p(abs(x)),
    M.NEGATE: lambda x: -x,
    M.SIGMOID: sigmoid,
    M.SIN: math.sin,
    M.TANH: math.tanh,
    M.ABS_GRAD: lambda x, y: y if x > 0 else -y,
    M.ADD: lambda x, y: x + y,
    M.FLOOR_DIV: lambda x, y: math.floor(x / y),
    M.MAX: max,
    M.MIN: min,
    M.MOD: math.fmod,
    M.MUL: lambda x, y: x * y,
    M.POW: lambda x, y: (abs(x) + 0.1) ** y,
    M.SIGMOID_GRAD: lambda x, y: x * (1 - x) * y,
    M.SUB: lambda x, y: x - y,
    M.SWITCH_GT0: lambda x, y: y if x > 0 else 0,
    M.TANH_GRAD: lambda x, y: (1 - x * x) * y,
    M.TRUE_DIV: lambda x, y: x / y,
    M.LOG_SUM_EXP: lambda x, y: math.log(math.exp(x) + math.exp(y)),
    M.LT: lambda x, y: float(x < y),
    M.LEQ: lambda x, y: float(x <= y),
    M.EQ: lambda x, y: float(x == y),
    M.NEQ: lambda x, y: float(x != y),
    M.COND_LEQ_MOV: lambda x, y, z: z if x <= y else 0,
    M.COND_LT_MOV: lambda x, y, z: z if x < y else 0,
    M.FUSE_MUL_ADD3: lambda x, y, z: x * y + z,
    M.FUSE_MUL_ADD4: lambda x, y, z, w: x * y + z * w,
    M.FUSE_ADD_RELU: lambda x, y: max(x + y, 0),
    M.FUSE_ADD_SIGMOID: lambda x, y: sigmoid(x + y),
    M.FUSE_ADD_TANH: lambda x, y: math.tanh(x + y),
    M.FAST_TANH: lambda x: x * (27 + x * x) / (27 + 9 * x * x),
    M.ROUND: lambda x: math.copysign(math.floor(abs(x) + 0.5), x),
    M.ATAN2: math.atan2,
    M.ERF: math.erf,
    M.ERFC: math.erfc,
    M.H_SWISH: lambda x: x * min(max(x + 3, 0), 6) / 6,
    M.H_SWISH_GRAD: lambda x, y: 0 if x < -3 else y if x > 3 else (2 * x + 3) / 6 * y,
    M.FUSE_ADD_H_SWISH: lambda x, y: (x + y) * min(max(x + y + 3, 0), 6) / 6,
    M.SILU: lambda x: x * sigmoid(x),
    M.SILU_GRAD: lambda x, y: y * (sigmoid(x) + x * sigmoid(x) * sigmoid(-x)),
    M.GELU: lambda x: x * normal_cdf(x),
    M.GELU_TANH: lambda x: x / (1 + math.exp(-math.sqrt(8 / math.pi) * (x + 0.044715 * x**3))),
    M.GELU_GRAD: lambda x, y: y * (normal_cdf(x) + x * math.exp(-x * x / 2) / SQRT2PI),
    M.SINH: math.sinh,
    M.COSH: math.cosh,
    M.ASINH: math.asinh,
    M.ACOSH: lambda x: math.acosh(abs(x) + 1.1),
    M.ATANH: lambda x: math.atanh(x / 4),
    M.TAN: math.tan,
    M.ASINH_GRAD: lambda x, y: y / math.sqrt(x * x + 1),
    M.ACOSH_GRAD: lambda x, y: y / math.sqrt((abs(x) + 1.1) ** 2 - 1),
    M.ATANH_GRAD: lambda x, y: y / (1 - x * x / 16),
    M.PRELU: lambda x, y: x if x > 0 else x * y,
    M.CLIP: lambda x, y, z: y if x <= y else min(x, z),
    M.PRELU_GRAD: lambda x, y, z: y if x >= 0 else y * z,
    M.SOFTPLUS: lambda x: math.log(1 + math.exp(x)),
    M.SOFTPLUS_GRAD: lambda x, y: y * sigmoid(x),
    M.RELU6: lambda x: min(max(x, 0), 6),
    M.RELU6_GRAD: lambda x, y: y if 0 < x < 6 else 0,
    M.HSIGMOID: lambda x: min(max((x + 3) / 6, 0), 1),
    M.HSIGMOID_GRAD: lambda x, y: y / 6 if -3 < x < 3 else 0,
    M.LOGSIGMOID: lambda x: -math.log(1 + math.exp(-x)),
    M.SQRT: lambda x: math.sqrt(abs(x)),
    M.SQUARE: lambda x: x * x,
    M.SIGN: lambda x: float(x > 0) - float(x < 0),
    M.NAN_RELU: lambda x: max(x, 0),
    M.NAN_MAX: lambda x, y: max(x, y),
    M.NAN_MIN: lambda x, y: min(x, y),
    M.NAN_SIGN: lambda x: float(x > 0) - float(x < 0),
    M.ROUND_EVEN: round,
}
# What is done to the first operand so that it lies where the function is defined; SCALAR does the same.
DOMAIN = {
    **dict.fromkeys((M.ACOS, M.ASIN, M.ATANH, M.ATANH_GRAD), lambda x: x / 4),
    **dict.fromkeys((M.LOG, M.POW), lambda x: np.abs(x) + np.float32(0.1)),
    **dict.fromkeys((M.LOG1P, M.SQRT), np.abs),
    **dict.fromkeys((M.ACOSH, M.ACOSH_GRAD), lambda x: np.abs(x) + np.float32(1.1)),
}
NOT_FOR_FLOATS = {M.SHL, M.SHR, M.RMULH, M.NOT, M.AND, M.OR, M.XOR}
OTHERWISE_TESTED = {M.FAST_TANH_GRAD, M.ERFINV, M.ERFCINV, M.ISNAN, M.ISINF}


def test_every_mode_is_defined_and_tested():
    assert set(FUNCTIONS) == set(M)
    assert set(SCALAR) | NOT_FOR_FLOATS | OTHERWISE_TESTED == set(M)


# In float16 the moved operand would be rounded.
FLOAT_CASES = [(mode, np.float32) for mode in SCALAR] + [(mode, np.float16) for mode in SCALAR if mode not in DOMAIN]


@pytest.mark.parametrize(("mode", "dtype"), FLOAT_CASES)
def test_float_modes(mode, dtype):
    rng = np.random.default_rng(mode)
    arity = FUNCTIONS[mode].arity
    arrays = [rng.uniform(-3.9, 3.9, 60).astype(dtype) for _ in range(arity)]
    arrays[0][:4] = [0.5, -2.5, 0, 3]
    expected = [SCALAR[mode](*map(float, values)) for values in zip(*arrays, strict=True)]
    domain = DOMAIN.get(mode)
    if domain is not None:
        arrays[0] = domain(arrays[0]).astype(dtype)
    result = elemwise(mode, *arrays)
    assert result.dtype == dtype
    tolerance = {np.float32: 2e-6, np.float16: 1e-3}[dtype]
    np.testing.assert_allclose(result, np.array(expected, dtype), rtol=tolerance, atol=tolerance)


def test_fast_tanh_grad_is_the_derivative_of_fast_tanh():
    x = np.linspace(-2, 2, 41)

    def fast_tanh(v):
        return v * (27 + v * v) / (27 + 9 * v * v)

    slope = (fast_tanh(x + 1e-5) - fast_tanh(x - 1e-5)) / 2e-5
    result = elemwise(M.FAST_TANH_GRAD, x.astype(np.float32), np.full(41, 2, np.float32))
    np.testing.assert_allclose(result, 2 * slope, atol=1e-5)


def test_inverse_error_functions():
    x = np.concatenate([np.linspace(-5.5, 5.5, 111), [1e-12, -1e-12]])
    np.testing.assert_allclose(erfinv(erf(x[np.abs(x) < 3])), x[np.abs(x) < 3], rtol=1e-9)
    np.testing.assert_allclose(erfcinv(erfc(x[x > -3])), x[x > -3], rtol=1e-9, atol=1e-15)
    with np.errstate(all="ignore"):
        assert erfinv(np.array([0.0, 1, -1])).tolist() == [0, np.inf, -np.inf]
        assert erfcinv(np.array([0.0, 1, 2])).tolist() == [np.inf, 0, -np.inf]
        assert np.isnan([*erfinv(np.array([1.5, np.nan])), *erfcinv(np.array([-0.1, 2.1]))]).all()


def test_functions_stay_finite_far_out():
    x = float32(-1000, -100, 100, 1000)
    np.testing.assert_array_equal(elemwise(M.SIGMOID, x), [0, elemwise(M.SIGMOID, x)[1], 1, 1])
    np.testing.assert_array_equal(elemwise(M.SOFTPLUS, x), [0, elemwise(M.SOFTPLUS, x)[1], 100, 1000])
    np.testing.assert_array_equal(elemwise(M.LOGSIGMOID, x)[:2], [-1000, -100])
    np.testing.assert_array_equal(elemwise(M.LOG_SUM_EXP, x, x - 50), x)


def test_nan_and_infinity():
    x = float32(np.nan, np.inf, -np.inf, 1)
    assert elemwise(M.RELU, x).tolist() == [0, np.inf, 0, 1]
    assert elemwise(M.ISNAN, x).tolist() == [1, 0, 0, 0]
    assert elemwise(M.ISINF, x).tolist() == [0, 1, 1, 0]
    assert elemwise(M.MIN, x, float32(2, 2, 2, 2)).tolist() == [2, 2, -np.inf, 1]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32])
def test_integer_arithmetic_wraps(dtype):
    info = np.iinfo(dtype)
    rng = np.random.default_rng(0)
    x, y = (rng.integers(info.min, info.max + 1, 50).astype(dtype) for _ in range(2))
    wide = [int(a) for a in x], [int(b) for b in y]

    def wrap(values):
        span = 1 << info.bits
        return [(v - info.min) % span + info.min for v in values]

    assert elemwise(M.ADD, x, y).tolist() == wrap(a + b for a, b in zip(*wide, strict=True))
    assert elemwise(M.SUB, x, y).tolist() == wrap(a - b for a, b in zip(*wide, strict=True))
    assert elemwise(M.MUL, x, y).tolist() == wrap(a * b for a, b in zip(*wide, strict=True))
    assert elemwise(M.NEGATE, x).tolist() == wrap(-a for a in wide[0])
    assert elemwise(M.SQUARE, x).tolist() == wrap(a * a for a in wide[0])
    assert elemwise(M.MAX, x, y).tolist() == [max(p) for p in zip(*wide, strict=True)]
    assert elemwise(M.SIGN, x).tolist() == [(a > 0) - (a < 0) for a in wide[0]]
    assert elemwise(M.LT, x, y).tolist() == [int(a < b) for a, b in zip(*wide, strict=True)]
    assert elemwise(M.LT, x, y).dtype == dtype


def test_integer_division_rounds_down():
    x, y = int32(7, -7, 7, -7, 5), int32(2, 2, -2, -2, 0)
    assert elemwise(M.FLOOR_DIV, x, y).tolist()[:4] == [3, -4, -4, 3]
    assert elemwise(M.MOD, x, y).tolist()[:4] == [1, 1, -1, -1]


def test_shifts():
    assert elemwise(M.SHL, int32(1, -3), int32(4, 1)).tolist() == [16, -6]
    assert elemwise(M.SHR, int32(17, -17), int32(2, 2)).tolist() == [4, -5]
    assert elemwise(M.SHL, np.int8([1, 1]), np.int8([7, 8])).tolist() == [-128, 0]


@pytest.mark.parametrize(
    ("dtype", "x", "y", "expected"),
    [
        (np.int8, [127, -128, -128, 100], [127, -128, 127, 3], [126, 127, -127, 2]),
        (np.uint8, [255, 0, 100], [255, 7, 3], [254, 0, 1]),
        (np.int16, [32767, -32768, -32768], [32767, -32768, 32767], [32766, 32767, -32767]),
        (np.int32, [2**31 - 1, -(2**31), -(2**31)], [2**31 - 1, -(2**31), 2], [2**31 - 2, 2**31 - 1, -2]),
    ],
)
def test_rmulh(dtype, x, y, expected):
    assert elemwise(M.RMULH, np.array(x, dtype), np.array(y, dtype)).tolist() == expected


def test_bool_modes():
    x, y = np.array([0, 0, 1, 1], np.bool_), np.array([0, 1, 0, 1], np.bool_)
    expected = {
        M.AND: [0, 0, 0, 1],
        M.OR: [0, 1, 1, 1],
        M.XOR: [0, 1, 1, 0],
        M.LT: [0, 1, 0, 0],
        M.LEQ: [1, 1, 0, 1],
        M.EQ: [1, 0, 0, 1],
        M.NEQ: [0, 1, 1, 0],
    }
    for mode, values in expected.items():
        result = elemwise(mode, x, y)
        assert result.dtype == np.bool_
        assert result.tolist() == [bool(v) for v in values], mode.name
    assert elemwise(M.NOT, x).tolist() == [True, True, False, False]


def test_quantized_numbers_of_one_type_are_added_as_they_are():
    dtype = DType(DTypeCode.QUANTIZED_S32, 0.01)
    x, y = int32(5, -7), int32(100, 1)
    assert elemwise(M.ADD, x, y, dtypes=(dtype, dtype)).tolist() == [105, -6]
    with pytest.raises(ShapeError, match="not defined for quantized_s32"):
        elemwise(M.MUL, x, y, dtypes=(dtype, dtype))
    with pytest.raises(ShapeError, match="one type"):
        elemwise(M.ADD, x, y, dtypes=(dtype, DType(DTypeCode.QUANTIZED_S32, 0.02)))


def test_operands_broadcast():
    x = np.arange(6, dtype=np.float32).reshape(2, 1, 3)
    y = np.arange(4, dtype=np.float32).reshape(4, 1)
    np.testing.assert_array_equal(elemwise(M.ADD, x, y), x + y)
    assert elemwise(M.ADD, np.zeros((0, 3), np.float32), float32(1)).shape == (0, 3)
    np.testing.assert_array_equal(elemwise(M.FUSE_MUL_ADD3, x, y, float32(1)), x * y + 1)


def test_bfloat16():
    dtype = DType(DTypeCode.BFLOAT16)
    x = np.uint16([0x3F80, 0x4040])  # 1, 3
    assert elemwise(M.ADD, x, x, dtypes=(dtype, dtype)).tolist() == [0x4000, 0x40C0]


@pytest.mark.parametrize(
    ("mode", "arrays", "message"),
    [
        (M.ADD, (np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32)), "do not broadcast"),
        (M.ADD, (float32(1), int32(1)), "one type"),
        (M.ADD, (float32(1),), "needs 2 inputs, has 1"),
        (M.EXP, (int32(1),), "mode EXP is not defined for int32"),
        (M.AND, (int32(1), int32(1)), "not defined for int32"),
        (M.ADD, (np.array([True]), np.array([True])), "not defined for bool"),
        (99, (float32(1),), "mode 99 is not known"),
    ],
)
def test_refused(mode, arrays, message):
    with pytest.raises(ShapeError, match=f"Elemwise 'node': .*{message}"):
        elemwise(mode, *arrays)


def test_pow_with_constant():
    x = float32(0.5, 2, 9)
    np.testing.assert_allclose(run_opr("PowC", PowC(exp=0.5), x)[0], np.sqrt(x), rtol=1e-6)
    assert run_opr("PowC", PowC(exp=2), int32(3, -4))[0].tolist() == [9, 16]
    assert run_opr("PowC", PowC(exp=-1), np.float16([4]))[0].tolist() == [0.25]


def test_where():
    mask = np.array([[True], [False]])
    result = run_opr("Where", Empty(), mask, float32(1, 2), float32(-1, -2))[0]
    assert result.tolist() == [[1, 2], [-1, -2]]
    with pytest.raises(ShapeError, match="mask must be bool"):
        run_opr("Where", Empty(), int32(1), float32(1), float32(2))


def test_masked_fill():
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    mask = np.array([True, False, True])
    assert run_opr("MaskedFill", Fill(value=-1.5), x, mask)[0].tolist() == [[-1.5, -1.5], [2, 3], [-1.5, -1.5]]
    with pytest.raises(ShapeError, match="not the beginning"):
        infer_opr("MaskedFill", Fill(), TensorSpec((3, 2), FLOAT32), TensorSpec((2,), BOOL))


def test_infer_needs_no_values():
    out = infer_opr("Elemwise", Elemwise(mode=M.ADD), TensorSpec((2, 3), INT32), TensorSpec((1,), INT32))
    assert out == [TensorSpec((2, 3), INT32)]
