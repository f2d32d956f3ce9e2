"""Rows of halo that set the planes of an image apart, for pointwise filters: all readers of such an image."""

import numpy as np
import pytest
from support.graphs import GraphBuilder, check_graph
from support.instruction_sets import INSTRUCTION_SETS

from megengine_lite._core.cpu.lower.conv import CROWDED_PIXELS, FEW_CHANNELS, halo_wish
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.fused import NO_ACTIVATION, FusedConv
from megengine_lite._core.ir.graph import Node, TensorSpec, Var
from megengine_lite._core.ir.params import Axis, Convolution, Elemwise, ElemwiseMode, Pooling, Reduce, ReduceMode

CHANNELS = FEW_CHANNELS + 8
RNG = np.random.default_rng(5)


def conv(b, x, ic, oc, k):
    weight = b.constant((RNG.standard_normal((oc, ic, k, k)) / np.sqrt(ic * k * k)).astype(np.float32))
    return b.node("Convolution", Convolution(pad_h=k // 2, pad_w=k // 2), [x, weight])


def pooled(b, x):
    window = {"window_h": 3, "window_w": 3, "stride_h": 1, "stride_w": 1, "pad_h": 1, "pad_w": 1}
    return b.node("Pooling", Pooling(**window), [x])


def added(b, x):
    return b.node("Elemwise", Elemwise(mode=ElemwiseMode.ADD), [conv(b, x, CHANNELS, CHANNELS, 1), x])


READERS = {
    "pointwise": lambda b, x: conv(b, x, CHANNELS, 24, 1),
    "3 x 3": lambda b, x: conv(b, x, CHANNELS, 24, 3),
    "elementwise": lambda b, x: b.node("Elemwise", Elemwise(mode=ElemwiseMode.EXP), [x]),
    "sum": lambda b, x: b.node("Reduce", Reduce(mode=ReduceMode.SUM, axis=2), [x]),
    "pooling": pooled,
    "concatenation": lambda b, x: b.node("Concat", Axis(axis=1), [x, x]),
    "residual": added,
}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("size", [(8, 8), (64, 1), (1, 64)], ids=str)
@pytest.mark.parametrize("reader", READERS)
def test_all_readers_of_planes_that_lie_apart(reader, size, isa):
    """Each reads an image that a pointwise filter reads, too, with memory full of NaN before."""
    b = GraphBuilder()
    x = b.input("x", (2, 16, *size))
    image = conv(b, x, 16, CHANNELS, 3)
    graph = b.finish(READERS["pointwise"](b, image), READERS[reader](b, image))
    check_graph(graph, {"x": RNG.standard_normal((2, 16, *size), dtype=np.float32)}, isa=isa, threads=2)


@pytest.mark.parametrize(
    ("channels", "size", "k", "pad", "wish"),
    [
        (CHANNELS, (8, 8), 1, 0, (1, 0)),
        (CHANNELS, (8, 9), 1, 0, (0, 0)),
        (FEW_CHANNELS, (8, 8), 1, 0, (0, 0)),
        (CHANNELS, (8, 8), 3, 1, (1, 1)),
        (CHANNELS, (8, 8), 3, 0, (0, 0)),
        (CHANNELS, (8, 8), 1, 2, (2, 2)),
    ],
)
def test_which_images_get_rows_between_planes(channels, size, k, pad, wish):
    assert CROWDED_PIXELS == 64
    x, w = (Var(i, "", TensorSpec(s, FLOAT32)) for i, s in enumerate([(1, channels, *size), (8, channels, k, k)]))
    node = Node("FusedConv", FusedConv(pad, pad, 1, 1, 1, 1, 1, False, False, False, NO_ACTIVATION), [x, w], [])
    assert (halo_wish(node, 0), halo_wish(node, 1)) == (wish, (0, 0))
