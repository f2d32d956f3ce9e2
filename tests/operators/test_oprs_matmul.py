"""Matrix products, inverse, decomposition."""

import numpy as np
import pytest
from support.definitions import float32, infer_opr, int32, run_opr

from megengine_lite._core.ir.dtype import FLOAT32, INT8, INT16, INT32, DType, DTypeCode
from megengine_lite._core.ir.graph import TensorSpec
from megengine_lite._core.ir.params import SVD, Cross, Empty, MatrixMul, MatrixMulFormat
from megengine_lite.errors import LiteValueError, ShapeError

RNG = np.random.default_rng(0)


def product(a, b):
    """By the definition, in exact integers or in double precision."""
    big = object if a.dtype.kind in "iu" else np.float64
    return (a.astype(big)[..., :, :, None] * b.astype(big)[..., None, :, :]).sum(-2)


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_matrix_product(transpose_a, transpose_b, dtype):
    a, b = RNG.standard_normal((5, 7)).astype(dtype), RNG.standard_normal((7, 3)).astype(dtype)
    params = MatrixMul(transposeA=transpose_a, transposeB=transpose_b)
    left, right = (a.T.copy() if transpose_a else a), (b.T.copy() if transpose_b else b)
    (result,) = run_opr("MatrixMul", params, left, right)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, product(a, b), rtol=1e-6 if dtype == np.float32 else 1e-3)
    batch = [np.stack([x, 2 * x]) for x in (left, right)]
    (result,) = run_opr("BatchedMatrixMul", params, *batch)
    np.testing.assert_allclose(result[1], 4 * product(a, b), rtol=1e-6 if dtype == np.float32 else 1e-3)


def test_integer_products_are_exact():
    a, b = np.full((2, 3000), -128, np.int8), np.full((3000, 2), -128, np.int8)
    (result,) = run_opr("MatrixMul", MatrixMul(), a, b)
    assert result.dtype == np.int32
    assert result.tolist() == [[3000 * 2**14] * 2] * 2
    a, b = RNG.integers(-128, 128, (4, 9)).astype(np.int8), RNG.integers(-128, 128, (9, 2)).astype(np.int8)
    assert run_opr("MatrixMul", MatrixMul(), a, b)[0].tolist() == product(a, b).tolist()
    (narrow,) = run_opr("MatrixMul", MatrixMul(), a, b, output_dtype=INT16)
    assert (narrow.tolist(), narrow.dtype) == (product(a, b).astype(np.int16).tolist(), np.int16)
    wide = run_opr("MatrixMul", MatrixMul(), a.astype(np.int16) * 200, b.astype(np.int16) * 200)[0]
    assert wide.tolist() == (product(a, b) * 40000).astype(np.int32).tolist()


@pytest.mark.parametrize(
    ("code", "out", "zeros"),
    [
        (DTypeCode.QUANTIZED_S8, DTypeCode.QUANTIZED_S32, (0, 0)),
        (DTypeCode.QUANTIZED8_ASYMM, DTypeCode.QUANTIZED_S32, (100, 7)),
        (DTypeCode.QUANTIZED4_ASYMM, DTypeCode.QUANTIZED_S32, (8, 3)),
        (DTypeCode.QUANTIZED_S4, DTypeCode.QUANTIZED_S16, (0, 0)),
    ],
)
def test_quantized_products(code, out, zeros):
    types = [DType(code, scale, zero) for scale, zero in zip((0.5, 0.25), zeros, strict=True)]
    low, high = types[0].quantized_range
    a, b = (RNG.integers(low, high + 1, shape).astype(types[0].storage) for shape in ((3, 5), (5, 2)))
    (result,) = run_opr("MatrixMul", MatrixMul(), a, b, dtypes=types)
    assert result.tolist() == product(a.astype(np.int32) - zeros[0], b.astype(np.int32) - zeros[1]).tolist()
    specs = TensorSpec((3, 5), types[0]), TensorSpec((5, 2), types[1])
    assert infer_opr("MatrixMul", MatrixMul(), *specs) == [TensorSpec((3, 2), DType(out, 0.125))]


