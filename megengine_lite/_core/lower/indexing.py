"""Indexing with tensors."""

from __future__ import annotations

import math

import numpy as np

from megengine_lite._core.dtype import INT32
from megengine_lite._core.graph import Node
from megengine_lite._core.lower.context import Lowering, Ref, lowers
from megengine_lite._core.lower.copying import View, dense_strides, emit_copy, view_of
from megengine_lite._core.oprs.base import fail
from megengine_lite._core.oprs.index_selection import select

MAX_INDEXES = 4  # of the kernel


@lowers("IndexingMultiAxisVec")
def lower_take(ctx: Lowering, node: Node) -> bool | None:
    """Neighbouring axes indexed by tensors, everything behind them taken whole: copies of dense runs."""
    x, y = node.inputs[0], node.outputs[0]
    values = [v.const.array if v.const is not None else None for v in node.inputs]
    selection = select(node, x.shape, values, 1)
    axes = list(selection.indexes)
    if not axes or len(axes) > MAX_INDEXES or axes[-1] - axes[0] + 1 != len(axes) or selection.sliced != x.shape:
        return False
    if any(s.step is not None and s.step < 0 for s in selection.slices):
        return False
    indexes = [node.inputs[place] for place in selection.indexes.values()]
    if any(v.dtype != INT32 for v in indexes):
        return False
    picked = np.broadcast_shapes(*(v.shape for v in indexes))
    points = math.prod(picked)
    item = x.dtype.itemsize
    run = math.prod(x.shape[axes[-1] + 1 :]) * item
    outer = math.prod(x.shape[: axes[0]])
    strides = [math.prod(x.shape[a + 1 :]) * item for a in axes]
    refs = [_broadcast(ctx, node, view_of(ctx.plain(v)), picked) for v in indexes]
    fill = [0] * (MAX_INDEXES - len(axes))
    source = ctx.plain(x).ref
    ctx.emit(
        "gather_runs",
        node,
        x=source,
        y=ctx.new_plain(y).ref,
        fault=ctx.fault(str(fail(node, f"an index is out of range for data of shape {x.shape}"))),
        **{f"index{k}": refs[k] if k < len(refs) else None for k in range(MAX_INDEXES)},
        points=points,
        run=run,
        outer_stride=math.prod(x.shape[axes[0] :]) * item,
        indexes=len(axes),
        **{f"extent{k}": e for k, e in enumerate([*(x.shape[a] for a in axes), *fill])},
        **{f"stride{k}": s for k, s in enumerate([*strides, *fill])},
        work=outer * points,
    )
    return None


def _broadcast(ctx: Lowering, node: Node, view: View, shape: tuple[int, ...]) -> Ref:
    """The view itself, or a dense copy of it repeated to a shape."""
    if view.shape == shape:
        return view.ref
    missing = len(shape) - len(view.shape)
    strides = [0] * missing + [0 if n == 1 else s for n, s in zip(view.shape, view.strides, strict=True)]
    target = View(ctx.temp(math.prod(shape) * view.item), shape, (0,) * len(shape), view.item)
    dense = View(target.ref, shape, tuple(dense_strides(target)), view.item)
    emit_copy(ctx, node, View(view.ref, shape, tuple(strides), view.item), dense)
    return dense.ref


@lowers("IndexingOneHot")
def lower_one_hot(ctx: Lowering, node: Node) -> bool | None:
    x, index = node.inputs[:2]
    if index.dtype != INT32:
        return False
    axis = node.params.axis % len(x.shape)
    inner = math.prod(x.shape[axis + 1 :])
    ctx.emit(
        "gather_one_hot",
        node,
        x=ctx.plain(x).ref,
        index=ctx.plain(index).ref,
        y=ctx.new_plain(node.outputs[0]).ref,
        fault=ctx.fault(str(fail(node, f"an index is out of range for axis {axis} of shape {x.shape}"))),
        extent=x.shape[axis],
        inner=inner,
        item=x.dtype.itemsize,
        work=math.prod(x.shape[:axis]),
    )
    return None
