"""Gathering, scattering and sorting. What has several coordinates is looked up by one number in flat data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from megengine_lite._core.compile.transform.counterparts.pieces import Pieces, dtype_of, numbers_of, shape_of
from megengine_lite._core.compile.transform.counterparts.shapes import integers_of
from megengine_lite._core.compile.transform.counterparts.table import NotWritten, written
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32, INT32
from megengine_lite._core.ir.graph import AnyNode, AnyVar, Var
from megengine_lite._core.ir.params import IndexDescMaskItem, TopKMode
from megengine_lite._core.operators.base import normalize_axis

_ONE_AXIS = params.IndexDescMaskDump(items=(IndexDescMaskItem(0, False, False, False, True),))


def from_front(w: Pieces, index: AnyVar, extent: int) -> Var:
    """Positions of which none is counted from the end."""
    numbers = numbers_of(index)
    if numbers is not None:
        return w.constant(np.where(numbers < 0, numbers + extent, numbers).astype(np.int32))
    wide = w.converted(index, INT32)
    return w.add(wide, w.less(wide, w.number(0, wide), w.number(extent, wide)))


def _flat(w: Pieces, places: Sequence[AnyVar], shape: Sequence[int]) -> Var:
    """One number for the coordinates of elements, in data of a shape. Constants are computed here."""
    total: AnyVar | None = None
    for k, place in enumerate(places):
        stride = math.prod(shape[k + 1 :])
        if total is not None and total.const is not None and place.const is not None:
            total = w.constant(total.const.array + place.const.array * np.int32(stride))
            continue
        if place.const is not None:
            term: AnyVar = w.constant(place.const.array * np.int32(stride))
        else:
            term = w.multiply(place, w.number(stride, place)) if stride != 1 else place
        total = term if total is None else w.add(total, term)
    assert isinstance(total, Var)
    return total


def _along_axis(w: Pieces, index: AnyVar, data: Sequence[int], axis: int) -> Var:
    """For each element of an index its place in flat data, of which one coordinate is the index itself."""
    shape = shape_of(index)
    others = [
        from_front(w, index, data[axis])
        if k == axis
        else w.constant(np.arange(n, dtype=np.int32).reshape([-1 if j == k else 1 for j in range(len(shape))]))
        for k, n in enumerate(shape)
    ]
    return w.reshaped(w.expanded(_flat(w, others, data), shape), (math.prod(shape),))


@written("GatherElements")
def _gather_elements(w: Pieces, node: AnyNode) -> Var:
    x, index = node.inputs
    shape = shape_of(x)
    places = _along_axis(w, index, shape, normalize_axis(node, node.params.axis, len(shape)))
    return w.reshaped(w.taken(w.reshaped(x, (math.prod(shape),)), 0, places), shape_of(index))


def _tuples(w: Pieces, index: AnyVar, data: Sequence[int], batch: int = 0) -> Var:
    """The places of the tuples of an index among the parts of data, as a vector."""
    assert isinstance(index, Var)
    shape, last = index.shape, len(index.shape) - 1
    lead = [
        w.constant(np.arange(n, dtype=np.int32).reshape([-1 if j == k else 1 for j in range(last)]))
        for k, n in enumerate(shape[:batch])
    ]
    parts = []
    for k in range(shape[-1]):
        numbers = numbers_of(index)
        one = w.part(index, last, k, k + 1) if numbers is None else w.constant(numbers[..., k : k + 1])
        parts.append(from_front(w, w.reshaped(one, shape[:-1] or (1,)), data[batch + k]))
    count = math.prod(shape[:-1])
    places = _flat(w, [*lead, *parts], data[: batch + shape[-1]])
    return w.reshaped(w.expanded(places, shape[:-1] or (1,)), (count,))


@written("GatherND")
def _gather_nd(w: Pieces, node: AnyNode) -> Var:
    x, index = node.inputs
    (out,) = node.outputs
    shape, batch = shape_of(x), node.params.batch_dims
    depth = batch + shape_of(index)[-1]
    parts = w.reshaped(x, (math.prod(shape[:depth]), math.prod(shape[depth:])))
    return w.reshaped(w.taken(parts, 0, _tuples(w, index, shape, batch)), shape_of(out))


def _changed(w: Pieces, node: AnyNode, data: Var, places: Var, updates: Var) -> Var:
    """Data of which some parts are replaced, or get something added."""
    reduction = node.params.reduction
    if reduction not in ("none", "add"):
        raise NotWritten(f"elements are replaced or added, not combined by {reduction!r}")
    op = "IndexingSetMultiAxisVec" if reduction == "none" else "IndexingIncrMultiAxisVec"
    dtype = data.dtype
    carrier = FLOAT32 if dtype.is_float else INT32
    changed = w.make(op, _ONE_AXIS, [w.converted(data, carrier), w.converted(updates, carrier), places])
    return w.converted(changed, dtype)


@written("ScatterElements")
def _scatter_elements(w: Pieces, node: AnyNode) -> Var:
    x, index, updates = node.inputs
    shape, count = shape_of(x), math.prod(shape_of(index))
    places = _along_axis(w, index, shape, normalize_axis(node, node.params.axis, len(shape)))
    flat = w.reshaped(x, (math.prod(shape),))
    return w.reshaped(_changed(w, node, flat, places, w.reshaped(updates, (count,))), shape)


@written("ScatterND")
def _scatter_nd(w: Pieces, node: AnyNode) -> Var:
    x, index, updates = node.inputs
    shape, depth = shape_of(x), shape_of(index)[-1]
    if not depth:
        raise NotWritten("its index has no coordinates")
    size = math.prod(shape[depth:])
    places = _tuples(w, index, shape)
    parts = w.reshaped(x, (math.prod(shape[:depth]), size))
    return w.reshaped(_changed(w, node, parts, places, w.reshaped(updates, (places.shape[0], size))), shape)


@written("MaxUnpool")
def _max_unpool(w: Pieces, node: AnyNode) -> Var:
    p, (x, places) = node.params, node.inputs[:2]
    (out,) = node.outputs
    shape = shape_of(x)
    space = zip(shape[2:], p.window, p.strides, p.begin, p.end, strict=True)
    pooled = (*shape[:2], *((d - 1) * s - b - e + k for d, k, s, b, e in space))
    count, size, dtype = math.prod(shape), math.prod(pooled), dtype_of(x)
    carrier = FLOAT32 if dtype.is_float else INT32
    values = w.reshaped(w.converted(x, carrier), (count,))
    nothing = w.expanded(w.number(0, values), (size,))
    index = w.reshaped(w.converted(places, INT32), (count,))
    found: Var = w.reshaped(w.make("IndexingSetMultiAxisVec", _ONE_AXIS, [nothing, values, index]), pooled)
    for axis, (wanted, d) in enumerate(zip(shape_of(out), pooled, strict=True)):
        if wanted > d:
            zeros = (*found.shape[:axis], wanted - d, *found.shape[axis + 1 :])
            found = w.joined([found, w.expanded(w.number(0, found), zeros)], axis)
    return w.converted(found, dtype)


@written("ReverseSequence")
def _reverse(w: Pieces, node: AnyNode) -> Var:
    """The places in front of a length are counted from that length backwards."""
    p, (x, lengths) = node.params, node.inputs
    shape = shape_of(x)
    wide = [1] * 2
    wide[p.batch] = shape[p.batch]
    ends = w.reshaped(w.converted(lengths, INT32), wide)
    steps = np.arange(shape[p.time], dtype=np.int32)
    times = w.constant(steps.reshape([-1 if k == p.time else 1 for k in range(2)]))
    last = w.subtract(ends, w.constant(np.int32(1)))
    turned = w.subtract(last, times)
    index = w.add(w.less(times, ends, turned), w.at_most(ends, times, times))
    samples = np.arange(shape[p.batch], dtype=np.int32)
    batch = w.constant(samples.reshape([-1 if k == p.batch else 1 for k in range(2)]))
    places = [batch, index] if p.batch == 0 else [index, batch]
    rest = math.prod(shape[2:])
    flat = w.reshaped(w.expanded(_flat(w, places, shape[:2]), shape[:2]), (shape[0] * shape[1],))
    return w.reshaped(w.taken(w.reshaped(x, (shape[0] * shape[1], rest)), 0, flat), shape)


@written("SortedTopK")
def _top_k(w: Pieces, node: AnyNode) -> list[Var]:
    """Of equal elements the original takes the first one first if it sorts upwards, else the last one.

    So that the first one comes first downwards, too, rows are turned around before.
    """
    x = node.inputs[0]
    (k,) = integers_of(node.inputs[1], "k")
    shape, dtype, largest = shape_of(x), dtype_of(x), node.params.largest
    axis = normalize_axis(node, node.params.axis, len(shape))
    if not k:
        raise NotWritten("the original has no empty tensors")
    order = [*(a for a in range(len(shape)) if a != axis), axis]
    count = shape[axis]
    rows = w.reshaped(w.transposed(x, order), (math.prod(shape) // count, count))
    carried = w.converted(rows, FLOAT32 if dtype.is_float else INT32)
    turned = w.turned(carried, 1) if largest else carried
    parameters = params.TopK(mode=TopKMode.VALUE_IDX_SORTED)
    number = w.constant(np.int32(-k if largest else k))
    values, places = w.results("TopK", parameters, [turned, number], 2)
    if largest:
        places = w.subtract(w.constant(np.int32(count - 1)), places)
    found = [*(d for a, d in enumerate(shape) if a != axis), k]
    back = [order.index(a) for a in range(len(shape))]
    return [w.transposed(w.reshaped(v, found), back) for v in (w.converted(values, dtype), places)]
