"""Reductions, positions of extremes, running sums."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.formats.onnx.export.graph_writer import NUMPY, GraphWriter, OnnxValue
from megengine_lite._core.formats.onnx.export.table import NodeCall, NotExported, exports
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.ir.params import INT_MAX, ReduceMode

_E = ElementType
_LONGEST = 31
"""Halvings of an axis whose length is not known: no tensor has more elements than that."""
_OPERATORS = {
    ReduceMode.SUM: "ReduceSum",
    ReduceMode.SUM_SQR: "ReduceSumSquare",
    ReduceMode.PRODUCT: "ReduceProd",
    ReduceMode.MIN: "ReduceMin",
    ReduceMode.MAX: "ReduceMax",
    ReduceMode.MEAN: "ReduceMean",
}


def _axes(call: NodeCall) -> tuple[list[int], int]:
    """What is reduced, and how many dimensions the target shape has less than the input."""
    rank = call.ndim(0)
    if call.count == 1:
        return [call.params.axis % rank], 0
    array = call.array(1)
    if array is None:
        return _axes_of_trials(call, rank)
    target = [int(n) for n in array]
    missing = rank - len(target)
    if target == [1]:
        return list(range(rank)), missing
    return [*range(missing), *(k + missing for k, n in enumerate(target) if n == 1)], missing


def _axes_of_trials(call: NodeCall, rank: int) -> tuple[list[int], int]:
    """The same for a target that follows from sizes: what is 1 in every trial is reduced."""
    seen = [s[0] for s in call.known(1).seen]
    if len(set(seen)) != 1:
        raise NotExported("the number of reduced dimensions depends on sizes", call.known(1).dims_follow[0])
    result, missing = call.output(), rank - seen[0]
    kept = [k for k, d in enumerate(result.dims) if d != 1]
    return [k for k in range(rank) if k - missing not in kept], missing


@exports("Reduce")
def _reduce(call: NodeCall) -> None:
    w, mode, dtype = call.writer, call.params.mode, call.dtype(0)
    axes, missing = _axes(call)
    squeezed = list(range(missing))
    out = call.output().dtype
    if dtype.is_float:
        call.give_real(w.squeeze(_reduced(call, call.real(0), axes), squeezed))
        return
    x = call.stored(0)
    wide = w.as_kind(x, _E.INT64 if x.kind == _E.INT64 else _E.INT32)
    if out != dtype and dtype.zero_point:  # sums of quantized numbers as integers
        wide = wide - dtype.zero_point
    result = w.as_kind(_reduced_integers(call, wide, axes), _E.INT32 if out != dtype else x.kind)
    if mode == ReduceMode.MEAN:
        total = w.as_kind(_sum(w, wide, axes), x.kind)  # wraps as the type does
        count = w.reduce("ReduceProd", w.op("Gather", w.shape(wide), w.integers(*axes), axis=0), [0])
        quotient = w.as_kind(total, _E.INT64) / w.op("Max", count, w.integers(1))
        result = w.as_kind(quotient, x.kind)
    call.give(w.squeeze(result, squeezed))


def _reduced(call: NodeCall, x: OnnxValue, axes: list[int]) -> OnnxValue:
    if not axes:
        return x * x if call.params.mode == ReduceMode.SUM_SQR else x
    return call.writer.reduce(_OPERATORS[call.params.mode], x, axes)


def _reduced_integers(call: NodeCall, x: OnnxValue, axes: list[int]) -> OnnxValue:
    """The same of integers, whose sums and products wrap; ONNX Runtime computes those as floats and saturates."""
    mode = call.params.mode
    if not axes or mode in (ReduceMode.MIN, ReduceMode.MAX):
        return _reduced(call, x, axes)
    if mode == ReduceMode.PRODUCT:
        return _product(call, x, axes)
    return _sum(call.writer, x * x if mode == ReduceMode.SUM_SQR else x, axes)


def _sum(w: GraphWriter, x: OnnxValue, axes: list[int]) -> OnnxValue:
    """The sum of integers in int64, which loses its upper half, and so wraps, when it becomes int32."""
    return w.reduce("ReduceSum", w.as_kind(x, _E.INT64), axes)


def _product(call: NodeCall, x: OnnxValue, axes: list[int]) -> OnnxValue:
    """The product of integers, made of products of neighbours. Each step halves the length of an axis."""
    w = call.writer
    for axis in axes:
        sizes = [w.integers(1) if k == axis else w.size(x, k) for k in range(call.ndim(0))]
        one = w.filled(w.joined(sizes), np.ones(1, NUMPY[x.kind]))
        length = call.known(0).dims[axis]
        steps = _LONGEST if length is None else (max(length, 1) - 1).bit_length()
        x = w.joined([x, one], axis) if not length else x  # an open axis may have no elements
        for _ in range(steps):
            second = w.slice(w.joined([x, one], axis), axis, 1, INT_MAX, 2)
            x = w.slice(x, axis, 0, INT_MAX, 2) * second
    return x


@exports("Argmax", "Argmin")
def _position(call: NodeCall) -> None:
    w, dtype = call.writer, call.dtype(0)
    x = call.real(0) if dtype.is_float else call.stored(0)
    if x.kind not in (_E.FLOAT, _E.INT32, _E.INT8, _E.UINT8):
        x = w.as_kind(x, _E.INT32)
    name = "ArgMax" if call.node.op == "Argmax" else "ArgMin"
    call.give_index(w.op(name, x, kind=_E.INT64, axis=call.params.axis % call.ndim(0), keepdims=1))


@exports("Cumsum")
def _running_sum(call: NodeCall) -> None:
    w, p, dtype = call.writer, call.params, call.dtype(0)
    x = call.real(0) if dtype.is_float else w.as_kind(call.stored(0), _E.INT32)
    if p.axis == INT_MAX:
        x = w.reshape(x, -1)
    axis = w.scalar(0 if p.axis == INT_MAX else p.axis % call.ndim(0), _E.INT64)
    total = w.op("CumSum", x, axis, exclusive=int(p.exclusive), reverse=int(p.reverse))
    if dtype.is_float:
        call.give_real(total)
    else:
        call.give(w.as_kind(total, call.stored(0).kind))
