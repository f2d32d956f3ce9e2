"""Resizing, and warps by constant matrices that are a resize."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from megengine_lite._core.cpu.lower.requantize import storage_kind
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref, blocked_strides
from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.ir.graph import Constant, Node
from megengine_lite._core.ir.image_layouts import Format
from megengine_lite._core.ir.params import InterpolationMode
from megengine_lite._core.operators.resize import Taps, cuts_fractions, has_cv_variant, image_taps
from megengine_lite._core.operators.sampling import border_index, floor_and_fraction

Pair = tuple[Taps | None, Taps | None]
"""Of rows and of columns; None if they stay as they are."""


def lower_resize(ctx: Lowering, node: Node) -> bool | None:
    """In float32."""
    if _resampled(node) == InterpolationMode.NEAREST and (_is_nhwc(node) or not ctx.is_blocked(node.inputs[0])):
        _lower_picking(ctx, node)
        return None
    rows, columns = image_taps(_resampled(node), *_spaces(node))
    return _emit(ctx, node, rows, columns, _is_nhwc(node))


def lower_integer_resize(ctx: Lowering, node: Node) -> bool | None:
    """Stored numbers: the nearest of any size, sums of bytes."""
    x, mode = node.inputs[0], _resampled(node)
    if mode == InterpolationMode.NEAREST:
        _lower_picking(ctx, node)
        return None
    if x.dtype.itemsize > 1:
        return False
    space, out = _spaces(node)
    rows, columns = image_taps(mode, space, out)
    inner = x.shape[3] if _is_nhwc(node) else 1
    index, weights = widened(columns, inner)
    low, high = integer_range(x.dtype)
    channels = x.shape[3 if _is_nhwc(node) else 1]
    ctx.emit(
        "resize_bytes",
        node,
        x=ctx.plain(x).ref,
        y=ctx.new_plain(node.outputs[0]).ref,
        **_of_rows(ctx, rows, 0),
        columns=_table(ctx, index.T, np.int32),
        column_weights=_table(ctx, weights.T, np.float32),
        kind=storage_kind(x.dtype),
        floors=cuts_fractions(Format(node.params.format), channels, x.dtype, mode, space, out),
        h=space[0],
        w=space[1] * inner,
        ow=len(index),
        taps_x=index.shape[1],
        low=float(low),
        high=float(high),
        work=x.spec.size // (space[0] * space[1] * inner) * len(rows[0]),
        scratch=ctx.kernels.module("resize_int").bytes_scratch_bytes(len(index), rows[0].shape[1]),
    )
    return None


def widened(taps: Taps, inner: int) -> Taps:
    """Taps of columns whose pixels have several elements, as taps of these elements."""
    index, weights = taps
    wide = (index[:, None] * inner + np.arange(inner)[:, None]).reshape(-1, index.shape[1])
    return wide, np.repeat(weights, inner, 0)


def integer_range(dtype: DType) -> tuple[int, int]:
    """The smallest and largest stored number."""
    if dtype.is_quantized:
        return dtype.quantized_range
    limits = np.iinfo(dtype.storage)
    return int(limits.min), int(limits.max)


def _is_nhwc(node: Node) -> bool:
    return bool(node.params.format == Format.NHWC)


def _resampled(node: Node) -> InterpolationMode:
    """How the image is resized."""
    mode = InterpolationMode(node.params.imode)
    has_all = not _is_nhwc(node) or has_cv_variant(Format.NHWC, node.inputs[0].shape[3])
    return mode if has_all or mode == InterpolationMode.NEAREST else InterpolationMode.LINEAR


def _spaces(node: Node) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Height and width, before and after."""
    first = 1 if _is_nhwc(node) else 2
    return node.inputs[0].shape[first : first + 2], node.outputs[0].shape[first : first + 2]


def _lower_picking(ctx: Lowering, node: Node) -> None:
    """The nearest pixels, whatever their elements."""
    x, y = node.inputs[0], node.outputs[0]
    space, out = _spaces(node)
    rows, columns = image_taps(InterpolationMode.NEAREST, space, out)
    inner = x.shape[3] if _is_nhwc(node) else 1
    planes = x.spec.size // (space[0] * space[1] * inner)
    emit_picked(
        ctx, node, ctx.plain(x).ref, ctx.new_plain(y).ref, planes, space, (rows, columns), inner * x.dtype.itemsize
    )


def _emit(ctx: Lowering, node: Node, rows: Taps, columns: Taps, nhwc: bool) -> bool | None:
    """Images in float32, in the layout that they have."""
    x, y = node.inputs[0], node.outputs[0]
    if not nhwc and not ctx.is_blocked(x):
        source, out = ctx.plain(x).ref, ctx.new_plain(y).ref
        emit_planes(ctx, node, source, out, x.shape[0] * x.shape[1], x.shape[2:], (rows, columns))
        return None
    if rows[0].shape[1] > ctx.kernels.module("resize").MAX_TAPS:
        return False
    if nhwc:
        n, *space, lanes = x.shape
        emit_pixels(ctx, node, ctx.plain(x).ref, ctx.new_plain(y).ref, n, space, (rows, columns), lanes)
    else:
        emit_blocked(ctx, node, rows, columns)
    return None


