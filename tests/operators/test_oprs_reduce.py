"""Reductions, positions of extremes, running sums."""

import itertools
import math

import numpy as np
import pytest
from support.definitions import float32, infer_opr, int32, run_opr

from megengine_lite._core.ir.dtype import BOOL, FLOAT16, FLOAT32, INT32, DType, DTypeCode
from megengine_lite._core.ir.graph import TensorSpec
from megengine_lite._core.ir.params import INT_MAX, Axis, Cumsum, Reduce, ReduceDataType, ReduceMode
from megengine_lite.errors import ShapeError

M, D = ReduceMode, ReduceDataType
X = np.random.default_rng(0).uniform(-2, 2, (2, 3, 4, 5)).astype(np.float32)

FORMULAS = {
    M.SUM: math.fsum,
    M.SUM_SQR: lambda v: math.fsum(x * x for x in v),
    M.PRODUCT: math.prod,
    M.MIN: min,
    M.MAX: max,
    M.MEAN: lambda v: math.fsum(v) / len(v),
}


def reduce(x, mode, *target, **options):
    dtypes = options.pop("dtypes", ())
    return run_opr("Reduce", Reduce(mode=mode, **options), x, *target, dtypes=dtypes)[0]


def loop_over(x, axes, formula):
    """A reduction by loops on Python floats; the axes stay."""
    out = np.empty([1 if i in axes else d for i, d in enumerate(x.shape)])
    for index in itertools.product(*(range(d) for d in out.shape)):
        part = x[tuple(slice(None) if i in axes else k for i, k in enumerate(index))]
        out[index] = formula([float(v) for v in part.ravel()])
    return out


@pytest.mark.parametrize("mode", M, ids=lambda m: m.name)
@pytest.mark.parametrize("axis", [0, 2, 3, -1, -4])
def test_one_axis(mode, axis):
    np.testing.assert_allclose(reduce(X, mode, axis=axis), loop_over(X, {axis % 4}, FORMULAS[mode]), rtol=2e-6)


@pytest.mark.parametrize("mode", M, ids=lambda m: m.name)
@pytest.mark.parametrize(
    ("target", "axes", "shape"),
    [
        ((1,), {0, 1, 2, 3}, (1,)),
        ((2, 1, 4, 1), {1, 3}, (2, 1, 4, 1)),
        ((4, 5), {0, 1}, (4, 5)),
        ((3, 1, 1), {0, 2, 3}, (3, 1, 1)),
        ((2, 3, 4, 5), set(), (2, 3, 4, 5)),
    ],
)
def test_target_shape(mode, target, axes, shape):
    result = reduce(X, mode, int32(*target))
    np.testing.assert_allclose(result, loop_over(X, axes, FORMULAS[mode]).reshape(shape), rtol=3e-6)


def test_nan_wins_over_smallest_and_largest():
    x = float32([1, np.nan, 3], [4, 5, 6])
    np.testing.assert_array_equal(reduce(x, M.MAX, axis=1), [[np.nan], [6]])
    np.testing.assert_array_equal(reduce(x, M.MIN, axis=1), [[np.nan], [4]])


def test_integer_sums_wrap_and_means_divide_towards_zero():
    x = np.int8([[-7, -2, -100, -51], [100, 100, 100, 3]])
    # As the original computed it: -160 and 303 wrap to 96 and 47.
    assert reduce(x, M.MEAN, axis=1).tolist() == [[24], [11]]
    assert reduce(x, M.SUM, axis=1).tolist() == [[96], [47]]
    assert reduce(int32(-7, -2, -100, -50), M.MEAN, axis=0).tolist() == [-39]
    assert reduce(x, M.PRODUCT, axis=1).dtype == np.int8


def test_empty_axes():
    x = np.zeros((2, 0), np.float32)
    assert reduce(x, M.SUM, axis=1).tolist() == [[0], [0]]
    assert reduce(x, M.PRODUCT, axis=1).tolist() == [[1], [1]]
    assert np.isnan(reduce(x, M.MEAN, axis=1)).all()
    assert reduce(x, M.MAX, axis=0).shape == (1, 0)
    with pytest.raises(ShapeError, match="no elements"):
        reduce(x, M.MAX, axis=1)


@pytest.mark.parametrize(
    ("data_type", "source", "target"),
    [
        (D.DEFAULT, np.float16, np.float16),
        (D.FLOAT_O32xC32, np.float16, np.float32),
        (D.FLOAT_O32xC32, np.float32, np.float32),
        (D.FLOAT_O16xC32, np.float32, np.float16),
        (D.FLOAT_IO16xC32, np.float16, np.float16),
    ],
)
def test_float_types(data_type, source, target):
    x = X.astype(source)
    result = reduce(x, M.SUM, axis=1, data_type=data_type)
    assert result.dtype == target
    np.testing.assert_array_equal(result, x.astype(np.float64).sum(1, keepdims=True).astype(target))


