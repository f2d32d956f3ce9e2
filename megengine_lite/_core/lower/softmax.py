"""Softmax in float32."""

from __future__ import annotations

import math

from megengine_lite._core.dtype import FLOAT32
from megengine_lite._core.graph import Node
from megengine_lite._core.lower.context import Lowering, lowers
from megengine_lite.kernels.tiling import STREAM_BYTES, softmax_chunk

MAX_STREAM_ROW = 8192  # floats; longer rows are not gathered in scratch


@lowers("Softmax")
def lower_softmax(ctx: Lowering, node: Node) -> bool | None:
    x, y = node.inputs[0], node.outputs[0]
    if x.dtype != FLOAT32:
        return False
    axis = node.params.axis % len(x.shape)
    length, inner = x.shape[axis], math.prod(x.shape[axis + 1 :])
    chunk = softmax_chunk(length, inner)
    stream = x.spec.nbytes >= STREAM_BYTES and (inner > 1 or length <= MAX_STREAM_ROW)
    ctx.emit(
        "softmax_f32",
        node,
        x=ctx.plain(x).ref,
        y=ctx.new_plain(y).ref,
        length=length,
        inner=inner,
        chunk=chunk,
        work=math.prod(x.shape[:axis]) * -(-inner // chunk),
        stream=stream,
        scratch=4 * (length + 1) * chunk if inner > 1 or stream else 0,
        flops=20 * x.spec.size,
    )
    return None
