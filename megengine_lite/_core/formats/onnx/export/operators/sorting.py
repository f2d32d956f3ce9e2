"""Sorting and selection."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.formats.onnx.export.graph_writer import END, OnnxValue
from megengine_lite._core.formats.onnx.export.table import NodeCall, NotExported, exports
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.ir.params import ArgsortOrder, CondTakeMode, TopKMode
from megengine_lite._core.ir.quantize import stored_constant

_E = ElementType
_SORTED = (_E.FLOAT, _E.DOUBLE, _E.INT32, _E.INT64)


def _sorted_rows(call: NodeCall, count: OnnxValue, descending: bool) -> tuple[OnnxValue, OnnxValue]:
    """The first elements of sorted rows, and their places as int64.

    Of equal elements TopK takes the first one first. In descending order ours takes the last one first, so rows are
    turned around before.
    """
    w = call.writer
    stored = call.stored(0)
    x = stored if stored.kind in _SORTED else w.as_kind(stored, _E.FLOAT if call.dtype(0).is_float else _E.INT32)
    if descending:
        x = w.flip(x, 1)
    values, places = w.nodes_of("TopK", [x, count], [x.kind, _E.INT64], axis=1, largest=int(descending), sorted=1)
    if descending:
        places = w.size(x, 1) - 1 - places
    return w.as_kind(values, stored.kind), places


@exports("Argsort")
def _argsort(call: NodeCall) -> None:
    length = call.writer.size(call.stored(0), 1)
    values, places = _sorted_rows(call, length, call.params.order == ArgsortOrder.DESCENDING)
    call.give(values)
    call.give_index(places, 1)


@exports("TopK")
def _top_k(call: NodeCall) -> None:
    w = call.writer
    (k,) = call.numbers(1, "the number of elements")
    if k == 0:
        raise NotExported("takes no elements")
    length = call.known(0).dims[1]
    count = w.integers(abs(k))
    if length is None or length < abs(k):
        count = w.op("Min", count, w.size(call.stored(0), 1))
    values, places = _sorted_rows(call, count, k < 0)
    if call.params.mode == TopKMode.KTH_ONLY:
        call.give(w.squeeze(w.slice(values, 1, -1, END), [1]))
        return
    call.give(values)
    call.give_index(places, 1)


@exports("CondTake")
def _cond_take(call: NodeCall) -> None:
    w, p, dtype = call.writer, call.params, call.dtype(1)
    if dtype.is_float:
        mask, value = call.real(1), float(np.float32(p.val))
    else:
        value = int(stored_constant(p.val, dtype)[0])
        mask = w.as_kind(call.stored(1), _E.INT32)
    if p.mode in (CondTakeMode.EQ, CondTakeMode.NEQ):
        if dtype.is_float:
            taken = w.op("Abs", mask - value) < float(np.float32(p.eps))
        else:
            taken = mask.equals(value)
        taken = taken if p.mode == CondTakeMode.EQ else w.op("Not", taken)
    else:
        compare = {
            CondTakeMode.LT: mask.__lt__,
            CondTakeMode.LEQ: mask.__le__,
            CondTakeMode.GT: mask.__gt__,
            CondTakeMode.GEQ: mask.__ge__,
        }
        taken = compare[CondTakeMode(p.mode)](value)
    places = w.squeeze(w.op("NonZero", w.reshape(taken, -1), kind=_E.INT64), [0])
    (data,) = call.moved(0)
    call.give_moved(w.op("Gather", w.reshape(data, -1), places, axis=0))
    call.give_index(places, 1)


@exports("NonZero")
def _non_zero(call: NodeCall) -> None:
    w, dtype = call.writer, call.dtype(0)
    x = call.real(0) if dtype.is_float or dtype.is_quantized else call.stored(0)
    call.give_index(w.op("NonZero", w.as_kind(x, _E.BOOL), kind=_E.INT64))
