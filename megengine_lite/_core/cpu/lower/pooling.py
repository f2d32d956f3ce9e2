"""Pooling in float32, blocked and plain."""

from __future__ import annotations

from megengine_lite._core.cpu.lower.reduce import emit_reduce
from megengine_lite._core.cpu.lower.window import window_arguments
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import blocked_strides
from megengine_lite._core.ir.graph import Node
from megengine_lite._core.ir.params import PoolingMode, ReduceMode
from megengine_lite._core.operators.pooling import pool_window
from megengine_lite._core.operators.window import Window


def lower_pooling(ctx: Lowering, node: Node) -> bool | None:
    x, y = node.inputs[0], node.outputs[0]
    kernel, mode = ctx.kernels.module("pooling"), node.params.mode
    if mode not in kernel.MODES:
        return False
    window = window_of(node)
    if window.size == x.shape[2:] and window.pad == (0, 0):
        largest = ctx.kernels.module("reduce").POOLING_MAX
        return emit_reduce(ctx, node, x, y, largest if mode == PoolingMode.MAX else ReduceMode.MEAN, (2, 3))
    arguments = pool_arguments(node, window)
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
        **blocked_strides("x", source),
        **blocked_strides("y", out),
        work=out.n * out.blocks * out.h,
        **arguments,
    )
    return None


def window_of(node: Node) -> Window:
    h, w = node.inputs[0].shape[2:]
    return pool_window(node, (h, w), node.inputs[1].spec.value if len(node.inputs) > 1 else None)


def pool_arguments(node: Node, window: Window) -> dict[str, int]:
    """The arguments ``PoolingWindow`` of kernels (kernels/common/arguments.pxd)."""
    h, w = node.inputs[0].shape[2:]
    oh, ow = node.outputs[0].shape[2:]
    arguments = {"mode": int(node.params.mode), "h": h, "w": w, "oh": oh, "ow": ow}
    return arguments | window_arguments(window, "size", "stride", "pad")