def emit_planes(ctx: Lowering, node: Node, x: Ref, y: Ref, planes: int, space: Sequence[int], taps: Pair) -> None:
    """Dense float32 planes: vectors of neighbouring pixels."""
    h, w = space
    rows, columns = taps
    index, starts, weights = None, None, None
    if columns is not None:
        near, first = _near(columns[0].T, ctx.width)
        index, weights = _table(ctx, near, np.int32), _table(ctx, columns[1].T, np.float32)
        starts = None if first is None else _table(ctx, first, np.int32)
    of_rows = _of_rows(ctx, rows, h)
    ctx.emit(
        "resize_plain_f32",
        node,
        x=x,
        y=y,
        columns=index,
        column_weights=weights,
        starts=starts,
        h=h,
        w=w,
        ow=w if columns is None else len(columns[0]),
        taps_x=0 if columns is None else columns[0].shape[1],
        **of_rows,
        work=planes * of_rows["oh"],
        scratch=ctx.kernels.module("resize").scratch_bytes(w),
    )


def emit_pixels(
    ctx: Lowering, node: Node, x: Ref, y: Ref, images: int, space: Sequence[int], taps: tuple[Taps, Taps], lanes: int
) -> None:
    """Dense images of pixels of ``lanes`` floats: vectors of the elements of a pixel."""
    (h, w), (rows, columns) = space, taps
    oh, ow = len(rows[0]), len(columns[0])
    strides = {"x_row": w * lanes, "x_plane": 0, "x_image": h * w * lanes}
    strides |= {"y_row": ow * lanes, "y_plane": 0, "y_image": oh * ow * lanes}
    _emit_lanes(ctx, node, x, y, rows, columns, {"planes": 1, "lanes": lanes, **strides, "work": images * oh})


def emit_blocked(ctx: Lowering, node: Node, rows: Taps, columns: Taps) -> None:
    """A blocked image: vectors of the channels of a pixel."""
    t, out = ctx.blocked(node.inputs[0]), ctx.new_blocked(node.outputs[0])
    strides = blocked_strides("x", t) | blocked_strides("y", out)
    own = {"planes": t.blocks, "lanes": ctx.width, **strides, "work": t.n * t.blocks * out.h}
    _emit_lanes(ctx, node, t.ref, out.ref, rows, columns, own)


def _emit_lanes(ctx: Lowering, node: Node, x: Ref, y: Ref, rows: Taps, columns: Taps, own: dict[str, Any]) -> None:
    ctx.emit(
        "resize_pixels_f32",
        node,
        x=x,
        y=y,
        columns=_table(ctx, columns[0], np.int32),
        column_weights=_table(ctx, columns[1], np.float32),
        ow=len(columns[0]),
        taps_x=columns[0].shape[1],
        **_of_rows(ctx, rows, 0),
        pixel=own["lanes"],
        y_pixel=own["lanes"],
        **own,
    )


def _of_rows(ctx: Lowering, taps: Taps | None, h: int) -> dict[str, Any]:
    rows, weights = (np.arange(h)[:, None], np.ones((h, 1))) if taps is None else taps
    return {
        "rows": _table(ctx, rows, np.int32),
        "row_weights": _table(ctx, weights, np.float32),
        "oh": len(rows),
        "taps_y": rows.shape[1],
    }


def emit_picked(
    ctx: Lowering, node: Node, x: Ref, y: Ref, planes: int, space: Sequence[int], taps: Pair, item: int
) -> None:
    """Rows and columns of dense planes of pixels of ``item`` bytes."""
    (h, w), (of_rows, of_columns) = space, taps
    rows = np.arange(h) if of_rows is None else of_rows[0][:, 0]
    columns = None if of_columns is None else of_columns[0][:, 0]
    ctx.emit(
        "pick_pixels",
        node,
        x=x,
        y=y,
        rows=_table(ctx, rows, np.int32),
        columns=None if columns is None else _table(ctx, columns, np.int32),
        h=h,
        w=w,
        oh=len(rows),
        ow=w if columns is None else len(columns),
        item=item,
        doubles=columns is not None and np.array_equal(columns, np.arange(2 * w) // 2),
        work=planes * len(rows),
    )


def emit_integers(ctx: Lowering, node: Node, planes: int, space: Sequence[int], taps: tuple[Taps, Taps]) -> None:
    """Dense planes of integers."""
    x, y = node.inputs[0], node.outputs[0]
    (h, w), (rows, columns), (low, high) = space, taps, integer_range(x.dtype)
    ctx.emit(
        "resize_int",
        node,
        x=ctx.plain(x).ref,
        y=ctx.new_plain(y).ref,
        rows=_table(ctx, rows[0], np.int32),
        row_weights=_table(ctx, rows[1], np.float64),
        columns=_table(ctx, columns[0].T, np.int32),
        column_weights=_table(ctx, columns[1].T, np.float64),
        kind=storage_kind(x.dtype),
        h=h,
        w=w,
        oh=len(rows[0]),
        ow=len(columns[0]),
        taps_y=rows[0].shape[1],
        taps_x=columns[0].shape[1],
        low=float(low),
        high=float(high),
        work=planes * len(rows[0]),
        scratch=ctx.kernels.module("resize_int").scratch_bytes(w),
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
    rows, columns = taps
    return _emit(ctx, node, rows, columns, False)
