"""Multi-head attention as a chain of native steps, against its definition in double precision."""

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, definition, relative_error, run_blocked

from megengine_lite._core.ir.graph import Node
from megengine_lite._core.ir.params import AttnMaskType, MultiHeadAttn, TensorCombinationType
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
