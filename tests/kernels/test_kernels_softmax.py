"""Softmax on every instruction set, against double precision."""

import numpy as np
import pytest
from support.guarded_memory import GuardedCall
from support.one_node import INSTRUCTION_SETS, definition, run_node

from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.ir.fused import LogSoftmax
from megengine_lite._core.ir.params import Softmax
from megengine_lite.kernels.common.tiling import softmax_chunk


def exact(x, axis):
    weights = np.exp(x.astype(np.float64) - x.max(axis, keepdims=True))
    return weights / weights.sum(axis, keepdims=True)


def softmax(x, isa, stream=False):
    """Along the middle axis."""
    (outer, length, inner), y = x.shape, np.full_like(x, np.nan)
    chunk = softmax_chunk(length, inner, stream)
    scratch = kernel_set(isa).module("softmax").scratch_bytes(length, inner, chunk, stream)
    GuardedCall(
        kernel_set(isa), "softmax_f32", x=x, y=y, length=length, inner=inner, chunk=chunk, stream=stream,
        work=outer * -(-inner // chunk), scratch=scratch,
    ).run()  # fmt: skip
    return y


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize(
    "shape", [(7, 197, 1), (3, 5, 1), (2, 1, 1), (1, 3000, 1), (3, 21, 50), (2, 300, 3), (1, 4000, 20)], ids=str
)
def test_softmax(shape, isa):
    x = (np.random.default_rng(0).standard_normal(shape) * 5).astype(np.float32)
    np.testing.assert_allclose(softmax(x, isa), exact(x, 1), rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("stream", [False, True])
def test_rows_of_any_length(stream, isa):
    for length in (*range(1, 71), 197, 577, 1000):
        x = (np.random.default_rng(length).standard_normal((3, length, 1)) * 5).astype(np.float32)
        np.testing.assert_allclose(softmax(x, isa, stream), exact(x, 1), rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_numbers_far_below_the_largest(isa):
    """Their shares are as small as float32 has them, and then 0."""
    x = np.float32([[0], [-30], [-80], [-86], [-87], [-88], [-100], [-1e4], [-3e38]])[None]
    np.testing.assert_allclose(softmax(x, isa), exact(x, 1), rtol=2e-6, atol=1.2e-38)
    np.testing.assert_array_equal(softmax(x, isa)[0, 6:], 0)


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


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize(
    "shape", [(2, 21, 1003), (3, 5, 16), (5, 7, 3), (1, 600, 259), (2, 2, 272), (3, 50, 1)], ids=str
)
def test_stores_past_the_caches(shape, isa):
    """Rows begin anywhere in a cache line; what is stored by another way is the same number."""
    x = (np.random.default_rng(0).standard_normal(shape) * 5).astype(np.float32)
    y = softmax(x, isa, stream=True)
    np.testing.assert_allclose(y, exact(x, 1), rtol=2e-6, atol=1e-9)
    np.testing.assert_array_equal(y, softmax(x, isa))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_threads_share_columns_of_a_large_tensor(isa):
    x = np.random.default_rng(0).standard_normal((2, 21, 100_003), np.float32)
    expected = softmax(x, isa)
    for threads in (1, 3):
        actual, _ = run_node("Softmax", Softmax(axis=1), [x], set(), isa, threads)
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("threads", [1, 3])
def test_logarithm_of_rows(threads, isa):
    rng = np.random.default_rng(0)
    for length in (*range(1, 40), 197, 1000):
        x = (rng.standard_normal((2, 3, length)) * 5).astype(np.float32)
        actual, kernels = run_node("LogSoftmax", LogSoftmax(2), [x], set(), isa, threads)
        assert kernels == ["log_softmax_f32"]
        np.testing.assert_allclose(actual, definition("LogSoftmax", LogSoftmax(2), [x]), rtol=2e-6, atol=1e-6)
