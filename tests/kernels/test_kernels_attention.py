"""Multi-head attention as a chain of native steps, against its definition in double precision."""

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, definition, relative_error, run_blocked, run_node

from megengine_lite._core.ir.fused import ElemwiseProgram, ElemwiseStep, FusedAttention
from megengine_lite._core.ir.graph import Node
from megengine_lite._core.ir.params import AttnMaskType, ElemwiseMode, MultiHeadAttn, TensorCombinationType
from megengine_lite._core.operators.attention import weight_shapes

PROJECTIONS = {
    "all, with biases": {
        "qproj_size": 12, "kproj_size": 12, "vproj_size": 15, "oproj_size": 7,
        "qbias": True, "kbias": True, "vbias": True, "obias": True,
    },
    "none of values": {"qproj_size": 12, "kproj_size": 12, "oproj_size": 5},
    "output only": {"k_size": 8, "oproj_size": 20, "obias": True},
}  # fmt: skip


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("mask", [None, (5, 9), (6, 5, 9)], ids=str)
@pytest.mark.parametrize("name", PROJECTIONS)
def test_attention(name, mask, threads, isa):
    rng = np.random.default_rng(0)
    fields = {"num_heads": 3, "embeding_size": 8, "k_size": 10, "v_size": 6, "sm_scaler": 0.3} | PROJECTIONS[name]
    if mask:
        fields["attn_mask_type"] = AttnMaskType.USER_DEFINED_MASK
        fields["tensor_combination_type"] = TensorCombinationType.ONLY_MASK
    params = MultiHeadAttn(**fields)
    count = sum(int(np.prod(s)) for s in weight_shapes(Node("MultiHeadAttn", params, (), ())).values())
    shapes = [(2, 5, 8), (2, 9, fields["k_size"]), (2, 9, 6), (count,)]
    inputs = [rng.standard_normal(s).astype(np.float32) for s in (*shapes, *([mask] if mask else []))]
    actual, kernels = run_blocked("MultiHeadAttn", params, inputs, isa, {3}, threads, {0, 1, 2, 4})
    assert None not in kernels
    assert relative_error(actual, definition("MultiHeadAttn", params, inputs)) < 2e-6


CHAIN = ElemwiseProgram((ElemwiseStep(int(ElemwiseMode.MUL), (0, 1)), ElemwiseStep(int(ElemwiseMode.ADD), (3, 2))))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("nan_is_zero", [False, True])
@pytest.mark.parametrize("orders", [
    ((0, 2, 1, 3), (0, 2, 1, 3), (0, 2, 1, 3), (0, 2, 1, 3)),
    ((0, 1, 2, 3), (0, 1, 3, 2), (0, 1, 2, 3), (0, 1, 2)),
    ((0, 2, 1, 3), (0, 2, 1), (0, 1, 2), (0, 2, 1, 3)),
])  # fmt: skip
def test_heads_are_read_and_written_where_they_lie(orders, nan_is_zero, threads, isa):
    rng = np.random.default_rng(0)
    batch, heads, queries, keys, width, size = 2, 3, 5, 9, 8, 11

    def stored(rows, columns, order):
        logical = (batch, heads, rows, columns) if len(order) == 4 else (batch * heads, rows, columns)
        return rng.standard_normal([logical[order.index(k)] for k in range(len(order))], dtype=np.float32)

    q, k, v, out = orders
    bias = rng.standard_normal((batch, 1, queries, keys), dtype=np.float32)
    if nan_is_zero:
        bias[:, :, 2] = -np.inf
    inputs = [
        stored(queries, width, q),
        stored(keys, width, k),
        stored(keys, size, v),
        np.full(1, 0.3, np.float32),
        bias,
    ]
    params = FusedAttention(heads, q, k, v, out, CHAIN, (batch, heads, queries, keys), nan_is_zero)
    actual, kernels = run_node("FusedAttention", params, inputs, {3}, isa, threads)
    assert None not in kernels and kernels.count("softmax_f32") == 1
    expected = definition("FusedAttention", params, inputs)
    assert actual.shape == expected.shape and np.isfinite(expected).all()
    assert relative_error(actual, expected) < 2e-6
