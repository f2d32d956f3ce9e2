"""Reshaping, transposing, joining, splitting and padding: views where the layout allows it, else one copy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from megengine_lite._core.cpu.lower.copying import (
    View,
    emit_concat,
    emit_copy,
    emit_fill,
    emit_views,
    numpy_views,
    view_of,
)
from megengine_lite._core.cpu.lower.gather_channels import lower_channel_gather
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref
from megengine_lite._core.ir.fused import ChannelGather
from megengine_lite._core.ir.graph import Node, Var
from megengine_lite._core.ir.params import PaddingMode
from megengine_lite._core.operators.shape import Padding
from megengine_lite._core.system.memory import MAX_NDIM
from megengine_lite.kernels.common.shared_constants import MAX_DIMS


def lower_pass_through(ctx: Lowering, node: Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    if len(y.shape) == 4 and ctx.is_blocked(x):
        ctx.alias_blocked(y, ctx.blocked(x))
    if not ctx.is_blocked(x) or ctx.is_plain(x):
        ctx.alias(y, ctx.plain(x))


def lower_reshape(ctx: Lowering, node: Node) -> None:
    ctx.alias(node.outputs[0], ctx.plain(node.inputs[0]))


def lower_view(ctx: Lowering, node: Node) -> bool | None:
    views = numpy_views(ctx, node)
    if views is None:
        return False
    emit_views(ctx, node, views)
    return None


def lower_tile(ctx: Lowering, node: Node) -> bool | None:
    """Each axis of the output is two: how often, and the axis of the data."""
    x, y = node.inputs[0], node.outputs[0]
    numbers = node.inputs[1].spec.value
    if numbers is None or not y.spec.size:
        return False
    shape = tuple(n for pair in zip(numbers.tolist(), x.shape, strict=True) for n in pair)
    if sum(n > 1 for n in shape) > MAX_DIMS:
        return False
    source = view_of(ctx.plain(x))
    strides = tuple(s for stride in source.strides for s in (0, stride))
    out = ctx.new_plain(y)
    emit_copy(
        ctx, node, View(source.ref, shape, strides, source.item),
        View(out.ref, shape, _dense(shape, source.item), source.item),
    )  # fmt: skip
    return None


# ---- transposition ---------------------------------------------------------------------------------------------------


def lower_dimshuffle(ctx: Lowering, node: Node) -> bool | None:
    """Straight from a blocked tensor where its channels fill their blocks: a block is then one more dimension."""
    x, y = node.inputs[0], node.outputs[0]
    pattern = node.params.pattern
    if ctx.is_plain(x) or not _is_whole_blocks(ctx, x) or sorted(pattern) != [0, 1, 2, 3]:
        views = numpy_views(ctx, node)
        if views is None:
            return False
        emit_views(ctx, node, views)
        return None
    source = view_of(ctx.blocked(x))
    # axes of the blocked tensor (image, block, row, pixel, lane) in the order of the output
    order = [a for p in pattern for a in {0: (0,), 1: (1, 4), 2: (2,), 3: (3,)}[p]]
    moved = source.transpose(order)
    out = ctx.new_plain(y)
    dense = View(out.ref, moved.shape, _dense(moved.shape, moved.item), moved.item)
    emit_copy(ctx, node, moved, dense)
    return None


def _is_whole_blocks(ctx: Lowering, x: Var) -> bool:
    return len(x.shape) == 4 and ctx.is_blocked(x) and x.shape[1] % ctx.width == 0


def _dense(shape: tuple[int, ...], item: int) -> tuple[int, ...]:
    return tuple(item * math.prod(shape[k + 1 :]) for k in range(len(shape)))


# ---- concatenation ---------------------------------------------------------------------------------------------------


def lower_concat(ctx: Lowering, node: Node) -> None:
    """Blocked along channels where an operand is blocked."""
    y = node.outputs[0]
    axis = node.params.axis % len(y.shape)
    full = [v for v in node.inputs if v.spec.size]
    if len(y.shape) == 4 and axis == 1 and len(full) > 1 and any(ctx.is_blocked(v) for v in full):
        params = ChannelGather.concatenation(v.shape[1] for v in full)
        lower_channel_gather(ctx, Node("ChannelGather", params, full, node.outputs, node.name))
    else:
        emit_concat(ctx, node, axis)


# ---- padding ---------------------------------------------------------------------------------------------------------


def lower_padding(ctx: Lowering, node: Node) -> bool | None:
    """The inside is copied; borders are then filled axis by axis from what is there already."""
    x, y = node.inputs[0], node.outputs[0]
    ndim = len(x.shape)
    offsets = Padding.offsets(node)[:ndim]
    constant = node.params.padding_mode == PaddingMode.CONSTANT
    blocked = not constant and ctx.is_blocked(x) and not ctx.is_plain(x) and offsets[1] == (0, 0)
    if blocked:
        source, out = ctx.blocked(x), ctx.new_blocked(y)
        offsets = [*offsets, (0, 0)]
    else:
        source, out = ctx.plain(x), ctx.new_plain(y)
    if constant:
        emit_fill(ctx, node, out, Padding.constant(node, x.spec))
    inside = _copy_inside(ctx, node, view_of(source), view_of(out), offsets)
    if not constant:
        _fill_borders(ctx, node, inside, offsets, node.params.padding_mode == PaddingMode.REFLECT)
    return None


def lower_computed_padding(ctx: Lowering, node: Node) -> bool | None:
    """Repeats the elements at the edges, or one number; where a width is negative, elements are cut off before."""
    x, _, value = node.inputs
    y = node.outputs[0]
    numbers = node.inputs[1].spec.value
    ndim = len(x.shape)
    if numbers is None or ndim > MAX_NDIM:
        return False
    widths = list(zip(numbers[:ndim].tolist(), numbers[ndim:].tolist(), strict=True))
    if any(size + min(front, 0) + min(back, 0) < 0 for size, (front, back) in zip(x.shape, widths, strict=True)):
        return False  # one side cuts off what the other one adds
    source = view_of(ctx.plain(x))
    offsets = []
    for axis, (front, back) in enumerate(widths):
        cut = max(-front, 0)
        source = source.slice(axis, cut, source.shape[axis] - cut - max(-back, 0))
        offsets.append((max(front, 0), max(back, 0)))
    inside = _copy_inside(ctx, node, source, view_of(ctx.new_plain(y)), offsets)
    if node.params.mode == "edge":
        _fill_borders(ctx, node, inside, offsets, reflect=False)
    else:
        _fill_borders_with(ctx, node, inside, offsets, ctx.plain(value).ref)
    return None


def _copy_inside(ctx: Lowering, node: Node, source: View, whole: View, offsets: Sequence[tuple[int, int]]) -> View:
    """Copies what is between the borders, and returns where it lies."""
    inside = whole
    for axis, (front, _) in enumerate(offsets):
        inside = inside.slice(axis, front, source.shape[axis])
    emit_copy(ctx, node, source, inside)
    return inside


def _borders(inside: View, offsets: Sequence[tuple[int, int]]) -> Iterator[tuple[View, int, bool, View]]:
    """Of each border what is beside it, along which axis, whether it is in front of that, and the border itself."""
    done = inside  # grows by one axis at a time
    for axis, (front, back) in enumerate(offsets):
        extent = done.shape[axis]
        grown = done.slice(axis, -front, front + extent + back)
        if front:
            yield done, axis, True, grown.slice(axis, 0, front)
        if back:
            yield done, axis, False, grown.slice(axis, front + extent, back)
        done = grown


def _fill_borders_with(ctx: Lowering, node: Node, inside: View, offsets: Sequence[tuple[int, int]], value: Ref) -> None:
    """Borders of one number that is computed when the model runs."""
    for _, _, _, border in _borders(inside, offsets):
        emit_copy(ctx, node, View(value, border.shape, (0,) * len(border.shape), border.item), border)


def _fill_borders(ctx: Lowering, node: Node, inside: View, offsets: Sequence[tuple[int, int]], reflect: bool) -> None:
    """Borders of what is inside: the elements at its edges, or those before them."""
    for done, axis, is_front, border in _borders(inside, offsets):
        length, last = border.shape[axis], done.shape[axis] - 1
        if reflect:
            edge = done.slice(axis, length if is_front else last - 1, length, -1)
        else:
            edge = done.slice(axis, 0 if is_front else last, length, 0)
        emit_copy(ctx, node, edge, border)
