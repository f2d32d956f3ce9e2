"""Normalization and softmax."""

import math

import numpy as np
import pytest
from support.definitions import float32, infer_opr, int32, run_opr

from megengine_lite._core.ir.dtype import BYTE, FLOAT32
from megengine_lite._core.ir.graph import TensorSpec
from megengine_lite._core.ir.params import (
    BN,
    LRN,
    BNFwdMode,
    BNParamDim,
    ConvolutionFormat,
    GeneralNorm,
    GroupNorm,
    LayerNorm,
    Softmax,
)
from megengine_lite.errors import ShapeError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 4, 3, 5)).astype(np.float32) + 1


def statistics(values):
    """Mean and biased variance of numbers."""
    values = [float(v) for v in values.ravel()]
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((v - mean) ** 2 for v in values) / len(values)


def batch_norm(x, *weights, n_outputs=4, **fields):
    return run_opr("BatchNorm", BN(**fields), x, *weights, n_outputs=n_outputs)


@pytest.mark.parametrize("n_outputs", [3, 4])
def test_batch_norm_with_given_statistics(n_outputs):
    scale, bias, mean, variance = (RNG.uniform(0.5, 2, (1, 4, 1, 1)).astype(np.float32) for _ in range(4))
    fields = {"fwd_mode": BNFwdMode.INFERENCE, "param_dim": BNParamDim.DIM_1C11, "epsilon": 0.01}
    *lead, y = batch_norm(X, scale, bias, mean, variance, n_outputs=n_outputs, **fields)
    for n, c, h, w in np.ndindex(*X.shape):
        s, b, m, v = (float(a[0, c, 0, 0]) for a in (scale, bias, mean, variance))
        assert y[n, c, h, w] == pytest.approx((X[n, c, h, w] - m) / math.sqrt(v + 0.01) * s + b, rel=1e-5, abs=1e-5)
    assert len(lead) == n_outputs - 1


@pytest.mark.parametrize(
    ("param_dim", "shape"),
    [
        (BNParamDim.DIM_1C11, (1, 4, 1, 1)),
        (BNParamDim.DIM_111C, (1, 1, 1, 5)),
        (BNParamDim.DIM_11HW, (1, 1, 3, 5)),
        (BNParamDim.DIM_1CHW, (1, 4, 3, 5)),
    ],
)
def test_batch_norm_with_statistics_of_the_batch(param_dim, shape):
    axes = tuple(i for i, d in enumerate(shape) if d == 1)
    scale, bias, mean, variance = (RNG.uniform(0.5, 2, shape).astype(np.float32) for _ in range(4))
    fields = {"fwd_mode": BNFwdMode.TRAINING, "param_dim": param_dim, "epsilon": 1e-3, "avg_factor": 0.25}
    outputs = batch_norm(X, scale, bias, mean, variance, n_outputs=6, **fields)
    new_mean, new_variance, batch_mean, inverse, reserve, y = outputs
    count = X.size / mean.size
    for place in np.ndindex(*shape):
        part = X[tuple(slice(None) if i in axes else k for i, k in enumerate(place))]
        m, v = statistics(part)
        assert batch_mean[place] == pytest.approx(m, rel=1e-5, abs=1e-6)
        assert inverse[place] == pytest.approx(1 / math.sqrt(v + 1e-3), rel=1e-4)
        assert new_mean[place] == pytest.approx(0.75 * mean[place] + 0.25 * m, rel=1e-5)
        unbiased = v * count / (count - 1)
        assert new_variance[place] == pytest.approx(0.75 * variance[place] + 0.25 * unbiased, rel=1e-5)
    expected = (X - batch_mean) * inverse * scale + bias
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    assert reserve.shape == (0,)
    *_, alone = batch_norm(X, scale, bias, **fields)
    np.testing.assert_array_equal(alone, y)


def test_batch_norm_refused():
    spec = TensorSpec(X.shape, FLOAT32)
    channel = TensorSpec((1, 4, 1, 1), FLOAT32)
    inference = BN(fwd_mode=BNFwdMode.INFERENCE)
    with pytest.raises(ShapeError, match="needs mean and variance"):
        infer_opr("BatchNorm", inference, spec, channel, channel, n_outputs=4)
    with pytest.raises(ShapeError, match="do not fit data"):
        infer_opr("BatchNorm", inference, spec, *[TensorSpec((1, 3, 1, 1), FLOAT32)] * 4, n_outputs=4)
    with pytest.raises(ShapeError, match="the variance must have shape"):
        infer_opr("BatchNorm", inference, spec, *[channel] * 3, TensorSpec((1,), FLOAT32), n_outputs=4)
    with pytest.raises(ShapeError, match="cannot have 6 outputs"):
        infer_opr("BatchNorm", inference, spec, *[channel] * 4, n_outputs=6)
    out = infer_opr("BatchNorm", inference, spec, *[channel] * 4, n_outputs=4)
    assert out == [channel, channel, TensorSpec((0,), BYTE), spec]


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax(axis):
    (y,) = run_opr("Softmax", Softmax(axis=axis), X)
    rows = np.moveaxis(X, axis, -1).reshape(-1, X.shape[axis])
    expected = [[math.exp(v) / math.fsum(math.exp(u) for u in row) for v in row] for row in rows.tolist()]
    np.testing.assert_allclose(np.moveaxis(y, axis, -1).reshape(rows.shape), expected, rtol=1e-6)


