"""Softmax on every instruction set, against double precision."""

import numpy as np
import pytest
from one_node import INSTRUCTION_SETS, run_node

from megengine_lite._core.kernel_set import kernel_set
from megengine_lite._core.params import Softmax


def exact(x, axis):
    weights = np.exp(x.astype(np.float64) - x.max(axis, keepdims=True))
    return weights / weights.sum(axis, keepdims=True)


def softmax(x, isa):
    return kernel_set(isa).module("softmax").softmax(x)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("shape", [(7, 197, 1), (3, 5, 1), (2, 1, 1), (1, 3000, 1), (3, 21, 50), (2, 300, 3)], ids=str)
def test_softmax(shape, isa):
    x = (np.random.default_rng(0).standard_normal(shape) * 5).astype(np.float32)
    np.testing.assert_allclose(softmax(x, isa), exact(x, 1), rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("inner", [1, 20])
def test_large_and_masked_numbers(inner, isa):
    x = np.zeros((3, 40, inner), np.float32)
    x[0] += 1e30  # equal large numbers
    x[1, 7:] = -np.inf  # masked
    x[2, 3] = np.nan
    y = softmax(x, isa)
    np.testing.assert_allclose(y[0], 1 / 40, rtol=1e-6)
    np.testing.assert_allclose(y[1, :7], 1 / 7, rtol=1e-6)
    np.testing.assert_array_equal(y[1, 7:], 0)
    assert np.isnan(y[2]).all()


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_axis_of_a_node(axis, threads, isa):
    x = np.random.default_rng(0).standard_normal((6, 30, 4, 25)).astype(np.float32)
    actual, kernels = run_node("Softmax", Softmax(axis=axis), [x], set(), isa, threads)
    assert kernels == ["softmax_f32"]
    np.testing.assert_allclose(actual, exact(x, axis), rtol=2e-6)
