"""Steps that move elements: strided copies and fills, and views whose strides are taken from numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from megengine_lite._core.cpu.lowering import COPY_BYTES, Lowering
from megengine_lite._core.cpu.steps import Ref, Tensor
from megengine_lite._core.ir.graph import Constant, Node
from megengine_lite._core.ir.image_layouts import dense_strides
from megengine_lite._core.operators import REGISTRY
from megengine_lite._records import record
from megengine_lite.kernels.common.tiling import plan_copy


@record(frozen=True, slots=True)
class View:
    """Elements of a tensor in memory: an address, a shape and strides in bytes."""

    ref: Ref
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    item: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def is_dense(self) -> bool:
        dense = dense_strides(self.shape, self.item)
        return all(s == d or n == 1 for s, d, n in zip(self.strides, dense, self.shape, strict=True))

    def slice(self, axis: int, begin: int, length: int, step: int = 1) -> View:
        """Elements begin, begin + step, ... of one axis."""
        shape = (*self.shape[:axis], length, *self.shape[axis + 1 :])
        strides = (*self.strides[:axis], self.strides[axis] * step, *self.strides[axis + 1 :])
        return View(self.ref + begin * self.strides[axis], shape, strides, self.item)

    def transpose(self, order: Sequence[int]) -> View:
        shape = tuple(self.shape[a] for a in order)
        return View(self.ref, shape, tuple(self.strides[a] for a in order), self.item)


def view_of(tensor: Tensor) -> View:
    """All of a tensor. A blocked one has the axes (image, channel block, row, pixel, lane)."""
    item = tensor.spec.dtype.itemsize
    if not tensor.blocked:
        return View(tensor.ref, tensor.shape, tuple(dense_strides(tensor.shape, item)), item)
    shape = (tensor.n, tensor.blocks, tensor.h, tensor.w, tensor.width)
    strides = (tensor.image, tensor.plane, tensor.row, tensor.width, 1)
    return View(tensor.ref, shape, tuple(s * item for s in strides), item)


def emit_copy(ctx: Lowering, node: Node, x: View, y: View) -> None:
    """``y[...] = x[...]``; the views have one shape and do not overlap."""
    if x.size == 0:
        return
    plan = plan_copy(x.shape, x.strides, y.strides, x.item)
    ctx.emit(plan.kernel, node, x=x.ref, y=y.ref, work=plan.work, **plan.arguments)


def emit_fill(ctx: Lowering, node: Node, y: Tensor, value: np.ndarray) -> None:
    """Sets all elements of a plain tensor to one value of its storage type."""
    value = np.ascontiguousarray(value, y.spec.dtype.storage).reshape(1)
    ctx.emit(
        "fill_elements",
        node,
        x=ctx.constant(Constant(value, ("fill", value.dtype.str, value.tobytes()))),
        y=y.ref,
        nbytes=y.spec.nbytes,
        item=value.itemsize,
        chunk=COPY_BYTES,
        work=-(-y.spec.nbytes // COPY_BYTES),
    )


def numpy_views(ctx: Lowering, node: Node) -> list[View] | None:
    """The outputs of a node as views of its plain first input, if its ``compute`` only makes views.

    To find them, ``compute`` runs on an array whose elements are never read. None if the value of another input is not
    known, or if ``compute`` copies.
    """
    var = node.inputs[0]
    values = [v.const.array for v in node.inputs[1:] if v.const is not None]
    if len(values) + 1 != len(node.inputs):
        return None
    probe = np.empty(var.shape, var.dtype.storage)
    ins = [probe, *values]
    parts = REGISTRY[node.op].compute(node, ins, [v.spec for v in node.inputs], [v.spec for v in node.outputs])
    if any(p.size and not np.may_share_memory(p, probe) for p in parts):
        return None
    ref = ctx.plain(var).ref
    return [view_like(ref, probe, p) for p in parts]


def view_like(ref: Ref, whole: np.ndarray, part: np.ndarray) -> View:
    """The place of ``part`` in ``whole``, as a view of memory at ``ref`` that is laid out like ``whole``."""
    return View(ref + (part.ctypes.data - whole.ctypes.data), part.shape, part.strides, part.itemsize)


def broadcast_view(view: View, shape: tuple[int, ...]) -> View:
    """The view repeated to a shape, by numpy's rule."""
    missing = len(shape) - len(view.shape)
    strides = [0] * missing + [0 if n == 1 else s for n, s in zip(view.shape, view.strides, strict=True)]
    return View(view.ref, shape, tuple(strides), view.item)


def emit_views(ctx: Lowering, node: Node, views: Sequence[View]) -> None:
    """The outputs of a node as copies of views, or as aliases of memory that is dense already."""
    for var, view in zip(node.outputs, views, strict=True):
        if view.is_dense:
            ctx.alias(var, Tensor(var.spec, view.ref))
        else:
            emit_copy(ctx, node, view, view_of(ctx.new_plain(var)))


def emit_concat(ctx: Lowering, node: Node, axis: int) -> None:
    """The inputs of a node, plain, one after another along an axis of its output."""
    y = node.outputs[0]
    target = view_of(ctx.new_plain(y))
    begin = 0
    for v in node.inputs:
        emit_copy(ctx, node, view_of(ctx.plain(v)), target.slice(axis, begin, v.shape[axis]))
        begin += v.shape[axis]


def emit_gather(ctx: Lowering, node: Node, xs: Sequence[View], y: View, sources: Sequence[tuple[int, int]]) -> None:
    """Slice k of axis 1 of ``y`` is slice ``sources[k][1]`` of axis 1 of ``xs[sources[k][0]]``.

    Each evenly spaced run of slices is one copy.
    """
    for which, x in enumerate(xs):
        places = [(k, c) for k, (i, c) in enumerate(sources) if i == which]
        begin = 0
        while begin < len(places):
            end = begin + 1
            step = _difference(places, end) if end < len(places) else (1, 1)
            while end < len(places) and _difference(places, end) == step:
                end += 1
            first, x_first = places[begin]
            emit_copy(ctx, node, x.slice(1, x_first, end - begin, step[1]), y.slice(1, first, end - begin, step[0]))
            begin = end


def _difference(places: Sequence[tuple[int, int]], k: int) -> tuple[int, int]:
    return places[k][0] - places[k - 1][0], places[k][1] - places[k - 1][1]
