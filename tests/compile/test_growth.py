"""Planning takes operations and memory in proportion to the graph: one of twice the size takes about twice as much."""

import gc
import os
import sys
import tracemalloc

import numpy as np
import pytest
from support.graphs import GraphBuilder, run, session_of

import megengine_lite
from megengine_lite._core.ir.params import (
    Axis,
    CondTake,
    CondTakeMode,
    Convolution,
    Dimshuffle,
    Elemwise,
    ElemwiseMode,
    Empty,
    OptionalAxisV1,
    Reduce,
    ReduceMode,
)
from megengine_lite._core.ir.params import IndexDescMaskDump as Index
from megengine_lite._core.ir.params import IndexDescMaskItem as Item
from megengine_lite._core.operators.reference import run_reference

SIZE = 150
# n log n, and what does not double.
MOST = 2.35
PACKAGE = os.path.dirname(megengine_lite.__file__)
M = ElemwiseMode


def elemwise(b, mode, *operands):
    return b.node("Elemwise", Elemwise(mode=mode), list(operands))


def chain(b, x, n):
    for k in range(n):
        x = elemwise(b, M.SIN, x) if k % 2 else b.node("Reduce", Reduce(mode=ReduceMode.SUM, axis=-1), [x])
    return [x]


def identities(b, x, n):
    y = x
    for _ in range(n):
        y = b.node("Identity", Empty(), [y])
    return [elemwise(b, M.SIN, y)]


def doubling(b, x, n):
    for _ in range(n):
        x = elemwise(b, M.MAX, x, x)
    return [x]


def doubling_of_constants(b, x, n):
    y = b.constant(np.full((2, 3), 0.5, np.float32))
    for _ in range(n):
        y = elemwise(b, M.MAX, y, y)
    return [elemwise(b, M.ADD, x, y)]


def wide_concatenation(b, x, n):
    return [b.node("Concat", Axis(axis=0), [x] * n)]


def wide_concatenation_of_results(b, x, n):
    return [b.node("Concat", Axis(axis=0), [elemwise(b, M.SIN, x) for _ in range(n)])]


def joined_and_cut(b, x, n):
    """Concatenations of images, each cut to its first channels again."""
    y = image = b.node("Reshape", OptionalAxisV1(), [x, b.constant(np.int32([1, 2, 1, 3]))])
    begin, end = b.constant(np.int32([1])), b.constant(np.int32([3]))
    first = Index(items=(Item(axis=1, begin=True, end=True, step=False, idx=False),))
    for _ in range(n // 3):
        y = b.node("Subtensor", first, [b.node("Concat", Axis(axis=1), [y, image]), begin, end])
    return [y]


def joined_on_and_on(b, x, n):
    """Concatenations that grow, of images so small that their channels are most of the work."""
    y = image = b.node("Reshape", OptionalAxisV1(), [x, b.constant(np.int32([1, 1, 2, 3]))])
    for _ in range(n):
        y = b.node("Concat", Axis(axis=1), [y, image])
    return [y]


def densely_connected(b, x, n):
    """The same with a convolution of everything so far."""
    y = b.node("Reshape", OptionalAxisV1(), [x, b.constant(np.int32([1, 1, 2, 3]))])
    for k in range(n // 5):
        weight = b.constant(np.full((1, k + 1, 1, 1), 1 / (k + 1), np.float32))
        y = b.node("Concat", Axis(axis=1), [y, b.node("Convolution", Convolution(), [y, weight])])
    return [y]


def many_outputs(b, x, n):
    return [elemwise(b, M.SIN, x) for _ in range(n)]


def many_constants(b, x, n):
    for k in range(n):
        x = elemwise(b, M.ADD, x, b.constant(np.float32([k])))
    return [x]


def stages(b, x, n):
    x = b.node("Reshape", OptionalAxisV1(), [x, b.constant(np.int32([6]))])
    outputs = []
    for _ in range(n // 2):
        x, _ = b.node("CondTake", CondTake(mode=CondTakeMode.GT, val=0.0), [x, x], outputs=2)
        outputs.append(x)
    return outputs


def reshapes(b, x, n):
    for k in range(n // 2):
        shape = (1, 2, 1, 3) if k % 2 else (3, 1, 2, 1)
        x = b.node("Reshape", OptionalAxisV1(), [x, b.constant(np.int32(shape))])
        x = b.node("Dimshuffle", Dimshuffle(pattern=(0, 2, 1, 3), ndim=4), [x])
    return [x]


def lattice(b, x, n):
    y = elemwise(b, M.SIN, x)
    for _ in range(n // 2):
        x, y = elemwise(b, M.MAX, x, y), elemwise(b, M.MIN, y, x)
    return [x, y]


def lattice_of_constants(b, x, n, elements=6):
    p, q = (b.constant(np.linspace(k, 1, elements, dtype=np.float32)) for k in (0.0, 0.5))
    for _ in range(n // 2):
        p, q = elemwise(b, M.MAX, p, q), elemwise(b, M.MIN, q, p)
    total = elemwise(b, M.ADD, p, q)
    return [b.node("Reshape", OptionalAxisV1(), [x, b.constant(np.int32([6]))]), total]


def lattice_of_large_constants(b, x, n):
    return lattice_of_constants(b, x, n, 5000)


def constants_read_backwards(b, x, n):
    """Each constant is made of the one before, and read in the opposite order."""
    made = [b.constant(np.linspace(0, 1, 5000, dtype=np.float32))]
    for _ in range(n // 5):
        made.append(elemwise(b, M.SIN, made[-1]))
    first = elemwise(b, M.SIN, x)
    return [first, *(elemwise(b, M.ADD, v, b.constant(np.float32([1]))) for v in reversed(made))]


def constants_read_backwards_by_nodes(b, x, n):
    """The same, read by what is computed at run time."""
    made = [b.constant(np.linspace(0, 1, 5000, dtype=np.float32))]
    for _ in range(n // 5):
        made.append(elemwise(b, M.SIN, made[-1]))
    total = b.node("Reshape", OptionalAxisV1(), [x, b.constant(np.int32([6, 1]))])
    return [*(elemwise(b, M.FLOOR_DIV, total, v) for v in reversed(made)), *reversed(made)]


KINDS = [
    chain, identities, doubling, doubling_of_constants, wide_concatenation, wide_concatenation_of_results,
    joined_and_cut, joined_on_and_on, densely_connected, many_outputs, many_constants, stages, reshapes, lattice,
    lattice_of_constants, lattice_of_large_constants, constants_read_backwards, constants_read_backwards_by_nodes,
]  # fmt: skip


def build(kind, n):
    b = GraphBuilder()
    x = b.input("x", (2, 3))
    return b.finish(*kind(b, x, n))


def lines_of(call):
    """How many lines of the package a call runs."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def peak_of(call):
    """The most memory that a call has in use at a time, with all garbage that only a collection would find."""
    gc.collect()
    gc.disable()  # or the peak would depend on when collections come
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        gc.enable()


X = np.linspace(0.1, 1, 6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_planning_grows_with_the_graph(kind):
    run(session_of(build(kind, 8)), x=X)  # imports
    graphs = [build(kind, n) for n in (SIZE, 2 * SIZE)]
    small, large = (lines_of(lambda g=g: run(session_of(g), x=X)) for g in graphs)
    assert large <= MOST * small
    small, large = (peak_of(lambda g=g: run(session_of(g), x=X)) for g in graphs)
    assert large <= MOST * small


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_large_graphs_are_right(kind):
    graph = build(kind, 40)
    for got, want in zip(run(session_of(graph), x=X), run_reference(graph, {"x": X}), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
