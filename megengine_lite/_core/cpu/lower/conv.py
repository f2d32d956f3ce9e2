"""Convolution in float32: choice of the algorithm, packed weights, kernel calls."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial

import numpy as np

from megengine_lite._core.compile.passes.fuse_conv import as_fused_conv
from megengine_lite._core.cpu.algorithms.algorithm import Algorithm, check_other_way
from megengine_lite._core.cpu.algorithms.convolution import (
    CONV_F32,
    ConvProblem,
    WinogradPlan,
    depthwise_scratch,
    first_scratch,
    merged_groups,
)
from megengine_lite._core.cpu.algorithms.fast_run import select
from megengine_lite._core.cpu.kernel_set import KernelSet
from megengine_lite._core.cpu.lower.conv_plain import emit_plain, lower_plain_conv
from megengine_lite._core.cpu.lower.window import window_arguments
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.packing import float32 as packing
from megengine_lite._core.cpu.steps import Ref, Tensor, blocked_strides, epilogue_arguments
from megengine_lite._core.ir.fused import FusedConv
from megengine_lite._core.ir.graph import Node, Var
from megengine_lite.kernels.common.shared_constants import TILE_BLOCKS, Weights, weight_bytes

# Of a core's second-level cache: what one pass over weights or inputs may fill.
PASS_BYTES = 512 * 1024
# Planes of so many pixels, or a multiple: in blocks of 8 channels, half a page. Those of few channels have room.
CROWDED_PIXELS, FEW_CHANNELS = 64, 64
# Output pixels of a work item, roughly: shorter rows are joined where they can be, longer ones cut.
MIN_ROW = 96
MAX_ROW = 256
MOST_JOINED = 4096  # rows; among more no divisor is looked for


def halo_wish(node: Node, index: int) -> tuple[int, int]:
    """The padding; or rows that keep the planes apart which a pointwise filter reads one after another.

    Planes of 56 x 56 pixels in blocks of 8 channels lie 24.5 pages apart: a pixel's channels share a few sets of the
    first cache, and oust each other.
    """
    if index:
        return 0, 0
    p = node.params
    x, w = node.inputs[0].shape, node.inputs[1].shape
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


def plain_filter(weight: np.ndarray, mirrored: bool) -> np.ndarray:
    """The filter as (groups, oc per group, ic per group, kh, kw), not mirrored."""
    weight = weight if weight.ndim == 5 else weight[None]
    return weight[..., ::-1, ::-1] if mirrored else weight


def _packed_filter(
    ctx: Lowering, node: Node, recipe: tuple[Hashable, ...], pack: Callable[[np.ndarray, KernelSet, int], np.ndarray]
) -> Ref:
    p: FusedConv = node.params
    kernels, threads, mirrored = ctx.kernels, ctx.config.threads, p.mirrored
    packed = ctx.pool.derive(
        (*recipe, kernels.width, mirrored), [node.inputs[1].constant],
        lambda a: pack(plain_filter(a, mirrored), kernels, threads),
    )  # fmt: skip
    return ctx.constant(packed)


def _packed_bias(ctx: Lowering, bias: Var | None, groups: int) -> Ref | None:
    if bias is None:
        return None
    width, pad = ctx.width, packing.pad_channels
    recipe = ("pad_channels", groups, width)
    return ctx.constant(ctx.pool.derive(recipe, [bias.constant], lambda b: pad(b, groups, width)))


def _along_rows(p: ConvProblem, *tensors: Tensor | None) -> ConvProblem:
    """The problem for kernels, which are fast along rows: a single column is one row, as its pixels are neighbours."""
    is_column = p.iw == p.ow == p.kw == 1 < p.oh and p.pad_w == 0
    return p.transposed() if is_column and all(t is None or t.halo_w == 0 for t in tensors) else p


def _emit_direct(ctx: Lowering, node: Node, p: ConvProblem, x: Var, bias: Var | None, z: Var | None) -> None:
    m = merged_groups(p)
    groups, ic, oc = p.groups // m, p.ic * m, p.oc * m
    xt = ctx.blocked(x, p.pad_h, p.pad_w)
    zt = ctx.blocked(z) if z else None
    yt = ctx.new_blocked(node.outputs[0])
    p = _along_rows(p, xt, zt, yt)
    joined = joined_rows(p, xt, zt)
    run = p.ow if joined > 1 and yt.halo_w else 0
    oh, ow = p.oh // joined, p.ow * joined
    chunks = -(-ow // MAX_ROW)
    tiles = groups * -(-p.blocks(oc) // TILE_BLOCKS)
    x_bytes = xt.image * 4
    weights = ctx.weights
    w_bytes = weight_bytes(weights) * groups * p.blocks(oc) * ctx.width * ic * p.kh * p.kw

    def pack(array: np.ndarray, kernels: KernelSet, threads: int) -> np.ndarray:
        return packing.pack_direct(packing.merge_groups(array, m), kernels, threads, weights)

    ctx.emit(
        "conv_direct_f32", node, x=xt.ref, w=_packed_filter(ctx, node, ("pack_direct", m, weights), pack),
        weights=weights, bias=_packed_bias(ctx, bias, groups), z=zt.ref if zt else None, y=yt.ref,
        **blocked_strides("x", xt, joined), y_pixel=ctx.width, run=run,
        **blocked_strides("y", yt, 1 if run else joined), **blocked_strides("z", zt, joined),
        groups=groups, ic=ic, oc=oc, oh=oh, ow=ow, **window_arguments(p.window),
        band=rows_in_band(oh, tiles, x_bytes, w_bytes), chunks=chunks, **epilogue_arguments(node.params.activation),
        work=p.n * tiles * oh * chunks, flops=2 * p.products,
    )  # fmt: skip


def joined_rows(p: ConvProblem, *tensors: Tensor | None) -> int:
    """How many rows are computed as one: several where filters are pointwise and rows follow without a gap."""
    pointwise = p.kh == p.kw == p.stride_h == p.stride_w == 1 and not (p.pad_h or p.pad_w)
    if not pointwise or any(t is not None and t.halo_w for t in tensors):
        return 1
    wanted = range(1, min(p.oh, MOST_JOINED) + 1)
    return next((r for r in wanted if p.oh % r == 0 and (r * p.ow >= MIN_ROW or r == p.oh)), 1)


def rows_in_band(oh: int, tiles: int, x_bytes: int, w_bytes: int) -> int:
    """Rows that are computed for all tiles before the next rows: what moves less memory into the cache."""
    if oh == 1 or x_bytes <= PASS_BYTES:
        return oh
    bands = -(-2 * x_bytes // PASS_BYTES)
    by_bands = x_bytes + (w_bytes if w_bytes <= PASS_BYTES else bands * w_bytes)
    by_tiles = w_bytes + tiles * x_bytes
    return max(1, oh // bands) if by_bands < by_tiles else oh


def _emit_first(ctx: Lowering, node: Node, p: ConvProblem, x: Var, bias: Var | None, z: Var | None) -> None:
    xt = ctx.plain(x)
    zt = ctx.blocked(z) if z else None
    yt = ctx.new_blocked(node.outputs[0])
    ctx.emit(
        "conv_first_f32", node, x=xt.ref, w=_packed_filter(ctx, node, ("pack_plain_input",), packing.pack_plain_input),
        bias=_packed_bias(ctx, bias, 1), z=zt.ref if zt else None, y=yt.ref, ic=p.ic, ih=p.ih, iw=p.iw,
        **blocked_strides("y", yt), **blocked_strides("z", zt), oc=p.oc, oh=p.oh, ow=p.ow, **window_arguments(p.window),
        **epilogue_arguments(node.params.activation), work=p.n * p.oh, scratch=first_scratch(p), flops=2 * p.products,
    )  # fmt: skip


def _emit_depthwise(ctx: Lowering, node: Node, p: ConvProblem, x: Var, bias: Var | None, z: Var | None) -> None:
    xt = ctx.blocked(x, p.pad_h, p.pad_w)
    zt = ctx.blocked(z) if z else None
    yt = ctx.new_blocked(node.outputs[0])
    p = _along_rows(p, xt, zt, yt)
    ctx.emit(
        "conv_depthwise_f32", node, x=xt.ref,
        w=_packed_filter(ctx, node, ("pack_depthwise",), packing.pack_depthwise), bias=_packed_bias(ctx, bias, 1),
        z=zt.ref if zt else None, y=yt.ref, y_pixel=ctx.width, **blocked_strides("x", xt), **blocked_strides("y", yt),
        **blocked_strides("z", zt), blocks=xt.blocks, oh=p.oh, ow=p.ow, **window_arguments(p.window),
        **epilogue_arguments(node.params.activation), work=p.n * xt.blocks * p.oh,
        scratch=depthwise_scratch(p), flops=2 * p.products,
    )  # fmt: skip


def _emit_winograd(ctx: Lowering, node: Node, p: ConvProblem, x: Var, bias: Var | None, z: Var | None, m: int) -> None:
    plan = WinogradPlan.make(p, m, ctx.config.threads)
    weights = ctx.weights
    if weights is Weights.BFLOAT16:  # the output transform would magnify its errors
        weights = Weights.FLOAT16 if ctx.kernels.isa.widens_float16 else Weights.FLOAT32

    def pack(array: np.ndarray, kernels: KernelSet, threads: int) -> np.ndarray:
        return packing.pack_winograd(array, m, kernels, threads, weights)

    xt = ctx.blocked(x, p.pad_h, p.pad_w)
    zt = ctx.blocked(z) if z else None
    yt = ctx.new_blocked(node.outputs[0])
    ctx.emit(
        f"conv_winograd{m}_f32", node, x=xt.ref,
        w=_packed_filter(ctx, node, ("pack_winograd", m, weights), pack), weights=weights,
        bias=_packed_bias(ctx, bias, 1), z=zt.ref if zt else None, y=yt.ref, **blocked_strides("x", xt),
        x_bottom=p.ih + xt.halo_h, x_right=p.iw + xt.halo_w, **blocked_strides("y", yt), **blocked_strides("z", zt),
        ic=p.ic, oc=p.oc, oh=p.oh, ow=p.ow, pad_h=p.pad_h, pad_w=p.pad_w, tile_blocks=plan.tile_blocks,
        parts=plan.parts, **epilogue_arguments(node.params.activation), work=p.n * plan.tile_blocks * plan.parts,
        scratch=plan.scratch(p), flops=2 * p.products,
    )  # fmt: skip


def _emit_plain(ctx: Lowering, node: Node, p: ConvProblem, x: Var, bias: Var | None, z: Var | None) -> None:
    w = node.inputs[1].constant
    if node.params.mirrored:
        w = ctx.pool.derive(("mirror",), [w], lambda a: np.ascontiguousarray(plain_filter(a, True)))
    emit_plain(
        ctx, node, p.groups, p.ic, p.oc, x, ctx.constant(w), (1, p.kh, p.kw), (1, p.stride_h, p.stride_w),
        (1, p.dilate_h, p.dilate_w), (0, p.pad_h, p.pad_w), bias, z, node.params.activation,
    )  # fmt: skip


_EMIT: dict[str, Callable[..., None]] = {
    "conv_direct_f32": _emit_direct,
    "conv_first_f32": _emit_first,
    "conv_depthwise_f32": _emit_depthwise,
    "conv_plain_f32": _emit_plain,
    "conv_winograd4_f32": partial(_emit_winograd, m=4),
    "conv_winograd2_f32": partial(_emit_winograd, m=2),
}
