"""Gathering by index on every instruction set."""

import numpy as np
import pytest
from one_node import INSTRUCTION_SETS

from megengine_lite._core.kernel_set import kernel_set


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("columns", [1, 2, 7, 64])
def test_rows_are_taken(columns, isa):
    x = np.random.default_rng(0).standard_normal((11, columns)).astype(np.float32)
    index = np.int32([0, 10, -1, -11, 3, 3])
    np.testing.assert_array_equal(kernel_set(isa).module("gather").take_rows(x, index), x[index])


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("wrong", [11, -12, 2**31 - 1, -(2**31)])
def test_index_out_of_range_is_reported(wrong, isa):
    x = np.zeros((11, 3), np.float32)
    with pytest.raises(IndexError, match="out of range for 11 rows"):
        kernel_set(isa).module("gather").take_rows(x, np.int32([0, wrong]))
