"""Reductions, positions of extremes and running sums in float32."""

from __future__ import annotations

import math
from collections.abc import Sequence

from megengine_lite._core.cpu.lower.copying import View, view_of
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.ir.graph import Node, Var
from megengine_lite._core.ir.params import INT_MAX, ReduceMode
from megengine_lite._core.operators.reduce import Reduce
from megengine_lite.kernels.common.tiling import plan_reduce


def lower_reduce_axes(ctx: Lowering, node: Node) -> bool | None:
    return emit_reduce(ctx, node, node.inputs[0], node.outputs[0], node.params.mode, node.params.axes)


def lower_reduce(ctx: Lowering, node: Node) -> bool | None:
    x, y = node.inputs[0], node.outputs[0]
    axes = Reduce().axes(node, [v.spec for v in node.inputs])
    return emit_reduce(ctx, node, x, y, node.params.mode, axes)


def emit_reduce(ctx: Lowering, node: Node, x: Var, y: Var, mode: int, axes: Sequence[int]) -> bool | None:
    """``y`` = ``x`` reduced; False if the kernel does not have the mode, or the axes are too scattered for it.

    Over the pixels of a blocked image the result is blocked too, and each channel stays in its lane.
    """
    module = ctx.kernels.module("reduce")
    if mode not in module.MODES:
        return False
    divisor = math.prod(x.shape[k] for k in axes) if mode == ReduceMode.MEAN else 1
    if tuple(axes) == (2, 3) and len(y.shape) == 4 and ctx.is_blocked(x):
        source, target = view_of(ctx.blocked(x)), view_of(ctx.new_blocked(y))
    else:
        source = view_of(ctx.plain(x))
        kept = tuple(1 if k in axes else n for k, n in enumerate(x.shape))
        out = ctx.new_plain(y)
        strides = tuple(4 * math.prod(kept[k + 1 :]) for k in range(len(kept)))
        target = View(out.ref, kept, strides, 4)
    plan = plan_reduce(source.shape, source.strides, target.strides, axes, module.LOOPS)
    if plan is None:
        return False
    ctx.emit(
        plan.kernel,
        node,
        x=source.ref,
        y=target.ref,
        mode=mode,
        divisor=divisor,
        work=plan.work,
        scratch=module.scratch_bytes(plan.arguments.get("chunk", 0)),
        **plan.arguments,
    )
    return None


def lower_arg_reduce(ctx: Lowering, node: Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    axis = node.params.axis % len(x.shape)
    inner = math.prod(x.shape[axis + 1 :])
    chunk = min(inner, ctx.width)
    ctx.emit(
        "arg_reduce_f32",
        node,
        x=ctx.plain(x).ref,
        y=ctx.new_plain(y).ref,
        largest=node.op == "Argmax",
        length=x.shape[axis],
        inner=inner,
        chunk=chunk,
        work=math.prod(x.shape[:axis]) * -(-inner // chunk),
    )


def lower_cumsum(ctx: Lowering, node: Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    shape = x.shape if node.params.axis != INT_MAX else (x.spec.size,)
    axis = node.params.axis % len(shape) if node.params.axis != INT_MAX else 0
    inner = math.prod(shape[axis + 1 :])
    ctx.emit(
        "cumsum_f32",
        node,
        x=ctx.plain(x).ref,
        y=ctx.new_plain(y).ref,
        length=shape[axis],
        inner=inner,
        exclusive=node.params.exclusive,
        reverse=node.params.reverse,
        work=math.prod(shape[:axis]) * inner,
    )
