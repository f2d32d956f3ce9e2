"""Sequences of tensors: lists of values while the model is imported, of which no node of the graph knows."""

from __future__ import annotations

from megengine_lite._core.formats.onnx.graph_values import TensorList, Value, check_same_kind
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.operators.constants import target_kind
from megengine_lite._core.formats.onnx.operators.indexing import taken
from megengine_lite._core.formats.onnx.operators.shapes import element
from megengine_lite._core.formats.onnx.operators.table import Call, NeedsShapes, NotConverted, converts
from megengine_lite._core.ir import params
from megengine_lite._core.ir.params import ElemwiseMode
from megengine_lite.errors import ModelFormatError

MOST_PARTS = 4096
"""Tensors of a sequence."""


@converts("SequenceConstruct", since=11)
def _construct(call: Call) -> Value:
    values = [call.input(k) for k in range(max(len(call.inputs), 1))]
    check_same_kind(values)
    return TensorList(values, values[0].kind)


@converts("SequenceEmpty", since=11)
def _empty(call: Call) -> Value:
    return TensorList([], target_kind(call, "dtype", ElementType.FLOAT))


@converts("SequenceInsert", since=11)
def _insert(call: Call) -> Value:
    sequence, value = call.sequence(0), call.input(1)
    check_same_kind([sequence, value])
    count = len(sequence.parts)
    place = _place(call, 2, count, last=count) if call.optional(2) is not None else count
    return TensorList([*sequence.parts[:place], value, *sequence.parts[place:]], sequence.kind)


@converts("SequenceErase", since=11)
def _erase(call: Call) -> Value:
    sequence = call.sequence(0)
    count = len(sequence.parts)
    if count == 0:
        raise ModelFormatError("its sequence has nothing to erase")
    place = _place(call, 1, count) if call.optional(1) is not None else count - 1
    return TensorList([*sequence.parts[:place], *sequence.parts[place + 1 :]], sequence.kind)


@converts("SequenceAt", since=11)
def _at(call: Call) -> Value:
    b, sequence, position = call.builder, call.sequence(0), call.input(1)
    if sequence.stack is not None:
        return taken(b, sequence.stack, position, 0)
    parts = sequence.parts
    if b.known_value(position) is not None:
        return parts[_place(call, 1, len(parts))]
    shapes = {b.known_shape(p) for p in parts}
    if len(shapes) != 1 or None in shapes:
        raise NeedsShapes("its position is computed when the model runs, and its tensors have not one known shape")
    return taken(b, b.joined([b.with_axes(p, [0]) for p in parts], 0), position, 0)


@converts("SequenceLength", since=11)
def _length(call: Call) -> Value:
    b, sequence = call.builder, call.sequence(0)
    if sequence.stack is not None:
        return b.without_axes(b.dimension(sequence.stack, 0), [0])
    return b.constant(len(sequence.parts), ElementType.INT64)


@converts("SplitToSequence", since=11)
def _split(call: Call) -> Value:
    b, x, lengths = call.builder, call.input(0), call.optional(1)
    axis = call.axis("axis", 0, x.rank)
    keeps = bool(call.integer("keepdims", 1)) or lengths is not None
    if lengths is not None and lengths.rank == 1:
        count = b.length_of(lengths)
        if count is None:
            raise NeedsShapes("it is not known in how many parts it divides its input")
        sizes = [element(b, lengths, k) for k in range(_checked(count))]
    else:
        (size,) = call.known_integers(1, "the size of its parts") or [1]
        if size < 1:
            raise ModelFormatError(f"parts of {size} elements are not defined")
        shape = b.known_shape(x)
        if shape is None:
            raise NeedsShapes("it is not known in how many parts it divides its input")
        count = _checked(-(-shape[axis] // size))
        sizes = [b.integers([min(size, shape[axis] - k * size)]) for k in range(count)]
    made = b.nodes_of("Split", params.Axis(axis=axis), [x.var, *map(b.size, sizes)], count) if count else []
    values = [Value(var, x.kind, x.rank, x.dtype) for var in made]
    return TensorList(values if keeps else [b.without_axes(v, [axis]) for v in values], x.kind)


def _checked(count: int) -> int:
    if count > MOST_PARTS:
        raise NotConverted(f"its sequence has {count} tensors, and must not have more than {MOST_PARTS}")
    return count


@converts("ConcatFromSequence", since=11)
def _concat(call: Call) -> Value:
    b, sequence, stacks = call.builder, call.sequence(0), call.integer("new_axis", 0)
    if sequence.stack is not None:
        return _joined(call, sequence.stack, bool(stacks))
    parts = sequence.parts
    if not parts:
        raise NotConverted("its sequence is empty")
    axis = call.axis("axis", 0, parts[0].rank + bool(stacks))
    return b.joined([b.with_axes(p, [axis]) for p in parts] if stacks else parts, axis)


def _joined(call: Call, stack: Value, stacks: bool) -> Value:
    """The tensors that lie along the first axis of one, joined along another axis, which may be new."""
    b, rank = call.builder, stack.rank - 1
    axis = call.axis("axis", 0, rank + stacks)
    order = [*range(1, axis + 1), 0, *range(axis + 1, stack.rank)]
    moved = b.transposed(stack, order)
    if stacks:
        return moved
    sizes = [b.dimension(moved, k if k < axis else k + 1) for k in range(rank)]
    sizes[axis] = b.elemwise(ElemwiseMode.MUL, b.dimension(moved, axis), sizes[axis])
    return b.reshaped(moved, b.joined(sizes, 0).var, rank)


def _place(call: Call, k: int, count: int, last: int | None = None) -> int:
    """A position that input ``k`` says among so many tensors, up to ``last``; negative ones count from the end."""
    (place, *more) = call.known_integers(k, "the position") or [0]
    if more or not -count <= place <= (count - 1 if last is None else last):
        raise ModelFormatError(f"there is no position {place} in a sequence of {count}")
    return place + count if place < 0 else place
