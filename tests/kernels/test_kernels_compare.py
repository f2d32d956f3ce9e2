"""Comparisons of float32 on every instruction set, against numpy."""

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, definition, run_blocked, run_node

from megengine_lite._core.ir.params import ElemwiseMultiType
from megengine_lite._core.ir.params import ElemwiseMultiTypeMode as Mode

OF_TWO = [Mode.LT, Mode.LEQ, Mode.EQ, Mode.NEQ]
OF_ONE = [Mode.ISNAN, Mode.ISINF]
SHAPES = [
    [(5, 7), (5, 7)],
    [(3, 1000), (1000,)],
    [(67,), (1,)],
    [(1,), (67,)],
    [(2, 3, 1, 5), (4, 1)],
    [(8192,), (8192,)],
]
SPECIAL = np.float32([0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 3e38])


def numbers(shape, seed):
    """Many of them equal."""
    x = np.random.default_rng(seed).choice(SPECIAL, shape)
    return x if x.size > 1 else np.ones_like(x)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("mode", OF_TWO + OF_ONE, ids=lambda m: m.name)
def test_comparison(mode, shapes, threads, isa):
    inputs = [numbers(shape, k) for k, shape in enumerate(shapes[: 2 if mode in OF_TWO else 1])]
    params = ElemwiseMultiType(mode=mode)
    actual, kernels = run_node("ElemwiseMultiType", params, inputs, (), isa, threads)
    assert kernels == ["compare_f32"]
    assert actual.dtype == np.bool_
    np.testing.assert_array_equal(actual, definition("ElemwiseMultiType", params, inputs))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_images_in_blocks(isa):
    inputs = [np.random.default_rng(k).integers(0, 3, (2, 19, 3, 5)).astype(np.float32) for k in range(2)]
    params = ElemwiseMultiType(mode=Mode.LEQ)
    actual, kernels = run_blocked("ElemwiseMultiType", params, inputs, isa)
    assert kernels[-1] == "compare_f32"
    np.testing.assert_array_equal(actual, inputs[0] <= inputs[1])
