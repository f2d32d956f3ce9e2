"""Tensors made from numbers, random numbers, checks inside of graphs."""

import numpy as np
import pytest
from support.definitions import float32, infer_opr, int32, make_specs, run_opr
from support.graphs import GraphBuilder, run, session_of

from megengine_lite._core.ir.dtype import FLOAT32, INT32, DTypeCode
from megengine_lite._core.ir.graph import TensorSpec
from megengine_lite._core.ir.params import (
    AssertEqual,
    BetaRNG,
    CheckNonFinite,
    Diag,
    Dropout,
    DType,
    ExponentialRNG,
    Eye,
    GammaRNG,
    GaussianRNG,
    Linspace,
    MultinomialRNG,
    PermutationRNG,
    PoissonRNG,
    ShuffleRNG,
    UniformRNG,
)
from megengine_lite.errors import LiteValueError, ShapeError


@pytest.mark.parametrize(
    ("start", "stop", "num", "endpoint", "expected"),
    [
        (0, 1, 5, True, [0, 0.25, 0.5, 0.75, 1]),
        (0, 1, 4, False, [0, 0.25, 0.5, 0.75]),
        (3, 3, 1, True, [3]),
        (2, 7, 1, True, [2]),
        (5, -5, 3, True, [5, 0, -5]),
        (1, 2, 0, True, []),
    ],
)
def test_linspace(start, stop, num, endpoint, expected):
    (result,) = run_opr("Linspace", Linspace(endpoint=endpoint), float32(start), float32(stop), int32(num))
    assert result.dtype == np.float32
    assert result.tolist() == expected


def test_linspace_of_integers_and_refused():
    assert run_opr("Linspace", Linspace(), int32(0), int32(3), float32(4))[0].tolist() == [0, 1, 2, 3]
    with pytest.raises(ShapeError, match="cannot make -1 numbers"):
        run_opr("Linspace", Linspace(), float32(0), float32(1), int32(-1))
    with pytest.raises(ShapeError, match="start must be one number"):
        run_opr("Linspace", Linspace(), float32(0, 1), float32(1), int32(2))


@pytest.mark.parametrize("code", [DTypeCode.FLOAT32, DTypeCode.FLOAT16, DTypeCode.INT32, DTypeCode.UINT8])
def test_eye(code):
    (result,) = run_opr("Eye", Eye(k=1, dtype=code), int32(2, 3))
    assert result.tolist() == [[0, 1, 0], [0, 0, 1]]
    assert run_opr("Eye", Eye(k=-1, dtype=code), int32(2))[0].tolist() == [[0, 0], [1, 0]]


def test_eye_refused():
    with pytest.raises(ShapeError, match="2 dimensions"):
        run_opr("Eye", Eye(), int32(2, 2, 2))
    with pytest.raises(ShapeError, match="type 77 is not known"):
        run_opr("Eye", Eye(dtype=77), int32(2))
    with pytest.raises(ShapeError, match="type quantized_s8 needs a scale"):
        run_opr("Eye", Eye(dtype=DTypeCode.QUANTIZED_S8), int32(2))
    with pytest.raises(ShapeError, match="type intb1 is not supported"):
        run_opr("Eye", Eye(dtype=DTypeCode.INTB1), int32(2))


def test_alloc():
    (result,) = run_opr("Alloc", DType(dtype=DTypeCode.INT16), int32(2, 0, 3))
    assert (result.shape, result.dtype) == ((2, 0, 3), np.int16)
    with pytest.raises(ShapeError, match="negative"):
        run_opr("Alloc", DType(dtype=DTypeCode.FLOAT32), int32(-1))


def test_diag():
    assert run_opr("Diag", Diag(k=-1), float32(1, 2))[0].tolist() == [[0, 0, 0], [1, 0, 0], [0, 2, 0]]
    x = np.arange(6, dtype=np.int32).reshape(2, 3)
    for k, expected in ((0, [0, 4]), (1, [1, 5]), (2, [2]), (3, []), (-1, [3]), (-2, [])):
        assert run_opr("Diag", Diag(k=k), x)[0].tolist() == expected
    for k in (4, -3):
        with pytest.raises(ShapeError, match="has no diagonal"):
            run_opr("Diag", Diag(k=k), x)
    with pytest.raises(ShapeError, match="a vector or a matrix"):
        run_opr("Diag", Diag(), x[None])


@pytest.mark.parametrize(
    ("op", "params", "mean", "deviation"),
    [
        ("UniformRNG", UniformRNG(seed=1), 0.5, 12**-0.5),
        ("GaussianRNG", GaussianRNG(seed=2, mean=3, std=2), 3, 2),
    ],
)
def test_random_by_shape(op, params, mean, deviation):
    (first,) = run_opr(op, params, int32(100, 200))
    (second,) = run_opr(op, params, int32(100, 200))
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.float32
    assert abs(first.mean() - mean) < 0.05
    assert abs(first.std() - deviation) < 0.05
    if op == "UniformRNG":
        assert first.min() > 0
        assert first.max() <= 1


