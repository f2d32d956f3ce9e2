"""Pooling and resampling with the rules of ONNX, axis by axis."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from megengine_lite._core.compile.transform.counterparts.arithmetic import rounded
from megengine_lite._core.compile.transform.counterparts.pieces import NO_LIMIT, Pieces, dtype_of, numbers_of, shape_of
from megengine_lite._core.compile.transform.counterparts.shapes import integers_of, padded
from megengine_lite._core.compile.transform.counterparts.table import NotWritten, written
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32, INT32
from megengine_lite._core.ir.graph import AnyNode, AnyVar, Node, Var
from megengine_lite._core.ir.onnx_image_params import OnnxPooling as Parameters
from megengine_lite._core.ir.params import ElemwiseMode, ElemwiseMultiTypeMode, IndexDescMaskItem, PoolingMode
from megengine_lite._core.operators.onnx_resize import OnnxResize
from megengine_lite._core.operators.onnx_window import Col2Im, OnnxPooling

_M = ElemwiseMode
_MOST_TAPS = 64
_LOWEST = float(np.finfo(np.float32).min)
_TINIEST = float(np.finfo(np.float32).tiny)


@written("OnnxPooling", any_size=True)
def _pooling(w: Pieces, node: Node) -> Var | Sequence[Var]:
    p, x = node.params, node.inputs[0]
    dtype = dtype_of(x)
    # Maxima of int32 stay whole; all else is computed in float32, which has bytes exactly.
    carried = w.converted(x, INT32 if dtype == INT32 and p.mode == "max" else FLOAT32)
    axes = OnnxPooling.pooled_axes(node)
    if p.positions:
        best, places = _maxima_with_places(w, p, carried, axes)
        return [w.converted(best, dtype), places]
    if p.mode == "norm":
        return w.converted(_norms(w, p, w.elemwise(_M.ABS, carried), axes), dtype)
    if p.mode == "average":
        total = _sums(w, p, carried, axes)
        if _lie_inside(p) and (p.count_pads or not any(map(any, _windows(p, axes)))):
            return w.converted(w.divide(total, w.number(math.prod(p.window), total)), dtype)
        counts = np.maximum(math.prod(np.ix_(*(axis[-1] for axis in axes))), 1).astype(np.float32)
        w.takes_axes.update(range(2, 2 + len(axes)))
        return w.converted(w.divide(total, w.constant(counts[None, None])), dtype)
    return w.converted(_maxima(w, p, carried, axes), dtype)


def _lie_inside(p: Parameters) -> bool:
    """Whether all windows lie inside of the data with the padding that the model says, for data of all sizes."""
    return not p.ceil and not p.same


def _windows(p: Parameters, axes: Sequence[tuple[Any, ...]]) -> list[tuple[int, int]]:
    """What to add to the axes so that all windows lie inside; less than nothing if elements are not read."""
    if _lie_inside(p):
        return list(zip(p.pads_begin, p.pads_end, strict=True))
    return [(front, (out - 1) * stride + (k - 1) * step + 1 - d - front) for d, out, k, stride, step, front, _ in axes]


def _is_plain(x: Var, axes: Sequence[tuple[Any, ...]]) -> bool:
    """Whether the original has a pooling with these windows, of float32 images."""
    return x.dtype == FLOAT32 and len(axes) == 2 and all(step == 1 for _, _, _, _, step, _, _ in axes)


def _sums(w: Pieces, p: Parameters, x: Var, axes: Sequence[tuple[Any, ...]]) -> Var:
    wide = _grown(w, p, x, axes, 0.0)
    if _is_plain(wide, axes):
        mean = _pooled(w, wide, axes, PoolingMode.AVERAGE)
        size = math.prod(k for _, _, k, *_ in axes)
        return w.multiply(mean, w.number(size, mean))
    return _by_taps(w, wide, axes, lambda taps: functools.reduce(w.add, taps))


def _norms(w: Pieces, p: Parameters, x: Var, axes: Sequence[tuple[Any, ...]]) -> Var:
    """Roots of sums of powers, which are taken of parts of the largest number of each window: other powers may be
    beyond the range of float32, or below it, where the root is not."""
    if p.order == 1:
        return _sums(w, p, x, axes)
    order, root = w.number(p.order, x), w.number(1 / p.order, x)

    def norm(taps: Sequence[Var]) -> Var:
        largest = functools.reduce(lambda a, b: w.elemwise(_M.MAX, a, b), taps)
        # Neither 0 nor infinity, by which nothing can be divided.
        scale = w.elemwise(_M.MIN, w.elemwise(_M.MAX, largest, w.number(_TINIEST, x)), w.number(-_LOWEST, x))
        powers = [w.elemwise(_M.POW, w.divide(tap, scale), order) for tap in taps]
        return w.multiply(w.elemwise(_M.POW, functools.reduce(w.add, powers), root), scale)

    return _by_taps(w, _grown(w, p, x, axes, 0.0), axes, norm)


def _maxima(w: Pieces, p: Parameters, x: Var, axes: Sequence[tuple[Any, ...]]) -> Var:
    lowest = -math.inf if x.dtype == FLOAT32 else float(np.iinfo(np.int32).min)
    wide = _grown(w, p, x, axes, lowest)
    if _is_plain(wide, axes):
        return _pooled(w, wide, axes, PoolingMode.MAX)
    return _by_taps(w, wide, axes, lambda taps: functools.reduce(lambda a, b: w.elemwise(_M.MAX, a, b), taps))


def _maxima_with_places(w: Pieces, p: Parameters, x: Var, axes: Sequence[tuple[Any, ...]]) -> tuple[Var, Var]:
    """Maxima, and the place in flat data of the first element of each window that is one."""
    w.takes_sizes = True
    if math.prod(p.window) > _MOST_TAPS:
        raise NotWritten(
            f"positions in windows of {math.prod(p.window)} elements are not written, up to {_MOST_TAPS} are"
        )
    wide = _grown(w, p, x, axes, -math.inf if x.dtype == FLOAT32 else float(np.iinfo(np.int32).min))
    space = [d for d, *_ in axes]
    numbers: np.ndarray = np.arange(math.prod(space), dtype=np.int32)
    numbers = numbers.reshape(space[::-1]).T if p.column_major else numbers.reshape(space)
    taps, places = [], []
    for window in itertools.product(*map(range, p.window)):
        tap, at = wide, []
        for axis, (k, (d, out, _, stride, step, front, _)) in enumerate(zip(window, axes, strict=True)):
            tap = w.part(tap, axis + 2, k * step, k * step + (out - 1) * stride + 1, stride)
            at.append(np.clip(np.arange(out) * stride + k * step - front, 0, d - 1))  # padding is no maximum
        taps.append(tap)
        places.append(w.constant(np.ascontiguousarray(numbers[np.ix_(*at)])[None, None]))
    best = functools.reduce(lambda a, b: w.elemwise(_M.MAX, a, b), taps)
    found: Var = places[-1]
    for tap, place in zip(taps[-2::-1], places[-2::-1], strict=True):
        here = w.converted(w.compare(ElemwiseMultiTypeMode.EQ, tap, best), INT32)
        found = w.choice(here, place, found)
    planes = np.arange(math.prod(x.shape[:2]), dtype=np.int32) * np.int32(math.prod(space))
    return best, w.add(found, w.constant(planes.reshape(*x.shape[:2], *[1] * len(space))))


def _grown(w: Pieces, p: Parameters, x: Var, axes: Sequence[tuple[Any, ...]], value: float) -> Var:
    """The data with padding around them, in which all windows lie."""
    widths = _windows(p, axes)
    if not _lie_inside(p):
        w.takes_axes.update(range(2, 2 + len(axes)))
    for k, (_, behind) in enumerate(widths):
        if behind < 0:
            x = w.part(x, k + 2, 0, x.shape[k + 2] + behind)
    grown = [(0, 0), (0, 0), *((front, max(behind, 0)) for front, behind in widths)]
    if x.dtype == FLOAT32:
        return padded(w, x, grown, value=value)
    w.takes_sizes = True
    for axis, (front, behind) in enumerate(grown):
        blocks = [(*x.shape[:axis], n, *x.shape[axis + 1 :]) for n in (front, behind)]
        before, after = ([w.expanded(w.number(value, x), b)] if b[axis] else [] for b in blocks)
        x = w.joined([*before, x, *after], axis)
    return x


def _pooled(w: Pieces, x: Var, axes: Sequence[tuple[Any, ...]], mode: PoolingMode) -> Var:
    (_, _, kh, sh, *_), (_, _, kw, sw, *_) = axes
    parameters = params.Pooling(mode=mode, pad_h=0, pad_w=0, stride_h=sh, stride_w=sw, window_h=kh, window_w=kw)
    return w.make("Pooling", parameters, [x])


def _by_taps(w: Pieces, x: Var, axes: Sequence[tuple[Any, ...]], combine: Callable[[Sequence[Var]], Var]) -> Var:
    """One axis after the other: the elements at each place of the windows, put together."""
    for axis, (_, _, k, stride, step, _, _) in enumerate(axes, 2):
        if k > _MOST_TAPS:
            raise NotWritten(f"windows of {k} are not written, only of up to {_MOST_TAPS}")
        ends = [
            (place + 1 - k) * step or NO_LIMIT for place in range(k)
        ]  # from behind, so that they hold for all sizes
        x = combine([w.sliced(x, axis, place * step, end, stride) for place, end in enumerate(ends)])
    return x


@written("OnnxResize", any_size=True)
def _resize(w: Pieces, node: AnyNode) -> Var:
    """For each axis the elements that a result is made of, times their weights."""
    p, x = node.params, node.inputs[0]
    values = [numbers_of(v) for v in node.inputs[1:]]
    (out,) = node.outputs
    dtype = dtype_of(x)
    if any(v is None for v in values):
        raise NotWritten("its sizes depend on data")
    found: AnyVar = x if p.mode == "nearest" else w.converted(x, FLOAT32)
    outside = np.zeros(shape_of(out), np.bool_)
    for axis, ((places, weights), beyond) in OnnxResize().taps(node, shape_of(x), *values).items():
        if weights.shape[1] > _MOST_TAPS:
            raise NotWritten(f"results are made of more than {_MOST_TAPS} elements")
        found = _weighted(w, found, axis, places.astype(np.int32), None if p.mode == "nearest" else weights)
        w.takes_axes.add(axis)
        outside |= beyond.reshape([-1 if k == axis else 1 for k in range(len(shape_of(x)))])
    assert isinstance(found, Var)
    if p.coordinates == "tf_crop_and_resize" and outside.any():
        real = w.converted(found, FLOAT32)
        w.takes_sizes = True
        one, mask = w.number(1, real), w.constant(outside.astype(np.float32))
        found = w.choice(mask, w.expanded(w.number(p.extrapolation, one), shape_of(out)), real)
    if dtype.storage.kind in "iu" and p.mode != "nearest":
        limits = np.iinfo(dtype.storage)
        whole = rounded(w, found)
        low, high = w.number(int(limits.min), whole), w.number(int(limits.max), whole)
        found = w.elemwise(_M.MIN, w.elemwise(_M.MAX, whole, low), high)
    return w.converted(found, dtype)


def _weighted(w: Pieces, x: AnyVar, axis: int, places: np.ndarray, weights: np.ndarray | None) -> Var:
    if weights is None:
        return w.taken(x, axis, w.constant(np.ascontiguousarray(places[:, 0])))
    total: Var | None = None
    shape = [-1 if k == axis else 1 for k in range(len(shape_of(x)))]
    for k in range(places.shape[1]):
        tap = w.taken(x, axis, w.constant(np.ascontiguousarray(places[:, k])))
        term = w.multiply(tap, w.constant(weights[:, k].astype(np.float32).reshape(shape)))
        total = term if total is None else w.add(total, term)
    assert total is not None
    return total


@written("Col2Im")
def _columns_to_image(w: Pieces, node: AnyNode) -> Var:
    """The elements of all blocks are added at their places in flat images."""
    p, x = node.params, node.inputs[0]
    (out,) = node.outputs
    sizes, window, counts = Col2Im.sizes(node, *(np.array(integers_of(v, "a size"), np.int64) for v in node.inputs[1:]))
    dtype, shape = dtype_of(x), shape_of(out)
    inside = np.zeros((*window, *counts), np.bool_)
    flat = np.zeros((*window, *counts), np.int64)
    inside[...] = True
    for axis, (d, k, n, s, t, b) in enumerate(zip(sizes, window, counts, p.strides, p.dilations, p.begin, strict=True)):
        place = np.arange(k)[:, None] * t + np.arange(n) * s - b
        wide = [1] * flat.ndim
        wide[axis], wide[axis + len(window)] = k, n
        inside &= ((place >= 0) & (place < d)).reshape(wide)
        flat = flat * d + place.reshape(wide)
    carrier = FLOAT32 if dtype.is_float else INT32
    images = shape[0] * shape[1]
    rows = w.transposed(w.reshaped(w.converted(x, carrier), (images, flat.size)), (1, 0))
    chosen = np.flatnonzero(inside.reshape(-1)).astype(np.int32)
    parts = rows if len(chosen) == flat.size else w.taken(rows, 0, w.constant(chosen))
    index = w.constant(flat.reshape(-1)[chosen].astype(np.int32))
    nothing = w.expanded(w.number(0, parts), (math.prod(sizes), images))
    items = (IndexDescMaskItem(0, False, False, False, True),)
    total = w.make("IndexingIncrMultiAxisVec", params.IndexDescMaskDump(items=items), [nothing, parts, index])
    return w.converted(w.reshaped(w.transposed(total, (1, 0)), shape), dtype)


@written("DeformableConvForward", any_size=True)
def _deformable(w: Pieces, node: AnyNode) -> Var:
    filters, offsets = shape_of(node.inputs[1]), shape_of(node.inputs[2])
    outputs = shape_of(node.outputs[0])[1]
    groups = offsets[1] // (2 * math.prod(filters[-2:]))
    if outputs % max(groups, 1):
        raise NotWritten(f"the original takes no {groups} groups of offsets for {outputs} channels of the result")
    return w.make(node.op, node.params, node.inputs, node.output_dtype)


@written("AffineGrid")
def _affine_grid(w: Pieces, node: AnyNode) -> Var:
    """All points, with a 1 behind each, times the matrices."""
    theta, dtype = node.inputs[0], dtype_of(node.inputs[0])
    (out,) = node.outputs
    from megengine_lite._core.operators.onnx_sampling import AffineGrid

    shape = shape_of(out)
    axes = AffineGrid.axes(node, shape[1:-1])
    points = np.stack([*np.meshgrid(*axes, indexing="ij")[::-1], np.ones(shape[1:-1])], -1)
    n, rows, columns = shape_of(theta)
    turned = w.reshaped(w.transposed(w.converted(theta, FLOAT32), (2, 0, 1)), (columns, n * rows))
    made = w.product(w.constant(points.reshape(-1, columns).astype(np.float32)), turned)
    moved = w.transposed(w.reshaped(made, (math.prod(shape[1:-1]), n, rows)), (1, 0, 2))
    return w.converted(w.reshaped(moved, shape), dtype)