def test_softmax_of_extremes_and_of_nothing():
    x = float32([1000, 1001, -np.inf], [-1000, -1000, -1000])
    (y,) = run_opr("Softmax", Softmax(axis=1), x)
    np.testing.assert_allclose(y, [[1 / (1 + math.e), math.e / (1 + math.e), 0], [1 / 3] * 3], rtol=1e-6)
    assert run_opr("Softmax", Softmax(axis=0), x[:0])[0].shape == (0, 3)
    (y,) = run_opr("Softmax", Softmax(axis=1), x[1:].astype(np.float16))
    assert y.dtype == np.float16
    with pytest.raises(ShapeError, match="works on floats"):
        run_opr("Softmax", Softmax(), int32(1))


def check_axes_norm(outputs, begin, end, eps, weight=None, bias=None):
    y, mean, inverse = outputs
    lead = X.shape[:begin] + X.shape[end:]
    assert mean.shape == inverse.shape == lead
    for place in np.ndindex(*lead):
        index = (*place[:begin], *[slice(None)] * (end - begin), *place[begin:])
        m, v = statistics(X[index])
        assert mean[place] == pytest.approx(m, rel=1e-5, abs=1e-6)
        assert inverse[place] == pytest.approx(1 / math.sqrt(v + eps), rel=1e-5)
        expected = (X[index] - m) / math.sqrt(v + eps)
        if weight is not None:
            expected = expected * weight + bias
        np.testing.assert_allclose(y[index], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_layer_norm(n):
    params = LayerNorm(affine=False, eps=0.01, normalized_dim=n)
    check_axes_norm(run_opr("LayerNorm", params, X, n_outputs=3), 4 - n, 4, 0.01)
    weight, bias = (RNG.standard_normal(X.shape[4 - n :]).astype(np.float32) for _ in range(2))
    params = LayerNorm(eps=1e-5, normalized_dim=n)
    check_axes_norm(run_opr("LayerNorm", params, X, weight, bias, n_outputs=3), 4 - n, 4, 1e-5, weight, bias)


@pytest.mark.parametrize(("begin", "end"), [(1, 2), (1, 3), (2, 4), (0, 2)])
def test_general_norm(begin, end):
    weight, bias = (RNG.standard_normal(X.shape[begin:end]).astype(np.float32) for _ in range(2))
    params = GeneralNorm(eps=1e-5, axis_start=begin, axis_end=end)
    check_axes_norm(run_opr("GeneralNorm", params, X, weight, bias, n_outputs=3), begin, end, 1e-5, weight, bias)


def test_axes_norm_refused():
    with pytest.raises(ShapeError, match="cannot normalize 5 dimensions"):
        run_opr("LayerNorm", LayerNorm(affine=False, normalized_dim=5), X, n_outputs=3)
    with pytest.raises(ShapeError, match="needs 3 inputs, has 1"):
        run_opr("LayerNorm", LayerNorm(), X, n_outputs=3)
    with pytest.raises(ShapeError, match="the bias must have shape"):
        run_opr("LayerNorm", LayerNorm(), X, np.ones(5, np.float32), np.ones(4, np.float32), n_outputs=3)
    with pytest.raises(ShapeError, match="cannot normalize axes 2 to 1"):
        run_opr("GeneralNorm", GeneralNorm(affine=False, axis_start=2, axis_end=2), X, n_outputs=3)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("affine", [False, True])
def test_group_norm(groups, affine):
    weight, bias = (RNG.standard_normal(4).astype(np.float32) for _ in range(2))
    arrays = (X, weight, bias) if affine else (X,)
    params = GroupNorm(affine=affine, eps=0.02, group=groups)
    y, mean, variance = run_opr("GroupNorm", params, *arrays, n_outputs=3)
    size = 4 // groups
    for n, g in np.ndindex(2, groups):
        channels = slice(g * size, (g + 1) * size)
        m, v = statistics(X[n, channels])
        assert (mean[n, g], variance[n, g]) == (pytest.approx(m, rel=1e-5), pytest.approx(v, rel=1e-5))
        expected = (X[n, channels] - m) / math.sqrt(v + 0.02)
        if affine:
            expected = expected * weight[channels, None, None] + bias[channels, None, None]
        np.testing.assert_allclose(y[n, channels], expected, rtol=1e-4, atol=1e-5)
    if groups == 4:
        for other, own in zip(run_opr("InstanceNorm", params, *arrays, n_outputs=3), (y, mean, variance), strict=True):
            np.testing.assert_array_equal(other, own)


def test_group_norm_refused():
    with pytest.raises(ShapeError, match="4 channels cannot be cut into 3 groups"):
        run_opr("GroupNorm", GroupNorm(affine=False, group=3), X, n_outputs=3)
    with pytest.raises(ShapeError, match="format"):
        run_opr("GroupNorm", GroupNorm(affine=False, format=ConvolutionFormat.NHWC), X, n_outputs=3)
    assert run_opr("GroupNorm", GroupNorm(affine=False), X[:0], n_outputs=3)[0].shape == (0, 4, 3, 5)


@pytest.mark.parametrize("n", [1, 3, 5, 101])
def test_lrn(n):
    (y,) = run_opr("LRN", LRN(n=n, k=2, alpha=0.1, beta=0.75), X)
    for c in range(4):
        near = X[:, max(c - n // 2, 0) : c + n // 2 + 1].astype(np.float64)
        expected = X[:, c] * (2 + 0.1 * (near**2).sum(1)) ** -0.75
        np.testing.assert_allclose(y[:, c], expected, rtol=1e-5)
    with pytest.raises(ShapeError, match="must be odd"):
        run_opr("LRN", LRN(n=2), X)
