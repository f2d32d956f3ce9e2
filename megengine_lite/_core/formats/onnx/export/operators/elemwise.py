"""Elementwise operators."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from megengine_lite._core.formats.onnx.export.forms import STORED, Layout, quantized_exactly
from megengine_lite._core.formats.onnx.export.graph_writer import GraphWriter, OnnxValue
from megengine_lite._core.formats.onnx.export.operators.functions import BOOLEAN, FLOAT, INTEGER, Function
from megengine_lite._core.formats.onnx.export.rounding import floor_div
from megengine_lite._core.formats.onnx.export.table import NodeCall, NotExported, exports
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.ir.dtype import BOOL
from megengine_lite._core.ir.image_layouts import block_size, stored_axes
from megengine_lite._core.ir.params import ElemwiseMode, ElemwiseMultiTypeMode
from megengine_lite._core.ir.quantize import stored_constant
from megengine_lite._core.operators.power import constant_exponent, power_steps

_E = ElementType
_Q = ElemwiseMultiTypeMode


def common_layout(call: NodeCall) -> Layout:
    """The layout of images in which an input is there already, if all inputs can be taken in NCHW for it.

    Elementwise functions do not mind the order of axes, as long as it is that of all operands.
    """
    layouts = [call.form(k).layout for k in range(call.count)]
    layout = next((f for f in layouts if f is not None), None)
    if layout is None:
        return None
    axes, block = stored_axes(layout), block_size(layout)
    for k in range(call.count):
        shape = call.known(k).shape
        fits = len(shape) == len(axes) and (block == 1 or shape[axes[2]] == block)
        if not fits and shape != (1,):
            return None
    return layout


def _inputs(call: NodeCall, real: bool, layout: Layout) -> list[OnnxValue]:
    def one(k: int) -> OnnxValue:
        chosen = None if call.known(k).shape == (1,) else layout
        return call.real(k, chosen) if real else call.stored(k, chosen)

    return [one(k) for k in range(call.count)]


@exports("Elemwise")
def _elemwise(call: NodeCall) -> None:
    w, mode, dtype = call.writer, call.params.mode, call.dtype(0)
    layout = common_layout(call)
    if dtype.is_float:
        exponent = constant_exponent(call.node)
        values = _inputs(call, True, layout)
        result = _function(call, FLOAT)(w, *values) if exponent is None else powered(w, values[0], exponent)
        call.give_real(result, 0, layout)
    elif dtype == BOOL:
        call.give(_function(call, BOOLEAN)(w, *_inputs(call, False, layout)), 0, layout)
    elif mode == ElemwiseMode.RMULH:
        call.give(_rmulh(call, *_inputs(call, False, layout)), 0, layout)
    else:
        values = _inputs(call, False, layout)
        kind, wide = values[0].kind, _E.INT64 if dtype.itemsize == 8 else _E.INT32
        values = [w.as_kind(v, wide) for v in values]
        if mode == ElemwiseMode.FUSE_ADD_RELU:  # the sum wraps in its type
            total = w.as_kind(w.as_kind(values[0] + values[1], kind), wide)
            result = INTEGER[ElemwiseMode.RELU](w, total)
        else:
            result = _function(call, INTEGER)(w, *values)
        call.give(w.as_kind(result, kind), 0, layout)


def _function(call: NodeCall, table: Mapping[int, Function]) -> Function:
    mode = call.params.mode
    if mode not in table:
        raise NotExported(f"mode {ElemwiseMode(mode).name} of {call.dtype(0)} has no counterpart")
    return table[mode]


def _rmulh(call: NodeCall, x: OnnxValue, y: OnnxValue) -> OnnxValue:
    w, info = call.writer, np.iinfo(call.dtype(0).storage)
    digits = info.bits - (info.min < 0)
    product = w.as_kind(x, _E.INT64) * w.as_kind(y, _E.INT64) + (1 << (digits - 1))
    upper = floor_div(w, product, 1 << digits)
    return w.as_kind(w.op("Clip", upper, w.scalar(info.min, _E.INT64), w.scalar(info.max, _E.INT64)), x.kind)


def powered(w: GraphWriter, x: OnnxValue, exponent: float) -> OnnxValue:
    """A power with a constant exponent, which takes the absolute value of the base unless it is a whole number."""
    constants, steps = power_steps(exponent)
    registers = [x, *(w.scalar(c, _E.FLOAT) for c in constants)]
    for mode, places in steps:
        registers.append(FLOAT[mode](w, *(registers[p] for p in places)))
    return registers[-1]


@exports("PowC")
def _powc(call: NodeCall) -> None:
    w, dtype, exponent = call.writer, call.dtype(0), float(np.float32(call.params.exp))
    layout = common_layout(call)
    if dtype.is_float:
        call.give_real(powered(w, call.real(0, layout), exponent), 0, layout)
        return
    x = call.stored(0, layout)
    power = w.op("Pow", w.as_kind(x, _E.DOUBLE), w.scalar(exponent, _E.DOUBLE))
    call.give(w.as_kind(power, x.kind), 0, layout)


@exports("ElemwiseMultiType")
def _multi_type(call: NodeCall) -> None:
    w, mode = call.writer, _Q(call.params.mode)
    layout = common_layout(call)
    if mode.name.startswith("Q"):
        function = FLOAT.get(ElemwiseMode[mode.name[1:]])
        if function is None:
            raise NotExported(f"mode {mode.name} has no counterpart")
        call.give_real(function(w, *_inputs(call, True, layout)), 0, layout)
    elif mode in _COMPARISONS:
        is_real = call.dtype(0).is_float
        call.give(_COMPARISONS[mode](w, *_inputs(call, is_real, layout)), 0, layout)
    elif mode in _FIXED:
        call.give(_FIXED[mode](w, *_inputs(call, False, layout)), 0, layout)
    else:
        raise NotExported(f"mode {mode.name} has no counterpart")


def _equal(w: GraphWriter, x: OnnxValue, y: OnnxValue) -> OnnxValue:
    return w.op("Equal", x, y, kind=_E.BOOL)


def _less(op: str) -> Function:
    def compare(w: GraphWriter, x: OnnxValue, y: OnnxValue) -> OnnxValue:
        if x.kind not in (_E.FLOAT, _E.INT32, _E.INT64):
            x, y = w.as_kind(x, _E.INT32), w.as_kind(y, _E.INT32)
        return w.op(op, x, y, kind=_E.BOOL)

    return compare


_COMPARISONS: dict[int, Function] = {
    _Q.EQ: _equal,
    _Q.NEQ: lambda w, x, y: w.op("Not", _equal(w, x, y)),
    _Q.LT: _less("Less"),
    _Q.LEQ: _less("LessOrEqual"),
    _Q.ISNAN: lambda w, x: w.op("IsNaN", x, kind=_E.BOOL),
    _Q.ISINF: lambda w, x: w.op("IsInf", x, kind=_E.BOOL),
}


def _affine_to_int8(w: GraphWriter, x: OnnxValue, k: OnnxValue, b: OnnxValue) -> OnnxValue:
    steps = w.op("Round", w.as_kind(x, _E.FLOAT) * k + b)  # halves to even here, as the original
    return w.as_kind(w.op("Clip", steps, w.scalar(-128, _E.FLOAT), w.scalar(127, _E.FLOAT)), _E.INT8)


def _multiply_add(w: GraphWriter, x: OnnxValue, k: OnnxValue, b: OnnxValue) -> OnnxValue:
    return w.as_kind(x, k.kind) * k + b


def _round_shift(w: GraphWriter, x: OnnxValue, shift: OnnxValue) -> OnnxValue:
    """x / 2**shift as int64, to nearest with halves away from zero; negative shifts multiply."""
    wide, by = w.as_kind(x, _E.INT64), w.as_kind(shift, _E.INT64)
    zero, two = w.scalar(0, _E.INT64), w.scalar(2, _E.INT64)
    right = w.op("Clip", by, zero, w.scalar(62, _E.INT64))
    left = w.op("Clip", -by, zero, w.scalar(31, _E.INT64))
    divisor = w.op("Pow", two, right)
    # Division of numbers that are not negative rounds down.
    return w.op("Sign", wide) * ((w.op("Abs", wide) + divisor / 2) / divisor) * w.op("Pow", two, left)


def _shift_saturate(kind: ElementType, low: int, high: int) -> Function:
    def shifted(w: GraphWriter, x: OnnxValue, shift: OnnxValue) -> OnnxValue:
        found = _round_shift(w, x, shift)
        return w.as_kind(w.op("Clip", found, w.scalar(low, _E.INT64), w.scalar(high, _E.INT64)), kind)

    return shifted


def _add_rmulh_shift(bits: int) -> Function:
    def computed(
        w: GraphWriter, x: OnnxValue, b: OnnxValue, factor: OnnxValue, shift: OnnxValue, low: OnnxValue, high: OnnxValue
    ) -> OnnxValue:
        total = w.as_kind(x, _E.INT32) + w.as_kind(b, _E.INT32)
        wide = w.as_kind(w.as_kind(total, x.kind), _E.INT64)  # the sum wraps in the type of its operands
        product = wide * w.as_kind(factor, _E.INT64) + (1 << (bits - 2))
        upper = floor_div(w, product, 1 << (bits - 1))
        limit = 1 << (bits - 1)
        upper = w.op("Clip", upper, w.scalar(-limit, _E.INT64), w.scalar(limit - 1, _E.INT64))
        found = w.op("Max", _round_shift(w, upper, shift), w.as_kind(low, _E.INT64))
        return w.as_kind(w.op("Min", found, w.as_kind(high, _E.INT64)), _E.INT8)

    return computed


_FIXED: dict[int, Function] = {
    _Q.FUSE_MUL_ADD3_INT16x32x32x32: _multiply_add,
    _Q.FUSE_MUL_ADD3_IXxF32xF32xI8: _affine_to_int8,
    _Q.ROUND_SHR_SATURATE_IXxI8xI8: _shift_saturate(_E.INT8, -128, 127),
    _Q.ROUND_SHR_SATURATE_IXxI8xI16: _shift_saturate(_E.INT16, -32768, 32767),
    _Q.FUSE_ADD_RMULH_ROUND_SHR_SATURATE_INT16x16x16x8: _add_rmulh_shift(16),
    _Q.FUSE_ADD_RMULH_ROUND_SHR_SATURATE_INT32x32x32x8: _add_rmulh_shift(32),
    _Q.FUSE_MUL_ADD3_INT16xF32xF32xF32: _multiply_add,
    _Q.FUSE_MUL_ADD3_UINT8xF32xF32xF32: _multiply_add,
    _Q.MUL_INT16xF32xF32: lambda w, x, y: w.as_kind(x, _E.FLOAT) * y,
}


@exports("TypeCvt")
def _convert(call: NodeCall) -> None:
    w, source, target = call.writer, call.dtype(0), call.output().dtype
    layout = common_layout(call)
    if source == target:
        call.give(call.stored(0, layout), 0, layout)
    elif target.is_quantized and source.is_float:
        # What enters a quantized part is rounded exactly: nothing is fused with it, and halves are frequent in images.
        call.give(quantized_exactly(w, call.real(0, layout), target), 0, layout)
    elif target.is_float or target.is_quantized:
        if source.is_float or source.is_quantized:
            call.give_real(call.real(0, layout), 0, layout)
        else:
            call.give_real(w.as_kind(call.stored(0, layout), _E.FLOAT), 0, layout)
    elif target == BOOL:
        x = call.real(0, layout) if source.is_float else call.stored(0, layout)
        call.give(w.as_kind(x, _E.BOOL), 0, layout)
    elif source.is_float or source.is_quantized:
        whole = w.as_kind(call.real(0, layout), _E.INT32)
        call.give(w.as_kind(whole, STORED[target.code]), 0, layout)
    else:
        call.give(w.as_kind(call.stored(0, layout), STORED[target.code]), 0, layout)


@exports("Where")
def _where(call: NodeCall) -> None:
    x, y = call.moved(1, 2)
    call.give_moved(call.writer.where(call.stored(0), x, y))


@exports("MaskedFill")
def _masked_fill(call: NodeCall) -> None:
    w = call.writer
    mask = w.unsqueeze(call.stored(1), range(call.ndim(1), call.ndim(0)))
    value = w.constant(stored_constant(call.params.value, call.dtype(0)).reshape(()))
    call.give(w.where(mask, value, call.stored(0)))


def _nearest(w: GraphWriter, x: OnnxValue) -> OnnxValue:
    return FLOAT[ElemwiseMode.ROUND](w, x)


@exports("FakeQuant", "TQT", "LSQ")
def _fake_quant(call: NodeCall) -> None:
    w, p = call.writer, call.params
    low, high = (w.scalar(float(np.float32(v)), _E.FLOAT) for v in (p.qmin, p.qmax))
    x, scale, *rest = (call.real(k) for k in range(call.count))
    if call.node.op == "TQT":
        step = w.op("Pow", w.scalar(2.0, _E.FLOAT), scale)
        result = w.op("Clip", _nearest(w, x / step), low, high) * step
    elif call.node.op == "LSQ":
        result = (_nearest(w, w.op("Clip", x / scale + rest[0], low, high)) - rest[0]) * scale
    else:
        result = (w.op("Clip", _nearest(w, x / scale) + rest[0], low, high) - rest[0]) * scale
    call.give_real(result)


@exports("Identity", "Copy", "MarkDynamicVar", "MarkNoBroadcastElemwise", "PersistentOutputStorage", "VirtualDep")
def _identity(call: NodeCall) -> None:
    given, taken = call.forms[call.node.inputs[0]], call.forms[call.node.outputs[0]]
    if given.constant is not None:
        given.get_stored()
    taken.stored, taken.reals, taken.index = dict(given.stored), dict(given.reals), given.index


@exports("AssertEqual")
def _checked(call: NodeCall) -> None:
    call.give(call.stored(0))
