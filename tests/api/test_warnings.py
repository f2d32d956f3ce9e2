"""No warning of numpy's comes out of a model, whatever numbers are in it.

``support.definitions`` checks that of each operator.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from support.definitions import special
from support.graphs import GraphBuilder, run, session_of
from support.one_node import INSTRUCTION_SETS, run_node
from support.recorded import find_cases, read_case

from megengine_lite._core.formats.load import load_model
from megengine_lite._core.ir.params import (
    BN,
    BNFwdMode,
    BNParamDim,
    Convolution,
    Elemwise,
    ElemwiseMode,
    PowC,
    WarpPerspective,
)
from megengine_lite._core.runtime.session import Session


@pytest.fixture(autouse=True)
def errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(("family", "case"), find_cases())
def test_recorded_operators_on_special_numbers(family, case):
    model = load_model(read_case(family, case).model)
    session = Session(model)
    for k, var in enumerate(model.graph.inputs):
        array = np.ones(var.shape, var.dtype.storage)
        if array.dtype.kind == "f" and (k == 0 or family != "regions"):  # regions name images by numbers
            array = special(array, k)
        session.set_array(var.name, array)
    session.run()


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("scale", [np.inf, np.nan, 3e38, -np.inf])
def test_special_numbers_in_matrices_of_warps(scale, constant):
    """Interpolation by aligned corners to one row divides by zero."""
    source = np.ones((1, 2, 5, 4), np.float32)
    matrix = np.array([[[scale, 0, 0], [0, scale, scale], [0, 0, 1]]], np.float32)
    builder = GraphBuilder()
    x = builder.input("x", source.shape)
    m = builder.constant(matrix) if constant else builder.input("m", matrix.shape)
    size = builder.constant(np.array([1, 2], np.int32))
    graph = builder.finish(builder.node("WarpPerspective", WarpPerspective(), [x, m, size]))
    (out,) = run(session_of(graph), x=source, **({} if constant else {"m": matrix}))
    assert out.shape == (1, 2, 1, 2)


@pytest.mark.parametrize("first", range(12))
def test_special_numbers_in_weights_that_are_folded(first):
    """A convolution, its batch norm and a chain of functions: all of them become one step while planning."""
    builder = GraphBuilder()
    x = builder.input("x", (1, 3, 4, 4))
    weight = builder.constant(special(np.empty((2, 3, 1, 1), np.float32), first))
    scale, bias, mean, variance = (
        builder.constant(special(np.empty((1, 2, 1, 1), np.float32), first + k)) for k in range(4)
    )
    y = builder.node("Convolution", Convolution(), [x, weight])
    norm = BN(fwd_mode=BNFwdMode.INFERENCE, param_dim=BNParamDim.DIM_1C11)
    y = builder.node("BatchNorm", norm, [y, scale, bias, mean, variance], 3)[-1]
    y = builder.node("Elemwise", Elemwise(mode=ElemwiseMode.ADD), [y, bias])
    y = builder.node("Elemwise", Elemwise(mode=ElemwiseMode.TRUE_DIV), [scale, y])
    (out,) = run(session_of(builder.finish(y)), x=np.ones((1, 3, 4, 4), np.float32))
    assert out.shape == (1, 2, 4, 4)


@pytest.mark.parametrize("exponent", [np.inf, -np.inf, np.nan, 0.5, -1.5])
def test_special_exponents(exponent):
    out, _ = run_node("PowC", PowC(exp=exponent), [special(np.empty((3, 4), np.float32))], set(), INSTRUCTION_SETS[0])
    assert out.shape == (3, 4)
