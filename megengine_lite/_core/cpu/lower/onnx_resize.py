"""Resizing along any axes, with the rules of ONNX: passes over one axis or two neighbours."""

from __future__ import annotations

import math

import numpy as np

from megengine_lite._core.cpu.lower.resize import (
    Pair,
    emit_blocked,
    emit_integers,
    emit_picked,
    emit_pixels,
    emit_planes,
    widened,
)
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref
from megengine_lite._core.ir.dtype import FLOAT32, DTypeCode
from megengine_lite._core.ir.graph import Node
from megengine_lite._core.operators.onnx_resize import OnnxResize
from megengine_lite._core.operators.resize import Taps

_INTEGERS = (DTypeCode.INT8, DTypeCode.UINT8, DTypeCode.INT32)


def lower_onnx_resize(ctx: Lowering, node: Node) -> bool | None:
    x, y = node.inputs[0], node.outputs[0]
    if node.params.coordinates == "tf_crop_and_resize" or not y.spec.size:
        return False
    found = OnnxResize().taps(node, x.shape, *(v.spec.value for v in node.inputs[1:]))
    taps = {axis: of_axis for axis, (of_axis, _) in sorted(found.items()) if not _keeps(of_axis, x.shape[axis])}
    if not taps:
        ctx.alias(y, ctx.plain(x))
        return None
    most = ctx.kernels.module("resize").MAX_TAPS
    is_nearest, is_float = node.params.mode == "nearest", x.dtype == FLOAT32
    if is_float and len(x.shape) == 4 and ctx.is_blocked(x) and taps.keys() <= {2, 3}:
        rows, columns = (taps.get(axis, _all_of(x.shape[axis])) for axis in (2, 3))
        if rows[0].shape[1] <= most:
            emit_blocked(ctx, node, rows, columns)
            return None
    passes = _passes(taps, len(x.shape))
    if not is_nearest and not is_float:
        return _lower_integers(ctx, node, passes)
    if not is_nearest and any(_is_wide(of_pass, axis, x.shape, most) for axis, of_pass in passes):
        return False
    shape, source = list(x.shape), ctx.plain(x).ref
    for k, (axis, of_pass) in enumerate(passes):
        planes, space, inner = _planes(shape, axis)
        for place, of_axis in zip((axis, axis + 1), of_pass, strict=True):
            if of_axis is not None:
                shape[place] = len(of_axis[0])
        is_last = k == len(passes) - 1
        target = ctx.new_plain(y).ref if is_last else ctx.temp(math.prod(shape) * x.dtype.itemsize)
        if is_nearest:
            emit_picked(ctx, node, source, target, planes, space, of_pass, inner * x.dtype.itemsize)
        else:
            _emit_floats(ctx, node, source, target, planes, space, of_pass, inner)
        source = target
    return None


def _keeps(taps: Taps, length: int) -> bool:
    """Whether elements stay where they are."""
    index, weights = taps
    return np.array_equal(index, np.arange(length)[:, None]) and bool((weights == 1).all())


def _all_of(length: int) -> Taps:
    return np.arange(length)[:, None], np.ones((length, 1))


def _passes(taps: dict[int, Taps], ndim: int) -> list[tuple[int, Pair]]:
    """Passes over pairs of axes: the first of the pair, and the taps of both.

    The last axis is the second of its pair, whether the one in front of it is resized or not.
    """
    passes: list[tuple[int, Pair]] = []
    axis = ndim - 1
    while axis >= 0:
        if axis not in taps:
            axis -= 1
        elif axis - 1 in taps or axis == ndim - 1:
            passes.append((axis - 1, (taps.get(axis - 1), taps[axis])))
            axis -= 2
        else:
            passes.append((axis, (taps[axis], None)))
            axis -= 1
    return passes[::-1]


def _planes(shape: list[int], axis: int) -> tuple[int, tuple[int, int], int]:
    """How many planes of two axes there are, their extents, and the elements of a pixel."""
    if axis < 0:
        return 1, (1, shape[0]), 1
    return math.prod(shape[:axis]), (shape[axis], shape[axis + 1]), math.prod(shape[axis + 2 :])


def _is_wide(taps: Pair, axis: int, shape: tuple[int, ...], most: int) -> bool:
    """Whether pixels of several elements are made of too many rows."""
    rows, columns = taps
    return columns is not None and axis + 2 < len(shape) and rows is not None and rows[0].shape[1] > most


def _emit_floats(
    ctx: Lowering, node: Node, x: Ref, y: Ref, planes: int, space: tuple[int, int], taps: Pair, inner: int
) -> None:
    rows, columns = taps
    h, w = space
    if columns is None:
        emit_planes(ctx, node, x, y, planes, (h, w * inner), taps)
    elif inner == 1:
        emit_planes(ctx, node, x, y, planes, space, taps)
    else:
        emit_pixels(ctx, node, x, y, planes, space, (rows or _all_of(h), columns), inner)


def _lower_integers(ctx: Lowering, node: Node, passes: list[tuple[int, Pair]]) -> bool | None:
    """One pass, so that results are rounded once. Elements of a pixel are columns of their own."""
    x = node.inputs[0]
    if len(passes) > 1 or x.dtype.code not in _INTEGERS:
        return False
    ((axis, (rows, columns)),) = passes
    planes, (h, w), inner = _planes(list(x.shape), axis)
    taps = rows or _all_of(h), widened(columns or _all_of(w), inner)
    emit_integers(ctx, node, planes, (h, w * inner), taps)
    return None
