"""No reader of a blocked tensor uses the channels beyond the last one: they hold NaN here."""

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, attach_outputs, definition, run_graph, variable

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import DType, DTypeCode
from megengine_lite._core.ir.fused import FusedConv
from megengine_lite._core.ir.graph import Graph, Node
from megengine_lite._core.ir.params import ElemwiseMode, ReduceMode

C = 5  # no multiple of a block
X = np.random.default_rng(5).uniform(2, 9, (2, C, 6, 6)).astype(np.float32)
READ = np.sqrt(X - 1)
INT8 = DType(DTypeCode.QUANTIZED_S8, 0.05)


def weight(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def conv(side, pad=0, groups=1):
    return FusedConv(pad, pad, 1, 1, 1, 1, groups)


READERS = {
    "pointwise": ("FusedConv", conv(1), [weight(7, C, 1, 1)], {}),
    "direct": ("FusedConv", conv(3, 1), [weight(7, C, 3, 3)], {"conv_f32": "conv_direct_f32"}),
    "winograd4": ("FusedConv", conv(3, 1), [weight(7, C, 3, 3)], {"conv_f32": "conv_winograd4_f32"}),
    "winograd2": ("FusedConv", conv(3, 1), [weight(7, C, 3, 3)], {"conv_f32": "conv_winograd2_f32"}),
    "depthwise": ("FusedConv", conv(3, 1, C), [weight(C, 1, 1, 3, 3)], {}),
    "backward": ("ConvolutionBackwardData", params.Convolution(), None, {}),
    "max": ("Pooling", params.Pooling(window_h=3, window_w=3, stride_h=1, stride_w=1, pad_h=1, pad_w=1), [], {}),
    "average": ("Pooling", params.Pooling(mode=params.PoolingMode.AVERAGE), [], {}),
    "whole": ("Pooling", params.Pooling(mode=1, window_h=6, window_w=6, stride_h=6, stride_w=6), [], {}),
    "lrn": ("LRN", params.LRN(), [], {}),
    "instance": ("InstanceNorm", params.GroupNorm(affine=False), [], {}),
    "group": ("GroupNorm", params.GroupNorm(affine=False, group=1), [], {}),
    "softmax": ("Softmax", params.Softmax(axis=1), [], {}),
    "sum of channels": ("Reduce", params.Reduce(mode=ReduceMode.SUM, axis=1), [], {}),
    "sum of rows": ("Reduce", params.Reduce(mode=ReduceMode.SUM, axis=3), [], {}),
    "largest": ("Argmax", params.Axis(axis=1), [], {}),
    "resize": ("Resize", params.Resize(format=0), [np.array([9, 9], np.int32)], {}),
    "joined": ("Concat", params.Axis(axis=1), [weight(2, 3, 6, 6)], {}),
    "added": ("Elemwise", params.Elemwise(mode=ElemwiseMode.ADD), [weight(2, C, 6, 6)], {}),
    "integers": ("TypeCvt", params.DTypeTable(dtype=DType(DTypeCode.INT32)), [], {}),
    "int8": ("TypeCvt", params.DTypeTable(dtype=INT8), [], {}),
    "transposed": ("Dimshuffle", params.Dimshuffle(pattern=(0, 2, 3, 1), ndim=4), [], {}),
}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("name", READERS)
def test_readers_never_use_padded_channels(isa, name):
    op, param, rest, forced = READERS[name]
    same = np.zeros((C, C, 3, 3), np.float32)
    same[range(C), range(C), 1, 1] = 1
    arrays = [X, same, np.ones((1, C, 1, 1), np.float32)]
    x, eye, one = (variable(k, a, k > 0) for k, a in enumerate(arrays))
    nodes = [
        Node("FusedConv", conv(3, 1), [x, eye], [], "blocked"),
        Node("Elemwise", params.Elemwise(mode=ElemwiseMode.SUB), [], [], "less one"),  # 0 - 1 in padded channels
        Node("Elemwise", params.Elemwise(mode=ElemwiseMode.SQRT), [], [], "root"),  # NaN there
        Node(op, param, [], [], name),
    ]
    attach_outputs(nodes[0], 10)
    nodes[1].inputs = [nodes[0].outputs[0], one]
    attach_outputs(nodes[1], 20)
    nodes[2].inputs = [nodes[1].outputs[0]]
    attach_outputs(nodes[2], 30)
    backward = rest is None
    others = [weight(C, 4, 3, 3)] if backward else rest
    constants = [variable(40 + k, a, True) for k, a in enumerate(others)]
    ins = [nodes[2].outputs[0]]
    nodes[3].inputs = [*constants, *ins] if backward else [*ins, *constants]
    attach_outputs(nodes[3], 50)
    graph = Graph(nodes, [x], nodes[3].outputs[:1], ["y"])
    (actual,), kernels = run_graph(graph, lambda var: X, isa, forced=forced)
    assert kernels.count("elemwise_chain_f32") >= 2 and None not in kernels[:3]
    expected = definition(
        op,
        param,
        [*others, READ] if backward else [READ, *others],
        range(len(others)) if backward else range(1, 1 + len(others)),
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1 if name == "int8" else 1e-4)
