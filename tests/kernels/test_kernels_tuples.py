"""Runs at tuples of indexes, and maxima at their places, on every instruction set, against their definitions."""

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, definition, run_node

from megengine_lite._core.ir.onnx_image_params import Unpooling
from megengine_lite._core.ir.onnx_params import GatherND, Scatter
from megengine_lite.errors import LiteIndexError

TYPES = (np.float32, np.int8, np.int64)
SHAPE = (4, 5, 6, 3)


def tuples(depth, kind, shape=(2, 7)):
    rng = np.random.default_rng(0)
    return np.stack([rng.integers(-n, n, shape) for n in SHAPE[:depth]], -1).astype(kind)


def numbers(shape, dtype):
    return np.random.default_rng(1).integers(-100, 100, shape).astype(dtype)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("kind", [np.int32, np.int64], ids=lambda t: t.__name__)
@pytest.mark.parametrize("dtype", TYPES, ids=lambda t: t.__name__)
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_tuples_of_indexes(depth, dtype, kind, isa):
    x, index = numbers(SHAPE, dtype), tuples(depth, kind)
    actual, kernels = run_node("GatherND", GatherND(0), [x, index], (), isa, 2)
    assert kernels == ["gather_runs"]
    np.testing.assert_array_equal(actual, definition("GatherND", GatherND(0), [x, index]))
    inputs = [x, index, numbers((2, 7, *SHAPE[depth:]), dtype)]
    actual, kernels = run_node("ScatterND", Scatter("none"), inputs, (), isa, 2)
    assert kernels[-1] == "scatter_runs"
    np.testing.assert_array_equal(actual, definition("ScatterND", Scatter("none"), inputs))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_tuples_out_of_range(isa):
    x = numbers(SHAPE, np.float32)
    for wrong in [4, 0], [-5, 0], [0, 5], [0, -6]:
        index = np.array([wrong])
        with pytest.raises(LiteIndexError, match="out of range"):
            run_node("GatherND", GatherND(0), [x, index], (), isa)
        with pytest.raises(LiteIndexError, match="out of range"):
            run_node("ScatterND", Scatter("none"), [x, index, x[:1, 0]], (), isa)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("kind", [np.int32, np.int64], ids=lambda t: t.__name__)
@pytest.mark.parametrize("dtype", TYPES, ids=lambda t: t.__name__)
def test_maxima_at_their_places(dtype, kind, isa):
    x = numbers((2, 3, 4, 5), dtype)
    places = np.random.default_rng(0).permutation(2 * 3 * 8 * 10)[: x.size].reshape(x.shape).astype(kind)
    params = Unpooling((2, 2), (2, 2), (0, 0), (0, 0))
    actual, kernels = run_node("MaxUnpool", params, [x, places], (), isa, 2)
    assert kernels == ["fill_elements", "scatter_runs"]
    np.testing.assert_array_equal(actual, definition("MaxUnpool", params, [x, places]))
    for wrong in -1, 480:
        places.reshape(-1)[3] = wrong
        with pytest.raises(LiteIndexError):
            run_node("MaxUnpool", params, [x, places], (), isa)
