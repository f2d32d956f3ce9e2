"""Powers with a constant exponent against the rules of the original's kernel, written out here."""

import math

import numpy as np
import pytest
from support.graphs import GraphBuilder, run, session_of
from support.instruction_sets import INSTRUCTION_SETS

from megengine_lite._core.ir.params import Elemwise, ElemwiseMode, PowC
from megengine_lite._core.operators.reference import run_reference

M = ElemwiseMode
NUMBERS = np.float32(
    [-8, -2, -1, -0.5, -1e-19, -1e19, 0, -0.0, 1e-19, 1e19, 0.5, 1, 2, 8, 3, np.inf, -np.inf, np.nan, 3e38, -3e38]
)
EXPONENTS = [
    0, 1, 2, 3, 4, 5, 6, -1, -2, -3, -4, -5, -6, 0.5, -0.5, 1 / 3, -1 / 3, 0.25, -0.25, 0.3, 1.5, 2.2, 2.5, -1.5, 7.5,
    0.99999994, 2.000001, 17, 30.5,
]  # fmt: skip


def power(x: float, exponent: float) -> float:
    """One number, in double precision."""
    negative = math.copysign(1, x) < 0
    inverse = math.copysign(math.inf, x) if x == 0 else math.copysign(0, x) if abs(x) > 8.5e37 else 1 / x
    if math.isnan(x):
        return 1 if exponent == 0 else math.nan
    if abs(abs(exponent) - 0.5) < 1e-7:
        base = inverse if exponent < 0 else x
        return base if base == 0 else math.nan if base < 0 else math.sqrt(base)
    if abs(abs(exponent) - 1 / 3) < 1e-7:
        base = inverse if exponent < 0 else x
        return math.copysign(abs(base) ** (1 / 3), base)
    whole = round(exponent) if abs(exponent - round(exponent)) < 1e-7 else None
    exponent = np.float64(np.float32(exponent)) if whole is None else whole
    with np.errstate(all="ignore"):
        size = float(np.power(np.float64(abs(x)), np.float64(exponent)))
    return -size if whole is not None and whole % 2 and negative else size


def expected_powers(x, exponent):
    with np.errstate(over="ignore", under="ignore"):
        values = np.array([power(v, exponent) for v in x.tolist()]).astype(np.float32)
    tiny = np.abs(values) < np.finfo(np.float32).tiny
    return np.where(tiny, np.copysign(np.float32(0), values), values)


def graph_of(form, exponent, size, around):
    b = GraphBuilder()
    x = b.input("x", (size,))
    y = b.node("Elemwise", Elemwise(mode=M.NEGATE), [x]) if around else x
    if form == "constant":
        y = b.node("Elemwise", Elemwise(mode=M.POW), [y, b.constant(np.float32([exponent]))])
    else:
        y = b.node("PowC", PowC(exp=exponent), [y])
    return b.finish(b.node("Elemwise", Elemwise(mode=M.ABS), [y]) if around else y)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("form", ["constant", "PowC"])
@pytest.mark.parametrize("exponent", EXPONENTS)
def test_power_is_that_of_the_original(exponent, form, isa):
    for around in (False, True):
        want = expected_powers(-NUMBERS if around else NUMBERS, exponent)
        want = np.abs(want) if around else want
        graph = graph_of(form, exponent, NUMBERS.size, around)
        (defined,) = run_reference(graph, {"x": NUMBERS})
        np.testing.assert_allclose(defined, want, rtol=2e-6, err_msg="definition")
        for options in ({}, {"fuse": False}, {"fuse": False, "fuse_elemwise": True}):
            (actual,) = run(session_of(graph_of(form, exponent, NUMBERS.size, around), isa=isa, **options), x=NUMBERS)
            np.testing.assert_allclose(actual, want, rtol=2e-6, err_msg=str(options))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("form", ["other shape", "variable"])
def test_other_powers_are_those_of_c(form, isa):
    """An exponent of another shape, or one that is not constant, is not taken by the original's kernel either."""
    b = GraphBuilder()
    x = b.input("x", (1, NUMBERS.size))
    e = b.input("e", (1,)) if form == "variable" else b.constant(np.float32([[0.25]]))
    graph = b.finish(b.node("Elemwise", Elemwise(mode=M.POW), [x, e]))
    inputs = {"x": NUMBERS[None], **({"e": np.float32([0.25])} if form == "variable" else {})}
    with np.errstate(all="ignore"):
        want = np.power(NUMBERS[None], np.float32(0.25))
    np.testing.assert_allclose(run_reference(graph, inputs)[0], want, rtol=2e-6)
    np.testing.assert_allclose(run(session_of(graph, isa=isa), **inputs)[0], want, rtol=2e-6)


@pytest.mark.parametrize("form", ["constant", "PowC"])
def test_power_is_part_of_a_chain(form):
    session = session_of(graph_of(form, 0.3, NUMBERS.size, True))
    run(session, x=NUMBERS)
    (plan,) = session.plans()
    assert len(plan.steps) == 1
