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
from megengine_lite._core.ir.params import (
    ElemwiseMode,
    ElemwiseMultiTypeMode,
    IndexDescMaskItem,
    ReduceMode,
    TopKMode,
)
from megengine_lite._core.operators.base import normalize_axis

_COMBINED = {
    "mul": (ElemwiseMode.MUL, ReduceMode.PRODUCT, 1.0),
    "max": (ElemwiseMode.MAX, ReduceMode.MAX, -math.inf),
    "min": (ElemwiseMode.MIN, ReduceMode.MIN, math.inf),
}
"""The function of two elements, that of several, and the number that changes nothing."""
_MOST_TURNS = 64
_MOST_COMPARED = 1 << 22
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
    return _as_vector(w, _flat(w, others, data), shape)


def _as_vector(w: Pieces, places: Var, shape: Sequence[int]) -> Var:
    """Places that are repeated to a shape, one behind the other."""
    numbers = numbers_of(places)
    if numbers is not None:
        return w.constant(np.broadcast_to(numbers, shape).reshape(-1))
    return w.reshaped(w.expanded(places, shape), (math.prod(shape),))


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
        one = w.part(index, last, k, k + 1) if numbers is None else w.constant(numbers[..., k])
        parts.append(from_front(w, w.reshaped(one, shape[:-1] or (1,)), data[batch + k]))
    return _as_vector(w, _flat(w, [*lead, *parts], data[: batch + shape[-1]]), shape[:-1] or (1,))


@written("GatherND")
def _gather_nd(w: Pieces, node: AnyNode) -> Var:
    x, index = node.inputs
    (out,) = node.outputs
    shape, batch = shape_of(x), node.params.batch_dims
    depth = batch + shape_of(index)[-1]
    parts = w.reshaped(x, (math.prod(shape[:depth]), math.prod(shape[depth:])))
    return w.reshaped(w.taken(parts, 0, _tuples(w, index, shape, batch)), shape_of(out))


def _changed(w: Pieces, node: AnyNode, data: Var, places: Var, updates: Var) -> Var:
    """Data of which some parts are replaced, or combined with others."""
    reduction, dtype = node.params.reduction, data.dtype
    carrier = FLOAT32 if dtype.is_float else INT32
    x, new = w.converted(data, carrier), w.converted(updates, carrier)
    if reduction in _COMBINED:
        known = numbers_of(places)
        if known is None:
            changed = _all_at_once(w, reduction, x, places, new)
        else:
            changed = _by_turns(w, reduction, x, known, new)
    else:
        op = "IndexingSetMultiAxisVec" if reduction == "none" else "IndexingIncrMultiAxisVec"
        changed = w.make(op, _ONE_AXIS, [x, new, places])
    return w.converted(changed, dtype)


def _combine(w: Pieces, reduction: str, x: Var, y: Var) -> Var:
    if reduction == "mul" and x.dtype == INT32:
        return w.integer_product(x, y)
    return w.elemwise(_COMBINED[reduction][0], x, y)


def _by_turns(w: Pieces, reduction: str, data: Var, places: np.ndarray, updates: Var) -> Var:
    """Known places: each is changed once in a turn, as often as it occurs."""
    order = np.argsort(places, kind="stable")
    ordered = places[order]
    turns = np.empty(len(places), np.int64)
    turns[order] = np.arange(len(places)) - np.searchsorted(ordered, ordered)
    if len(places) and turns.max() >= _MOST_TURNS:
        raise NotWritten(f"a place occurs more than {_MOST_TURNS} times")
    for turn in range(int(turns.max(initial=-1)) + 1):
        chosen = np.flatnonzero(turns == turn).astype(np.int32)
        index = w.constant(places[chosen].astype(np.int32))
        new = updates if len(chosen) == len(places) else w.taken(updates, 0, w.constant(chosen))
        combined = _combine(w, reduction, w.taken(data, 0, index), new)
        data = w.make("IndexingSetMultiAxisVec", _ONE_AXIS, [data, combined, index])
    return data


def _all_at_once(w: Pieces, reduction: str, data: Var, places: Var, updates: Var) -> Var:
    """Computed places: each part of the data is compared with all of them, and combined with what belongs to it."""
    shape, count = data.shape, places.shape[0]
    parts, size = shape[0], math.prod(shape[1:])
    if parts * count * size > _MOST_COMPARED:
        raise NotWritten(f"{count} computed places among {parts} are too many")
    _, mode, neutral = _COMBINED[reduction]
    if data.dtype == INT32:
        if reduction == "mul":
            raise NotWritten("products of integers are written for known places only")
        limits = np.iinfo(np.int32)
        neutral = limits.min if reduction == "max" else limits.max
    x, new = w.reshaped(data, (parts, size)), w.reshaped(updates, (1, count, size))
    rows = w.constant(np.arange(parts, dtype=np.int32).reshape(-1, 1, 1))
    hits = w.converted(w.compare(ElemwiseMultiTypeMode.EQ, rows, w.reshaped(places, (1, count, 1))), data.dtype)
    others = w.reduced(mode, w.choice(hits, new, w.number(neutral, new)), [1])
    some = w.reshaped(w.reduced(ReduceMode.MAX, hits, [1]), (parts, 1))
    return w.reshaped(w.choice(some, _combine(w, reduction, x, w.reshaped(others, (parts, size))), x), shape)


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


@written("TensorScatter")
def _tensor_scatter(w: Pieces, node: AnyNode) -> Var:
    """Rows and their elements are two indexes, so that an update that does not fit is an error."""
    p, (cache, update, *begins) = node.params, node.inputs
    shape, dtype = shape_of(cache), dtype_of(cache)
    axis = normalize_axis(node, p.axis, len(shape))
    lead, length, rest = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    count, carrier = shape_of(update)[axis], FLOAT32 if dtype.is_float else INT32
    rows = np.repeat(np.arange(lead, dtype=np.int32), count)
    steps = w.constant(np.arange(count, dtype=np.int32).reshape(1, 1, -1))
    places: Var = steps
    if begins:
        places = w.add(w.reshaped(w.converted(begins[0], INT32), (shape[0], 1, 1)), steps)
    if p.circular:
        places = w.elemwise(ElemwiseMode.MOD, places, w.number(length, places))
    index = _as_vector(w, places, (shape[0], lead // shape[0], count))
    items = tuple(IndexDescMaskItem(a, False, False, False, True) for a in (0, 1))
    data, new = w.converted(cache, carrier), w.converted(update, carrier)
    inputs = [w.reshaped(data, (lead, length, rest)), w.reshaped(new, (lead * count, rest)), w.constant(rows), index]
    found = w.make("IndexingSetMultiAxisVec", params.IndexDescMaskDump(items=items), inputs)
    return w.converted(w.reshaped(found, shape), dtype)


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
