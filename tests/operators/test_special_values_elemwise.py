"""Special values through every float function: the same at every position, fused or not, in every layout."""

import textwrap

import numpy as np
import pytest
from support.graphs import GraphBuilder, run, session_of
from support.instruction_sets import INSTRUCTION_SETS
from support.processes import in_process
from support.special_numbers import SPECIAL, assert_identical, assert_same

from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.ir.fused import FusedConv, FusedMatMul
from megengine_lite._core.ir.params import Elemwise, ElemwiseMode, ElemwiseMultiType, ElemwiseMultiTypeMode
from megengine_lite._core.operators.elemwise_functions import FUNCTIONS
from megengine_lite._core.operators.reference import run_reference

M = ElemwiseMode
WITHOUT_MINUS_ZERO = SPECIAL[[0, 2, *range(4, len(SPECIAL))]]  # sums begin at 0, and 0 + -0 is 0
MODES = [m for m in M if "f" in FUNCTIONS[m].kinds]
# Differences of these cancel.
ABSOLUTE = {M.GELU: 3e-7, M.GELU_GRAD: 1e-6}


def operands_of(mode):
    """All combinations of special numbers, for three and more operands of some of them."""
    arity = FUNCTIONS[mode].arity
    chosen = {1: slice(None), 2: slice(None), 3: [0, 2, 6, 7, 8, 9, 11, 12], 4: [1, 6, 8, 9, 14]}
    numbers = SPECIAL[chosen[arity]]
    return [np.ascontiguousarray(a.ravel()) for a in np.meshgrid(*[numbers] * arity)]


def node_graph(mode, shapes):
    b = GraphBuilder()
    inputs = [b.input(f"x{k}", s) for k, s in enumerate(shapes)]
    return b.finish(b.node("Elemwise", Elemwise(mode=mode), inputs))


def named(operands):
    return {f"x{k}": a for k, a in enumerate(operands)}


def defined(mode, operands):
    return run_reference(node_graph(mode, [a.shape for a in operands]), named(operands))[0]


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", MODES, ids=lambda m: M(m).name)
def test_kernel_agrees_with_definition_at_every_position(mode, isa):
    chain = kernel_set(isa).module("elemwise").elemwise_chain
    operands = operands_of(mode)
    steps = [(mode, tuple(range(len(operands))))]
    whole = chain(steps, operands)
    assert np.isnan(whole).any() or mode not in (M.ADD, M.MUL, M.EXP)
    # The edge of the kernel leaves denormal numbers on; a session does not.
    (actual,) = run(session_of(node_graph(mode, [a.shape for a in operands]), isa=isa), **named(operands))
    assert_same(actual, defined(mode, operands), M(mode).name, atol=ABSOLUTE.get(mode, 1e-36))
    for size in range(1, 41):
        at = np.arange(size) * 7 % whole.size
        assert_identical(chain(steps, [a[at] for a in operands]), whole[at], f"{M(mode).name} of {size} numbers")


def test_definitions_do_not_depend_on_what_numpy_has_for_the_processor(tmp_path):
    vectors = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    code = f"""
        import os
        os.environ["NPY_DISABLE_CPU_FEATURES"] = {" ".join(vectors)!r}
        import numpy as np
        from test_special_values_elemwise import MODES, M, defined, operands_of
        np.savez({str(tmp_path / "plain.npz")!r}, **{{M(m).name: defined(m, operands_of(m)) for m in MODES}})
    """
    in_process(textwrap.dedent(code))
    with np.load(tmp_path / "plain.npz") as plain:
        for mode in MODES:
            atol = ABSOLUTE.get(mode, 1e-36)
            assert_same(defined(mode, operands_of(mode)), plain[M(mode).name], M(mode).name, atol=atol)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", MODES, ids=lambda m: M(m).name)
def test_fused_plain_and_blocked_functions_agree(mode, isa):
    """Images come out of convolutions of single channels; operands repeat along each dimension."""
    arity = FUNCTIONS[mode].arity
    numbers = np.resize(WITHOUT_MINUS_ZERO, (2, 19, 3, 5))
    shapes = [(2, 19, 3, 5), (2, 19, 3, 5), (1, 19, 1, 1), (2, 19, 1, 1)][:arity]
    operands = [np.ascontiguousarray(np.roll(numbers, 5 * k)[: s[0], :, : s[2], : s[3]]) for k, s in enumerate(shapes)]

    def graph(blocked, around):
        b = GraphBuilder()
        inputs = [b.input(f"x{k}", s) for k, s in enumerate(shapes)]
        values = [identity(b, v) if blocked and v.spec.shape[2] > 1 else v for v in inputs]
        if around:
            values = [b.node("Elemwise", Elemwise(mode=M.NEGATE), [v]) for v in values]
        y = b.node("Elemwise", Elemwise(mode=mode), values)
        return b.finish(b.node("Elemwise", Elemwise(mode=M.NEGATE), [y]) if around else y)

    for around in (False, True):
        (want,) = run_reference(graph(False, around), named(operands))
        plain = None
        for options in ({}, {"fuse": False}, {"fuse": False, "fuse_elemwise": True}, {"threads": 3}):
            for blocked in (False, True):
                (actual,) = run(session_of(graph(blocked, around), isa=isa, **options), **named(operands))
                label = f"{M(mode).name} {options} {'blocked' if blocked else 'plain'}"
                assert_same(actual, want, label, atol=ABSOLUTE.get(mode, 1e-36))
                plain = actual if plain is None else plain
                assert_same(actual, plain, label, rtol=0, atol=0)


