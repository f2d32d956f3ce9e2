"""Multi-head attention with its projections."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.formats.onnx.export.graph_writer import OnnxValue
from megengine_lite._core.formats.onnx.export.table import NodeCall, exports
from megengine_lite._core.ir.params import AttnMaskType
from megengine_lite._core.operators.attention import weight_shapes


def _weights(call: NodeCall) -> dict[str, OnnxValue]:
    """The parts of the flat weights, by name."""
    w = call.writer
    flat = call.constant(3, "the weights").reshape(-1).astype(np.float32)
    found, position = {}, 0
    for name, shape in weight_shapes(call.node).items():
        size = int(np.prod(shape))
        found[name] = w.constant(flat[position : position + size].reshape(shape))
        position += size
    return found


@exports("MultiHeadAttn")
def _attention(call: NodeCall) -> None:
    w, p = call.writer, call.params
    weights = _weights(call)

    def projected(x: OnnxValue, name: str) -> OnnxValue:
        if name in weights:
            x = w.op("MatMul", x, weights[name])
        return x + weights["b" + name] if "b" + name in weights else x

    def heads_of(place: int, name: str) -> OnnxValue:
        """[batch, heads, length, size]; without a projection every head sees the whole."""
        x = projected(call.real(place), name)
        if name not in weights:
            return w.unsqueeze(x, [1])
        return w.transpose(w.reshape(x, 0, 0, p.num_heads, -1), [0, 2, 1, 3])

    q, k, v = (heads_of(place, name) for place, name in enumerate("qkv"))
    scores = w.op("MatMul", q, w.transpose(k, [0, 1, 3, 2])) * float(np.float32(p.sm_scaler))
    lengths = w.joined([w.size(call.real(0), 1), w.size(call.real(1), 1)])
    whole = w.joined([w.size(call.real(0), 0), w.integers(p.num_heads), lengths])
    if "q" not in weights and "k" not in weights:
        scores = w.op("Expand", scores, whole)
    if call.count > 4 and p.attn_mask_type != AttnMaskType.NO_MASK:
        mask = call.real(4)
        scores = scores + (mask if call.ndim(4) == 2 else w.op("Reshape", mask, whole))
    shares = w.op("Softmax", scores, axis=3)
    merged = w.transpose(w.op("MatMul", shares, v), [0, 2, 1, 3])
    call.give_real(projected(w.reshape(merged, 0, 0, -1), "o"))
    if call.wanted[1]:
        call.give_real(w.reshape(shares, -1, lengths), 1)
