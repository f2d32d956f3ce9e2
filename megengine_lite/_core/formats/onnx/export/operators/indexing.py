"""Taking, setting and increasing parts of a tensor."""

from __future__ import annotations

from megengine_lite._core.formats.onnx.export.graph_writer import BEGIN, END, OnnxValue
from megengine_lite._core.formats.onnx.export.table import NodeCall, NotExported, exports
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.operators import REGISTRY

_E = ElementType
# What ScatterElements adds up as it is.
_ADDED = (_E.FLOAT, _E.INT32, _E.INT64, _E.DOUBLE)


def _slices(call: NodeCall, x: OnnxValue, first: int) -> tuple[OnnxValue, dict[int, int]]:
    """The data after all slices, and for axes with an index the position of that input."""
    w, rank = call.writer, call.ndim(0)
    position = first
    axes: list[int] = []
    columns: list[tuple[OnnxValue, OnnxValue, OnnxValue]] = []
    indexes: dict[int, int] = {}
    for item in call.params.items:
        axis = item.axis % rank
        numbers: list[OnnxValue | None] = [None, None, None]
        for k, flag in enumerate((item.begin, item.end, item.step)):
            if flag:
                numbers[k] = w.reshape(call.index(position), 1) if call.ndim(position) != 1 else call.index(position)
                position += 1
        if any(n is not None for n in numbers):
            axes.append(axis)
            columns.append(_whole_slice(call, numbers))
        if item.idx:
            indexes[axis] = position
            position += 1
    if columns:
        begins, ends, steps = (w.joined([c[k] for c in columns]) for k in range(3))
        x = w.op("Slice", x, begins, ends, w.integers(*axes), steps)
    return x, dict(sorted(indexes.items()))


def _whole_slice(call: NodeCall, numbers: list[OnnxValue | None]) -> tuple[OnnxValue, OnnxValue, OnnxValue]:
    """Begin, end and step of a slice; what is missing depends on the direction."""
    w = call.writer
    begin, end, step = numbers
    backward = False
    if step is not None and (begin is None or end is None):
        array = w.array_of(step)
        if array is None:
            raise NotExported("the step of a slice is computed, and its begin or end is open")
        backward = int(array.reshape(-1)[0]) < 0
    return (
        begin if begin is not None else w.integers(END if backward else 0),
        end if end is not None else w.integers(BEGIN if backward else END),
        step if step is not None else w.integers(1),
    )


def _pick(call: NodeCall, x: OnnxValue, first: int) -> OnnxValue:
    """The selected part of a tensor that has the shape of the data."""
    x, indexes = _slices(call, x, first)
    return _PICKS[type(REGISTRY[call.node.op].family).__name__](call, x, indexes)  # type: ignore[attr-defined]  # all have it


def _scalars(call: NodeCall, x: OnnxValue, indexes: dict[int, int]) -> OnnxValue:
    """Each index is one number and removes its axis."""
    w, rank = call.writer, call.ndim(0)
    removed = []
    for axis, place in indexes.items():
        x = w.op("Gather", x, call.index(place), axis=axis)
        removed.append(axis)
    return w.squeeze(x, removed if len(removed) < rank else removed[1:])


def _vectors(call: NodeCall, x: OnnxValue, indexes: dict[int, int]) -> OnnxValue:
    """Index tensors broadcast together and select single elements."""
    w, rank, axes = call.writer, call.ndim(0), list(indexes)
    if not axes:
        return x
    if len(axes) == 1:
        return w.op("Gather", x, call.index(indexes[axes[0]]), axis=axes[0])
    rest = [k for k in range(rank) if k not in axes]
    picked = max(call.ndim(p) for p in indexes.values())
    values = [call.index(p) for p in indexes.values()]
    if len({call.known(p).seen for p in indexes.values()}) > 1:  # adding zeros of the others' shapes spreads them
        zeros = [v * 0 for v in values]
        values = [sum(zeros[:k] + zeros[k + 1 :], v) for k, v in enumerate(values)]
    joined = w.joined([w.unsqueeze(v, [picked]) for v in values], picked)
    found = w.op("GatherND", w.transpose(x, [*axes, *rest]), joined)
    place = axes[0] if axes[-1] - axes[0] + 1 == len(axes) else 0
    order = [*range(picked, picked + place), *range(picked), *range(picked + place, picked + len(rest))]
    return w.transpose(found, order)


