"""Reductions, positions of extremes and running sums on every instruction set."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.guarded_memory import GuardedCall
from support.one_node import INSTRUCTION_SETS, definition, run_blocked, run_node

from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.ir.fused import ReduceAxes
from megengine_lite._core.ir.onnx_params import OnnxReduce
from megengine_lite._core.ir.onnx_reduction import OnnxReduction
from megengine_lite._core.ir.params import Axis, Cumsum, ReduceMode

EXACT = {
    ReduceMode.SUM: np.sum,
    ReduceMode.SUM_SQR: lambda x, **k: np.sum(x * x, **k),
    ReduceMode.PRODUCT: np.prod,
    ReduceMode.MIN: np.min,
    ReduceMode.MAX: np.max,
    ReduceMode.MEAN: np.mean,
}


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_axes(data):
    isa = data.draw(st.sampled_from(INSTRUCTION_SETS))
    mode = data.draw(st.sampled_from(list(ReduceMode)))
    ndim = data.draw(st.integers(1, 5))
    longest = [0, 5000, 170, 30, 12, 7][ndim]
    shape = data.draw(st.lists(st.integers(1, longest), min_size=ndim, max_size=ndim))
    axes = tuple(data.draw(st.sets(st.integers(0, ndim - 1), min_size=1)))
    rng = np.random.default_rng(len(shape))
    x = (1 + rng.standard_normal(shape) * (0.01 if mode == ReduceMode.PRODUCT else 1)).astype(np.float32)
    if mode in (ReduceMode.MIN, ReduceMode.MAX) and data.draw(st.booleans()):
        x.reshape(-1)[rng.integers(x.size)] = np.nan
    expected = EXACT[mode](x.astype(np.float64), axis=axes, keepdims=True)
    actual = kernel_set(isa).module("reduce").reduce(x, int(mode), axes)
    terms = x.size / expected.size
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=1e-6 * np.sqrt(terms))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("mode", ReduceMode, ids=lambda m: m.name)
@pytest.mark.parametrize("length", [1, 3, 4, 7, 8, 9, 16, 17, 56, 70, 197, 513])
def test_short_rows(length, mode, threads, isa):
    """Some at a time, so that there may be any number of them; the sums do not depend on the row's place."""
    rows = 37
    x = (1 + np.random.default_rng(0).standard_normal((rows, length)) * 0.1).astype(np.float32)
    params = ReduceAxes(int(mode), (1,))
    actual, kernels = run_node("ReduceAxes", params, [x], set(), isa, threads)
    assert kernels == ["reduce_outer_f32" if length == 1 else "reduce_inner_f32"]
    np.testing.assert_allclose(actual, definition("ReduceAxes", params, [x]), rtol=2e-6)
    moved, _ = run_node("ReduceAxes", params, [np.roll(x, 1, axis=0)], set(), isa)
    np.testing.assert_array_equal(np.roll(moved, -1, axis=0), actual)
    if mode in (ReduceMode.MIN, ReduceMode.MAX):
        x[::5, length // 2] = np.nan
        actual, _ = run_node("ReduceAxes", params, [x], set(), isa)
        np.testing.assert_array_equal(actual, definition("ReduceAxes", params, [x]))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1), (2,), (0, 2)], ids=str)
@pytest.mark.parametrize("mode", [OnnxReduction.MAX, OnnxReduction.MIN], ids=lambda m: m.name)
def test_extremes_of_onnx_may_be_infinite(mode, axes, isa):
    x = np.random.default_rng(0).standard_normal((4, 5, 60)).astype(np.float32)
    x[1:3] = -np.inf if mode == OnnxReduction.MAX else np.inf
    x[:, 2] = x[1:2, 2]
    x[3, 0, 0] = np.nan
    params = OnnxReduce(mode, axes)
    actual, kernels = run_node("OnnxReduce", params, [x], set(), isa, 2)
    assert kernels in (["reduce_inner_f32"], ["reduce_outer_f32"])
    np.testing.assert_array_equal(actual, definition("OnnxReduce", params, [x]))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("axes", [(0,), (1,)])
