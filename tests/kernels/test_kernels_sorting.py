"""Sorting on every instruction set, against numpy."""

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, definition, run_blocked

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
    assert kernels == ["sort_rows_32"]
    np.testing.assert_array_equal(actual, definition("Argsort", Argsort(order=order), [x]))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", TopKMode)
@pytest.mark.parametrize("k", [1, 7, 100, -1, -7, -100])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_first_of_each_row(dtype, k, mode, isa):
    inputs = [rows((3, 100), dtype), np.int32([k])]
    actual, kernels = run_blocked("TopK", TopK(mode=mode), inputs, isa, {1}, plain={0})
    assert kernels == ["sort_rows_32"]
    np.testing.assert_array_equal(actual, definition("TopK", TopK(mode=mode), inputs, {1}))
