"""Tensors made from numbers."""

from __future__ import annotations

from megengine_lite._core.formats.onnx.export.forms import STORED
from megengine_lite._core.formats.onnx.export.graph_writer import OnnxValue
from megengine_lite._core.formats.onnx.export.table import NodeCall, exports
from megengine_lite._core.formats.onnx.messages import ElementType

_E = ElementType


def _number(call: NodeCall, place: int) -> OnnxValue:
    """An input of one element as float32 [1]."""
    return call.writer.reshape(call.numbers_as_float32(place), 1)


@exports("Linspace")
def _linspace(call: NodeCall) -> None:
    w = call.writer
    start, stop = _number(call, 0), _number(call, 1)
    count = w.reshape(call.index(2), 1)
    last = w.op("Max", count - 1 if call.params.endpoint else count, w.integers(1))
    step = (stop - start) / w.as_kind(last, _E.FLOAT)
    call.give(start + w.range(count, _E.FLOAT) * step)


@exports("Eye")
def _eye(call: NodeCall) -> None:
    w = call.writer
    size = call.index(0)
    if call.known(0).shape[0] == 1:
        size = w.joined([size, size])
    rows, columns = (w.range(w.slice(size, 0, k, k + 1)) for k in (0, 1))
    is_set = w.op("Equal", w.unsqueeze(rows, [1]) + int(call.params.k), w.unsqueeze(columns, [0]), kind=_E.BOOL)
    call.give(w.as_kind(is_set, STORED[call.output().dtype.code]))


@exports("Alloc")
def _alloc(call: NodeCall) -> None:
    call.give(call.writer.filled(call.index(0), call.output().dtype.storage.type(0)))


@exports("Diag")
def _diagonal(call: NodeCall) -> None:
    w, k = call.writer, int(call.params.k)
    x = call.stored(0)
    if call.ndim(0) == 1:  # a matrix with the vector on a diagonal
        length = w.size(x, 0)
        side = w.joined([length + abs(k)] * 2)
        places = w.range(length)
        row, column = (w.unsqueeze(places + shift, [1]) for shift in (max(-k, 0), max(k, 0)))
        zero = w.filled(side, call.dtype(0).storage.type(0))
        call.give(w.op("ScatterND", zero, w.joined([row, column], 1), x))
        return
    rows, columns = w.size(x, 0) + min(k, 0), w.size(x, 1) - max(k, 0)
    places = w.range(w.op("Min", rows, columns))
    row, column = (w.unsqueeze(places + shift, [1]) for shift in (max(-k, 0), max(k, 0)))
    call.give(w.op("GatherND", x, w.joined([row, column], 1)))