def _mesh(call: NodeCall, x: OnnxValue, indexes: dict[int, int]) -> OnnxValue:
    """Index vectors select along each axis separately."""
    for axis, place in indexes.items():
        x = call.writer.op("Gather", x, call.index(place), axis=axis)
    return x


def _batched_mesh(call: NodeCall, x: OnnxValue, indexes: dict[int, int]) -> OnnxValue:
    """Index vectors that differ between the samples of axis 0."""
    w, rank = call.writer, call.ndim(0)
    for axis, place in indexes.items():
        index = w.unsqueeze(call.index(place), [k for k in range(1, rank) if k != axis])
        shape, length = w.shape(x), w.size(call.index(place), 1)
        parts = [w.slice(shape, 0, 0, axis), length]
        parts += [w.slice(shape, 0, axis + 1, rank)] if axis + 1 < rank else []
        x = w.op("GatherElements", x, w.op("Expand", _positive(call, index, x, axis), w.joined(parts)), axis=axis)
    return x


def _positive(call: NodeCall, index: OnnxValue, x: OnnxValue, axis: int) -> OnnxValue:
    """Indexes counted from the front."""
    w = call.writer
    return w.where(index < 0, index + w.size(x, axis), index)


_PICKS = {"Scalars": _scalars, "Vectors": _vectors, "Mesh": _mesh, "BatchedMesh": _batched_mesh}


@exports("Subtensor", "IndexingMultiAxisVec", "MeshIndexing", "BatchedMeshIndexing")
def _take(call: NodeCall) -> None:
    (x,) = call.moved(0)
    call.give_moved(_pick(call, x, 1))


@exports(
    "SetSubtensor",
    "IncrSubtensor",
    "IndexingSetMultiAxisVec",
    "IndexingIncrMultiAxisVec",
    "SetMeshIndexing",
    "IncrMeshIndexing",
    "BatchedSetMeshIndexing",
    "BatchedIncrMeshIndexing",
)
def _change(call: NodeCall) -> None:
    """Picks of the numbers of all elements those that are changed; the values are scattered to these places."""
    w, dtype = call.writer, call.dtype(0)
    adds = "Incr" in call.node.op
    data, value = call.stored(0), call.stored(1)
    shape = w.shape(data)
    count = w.reduce("ReduceProd", shape, [0])
    places = _pick(call, w.op("Reshape", w.range(count), shape), 2)
    kind = data.kind
    if (adds and kind not in _ADDED) or kind == _E.BOOL:
        wide = _E.FLOAT if dtype.is_float else _E.INT32
        data, value = w.as_kind(data, wide), w.as_kind(value, wide)
    values = w.reshape(w.op("Expand", value, w.shape(places)), -1)
    flat = w.op(
        "ScatterElements",
        w.reshape(data, -1),
        w.reshape(places, -1),
        values,
        axis=0,
        reduction="add" if adds else None,
    )
    if adds and w.opset < 16:
        raise NotExported("adding to elements needs operator set 16")
    call.give(w.as_kind(w.op("Reshape", flat, shape), kind))


@exports("IndexingOneHot", "IndexingSetOneHot")
def _one_hot(call: NodeCall) -> None:
    w, rank = call.writer, call.ndim(0)
    axis = call.params.axis % rank
    index = call.index(1) if rank == 1 else w.unsqueeze(call.index(1), [axis])
    if call.node.op == "IndexingOneHot":
        (x,) = call.moved(0)
        call.give_moved(w.op("GatherElements", x, index, axis=axis))
    else:
        call.give(w.op("ScatterElements", call.stored(0), index, call.stored(2), axis=axis))


@exports("IndexingRemap")
def _remap(call: NodeCall) -> None:
    w = call.writer
    found = w.op("GatherND", call.stored(0), call.index(1))
    call.give(w.reshape(found, 1) if call.ndim(1) == 1 else found)
