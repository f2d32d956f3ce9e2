"""Softmax in float32."""

from __future__ import annotations

import math
from collections.abc import Sequence

from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref
from megengine_lite._core.ir.graph import Node
from megengine_lite.kernels.common.tiling import MAX_STREAM_ROW, STREAM_BYTES, softmax_chunk


def lower_softmax(ctx: Lowering, node: Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    axis = node.params.axis % len(x.shape)
    emit_softmax(ctx, node, ctx.plain(x).ref, ctx.new_plain(y).ref, x.shape, axis)


def lower_log_softmax(ctx: Lowering, node: Node) -> None:
    """Along rows."""
    x, y = node.inputs[0], node.outputs[0]
    length = x.shape[node.params.axis]
    ctx.emit(
        "log_softmax_f32",
        node,
        x=ctx.plain(x).ref,
        y=ctx.new_plain(y).ref,
        length=length,
        work=x.spec.size // length,
        flops=20 * x.spec.size,
    )


def emit_softmax(ctx: Lowering, node: Node, x: Ref, y: Ref, shape: Sequence[int], axis: int) -> None:
    """Along an axis of dense memory."""
    length, inner, size = shape[axis], math.prod(shape[axis + 1 :]), math.prod(shape)
    stream = 4 * size >= STREAM_BYTES and (inner > 1 or length <= MAX_STREAM_ROW)
    chunk = softmax_chunk(length, inner, stream)
    ctx.emit(
        "softmax_f32",
        node,
        x=x,
        y=y,
        length=length,
        inner=inner,
        chunk=chunk,
        stream=stream,
        work=math.prod(shape[:axis]) * -(-inner // chunk),
        scratch=ctx.kernels.module("softmax").scratch_bytes(length, inner, chunk, stream),
        flops=20 * size,
    )