@pytest.mark.parametrize(
    ("op", "params", "arguments", "mean"),
    [
        ("GammaRNG", GammaRNG(seed=3), (2, 0.5), 1),
        ("BetaRNG", BetaRNG(seed=4), (2, 6), 0.25),
        ("PoissonRNG", PoissonRNG(seed=5), (4,), 4),
        ("ExponentialRNG", ExponentialRNG(seed=6), (2,), 0.5),
    ],
)
def test_random_by_tensors(op, params, arguments, mean):
    arrays = [np.full((100, 100), a, np.float32) for a in arguments]
    (result,) = run_opr(op, params, *arrays)
    assert abs(result.mean() / mean - 1) < 0.05
    assert result.min() >= 0
    with pytest.raises(LiteValueError, match=op):
        run_opr(op, params, *(-a for a in arrays))


def test_permutation_and_shuffle():
    (order,) = run_opr("PermutationRNG", PermutationRNG(seed=1), int32(50))
    assert order.dtype == np.int32
    assert sorted(order.tolist()) == list(range(50))
    assert order.tolist() != list(range(50))
    x = np.arange(40, dtype=np.float32).reshape(20, 2)
    rows, index = run_opr("ShuffleRNG", ShuffleRNG(seed=1), x, n_outputs=2)
    assert sorted(index.tolist()) == list(range(20))
    np.testing.assert_array_equal(rows, x[index])


def test_multinomial():
    weights = float32([0, 1, 3], [1, 0, 0])
    (result,) = run_opr("MultinomialRNG", MultinomialRNG(seed=1, num_samples=400, replacement=True), weights)
    assert (result.shape, result.dtype) == ((2, 400), np.int32)
    assert set(result[0]) == {1, 2}
    assert abs((result[0] == 2).mean() - 0.75) < 0.1
    assert set(result[1]) == {0}
    (result,) = run_opr("MultinomialRNG", MultinomialRNG(seed=1, num_samples=2), weights[:1])
    assert sorted(result[0]) == [1, 2]
    with pytest.raises(ShapeError, match="cannot choose 4 of 3"):
        run_opr("MultinomialRNG", MultinomialRNG(num_samples=4), weights)


def test_dropout():
    x = np.ones((50, 100), np.float32)
    y, mask = run_opr("Dropout", Dropout(drop_prob=0.2, seed=7), x, n_outputs=2)
    assert set(np.unique(y)) == {0, np.float32(1.25)}
    assert abs((y == 0).mean() - 0.2) < 0.03
    np.testing.assert_array_equal(mask, (y != 0).ravel())
    with pytest.raises(ShapeError, match="not in"):
        run_opr("Dropout", Dropout(drop_prob=1), x, n_outputs=2)


def test_assert_equal():
    x, y = float32(1, 200, 0), float32(1, 200.01, 5e-5)
    assert run_opr("AssertEqual", AssertEqual(), x, y)[0].tolist() == x.tolist()
    assert run_opr("AssertEqual", AssertEqual(maxerr=1), x, y[:2], float32(0.5))[0].tolist() == x.tolist()
    with pytest.raises(ShapeError, match="compares tensors of shapes"):
        run_opr("AssertEqual", AssertEqual(), x, y[:2])


UNEQUAL = [
    (4e-5, [(1, 200, 0), (1, 200.01, 5e-5)], r"the error is (5|4[.]99\d*)e-05, allowed are 4e-05"),
    (1e-4, [(1, 200, 0), (1, 200, 1)], "the error is 1, allowed"),
    (1e-4, [(1, 200, 0), (1, 200, 0), (np.nan,)], "the error is nan"),
]


@pytest.mark.parametrize(("most", "values", "message"), UNEQUAL)
def test_tensors_that_are_not_equal(most, values, message):
    """What is known from shapes is compared before the run, and is a fault of the shapes."""
    arrays = [float32(*v) for v in values]
    with pytest.raises(ShapeError, match=message):
        infer_opr("AssertEqual", AssertEqual(maxerr=most), *make_specs(arrays))
    b = GraphBuilder()
    inputs = [b.input(name, v.shape) for name, v in zip("xyz", arrays, strict=False)]
    session = session_of(b.finish(b.node("AssertEqual", AssertEqual(maxerr=most), inputs)))
    with pytest.raises(LiteValueError, match=message):
        run(session, **dict(zip("xyz", arrays, strict=False)))


def test_check_non_finite():
    x, y = float32(1, 2), np.float16([4])
    *scaled, found = run_opr("CheckNonFinite", CheckNonFinite(scale=0.5), x, y, n_outputs=3)
    assert [s.tolist() for s in scaled] == [[0.5, 1], [2]]
    assert (found.tolist(), found.dtype) == ([0], np.int32)
    for bad in (np.nan, np.inf):
        assert run_opr("CheckNonFinite", CheckNonFinite(), x, np.float16([bad]), n_outputs=3)[2].tolist() == [1]
        assert run_opr("CheckHasInf", None, float32(bad))[0].tolist() == [1]
    assert run_opr("CheckHasInf", None, x)[0].tolist() == [0]


def test_infer_of_random_numbers():
    spec = TensorSpec((2,), INT32, int32(3, 4))
    assert infer_opr("UniformRNG", UniformRNG(), spec) == [TensorSpec((3, 4), FLOAT32)]
    with pytest.raises(ShapeError, match="makes floats"):
        infer_opr("UniformRNG", UniformRNG(dtype=DTypeCode.INT32), spec)