def test_long_sums_stay_accurate(axes, isa):
    shape = (1_000_003, 1) if axes == (0,) else (1, 1_000_003)
    x = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    actual = kernel_set(isa).module("reduce").reduce(x, 0, axes)
    assert abs(actual.item() / x.astype(np.float64).sum() - 1) < 3e-7


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", [ReduceMode.SUM, ReduceMode.MEAN])
@pytest.mark.parametrize("shape", [(1, 2), (7, 2), (3, 5, 2), (2, 3, 130, 2)], ids=str)
def test_sums_of_pairs_are_exact(shape, mode, isa):
    """Both parts of complex numbers; a sum begins with 0."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    x.reshape(-1, 2)[0] = -0.0
    actual, kernels = run_node("ReduceAxes", ReduceAxes(int(mode), (len(shape) - 1,)), [x], set(), isa, 2)
    assert kernels == ["reduce_inner_f32"]
    expected = (x[..., :1] + x[..., 1:] + np.float32(0)) / np.float32(2 if mode == ReduceMode.MEAN else 1)
    np.testing.assert_array_equal(actual.view(np.int32), expected.view(np.int32))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_result_does_not_depend_on_threads(threads, isa):
    x = np.random.default_rng(0).standard_normal((7, 300, 1100)).astype(np.float32)
    for axes in [(1,), (2,), (0, 2)]:
        params = ReduceAxes(int(ReduceMode.SUM), axes)
        one, _ = run_node("ReduceAxes", params, [x], set(), isa, 1)
        many, _ = run_node("ReduceAxes", params, [x], set(), isa, threads)
        np.testing.assert_array_equal(one, many)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", [ReduceMode.MEAN, ReduceMode.MAX], ids=lambda m: m.name)
@pytest.mark.parametrize("image", [(1, 32, 7, 7), (2, 35, 14, 3), (1, 16, 40, 40)], ids=str)
def test_pixels_of_blocked_image(image, mode, isa):
    x, params = np.random.default_rng(0).standard_normal(image).astype(np.float32), ReduceAxes(int(mode), (2, 3))
    actual, kernels = run_blocked("ReduceAxes", params, [x], isa)
    assert "reduce_outer_f32" in kernels
    np.testing.assert_allclose(actual, definition("ReduceAxes", params, [x]), rtol=1e-6, atol=2e-7)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize(
    "shape", [(3, 500, 1), (1, 7, 1), (2, 30, 40), (4, 9, 3), (1, 1, 33), (37, 56, 1), (19, 3, 1)], ids=str
)
def test_position_of_extreme(shape, largest, isa):
    outer, length, inner = shape
    width = kernel_set(isa).width
    sizes = {"largest": largest, "length": length, "inner": inner, "chunk": min(inner, width)}

    def arg_reduce(x):
        y = np.full((outer, inner), -1, np.int32)
        GuardedCall(kernel_set(isa), "arg_reduce_f32", x=x, y=y, work=outer * -(-inner // width), **sizes).run()
        return y

    function = np.argmax if largest else np.argmin
    rng = np.random.default_rng(0)
    x = rng.integers(0, 5, shape).astype(np.float32)  # many ties: the first one counts
    np.testing.assert_array_equal(arg_reduce(x), function(x, axis=1))
    x.reshape(-1)[rng.integers(x.size, size=5)] = np.nan
    unknown = np.isnan(x)  # the last one counts
    last = x.shape[1] - 1 - np.argmax(unknown[:, ::-1], axis=1)
    expected = np.where(unknown.any(axis=1), last, function(np.where(unknown, 2.5, x), axis=1))
    np.testing.assert_array_equal(arg_reduce(x), expected)
    np.testing.assert_array_equal(arg_reduce(np.full(shape, -np.inf, np.float32)), 0)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("op", ["Argmax", "Argmin"])
def test_position_along_channels_of_blocked_image(op, axis, isa):
    x = np.random.default_rng(0).standard_normal((5, 18, 7, 21)).astype(np.float32)
    actual, kernels = run_blocked(op, Axis(axis=axis), [x], isa)
    assert kernels[-1] == "arg_reduce_f32"
    np.testing.assert_array_equal(actual, definition(op, Axis(axis=axis), [x]))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("reverse", [True, False])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_running_sum(axis, reverse, exclusive, isa):
    x = np.random.default_rng(0).standard_normal((4, 30, 5)).astype(np.float32)
    params = Cumsum(axis=axis, exclusive=exclusive, reverse=reverse)
    actual, kernels = run_node("Cumsum", params, [x], set(), isa, 2)
    assert kernels == ["cumsum_f32"]
    np.testing.assert_allclose(actual, definition("Cumsum", params, [x]), rtol=1e-6, atol=1e-6)


def test_axes_that_cannot_be_reduced_are_refused():
    reduce = kernel_set(INSTRUCTION_SETS[0]).module("reduce").reduce
    with pytest.raises(ValueError, match="cannot reduce"):
        reduce(np.zeros((2, 3), np.float32), 0, (2,))
    with pytest.raises(ValueError, match="cannot reduce"):
        reduce(np.zeros((2, 0), np.float32), 3, (1,))
    with pytest.raises(ValueError, match="cannot reduce"):
        reduce(np.zeros((2, 3), np.float32), 7, (1,))
    with pytest.raises(TypeError):
        reduce(np.zeros((2, 3), np.float32), 0, [0.5])
    with pytest.raises(ValueError, match="too scattered"):
        reduce(np.zeros((2,) * 7, np.float32), 0, (0, 2, 4, 6))


def test_arrays_that_cannot_be_reduced_are_refused():
    reduce = kernel_set(INSTRUCTION_SETS[0]).module("reduce").reduce
    x = np.zeros((4, 6), np.float32)
    for strided in (x[:, ::2], x.T, np.broadcast_to(x[:1], x.shape)):
        with pytest.raises(ValueError, match="C-contiguous"):
            reduce(strided, 0, (0,))
    with pytest.raises(ValueError, match="dtype"):
        reduce(x.astype(np.float64), 0, (0,))
