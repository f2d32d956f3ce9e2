"""Rewrites of graphs: what they make, and that the result stays the same."""

import numpy as np
import pytest
from support.graphs import GraphBuilder, run, session_of
from support.instruction_sets import INSTRUCTION_SETS

from megengine_lite._core.compile.rewriter import Rewriter
from megengine_lite._core.compile.substitution import Substitution
from megengine_lite._core.cpu.steps import HostStep
from megengine_lite._core.ir.dtype import FLOAT32, INT32
from megengine_lite._core.ir.graph import DynamicNode, DynamicSpec, DynamicVar, Graph, Node, TensorSpec, Var
from megengine_lite._core.ir.params import (
    BN,
    Axis,
    CondTake,
    ConvBias,
    Convolution,
    ConvolutionFormat,
    ConvolutionSparse,
    Dimshuffle,
    Elemwise,
    ElemwiseMode,
    OptionalAxisV1,
    Pooling,
    Reduce,
    ReduceMode,
)
from megengine_lite._core.operators.reference import run_reference

M = ElemwiseMode
RNG = np.random.default_rng(7)


def normal(*shape):
    return RNG.standard_normal(shape, dtype=np.float32)


def steps_of(session):
    """The operators of the steps, without those that fill padding."""
    (plan,) = session.plans()
    steps = [s for s in plan.steps if isinstance(s, HostStep) or s.kernel.name != "fill_halo_blocked"]
    return [s.node.op if isinstance(s, HostStep) else s.origin.op for s in steps]


def check(graph, inputs, tolerance=2e-5, **config):
    """Runs a graph with passes and without, against its definition; gives the operators of the steps."""
    expected = run_reference(graph, inputs)
    for fuse in (True, False):
        session = session_of(graph, fuse=fuse, **config)
        for got, want in zip(run(session, **inputs), expected, strict=True):
            scale = max(float(np.abs(want).max(initial=0)), 1e-6)
            np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * scale)
    return steps_of_fused(graph, inputs, **config)


def steps_of_fused(graph, inputs, **config):
    session = session_of(graph, **config)
    run(session, **inputs)
    return steps_of(session)


def conv(b, x, oc, k=3, pad=1, **params):
    weight = b.constant(normal(oc, params.pop("ic", 8), k, k) * 0.2)
    return b.node("Convolution", Convolution(pad_h=pad, pad_w=pad, **params), [x, weight])


def elemwise(b, mode, *operands):
    return b.node("Elemwise", Elemwise(mode=mode), list(operands))


@pytest.mark.parametrize(
    ("mode", "operands"),
    [
        (M.RELU, 0),
        (M.SIGMOID, 0),
        (M.SILU, 0),
        (M.H_SWISH, 0),
        (M.TANH, 0),
        (M.GELU, 0),
        (M.RELU6, 0),
        (M.ADD, 1),
        (M.MUL, 1),
        (M.FUSE_ADD_RELU, 1),
        (M.FUSE_MUL_ADD3, 2),
    ],
)
def test_convolution_takes_in_what_follows(mode, operands):
    b = GraphBuilder()
    y = conv(b, b.input("x", (2, 8, 9, 10)), 12)
    out = elemwise(b, mode, y, *(b.constant(normal(1, 12, 1, 1)) for _ in range(operands)))
    ops = check(b.finish(out), {"x": normal(2, 8, 9, 10)})
    assert "FusedConv" in ops
    assert "Elemwise" not in ops
    assert "FusedElemwise" not in ops


def test_residual_addition_goes_into_one_of_the_convolutions():
    b = GraphBuilder()
    x = b.input("x", (1, 8, 7, 7))
    out = elemwise(b, M.FUSE_ADD_RELU, conv(b, x, 16), conv(b, x, 16, k=1, pad=0))
    ops = check(b.finish(out), {"x": normal(1, 8, 7, 7)})
    assert ops.count("FusedConv") == 2
    assert "FusedElemwise" not in ops


