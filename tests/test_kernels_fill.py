"""Filling and copying bytes on every instruction set."""

import numpy as np
import pytest
from support.guarded_memory import GuardedCall
from support.instruction_sets import INSTRUCTION_SETS

from megengine_lite._core.cpu.kernel_set import kernel_set


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("size", [1, 63, 64, 65, 1000])
def test_bytes_are_filled_and_copied(size, isa):
    x, y = (np.zeros(size, np.uint8) for _ in range(2))
    sizes = {"nbytes": size, "chunk": 100, "work": -(-size // 100), "threads": 2}
    GuardedCall(kernel_set(isa), "fill_bytes", y=x, value=7, **sizes).run()
    assert (x == 7).all()
    x[...] = np.arange(size)
    GuardedCall(kernel_set(isa), "copy_bytes", x=x, y=y, **sizes).run()
    np.testing.assert_array_equal(x, y)
