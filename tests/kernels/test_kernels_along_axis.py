"""Elements at an index along an axis on every instruction set, against the definition."""

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, definition, run_node

from megengine_lite._core.ir.onnx_params import AlongAxis, Scatter
from megengine_lite.errors import LiteIndexError

DTYPES = [np.float32, np.int32, np.int64, np.uint8, np.int16]
# shapes of data and index, and the axis
CASES = [
    ((7,), (5,), 0),
    ((1, 200), (1, 9), 1),
    ((4, 5), (3, 5), 0),
    ((4, 5), (6, 2), 0),
    ((3, 4, 5), (3, 9, 5), 1),
    ((3, 4, 5), (2, 3, 8), 2),
    ((3, 4, 5), (5, 1, 4), 0),
    ((2, 1, 3, 2, 2, 3, 2), (2, 1, 2, 2, 2, 5, 1), 5),
    ((2, 1, 3, 2, 2, 3, 2), (4, 1, 3, 1, 2, 3, 2), 0),
]


def numbers(shape, dtype, seed=0):
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


def index_of(data, shape, axis, dtype):
    return np.random.default_rng(1).integers(-data[axis], data[axis], shape).astype(dtype)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("index_type", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("data", "index", "axis"), CASES, ids=str)
def test_elements_are_taken(data, index, axis, dtype, index_type, isa):
    inputs = [numbers(data, dtype), index_of(data, index, axis, index_type)]
    for threads in 1, 3:
        actual, kernels = run_node("GatherElements", AlongAxis(axis), inputs, (), isa, threads)
        assert kernels == ["gather_elements"]
        np.testing.assert_array_equal(actual, definition("GatherElements", AlongAxis(axis), inputs))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("index_type", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("data", "index", "axis"), CASES, ids=str)
def test_elements_are_written(data, index, axis, dtype, index_type, isa):
    """Some places are written several times: the last element stays."""
    inputs = [numbers(data, dtype), index_of(data, index, axis, index_type), numbers(index, dtype, 2)]
    for reduction in ("none", "add") if dtype == np.float32 else ("none",):
        for threads in 1, 3:
            actual, kernels = run_node("ScatterElements", Scatter(reduction, axis), inputs, (), isa, threads)
            assert kernels == ["copy_bytes", "scatter_elements"]
            np.testing.assert_array_equal(actual, definition("ScatterElements", Scatter(reduction, axis), inputs))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("wrong", [6, -7, 2**31 - 1, -(2**31), 2**40])
def test_an_index_out_of_range_is_an_error(wrong, isa):
    x, index = np.zeros((2, 6), np.float32), np.array([[0, 1, wrong]])
    with pytest.raises(LiteIndexError, match="out of range for 6 elements"):
        run_node("GatherElements", AlongAxis(1), [x, index], (), isa)
    with pytest.raises(LiteIndexError, match="out of range for 6 elements"):
        run_node("ScatterElements", Scatter("none", 1), [x, index, np.ones((1, 3), np.float32)], (), isa)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_nothing_is_written_without_an_index(isa):
    inputs = [numbers((3, 4), np.int32), np.zeros((0, 4), np.int64), np.zeros((0, 4), np.int32)]
    actual, _ = run_node("ScatterElements", Scatter("none", 0), inputs, (), isa)
    np.testing.assert_array_equal(actual, inputs[0])


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize(("reduction", "dtype"), [("mul", np.float32), ("max", np.int32), ("add", np.int64)])
def test_other_reductions_run_in_numpy(reduction, dtype, isa):
    inputs = [numbers((3, 4), dtype), index_of((3, 4), (3, 9), 1, np.int64), numbers((3, 9), dtype, 2)]
    actual, kernels = run_node("ScatterElements", Scatter(reduction, 1), inputs, (), isa)
    assert kernels == [None]
    np.testing.assert_array_equal(actual, definition("ScatterElements", Scatter(reduction, 1), inputs))