def test_quantized_types():
    s8, u8 = DType(DTypeCode.QUANTIZED_S8, 0.1), DType(DTypeCode.QUANTIZED8_ASYMM, 0.1, 100)
    x = np.int8([[100, 100, -5]])
    assert reduce(x, M.MAX, axis=1, dtypes=(s8,)).tolist() == [[100]]
    result = reduce(x, M.SUM, axis=1, data_type=D.QINT_I8xO32, dtypes=(s8,))
    assert (result.tolist(), result.dtype) == ([[195]], np.int32)
    result = reduce(x.view(np.uint8), M.SUM, axis=1, data_type=D.QUINT_I8xO32, dtypes=(u8,))
    assert result.tolist() == [[100 + 100 + 251 - 300]]
    out = infer_opr("Reduce", Reduce(axis=1, data_type=D.QINT_I8xO32), TensorSpec((1, 3), s8))
    assert out[0].dtype == DType(DTypeCode.QUANTIZED_S32, 0.1)


@pytest.mark.parametrize(
    ("specs", "params", "message"),
    [
        ([((2, 3), FLOAT32)], Reduce(axis=2), "axis 2 is out of range"),
        ([((2, 3), FLOAT32)], Reduce(), "neither an axis nor a target"),
        ([((2, 3), BOOL)], Reduce(axis=0), "mode SUM is not defined for bool"),
        ([((2, 3), INT32)], Reduce(axis=0, data_type=D.FLOAT_O32xC32), "needs a float input"),
        ([((2, 3), FLOAT16)], Reduce(axis=0, data_type=D.QINT_I8xO32), "does not fit"),
        ([((2, 3), FLOAT32)], Reduce(axis=0, mode=9), "mode 9 is not known"),
        ([((2, 3), DType(DTypeCode.QUANTIZED_S8, 1.0))], Reduce(axis=0), "not defined for quantized_s8"),
    ],
)
def test_refused(specs, params, message):
    with pytest.raises(ShapeError, match=message):
        infer_opr("Reduce", params, *(TensorSpec(shape, dtype) for shape, dtype in specs))


def test_refused_target():
    with pytest.raises(ShapeError, match="cannot be reduced"):
        reduce(X, M.SUM, int32(2, 3, 4, 2))
    with pytest.raises(ShapeError, match="cannot be reduced"):
        reduce(X, M.SUM, int32(1, 2, 3, 4, 5))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_positions(axis):
    x = np.random.default_rng(0).integers(0, 5, (4, 6)).astype(np.float32)
    for op, best in (("Argmax", max), ("Argmin", min)):
        (result,) = run_opr(op, Axis(axis=axis), x)
        lines = x.T if axis == 0 else x
        expected = [list(line).index(best(line)) for line in lines]
        assert result.dtype == np.int32
        assert result.shape == ((1, 6) if axis == 0 else (4, 1))
        assert result.ravel().tolist() == expected


def test_positions_of_nan():
    x = float32([1, np.nan, 3, np.nan])
    assert run_opr("Argmax", Axis(axis=1), x)[0].tolist() == [[3]]
    assert run_opr("Argmin", Axis(axis=1), x)[0].tolist() == [[3]]
    with pytest.raises(ShapeError, match="is empty"):
        run_opr("Argmax", Axis(axis=1), np.zeros((2, 0), np.float32))


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.float16])
def test_running_sum(exclusive, reverse, dtype):
    x = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], dtype)
    result = run_opr("Cumsum", Cumsum(axis=1, exclusive=exclusive, reverse=reverse), x)[0]
    expected = {
        (False, False): [[1, 3, 6, 10], [5, 11, 18, 26]],
        (True, False): [[0, 1, 3, 6], [0, 5, 11, 18]],
        (False, True): [[10, 9, 7, 4], [26, 21, 15, 8]],
        (True, True): [[9, 7, 4, 0], [21, 15, 8, 0]],
    }
    assert result.dtype == dtype
    assert result.tolist() == expected[exclusive, reverse]


def test_running_sum_of_everything_and_of_nothing():
    x = int32(1, 2, 3, 4).reshape(2, 2)
    assert run_opr("Cumsum", Cumsum(axis=INT_MAX, exclusive=False), x)[0].tolist() == [1, 3, 6, 10]
    assert run_opr("Cumsum", Cumsum(axis=0), np.zeros((0, 3), np.float32))[0].shape == (0, 3)