def identity(b, x):
    """A convolution of each channel by itself that changes nothing but -0; its result is blocked."""
    channels = x.spec.shape[1]
    kernel = b.constant(np.ones((channels, 1, 1, 1, 1), np.float32))
    y = b.node("FusedConv", FusedConv(0, 0, 1, 1, 1, 1, channels), [x, kernel])
    y.spec = x.spec
    return y


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", [M.MAX, M.MIN], ids=lambda m: M(m).name)
def test_order_of_operands_does_not_matter_where_one_is_smaller(mode, isa):
    """As in the original: NaN in the larger operand gives the smaller one, whichever comes first."""
    x, one = SPECIAL, np.float32([1])
    for operands in ((x, one), (one, x)):
        graph = node_graph(mode, [a.shape for a in operands])
        (actual,) = run(session_of(graph, isa=isa), **named(operands))
        assert actual[8] == 1
        assert_same(actual, defined(mode, operands))
    both = [np.float32([np.nan, 1]), np.float32([1, np.nan])]
    (actual,) = run(session_of(node_graph(mode, [(2,), (2,)]), isa=isa), **named(both))
    np.testing.assert_array_equal(actual, np.float32([1, np.nan]))


COMPARISONS = ["EQ", "NEQ", "LT", "LEQ", "ISNAN", "ISINF"]


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_to_truth_values(name, isa):
    mode = ElemwiseMultiTypeMode[name]
    arity = 1 if name.startswith("IS") else 2
    operands = [np.ascontiguousarray(a.ravel()) for a in np.meshgrid(*[SPECIAL] * arity)]
    b = GraphBuilder()
    inputs = [b.input(f"x{k}", a.shape) for k, a in enumerate(operands)]
    graph = b.finish(b.node("ElemwiseMultiType", ElemwiseMultiType(mode=mode), inputs))
    (actual,) = run(session_of(graph, isa=isa), **named(operands))
    np.testing.assert_array_equal(actual, run_reference(graph, named(operands))[0])


# Functions behind a convolution or a product, as lists of (mode, position of the result, constants).
BEHIND = {
    **{M(m).name: [(m, 0, ())] for m in MODES if FUNCTIONS[m].arity == 1},
    "max": [(M.MAX, 0, (-1.0,))],
    "max of constant first": [(M.MAX, 1, (-1.0,))],
    "min": [(M.MIN, 0, (2.0,))],
    "clip": [(M.CLIP, 0, (-1.0, 2.0))],
    "max, min": [(M.MAX, 0, (0.0,)), (M.MIN, 1, (6.0,))],
    "min, max": [(M.MIN, 1, (6.0,)), (M.MAX, 0, (0.0,))],
    "relu, min": [(M.RELU, 0, ()), (M.MIN, 0, (6.0,))],
    "min, relu": [(M.MIN, 0, (6.0,)), (M.RELU, 0, ())],
    "relu6, max": [(M.RELU6, 0, ()), (M.MAX, 0, (1.0,))],
    "clip, clip": [(M.CLIP, 0, (-1.0, 2.0)), (M.CLIP, 0, (0.0, 5.0))],
    "infinite bound": [(M.CLIP, 0, (-np.inf, 5.0))],
    "prelu": [(M.PRELU, 0, (0.25,))],
    "hard sigmoid in parts": [(M.ADD, 0, (3.0,)), (M.MAX, 1, (0.0,)), (M.MIN, 1, (6.0,)), (M.TRUE_DIV, 0, (6.0,))],
    "add, relu": [(M.FUSE_ADD_RELU, 0, (1.0,))],
    "add, sigmoid": [(M.FUSE_ADD_SIGMOID, 1, (1.0,))],
    "power": [(M.POW, 0, (0.3,))],
}


def follow(b, y, functions):
    for mode, position, numbers in functions:
        operands = [b.constant(np.float32([n])) for n in numbers]
        operands.insert(position, y)
        y = b.node("Elemwise", Elemwise(mode=mode), operands)
    return y


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("before", ["depthwise", "dense", "product", "one number"])
@pytest.mark.parametrize("functions", BEHIND.values(), ids=BEHIND)
def test_fused_activation_is_the_function_itself(functions, before, isa):
    numbers = np.resize(WITHOUT_MINUS_ZERO, 10 * 17)
    b = GraphBuilder()
    if before == "depthwise":
        x = b.input("x", (1, 10, 1, 17))
        y = identity(b, x)
    elif before == "dense":  # with one input channel: an infinity in another one times a weight of 0 would be NaN
        x = b.input("x", (1, 1, 10, 17))
        kernel = b.constant(np.ones((40, 1, 1, 1), np.float32))
        y = b.node("FusedConv", FusedConv(0, 0, 1, 1, 1, 1, 1), [x, kernel])
    elif before == "product":
        x = b.input("x", (170, 1))
        y = b.node("FusedMatMul", FusedMatMul(False, False), [x, b.constant(np.ones((1, 5), np.float32))])
    else:
        x = b.input("x", (1, 1, 1, 1))
        y = identity(b, x)
    graph = b.finish(follow(b, y, functions))
    for value in numbers.reshape(-1, 1, 1, 1, 1) if before == "one number" else [numbers.reshape(x.shape)]:
        (want,) = run_reference(graph, {"x": value})
        for options in ({}, {"fuse": False}):
            (actual,) = run(session_of(graph, isa=isa, **options), x=value)
            assert_same(actual, want, f"{options}", atol=3e-7 if functions[0][0] == M.GELU else 1e-36)
