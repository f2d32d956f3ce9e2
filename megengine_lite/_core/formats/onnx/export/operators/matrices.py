"""Matrix products."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.formats.onnx.export.forms import STORED
from megengine_lite._core.formats.onnx.export.graph_writer import OnnxValue
from megengine_lite._core.formats.onnx.export.table import NodeCall, NotExported, exports
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.ir.params import MatrixMulFormat

_E = ElementType
_BYTES = (_E.INT8, _E.UINT8)


def _operand(call: NodeCall, place: int) -> OnnxValue:
    """A matrix as real numbers, or as the numbers that are stored."""
    return call.real(place) if call.dtype(place).is_float else call.stored(place)


def _product(call: NodeCall, a: OnnxValue, b: OnnxValue) -> None:
    """The product over the last and the last but one dimension. That of integers is an integer, whatever its scale."""
    w, out = call.writer, call.output().dtype
    if call.dtype(0).is_float:
        call.give_real(w.op("MatMul", a, b))
        return
    if a.kind in _BYTES and b.kind in _BYTES:
        zeros = [w.scalar(call.dtype(k).zero_point, v.kind) for k, v in enumerate((a, b))]
        result = w.op("MatMulInteger", a, b, *zeros, kind=_E.INT32)
    else:
        result = w.as_kind(w.op("MatMul", w.as_kind(a, _E.DOUBLE), w.as_kind(b, _E.DOUBLE)), _E.INT64)
    call.give(w.as_kind(result, _E.INT16 if out.itemsize == 2 else _E.INT32))


@exports("MatrixMul")
def _matrix_mul(call: NodeCall) -> None:
    w, p = call.writer, call.params
    if p.format != MatrixMulFormat.DEFAULT:
        raise NotExported("its operands are packed")
    a, b = _operand(call, 0), _operand(call, 1)
    if call.dtype(0).is_float and (p.transposeA or p.transposeB) and call.known(1).constant is None:
        call.give_real(w.op("Gemm", a, b, transA=int(p.transposeA), transB=int(p.transposeB)))
        return
    _product(call, _turned(call, a, p.transposeA, [1, 0]), _turned(call, b, p.transposeB, [1, 0]))


@exports("BatchedMatrixMul")
def _batched(call: NodeCall) -> None:
    p = call.params
    if p.format != MatrixMulFormat.DEFAULT:
        raise NotExported("its operands are packed")
    a, b = _operand(call, 0), _operand(call, 1)
    _product(call, _turned(call, a, p.transposeA, [0, 2, 1]), _turned(call, b, p.transposeB, [0, 2, 1]))


def _turned(call: NodeCall, x: OnnxValue, turns: bool, order: list[int]) -> OnnxValue:
    if not turns:
        return x
    w = call.writer
    array = w.array_of(x)
    if array is not None:
        return w.constant(np.ascontiguousarray(array.transpose(order)), key=("turned", x.name))
    return w.transpose(x, order)


@exports("Dot")
def _dot(call: NodeCall) -> None:
    w, dtype = call.writer, call.dtype(0)
    if dtype.is_float:
        call.give_real(w.reduce("ReduceSum", call.real(0) * call.real(1), [0]))
        return
    a, b = (w.as_kind(call.stored(k), _E.INT32) - call.dtype(k).zero_point for k in (0, 1))
    total = w.reduce("ReduceSum", a * b, [0])
    call.give(w.as_kind(total, STORED[call.output().dtype.code]))


@exports("Cross")
def _cross(call: NodeCall) -> None:
    """The vector product along an axis of length 3 of each input."""
    w, p = call.writer, call.params

    def parts(place: int, axis: int) -> list[OnnxValue]:
        axis %= call.ndim(place)
        return [w.squeeze(w.slice(call.real(place), axis, k, k + 1), [axis]) for k in range(3)]

    a, b = parts(0, p.axisa), parts(1, p.axisb)
    axis = p.axisc % call.ndim(0)
    rows = [a[k - 2] * b[k - 1] - a[k - 1] * b[k - 2] for k in range(3)]
    call.give_real(w.joined([w.unsqueeze(r, [axis]) for r in rows], axis))


@exports("CheckNonFinite", "CheckHasInf")
def _check_finite(call: NodeCall) -> None:
    w = call.writer
    found: OnnxValue | None = None
    for k in range(call.count):
        x = call.real(k)
        # A number less itself is 0, except for infinity and NaN.
        odd = w.as_kind(w.op("IsNaN", w.reshape(x - x, -1), kind=_E.BOOL), _E.INT32)
        most = w.reduce("ReduceMax", w.joined([odd, w.constant(np.zeros(1, np.int32))]), [0])
        found = most if found is None else w.op("Max", found, most)
        if call.node.op == "CheckNonFinite":
            call.give_real(x * float(np.float32(call.params.scale)), k)
    assert found is not None
    call.give(found, len(call.node.outputs) - 1)
