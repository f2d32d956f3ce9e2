"""Multiply-adds of operators, counted by hand."""

import pytest

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.fused import FusedAttention
from megengine_lite._core.ir.graph import Node, TensorSpec, Var
from megengine_lite._core.ir.onnx_params import EinsumParam, Recurrent
from megengine_lite._core.operators import REGISTRY, Operator

GROUP = params.ConvolutionSparse.GROUP
CASES = [
    # operator, parameters, input shapes, output shape, multiply-adds
    ("Convolution", params.Convolution(), [(2, 3, 8, 8), (5, 3, 3, 3)], (2, 5, 6, 6), 2 * 36 * 5 * 27),
    ("Convolution", params.Convolution(sparse=GROUP), [(1, 4, 5, 5), (4, 1, 1, 3, 3)], (1, 4, 3, 3), 4 * 9 * 9),
    ("ConvBiasForward", params.ConvBias(), [(1, 3, 8, 8), (5, 3, 1, 1), (1, 5, 1, 1)], (1, 5, 8, 8), 64 * 15),
    ("BatchConvBiasForward", params.BatchConvBias(), [(2, 3, 4, 4), (2, 5, 3, 3, 3)], (2, 5, 2, 2), 2 * 4 * 5 * 27),
    ("ConvolutionBackwardData", params.Convolution(), [(3, 5, 2, 2), (1, 3, 4, 4)], (1, 5, 5, 5), 16 * 3 * 5 * 4),
    ("Convolution3D", params.Convolution3D(), [(1, 2, 4, 4, 4), (3, 2, 2, 2, 2)], (1, 3, 3, 3, 3), 27 * 3 * 16),
    ("Convolution3DBackwardData", params.Convolution3D(), [(2, 3, 2, 2, 2), (1, 2, 3, 3, 3)], (1, 3, 4, 4, 4), 27 * 48),
    ("Local", params.Convolution(), [(2, 3, 4, 4), (2, 2, 3, 3, 3, 5)], (2, 5, 2, 2), 2 * 4 * 27 * 5),
    ("GroupLocal", params.Convolution(), [(2, 4, 4, 4), (2, 2, 2, 2, 3, 3, 5)], (2, 10, 2, 2), 2 * 2 * 4 * 18 * 5),
    ("LocalShareForward", params.LocalShare(), [(1, 3, 8, 8), (2, 2, 3, 1, 1, 5)], (1, 5, 8, 8), 64 * 15),
    ("MatrixMul", params.MatrixMul(), [(4, 6), (6, 5)], (4, 5), 4 * 5 * 6),
    ("MatrixMul", params.MatrixMul(transposeA=True), [(6, 4), (6, 5)], (4, 5), 4 * 5 * 6),
    ("MatrixMul", params.MatrixMul(format=1), [(2, 3, 4, 4), (3, 5, 4)], (2, 5, 4), 8 * 12 * 5),
    ("BatchedMatrixMul", params.MatrixMul(), [(3, 4, 6), (3, 6, 5)], (3, 4, 5), 3 * 4 * 5 * 6),
    ("Dot", params.Empty(), [(7,), (7,)], (1,), 7),
    (
        "LSTMForward",
        params.LSTM(hidden_size=5, bidirectional=True),
        [(7, 2, 3), (2, 2, 5), (2, 2, 5), (2 * (20 * 3 + 20 * 5 + 40),)],
        (7, 2, 10),
        7 * 2 * 2 * 20 * 8,
    ),
    ("RNNForward", params.RNN(hidden_size=5, bias=False), [(7, 2, 3), (1, 2, 5), (40,)], (7, 2, 5), 7 * 2 * 5 * 8),
    (
        "LSTMCellForward",
        params.Empty(),
        [(2, 3), (20, 3), (20,), (2, 5), (20, 5), (20,), (2, 5)],
        (2, 5),
        2 * 20 * 8,
    ),
    ("RNNCellForward", params.RNNCell(), [(2, 3), (5, 3), (5,), (2, 5), (5, 5), (5,)], (2, 5), 2 * 5 * 8),
    (
        "MultiHeadAttn",
        params.MultiHeadAttn(num_heads=2, qproj_size=8, kproj_size=8, vproj_size=8, oproj_size=6),
        [(3, 4, 6), (3, 5, 6), (3, 5, 6), (1,)],
        (3, 4, 6),
        3 * (4 * 6 * 8 + 4 * 8 * 6 + 2 * 5 * 6 * 8 + 2 * 4 * 5 * 8),
    ),
    (
        "FusedAttention",
        FusedAttention(2, *4 * [(0, 1, 2, 3)], scores=None, scores_shape=(2, 2, 4, 5)),
        [(2, 2, 4, 3), (2, 2, 5, 3), (2, 2, 5, 6)],
        (2, 2, 4, 6),
        2 * 2 * 4 * 5 * (3 + 6),
    ),
    *(
        (
            "Recurrent",
            Recurrent(cell, "bidirectional", (), 0.0, (False, True, False, False, False), False, False),
            [(7, 2, 3), (2, 5 * gates, 3), (2, 5 * gates, 5), (2,)],
            (7, 2, 2, 5),
            7 * 2 * 2 * 5 * gates * (3 + 5),
        )
        for cell, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4))
    ),
    ("Einsum", EinsumParam("...ij,...jk->...ik"), [(2, 3, 4), (1, 4, 5)], (2, 3, 5), 2 * 3 * 4 * 5),
    ("Einsum", EinsumParam("ai,bi,ci->abc"), [(2, 6), (3, 6), (4, 6)], (2, 3, 4), 2 * 3 * 4 * 6),
    ("Einsum", EinsumParam("iij->j"), [(3, 3, 4)], (4,), 0),
    ("Elemwise", params.Elemwise(), [(2, 3)], (2, 3), 0),
]


@pytest.mark.parametrize(("op", "param", "inputs", "output", "expected"), CASES, ids=[c[0] for c in CASES])
def test_multiply_adds(op, param, inputs, output, expected):
    ins = [Var(k, "", TensorSpec(shape, FLOAT32)) for k, shape in enumerate(inputs)]
    outs = [Var(len(ins), "", TensorSpec(output, FLOAT32))]
    assert REGISTRY[op].multiply_adds(Node(op, param, ins, outs)) == expected


def test_same_counter_serves_what_is_not_in_the_table():
    counted = {case[0] for case in CASES}
    like_others = {"DeformableConvForward", "MaskConvolution", "RegionRestrictedConvolution"}
    with_count = {name for name, opr in REGISTRY.items() if type(opr).multiply_adds is not Operator.multiply_adds}
    assert with_count - counted == like_others
