"""Functions of bytes of ONNX on every instruction set: by tables of what their definitions give."""

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, definition, run_node

from megengine_lite._core.ir.onnx_params import OnnxElemwise, OnnxMode

BOTH = (np.uint8, np.int8)
FUNCTIONS = {
    OnnxMode.BIT_AND: BOTH, OnnxMode.BIT_OR: BOTH, OnnxMode.BIT_XOR: BOTH, OnnxMode.SHIFT_LEFT: (np.uint8,),
    OnnxMode.SHIFT_RIGHT: (np.uint8,), OnnxMode.MAX: BOTH, OnnxMode.MIN: BOTH, OnnxMode.MODULO: BOTH,
}  # fmt: skip


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", FUNCTIONS, ids=lambda m: m.name)
def test_functions_of_two_bytes(mode, isa):
    rng = np.random.default_rng(0)
    for dtype in FUNCTIONS[mode]:
        x, number = rng.integers(0, 100, (3, 5, 70)).astype(dtype), np.array(3, dtype)
        for second, constants, kernel in (
            (rng.integers(1, 8, x.shape).astype(dtype), (), "table_pair_8"),
            (rng.integers(1, 8, (1, 5, 1)).astype(dtype), (), "table_pair_8"),
            (number, (), "table_pair_8"),
            (number, {1}, "table_8"),
        ):
            expected = definition("OnnxElemwise", OnnxElemwise(mode), [x, second], constants)
            for threads in 1, 2:
                actual, kernels = run_node("OnnxElemwise", OnnxElemwise(mode), [x, second], constants, isa, threads)
                assert kernels == [kernel]
                np.testing.assert_array_equal(actual, expected)
