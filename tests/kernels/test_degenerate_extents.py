"""Norms and reductions of tensors with extents of 1 in every position: strides and weights that collapse stay right."""

import itertools

import numpy as np
import pytest
from support.graphs import GraphBuilder, run, session_of
from support.instruction_sets import INSTRUCTION_SETS

from megengine_lite._core.ir import params
from megengine_lite._core.ir.fused import FusedConv
from megengine_lite._core.ir.params import PoolingMode, ReduceMode
from megengine_lite._core.operators.reference import run_reference

FULL = (3, 24, 5, 7)
SHAPES = list(itertools.product(*((1, n) for n in FULL)))
AXES = range(4)


def part(shape, begin, end):
    return [shape[begin:end]] * 2


def norms(shape):
    """Operator, parameters, shapes of weights, number of outputs."""
    c = shape[1]
    for begin, end in itertools.combinations(range(5), 2):
        yield "GeneralNorm", params.GeneralNorm(affine=True, axis_start=begin, axis_end=end), part(shape, begin, end), 3
        yield "GeneralNorm", params.GeneralNorm(affine=False, axis_start=begin, axis_end=end), [], 3
    for n in range(1, 5):
        yield "LayerNorm", params.LayerNorm(affine=True, normalized_dim=n), part(shape, 4 - n, 4), 3
    for group in {1, 3, 12, c} if c > 1 else {1}:
        for affine in (True, False):
            yield "GroupNorm", params.GroupNorm(affine=affine, group=group), [(c,)] * (2 * affine), 3
    for affine in (True, False):
        yield "InstanceNorm", params.GroupNorm(affine=affine), [(c,)] * (2 * affine), 3
    for dim in itertools.product(*((1, n) for n in shape)):
        yield "BatchNorm", params.BN(fwd_mode=1), [dim] * 4, 4
    yield "LRN", params.LRN(n=5), [], 1


def reductions(shape):
    for axis in AXES:
        for mode in ReduceMode:
            yield "Reduce", params.Reduce(mode=mode, axis=axis), [], 1
        yield "Argmax", params.Axis(axis=axis), [], 1
        yield "Argmin", params.Axis(axis=axis), [], 1
        yield "Cumsum", params.Cumsum(axis=axis, exclusive=True, reverse=False), [], 1
        yield "Cumsum", params.Cumsum(axis=axis, exclusive=False, reverse=True), [], 1
        yield "Softmax", params.Softmax(axis=axis), [], 1
    for mode in PoolingMode:
        for h, w in itertools.product(*({1, n} for n in shape[2:])):
            yield "Pooling", params.Pooling(mode=mode, window_h=h, window_w=w, stride_h=1, stride_w=1), [], 1
        for h, w in itertools.product((1, 2), (1, 3)):
            size = {"window_h": h, "window_w": w, "pad_h": h // 2, "pad_w": w // 2}
            if shape[2] + 2 * (h // 2) >= h and shape[3] + 2 * (w // 2) >= w:
                yield "Pooling", params.Pooling(mode=mode, **size), [], 1


def check(shape, op, param, weights, outputs, isa, after_convolution):
    rng = np.random.default_rng(1)
    b = GraphBuilder()
    x = y = b.input("x", shape)
    if after_convolution:
        kernel = b.constant(np.eye(shape[1], dtype=np.float32).reshape(shape[1], shape[1], 1, 1))
        y = b.node("FusedConv", FusedConv(0, 0, 1, 1, 1, 1, 1), [x, kernel])
    constants = [b.constant(rng.uniform(0.5, 2, s or (1,)).astype(np.float32)) for s in weights]
    results = b.node(op, param, [y, *constants], outputs)
    results = results if isinstance(results, list) else [results]
    graph = b.finish(*(results[-1:] if op == "BatchNorm" else results))
    value = rng.standard_normal(shape).astype(np.float32)
    expected = run_reference(graph, {"x": value})
    actual = run(session_of(graph, isa=isa), x=value)
    label = f"{op} {param} of {shape}{' after a convolution' if after_convolution else ''}"
    for k, (got, want) in enumerate(zip(actual, expected, strict=True)):
        assert got.shape == want.shape, f"{label}: output {k}"
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5, err_msg=f"{label}: output {k}")


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("after_convolution", [False, True], ids=["plain", "blocked"])
@pytest.mark.parametrize("family", [norms, reductions])
def test_every_extent_may_be_1(family, after_convolution, isa):
    for shape in SHAPES:
        for case in family(shape):
            check(shape, *case, isa, after_convolution)
