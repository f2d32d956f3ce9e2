"""Shapes and movement of data."""

from __future__ import annotations

from megengine_lite._core.formats.onnx.export.graph_writer import OnnxValue
from megengine_lite._core.formats.onnx.export.operators.elemwise import common_layout
from megengine_lite._core.formats.onnx.export.table import NodeCall, NotExported, exports
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.ir.image_layouts import block_size, stored_axes
from megengine_lite._core.ir.known_shapes import KnownVar
from megengine_lite._core.ir.params import AxisMethod, PaddingMode
from megengine_lite._core.operators.shape import NO_AXIS, Padding

_E = ElementType


def _shape_of(call: NodeCall, place: int) -> OnnxValue:
    """The shape of an input. It is taken of a form that is there, so that none is made for it."""
    form = call.form(place)
    return call.writer.shape(form.get_index() if form.is_index else form.get_stored())


@exports("GetVarShape")
def _get_shape(call: NodeCall) -> None:
    w = call.writer
    rank = max(call.ndim(k) for k in range(call.count))
    shapes = []
    for k in range(call.count):
        missing = rank - call.ndim(k)
        shapes.append(w.joined([w.integers(*[1] * missing), _shape_of(call, k)]) if missing else _shape_of(call, k))
    shape = shapes[0] if call.count == 1 else w.op("Max", *shapes)
    axis = call.params.axis
    call.give_index(shape if axis == NO_AXIS else w.op("Gather", shape, w.integers(axis % rank), axis=0))


_COPIED, _COMPUTED = 0, -1  # what these numbers mean in the target of a Reshape


def _plain_target(call: NodeCall) -> list[int] | None:
    """The target of a Reshape as numbers, if the sizes that may change can be copied or computed."""
    x, out = call.known(0), call.output()
    if 0 in (n for shape in (*x.seen, *out.seen) for n in shape):
        return None
    target = []
    for axis, fixed in enumerate(out.dims):
        if fixed is not None:
            target.append(fixed)
        else:
            target.append(_COPIED if _is_kept(x, axis, out, axis) else _COMPUTED)
    return target if target.count(_COMPUTED) <= 1 else None


def _is_kept(x: KnownVar, axis: int, out: KnownVar, place: int) -> bool:
    """Whether a dimension of a result is one of the input, whatever the sizes."""
    return 0 <= axis < len(x.shape) and [s[axis] for s in x.seen] == [s[place] for s in out.seen]


@exports("Reshape")
def _reshape(call: NodeCall) -> None:
    w, axis, known = call.writer, call.params.axis, call.known(1)
    (x,) = call.moved(0)
    numbers = _plain_target(call)
    if numbers is not None:
        call.give_moved(w.op("Reshape", x, w.integers(*numbers)))
        return
    length, target = known.shape[0], call.index(1)
    if axis != NO_AXIS:  # the number there is computed, whatever is stored
        place = axis % length
        parts = [w.slice(target, 0, 0, place)] if place else []
        parts.append(w.integers(_COMPUTED))
        parts += [w.slice(target, 0, place + 1, length)] if place + 1 < length else []
        target = w.joined(parts)
    keeps_zeros = 1 if known.constant is not None and axis == NO_AXIS else None
    if keeps_zeros and w.opset < 14:
        raise NotExported("shapes without elements need operator set 14")
    call.give_moved(w.op("Reshape", x, target, allowzero=keeps_zeros))


@exports("Broadcast")
def _broadcast(call: NodeCall) -> None:
    w, x, out = call.writer, call.known(0), call.output()
    missing = len(out.shape) - len(x.shape)
    target = [
        1 if fixed is None and _is_kept(x, axis - missing, out, axis) else fixed for axis, fixed in enumerate(out.dims)
    ]
    known = [n for n in target if n is not None]
    (value,) = call.moved(0)
    shape = w.integers(*known) if len(known) == len(target) else call.index(1)
    call.give_moved(w.op("Expand", value, shape))


@exports("Dimshuffle")
def _dimshuffle(call: NodeCall) -> None:
    w, pattern = call.writer, call.params.pattern
    (x,) = call.moved(0)
    used = [p for p in pattern if p != -1]
    kept = sorted(used)
    x = w.squeeze(x, [k for k in range(call.ndim(0)) if k not in used])
    x = w.transpose(x, [kept.index(p) for p in used])
    call.give_moved(w.unsqueeze(x, [k for k, p in enumerate(pattern) if p == -1]))


@exports("AxisAddRemove")
def _axes(call: NodeCall) -> None:
    w = call.writer
    axes: list[int | None] = list(range(call.ndim(0)))  # None: a new one
    for step in call.params.desc:
        if step.method == AxisMethod.ADD_1:
            axes.insert(step.axis % (len(axes) + 1), None)
        elif len(axes) > 1:
            del axes[step.axis % len(axes)]
    (x,) = call.moved(0)
    gone = [k for k in range(call.ndim(0)) if k not in axes]
    new = [k for k, a in enumerate(axes) if a is None]
    call.give_moved(w.unsqueeze(w.squeeze(x, gone), new))


@exports("Concat")
def _concat(call: NodeCall) -> None:
    w, axis = call.writer, call.params.axis % call.ndim(0)
    layout = common_layout(call)
    if layout is not None:
        place = stored_axes(layout).index(axis)
        plain = place if block_size(layout) == 1 else {0: 0, 1: 1, 3: 2, 4: 3}.get(place)
        if plain is not None:
            call.give(w.joined([call.stored(k, layout) for k in range(call.count)], plain), 0, layout)
            return
    call.give_moved(w.joined(call.moved(), axis))


@exports("Split")
def _split(call: NodeCall) -> None:
    w, axis = call.writer, call.params.axis % call.ndim(0)
    (x,) = call.moved(0)
    lengths = w.joined([w.reshape(call.index(k), 1) for k in range(1, call.count)])
    for k, part in enumerate(w.nodes_of("Split", [x, lengths], [x.kind] * (call.count - 1), axis=axis)):
        call.give_moved(part, k)


_PADDING = {PaddingMode.REPLICATE: "edge", PaddingMode.REFLECT: "reflect", PaddingMode.CONSTANT: "constant"}


@exports("Padding")
def _padding(call: NodeCall) -> None:
    w = call.writer
    offsets = Padding.offsets(call.node)[: call.ndim(0)]
    widths = w.integers(*(front for front, _ in offsets), *(back for _, back in offsets))
    x, mode = call.stored(0), _PADDING.get(call.params.padding_mode)
    if mode is None:
        raise NotExported(f"mode {call.params.padding_mode} is not known")
    value = w.constant(Padding.constant(call.node, call.spec(0)).reshape(())) if mode == "constant" else None
    call.give(w.pad(x, widths, value, mode))
