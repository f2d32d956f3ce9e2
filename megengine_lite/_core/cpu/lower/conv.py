"""Convolution in float32: choice of the algorithm, packed weights, kernel calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from megengine_lite._core.compile.passes.fuse_conv import as_fused_conv
from megengine_lite._core.cpu.algorithms.algorithm import Algorithm, check_other_way
from megengine_lite._core.cpu.algorithms.convolution import (
    CONV_F32,
    ConvProblem,
    first_scratch,
    group_runs,
)
from megengine_lite._core.cpu.algorithms.fast_run import select
from megengine_lite._core.cpu.algorithms.taps import adds_taps
from megengine_lite._core.cpu.lower.conv_direct import (
    along_rows,
    emit_direct,
    emit_runs,
    emit_taps,
    mirrored_filter,
    packed_bias,
    packed_filter,
)
from megengine_lite._core.cpu.lower.conv_plain import emit_plain, lower_plain_conv
from megengine_lite._core.cpu.lower.conv_winograd import emit_dilated, emit_winograd
from megengine_lite._core.cpu.lower.window import window_arguments
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.packing import float32 as packing
from megengine_lite._core.cpu.steps import blocked_strides, epilogue_arguments
from megengine_lite._core.ir.fused import FusedConv
from megengine_lite._core.ir.graph import Node, Var
from megengine_lite._core.operators.window import window_2d
from megengine_lite._records import replace

# Planes of so many pixels, or a multiple: in blocks of 8 channels, half a page. Those of few channels have room.
CROWDED_PIXELS, FEW_CHANNELS = 64, 64


def halo_wish(node: Node, index: int) -> tuple[int, int]:
    """The padding; or rows that keep the planes apart which a pointwise filter reads one after another.

    Planes of 56 x 56 pixels in blocks of 8 channels lie 24.5 pages apart: a pixel's channels share a few sets of the
    first cache, and oust each other.
    """
    if index:
        return 0, 0
    p = node.params
    x, w = node.inputs[0].shape, node.inputs[1].shape
    groups = w[0] if len(w) == 5 else 1
    if len(x) == 4 and adds_taps(groups, x[1], window_2d(p, (w[-2], w[-1])), x[2:]):
        return 0, 0
    crowded = len(x) == 4 and x[1] > FEW_CHANNELS and x[2] * x[3] % CROWDED_PIXELS == 0
    apart = int(crowded and w[-2:] == (1, 1))
    return max(p.pad_h, apart), p.pad_w


def lower_convolution(ctx: Lowering, node: Node) -> bool:
    fused = as_fused_conv(node)
    if fused is not None:
        return lower_fused_conv(ctx, fused)
    done = lower_plain_conv(ctx, node)
    way = "conv_plain_f32" if done else "numpy"
    check_other_way(ctx.config.algo, CONV_F32.kind, node, way, "a constant filter, and no more than kernels can fuse")
    return done


def lower_fused_conv(ctx: Lowering, node: Node) -> bool:
    if not ctx.has_activation(node.params.activation.code):
        return False
    problem = conv_problem(ctx, node)

    def emit(target: Lowering, algorithm: Algorithm[ConvProblem]) -> None:
        emit_conv(target, node, problem, algorithm)

    emit(ctx, select(ctx, CONV_F32, problem, node, emit))
    return True


def emit_conv(ctx: Lowering, node: Node, problem: ConvProblem, algorithm: Algorithm[ConvProblem]) -> None:
    """Emits a ``FusedConv`` node by the given algorithm, which must apply."""
    p: FusedConv = node.params
    bias = node.inputs[2] if p.has_bias else None
    z = node.inputs[-1] if p.has_z else None
    _EMIT[algorithm.name](ctx, node, problem, node.inputs[0], bias, z)


def conv_problem(ctx: Lowering, node: Node) -> ConvProblem:
    """The algorithms' view of a ``FusedConv`` node."""
    p: FusedConv = node.params
    x, w = node.inputs[:2]
    n, c, ih, iw = x.shape
    oc, oh, ow = node.outputs[0].shape[1:]
    return ConvProblem(
        n=n,
        groups=p.groups,
        ic=c // p.groups,
        oc=oc // p.groups,
        ih=ih,
        iw=iw,
        oh=oh,
        ow=ow,
        kh=w.shape[-2],
        kw=w.shape[-1],
        stride_h=p.stride_h,
        stride_w=p.stride_w,
        dilate_h=p.dilate_h,
        dilate_w=p.dilate_w,
        pad_h=p.pad_h,
        pad_w=p.pad_w,
        kernels=ctx.kernels,
        plain_input=ctx.is_plain(x) and not ctx.is_blocked(x),
        precision=ctx.config.precision,
    )


