"""Indexing with tensors, and assignment to slices and by index."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from megengine_lite._core.cpu.lower.copying import (
    View,
    broadcast_view,
    emit_copy,
    emit_fill,
    view_like,
    view_of,
)
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref
from megengine_lite._core.ir.dtype import INT32, INT64
from megengine_lite._core.ir.graph import Node, Var
from megengine_lite._core.ir.image_layouts import dense_strides
from megengine_lite._core.operators.base import fail
from megengine_lite._core.operators.checks import broadcasts_to, index_error
from megengine_lite._core.operators.index_selection import Scalars, Vectors, select
from megengine_lite._core.operators.onnx_window import MaxUnpool


def lower_take(ctx: Lowering, node: Node) -> bool | None:
    """Axes indexed by tensors: copies of dense runs.

    Slices are taken first, and indexed axes that are not neighbours moved to the front, by a copy where that is needed.
    """
    x = node.inputs[0]
    values = [v.const.array if v.const is not None else None for v in node.inputs]
    selection = select(node, x.shape, values, 1)
    indexes = [node.inputs[place] for place in selection.indexes.values()]
    if not 1 <= len(indexes) <= ctx.kernels.module("gather").MAX_INDEXES or not _have_one_type(indexes):
        return False
    probe = np.empty(x.shape, x.dtype.storage)
    data = view_like(ctx.plain(x).ref, probe, probe[selection.slices])
    axes = list(selection.indexes)
    if axes[-1] - axes[0] + 1 != len(axes):
        data = data.transpose([*axes, *(a for a in range(len(data.shape)) if a not in axes)])
        axes = list(range(len(axes)))
    if not data.is_dense:
        data = View(_dense(ctx, node, data), data.shape, (), data.item)
    _emit_take(ctx, node, data, axes, indexes)
    return None


def _have_one_type(indexes: list[Var]) -> bool:
    return any(all(v.dtype == dtype for v in indexes) for dtype in (INT32, INT64))


def _emit_take(ctx: Lowering, node: Node, data: View, axes: list[int], indexes: list[Var]) -> None:
    """Indexes of neighbouring axes of dense data."""
    arguments = _runs(ctx, node, data.shape, data.item, axes, indexes)
    ctx.emit(
        "gather_runs",
        node,
        x=data.ref,
        y=ctx.new_plain(node.outputs[0]).ref,
        **arguments,
        work=math.prod(data.shape[: axes[0]]) * arguments["points"],
    )


def _runs(
    ctx: Lowering, node: Node, shape: tuple[int, ...], item: int, axes: list[int], indexes: list[Var]
) -> dict[str, Any]:
    """What says where the runs are that indexes of neighbouring axes select in dense data, for gather and scatter."""
    picked = np.broadcast_shapes(*(v.shape for v in indexes))
    refs = [_broadcast(ctx, node, view_of(ctx.plain(v)), picked) for v in indexes]
    most = ctx.kernels.module("gather").MAX_INDEXES
    fill = [0] * (most - len(axes))
    strides = [math.prod(shape[a + 1 :]) * item for a in axes]
    return {
        "fault": ctx.fault(str(fail(node, f"an index is out of range for data of shape {shape}"))),
        **{f"index{k}": refs[k] if k < len(refs) else None for k in range(most)},
        "wide": indexes[0].dtype == INT64,
        "step": 1,
        "from_end": True,
        "points": math.prod(picked),
        "run": math.prod(shape[axes[-1] + 1 :]) * item,
        "outer_stride": math.prod(shape[axes[0] :]) * item,
        "indexes": len(axes),
        **{f"extent{k}": e for k, e in enumerate([*(shape[a] for a in axes), *fill])},
        **{f"stride{k}": s for k, s in enumerate([*strides, *fill])},
    }


def lower_set_by_index(ctx: Lowering, node: Node) -> bool | None:
    """A copy of the data, with runs of the value at the indexes of neighbouring axes."""
    x, value = node.inputs[:2]
    values = [v.const.array if v.const is not None else None for v in node.inputs]
    selection = select(node, x.shape, values, 2)
    axes = list(selection.indexes)
    indexes = [node.inputs[place] for place in selection.indexes.values()]
    if not 1 <= len(axes) <= ctx.kernels.module("gather").MAX_INDEXES or not _have_one_type(indexes):
        return False
    if selection.sliced != x.shape or any(s.step not in (None, 1) for s in selection.slices):
        return False
    part = Vectors().shape(node, selection, [v.shape for v in node.inputs])
    if axes[-1] - axes[0] + 1 != len(axes) or value.dtype != x.dtype or not x.spec.size:
        return False
    if value.shape != (1,) and not broadcasts_to(value.shape, part):
        return False
    source, out = ctx.plain(x), ctx.new_plain(node.outputs[0])
    given = view_of(ctx.plain(value))
    if value.shape == (1,):
        given = View(given.ref, (), (), given.item)
    ctx.copy_bytes(node, source.ref, out.ref, x.spec.nbytes)
    if math.prod(part):
        ctx.emit(
            "scatter_runs",
            node,
            x=_broadcast(ctx, node, given, part),
            y=out.ref,
            **_runs(ctx, node, x.shape, x.dtype.itemsize, axes, indexes),
            work=math.prod(x.shape[: axes[0]]),
        )
    return None


# ---- indexes that stand side by side ---------------------------------------------------------------------------------


def lower_gather_nd(ctx: Lowering, node: Node) -> bool | None:
    x, index = node.inputs
    y = node.outputs[0]
    if node.params.batch_dims or index.shape[-1] > ctx.kernels.module("gather").MAX_INDEXES or not y.spec.size:
        return False
    arguments = _tuples(ctx, node, x.shape, index, index.shape[-1])
    ctx.emit("gather_runs", node, x=ctx.plain(x).ref, y=ctx.new_plain(y).ref, **arguments, work=arguments["points"])
    return None


def lower_scatter_nd(ctx: Lowering, node: Node) -> bool | None:
    """A copy of the data, into which the updates are copied in order."""
    x, index, updates = node.inputs
    y, depth = node.outputs[0], index.shape[-1]
    if node.params.reduction != "none" or not 0 < depth <= ctx.kernels.module("gather").MAX_INDEXES or not y.spec.size:
        return False
    source, given, out = ctx.plain(x), ctx.plain(updates), ctx.new_plain(y)
    ctx.copy_bytes(node, source.ref, out.ref, y.spec.nbytes)
    if updates.spec.size:
        ctx.emit("scatter_runs", node, x=given.ref, y=out.ref, **_tuples(ctx, node, x.shape, index, depth), work=1)
    return None


def lower_unpooling(ctx: Lowering, node: Node) -> bool | None:
    """Zeros, into which the maxima are copied."""
    x, places = node.inputs[:2]
    y = node.outputs[0]
    if MaxUnpool.pooled(node.params, x.shape) != y.shape or not y.spec.size:
        return False
    out = ctx.new_plain(y)
    emit_fill(ctx, node, out, np.zeros(1))
    arguments = _tuples(ctx, node, (y.spec.size,), places, 1)
    ctx.emit(
        "scatter_runs",
        node,
        x=ctx.plain(x).ref,
        y=out.ref,
        **arguments | {"run": x.dtype.itemsize, "from_end": False, "points": x.spec.size},
        work=1,
    )
    return None


def _tuples(ctx: Lowering, node: Node, shape: tuple[int, ...], index: Var, depth: int) -> dict[str, Any]:
    """What says where the runs are that tuples of ``depth`` indexes select, which stand side by side."""
    ref, item = ctx.plain(index).ref, node.inputs[0].dtype.itemsize
    most = ctx.kernels.module("gather").MAX_INDEXES
    fill = [0] * (most - depth)
    strides = [math.prod(shape[a + 1 :]) * item for a in range(depth)]
    return {
        "fault": ctx.fault(str(fail(node, f"an index is out of range for data of shape {shape}"))),
        **{f"index{k}": ref + k * index.dtype.itemsize if k < depth else None for k in range(most)},
        "wide": index.dtype == INT64,
        "step": depth,
        "from_end": True,
        "points": index.spec.size // depth,
        "run": math.prod(shape[depth:]) * item,
        "outer_stride": 0,
        "indexes": depth,
        **{f"extent{k}": e for k, e in enumerate([*shape[:depth], *fill])},
        **{f"stride{k}": s for k, s in enumerate([*strides, *fill])},
    }


def _broadcast(ctx: Lowering, node: Node, view: View, shape: tuple[int, ...]) -> Ref:
    """The view itself, or a dense copy of it repeated to a shape."""
    return view.ref if view.shape == shape else _dense(ctx, node, broadcast_view(view, shape))


def _dense(ctx: Lowering, node: Node, view: View) -> Ref:
    """A dense copy of a view that lives as long as the node."""
    target = View(ctx.temp(view.size * view.item), view.shape, (0,) * len(view.shape), view.item)
    emit_copy(ctx, node, view, View(target.ref, view.shape, tuple(dense_strides(target.shape, target.item)), view.item))
    return target.ref


def lower_set(ctx: Lowering, node: Node) -> bool | None:
    """A copy of the data, with the value copied into the selected part."""
    x, value = node.inputs[:2]
    y = node.outputs[0]
    probe = np.empty(x.shape, x.dtype.storage)
    numbers = [v.const.array for v in node.inputs[2:] if v.const is not None]
    if len(numbers) + 2 != len(node.inputs) or value.dtype != x.dtype:
        return False
    values = [probe, probe, *numbers]  # the first two are not read
    selection = select(node, x.shape, values, 2)
    try:
        part = probe[selection.slices][Scalars().locate(node, selection, values)]
    except IndexError as error:
        raise index_error(node, str(error)) from None
    if value.spec.size != 1 and not broadcasts_to(value.shape, part.shape):
        return False
    source, given = ctx.plain(x), view_of(ctx.plain(value))
    out = ctx.new_plain(y)
    ctx.copy_bytes(node, source.ref, out.ref, y.spec.nbytes)
    if part.size:
        one = View(given.ref, (), (), given.item)
        emit_copy(
            ctx,
            node,
            broadcast_view(one if value.spec.size == 1 else given, part.shape),
            view_like(out.ref, probe, part),
        )
    return None


def lower_one_hot(ctx: Lowering, node: Node) -> bool | None:
    x, index = node.inputs[:2]
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
