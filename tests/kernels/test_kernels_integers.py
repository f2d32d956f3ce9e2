"""Elementwise functions of integers and truth values, comparisons, powers and selection by masks."""

import numpy as np
import pytest
from support.guarded_memory import GuardedCall
from support.one_node import INSTRUCTION_SETS, definition, run_blocked

from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.ir.params import Elemwise, ElemwiseMode, ElemwiseMultiType, ElemwiseMultiTypeMode, PowC
from megengine_lite._core.operators.elemwise_functions import FUNCTIONS
from megengine_lite.kernels.common.tiling import plan_runs

M = ElemwiseMode
TYPES = {"i": [np.int32, np.int16, np.uint16, np.int8, np.uint8], "b": [np.bool_], "f": []}
CASES = [(m, t) for m, f in FUNCTIONS.items() for kind in f.kinds for t in TYPES[kind]]


def numbers(dtype, shape, seed):
    """Small numbers, which matter as divisors and shifts, and numbers of the whole range."""
    rng = np.random.default_rng(seed)
    if dtype == np.bool_:
        return rng.integers(0, 2, shape).astype(np.bool_)
    info = np.iinfo(dtype)
    every = rng.integers(info.min, info.max + 1, shape)
    small = rng.integers(max(info.min, -9), 9, shape)
    return np.where(rng.integers(0, 2, shape), every, small).astype(dtype)


def elemwise(isa, mode, operands, truth=False):
    """One function of integers that are broadcast together."""
    shape, dtype = np.broadcast_shapes(*(x.shape for x in operands)), operands[0].dtype
    y = np.zeros(shape, np.bool_ if truth else dtype)
    plan = plan_runs(shape, y.strides, [np.broadcast_to(x, shape).strides for x in operands])
    inputs = {
        f"x{k}": operands[k] if k < len(operands) else None
        for k in range(kernel_set(isa).module("elemwise_int").MAX_INPUTS)
    }
    GuardedCall(
        kernel_set(isa), "elemwise_int", table=plan.table, y=y, **inputs, mode=mode, size=dtype.itemsize,
        is_signed=dtype.kind == "i", ndim=plan.ndim, inputs=len(operands), truth=truth, work=plan.work, threads=2,
    ).run()  # fmt: skip
    return y


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize(("mode", "dtype"), CASES, ids=lambda v: getattr(v, "name", None) or v.__name__)
def test_mode_agrees_with_definition(mode, dtype, isa):
    operands = [numbers(dtype, (5, 7), k) for k in range(FUNCTIONS[mode].arity)]
    with np.errstate(all="ignore"):
        expected = FUNCTIONS[mode].call(*operands)
    np.testing.assert_array_equal(elemwise(isa, mode, operands), expected)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("shapes", [[(1,), (3, 4)], [(2, 1, 5), (3, 1)], [(8192,), (8192,)], [(7,), (1,)]], ids=str)
def test_operands_broadcast(shapes, isa):
    a, b = (numbers(np.int32, s, k) for k, s in enumerate(shapes))
    np.testing.assert_array_equal(elemwise(isa, M.ADD, [a, b]), a + b)
    np.testing.assert_array_equal(elemwise(isa, M.LT, [a, b], truth=True), a < b)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", TYPES["i"])
@pytest.mark.parametrize("n", [1, 3, 127, 128, 129, 512, 513, 1500])
def test_a_number_is_repeated_along_runs_of_any_length(n, dtype, isa):
    """Runs are computed in pieces of some hundred bytes, if an operand is one number."""
    x, rows, one = numbers(dtype, (3, n), 0), numbers(dtype, (3, 1), 1), numbers(dtype, (1,), 2)
    with np.errstate(all="ignore"):
        expected = FUNCTIONS[M.FUSE_MUL_ADD3].call(x, rows, one)
    np.testing.assert_array_equal(elemwise(isa, M.FUSE_MUL_ADD3, [x, rows, one]), expected)
    np.testing.assert_array_equal(elemwise(isa, M.LT, [rows, x], truth=True), rows < x)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("exponent", [2, 3, 0.5, 1, -1, -0.5, -2, 1.7, 0])
def test_power_with_a_constant(exponent, isa):
    x = np.random.default_rng(0).uniform(0.1, 5, (3, 50)).astype(np.float32)
    actual, kernels = run_blocked("PowC", PowC(exp=exponent), [x], isa, plain={0})
    assert kernels == ["elemwise_chain_f32"]
    np.testing.assert_allclose(actual, definition("PowC", PowC(exp=exponent), [x]), rtol=4e-7)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_kernel_has_just_the_modes_of_the_definition(isa):
    """Every mode computes: tests above compare each with its definition."""
    kernel = kernel_set(isa).module("elemwise_int")
    defined = {m: f.arity for m, f in FUNCTIONS.items() if set(f.kinds) & set("ib")}
    assert defined == kernel.MODES
    assert dict.fromkeys((M.LT, M.LEQ, M.EQ, M.NEQ), 2) == kernel.TRUTH_MODES


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_other_modes_are_left_to_the_definition(isa):
    """SIN of integers gives floats, and only comparisons give truth values: the kernel has neither."""
    kernel = kernel_set(isa).module("elemwise_int")
    assert M.SIN not in kernel.MODES and M.ADD not in kernel.TRUTH_MODES
    assert not {*kernel.MODES, *kernel.TRUTH_MODES} - {int(m) for m in M}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", [np.int32, np.int16, np.uint16], ids=lambda d: d.__name__)
@pytest.mark.parametrize(
    "shapes", [[(3, 67), (3, 67)], [(3, 67), (1,)], [(1, 67), (3, 1)], [(5, 3, 7), (5, 1, 7)]], ids=str
)
@pytest.mark.parametrize("mode", [M.ADD, M.SUB, M.MAX, M.MIN, M.MUL, M.RMULH], ids=lambda m: m.name)
def test_nodes_agree_with_the_definition(mode, shapes, dtype, isa):
    """In guarded memory, by either of the kernels that the dispatch has for integers."""
    operands = [numbers(dtype, s, k) for k, s in enumerate(shapes)]
    params = Elemwise(mode=mode)
    actual, kernels = run_blocked("Elemwise", params, operands, isa, plain={0, 1})
    on_s32 = dtype is np.int32 and mode in (M.ADD, M.SUB, M.MAX, M.MIN)
    assert kernels == ["binary_s32" if on_s32 else "elemwise_int"]
    np.testing.assert_array_equal(actual, definition("Elemwise", params, operands))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_operands_that_one_kernel_cannot_walk_go_to_the_other(isa):
    """More repeated dimensions than the space of binary_s32 has."""
    operands = [numbers(np.int32, (2, 3, 2, 3, 2, 3, 2), 0), numbers(np.int32, (1, 3, 1, 3, 1, 3, 1), 1)]
    params = Elemwise(mode=M.ADD)
    actual, kernels = run_blocked("Elemwise", params, operands, isa, plain={0, 1})
    assert kernels == ["elemwise_int"]
    np.testing.assert_array_equal(actual, operands[0] + operands[1])


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", [np.int32, np.int16, np.int8, np.uint8, np.bool_], ids=lambda d: d.__name__)
def test_comparisons_agree_with_the_definition(dtype, isa):
    operands = [numbers(dtype, (3, 67), 0), numbers(dtype, (67,), 1)]
    params = ElemwiseMultiType(mode=ElemwiseMultiTypeMode.LT)
    actual, kernels = run_blocked("ElemwiseMultiType", params, operands, isa, plain={0, 1})
    assert kernels == ["elemwise_int"]
    np.testing.assert_array_equal(actual, operands[0] < operands[1])
