"""The elementwise functions of float32 and of int32, as nodes of ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from megengine_lite._core.formats.onnx.export.graph_writer import GraphWriter, OnnxValue
from megengine_lite._core.formats.onnx.export.rounding import expm1, floor_div, log1p, round_half_away
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.ir.params import ElemwiseMode

M = ElemwiseMode
_E = ElementType

Function: TypeAlias = Callable[..., OnnxValue]


def _plain(op: str) -> Function:
    return lambda w, *values: w.op(op, *values)


def _relu(w: GraphWriter, x: OnnxValue) -> OnnxValue:
    return w.op("Relu", x)


def _sigmoid(w: GraphWriter, x: OnnxValue) -> OnnxValue:
    return w.op("Sigmoid", x)


def clipped(w: GraphWriter, x: OnnxValue, low: float, high: float) -> OnnxValue:
    """Numbers limited to a range."""
    return w.op("Clip", x, w.scalar(low, x.kind), w.scalar(high, x.kind))


def h_swish(w: GraphWriter, x: OnnxValue) -> OnnxValue:
    return x * clipped(w, x + 3.0, 0.0, 6.0) / 6.0


def _as_number(w: GraphWriter, condition: OnnxValue, like: OnnxValue) -> OnnxValue:
    return w.as_kind(condition, like.kind)


def _chosen(w: GraphWriter, condition: OnnxValue, x: OnnxValue) -> OnnxValue:
    return w.where(condition, x, 0)


def _softplus(w: GraphWriter, x: OnnxValue) -> OnnxValue:
    return log1p(w, w.op("Exp", -w.op("Abs", x))) + w.op("Relu", x)


def _log_sum_exp(w: GraphWriter, x: OnnxValue, y: OnnxValue) -> OnnxValue:
    less, more = w.op("Min", x, y), w.op("Max", x, y)
    return more + log1p(w, w.op("Exp", less - more))


def _fast_tanh_grad(w: GraphWriter, x: OnnxValue, y: OnnxValue) -> OnnxValue:
    square = x * x
    return ((-48.0 * square) / (3.0 + square) + 27.0 + square) / (9.0 * (3.0 + square)) * y


def _h_swish_grad(w: GraphWriter, x: OnnxValue, y: OnnxValue) -> OnnxValue:
    return w.where(x < -3.0, 0.0 * y, w.where(x > 3.0, y, (2.0 * x + 3.0) / 6.0 * y))


def _silu_grad(w: GraphWriter, x: OnnxValue, y: OnnxValue) -> OnnxValue:
    s = _sigmoid(w, x)
    return y * s * (1.0 + x * (1.0 - s))


def _normal_cdf(w: GraphWriter, x: OnnxValue) -> OnnxValue:
    return (1.0 + w.op("Erf", x * math.sqrt(0.5))) / 2.0


def _gelu_grad(w: GraphWriter, x: OnnxValue, y: OnnxValue) -> OnnxValue:
    density = w.op("Exp", -0.5 * x * x) / math.sqrt(2 * math.pi)
    return y * (_normal_cdf(w, x) + x * density)


def _softplus_grad(w: GraphWriter, x: OnnxValue, y: OnnxValue) -> OnnxValue:
    size = w.op("Exp", -w.op("Abs", x))
    tail = y * size / (1.0 + size)
    return w.where(x > 0.0, y - tail, tail)


def _clip(w: GraphWriter, x: OnnxValue, low: OnnxValue, high: OnnxValue) -> OnnxValue:
    a, b = w.array_of(low), w.array_of(high)
    if a is not None and b is not None and (a <= b).all():
        if a.size == b.size == 1:
            return w.op("Clip", x, *(w.constant(v.reshape(())) for v in (a, b)))
        return w.op("Min", w.op("Max", x, low), high)
    return w.where(x <= low, low, w.where(x <= high, x, high))


def _atan2(w: GraphWriter, y: OnnxValue, x: OnnxValue) -> OnnxValue:
    """The angle of a point by the arc tangent of the smaller quotient."""
    angle = w.op("Atan", y / x)
    behind = angle + w.where(y < 0.0, -math.pi, math.pi)
    upright = w.op("Sign", y) * (math.pi / 2)
    return w.where(x > 0.0, angle, w.where(x < 0.0, behind, upright))


def _inverse(w: GraphWriter, y: OnnxValue, tail: OnnxValue, use_tail: OnnxValue) -> OnnxValue:
    """The x >= 0 with erf(x) = y, erfc(x) = tail: Winitzki's approximation, then steps of Halley's method."""
    log = w.op("Log", tail * (1.0 + y))
    a = 2 / (math.pi * 0.147) + log / 2.0
    x = w.op("Sqrt", w.op("Sqrt", a * a - log / 0.147) - a)
    for _ in range(2):
        error = w.op("Erf", x)
        excess = w.where(use_tail, tail - (1.0 - error), error - y)
        step = excess * (math.sqrt(math.pi) / 2) * w.op("Exp", x * x)
        x = x - step / (1.0 + x * step)
    return w.where(tail.equals(0.0), float("inf"), x)


def _erfinv(w: GraphWriter, y: OnnxValue) -> OnnxValue:
    size = w.op("Abs", y)
    x = _inverse(w, size, 1.0 - size, size > 0.5)
    return w.where(y.equals(0.0), y, w.op("Sign", y) * x)


def _erfcinv(w: GraphWriter, y: OnnxValue) -> OnnxValue:
    tail = w.op("Min", y, 2.0 - y)
    x = _inverse(w, 1.0 - tail, tail, tail < 0.5)
    return w.where(y > 1.0, -x, x)


def _multiply_add(w: GraphWriter, x: OnnxValue, y: OnnxValue, z: OnnxValue) -> OnnxValue:
    return x * y + z


FLOAT: dict[int, Function] = {
    M.RELU: _relu,
    M.ABS: _plain("Abs"),
    M.ACOS: _plain("Acos"),
    M.ASIN: _plain("Asin"),
    M.CEIL: _plain("Ceil"),
    M.COS: _plain("Cos"),
    M.EXP: _plain("Exp"),
    M.EXPM1: expm1,
    M.FLOOR: _plain("Floor"),
    M.LOG: _plain("Log"),
    M.LOG1P: log1p,
    M.NEGATE: _plain("Neg"),
    M.SIGMOID: _sigmoid,
    M.SIN: _plain("Sin"),
    M.TANH: _plain("Tanh"),
    M.ABS_GRAD: lambda w, x, y: w.where(x > 0.0, y, -y),
    M.ADD: _plain("Add"),
    M.FLOOR_DIV: lambda w, x, y: w.op("Floor", x / y),
    M.MAX: _plain("Max"),
    M.MIN: _plain("Min"),
    M.MOD: lambda w, x, y: w.op("Mod", x, y, fmod=1),
    M.MUL: _plain("Mul"),
    M.POW: _plain("Pow"),
    M.SIGMOID_GRAD: lambda w, x, y: x * (1.0 - x) * y,
    M.SUB: _plain("Sub"),
    M.SWITCH_GT0: lambda w, x, y: _chosen(w, x > 0.0, y),
    M.TANH_GRAD: lambda w, x, y: (1.0 - x * x) * y,
    M.TRUE_DIV: _plain("Div"),
    M.LOG_SUM_EXP: _log_sum_exp,
    M.LT: lambda w, x, y: _as_number(w, x < y, x),
    M.LEQ: lambda w, x, y: _as_number(w, x <= y, x),
    M.EQ: lambda w, x, y: _as_number(w, x.equals(y), x),
    M.NEQ: lambda w, x, y: _as_number(w, w.op("Not", x.equals(y)), x),
    M.COND_LEQ_MOV: lambda w, x, y, z: _chosen(w, x <= y, z),
    M.COND_LT_MOV: lambda w, x, y, z: _chosen(w, x < y, z),
    M.FUSE_MUL_ADD3: _multiply_add,
    M.FUSE_MUL_ADD4: lambda w, x, y, z, v: x * y + z * v,
    M.FUSE_ADD_RELU: lambda w, x, y: _relu(w, x + y),
    M.FUSE_ADD_SIGMOID: lambda w, x, y: _sigmoid(w, x + y),
    M.FUSE_ADD_TANH: lambda w, x, y: w.op("Tanh", x + y),
    M.FAST_TANH: lambda w, x: x * (27.0 + x * x) / (27.0 + 9.0 * x * x),
    M.FAST_TANH_GRAD: _fast_tanh_grad,
    M.ROUND: round_half_away,
    M.ATAN2: _atan2,
    M.ERF: _plain("Erf"),
    M.ERFINV: _erfinv,
    M.ERFC: lambda w, x: 1.0 - w.op("Erf", x),
    M.ERFCINV: _erfcinv,
    M.H_SWISH: h_swish,
    M.H_SWISH_GRAD: _h_swish_grad,
    M.FUSE_ADD_H_SWISH: lambda w, x, y: h_swish(w, x + y),
    M.SILU: lambda w, x: x * _sigmoid(w, x),
    M.SILU_GRAD: _silu_grad,
    M.GELU: lambda w, x: x * _normal_cdf(w, x),
    M.GELU_GRAD: _gelu_grad,
    M.ISNAN: lambda w, x: _as_number(w, w.op("IsNaN", x, kind=_E.BOOL), x),
    M.ISINF: lambda w, x: _as_number(w, w.op("IsInf", x, kind=_E.BOOL), x),
    M.SINH: _plain("Sinh"),
    M.COSH: _plain("Cosh"),
    M.ASINH: _plain("Asinh"),
    M.ACOSH: _plain("Acosh"),
    M.ATANH: _plain("Atanh"),
    M.TAN: _plain("Tan"),
    M.ASINH_GRAD: lambda w, x, y: y / w.op("Sqrt", x * x + 1.0),
    M.ACOSH_GRAD: lambda w, x, y: y / w.op("Sqrt", x * x - 1.0),
    M.ATANH_GRAD: lambda w, x, y: y / (1.0 - x * x),
    M.PRELU: lambda w, x, y: w.where(x > 0.0, x, x * y),
    M.CLIP: _clip,
    M.PRELU_GRAD: lambda w, x, y, z: w.where(x >= 0.0, y, y * z),
    M.SOFTPLUS: _softplus,
    M.SOFTPLUS_GRAD: _softplus_grad,
    M.RELU6: lambda w, x: clipped(w, x, 0.0, 6.0),
    M.RELU6_GRAD: lambda w, x, y: w.where(x <= 0.0, 0.0 * y, w.where(x >= 6.0, 0.0 * y, y)),
    M.HSIGMOID: lambda w, x: clipped(w, (x + 3.0) / 6.0, 0.0, 1.0),
    M.HSIGMOID_GRAD: lambda w, x, y: w.where(w.op("Abs", x) >= 3.0, 0.0 * y, y / 6.0),
    M.LOGSIGMOID: lambda w, x: w.op("Min", x, w.scalar(0.0, _E.FLOAT)) - log1p(w, w.op("Exp", -w.op("Abs", x))),
    M.SQRT: _plain("Sqrt"),
    M.SQUARE: lambda w, x: x * x,
    M.SIGN: _plain("Sign"),
}
"""Mode -> what writes it for float32."""


def _shifted(w: GraphWriter, x: OnnxValue, y: OnnxValue) -> tuple[OnnxValue, OnnxValue]:
    """The number and the power of two, as int64. More than 62 bits move all of the number out of its type."""
    count = w.op("Min", w.as_kind(y, _E.INT64), w.scalar(62, _E.INT64))
    power = w.op("Pow", w.scalar(2, _E.INT64), count)
    return w.as_kind(x, _E.INT64), power


def _shift_left(w: GraphWriter, x: OnnxValue, y: OnnxValue) -> OnnxValue:
    wide, power = _shifted(w, x, y)
    return w.as_kind(wide * power, x.kind)


def _shift_right(w: GraphWriter, x: OnnxValue, y: OnnxValue) -> OnnxValue:
    wide, power = _shifted(w, x, y)
    return w.as_kind(floor_div(w, wide, power), x.kind)


INTEGER: dict[int, Function] = {
    M.RELU: lambda w, x: w.op("Max", x, w.scalar(0, x.kind)),
    M.ABS: _plain("Abs"),
    M.NEGATE: _plain("Neg"),
    M.ABS_GRAD: lambda w, x, y: w.where(x > 0, y, -y),
    M.ADD: _plain("Add"),
    M.FLOOR_DIV: floor_div,
    M.MAX: _plain("Max"),
    M.MIN: _plain("Min"),
    M.MOD: _plain("Mod"),
    M.MUL: _plain("Mul"),
    M.SUB: _plain("Sub"),
    M.SWITCH_GT0: lambda w, x, y: _chosen(w, x > 0, y),
    M.LT: FLOAT[M.LT],
    M.LEQ: FLOAT[M.LEQ],
    M.EQ: FLOAT[M.EQ],
    M.NEQ: FLOAT[M.NEQ],
    M.SHL: _shift_left,
    M.SHR: _shift_right,
    M.COND_LEQ_MOV: FLOAT[M.COND_LEQ_MOV],
    M.COND_LT_MOV: FLOAT[M.COND_LT_MOV],
    M.FUSE_MUL_ADD3: _multiply_add,
    M.FUSE_MUL_ADD4: FLOAT[M.FUSE_MUL_ADD4],
    M.PRELU: lambda w, x, y: w.where(x > 0, x, x * y),
    M.CLIP: _clip,
    M.RELU6: lambda w, x: clipped(w, x, 0, 6),
    M.SQUARE: lambda w, x: x * x,
    M.SIGN: _plain("Sign"),
}
"""Mode -> what writes it for int32; narrower integers are computed so, and cut to their bits."""

BOOLEAN: dict[int, Function] = {
    M.NOT: _plain("Not"),
    M.AND: _plain("And"),
    M.OR: _plain("Or"),
    M.XOR: _plain("Xor"),
    M.LT: lambda w, x, y: w.op("And", w.op("Not", x), y),
    M.LEQ: lambda w, x, y: w.op("Or", w.op("Not", x), y),
    M.EQ: lambda w, x, y: w.op("Equal", x, y),
    M.NEQ: _plain("Xor"),
}
"""Mode -> what writes it for bool."""
