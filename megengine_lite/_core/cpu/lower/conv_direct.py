"""Direct float32 convolution: one call of ``conv_direct``, or one for each place of the filter."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np

from megengine_lite._core.cpu.algorithms.convolution import (
    ConvProblem,
    GroupPart,
    GroupRun,
    group_parts,
    group_runs,
)
from megengine_lite._core.cpu.algorithms.taps import FilterTap, TapPlan
from megengine_lite._core.cpu.kernel_set import KernelSet
from megengine_lite._core.cpu.lower.window import window_arguments
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.packing import float32 as packing
from megengine_lite._core.cpu.steps import Ref, Tensor, blocked_strides, epilogue_arguments
from megengine_lite._core.ir.fused import NO_ACTIVATION, Activation, FusedConv
from megengine_lite._core.ir.graph import Constant, Node, Var
from megengine_lite._records import replace
from megengine_lite.kernels.common.shared_constants import TILE_BLOCKS, Weights, weight_bytes

# Of a core's second-level cache: what one pass over weights or inputs may fill.
PASS_BYTES = 512 * 1024
# Output pixels of a work item, roughly: shorter rows are joined where they can be, longer ones cut.
MIN_ROW = 96
MAX_ROW = 256
MOST_JOINED = 4096  # rows; among more no divisor is looked for


def plain_filter(weight: np.ndarray, mirrored: bool) -> np.ndarray:
    """The filter as (groups, oc per group, ic per group, kh, kw), not mirrored."""
    weight = weight if weight.ndim == 5 else weight[None]
    return weight[..., ::-1, ::-1] if mirrored else weight


def mirrored_filter(ctx: Lowering, weight: Constant) -> Constant:
    """A filter turned around, as a constant of its own."""
    return ctx.pool.derive(("mirror",), [weight], lambda a: np.ascontiguousarray(plain_filter(a, True)))


def packed_filter(
    ctx: Lowering, node: Node, recipe: tuple[Hashable, ...], pack: Callable[[np.ndarray, KernelSet, int], np.ndarray]
) -> Ref:
    p: FusedConv = node.params
    kernels, threads, mirrored = ctx.kernels, ctx.config.threads, p.mirrored
    packed = ctx.pool.derive(
        (*recipe, kernels.width, mirrored), [node.inputs[1].constant],
        lambda a: pack(plain_filter(a, mirrored), kernels, threads),
    )  # fmt: skip
    return ctx.constant(packed)


def packed_bias(ctx: Lowering, bias: Var | None) -> Ref | None:
    if bias is None:
        return None
    width, pad = ctx.width, packing.pad_channels
    return ctx.constant(ctx.pool.derive(("pad_channels", width), [bias.constant], lambda b: pad(b, 1, width)))


def along_rows(p: ConvProblem, *tensors: Tensor | None) -> ConvProblem:
    """The problem for kernels, which are fast along rows: a single column is one row, as its pixels are neighbours."""
    is_column = p.iw == p.ow == p.kw == 1 < p.oh and p.pad_w == 0
    return p.transposed() if is_column and all(t is None or t.halo_w == 0 for t in tensors) else p


def emit_direct(ctx: Lowering, node: Node, p: ConvProblem, x: Var, bias: Var | None, z: Var | None) -> None:
    xt = ctx.blocked(x, p.pad_h, p.pad_w)
    zt = ctx.blocked(z) if z else None
    yt = ctx.new_blocked(node.outputs[0])
    p = along_rows(p, xt, zt, yt)
    runs = group_runs(p)
    in_pairs = p.in_pairs and all(len(part.inputs) % 2 == 0 for run in runs for part in group_parts(p, run))
    pairs = ctx.blocked_pairs(node, x, xt) if in_pairs else None
    weights = ctx.weights if pairs is None else Weights.BFLOAT16_PAIRS
    emit_runs(ctx, node, p, runs, pairs or xt, weights, packed_bias(ctx, bias), zt, yt)


def emit_runs(
    ctx: Lowering, node: Node, p: ConvProblem, runs: list[GroupRun], x: Tensor, weights: Weights, bias: Ref | None,
    z: Tensor | None, y: Tensor,
) -> None:  # fmt: skip
    """Some groups of a convolution."""
    for run in runs:
        for part in group_parts(p, run):
            _emit_part(ctx, node, p, run, part, x, weights, bias, z, y)


def _emit_part(
    ctx: Lowering, node: Node, p: ConvProblem, run: GroupRun, part: GroupPart, x: Tensor, weights: Weights,
    bias: Ref | None, z: Tensor | None, y: Tensor,
) -> None:  # fmt: skip
    """A part of the outputs of all groups of a run."""
    first = run.first * p.oc + part.outputs.start
    block = first // p.width
    smaller = replace(p, groups=run.groups, ic=len(part.inputs), oc=len(part.outputs))
    _emit_call(
        ctx, node, smaller, moved(x, block=(run.first * p.ic + part.inputs.start) // p.width),
        _packed_part(ctx, node, run, part, weights), weights, bias + 4 * first if bias else None,
        moved(z, block=block) if z else None, moved(y, block=block), node.params.activation, joined_rows(smaller, x, z),
        replace(smaller, ic=p.ic).products, (p.blocks(p.ic * run.merged), p.blocks(p.oc * run.merged)),
    )  # fmt: skip


def _packed_part(ctx: Lowering, node: Node, run: GroupRun, part: GroupPart, weights: Weights) -> Ref:
    def pack(array: np.ndarray, kernels: KernelSet, threads: int) -> np.ndarray:
        merged = packing.merge_groups(array[run.members], run.merged, part.outputs, part.inputs)
        return packing.pack_direct(merged, kernels, threads, weights)

    return packed_filter(ctx, node, ("pack_direct", run, part, weights), pack)


def emit_taps(ctx: Lowering, node: Node, p: ConvProblem, x: Var, bias: Var | None, z: Var | None) -> None:
    """Adds up pointwise convolutions in the output: of each place of the filter, for the pixels that it meets.

    Bias and activation are for all pixels, and so is the last convolution: that of a place which meets all of them.
    If there are other places, it comes first, too, and half of the channels are left for the end.
    """
    xt = ctx.blocked(x)
    zt = ctx.blocked(z) if z else None
    yt = ctx.new_blocked(node.outputs[0])
    taps = TapPlan.make(p).taps
    for k, tap in enumerate(taps):
        is_last = k + 1 == len(taps)
        rows, columns = tap.rows, tap.columns
        part = replace(
            p, ic=min(tap.blocks * p.width, p.ic - tap.first_block * p.width), oh=rows.count, ow=columns.count, kh=1,
            kw=1, dilate_h=1, dilate_w=1, pad_h=0, pad_w=0,
        )  # fmt: skip
        inputs = moved(xt, rows.source, columns.source, tap.first_block)
        outputs = moved(yt, rows.first, columns.first)
        sums = zt if k == 0 else yt
        added = moved(sums, rows.first, columns.first) if sums else None
        joined = joined_rows(part, xt, added) if columns.count == xt.w else 1
        bias_ref = packed_bias(ctx, bias) if is_last else None
        activation = node.params.activation if is_last else NO_ACTIVATION
        w = _packed_tap(ctx, node, tap, part.ic)
        _emit_call(ctx, node, part, inputs, w, ctx.weights, bias_ref, added, outputs, activation, joined, part.products)


def _packed_tap(ctx: Lowering, node: Node, tap: FilterTap, channels: int) -> Ref:
    first, weights, width = tap.first_block, ctx.weights, ctx.width

    def pack(array: np.ndarray, kernels: KernelSet, threads: int) -> np.ndarray:
        chosen = array[:, :, first * width : first * width + channels, tap.kh : tap.kh + 1, tap.kw : tap.kw + 1]
        return packing.pack_direct(chosen, kernels, threads, weights)

    return packed_filter(ctx, node, ("pack_tap", tap.kh, tap.kw, first, channels, weights), pack)


def moved(tensor: Tensor, row: int = 0, column: int = 0, block: int = 0) -> Tensor:
    """The tensor as a kernel sees it that begins at another pixel and channel block."""
    step = block * tensor.plane + row * tensor.row + column * tensor.width
    return replace(tensor, ref=tensor.ref + tensor.spec.dtype.itemsize * step)


def _emit_call(
    ctx: Lowering, node: Node, p: ConvProblem, x: Tensor, w: Ref, weights: Weights, bias: Ref | None,
    z: Tensor | None, y: Tensor, activation: Activation, joined: int, products: int,
    groups_apart: tuple[int, int] = (0, 0),
) -> None:  # fmt: skip
    """A call of the kernel for the outputs that ``p`` has, with ``joined`` rows as one. ``products`` are wanted.
    ``groups_apart``: channel blocks from a group to the next, of inputs and outputs."""
    run = p.ow if joined > 1 and y.halo_w else 0
    oh, ow = p.oh // joined, p.ow * joined
    chunks = -(-ow // MAX_ROW)
    tiles = p.groups * -(-p.blocks(p.oc) // TILE_BLOCKS)
    x_bytes = read_bytes(p, 4 * x.image)
    w_bytes = weight_bytes(weights) * p.groups * p.blocks(p.oc) * ctx.width * p.ic * p.kh * p.kw
    ctx.emit(
        "conv_direct_f32", node, x=x.ref, w=w, weights=weights, bias=bias, z=z.ref if z else None, y=y.ref,
        **blocked_strides("x", x, joined), y_pixel=ctx.width, run=run, **blocked_strides("y", y, 1 if run else joined),
        **blocked_strides("z", z, joined), groups=p.groups, x_group=groups_apart[0], y_group=groups_apart[1],
        ic=p.ic // 2 if weights is Weights.BFLOAT16_PAIRS else p.ic, oc=p.oc, oh=oh, ow=ow,
        **window_arguments(p.window), band=rows_in_band(oh, tiles, x_bytes, w_bytes),
        chunks=chunks, **epilogue_arguments(activation), work=p.n * tiles * oh * chunks, flops=2 * products,
    )  # fmt: skip


def joined_rows(p: ConvProblem, *tensors: Tensor | None) -> int:
    """How many rows are computed as one: several where filters are pointwise and rows follow without a gap."""
    pointwise = p.kh == p.kw == p.stride_h == p.stride_w == 1 and not (p.pad_h or p.pad_w)
    if not pointwise or any(t is not None and t.halo_w for t in tensors):
        return 1
    wanted = range(1, min(p.oh, MOST_JOINED) + 1)
    return next((r for r in wanted if p.oh % r == 0 and (r * p.ow >= MIN_ROW or r == p.oh)), 1)


def read_bytes(p: ConvProblem, nbytes: int) -> int:
    """Of an image of so many bytes: without the pixels that a stride leaves out."""
    return nbytes * min(p.kh, p.stride_h) * min(p.kw, p.stride_w) // (p.stride_h * p.stride_w)


def rows_in_band(oh: int, tiles: int, x_bytes: int, w_bytes: int) -> int:
    """Rows that are computed for all tiles before the next rows: what moves less memory into the cache."""
    if oh == 1 or x_bytes <= PASS_BYTES:
        return oh
    band = max(1, oh * PASS_BYTES // (2 * x_bytes))
    by_bands = x_bytes + (w_bytes if w_bytes <= PASS_BYTES else -(-oh // band) * w_bytes)
    by_tiles = w_bytes + tiles * x_bytes
    return band if by_bands < by_tiles else oh
