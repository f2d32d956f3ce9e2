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


@exports("NMSKeepMGB")
def _suppression(call: NodeCall) -> None:
    """Boxes come sorted, so that scores are falling numbers. Places behind the kept ones repeat the last one."""
    w, limit = call.writer, call.params.max_output
    boxes = call.real(0)
    batch, n = w.size(boxes, 0), w.size(boxes, 1)
    if not limit:
        call.give(w.filled(w.joined([batch, w.integers(0)]), np.int32(0)))
        call.give(w.filled(batch, np.int32(0)), 1)
        return
    falling = -w.unsqueeze(w.range(n, _E.FLOAT), [0, 1])
    scores = w.op("Expand", falling, w.joined([batch, w.integers(1), n]))
    threshold = w.constant(np.array([call.params.iou_thresh], np.float32))
    kept = w.op("NonMaxSuppression", boxes, scores, w.integers(limit), threshold, kind=_E.INT64)
    sample, box = w.slice(kept, 1, 0, 1), w.slice(kept, 1, 2, 3)  # [kept, 1] each
    mine = w.as_kind(w.op("Equal", sample, w.unsqueeze(w.range(batch), [0]), kind=_E.BOOL), _E.INT64)  # [kept, batch]
    count = w.reduce("ReduceSum", mine, [0])  # [1, batch]
    before = w.op("CumSum", count, w.scalar(1, _E.INT64), exclusive=1)
    place = w.unsqueeze(w.range(w.size(kept, 0)), [1]) - w.op("Gather", w.squeeze(before, [0]), sample, axis=0)
    empty = w.filled(w.joined([batch, w.integers(limit)]), np.int64(0))
    table = w.op("ScatterND", empty, w.joined([sample, place], 1), w.squeeze(box, [1]))
    count = w.squeeze(count, [0])
    last = w.unsqueeze(w.op("Max", count - 1, w.scalar(0, _E.INT64)), [1])
    column = w.unsqueeze(w.constant(np.arange(limit)), [0])
    call.give_index(w.op("GatherElements", table, w.op("Min", column, last), axis=1))
    call.give_index(count, 1)
