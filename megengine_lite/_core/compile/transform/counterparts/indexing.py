"""Gathering, scattering and sorting. What has several coordinates is looked up by an index for each of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

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


class _Places(NamedTuple):
    """Where parts of data are.

    Attributes
    ----------
    dims
        The axes along which the data are indexed. Behind them are those of a part.
    indexes
        A vector of positions for each of them. The file checks those that are computed.
    """

    dims: tuple[int, ...]
    indexes: list[Var]


def not_from_end(w: Pieces, index: AnyVar, extent: int) -> Var:
    """Positions as they are, but far outside of the data where they would be counted from its end."""
    wide = w.converted(index, INT32)
    return w.add(
        w.elemwise(ElemwiseMode.MAX, wide, w.number(-1, wide)), w.less(wide, w.number(0, wide), w.number(-extent, wide))
    )


def _places(w: Pieces, coordinates: Sequence[AnyVar], dims: Sequence[int], shape: Sequence[int]) -> _Places:
    """The places with these coordinates, which are repeated to a shape.

    Each computed one is an index of its own, since in flat data one that is out of range would be another element.
    """
    parts: list[AnyVar | np.ndarray] = []
    lengths: list[int] = []
    for coordinate, extent in zip(coordinates, dims, strict=True):
        known = numbers_of(coordinate)
        if known is None:
            parts.append(coordinate)
            lengths.append(extent)
            continue
        numbers = _counted_from_front(known, extent)
        if parts and isinstance(parts[-1], np.ndarray):
            parts[-1] = parts[-1] * extent + numbers
            lengths[-1] *= extent
        else:
            parts.append(numbers)
            lengths.append(extent)
    if len(parts) == 1 and isinstance(parts[0], np.ndarray):
        return _Places((lengths[0],), [w.constant(np.broadcast_to(parts[0], shape).reshape(-1).astype(np.int32))])
    variables = [w.constant(v.astype(np.int32)) if isinstance(v, np.ndarray) else w.converted(v, INT32) for v in parts]
    return _Places(tuple(lengths), [_as_vector(w, v, shape) for v in variables])


def _counted_from_front(numbers: np.ndarray, extent: int) -> np.ndarray:
    found = numbers.astype(np.int64)
    if found.size and not (found.min() >= -extent and found.max() < extent):
        raise NotWritten(f"an index from {found.min()} to {found.max()} is out of range for {extent} elements")
    return np.where(found < 0, found + extent, found)


def _steps(w: Pieces, count: int, axis: int, ndim: int) -> Var:
    """The positions along an axis, for tensors of so many dimensions."""
    return w.constant(np.arange(count, dtype=np.int32).reshape([-1 if k == axis else 1 for k in range(ndim)]))


def _along_axis(w: Pieces, index: AnyVar, data: Sequence[int], axis: int) -> _Places:
    """For each element of an index its place in data, of which one coordinate is the index itself."""
    shape = shape_of(index)
    coordinates = [index if k == axis else _steps(w, n, k, len(shape)) for k, n in enumerate(shape)]
    return _places(w, coordinates, data, shape)


def _as_vector(w: Pieces, places: Var, shape: Sequence[int]) -> Var:
    """Places that are repeated to a shape, one behind the other."""
    return w.reshaped(w.expanded(places, shape), (math.prod(shape),))


@written("GatherElements")
def _gather_elements(w: Pieces, node: AnyNode) -> Var:
    x, index = node.inputs
    shape = shape_of(x)
    places = _along_axis(w, index, shape, normalize_axis(node, node.params.axis, len(shape)))
    return w.reshaped(w.taken(w.reshaped(x, places.dims), 0, *places.indexes), shape_of(index))


def _tuples(w: Pieces, index: AnyVar, data: Sequence[int], batch: int = 0) -> _Places:
    """The places of the tuples of an index among the parts of data."""
    assert isinstance(index, Var)
    shape, last = index.shape, len(index.shape) - 1
    coordinates: list[AnyVar] = [_steps(w, n, k, last) for k, n in enumerate(shape[:batch])]
    for k in range(shape[-1]):
        numbers = numbers_of(index)
        one = w.part(index, last, k, k + 1) if numbers is None else w.constant(numbers[..., k])
        coordinates.append(w.reshaped(one, shape[:-1] or (1,)))
    return _places(w, coordinates, data[: batch + shape[-1]], shape[:-1] or (1,))


@written("GatherND")
def _gather_nd(w: Pieces, node: AnyNode) -> Var:
    x, index = node.inputs
    (out,) = node.outputs
    shape, batch = shape_of(x), node.params.batch_dims
    places = _tuples(w, index, shape, batch)
    parts = w.reshaped(x, (*places.dims, math.prod(shape[batch + shape_of(index)[-1] :])))
    return w.reshaped(w.taken(parts, 0, *places.indexes), shape_of(out))


def _changed(w: Pieces, node: AnyNode, data: Var, places: _Places, updates: Var) -> Var:
    """Data of which some parts are replaced, or combined with others."""
    reduction, dtype = node.params.reduction, data.dtype
    carrier = FLOAT32 if dtype.is_float else INT32
    x, new = w.converted(data, carrier), w.converted(updates, carrier)
    if reduction in _COMBINED:
        known = numbers_of(places.indexes[0]) if len(places.indexes) == 1 else None
        if known is None:
            changed = _all_at_once(w, reduction, x, places, new)
        else:
            changed = _by_turns(w, reduction, x, known, new)
    else:
        changed = w.changed("Set" if reduction == "none" else "Incr", x, new, *places.indexes)
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
        data = w.changed("Set", data, combined, index)
    return data


def _all_at_once(w: Pieces, reduction: str, data: Var, places: _Places, updates: Var) -> Var:
    """Computed places: each part of the data is compared with all of them, and combined with what belongs to it."""
    shape, parts, count = data.shape, math.prod(places.dims), places.indexes[0].shape[0]
    size = math.prod(shape[len(places.dims) :])
    if parts * count * size > _MOST_COMPARED:
        raise NotWritten(f"{count} computed places among {parts} are too many")
    _, mode, neutral = _COMBINED[reduction]
    if data.dtype == INT32:
        if reduction == "mul":
            raise NotWritten("products of integers are written for known places only")
        limits = np.iinfo(np.int32)
        neutral = limits.min if reduction == "max" else limits.max
    x, new = w.reshaped(data, (parts, size)), w.reshaped(updates, (1, count, size))
    numbers = np.arange(parts, dtype=np.int32)
    rows = w.constant(numbers.reshape(-1, 1, 1))
    found = w.reshaped(w.taken(w.constant(numbers.reshape(places.dims)), 0, *places.indexes), (1, count, 1))
    hits = w.converted(w.compare(ElemwiseMultiTypeMode.EQ, rows, found), data.dtype)
    others = w.reduced(mode, w.choice(hits, new, w.number(neutral, new)), [1])
    some = w.reshaped(w.reduced(ReduceMode.MAX, hits, [1]), (parts, 1))
    return w.reshaped(w.choice(some, _combine(w, reduction, x, w.reshaped(others, (parts, size))), x), shape)


@written("ScatterElements")
def _scatter_elements(w: Pieces, node: AnyNode) -> Var:
    x, index, updates = node.inputs
    shape, count = shape_of(x), math.prod(shape_of(index))
    places = _along_axis(w, index, shape, normalize_axis(node, node.params.axis, len(shape)))
    elements = w.reshaped(x, places.dims)
    return w.reshaped(_changed(w, node, elements, places, w.reshaped(updates, (count,))), shape)


@written("ScatterND")
def _scatter_nd(w: Pieces, node: AnyNode) -> Var:
    x, index, updates = node.inputs
    shape, depth = shape_of(x), shape_of(index)[-1]
    if not depth:
        raise NotWritten("its index has no coordinates")
    size = math.prod(shape[depth:])
    places = _tuples(w, index, shape)
    parts = w.reshaped(x, (*places.dims, size))
    count = places.indexes[0].shape[0]
    return w.reshaped(_changed(w, node, parts, places, w.reshaped(updates, (count, size))), shape)


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
        begin = w.converted(begins[0], INT32) if p.circular else not_from_end(w, begins[0], length)
        places = w.add(w.reshaped(begin, (shape[0], 1, 1)), steps)
    if p.circular:
        places = w.elemwise(ElemwiseMode.MOD, places, w.number(length, places))
    index = _as_vector(w, places, (shape[0], lead // shape[0], count))
    data = w.reshaped(w.converted(cache, carrier), (lead, length, rest))
    new = w.reshaped(w.converted(update, carrier), (lead * count, rest))
    found = w.changed("Set", data, new, w.constant(rows), index)
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
    index = w.reshaped(not_from_end(w, places, size), (count,))
    found: Var = w.reshaped(w.changed("Set", nothing, values, index), pooled)
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
    count = shape[p.time]
    wide = [1] * 2
    wide[p.batch] = shape[p.batch]
    given = w.converted(lengths, INT32)
    # Negative lengths are longer than the data, so that they lead out of these, too.
    some = w.elemwise(ElemwiseMode.MAX, given, w.number(-1, given))
    ends = w.reshaped(w.add(some, w.less(given, w.number(0, given), w.number(count + 2, given))), wide)
    times = _steps(w, count, p.time, 2)
    last = w.subtract(ends, w.constant(np.int32(1)))
    turned = w.subtract(last, times)
    index = w.add(w.less(times, ends, turned), w.at_most(ends, times, times))
    batch = _steps(w, shape[p.batch], p.batch, 2)
    places = _places(w, [batch, index] if p.batch == 0 else [index, batch], shape[:2], shape[:2])
    return w.reshaped(w.taken(w.reshaped(x, (*places.dims, math.prod(shape[2:]))), 0, *places.indexes), shape)


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