def test_clip_becomes_an_activation_and_an_impossible_one_stays():
    b = GraphBuilder()
    y = conv(b, b.input("x", (1, 8, 7, 7)), 8)
    low, high = b.constant(np.float32([-0.5])), b.constant(np.float32([0.75]))
    out = elemwise(b, M.MIN, elemwise(b, M.MAX, y, low), high)
    swapped = elemwise(b, M.CLIP, conv(b, b.inputs[0], 8), high, low)  # lower bound above the upper one
    check(b.finish(out, swapped), {"x": normal(1, 8, 7, 7)})


def test_a_result_that_others_read_stays():
    b = GraphBuilder()
    y = conv(b, b.input("x", (1, 8, 6, 6)), 8)
    check(b.finish(elemwise(b, M.RELU, y), elemwise(b, M.NEGATE, y), y), {"x": normal(1, 8, 6, 6)})


def test_batch_norm_goes_into_the_weights():
    b = GraphBuilder()
    y = conv(b, b.input("x", (1, 8, 6, 6)), 16)
    scale, bias, mean = (b.constant(normal(1, 16, 1, 1)) for _ in range(3))
    variance = b.constant(np.abs(normal(1, 16, 1, 1)) + 0.5)
    outs = b.node("BatchNorm", BN(fwd_mode=1), [y, scale, bias, mean, variance], outputs=4)
    ops = check(b.finish(outs[-1]), {"x": normal(1, 8, 6, 6)})
    assert "BatchNorm" not in ops
    assert "FusedElemwise" not in ops


def test_elementwise_chain_is_one_step():
    b = GraphBuilder()
    x, z = b.input("x", (3, 40)), b.input("z", (40,))
    t = elemwise(b, M.MUL, x, elemwise(b, M.SIGMOID, x))
    out = elemwise(b, M.MAX, elemwise(b, M.ADD, t, z), b.constant(np.float32([0.1])))
    assert check(b.finish(out), {"x": normal(3, 40), "z": normal(40)}) == ["FusedElemwise"]


def test_channel_shuffle_is_one_gather():
    b = GraphBuilder()
    x = b.input("x", (2, 8, 5, 6))
    left, right = conv(b, x, 20), conv(b, x, 20)
    joined = b.node("Concat", Axis(axis=1), [left, right])
    split = b.node("Reshape", OptionalAxisV1(), [joined, b.constant(np.int32([2, 2, 20, 5, 6]))])
    swapped = b.node("Dimshuffle", Dimshuffle(pattern=(0, 2, 1, 3, 4), ndim=5), [split])
    shuffled = b.node("Reshape", OptionalAxisV1(), [swapped, b.constant(np.int32([2, 40, 5, 6]))])
    sizes = [b.constant(np.int32([20])) for _ in range(2)]
    first, second = b.node("Split", Axis(axis=1), [shuffled, *sizes], outputs=2)
    out = conv(b, second, 8, ic=20)
    for isa in (INSTRUCTION_SETS[0], None):
        ops = check(b.finish(out, first), {"x": normal(2, 8, 5, 6)}, isa=isa)
        assert "Dimshuffle" not in ops
        assert ops.count("ChannelGather") == 2


@pytest.mark.parametrize("channels", [(16, 32), (16, 16, 16), (20, 12), (3, 5, 7)])
def test_concatenation_of_channels_keeps_its_value(channels):
    b = GraphBuilder()
    x = b.input("x", (2, 8, 6, 5))
    parts = [conv(b, x, c) for c in channels]
    joined = b.node("Concat", Axis(axis=1), parts)
    out = conv(b, joined, 8, ic=sum(channels))
    check(b.finish(out, joined, parts[0]), {"x": normal(2, 8, 6, 5)})


def test_global_pooling_by_two_reductions_is_one():
    b = GraphBuilder()
    y = conv(b, b.input("x", (2, 8, 7, 9)), 24)
    for axis in (3, 2):
        y = b.node("Reduce", Reduce(mode=ReduceMode.MEAN, axis=axis), [y])
    assert check(b.finish(y), {"x": normal(2, 8, 7, 9)}).count("ReduceAxes") == 1


