"""Resizing in float32, and warps by constant matrices that are a resize."""

from __future__ import annotations

from typing import Any

import numpy as np

from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref, blocked_strides
from megengine_lite._core.ir.graph import Constant, Node
from megengine_lite._core.ir.image_layouts import Format
from megengine_lite._core.ir.params import InterpolationMode
from megengine_lite._core.operators.resize import Taps, has_cv_variant, image_taps
from megengine_lite._core.operators.sampling import border_index, floor_and_fraction


def lower_resize(ctx: Lowering, node: Node) -> bool | None:
    x, y = node.inputs[0], node.outputs[0]
    fmt, mode = node.params.format, node.params.imode
    nhwc = fmt == Format.NHWC
    if nhwc and not has_cv_variant(Format.NHWC, x.shape[3]) and mode != InterpolationMode.NEAREST:
        mode = InterpolationMode.LINEAR
    space, out = (x.shape[1:3], y.shape[1:3]) if nhwc else (x.shape[2:], y.shape[2:])
    return _emit(ctx, node, image_taps(mode, space, out), nhwc)


def _emit(ctx: Lowering, node: Node, taps: list[Taps], nhwc: bool) -> bool | None:
    (rows, row_weights), columns = taps
    if rows.shape[1] > ctx.kernels.module("resize").MAX_TAPS:
        return False
    arguments = {
        "rows": _table(ctx, rows, np.int32),
        "row_weights": _table(ctx, row_weights, np.float32),
        "oh": len(rows),
        "ow": len(columns[0]),
        "taps_y": rows.shape[1],
        "taps_x": columns[0].shape[1],
    }
    if nhwc or ctx.is_blocked(node.inputs[0]):
        _emit_pixels(ctx, node, columns, nhwc, arguments)
    else:
        _emit_plain(ctx, node, columns, arguments)
    return None


def _emit_plain(ctx: Lowering, node: Node, columns: Taps, arguments: dict[str, Any]) -> None:
    """In NCHW: vectors of neighbouring pixels."""
    x, y = node.inputs[0], node.outputs[0]
    n, c, h, w = x.shape
    index, starts = _near(columns[0].T, ctx.width)
    ctx.emit(
        "resize_plain_f32",
        node,
        x=ctx.plain(x).ref,
        y=ctx.new_plain(y).ref,
        columns=_table(ctx, index, np.int32),
        column_weights=_table(ctx, columns[1].T, np.float32),
        starts=None if starts is None else _table(ctx, starts, np.int32),
        h=h,
        w=w,
        **arguments,
        work=n * c * y.shape[2],
        scratch=ctx.kernels.module("resize").scratch_bytes(w),
    )


def _emit_pixels(ctx: Lowering, node: Node, columns: Taps, nhwc: bool, arguments: dict[str, Any]) -> None:
    """In NHWC or channel blocks: vectors of the channels of a pixel."""
    x, y = node.inputs[0], node.outputs[0]
    oh, ow = arguments["oh"], arguments["ow"]
    if nhwc:
        n, h, w, lanes = x.shape
        source, target, planes = ctx.plain(x).ref, ctx.new_plain(y).ref, 1
        strides = {"x_row": w * lanes, "x_plane": 0, "x_image": h * w * lanes}
        strides |= {"y_row": ow * lanes, "y_plane": 0, "y_image": oh * ow * lanes}
    else:
        t, out = ctx.blocked(x), ctx.new_blocked(y)
        n, lanes, source, target, planes = t.n, ctx.width, t.ref, out.ref, t.blocks
        strides = blocked_strides("x", t) | blocked_strides("y", out)
    ctx.emit(
        "resize_pixels_f32",
        node,
        x=source,
        y=target,
        columns=_table(ctx, columns[0], np.int32),
        column_weights=_table(ctx, columns[1], np.float32),
        **arguments,
        planes=planes,
        lanes=lanes,
        pixel=lanes,
        y_pixel=lanes,
        **strides,
        work=n * planes * oh,
    )


def _near(index: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Columns [taps, ow] relative to the first column that each vector of outputs reads, and these first columns.

    Outputs behind the last whole vector keep their columns. If a vector of outputs reads columns that are further apart
    than two vectors, the columns are returned unchanged, with None.
    """
    taps, ow = index.shape
    whole = ow // width * width
    vectors = index[:, :whole].reshape(taps, -1, width)
    if not whole:
        return index, None
    starts = vectors.min(axis=2)
    near = vectors - starts[..., None]
    if near.max() >= 2 * width:
        return index, None
    return np.concatenate([near.reshape(taps, whole), index[:, whole:]], axis=1), starts


def _table(ctx: Lowering, array: np.ndarray, dtype: type) -> Ref:
    array = np.ascontiguousarray(array, dtype)
    return ctx.constant(Constant(array, ("resize table", array.shape, array.dtype.str, array.tobytes())))


def lower_resizing_warp(ctx: Lowering, node: Node) -> bool | None:
    """A warp that is a resize: a constant matrix moves rows and columns independently, and all images alike.

    Files contain interpolation with aligned corners in this form.
    """
    x, y, matrix = node.inputs[0], node.outputs[0], node.inputs[1]
    p = node.params
    if len(node.inputs) != 3 or matrix.const is None or p.imode != InterpolationMode.LINEAR:
        return False
    if x.shape[0] != matrix.shape[0]:
        return False
    m = matrix.const.array.astype(np.float32)
    first = m[0]
    if not (m == first).all() or any(first[place] for place in ((0, 1), (1, 0), (2, 0), (2, 1))) or not first[2, 2]:
        return False
    taps = []
    for axis, length, out in ((1, x.shape[2], y.shape[2]), (0, x.shape[3], y.shape[3])):
        position = (first[axis, axis] * np.arange(out, dtype=np.float32) + first[axis, 2]) / first[2, 2]
        if not np.isfinite(position).all():
            return False
        left, fraction = floor_and_fraction(position)
        index = np.stack([border_index(left + k, length, p.bmode) for k in (0, 1)], axis=1)
        if index.min() < 0:  # a constant outside of the image
            return False
        taps.append((index, np.stack([1 - fraction, fraction], axis=1)))
    return _emit(ctx, node, taps, False)