@pytest.mark.parametrize("fmt", [MatrixMulFormat.MK4, MatrixMulFormat.MK8, MatrixMulFormat.MK4_DOT])
def test_packed_products(fmt):
    size = 8 if fmt == MatrixMulFormat.MK8 else 4
    a, b = RNG.standard_normal((16, 24)).astype(np.float32), RNG.standard_normal((24, 5)).astype(np.float32)
    packed_a = np.empty((16 // size, 24 // size, size, size), np.float32)
    packed_b = np.empty((24 // size, 5, size), np.float32)
    for m, k in np.ndindex(16, 24):
        inner = (m % size, k % size) if fmt == MatrixMulFormat.MK4_DOT else (k % size, m % size)
        packed_a[(m // size, k // size, *inner)] = a[m, k]
    for k, n in np.ndindex(24, 5):
        packed_b[k // size, n, k % size] = b[k, n]
    (result,) = run_opr("MatrixMul", MatrixMul(format=fmt), packed_a, packed_b)
    assert result.shape == (16 // size, 5, size)
    expected = product(a, b)
    for m, n in np.ndindex(16, 5):
        assert result[m // size, n, m % size] == pytest.approx(expected[m, n], rel=1e-5, abs=1e-6)


def test_product_with_packed_columns():
    a, b = RNG.standard_normal((3, 8)).astype(np.float32), RNG.standard_normal((8, 64)).astype(np.float32)
    packed = b.reshape(2, 4, 2, 32).transpose(2, 0, 3, 1).copy()
    (result,) = run_opr("MatrixMul", MatrixMul(format=MatrixMulFormat.N32K4_DOT), a, packed)
    np.testing.assert_allclose(result, product(a, b), rtol=1e-5, atol=1e-6)


def test_products_of_nothing():
    zero = np.zeros((0, 4), np.float32)
    assert run_opr("MatrixMul", MatrixMul(), zero, np.ones((4, 3), np.float32))[0].shape == (0, 3)
    (result,) = run_opr("MatrixMul", MatrixMul(transposeA=True), zero, np.ones((0, 3), np.float32))
    assert result.tolist() == [[0, 0, 0]] * 4


@pytest.mark.parametrize(
    ("op", "shapes", "dtypes", "params", "message"),
    [
        ("MatrixMul", ((2, 3), (2, 3)), (FLOAT32, FLOAT32), MatrixMul(), "2x3 matrix cannot be multiplied by a 2x3"),
        ("MatrixMul", ((2, 3, 1), (2, 3)), (FLOAT32, FLOAT32), MatrixMul(), "A must have 2 dimensions"),
        ("MatrixMul", ((2, 3), (3, 2)), (INT32, INT32), MatrixMul(), "cannot multiply int32 by int32"),
        ("MatrixMul", ((2, 3), (3, 2)), (FLOAT32, INT8), MatrixMul(), "one type"),
        ("MatrixMul", ((2, 3), (3, 2)), (FLOAT32, FLOAT32), MatrixMul(format=1), "4 dimensions"),
        ("MatrixMul", ((1, 1, 4, 3), (1, 2, 4)), (FLOAT32, FLOAT32), MatrixMul(format=1), "do not fit format MK4"),
        ("MatrixMul", ((1,), (1,)), (FLOAT32, FLOAT32), MatrixMul(format=1, transposeA=True), "cannot be transposed"),
        ("MatrixMul", ((1, 1), (1, 1)), (FLOAT32, FLOAT32), MatrixMul(format=7), "format 7 is not known"),
        ("BatchedMatrixMul", ((2, 3, 4), (3, 4, 5)), (FLOAT32, FLOAT32), MatrixMul(), "2 3x4 matrices .* 3 4x5"),
        ("BatchedMatrixMul", ((2, 3, 4), (2, 4, 5)), (FLOAT32, FLOAT32), MatrixMul(format=1), "for batches"),
        ("Dot", ((3,), (2,)), (FLOAT32, FLOAT32), Empty(), "vectors of 3 and 2"),
    ],
)
def test_refused(op, shapes, dtypes, params, message):
    with pytest.raises(ShapeError, match=message):
        infer_opr(op, params, *(TensorSpec(s, d) for s, d in zip(shapes, dtypes, strict=True)))


def test_output_type_that_cannot_be():
    specs = TensorSpec((2, 3), INT8), TensorSpec((3, 2), INT8)
    with pytest.raises(ShapeError, match="the output cannot be float32"):
        infer_opr("MatrixMul", MatrixMul(), *specs, output_dtype=FLOAT32)


def test_dot():
    assert run_opr("Dot", Empty(), float32(1, 2, 3), float32(4, 5, 6))[0].tolist() == [32]
    assert run_opr("Dot", Empty(), float32(1, 2, 3), float32(2))[0].tolist() == [12]
    assert run_opr("Dot", Empty(), int32(2**30, 1), int32(4, 5))[0].tolist() == [5]
    assert run_opr("Dot", Empty(), float32(), float32())[0].tolist() == [0]


def test_inverse():
    x = RNG.standard_normal((2, 3, 4, 4)).astype(np.float32) + 4 * np.eye(4, dtype=np.float32)
    (result,) = run_opr("MatrixInverse", Empty(), x)
    np.testing.assert_allclose(np.matmul(x, result), np.broadcast_to(np.eye(4), x.shape), atol=1e-5)
    with pytest.raises(LiteValueError, match=r"MatrixInverse 'node': Singular"):
        run_opr("MatrixInverse", Empty(), np.zeros((2, 2), np.float32))
    with pytest.raises(ShapeError, match="square matrices"):
        run_opr("MatrixInverse", Empty(), x[..., :3])


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("shape", [(3, 5), (2, 5, 3)])
def test_svd(full, shape):
    x = RNG.standard_normal(shape).astype(np.float32)
    u, s, vt = run_opr("SVD", SVD(full_matrices=full), x, n_outputs=3)
    k = 3
    np.testing.assert_allclose(u[..., :k] * s[..., None, :] @ vt[..., :k, :], x, atol=1e-5)
    assert (np.diff(s) <= 0).all()
    assert u.shape[-1] == (shape[-2] if full else k)
    (alone,) = run_opr("SVD", SVD(compute_uv=False), x)
    np.testing.assert_allclose(alone, s, rtol=1e-5)


def test_cross():
    a, b = float32([1, 0, 0], [0, 1, 2]), float32([0, 1, 0], [3, 0, 1])
    assert run_opr("Cross", Cross(), a, b)[0].tolist() == [[0, 0, 1], [1, 6, -3]]
    (result,) = run_opr("Cross", Cross(axisa=0, axisb=1, axisc=0), a.T.copy(), b)
    assert result.tolist() == [[0, 1], [0, 6], [1, -3]]
    with pytest.raises(ShapeError, match="must have length 3"):
        run_opr("Cross", Cross(), a[:, :2], b)
    with pytest.raises(ShapeError, match="do not fit"):
        run_opr("Cross", Cross(), a[:1], b)
