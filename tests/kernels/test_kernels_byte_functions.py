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


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", BOTH, ids=lambda t: t.__name__)
@pytest.mark.parametrize("size", [1, 3, 16, 17, 4096, 4097, 10_000])
def test_bytes_of_a_computed_scale(size, dtype, isa):
    """Halves go to even numbers; numbers that are too large, infinities and NaN do not wrap."""
    rng = np.random.default_rng(size)
    special = np.float32([0.5, 1.5, 2.5, -0.5, -1.5, 1e30, -1e30, np.inf, -np.inf, np.nan, -0.0])
    for scale in 1.0, 0.037, 1e-30, 1e30:
        for zero in 0, 3, 127:
            x = (rng.standard_normal(size) * 50).astype(np.float32)
            x[rng.integers(0, size, 20)] = rng.choice(special, 20)
            with np.errstate(over="ignore"):
                inputs = [x * np.float32(scale), np.float32([scale]), np.array([zero], dtype)]
            expected = definition("OnnxQuantize", None, inputs)
            for threads in 1, 3:
                actual, kernels = run_node("OnnxQuantize", None, inputs, (), isa, threads)
                assert kernels == ["quantize_f32"]
                assert actual.dtype == dtype
                np.testing.assert_array_equal(actual, expected)


def test_definition_of_bytes():
    x = np.float32([-1e9, -3, -0.5, 0.5, 1.5, 2.5, 200, np.inf, np.nan])
    (y,) = (definition("OnnxQuantize", None, [x, np.float32([1]), np.uint8([10])]),)
    assert y.tolist() == [0, 7, 10, 10, 12, 12, 210, 255, 0]
