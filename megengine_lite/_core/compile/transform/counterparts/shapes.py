"""Operators that move elements: padding, repeating, joining, slicing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.compile.transform.counterparts.pieces import Pieces, dtype_of, numbers_of, shape_of
from megengine_lite._core.compile.transform.counterparts.table import NotWritten, written
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32, INT32
from megengine_lite._core.ir.graph import AnyNode, AnyVar, Var
from megengine_lite._core.ir.params import IndexDescMaskItem, PaddingMode
from megengine_lite._core.operators.base import normalize_axis

_MOST_JOINED = 16
"""Repetitions that are written one by one, which are right for data of all sizes."""
_PADDING = {"constant": PaddingMode.CONSTANT, "edge": PaddingMode.REPLICATE, "reflect": PaddingMode.REFLECT}


def integers_of(var: AnyVar, what: str) -> list[int]:
    """The numbers of a constant."""
    found = numbers_of(var)
    if found is None:
        raise NotWritten(f"{what} depends on data")
    return [int(n) for n in found.reshape(-1)]


@written("Concat", any_size=True)
def _concat(w: Pieces, node: AnyNode) -> Var:
    """The original refuses constants without elements."""
    parts = [v for v in node.inputs if 0 not in shape_of(v)] or node.inputs[:1]
    w.takes_sizes |= len(parts) < len(node.inputs)
    if len(parts) == 1 and isinstance(parts[0], Var):
        return parts[0]
    return w.make("Concat", node.params, parts, node.output_dtype)


@written("Tile", any_size=True)
def _tile(w: Pieces, node: AnyNode) -> Var:
    x, shape = node.inputs[0], shape_of(node.inputs[0])
    assert isinstance(x, Var)
    for axis, count in enumerate(integers_of(node.inputs[1], "how often it repeats")):
        if count != 1:
            if 1 < count <= _MOST_JOINED:
                x, shape = w.joined([x] * count, axis), (*shape[:axis], shape[axis] * count, *shape[axis + 1 :])
                continue
            front, rest = int(np.prod(shape[:axis])), int(np.prod(shape[axis:]))
            wide = w.expanded(w.reshaped(x, (front, 1, rest)), (front, count, rest))
            shape = (*shape[:axis], shape[axis] * count, *shape[axis + 1 :])
            x = w.reshaped(wide, shape)
            w.takes_sizes = True
    return x


@written("OnnxPad", any_size=True)
def _pad(w: Pieces, node: AnyNode) -> Var:
    x, mode = node.inputs[0], node.params.mode
    rank, value = len(shape_of(x)), numbers_of(node.inputs[2])
    numbers = integers_of(node.inputs[1], "the padding")
    widths = list(zip(numbers[:rank], numbers[rank:], strict=True))
    plain = mode in _PADDING and dtype_of(x) == FLOAT32 and min(numbers, default=0) >= 0
    if plain and value is not None and 0 not in shape_of(x):
        return padded(w, x, widths, _PADDING[mode], float(value.reshape(-1)[0]))
    if mode != "constant":
        return _by_positions(w, x, widths, mode)
    w.takes_sizes = True
    assert isinstance(x, Var)
    for axis, (front, behind) in enumerate(widths):
        x = _with_blocks(w, x, axis, front, behind, node.inputs[2])
    return x


def padded(
    w: Pieces, x: AnyVar, widths: Sequence[tuple[int, int]], mode: PaddingMode = PaddingMode.CONSTANT, value: float = 0
) -> Var:
    """A float32 tensor with elements added in front of and behind each axis."""
    if isinstance(x, Var) and all(pair == (0, 0) for pair in widths):
        return x
    offsets = {f"front_offset_dim{k}": front for k, (front, _) in enumerate(widths)}
    offsets |= {f"back_offset_dim{k}": behind for k, (_, behind) in enumerate(widths)}
    return w.make("Padding", params.Padding(padding_val=value, padding_mode=mode, **offsets), [x])


def _by_positions(w: Pieces, x: AnyVar, widths: Sequence[tuple[int, int]], mode: str) -> Var:
    """Padding by elements of the data, of which there may be fewer than before."""
    for axis, (front, behind) in enumerate(widths):
        places = np.arange(shape_of(x)[axis])
        places = places[max(-front, 0) : len(places) - max(-behind, 0)]
        grown = (max(front, 0), max(behind, 0))
        if mode == "edge":
            places = np.pad(places, grown, "edge")
        else:
            places = np.pad(places, grown, "reflect") if mode == "reflect" else np.pad(places, grown, "wrap")
        if (front, behind) != (0, 0):
            w.takes_axes.add(axis)
            x = w.taken(x, axis, w.constant(places.astype(np.int32)))
    assert isinstance(x, Var)
    return x


def _with_blocks(w: Pieces, x: Var, axis: int, front: int, behind: int, value: AnyVar) -> Var:
    """With blocks of a value around an axis, or without elements at its ends where a width is negative."""
    length = x.shape[axis]
    kept = max(length + min(front, 0) + min(behind, 0), 0)
    parts = [w.part(x, axis, max(-front, 0), max(-front, 0) + kept)] if kept else []
    # If more is cut off than there is, what is added on the other side is that much shorter.
    missing = max(-(length + min(front, 0) + min(behind, 0)), 0)
    for width, place in ((front, 0), (behind, len(parts))):
        if width > missing:
            block = (*x.shape[:axis], width - missing, *x.shape[axis + 1 :])
            number = w.converted(value, x.dtype)
            parts.insert(place if place == 0 else len(parts), w.expanded(w.reshaped(number, (1,) * len(block)), block))
    if not parts:
        raise NotWritten("nothing is left of the data")
    return w.joined(parts, axis)


@written("OnnxSlice", any_size=True)
def _slice(w: Pieces, node: AnyNode) -> Var:
    x = node.inputs[0]
    begins, ends, axes, *steps = (integers_of(v, "a number of the slice") for v in node.inputs[1:])
    assert isinstance(x, Var)
    for begin, end, axis, step in zip(begins, ends, axes, steps[0] if steps else [1] * len(axes), strict=True):
        x = w.sliced(x, normalize_axis(node, axis, len(x.shape)), begin, end, step)
    return x


@written("CenterCropPad", any_size=True)
def _center(w: Pieces, node: AnyNode) -> Var:
    x = node.inputs[0]
    (out,) = node.outputs
    assert isinstance(x, Var)
    for axis, wanted in enumerate(shape_of(out)):
        more = wanted - x.shape[axis]
        front = more // 2 if more >= 0 else -((-more) // 2)
        if more:
            x = _with_blocks(w, x, axis, front, more - front, w.number(0, x))
            w.takes_sizes = True
    return x


@written("Subtensor", any_size=True, reads_sizes=True)
def _subtensor(w: Pieces, node: AnyNode) -> Var:
    """With limits that lie inside of the data, as the original asks for; those of ONNX may be anywhere."""
    shape = shape_of(node.inputs[0])
    numbers = iter(node.inputs[1:])
    items, inputs = [], [node.inputs[0]]
    for item in node.params.items:
        given = [next(numbers) if flag else None for flag in (item.begin, item.end, item.step, item.idx)]
        known = [None if v is None or v.const is None else int(v.const.array.reshape(-1)[0]) for v in given]
        limits = zip(given[:3], known, strict=False)
        if item.idx or any(v is not None and n is None for v, n in limits):
            items.append(item)
            inputs += [v for v in given if v is not None]
            continue
        step = known[2] or 1
        begin, end = w.limits(known[0], known[1], step, shape[item.axis], item.axis)
        items.append(IndexDescMaskItem(item.axis, True, end is not None, True, False))
        inputs += [w.constant(np.int32(n)) for n in (begin, end, step) if n is not None]
    return w.make(node.op, node.params.replace(items=tuple(items)), inputs, node.output_dtype)


@written("Range")
def _range(w: Pieces, node: AnyNode) -> Var:
    """How many numbers there are is known, else nothing could be written."""
    start, _, step = node.inputs
    (out,) = node.outputs
    dtype = dtype_of(start)
    carrier = FLOAT32 if dtype.is_float else INT32
    places = w.constant(np.arange(shape_of(out)[0]), carrier)
    found = w.add(w.converted(start, carrier), w.multiply(places, w.converted(step, carrier)))
    return w.converted(found, dtype)


@written("Triangle")
def _triangle(w: Pieces, node: AnyNode) -> Var:
    """Elements where the column is far enough from the row, zeros elsewhere."""
    x = node.inputs[0]
    shape, dtype = shape_of(x), dtype_of(x)
    carrier = FLOAT32 if dtype.is_float else INT32
    rows, columns = (np.arange(n, dtype=np.int32) for n in shape[-2:])
    distance = w.constant(columns - rows[:, None])
    diagonal = w.converted(node.inputs[1], INT32) if len(node.inputs) == 2 else w.constant(np.int32(0))
    one = w.constant(np.int32(1))
    inside = w.at_most(diagonal, distance, one) if node.params.upper else w.at_most(distance, diagonal, one)
    mask = w.converted(inside, carrier)
    return w.converted(w.at_most(w.number(1, mask), mask, w.converted(x, carrier)), dtype)
