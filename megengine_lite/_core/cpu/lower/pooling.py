"""Pooling in float32, blocked and plain."""

from __future__ import annotations

from megengine_lite._core.cpu.lower.reduce import emit_reduce
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.ir.graph import Node
from megengine_lite._core.ir.params import PoolingMode, ReduceMode
from megengine_lite._core.operators.pooling import pool_window


def lower_pooling(ctx: Lowering, node: Node) -> bool | None:
    x, y = node.inputs[0], node.outputs[0]
    kernel, mode = ctx.kernels.module("pooling"), node.params.mode
    if mode not in kernel.MODES:
        return False
    sizes = node.inputs[1].spec.value if len(node.inputs) > 1 else None
    window = pool_window(node, (x.shape[2], x.shape[3]), sizes)
    if window.size == x.shape[2:] and window.pad == (0, 0):
        largest = ctx.kernels.module("reduce").POOLING_MAX
        return emit_reduce(ctx, node, x, y, largest if mode == PoolingMode.MAX else ReduceMode.MEAN, (2, 3))
    arguments = {
        "mode": mode,
        "h": x.shape[2],
        "w": x.shape[3],
        "oh": y.shape[2],
        "ow": y.shape[3],
        "kh": window.size[0],
        "kw": window.size[1],
        "stride_h": window.stride[0],
        "stride_w": window.stride[1],
        "pad_h": window.pad[0],
        "pad_w": window.pad[1],
    }
    if not ctx.is_blocked(x):
        source, out = ctx.plain(x), ctx.new_plain(y)
        scratch = kernel.scratch_bytes(x.shape[3], window.pad[1])
        work = y.shape[0] * y.shape[1] * y.shape[2]
        ctx.emit("pool_plain_f32", node, x=source.ref, y=out.ref, work=work, scratch=scratch, **arguments)
        return None
    source, out = ctx.blocked(x), ctx.new_blocked(y)
    ctx.emit(
        "pool_blocked_f32",
        node,
        x=source.ref,
        y=out.ref,
        blocks=out.blocks,
        x_row=source.row,
        x_plane=source.plane,
        x_image=source.image,
        y_row=out.row,
        y_plane=out.plane,
        y_image=out.image,
        work=out.n * out.blocks * out.h,
        **arguments,
    )
    return None
