"""Convolutions of volumes, which become convolutions of images."""

import numpy as np
import pytest
from support.graphs import GraphBuilder, run, session_of

from megengine_lite._core.compile.passes import flatten_volumes
from megengine_lite._core.cpu.steps import HostStep
from megengine_lite._core.ir.params import Convolution3D, ConvolutionSparse, Elemwise, ElemwiseMode
from megengine_lite._core.operators.reference import run_reference

PARAMETERS = {
    "small": {},
    "padded": {"pad_d": 1, "pad_h": 1, "pad_w": 2},
    "strides": {"stride_d": 2, "stride_h": 2, "stride_w": 3, "pad_d": 1},
    "holes": {"dilate_d": 2, "dilate_h": 2, "pad_d": 2, "pad_h": 2, "pad_w": 1},
    "all": {"stride_d": 3, "dilate_d": 2, "pad_d": 3, "stride_h": 2, "pad_h": 1, "dilate_w": 2, "pad_w": 2},
}
FILTERS = [(1, 1, 1), (3, 1, 1), (1, 3, 3), (2, 3, 2), (3, 3, 3)]


def numbers(*shape):
    return np.random.default_rng(len(shape) + shape[-1]).standard_normal(shape).astype(np.float32)


def volumes(op, groups, channels, out, size, parameters, with_functions=True):
    """A convolution with a bias and an activation, and its input."""
    g = GraphBuilder()
    x = numbers(2, channels, 7, 9, 8)
    sizes = (out // groups, channels // groups) if op == "Convolution3D" else (channels // groups, out // groups)
    w = numbers(*([groups] if groups > 1 else []), *sizes, *size)
    params = Convolution3D(sparse=ConvolutionSparse(groups > 1), **parameters)
    data, weight = g.input("x", x.shape), g.constant(w)
    y = g.node(op, params, [data, weight] if op == "Convolution3D" else [weight, data])
    if with_functions:
        y = g.node("Elemwise", Elemwise(mode=ElemwiseMode.ADD), [y, g.constant(numbers(1, out, 1, 1, 1))])
        y = g.node("Elemwise", Elemwise(mode=ElemwiseMode.RELU), [y])
        y = g.node("Elemwise", Elemwise(mode=ElemwiseMode.MUL), [g.constant(np.float32([0.5])), y])
    return g.finish(y), x


def check(graph, x):
    (expected,) = run_reference(graph, {"x": x})
    session = session_of(graph, threads=2)
    (got,) = run(session, x=x)
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    (plan,) = session.plans()
    return [step.node.op if isinstance(step, HostStep) else step.origin.op for step in plan.steps]


@pytest.mark.parametrize("parameters", PARAMETERS)
@pytest.mark.parametrize("size", FILTERS)
@pytest.mark.parametrize(("groups", "channels", "out"), [(1, 3, 5), (2, 4, 6), (4, 4, 4)])
@pytest.mark.parametrize("op", ["Convolution3D", "Convolution3DBackwardData"])
def test_results_are_those_of_the_definition(op, groups, channels, out, size, parameters):
    operators = check(*volumes(op, groups, channels, out, size, PARAMETERS[parameters]))
    assert op not in operators


def test_functions_of_the_result_are_fused():
    operators = check(*volumes("Convolution3D", 1, 4, 8, (3, 3, 3), {"pad_d": 1, "pad_h": 1, "pad_w": 1}))
    assert "Elemwise" not in operators and "FusedConv" in operators


def test_images_that_would_take_too_much_memory_are_added_up(monkeypatch):
    monkeypatch.setattr(flatten_volumes, "MOST_GATHERED", 100)
    operators = check(*volumes("Convolution3D", 2, 4, 6, (3, 3, 2), {"pad_d": 1, "stride_d": 2}))
    assert operators.count("FusedConv") == 3


def test_sizes_that_are_given_decide_the_result():
    g = GraphBuilder()
    x, w, like = numbers(1, 3, 4, 4, 4), numbers(3, 2, 3, 3, 3), numbers(1, 2, 8, 8, 8)
    params = Convolution3D(stride_d=2, stride_h=2, stride_w=2, pad_d=1, pad_h=1, pad_w=1)
    inputs = [g.constant(w), g.input("x", x.shape), g.constant(like)]
    graph = g.finish(g.node("Convolution3DBackwardData", params, inputs))
    check(graph, x)


def test_results_to_which_no_image_is_added_are_zero():
    """All that the only input image makes lies in the padding that is cut off."""
    g = GraphBuilder()
    params = Convolution3D(stride_d=2, pad_d=1)
    x, w = numbers(1, 1, 2, 3, 3), numbers(1, 1, 1, 1, 1)
    graph = g.finish(g.node("Convolution3DBackwardData", params, [g.constant(w), g.input("x", x.shape)]))
    (y,) = run(session_of(graph), x=x)
    np.testing.assert_array_equal(y, np.zeros((1, 1, 1, 3, 3), np.float32))
