"""Elementwise functions and chains on every instruction set, against numpy and the standard library."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.one_node import INSTRUCTION_SETS, definition, run_blocked, run_node

from megengine_lite._core.compile.passes.fuse_elemwise import MAX_CHAIN_INPUTS, MAX_CHAIN_STEPS
from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.cpu.lower.elemwise import with_both_limits
from megengine_lite._core.ir.fused import ElemwiseProgram, ElemwiseStep
from megengine_lite._core.ir.params import Elemwise, ElemwiseMode
from megengine_lite._core.operators.elemwise_functions import FUNCTIONS
from megengine_lite.kernels.common.tiling import TILE, plan_chain

MODES = kernel_set(INSTRUCTION_SETS[0]).module("elemwise").MODES
M = ElemwiseMode
FLOAT_MODES = [m for m in M if "f" in FUNCTIONS[m].kinds]


def chain(isa, steps, *inputs):
    return kernel_set(isa).module("elemwise").elemwise_chain(steps, inputs)


def units_off(actual, exact):
    """Error in units in the last place of the exact result."""
    unit = np.spacing(np.maximum(np.abs(exact), np.finfo(np.float32).tiny).astype(np.float32))
    return np.abs(actual - exact) / unit


def spread(low, high, near_zero=1e-9):
    """Numbers all over an interval, and of all magnitudes on both sides of zero within it."""
    rng = np.random.default_rng(0)
    even = rng.uniform(low, high, 40_000)
    small = np.exp(rng.uniform(math.log(near_zero), 0, 20_000)) * rng.choice([-1, 1], 20_000)
    numbers = np.concatenate([even, small[(small > low) & (small < high)]])
    return numbers.astype(np.float32)


def libm(function):
    return lambda x: np.array([function(v) for v in x.tolist()])


# mode: numbers, exact function on float64, bound in units in the last place
ACCURACY = {
    M.EXP: (spread(-87, 88.7), np.exp, 2),
    M.EXPM1: (spread(-30, 88.7), np.expm1, 3),
    M.LOG: (np.exp(spread(-87, 88)), np.log, 2),
    M.LOG1P: (spread(-0.9999, 100), np.log1p, 3),
    M.SIGMOID: (spread(-80, 30), lambda x: 1 / (1 + np.exp(-x)), 4),
    M.TANH: (spread(-12, 12), np.tanh, 4),
    M.SOFTPLUS: (spread(-80, 80), lambda x: np.logaddexp(0, x), 4),
    M.ERF: (spread(-5, 5), libm(math.erf), 8),
    M.GELU: (spread(-1, 6), libm(lambda x: x * (0.5 + 0.5 * math.erf(x / math.sqrt(2)))), 8),
    M.GELU_TANH: (
        spread(-1, 6),
        lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
        8,
    ),
    M.SIN: (np.concatenate([spread(-12_000, 12_000), spread(-1e6, 1e6)]), np.sin, 4),
    M.COS: (np.concatenate([spread(-12_000, 12_000), spread(-1e6, 1e6)]), np.cos, 4),
    M.TAN: (spread(-10, 10), np.tan, 2),
    M.SQRT: (np.abs(spread(0, 1e30)), np.sqrt, 1),
    M.ERFC: (spread(-4, 9), libm(math.erfc), 3),
    M.ASINH: (spread(-1e3, 1e3), np.arcsinh, 2),
    M.ACOSH: (1 + np.abs(spread(0, 1e3)), np.arccosh, 2),
    M.ATANH: (spread(-0.999, 0.999), np.arctanh, 2),
    M.SINH: (spread(-88, 88), np.sinh, 2),
    M.COSH: (spread(-88, 88), np.cosh, 2),
    M.ACOS: (spread(-1, 1), np.arccos, 2),
    M.ASIN: (spread(-1, 1), np.arcsin, 2),
    M.SILU: (spread(-80, 30), lambda x: x / (1 + np.exp(-x)), 5),
}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_chains_of_the_pass_fit_the_kernel(isa):
    module = kernel_set(isa).module("elemwise")
    assert MAX_CHAIN_INPUTS <= module.MAX_INPUTS
    assert MAX_CHAIN_INPUTS + MAX_CHAIN_STEPS <= module.MAX_REGISTERS


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", ACCURACY, ids=lambda m: m.name)
def test_function_is_accurate(mode, isa):
    numbers, exact, bound = ACCURACY[mode]
    assert units_off(chain(isa, [(mode, (0,))], numbers), exact(numbers.astype(np.float64))).max() < bound


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize(
    ("mode", "function"), [(M.ERFINV, math.erf), (M.ERFCINV, math.erfc)], ids=["erfinv", "erfcinv"]
)
def test_inverse_gives_back_what_the_function_was_given(mode, function, isa):
    x = np.concatenate([np.linspace(-2, 3.5, 501), np.linspace(3.5, 9, 100) if mode == M.ERFCINV else []])
    y = np.array([function(v) for v in x]).astype(np.float32)
    back = chain(isa, [(mode, (0,))], y)
    again = np.array([function(v) for v in back.tolist()])
    np.testing.assert_allclose(again, y, rtol=3e-5 if mode == M.ERFCINV else 3e-7)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_angle_is_accurate(isa):
    rng = np.random.default_rng(0)
    x, y = (rng.choice([-1, 1], 60_000) * np.exp(rng.uniform(-20, 20, 60_000)) for _ in range(2))
    x[:20_000] = 1
    x, y = x.astype(np.float32), y.astype(np.float32)
    exact = np.arctan2(y.astype(np.float64), x.astype(np.float64))
    assert units_off(chain(isa, [(M.ATAN2, (0, 1))], y, x), exact).max() < 4


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_angle_of_special_points_is_that_of_c(isa):
    special = np.float32([0, -0.0, 1, -1, 0.5, 3e38, -3e38, np.inf, -np.inf, np.nan])
    y, x = (np.ascontiguousarray(a.ravel()) for a in np.meshgrid(special, special))
    actual, expected = chain(isa, [(M.ATAN2, (0, 1))], y, x), np.arctan2(y, x)
    np.testing.assert_allclose(actual, expected, rtol=4e-7)
    sign = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(actual)[sign], np.signbit(expected)[sign])


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", [M.EXP, M.SINH, M.COSH, M.EXPM1], ids=lambda m: m.name)
def test_the_largest_results(mode, isa):
    """Up to where the result is infinite, in steps of one number."""
    edge = np.float32(89.416 if mode in (M.SINH, M.COSH) else 88.723)
    numbers = edge + np.arange(-4000, 4000, dtype=np.float32) * np.spacing(edge)
    with np.errstate(over="ignore"):
        exact = FUNCTIONS[mode].call(numbers.astype(np.float64))
        expected = exact.astype(np.float32)
    actual = chain(isa, [(mode, (0,))], numbers)
    assert np.isinf(expected).any() and np.isfinite(expected).any()
    np.testing.assert_allclose(actual[np.isfinite(expected)], expected[np.isfinite(expected)], rtol=4e-7)
    far = exact > 1.000001 * float(np.finfo(np.float32).max)
    np.testing.assert_array_equal(actual[far], np.inf)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_power_is_correctly_rounded_nearly_always(isa):
    rng = np.random.default_rng(0)
    x = np.exp(rng.uniform(-60, 60, 50_000)).astype(np.float32)
    y = rng.uniform(-1.4, 1.4, x.size).astype(np.float32)
    exact = np.power(x.astype(np.float64), y.astype(np.float64))
    assert units_off(chain(isa, [(M.POW, (0, 1))], x, y), exact).max() < 0.6


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_power_of_special_numbers_is_that_of_c(isa):
    special = np.float32([0, -0.0, 1, -1, 2, -2, 0.5, -0.5, 3, -3, np.inf, -np.inf, np.nan, 1e38])
    x, y = (np.ascontiguousarray(a.ravel()) for a in np.meshgrid(special, special))
    with np.errstate(all="ignore"):
        expected = np.power(x, y)
    actual = chain(isa, [(M.POW, (0, 1))], x, y)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    sign = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(actual)[sign], np.signbit(expected)[sign])


# mode: what comes of 0, -0, infinity, -infinity, NaN
SPECIAL = {
    M.EXP: (1, 1, np.inf, 0, np.nan),
    M.EXPM1: (0, -0.0, np.inf, -1, np.nan),
    M.LOG: (-np.inf, -np.inf, np.inf, np.nan, np.nan),
    M.LOG1P: (0, -0.0, np.inf, np.nan, np.nan),
    M.SIGMOID: (0.5, 0.5, 1, 0, np.nan),
    M.TANH: (0, -0.0, 1, -1, np.nan),
    M.ASIN: (0, -0.0, np.nan, np.nan, np.nan),
    M.SINH: (0, -0.0, np.inf, -np.inf, np.nan),
    M.COSH: (1, 1, np.inf, np.inf, np.nan),
    M.ERF: (0, -0.0, 1, -1, np.nan),
    M.SIN: (0, -0.0, np.nan, np.nan, np.nan),
    M.COS: (1, 1, np.nan, np.nan, np.nan),
    M.ROUND: (0, -0.0, np.inf, -np.inf, np.nan),
    M.RELU: (0, 0, np.inf, 0, 0),
    M.RELU6: (0, 0, 6, 0, 6),
    M.SIGN: (0, 0, 1, -1, 0),
}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", SPECIAL, ids=lambda m: m.name)
def test_special_numbers(mode, isa):
    numbers = np.float32([0, -0.0, np.inf, -np.inf, np.nan])
    actual, expected = chain(isa, [(mode, (0,))], numbers), np.float32(SPECIAL[mode])
    np.testing.assert_array_equal(actual, expected)
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(actual)[known], np.signbit(expected)[known])


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_halves_are_rounded_away_from_zero(isa):
    numbers = np.float32([0.5, -0.5, 1.5, 2.5, -2.5, 0.49999997, 8388609, 4194304.5, -4194305.5])
    expected = np.float32([1, -1, 2, 3, -3, 0, 8388609, 4194305, -4194306])
    np.testing.assert_array_equal(chain(isa, [(M.ROUND, (0,))], numbers), expected)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", FLOAT_MODES, ids=lambda m: M(m).name)
def test_mode_agrees_with_definition(mode, isa):
    rng = np.random.default_rng(int(mode))
    count = FUNCTIONS[mode].arity
    low, high = (1.1, 3) if mode in (M.ACOSH, M.ACOSH_GRAD) else (0.05, 0.95)
    operands = [rng.uniform(low, high, 100).astype(np.float32) for _ in range(count)]
    if mode not in (M.POW, M.LOG, M.SQRT, M.ERFCINV, M.ACOSH, M.ACOSH_GRAD):
        operands = [np.concatenate([a, -a[::-1]]) for a in operands]
    actual, _ = run_node("Elemwise", Elemwise(mode=mode), operands, set(), isa)
    expected = definition("Elemwise", Elemwise(mode=mode), operands)
    np.testing.assert_allclose(actual, expected, rtol=4e-6, atol=4e-7)


PROGRAMS = [
    [(M.MUL, (0, 1)), (M.ADD, (3, 2))],
    [(M.MUL, (0, 1)), (M.ADD, (2, 3)), (M.RELU, (4,))],
    [(M.MUL, (0, 1)), (M.MUL, (1, 2)), (M.ADD, (3, 4))],
    [(M.MUL, (0, 1)), (M.MUL, (1, 2)), (M.ADD, (4, 3)), (M.SUB, (5, 0))],
    [(M.MUL, (0, 1)), (M.ADD, (3, 3))],
    [(M.MUL, (0, 1)), (M.ADD, (3, 2)), (M.MUL, (3, 4))],
    [(M.MUL, (0, 1)), (M.ADD, (3, 2)), (M.MUL, (4, 1)), (M.ADD, (0, 5)), (M.TANH, (6,))],
    [(M.MAX, (1, 0)), (M.MIN, (2, 3))],
    [(M.MIN, (1, 0)), (M.MAX, (2, 3))],
    [(M.MAX, (0, 1)), (M.MIN, (3, 2))],
    [(M.MAX, (1, 0)), (M.MIN, (2, 3)), (M.MAX, (1, 4))],
    [(M.MAX, (1, 0)), (M.MIN, (3, 3))],
    [(M.MAX, (1, 0)), (M.MIN, (2, 3)), (M.ADD, (3, 4))],
    [(M.MUL, (0, 1)), (M.MAX, (2, 3)), (M.MIN, (1, 4)), (M.RELU, (5,))],
    [(M.MAX, (1, 0)), (M.MIN, (2, 1)), (M.MIN, (4, 3)), (M.MAX, (0, 5))],
]


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("shapes", [((3, 700), (700,), (1,)), ((700,),) * 3], ids=["small operands", "one size"])
@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_functions_of_one_pass_give_what_they_do_alone(program, shapes, isa):
    """Whichever functions share a pass, the numbers are those of one function after the other."""
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    inputs[0][..., :6] = np.nan, np.inf, -np.inf, 0.0, -0.0, inputs[2][0]
    params = ElemwiseProgram(tuple(ElemwiseStep(int(mode), args) for mode, args in program))
    actual, _ = run_node("FusedElemwise", params, inputs, set(), isa)
    registers = list(inputs)
    for mode, args in program:
        registers.append(run_node("Elemwise", Elemwise(mode=mode), [registers[a] for a in args], set(), isa)[0])
    np.testing.assert_array_equal(actual, registers[-1])


def test_two_limits_are_one_function():
    limits = {(M.MAX, M.MIN): 1000, (M.MIN, M.MAX): 1001}
    steps = [(M.ADD, (0, 1)), (M.MAX, (1, 3)), (M.MIN, (2, 4)), (M.MUL, (5, 0))]
    joined = with_both_limits(steps, 3, limits)
    assert [(m, tuple(a)) for m, a in joined] == [(M.ADD, (0, 1)), (1000, (3, 1, 2)), (M.MUL, (4, 0))]
    other_way = [(M.MIN, (1, 0)), (M.MAX, (2, 3))]
    assert [(m, tuple(a)) for m, a in with_both_limits(other_way, 3, limits)] == [(1001, (0, 1, 2))]


SHAPES = [
    [(5,), (5,)],
    [(1,), (1,)],
    [(3, 1000), (3, 1000)],
    [(40, 300), (300,)],
    [(40, 300), (40, 1)],
    [(2, 3, 4, 5), (3, 1, 1)],
    [(2, 3, 4, 5), (2, 1, 4, 1)],
    [(3, 1, 5), (1, 4, 1)],
    [(2, 3, 1, 5, 1, 2), (1, 3, 4, 5, 6, 1)],
    [(200, 10), (10,)],
    [(2, 3 * TILE + 7), (2, 1)],
    [(3, 2, 2 * TILE), (2, 2 * TILE)],
]


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_operands_broadcast_in_a_chain(shapes, isa):
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in shapes)
    steps = [(M.MUL, (0, 1)), (M.TANH, (2,)), (M.FUSE_MUL_ADD3, (3, 0, 1)), (M.SUB, (4, 2)), (M.SQUARE, (5,))]
    expected = (np.tanh((a * b).astype(np.float64)) * a + b - a * b) ** 2
    np.testing.assert_allclose(chain(isa, steps, a, b), expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("image", [(1, 32, 5, 6), (2, 35, 7, 7), (2, 64, 3, 50)], ids=str)
def test_blocked_chain_agrees_with_definition(image, threads, isa):
    rng = np.random.default_rng(0)
    n, c, h, w = image
    shapes = [image, image, (1, c, 1, 1), (n, c, 1, 1), (1, 1, h, w), (1,), (1, c, h, w)]
    inputs = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    steps = [(M.MUL, (0, 2)), (M.ADD, (7, 1)), (M.RELU, (8,)), (M.FUSE_MUL_ADD3, (9, 3, 4)), (M.MUL, (10, 5))]
    steps += [(M.SUB, (11, 6)), (M.SIGMOID, (12,))]
    params = ElemwiseProgram(tuple(ElemwiseStep(int(m), a) for m, a in steps))
    constants = {2, 4, 5, 6}
    actual, kernels = run_blocked("FusedElemwise", params, inputs, isa, constants, threads)
    assert kernels[-2:] == ["elemwise_chain_f32", "relayout_to_plain_32"]
    expected = definition("FusedElemwise", params, inputs, constants)
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_blocked_division_leaves_no_nan_in_padded_channels(isa):
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((1, 35, 4, 4)).astype(np.float32) for _ in range(2)]
    actual, kernels = run_blocked("Elemwise", Elemwise(mode=M.TRUE_DIV), inputs, isa)
    assert kernels[-1] == "elemwise_chain_f32"  # plain: padded channels would become 0 / 0
    np.testing.assert_allclose(actual, inputs[0] / inputs[1], rtol=1e-6)


@pytest.mark.parametrize(
    ("steps", "inputs", "message"),
    [
        ([(M.ADD, (0,))], 1, "takes 2 registers"),
        ([(M.ADD, (0, 1))], 1, "below 1"),
        ([], 1, "1 to 12 inputs"),
        ([(M.RELU, (0,))], 0, "1 to 12 inputs"),
        ([(M.ADD, (0, 1))] * 60, 12, "64 registers"),
    ],
)
def test_malformed_chain_is_refused(steps, inputs, message):
    with pytest.raises(ValueError, match=message):
        chain(INSTRUCTION_SETS[0], steps, *[np.zeros(3, np.float32)] * inputs)


def test_a_register_is_an_integer():
    with pytest.raises(TypeError):
        chain(INSTRUCTION_SETS[0], [(M.RELU, (0.5,))], np.zeros(3, np.float32))


def test_arrays_that_a_chain_cannot_take_are_refused():
    x, relu = np.zeros((4, 6), np.float32), [(M.RELU, (0,))]
    for strided in (x[:, ::2], x.T, np.broadcast_to(x[:1], x.shape)):
        with pytest.raises(ValueError, match="C-contiguous"):
            chain(INSTRUCTION_SETS[0], relu, strided)
    with pytest.raises(ValueError, match="dtype"):
        chain(INSTRUCTION_SETS[0], relu, x.astype(np.float64))
    with pytest.raises(ValueError, match="broadcast"):
        chain(INSTRUCTION_SETS[0], [(M.ADD, (0, 1))], x, np.zeros(5, np.float32))
    alternating = [np.zeros([2 if (k + first) % 2 else 1 for k in range(9)], np.float32) for first in (0, 1)]
    with pytest.raises(ValueError, match="repeated along so many dimensions"):
        chain(INSTRUCTION_SETS[0], [(M.ADD, (0, 1))], *alternating)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    repeated=st.lists(st.booleans(), min_size=6, max_size=6),
    scale=st.integers(1, 400),
)
def test_tiles_cover_the_output_once(shape, repeated, scale):
    shape[-1] *= scale
    x = np.empty([1 if r else n for n, r in zip(shape, repeated, strict=False)], np.float32)
    y = np.empty(shape, np.float32)
    plan = plan_chain(shape, [np.broadcast_to(x, shape).strides], y.strides, [(M.RELU, (0,))])
    extents = plan.table[: plan.ndim]
    assert math.prod(extents.tolist()) == y.size
    tiles = -(-extents[plan.split] // plan.count)
    assert plan.work == tiles * math.prod(extents[plan.split + 1 :].tolist())
    assert plan.inner == math.prod(extents[: plan.split].tolist())


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_kernel_has_just_the_modes_of_the_definition(isa):
    modes = kernel_set(isa).module("elemwise").MODES
    assert modes == {mode: FUNCTIONS[mode].arity for mode in FLOAT_MODES}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", sorted(MODES), ids=lambda m: M(m).name)
@pytest.mark.parametrize("size", [1, 15, 16, 1000])
def test_every_mode_writes_every_element(mode, size, isa):
    arity = kernel_set(isa).module("elemwise").MODES[mode]
    inputs = [np.random.default_rng(k).uniform(0.1, 0.9, size).astype(np.float32) for k in range(arity)]
    with np.errstate(all="ignore"):
        expected = FUNCTIONS[mode].call(*inputs)
    actual = chain(isa, [(mode, range(arity))], *inputs)
    np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("mode", sorted({*range(-1, 100)} - MODES.keys()))
def test_other_modes_are_refused(mode):
    with pytest.raises(ValueError, match="does not exist"):
        chain(INSTRUCTION_SETS[0], [(mode, (0,))], np.ones(3, np.float32))
