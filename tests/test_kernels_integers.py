"""Elementwise functions of integers and truth values, comparisons, powers and selection by masks."""

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, definition, run_blocked

from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.ir.params import Elemwise, ElemwiseMode, ElemwiseMultiType, ElemwiseMultiTypeMode, PowC
from megengine_lite._core.operators.elemwise_functions import FUNCTIONS

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


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize(("mode", "dtype"), CASES, ids=lambda v: getattr(v, "name", None) or v.__name__)
def test_mode_agrees_with_definition(mode, dtype, isa):
    operands = [numbers(dtype, (5, 7), k) for k in range(FUNCTIONS[mode].arity)]
    with np.errstate(all="ignore"):
        expected = FUNCTIONS[mode].call(*operands)
    np.testing.assert_array_equal(kernel_set(isa).module("elemwise_int").elemwise(int(mode), operands), expected)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("shapes", [[(1,), (3, 4)], [(2, 1, 5), (3, 1)], [(8192,), (8192,)], [(7,), (1,)]], ids=str)
def test_operands_broadcast(shapes, isa):
    a, b = (numbers(np.int32, s, k) for k, s in enumerate(shapes))
    run = kernel_set(isa).module("elemwise_int").elemwise
    np.testing.assert_array_equal(run(int(M.ADD), [a, b]), a + b)
    np.testing.assert_array_equal(run(int(M.LT), [a, b], True), a < b)
    assert run(int(M.LT), [a, b], True).dtype == np.bool_


def test_modes_that_integers_do_not_have_are_refused():
    run = kernel_set("base").module("elemwise_int").elemwise
    x = np.zeros(3, np.int32)
    with pytest.raises(ValueError, match="takes 2 integer operands"):
        run(int(M.ADD), [x])
    with pytest.raises(ValueError, match="does not exist"):
        run(int(M.ADD), [x, x], True)
    with pytest.raises(ValueError, match="does not exist"):
        run(int(M.ADD), [x.astype(np.int64)] * 2)


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


@pytest.mark.parametrize("mode", sorted({*range(-1, 100)} - kernel_set("base").module("elemwise_int").MODES.keys()))
def test_other_modes_are_refused(mode):
    with pytest.raises(ValueError, match="does not exist"):
        kernel_set("base").module("elemwise_int").elemwise(mode, [np.zeros(3, np.int32)])


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
