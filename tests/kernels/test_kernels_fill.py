"""Copies of bytes on every instruction set."""

import numpy as np
import pytest
from support.guarded_memory import GuardedCall
from support.instruction_sets import INSTRUCTION_SETS

from megengine_lite._core.cpu.kernel_set import kernel_set


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("size", [1, 63, 64, 65, 1000])
def test_bytes_are_copied(size, isa):
    x, y = np.arange(size).astype(np.uint8), np.full(size, 7, np.uint8)
    sizes = {"nbytes": size, "chunk": 100, "work": -(-size // 100), "threads": 2}
    GuardedCall(kernel_set(isa), "copy_bytes", x=x, y=y, **sizes).run()
    np.testing.assert_array_equal(x, y)
