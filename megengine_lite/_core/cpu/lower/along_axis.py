"""Elements at an index along an axis, taken and written by the rules of ONNX."""

from __future__ import annotations

import math
from typing import Any

from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.ir.dtype import FLOAT32, INT64
from megengine_lite._core.ir.graph import Node
from megengine_lite._core.ir.image_layouts import dense_strides
from megengine_lite._core.operators.base import fail


def lower_gather_elements(ctx: Lowering, node: Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    axis = node.params.axis % len(x.shape)
    # Rows are independent: those along the axis are work items, too.
    arguments = _rows(ctx, node, axis, range(len(y.shape) - 1))
    ctx.emit("gather_elements", node, x=ctx.plain(x).ref, y=ctx.new_plain(y).ref, **arguments)


def lower_scatter_elements(ctx: Lowering, node: Node) -> bool | None:
    x, _, updates = node.inputs
    reduction = node.params.reduction
    if reduction != "none" and (reduction != "add" or x.dtype != FLOAT32):
        return False
    axis = node.params.axis % len(x.shape)
    arguments = _rows(ctx, node, axis, [k for k in range(len(x.shape) - 1) if k != axis])
    source, given, out = ctx.plain(x), ctx.plain(updates), ctx.new_plain(node.outputs[0])
    ctx.copy_bytes(node, source.ref, out.ref, x.spec.nbytes)
    ctx.emit("scatter_elements", node, x=given.ref, y=out.ref, adds=reduction == "add", **arguments)
    return None


def _rows(ctx: Lowering, node: Node, axis: int, divided: range | list[int]) -> dict[str, Any]:
    """How the rows of the index lie in the data; ``divided`` are the dimensions whose positions are work items."""
    x, index = node.inputs[:2]
    last, item = len(x.shape) - 1, x.dtype.itemsize
    strides = dense_strides(x.shape, item)
    rows = [*dense_strides(index.shape[:-1], 1), 1]
    along = axis not in (last, *divided)
    most = ctx.kernels.module("along_axis").MAX_OUTER
    fill = [0] * (most - len(divided))
    extents = [*(index.shape[k] for k in divided), *fill]
    places = [*(0 if k == axis else strides[k] for k in divided), *fill]
    return {
        "index": ctx.plain(index).ref,
        "fault": ctx.fault(str(fail(node, f"an index is out of range for {x.shape[axis]} elements"))),
        "wide": index.dtype == INT64,
        "length": index.shape[last],
        "item": item,
        "axis_extent": x.shape[axis],
        "axis_stride": strides[axis],
        "last_stride": 0 if axis == last else item,
        "along": index.shape[axis] if along else 1,
        "step": rows[axis] if along else 0,
        **{f"extent{k}": e for k, e in enumerate(extents)},
        **{f"stride{k}": s for k, s in enumerate(places)},
        **{f"row{k}": r for k, r in enumerate([*(rows[k] for k in divided), *fill])},
        "work": math.prod(index.shape[k] for k in divided),
    }