@pytest.mark.parametrize(("fmt", "block"), [(ConvolutionFormat.NCHW88, 8), (ConvolutionFormat.NCHW44, 4)])
def test_packed_convolutions_run_as_plain_ones(fmt, block):
    b = GraphBuilder()
    x = b.input("x", (1, 2 * 8, 6, 6))
    blocks = 16 // block
    split = b.node("Reshape", OptionalAxisV1(), [x, b.constant(np.int32([1, blocks, block, 6, 6]))])
    packed = b.node("Dimshuffle", Dimshuffle(pattern=(0, 1, 3, 4, 2), ndim=5), [split])
    weight = b.constant(normal(blocks, blocks, 3, 3, block, block) * 0.1)
    bias = b.constant(normal(1, blocks, 1, 1, block))
    y = b.node("ConvBiasForward", ConvBias(format=fmt, pad_h=1, pad_w=1, nonlineMode=1), [packed, weight, bias])
    y = elemwise(b, M.ADD, y, packed)
    y = b.node("Pooling", Pooling(format=fmt, window_h=2, window_w=2), [y])
    unpacked = b.node("Dimshuffle", Dimshuffle(pattern=(0, 1, 4, 2, 3), ndim=5), [y])
    out = b.node("Reshape", OptionalAxisV1(), [unpacked, b.constant(np.int32([1, 16, 3, 3]))])
    ops = check(b.finish(out), {"x": normal(1, 16, 6, 6)})
    assert "Dimshuffle" not in ops


def test_group_convolution_with_scaled_channels():
    b = GraphBuilder()
    x = b.input("x", (1, 12, 6, 6))
    weight = b.constant(normal(3, 5, 4, 3, 3) * 0.2)
    y = b.node("Convolution", Convolution(sparse=ConvolutionSparse.GROUP), [x, weight])
    out = elemwise(b, M.MUL, b.constant(normal(1, 15, 1, 1)), y)
    check(b.finish(out), {"x": normal(1, 12, 6, 6)})


# ---- the walk of passes that let nodes read other variables ----------------------------------------------------------


def test_substitution_reaches_later_nodes_and_outputs():
    x, a, b, c, unread = (Var(k, f"v{k}", TensorSpec((2,), FLOAT32)) for k in range(5))
    relu = Elemwise(mode=M.RELU)
    nodes = [
        Node("Elemwise", relu, [x], [a], "first"),
        Node("Elemwise", relu, [a], [b], "second"),
        Node("Elemwise", relu, [b], [unread], "dead"),
        Node("Elemwise", Elemwise(mode=M.ADD), [a, b], [c], "third"),
    ]
    graph = Graph(nodes, [x], [b, c], ["b", "c"])
    walk = Substitution(graph)
    seen = []
    for node in walk:
        seen.append((node.name, list(node.inputs)))
        if node.name == "first":
            walk.replace(a, x)
        elif node.name == "second":
            walk.replace(b, a)  # which is itself replaced
        else:
            walk.add(node)
    walk.finish()
    assert seen == [("first", [x]), ("second", [x]), ("dead", [x]), ("third", [x, x])]
    assert [n.name for n in graph.nodes] == ["third"]
    assert graph.outputs == [x, c]
    graph.verify()


def test_substitution_and_rewriter_leave_nodes_of_unknown_shape_alone():
    x, a = (Var(k, f"v{k}", TensorSpec((2,), FLOAT32)) for k in range(2))
    taken, places = DynamicVar(2, "taken", DynamicSpec(FLOAT32)), DynamicVar(3, "places", DynamicSpec(INT32))
    relu = Node("Elemwise", Elemwise(mode=M.RELU), [x], [a], "relu")
    take = DynamicNode("CondTake", CondTake(), [a, a], [taken, places], "take")
    graph = Graph([relu, take], [x], [taken], ["taken"])
    rewriter = Rewriter(graph)
    assert list(rewriter) == [relu] and rewriter.readers(a) == [take]
    assert rewriter.only_reader(a) is None  # it cannot be merged with what comes before it
    walk = Substitution(graph)
    for node in walk:
        walk.replace(node.outputs[0], x)
    walk.finish()
    assert graph.nodes == [take] and take.inputs == [x, x] and graph.outputs == [taken]
