"""Reductions along axes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import FLOATS, Value
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.operators.table import Call, NeedsShapes, NotConverted, converts
from megengine_lite._core.ir import params
from megengine_lite._core.ir.graph import AnyVar
from megengine_lite._core.ir.onnx_params import OnnxReduce, TargetShape
from megengine_lite._core.ir.onnx_reduction import OnnxReduction
from megengine_lite._core.ir.params import ElemwiseMode, ReduceMode

_M = ElemwiseMode
_LARGEST = {
    ElementType.FLOAT: float(np.finfo(np.float32).max),
    ElementType.FLOAT16: float(np.finfo(np.float16).max),
    ElementType.BFLOAT16: 2.0**127,
    ElementType.DOUBLE: float(np.finfo(np.float64).max),
}
_SINCE = {"ReduceSum": 13}  # the version whose axes are an input
_ONNX_MODES = {
    ReduceMode.SUM: OnnxReduction.SUM,
    ReduceMode.MEAN: OnnxReduction.MEAN,
    ReduceMode.MAX: OnnxReduction.MAX,
    ReduceMode.MIN: OnnxReduction.MIN,
    ReduceMode.PRODUCT: OnnxReduction.PRODUCT,
}


class RuntimeAxes(NamedTuple):
    """Axes that are known when the model runs."""

    var: AnyVar
    none_is_none: bool


Axes = list[int] | RuntimeAxes


def reduced(b: GraphBuilder, x: Value, axes: Axes, mode: ReduceMode) -> Value:
    """The reduction along axes, which stay with length 1."""
    if isinstance(axes, RuntimeAxes):
        parameters = OnnxReduce(_ONNX_MODES[mode], None, axes.none_is_none)
        return b.node("OnnxReduce", parameters, [b.exact(x), axes.var], x.kind, x.rank)
    # The maxima of the kernels begin at the lowest finite number, so they do not reach infinity.
    if not x.is_float32 or mode in (ReduceMode.MAX, ReduceMode.MIN):
        parameters = OnnxReduce(_ONNX_MODES[mode], tuple(axes))
        return b.node("OnnxReduce", parameters, [b.exact(x)], x.kind, x.rank)
    for axis in axes:
        x = b.node("Reduce", params.Reduce(mode=mode, axis=axis), [x.var], x.kind, x.rank)
    return x


def _reduce(b: GraphBuilder, x: Value, axes: Axes, op: str) -> Value:
    if op in ("ReduceL2", "ReduceLogSum", "ReduceLogSumExp") and x.kind not in FLOATS:
        return b.retyped(_reduce(b, b.retyped(x, ElementType.DOUBLE), axes, op), x.kind)
    if op == "ReduceL1":
        return reduced(b, b.elemwise(_M.ABS, x), axes, ReduceMode.SUM)
    if op in ("ReduceL2", "ReduceSumSquare"):
        total = reduced(b, b.elemwise(_M.SQUARE, x), axes, ReduceMode.SUM)
        return total if op == "ReduceSumSquare" else _root(b, total)
    if op == "ReduceLogSum":
        return b.elemwise(_M.LOG, reduced(b, x, axes, ReduceMode.SUM))
    if op == "ReduceLogSumExp":
        # A finite shift keeps infinity and minus infinity apart from NaN.
        limit = b.number(_LARGEST[x.kind], x)
        largest = b.elemwise(_M.MIN, reduced(b, x, axes, ReduceMode.MAX), limit)
        largest = b.elemwise(_M.MAX, largest, b.elemwise(_M.NEGATE, limit))
        shifted = b.elemwise(_M.EXP, b.elemwise(_M.SUB, x, largest))
        return b.elemwise(_M.ADD, b.elemwise(_M.LOG, reduced(b, shifted, axes, ReduceMode.SUM)), largest)
    return reduced(b, x, axes, _MODES[op])


def _root(b: GraphBuilder, x: Value) -> Value:
    return b.elemwise(_M.SQRT, x)


_MODES = {
    "ReduceSum": ReduceMode.SUM,
    "ReduceMean": ReduceMode.MEAN,
    "ReduceMax": ReduceMode.MAX,
    "ReduceMin": ReduceMode.MIN,
    "ReduceProd": ReduceMode.PRODUCT,
}


@converts(*_MODES, "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")
def _reduction(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    call.know("noop_with_empty_axes", "keepdims")
    by_input = call.version >= _SINCE.get(call.op, 18)
    given = call.optional(1) if by_input else None
    if given is not None and given.known is None:
        return _by_runtime_axes(call, x, given)
    named = call.known_integers(1, "the list of axes") if by_input else call.integers("axes")
    if not named and call.integer("noop_with_empty_axes", 0):
        axes: list[int] = []
    else:
        axes = call.axes(named, x.rank) if named else list(range(x.rank))
    if x.rank == 0:
        axes = [0]  # the one dimension that a scalar has here
        return Value(_reduce(b, x.with_rank(1), axes, call.op).var, x.kind, 0, x.dtype)
    if x.kind == ElementType.BOOL and call.op not in ("ReduceMax", "ReduceMin"):
        raise NotConverted("sums of truth values are not defined")
    result = _reduce(b, x, axes, call.op)
    if axes:
        b.carry_sizes(x, result, dict.fromkeys(axes, 1))
    return result if call.integer("keepdims", 1) else b.without_axes(result, axes)


def _by_runtime_axes(call: Call, x: Value, axes: Value) -> Value:
    b = call.builder
    none_is_none = bool(call.integer("noop_with_empty_axes", 0))
    result = _reduce(b, x, RuntimeAxes(axes.var, none_is_none), call.op)
    if call.integer("keepdims", 1):
        return result
    length = b.length_of(axes)
    if not length:
        if length == 0:
            return result if none_is_none else b.without_axes(result, list(range(x.rank)))
        raise NeedsShapes("the number of its axes is not known, and it drops them")
    (target,) = b.nodes_of("TargetShape", TargetShape("drop"), [result.var, axes.var])
    return b.reshaped(result, target, x.rank - length)
