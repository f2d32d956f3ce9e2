"""Pooling with the rules of ONNX on every instruction set, against its definition."""

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, definition, run_blocked

from megengine_lite._core.ir.onnx_image_params import OnnxPooling

WINDOWS = {  # shape, window, strides, dilations, pads
    "line": ((2, 3, 37), (3,), (1,), (2,), ((1,), (3,))),
    "image": ((2, 3, 9, 30), (2, 2), (2, 2), (1, 1), ((0, 0), (0, 0))),
    "overlapping": ((1, 4, 9, 31), (3, 3), (2, 2), (1, 1), ((1, 1), (1, 1))),
    "dilated": ((1, 2, 12, 40), (3, 2), (1, 3), (2, 5), ((2, 3), (1, 0))),
    "volume": ((1, 3, 5, 6, 19), (2, 2, 2), (2, 2, 2), (1, 1, 1), ((0, 0, 0), (0, 0, 0))),
    "padded volume": ((2, 1, 4, 5, 18), (3, 2, 3), (1, 2, 1), (1, 1, 1), ((1, 0, 1), (1, 1, 2))),
    "of five": ((2, 3, 20, 20), (5, 5), (1, 1), (1, 1), ((2, 2), (2, 2))),
    "of three, narrow": ((1, 3, 8, 3), (3, 3), (2, 2), (1, 1), ((1, 1), (1, 1))),
    "far apart": ((1, 2, 2300), (2,), (1,), (1100,), ((3,), (1030,))),
    "behind much padding": ((1, 1, 40), (1500,), (2,), (1,), ((1400,), (1200,))),
    "larger than the data": ((1, 1, 2, 3), (7, 9), (1, 1), (1, 1), ((4, 5), (4, 5))),
}
SPECIAL = np.float32([np.nan, np.inf, -np.inf, 0, -0.0, 1, 1])


def check(x, p, isa, tolerance=0.0):
    for output in range(1 + p.positions):
        actual, kernels = run_blocked("OnnxPooling", p, [x], isa, threads=2, plain={0}, output=output)
        assert kernels == ["pool_any"]
        expected = definition("OnnxPooling", p, [x], output=output)
        assert actual.dtype == expected.dtype
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.uint8], ids=lambda t: t.__name__)
@pytest.mark.parametrize("ceil", [False, True], ids=["floor", "ceil"])
@pytest.mark.parametrize("name", WINDOWS)
def test_maxima_and_their_positions(name, ceil, dtype, isa):
    shape, window, strides, dilations, pads = WINDOWS[name]
    x = np.random.default_rng(0).integers(-30, 30, shape).astype(dtype)
    for positions, column_major in (False, False), (True, False), (True, True):
        p = OnnxPooling("max", window, strides, dilations, *pads, ceil, positions=positions, column_major=column_major)
        check(x, p, isa)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("name", WINDOWS)
def test_maxima_of_special_numbers(name, isa):
    shape, window, strides, dilations, pads = WINDOWS[name]
    x = np.random.default_rng(0).choice(SPECIAL, shape)
    check(x, OnnxPooling("max", window, strides, dilations, *pads, positions=True), isa)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("counts_pads", [False, True], ids=["inside", "with padding"])
@pytest.mark.parametrize("ceil", [False, True], ids=["floor", "ceil"])
@pytest.mark.parametrize("name", WINDOWS)
def test_means(name, ceil, counts_pads, isa):
    shape, window, strides, dilations, pads = WINDOWS[name]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    check(x, OnnxPooling("average", window, strides, dilations, *pads, ceil, count_pads=counts_pads), isa, 2e-6)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("same", ["upper", "lower"])
def test_padding_that_keeps_the_size(same, isa):
    x = np.random.default_rng(0).standard_normal((1, 2, 7, 6, 11)).astype(np.float32)
    for mode in "max", "average":
        p = OnnxPooling(mode, (3, 2, 4), (2, 1, 3), (1, 1, 1), (0, 0, 0), (0, 0, 0), same=same)
        check(x, p, isa, 2e-6)