def _emit_first(ctx: Lowering, node: Node, p: ConvProblem, x: Var, bias: Var | None, z: Var | None) -> None:
    xt = ctx.plain(x)
    zt = ctx.blocked(z) if z else None
    yt = ctx.new_blocked(node.outputs[0])
    ctx.emit(
        "conv_first_f32", node, x=xt.ref, w=packed_filter(ctx, node, ("pack_plain_input",), packing.pack_plain_input),
        bias=packed_bias(ctx, bias), z=zt.ref if zt else None, y=yt.ref, ic=p.ic, ih=p.ih, iw=p.iw,
        **blocked_strides("y", yt), **blocked_strides("z", zt), oc=p.oc, oh=p.oh, ow=p.ow, **window_arguments(p.window),
        **epilogue_arguments(node.params.activation), work=p.n * p.oh, scratch=first_scratch(p), flops=2 * p.products,
    )  # fmt: skip


def _emit_depthwise(ctx: Lowering, node: Node, p: ConvProblem, x: Var, bias: Var | None, z: Var | None) -> None:
    p, common = _along_blocks(ctx, node, p, x, bias, z)
    w = packed_filter(ctx, node, ("pack_depthwise",), packing.pack_depthwise)
    ctx.emit("conv_depthwise_f32", node, w=w, y_pixel=ctx.width, ih=p.ih, iw=p.iw, **common)


def _emit_group(ctx: Lowering, node: Node, p: ConvProblem, x: Var, bias: Var | None, z: Var | None) -> None:
    p, common = _along_blocks(ctx, node, p, x, bias, z)
    w = packed_filter(ctx, node, ("pack_group",), packing.pack_group)
    ctx.emit("conv_group_f32", node, w=w, channels=p.ic, **common)


def _emit_halves(ctx: Lowering, node: Node, p: ConvProblem, x: Var, bias: Var | None, z: Var | None) -> None:
    """Pairs of groups; a group that is left over is a convolution of its own."""
    xt = ctx.blocked(x, p.pad_h, p.pad_w)
    zt = ctx.blocked(z) if z else None
    yt = ctx.new_blocked(node.outputs[0])
    p = along_rows(p, xt, zt, yt)
    pairs, *rest = group_runs(p)
    bias_ref = packed_bias(ctx, bias)
    w = packed_filter(
        ctx, node, ("pack_halves",), lambda a, kernels, threads: packing.pack_halves(a[pairs.members], kernels, threads)
    )
    ctx.emit(
        "conv_halves_f32", node, x=xt.ref, w=w, bias=bias_ref, z=zt.ref if zt else None, y=yt.ref,
        **blocked_strides("x", xt), **blocked_strides("y", yt), **blocked_strides("z", zt), pairs=pairs.groups,
        oh=p.oh, ow=p.ow, **window_arguments(p.window), **epilogue_arguments(node.params.activation),
        work=p.n * pairs.groups * p.oh, flops=2 * replace(p, groups=2 * pairs.groups).products,
    )  # fmt: skip
    emit_runs(ctx, node, p, rest, xt, ctx.weights, bias_ref, zt, yt)


def _along_blocks(
    ctx: Lowering, node: Node, p: ConvProblem, x: Var, bias: Var | None, z: Var | None
) -> tuple[ConvProblem, dict[str, Any]]:
    """For kernels whose blocks of outputs read one block of inputs each: the problem along rows, and the arguments that
    they have in common."""
    xt = ctx.blocked(x, p.pad_h, p.pad_w)
    zt = ctx.blocked(z) if z else None
    yt = ctx.new_blocked(node.outputs[0])
    p = along_rows(p, xt, zt, yt)
    common = {
        "x": xt.ref,
        "bias": packed_bias(ctx, bias),
        "z": zt.ref if zt else None,
        "y": yt.ref,
        **blocked_strides("x", xt),
        **blocked_strides("y", yt),
        **blocked_strides("z", zt),
        "blocks": xt.blocks,
        "oh": p.oh,
        "ow": p.ow,
        **window_arguments(p.window),
        **epilogue_arguments(node.params.activation),
        "work": p.n * xt.blocks * p.oh,
        "flops": 2 * p.products,
    }
    return p, common


def _emit_plain(ctx: Lowering, node: Node, p: ConvProblem, x: Var, bias: Var | None, z: Var | None) -> None:
    w = node.inputs[1].constant
    if node.params.mirrored:
        w = mirrored_filter(ctx, w)
    emit_plain(
        ctx, node, p.groups, p.ic, p.oc, x, ctx.constant(w), (1, p.kh, p.kw), (1, p.stride_h, p.stride_w),
        (1, p.dilate_h, p.dilate_w), (0, p.pad_h, p.pad_w), bias, z, node.params.activation,
    )  # fmt: skip


_EMIT: dict[str, Callable[..., None]] = {
    "conv_direct_f32": emit_direct,
    "conv_taps_f32": emit_taps,
    "conv_first_f32": _emit_first,
    "conv_depthwise_f32": _emit_depthwise,
    "conv_group_f32": _emit_group,
    "conv_halves_f32": _emit_halves,
    "conv_plain_f32": _emit_plain,
    "conv_winograd4_f32": partial(emit_winograd, m=4),
    "conv_winograd2_f32": partial(emit_winograd, m=2),
    "conv_dilated_winograd4_f32": partial(emit_dilated, m=4),
    "conv_dilated_winograd2_f32": partial(emit_dilated, m=2),
}
