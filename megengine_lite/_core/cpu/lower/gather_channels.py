"""ChannelGather: channel shuffles, unaligned concatenations and splits of blocked tensors in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from megengine_lite._core.cpu.lower.copying import emit_concat, emit_gather, view_of
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.placement import is_concatenation
from megengine_lite._core.cpu.steps import Tensor
from megengine_lite._core.ir.graph import Constant, Node

_Sources = dict[tuple[int, int], list[int]]
"""Of one output block: input and block of it -> for each output lane the lane that it comes from, or -1."""

MAX_TABLED_CHANNELS = 1024
_KERNELS = {4: "gather_channels_blocked_f32", 1: "gather_channels_blocked_8"}  # by size of an element


def lower_channel_gather(ctx: Lowering, node: Node) -> None:
    """Blocked if an input is blocked already; one source in order and on block borders is a view."""
    y = node.outputs[0]
    if is_concatenation(node):
        _lower_concatenation(ctx, node)
        return
    blocks = None
    if any(ctx.is_blocked(v) for v in node.inputs):
        blocks = _source_blocks(ctx, node)
    if blocks is None:
        emit_gather(
            ctx, node, [view_of(ctx.plain(v)) for v in node.inputs], view_of(ctx.new_plain(y)), node.params.sources()
        )
    else:
        _emit_gather(ctx, node, blocks)


def _emit_gather(ctx: Lowering, node: Node, blocks: list[_Sources]) -> None:
    y = node.outputs[0]
    xs = [ctx.blocked(v) for v in node.inputs]
    halo_h, halo_w = ctx.halo(y)
    if _is_slice(node, ctx.width) and halo_h <= xs[0].halo_h and halo_w <= xs[0].halo_w:
        ctx.alias_blocked(y, xs[0].slice_blocks(y.spec, node.params.runs[0].first // ctx.width))
        return
    out = ctx.new_blocked(y)
    table, lanes = _tables(ctx, blocks, xs)
    refs = {f"x{k}": xs[k].ref if k < len(xs) else None for k in range(_limits(ctx).MAX_TENSORS)}
    ctx.emit(
        _KERNELS[y.dtype.itemsize],
        node,
        **refs,
        table=ctx.constant(Constant(table, ("gather table", id(node)))),
        lanes=ctx.constant(Constant(lanes, ("gather lanes", id(node)))),
        y=out.ref,
        blocks=out.blocks,
        h=out.h,
        w=out.w,
        row=out.row,
        plane=out.plane,
        image=out.image,
        work=out.n * out.blocks * out.h,
    )


def _lower_concatenation(ctx: Lowering, node: Node) -> None:
    """Works on blocks if an operand does. Operands on block borders are in their place already, or are copied there."""
    y = node.outputs[0]
    if not any(ctx.is_blocked(v) for v in node.inputs):
        emit_concat(ctx, node, 1)
        return
    if any(v.shape[1] % ctx.width for v in node.inputs[:-1]):
        blocks = _source_blocks(ctx, node)
        if blocks is None:
            emit_concat(ctx, node, 1)
        else:
            _emit_gather(ctx, node, blocks)
        return
    whole = ctx.place_of(y)
    first = 0
    for v in node.inputs:
        x = ctx.blocked(v)
        place = whole.slice_blocks(v.spec, first)
        if not ctx.is_written_to(v, place):
            ctx.copy_blocked(x, place, v)
        first += v.shape[1] // ctx.width
    ctx.alias_blocked(y, whole)


def _is_slice(node: Node, width: int) -> bool:
    if len(node.params.runs) != 1:
        return False
    _, first, step, count = node.params.runs[0]
    return bool(step == 1 and first % width == 0 and (count % width == 0 or first + count == node.inputs[0].shape[1]))


def _limits(ctx: Lowering) -> Any:
    """The kernel's module, which exports how much it takes."""
    return ctx.kernels.module("gather_channels")


def _source_blocks(ctx: Lowering, node: Node) -> list[_Sources] | None:
    """For every output block what it comes from; None if the kernel does not help.

    There is none for elements of 16 bits; a node may have too many inputs, or a block too many sources; or the tables
    would be as large as what is moved.
    """
    limits, width = _limits(ctx), ctx.width
    if node.outputs[0].dtype.itemsize not in _KERNELS or len(node.inputs) > limits.MAX_TENSORS:
        return None
    if node.params.channels > MAX_TABLED_CHANNELS:
        return None
    sources = node.params.sources()
    blocks = []
    for first in range(0, len(sources), width):
        entries: _Sources = {}
        for lane, (tensor, channel) in enumerate(sources[first : first + width]):
            key = tensor, channel // width
            if key not in entries:
                entries[key] = [-1] * width
            entries[key][lane] = channel % width
        if len(entries) > limits.MAX_SOURCES:
            return None
        blocks.append(entries)
    return blocks


def _tables(ctx: Lowering, blocks: list[_Sources], xs: list[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """The kernel's tables: (tensor, block, row, plane, image) of each source, and its lane numbers."""
    limits = _limits(ctx)
    table = np.full((len(blocks), limits.MAX_SOURCES, limits.SOURCE), -1, np.int64)
    lanes = np.full((len(blocks), limits.MAX_SOURCES, ctx.width), -1, np.int32)
    for k, entries in enumerate(blocks):
        table[k, : len(entries)] = [(t, block, xs[t].row, xs[t].plane, xs[t].image) for t, block in entries]
        lanes[k, : len(entries)] = list(entries.values())
    return table, lanes
