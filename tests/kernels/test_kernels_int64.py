"""Elementwise functions of int64."""

import numpy as np
import pytest
from support.guarded_memory import GuardedCall
from support.one_node import INSTRUCTION_SETS, definition, run_node

from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.cpu.lower.modes import INT64
from megengine_lite._core.ir import params
from megengine_lite._core.ir.onnx_params import OnnxElemwise, OnnxMode
from megengine_lite._core.ir.params import ElemwiseMultiTypeMode as Multi
from megengine_lite.errors import LiteValueError
from megengine_lite.kernels.common.tiling import plan_runs

LIMITS = np.iinfo(np.int64)
OF_ONNX = [OnnxMode.DIVIDE, OnnxMode.MODULO, OnnxMode.MAX, OnnxMode.MIN, OnnxMode.NARROW]
CASES = [
    *(("Elemwise", params.Elemwise(mode=m)) for m in INT64),
    *(("OnnxElemwise", OnnxElemwise(m)) for m in OF_ONNX),
    *(("ElemwiseMultiType", params.ElemwiseMultiType(mode=m)) for m in (Multi.LT, Multi.LEQ, Multi.EQ, Multi.NEQ)),
]
UNARY = {"NEGATE", "NARROW"}


def numbers(shape, seed, largest=None):
    """Small numbers, which matter as divisors, and numbers of the whole range."""
    rng = np.random.default_rng(seed)
    largest = LIMITS.max if largest is None else largest
    every = rng.integers(-largest - 1, largest, shape, endpoint=True)
    mixed = np.where(rng.integers(0, 2, shape), every, rng.integers(-9, 9, shape))
    mixed.flat[:4] = [-largest - 1, 0, -1, largest][: mixed.size]
    return mixed


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize(
    "shapes", [[(5, 7), (5, 7)], [(3, 67), (1,)], [(1,), (3, 67)], [(2, 1, 5), (3, 1)], [(2, 37), (37,)]], ids=str
)
@pytest.mark.parametrize(("op", "parameters"), CASES, ids=lambda v: v if isinstance(v, str) else v.mode.name)
def test_function_agrees_with_definition(op, parameters, shapes, isa):
    mode = parameters.mode
    count = 1 if mode.name in UNARY else 2
    largest = 2**31 - 1 if mode == OnnxMode.NARROW and op == "OnnxElemwise" else None
    inputs = [numbers(shape, k, largest) for k, shape in enumerate(shapes[:count])]
    actual, kernels = run_node(op, parameters, inputs, (), isa)
    assert kernels == ["elemwise_int64"]
    expected = definition(op, parameters, inputs)
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, LIMITS.min, LIMITS.max])
def test_a_number_that_does_not_fit_is_an_error(number, isa):
    with pytest.raises(LiteValueError, match="are no int32"):
        run_node("OnnxElemwise", OnnxElemwise(OnnxMode.NARROW), [np.array([1, number])], (), isa)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("shape", [(1,), (8192,), (3, 7, 2)], ids=str)
def test_memory_behind_operands_is_not_touched(shape, isa):
    a, b = numbers(shape, 0), numbers(shape[-1:], 1)
    y = np.zeros(shape, np.int64)
    plan = plan_runs(shape, y.strides, [a.strides, np.broadcast_to(b, shape).strides])
    kernels = kernel_set(isa)
    GuardedCall(
        kernels, "elemwise_int64", table=plan.table, y=y, x0=a, x1=b, fault=None, ndim=plan.ndim, inputs=2,
        function=kernels.module("elemwise_int64").FUNCTIONS["SUB"], work=plan.work, threads=2,
    ).run()  # fmt: skip
    np.testing.assert_array_equal(y, a - b)
