"""Normalization in float32: layer, general, group and instance norm, local response."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref, blocked_strides
from megengine_lite._core.ir.graph import Constant, Node
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.operators.norm import GeneralNorm, GroupNorm, InstanceNorm, LayerNorm
from megengine_lite.kernels.common.tiling import MAX_STREAM_ROW, STREAM_BYTES


def _statistics(ctx: Lowering, node: Node) -> list[Ref | None]:
    """Places for the second and third output; None for one that nobody reads."""
    refs: list[Ref | None] = []
    for v in node.outputs[1:]:
        refs.append(ctx.new_plain(v).ref if ctx.is_read(v) else None)
    return refs


def _plain_weights(ctx: Lowering, node: Node) -> list[Ref | None]:
    return [ctx.plain(v).ref for v in node.inputs[1:]] or [None, None]


def lower_axes_norm(ctx: Lowering, node: Node) -> bool | None:
    x, y = node.inputs[0], node.outputs[0]
    operator = REGISTRY[node.op]
    assert isinstance(operator, LayerNorm | GeneralNorm)
    begin, end = operator.axes(node, x.shape)
    length, inner = math.prod(x.shape[begin:end]), math.prod(x.shape[end:])
    outer = math.prod(x.shape[:begin])
    weight, bias = _plain_weights(ctx, node)
    mean, deviation = _statistics(ctx, node)
    common = {
        "x": ctx.plain(x).ref,
        "weight": weight,
        "bias": bias,
        "y": ctx.new_plain(y).ref,
        "mean": mean,
        "deviation": deviation,
        "eps": node.params.eps,
    }
    if inner == 1:
        _emit_rows(ctx, node, outer, length, centred=True, **common)
        return None
    chunk = min(inner, ctx.width)
    work = outer * -(-inner // chunk)
    ctx.emit("norm_columns_f32", node, **common, length=length, inner=inner, chunk=chunk, work=work)
    return None


def _emit_rows(ctx: Lowering, node: Node, rows: int, length: int, **arguments: Any) -> None:
    """Normalizes dense rows, with a weight and a bias for each element if there are any."""
    stream = node.inputs[0].spec.nbytes >= STREAM_BYTES and length <= MAX_STREAM_ROW
    ctx.emit(
        "norm_rows_f32",
        node,
        segments=length,
        inner=1,
        weight_rows=1,
        give_variance=False,
        stream=stream,
        work=rows,
        scratch=ctx.kernels.module("norm").rows_scratch_bytes(length, stream),
        **arguments,
    )


def lower_rms_norm(ctx: Lowering, node: Node) -> bool | None:
    x, y = node.inputs[0], node.outputs[0]
    first = node.params.first
    length = math.prod(x.shape[first:])
    weight = bias = None
    if node.params.has_weight:
        weight = ctx.plain(node.inputs[1]).ref
        bias = ctx.constant(Constant(np.zeros(length, np.float32), ("zeros", length)))
    _emit_rows(
        ctx, node, math.prod(x.shape[:first]), length, centred=False, x=ctx.plain(x).ref, weight=weight, bias=bias,
        y=ctx.new_plain(y).ref, mean=None, deviation=None, eps=node.params.eps,
    )  # fmt: skip
    return None


def lower_channel_norm(ctx: Lowering, node: Node) -> bool | None:
    x, y = node.inputs[0], node.outputs[0]
    n, channels = x.shape[:2]
    operator = REGISTRY[node.op]
    assert isinstance(operator, GroupNorm | InstanceNorm)
    groups = operator.groups(node, channels)
    if len(x.shape) == 4 and ctx.is_blocked(x) and all(v.const is not None for v in node.inputs[1:]):
        _emit_blocked_groups(ctx, node, channels // groups)
        return None
    weight, bias = _plain_weights(ctx, node)
    mean, variance = _statistics(ctx, node)
    ctx.emit(
        "norm_rows_f32",
        node,
        x=ctx.plain(x).ref,
        weight=weight,
        bias=bias,
        y=ctx.new_plain(y).ref,
        mean=mean,
        deviation=variance,
        segments=channels // groups,
        inner=math.prod(x.shape[2:]),
        weight_rows=groups,
        give_variance=True,
        stream=False,
        centred=True,
        eps=node.params.eps,
        work=n * groups,
    )
    return None


def _emit_blocked_groups(ctx: Lowering, node: Node, group: int) -> None:
    x, out = ctx.blocked(node.inputs[0]), ctx.new_blocked(node.outputs[0])
    width = ctx.width
    if group % width == 0:
        span = group // width
    else:
        span = 1 if width % group == 0 else x.blocks
    weight, bias = _padded_weights(ctx, node, x.blocks * width)
    mean, variance = _statistics(ctx, node)
    ctx.emit(
        "norm_channels_blocked_f32",
        node,
        x=x.ref,
        weight=weight,
        bias=bias,
        y=out.ref,
        mean=mean,
        variance=variance,
        blocks=x.blocks,
        span=span,
        c=x.c,
        group=group,
        h=x.h,
        w=x.w,
        **blocked_strides("x", x),
        **blocked_strides("y", out),
        stream=4 * x.n * x.blocks * width * x.h * x.w >= STREAM_BYTES,
        eps=node.params.eps,
        work=x.n * -(-x.blocks // span),
        scratch=ctx.kernels.module("norm").channels_scratch_bytes(span),
    )


def _padded_weights(ctx: Lowering, node: Node, length: int) -> list[Ref | None]:
    """Constants per channel with zeros in padded channels, or None twice."""
    refs: list[Ref | None] = []
    for v in node.inputs[1:]:
        padded = ctx.pool.derive(("padded", length), [v.constant], lambda a: np.pad(a, (0, length - a.size)))
        refs.append(ctx.constant(padded))
    return refs or [None, None]


def lower_lrn(ctx: Lowering, node: Node) -> bool | None:
    x, y = node.inputs[0], node.outputs[0]
    p = node.params
    size = x.shape[2] * x.shape[3]
    common = {"n": min(p.n, 2 * x.shape[1] + 1), "c": x.shape[1], "k": p.k, "alpha": p.alpha, "beta": p.beta}
    if not ctx.is_blocked(x):
        work = x.shape[0] * -(-size // ctx.width)
        ctx.emit("lrn_plain_f32", node, x=ctx.plain(x).ref, y=ctx.new_plain(y).ref, size=size, work=work, **common)
        return None
    source, out = ctx.blocked(x), ctx.new_blocked(y)
    ctx.emit(
        "lrn_blocked_f32",
        node,
        x=source.ref,
        y=out.ref,
        h=out.h,
        w=out.w,
        blocks=out.blocks,
        **blocked_strides("x", source),
        **blocked_strides("y", out),
        work=out.n * out.h,
        scratch=ctx.kernels.module("lrn").scratch_bytes(out.blocks, common["n"]),
        **common,
    )
    return None
