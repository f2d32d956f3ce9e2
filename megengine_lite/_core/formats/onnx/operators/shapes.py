"""Shapes: reshaping, transposing, slicing, padding, repeating."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import Value, check_kind
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.operators.activations import flattened, product
from megengine_lite._core.formats.onnx.operators.table import Call, NeedsShapes, NotConverted, converts
from megengine_lite._core.formats.onnx.tensors import DTYPES
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import INT32, INT64
from megengine_lite._core.ir.graph import AnyVar
from megengine_lite._core.ir.onnx_params import Cumulative, OnnxPad, TargetShape, Triangle
from megengine_lite._core.system.memory import MAX_NDIM
from megengine_lite.errors import ModelFormatError


@converts("Reshape")
def _reshape(call: Call) -> Value:
    b, x, shape = call.builder, call.input(0), call.input(1)
    rank = b.length_of(shape)
    if rank is None:
        raise NeedsShapes("the number of dimensions of its result is not known")
    keeps_zeros = bool(call.integer("allowzero", 0))
    if shape.known is not None:
        numbers = [int(n) for n in shape.known.reshape(-1)]
        if rank == 0:
            return b.reshaped(x, b.integers([1]), 0)
        if (keeps_zeros or 0 not in numbers) and numbers.count(-1) <= 1 and min(numbers) >= -1:
            free = numbers.index(-1) if -1 in numbers and 0 not in numbers else None
            if free is not None or -1 not in numbers:
                return b.reshaped(x, b.integers([1 if n == -1 else n for n in numbers]), rank, free)
    parameters = TargetShape(keeps_zeros=keeps_zeros)
    (target,) = b.nodes_of("TargetShape", parameters, [x.var, shape.var])
    result = b.reshaped(x, target, rank)
    return Value(result.var, x.kind, rank, x.dtype, x.extent if rank == 1 and x.rank == 1 else None)


@converts("Flatten")
def _flatten(call: Call) -> Value:
    x = call.input(0)
    axis = call.integer("axis", 1)
    axis = axis + x.rank if axis < 0 else axis
    if not 0 <= axis <= x.rank:
        raise NotConverted(f"there is no axis {axis} in {x.rank} dimensions")
    return flattened(call.builder, x, axis)


def axes_of(call: Call, place: int, since: int) -> list[int] | None:
    """Axes: an attribute in old versions, an input from ``since`` on; None if they are not given."""
    return call.known_integers(place, "the list of axes") if call.version >= since else call.integers("axes")


@converts("Squeeze")
def _squeeze(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    if (moved := _by_runtime_axes(call, x, "drop")) is not None:
        return moved
    axes = axes_of(call, 1, 13)
    if axes is None:
        shape = b.known_shape(x) if x.length is None else (x.length,)
        if shape is None:
            raise NeedsShapes("it has no axes, and which dimensions are 1 is known only when the model runs")
        axes = [k for k, size in enumerate(shape[: x.rank]) if size == 1]
    return b.without_axes(x, call.axes(axes, x.rank))


@converts("Unsqueeze")
def _unsqueeze(call: Call) -> Value:
    x = call.input(0)
    if (moved := _by_runtime_axes(call, x, "insert")) is not None:
        return moved
    axes = axes_of(call, 1, 13)
    if axes is None:
        raise NotConverted("it has no axes")
    return call.builder.with_axes(x, call.axes(axes, x.rank + len(axes)))


def _by_runtime_axes(call: Call, x: Value, how: str) -> Value | None:
    """The value with axes inserted or dropped that are an input of the model; None if they are known."""
    axes = call.optional(1) if call.version >= 13 else None
    if axes is None or axes.known is not None:
        return None
    b = call.builder
    length = b.length_of(axes)
    if length is None:
        raise NeedsShapes("the number of its axes is not known")
    if x.rank == 0:  # which axes they are makes no difference
        return b.reshaped(x, b.integers([1] * max(length, 1)), length)
    (target,) = b.nodes_of("TargetShape", TargetShape(how), [x.var, axes.var])
    return b.reshaped(x, target, x.rank + length * (1 if how == "insert" else -1))


@converts("Transpose")
def _transpose(call: Call) -> Value:
    x = call.input(0)
    order = call.integers("perm")
    if order is None:
        order = list(range(x.rank))[::-1]
    if sorted(order) != list(range(x.rank)):
        raise NotConverted(f"{order} is no order of {x.rank} axes")
    return call.builder.transposed(x, order)


@converts("Expand", since=8)
def _expand(call: Call) -> Value:
    b, x, shape = call.builder, call.input(0), call.input(1)
    length = b.length_of(shape)
    if length is None:
        raise NeedsShapes("the number of dimensions of its result is not known")
    rank = max(x.rank, length)
    if rank == 0:
        return x
    if length == 0:
        return x
    (target,) = b.nodes_of("TargetShape", TargetShape("expand"), [x.var, shape.var])
    return b.broadcast(x, target, rank)


@converts("Shape")
def _shape(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    begin = call.integer("start", 0)
    end = call.integer("end", x.rank)
    whole = b.shape(x)
    if (begin, end) == (0, x.rank):
        return whole
    return b.part(whole, 0, begin, end)


@converts("Size")
def _size(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    if x.length is not None:
        return b.constant(np.int64(x.length))
    return product(b, b.shape(x)).with_rank(0)


@converts("Slice")
def _slice(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    if call.version < 10:
        begins, ends = call.integers("starts"), call.integers("ends")
        if begins is None or ends is None:
            raise NotConverted("it has no starts or no ends")
        axes, steps = call.integers("axes"), None
        limits = [b.constant(np.array(n, np.int64)) for n in (begins, ends)]
    else:
        limits = [call.input(1), call.input(2)]
        steps, given = call.optional(4), call.optional(3)
        if steps is not None and steps.known is None and given is None:
            given = b.constant(np.arange(x.rank if steps.length is None else steps.length))
        if given is not None and (given.known is None or (steps is not None and steps.known is None)):
            inputs = [*limits, given] if steps is None else [*limits, given, steps]
            return b.moved("OnnxSlice", None, _exactly(b, x), *(v.var for v in inputs))
        axes = call.known_integers(3, "the list of axes")
    lengths = [b.length_of(v) for v in (limits if steps is None else [*limits, steps])]
    if axes is not None:
        lengths.append(len(axes))
    known = {n for n in lengths if n is not None}
    if len(known) > 1:
        raise ModelFormatError(f"its starts, ends, axes and steps have different lengths: {sorted(known)}")
    count = next(iter(known), None)
    if count is None:
        raise NeedsShapes("the number of its axes is not known")
    places = call.axes_in_order(range(count) if axes is None else axes, x.rank)
    parts: list[tuple[int, AnyVar, AnyVar, AnyVar | None]] = []
    for k, axis in enumerate(places):
        begin, end = (element(b, v, k) for v in limits)
        step = None if steps is None else element(b, steps, k)
        number = 1 if step is None or step.const is None else int(step.const.array.reshape(-1)[0])
        if number == 0:
            raise ModelFormatError(f"the step of axis {axis} is 0")
        if number < 0:
            begin = _not_before(b, begin, x, axis)
        parts.append((axis, begin, end, None if number == 1 else step))
    together = [part for part in parts if part[0] > 1]  # those of images and channels may be recognised later
    for part in parts:
        if part[0] <= 1:
            x = b.sliced(x, *part)
    if len(together) == 1:
        return b.sliced(x, *together[0])
    return b.sliced_along(x, together) if together else x


def _not_before(b: GraphBuilder, begin: AnyVar, x: Value, axis: int) -> AnyVar:
    """Where a slice backwards begins: at the first element, if its number lies before that."""
    if begin.const is not None and int(begin.const.array.reshape(-1)[0]) >= -1:
        return begin
    first = b.elemwise(params.ElemwiseMode.NEGATE, b.dimension(x, axis))
    given = Value(begin, ElementType.INT64, 1, INT64 if b.is_int64(begin) else INT32)
    return b.elemwise(params.ElemwiseMode.MAX, given, first).var


def element(b: GraphBuilder, vector: Value, place: int) -> AnyVar:
    """One number of a vector."""
    if vector.known is not None:
        return b.integers([int(vector.known.reshape(-1)[place])])
    if vector.length == 1:
        return vector.var
    return b.part(vector, 0, place, place + 1).var


_PAD_MODES = {"constant": "constant", "edge": "edge", "reflect": "reflect", "wrap": "wrap"}


@converts("Pad")
def _pad(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    mode = call.text("mode", "constant")
    if mode not in _PAD_MODES:
        raise NotConverted(f"the mode {mode!r} is not known")
    if call.version < 11:
        stored = call.integers("pads")
        if stored is None:
            raise ModelFormatError("the attribute 'pads' is missing")
        numbers: Value | None = b.constant(np.array(stored, np.int64))
        value = b.number(call.real("value", 0.0), x)
    else:
        numbers, given = call.input(1), call.optional(2)
        value = b.number(0, x) if given is None else given
    assert numbers is not None
    axes = call.known_integers(3, "the list of axes") if call.version >= 18 else None
    if numbers.known is not None:
        pads = [int(n) for n in numbers.known.reshape(-1)]
        return padded(b, x, all_pads(call, x, pads, axes), mode, value)
    if axes is not None:
        numbers = _of_all_axes(call, x, numbers, axes)
    return b.moved("OnnxPad", OnnxPad(mode), _exactly(b, x), numbers.var, b.exact(value))


def _of_all_axes(call: Call, x: Value, numbers: Value, axes: Sequence[int]) -> Value:
    """The padding of all axes from that of some."""
    b, places = call.builder, call.axes_in_order(axes, x.rank)
    parts = [b.constant(np.array([0]))] * (2 * x.rank)
    for k, axis in enumerate(places):
        parts[axis] = b.part(numbers, 0, k, k + 1)
        parts[axis + x.rank] = b.part(numbers, 0, k + len(places), k + len(places) + 1)
    return b.joined(parts, 0)


def _exactly(b: GraphBuilder, x: Value) -> Value:
    return Value(b.exact(x), x.kind, x.rank, DTYPES[x.kind])


def all_pads(call: Call, x: Value, pads: Sequence[int], axes: Sequence[int] | None) -> list[tuple[int, int]]:
    """What to add in front of and behind each axis."""
    places = list(range(x.rank)) if axes is None else call.axes_in_order(axes, x.rank)
    if len(pads) != 2 * len(places):
        raise NotConverted(f"{len(pads)} numbers do not pad {len(places)} axes")
    widths = [(0, 0)] * x.rank
    for k, axis in enumerate(places):
        widths[axis] = pads[k], pads[k + len(places)]
    return widths


def padded(b: GraphBuilder, x: Value, widths: Sequence[tuple[int, int]], mode: str, value: Value) -> Value:
    """A tensor with known padding."""
    if all(pair == (0, 0) for pair in widths):
        return x
    simple = {"constant": params.PaddingMode.CONSTANT, "edge": params.PaddingMode.REPLICATE}
    number = value.known
    fits = x.is_float32 and mode in simple and number is not None and min(min(w) for w in widths) >= 0
    if fits and number is not None and len(widths) <= MAX_NDIM:
        offsets: dict[str, int] = {}
        for k, (front, behind) in enumerate(widths):
            offsets |= {f"front_offset_dim{k}": front, f"back_offset_dim{k}": behind}
        parameters = params.Padding(padding_val=float(number.reshape(-1)[0]), padding_mode=simple[mode], **offsets)
        return b.moved("Padding", parameters, x)
    numbers = b.integers([w[0] for w in widths] + [w[1] for w in widths])
    return b.moved("OnnxPad", OnnxPad(mode), _exactly(b, x), numbers, b.exact(value))


@converts("Tile")
def _tile(call: Call) -> Value:
    x, repeats = call.input(0), call.input(1)
    return call.builder.moved("Tile", None, x, repeats.var) if x.rank else x


@converts("DepthToSpace")
def _depth_to_space(call: Call) -> Value:
    size, mode = call.positive("blocksize"), call.text("mode", "DCR")
    b, x = call.builder, call.input(0)
    n, _, h, w = (b.dimension(x, k) for k in range(4))
    two = b.constant(np.array([size]))
    rest = b.constant(np.array([-1]))
    if mode == "DCR":
        parts, order = [n, two, two, rest, h, w], (0, 3, 4, 1, 5, 2)
    else:
        parts, order = [n, rest, two, two, h, w], (0, 1, 4, 2, 5, 3)
    split = _to(b, x, parts)
    left = b.dimension(split, parts.index(rest))
    return _to(b, b.transposed(split, order), [n, left, _times(b, h, size), _times(b, w, size)])


@converts("SpaceToDepth")
def _space_to_depth(call: Call) -> Value:
    size, mode = call.positive("blocksize"), call.text("mode", "DCR")
    b, x = call.builder, call.input(0)
    n, c, h, w = (b.dimension(x, k) for k in range(4))
    two = b.constant(np.array([size]))
    h, w = (_over(b, v, size) for v in (h, w))
    split = _to(b, x, [n, c, h, two, w, two])
    rest = b.constant(np.array([-1]))
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return _to(b, b.transposed(split, order), [n, rest, h, w])


def _times(b: GraphBuilder, n: Value, factor: int) -> Value:
    return b.elemwise(params.ElemwiseMode.MUL, n, b.constant(np.array([factor])))


def _over(b: GraphBuilder, n: Value, divisor: int) -> Value:
    return b.elemwise(params.ElemwiseMode.FLOOR_DIV, n, b.constant(np.array([divisor])))


def _to(b: GraphBuilder, x: Value, parts: Sequence[Value]) -> Value:
    """The value in a shape whose numbers are given one by one; one may be -1."""
    shape = b.joined(list(parts), 0)
    (target,) = b.nodes_of("TargetShape", TargetShape(keeps_zeros=True), [x.var, shape.var])
    return b.reshaped(x, target, len(parts))


@converts("CumProd", since=26)
@converts("CumSum", since=11)
def _cumulative_sum(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    check_kind(x.kind, "iuf")
    axis = None if call.input(1).known is None else call.known_integers(1, "the axis")
    if call.op == "CumProd" or axis is None or x.kind not in (ElementType.FLOAT, ElementType.INT32):
        parameters: object = Cumulative(
            bool(call.integer("exclusive", 0)), bool(call.integer("reverse", 0)), call.op == "CumProd"
        )
        return b.moved("Cumulative", parameters, _exactly(b, x), call.input(1).var)
    parameters = params.Cumsum(
        axis=call.normalized(axis[0], x.rank),
        exclusive=bool(call.integer("exclusive", 0)),
        reverse=bool(call.integer("reverse", 0)),
    )
    return b.node("Cumsum", parameters, [b.exact(x)], x.kind, x.rank)


@converts("Trilu", since=14)
def _triangle(call: Call) -> Value:
    x, k = call.input(0), call.optional(1)
    inputs = [] if k is None else [k.var]
    return call.builder.moved("Triangle", Triangle(bool(call.integer("upper", 1))), x, *inputs)
