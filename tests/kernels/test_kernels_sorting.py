"""Sorting on every instruction set, against numpy."""

import numpy as np
import pytest
from support.guarded_memory import GuardedCall
from support.one_node import INSTRUCTION_SETS, definition, run_blocked, run_node

from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.ir.onnx_params import SortedTopK
from megengine_lite._core.ir.params import Argsort, ArgsortOrder, TopK, TopKMode


def rows(shape, dtype):
    """Random numbers, some of them equal."""
    x = np.random.default_rng(0).integers(-(2**30), 2**30, shape).astype(dtype)
    x[:, ::3] = x[:, :1]
    return x


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("order", ArgsortOrder)
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 257), (4, 3001)])
def test_rows_are_sorted(shape, dtype, order, isa):
    x = rows(shape, dtype)
    actual, kernels = run_blocked("Argsort", Argsort(order=order), [x], isa, plain={0}, threads=2)
    assert kernels == ["sort_elements"]
    np.testing.assert_array_equal(actual, definition("Argsort", Argsort(order=order), [x]))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", TopKMode)
@pytest.mark.parametrize("k", [1, 7, 100, -1, -7, -100])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_first_of_each_row(dtype, k, mode, isa):
    inputs = [rows((3, 100), dtype), np.int32([k])]
    actual, kernels = run_blocked("TopK", TopK(mode=mode), inputs, isa, {1}, plain={0})
    assert kernels == ["sort_elements"]
    np.testing.assert_array_equal(actual, definition("TopK", TopK(mode=mode), inputs, {1}))


def sort(x, isa, descending=False):
    """The rows of a matrix in order, and the places that their elements had."""
    (rows, n), values, places = x.shape, np.zeros_like(x), np.full(x.shape, -1, np.int32)
    kernels = kernel_set(isa)
    module = kernels.module("sorting")
    GuardedCall(
        kernels, "sort_elements", x=x, values=values, places=places, n=n, first=0, count=n, inner=1,
        descending=descending, backward=descending, kind=module.OF_F32 if x.dtype == np.float32 else module.OF_S32,
        work=rows, scratch=module.scratch_bytes(n, 1),
    ).run()  # fmt: skip
    return values, places


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", [np.float32, np.int32], ids=lambda d: d.__name__)
@pytest.mark.parametrize("n", [1, 5, 48, 49, 3000])
def test_rows_are_sorted_stably(n, dtype, isa):
    rng = np.random.default_rng(0)
    x = rng.integers(-n, n, (4, n)).astype(dtype)
    x[1] = rng.integers(np.iinfo(np.int32).min, np.iinfo(np.int32).max, n).astype(np.int32).view(dtype)
    order = np.argsort(x, axis=1, kind="stable")
    for descending in (False, True):
        expected = order[:, ::-1] if descending else order
        values, places = sort(x, isa, descending)
        np.testing.assert_array_equal(places, expected)
        np.testing.assert_array_equal(values, np.take_along_axis(x, expected, 1))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_special_numbers_are_sorted_like_numpy_does(isa):
    x = np.float32([[np.nan, 0, -0.0, np.inf, -np.inf, 1e-40, -1e-40, -np.nan, 0, -0.0] * 8])
    _, places = sort(x, isa)
    np.testing.assert_array_equal(places, np.argsort(x, axis=1, kind="stable"))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("largest", [True, False], ids=["largest", "smallest"])
@pytest.mark.parametrize(
    "dtype", [np.float32, np.int32, np.int16, np.uint16, np.int8, np.uint8, np.int64], ids=lambda t: t.__name__
)
@pytest.mark.parametrize(
    ("shape", "axis"), [((3, 300), 1), ((300, 3), 0), ((2, 200, 35), 1), ((2, 3, 40), 2), ((7,), 0)], ids=str
)
def test_first_elements_along_an_axis(shape, axis, dtype, largest, isa):
    rng = np.random.default_rng(0)
    low, high = (-(2**62), 2**62) if dtype == np.int64 else (-(2**30), 2**30)
    x = rng.integers(low, high, shape).astype(dtype)
    np.moveaxis(x, axis, 0)[::5] = np.moveaxis(x, axis, 0)[0]
    for k in sorted({1, 5, shape[axis] // 2, shape[axis]}):
        inputs = [x, np.array([k])]
        params = SortedTopK(axis, largest)
        values, kernels = run_node("SortedTopK", params, inputs, {1}, isa, 2)
        assert kernels == ["sort_elements"]
        np.testing.assert_array_equal(values, definition("SortedTopK", params, inputs, {1}))
        places, _ = run_blocked("SortedTopK", params, inputs, isa, {1}, 2, {0}, output=1)
        np.testing.assert_array_equal(places, definition("SortedTopK", params, inputs, {1}, 1))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("largest", [True, False], ids=["largest", "smallest"])
def test_first_of_special_numbers(largest, isa):
    x = np.float32([[np.nan, 0, -0.0, np.inf, -np.inf, 1, -np.nan, 0, -0.0] * 22])
    for k in 1, 50, 198:
        inputs, params = [x, np.array([k])], SortedTopK(1, largest)
        values, _ = run_blocked("SortedTopK", params, inputs, isa, {1}, plain={0})
        places, _ = run_blocked("SortedTopK", params, inputs, isa, {1}, plain={0}, output=1)
        np.testing.assert_array_equal(values, definition("SortedTopK", params, inputs, {1}))
        np.testing.assert_array_equal(places, definition("SortedTopK", params, inputs, {1}, 1))
