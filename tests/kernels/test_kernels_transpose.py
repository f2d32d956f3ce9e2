"""Strided copies and transpositions, and the operators that are made of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.one_node import INSTRUCTION_SETS, definition, run_blocked, run_node

from megengine_lite._core.cpu.kernel_call import KernelCall
from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.ir.params import Axis, Dimshuffle, Padding, PaddingMode
from megengine_lite.kernels.common.tiling import STREAM_BYTES, plan_copy

TYPES = [np.int8, np.int16, np.float32, np.int64]


def copy(x, y, isa):
    """Copies between arrays of any strides; what lies between their elements is not theirs."""
    plan = plan_copy(x.shape, x.strides, y.strides, x.itemsize)
    KernelCall(kernel_set(isa), plan.kernel, x=x, y=y, work=plan.work, **plan.arguments).run()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_copy_between_any_strides(data):
    isa = data.draw(st.sampled_from(INSTRUCTION_SETS))
    ndim = data.draw(st.integers(1, 6))
    longest = [0, 3000, 90, 30, 12, 7, 5][ndim]
    shape = data.draw(st.lists(st.integers(1, longest), min_size=ndim, max_size=ndim))
    dtype = data.draw(st.sampled_from(TYPES))
    x = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    x = x.transpose(data.draw(st.permutations(range(ndim))))
    steps = data.draw(st.lists(st.sampled_from([1, 1, 2, -1]), min_size=ndim, max_size=ndim))
    x = x[tuple(slice(None, None, s) for s in steps)]
    if data.draw(st.booleans()):
        x = np.broadcast_to(x[:1], x.shape)
    around = np.zeros([n + 2 for n in x.shape], dtype)
    inside = around[(slice(1, -1),) * ndim]
    copy(x, inside, isa)
    np.testing.assert_array_equal(inside, x)
    assert np.count_nonzero(around) == np.count_nonzero(x)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("columns", [1040, 1000, 4])
def test_large_transposition_goes_past_the_caches(columns, isa):
    rows = STREAM_BYTES // 4 // columns // 16 * 16 + 16
    x = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    raw = np.zeros(x.size + 16, np.float32)
    start = -raw.ctypes.data % 64 // 4
    y = raw[start : start + x.size].reshape(columns, rows)
    plan = plan_copy(y.shape, x.T.strides, y.strides, 4)
    assert plan.kernel == "transpose_strided"
    assert plan.arguments["stream"] == 1
    copy(x.T, y, isa)
    np.testing.assert_array_equal(y, x.T)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.int64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("channels", [2, 3, 4, 5])
@pytest.mark.parametrize("pixels", [1, 7, 16, 33, 12_288, 70_000])
def test_pixels_of_few_channels(pixels, channels, dtype, threads, isa):
    x = np.arange(2 * pixels * channels).reshape(2, pixels, channels).astype(dtype)
    for array in (x, np.ascontiguousarray(x.transpose(0, 2, 1))):
        params = Dimshuffle(pattern=(0, 2, 1), ndim=3)
        actual, _ = run_node("Dimshuffle", params, [array], set(), isa, threads)
        np.testing.assert_array_equal(actual, array.transpose(0, 2, 1))


def test_work_of_a_long_transposition_is_divided():
    x = np.zeros((480 * 640, 3), np.uint8)
    plan = plan_copy((3, 480 * 640), x.T.strides, (480 * 640, 1), 1)
    assert plan.kernel == "transpose_strided"
    assert plan.work >= 32


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("shape", [(64, 61), (8, 8), (9, 15), (197, 64), (5, 40), (40, 5), (17, 7)], ids=str)
def test_matrices_of_any_size_are_transposed(shape, isa):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    actual, kernels = run_node("Dimshuffle", Dimshuffle(pattern=(1, 0), ndim=2), [x], set(), isa)
    assert kernels == ["transpose_strided"]
    np.testing.assert_array_equal(actual, x.T)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("channels", [32, 35])
@pytest.mark.parametrize("pattern", [(0, 2, 3, 1), (0, 1, 2, 3), (3, 1, 0, 2), (0, 2, -1, 1, 3)], ids=str)
def test_blocked_image_is_transposed(pattern, channels, isa):
    x, params = (
        np.random.default_rng(0).standard_normal((2, channels, 5, 7)).astype(np.float32),
        Dimshuffle(pattern=pattern, ndim=4),
    )
    actual, kernels = run_blocked("Dimshuffle", params, [x], isa)
    np.testing.assert_array_equal(actual, definition("Dimshuffle", params, [x]))
    if channels == 32 and len(pattern) == 4 and pattern != (0, 1, 2, 3):
        assert "relayout_to_plain_32" not in kernels


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_tensors_are_joined(axis, isa):
    shapes = [[2, 3, 4, 5] for _ in range(3)]
    for k, shape in enumerate(shapes):
        shape[axis] = k + 2
    inputs = [np.full(s, k, np.float32) for k, s in enumerate(shapes)]
    actual, _ = run_node("Concat", Axis(axis=axis), inputs, set(), isa)
    np.testing.assert_array_equal(actual, np.concatenate(inputs, axis))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("channels", [[16, 32], [5, 20], [16, 7], [16] * 5, [3] * 5], ids=str)
def test_blocked_channels_are_joined(channels, isa):
    inputs = [np.random.default_rng(k).standard_normal((2, c, 4, 6)).astype(np.float32) for k, c in enumerate(channels)]
    actual, _ = run_blocked("Concat", Axis(axis=1), inputs, isa)
    np.testing.assert_array_equal(actual, np.concatenate(inputs, 1))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", list(PaddingMode), ids=lambda m: m.name)
@pytest.mark.parametrize("front", [(0, 0, 2, 1), (1, 0, 0, 3), (1, 2, 1, 0)], ids=str)
def test_padding(front, mode, isa):
    x = np.random.default_rng(0).standard_normal((4, 16, 5, 6)).astype(np.float32)
    offsets = {f"front_offset_dim{k}": n for k, n in enumerate(front)}
    offsets |= {f"back_offset_dim{k}": n for k, n in enumerate(front[::-1])}
    params = Padding(**offsets, padding_val=1.5, padding_mode=mode)
    expected = definition("Padding", params, [x])
    for run in (run_blocked, lambda op, p, ins, isa: run_node(op, p, ins, set(), isa)):
        actual, kernels = run("Padding", params, [x], isa)
        assert None not in kernels
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", TYPES, ids=lambda t: t.__name__)
def test_data_are_repeated(dtype, isa):
    """Rows that are repeated, of all lengths, and axes apart."""
    for shape, numbers in [
        ((3,), (5,)), ((1, 7), (900, 1)), ((1, 5000), (9, 1)), ((1, 20000), (3, 1)), ((2, 3, 5), (2, 3, 2)),
        ((4, 1, 3), (1, 40, 1)), ((2, 3, 2, 3, 2), (2, 2, 2, 2, 2)), ((20, 30), (2, 2)), ((1, 1), (1, 1)),
    ]:  # fmt: skip
        x = np.random.default_rng(0).integers(-100, 100, shape).astype(dtype)
        for threads in 1, 3:
            actual, kernels = run_node("Tile", None, [x, np.array(numbers)], {1}, isa, threads)
            assert set(kernels) <= {"copy_strided", "fill_elements"} or len(shape) > 4
            np.testing.assert_array_equal(actual, np.tile(x, numbers))
