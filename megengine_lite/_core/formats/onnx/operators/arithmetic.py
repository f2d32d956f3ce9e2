"""Arithmetic, comparisons, logic, bits."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np

from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import FLOATS, Value, check_kind, check_same_kind, common_length
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.operators.table import Call, NotConverted, converts
from megengine_lite._core.ir import params
from megengine_lite._core.ir.onnx_params import OnnxElemwise, OnnxMode
from megengine_lite._core.ir.params import ElemwiseMode, ElemwiseMultiTypeMode

_M = ElemwiseMode

_UNARY = {
    "Abs": _M.ABS,
    "Acos": _M.ACOS,
    "Acosh": _M.ACOSH,
    "Asin": _M.ASIN,
    "Asinh": _M.ASINH,
    "Atanh": _M.ATANH,
    "Ceil": _M.CEIL,
    "Cos": _M.COS,
    "Cosh": _M.COSH,
    "Erf": _M.ERF,
    "Exp": _M.EXP,
    "Floor": _M.FLOOR,
    "Log": _M.LOG,
    "Neg": _M.NEGATE,
    "Not": _M.NOT,
    "Sign": _M.SIGN,
    "Sin": _M.SIN,
    "Sinh": _M.SINH,
    "Sqrt": _M.SQRT,
    "Tan": _M.TAN,
}
_BINARY = {"Add": _M.ADD, "Sub": _M.SUB, "Mul": _M.MUL, "And": _M.AND, "Or": _M.OR, "Xor": _M.XOR}


@converts(*_UNARY)
def _unary(call: Call) -> Value:
    x = call.input(0)
    if call.op == "Abs" and x.kind.name.startswith("UINT"):
        return x
    return call.builder.elemwise(_UNARY[call.op], x)


@converts("Atan")
def _atan(call: Call) -> Value:
    x = call.input(0)
    return call.builder.elemwise(_M.ATAN2, x, call.builder.number(1, x))


@converts("Reciprocal")
def _reciprocal(call: Call) -> Value:
    x = call.input(0)
    return call.builder.elemwise(_M.TRUE_DIV, call.builder.number(1, x), x)


def two_operands(call: Call) -> list[Value]:
    """The two inputs. Before version 7 an attribute says at which axis of the first the second begins."""
    x, y = call.input(0), call.input(1)
    if call.version < 7:
        call.know("broadcast")
        if "axis" in call.attributes:
            behind = x.rank - call.axis("axis", 0, x.rank) - y.rank
            y = call.builder.with_axes(y, [y.rank + k for k in range(behind)])
    return [x, y]


@converts(*_BINARY)
def _binary(call: Call) -> Value:
    values = two_operands(call)
    check_same_kind(values)
    return call.builder.elemwise(_BINARY[call.op], *values)


@converts("Div")
def _divide(call: Call) -> Value:
    values = two_operands(call)
    check_same_kind(values)
    if values[0].kind in FLOATS:
        return call.builder.elemwise(_M.TRUE_DIV, *values)
    return call.builder.onnx_elemwise(OnnxMode.DIVIDE, *values)


@converts("Mod", since=10)
def _mod(call: Call) -> Value:
    values = [call.input(0), call.input(1)]
    check_same_kind(values)
    if call.integer("fmod", 0):
        return call.builder.onnx_elemwise(OnnxMode.REMAINDER, *values)
    if values[0].kind in FLOATS:
        return call.builder.onnx_elemwise(OnnxMode.MODULO, *values)
    return call.builder.elemwise(_M.MOD, *values)


@converts("Pow")
def _power(call: Call) -> Value:
    base, exponent = two_operands(call)
    rank = max(base.rank, exponent.rank)
    if base.kind in FLOATS and base.kind != ElementType.DOUBLE:
        return _real_power(call.builder, base, call.builder.retyped(exponent, base.kind), rank)
    check_kind(base.kind, "iuf")
    inputs = [call.builder.exact(base), call.builder.exact(exponent)]
    return call.builder.node("OnnxElemwise", OnnxElemwise(OnnxMode.POWER), inputs, base.kind, rank)


def _real_power(b: GraphBuilder, base: Value, exponent: Value, rank: int) -> Value:
    """A power that negative numbers do not have unless the exponent is whole.

    An exponent that is a constant of shape (1,) would take their absolute value. With two dimensions it does not.
    """
    known = b.known_value(exponent)
    if exponent.rank > 1 or (known is not None and ((known == np.round(known)) | (np.abs(known) == 0.5)).all()):
        return b.elemwise(_M.POW, base, exponent)
    result = b.elemwise(_M.POW, base, b.with_axes(exponent, range(2 - exponent.rank)))
    return result if rank > 1 else b.without_axes(result, range(2 - rank))


_MANY: dict[str, Callable[[GraphBuilder, Value, Value], Value]] = {
    "Sum": lambda b, x, y: b.elemwise(_M.ADD, x, y),
    "Mean": lambda b, x, y: b.elemwise(_M.ADD, x, y),
    "Max": lambda b, x, y: b.elemwise(_M.MAX, x, y),
    "Min": lambda b, x, y: b.elemwise(_M.MIN, x, y),
}


@converts(*_MANY)
def _many(call: Call) -> Value:
    values = [call.input(k) for k in range(max(len(call.inputs), 1))]
    check_same_kind(values)
    total = reduce(lambda x, y: _MANY[call.op](call.builder, x, y), values)
    if call.op == "Mean" and len(values) > 1:
        return call.builder.elemwise(_M.TRUE_DIV, total, call.builder.number(len(values), total))
    return total


_COMPARISONS = {
    "Equal": (ElemwiseMultiTypeMode.EQ, False),
    "Less": (ElemwiseMultiTypeMode.LT, False),
    "LessOrEqual": (ElemwiseMultiTypeMode.LEQ, False),
    "Greater": (ElemwiseMultiTypeMode.LT, True),
    "GreaterOrEqual": (ElemwiseMultiTypeMode.LEQ, True),
}


@converts(*_COMPARISONS)
def _compare(call: Call) -> Value:
    x, y = two_operands(call)
    check_same_kind([x, y])
    mode, swapped = _COMPARISONS[call.op]
    return call.builder.compare(mode, y, x) if swapped else call.builder.compare(mode, x, y)


@converts("IsNaN", since=9)
def _is_nan(call: Call) -> Value:
    x = call.input(0)
    check_kind(x.kind, "f")
    if x.kind == ElementType.DOUBLE:
        return call.builder.compare(ElemwiseMultiTypeMode.NEQ, x, x)
    return call.builder.compare(ElemwiseMultiTypeMode.ISNAN, x)


@converts("IsInf", since=10)
def _is_infinite(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    signs = []
    positive, negative = call.integer("detect_positive", 1), call.integer("detect_negative", 1)
    if positive and negative and x.kind != ElementType.DOUBLE:
        check_kind(x.kind, "f")
        return b.compare(ElemwiseMultiTypeMode.ISINF, x)
    if positive:
        signs.append(b.onnx_elemwise(OnnxMode.IS_POSITIVE_INFINITY, x, kind=ElementType.BOOL))
    if negative:
        signs.append(b.onnx_elemwise(OnnxMode.IS_NEGATIVE_INFINITY, x, kind=ElementType.BOOL))
    if not signs:
        never = b.compare(ElemwiseMultiTypeMode.LT, x, x)
        return never
    return signs[0] if len(signs) == 1 else b.elemwise(_M.OR, *signs)


@converts("Round", since=11)
def _round(call: Call) -> Value:
    return call.builder.elemwise(_M.ROUND_EVEN, call.input(0))


_BITS = {
    "BitwiseAnd": OnnxMode.BIT_AND,
    "BitwiseOr": OnnxMode.BIT_OR,
    "BitwiseXor": OnnxMode.BIT_XOR,
    "BitwiseNot": OnnxMode.BIT_NOT,
}


@converts(*_BITS, since=18)
def _bits(call: Call) -> Value:
    values = [call.input(k) for k in range(1 if call.op == "BitwiseNot" else 2)]
    check_same_kind(values)
    return call.builder.onnx_elemwise(_BITS[call.op], *values)


@converts("BitShift", since=11)
def _shift(call: Call) -> Value:
    direction = call.text("direction", "")
    if direction not in ("LEFT", "RIGHT"):
        raise NotConverted(f"its direction is {direction!r}, neither LEFT nor RIGHT")
    mode = OnnxMode.SHIFT_LEFT if direction == "LEFT" else OnnxMode.SHIFT_RIGHT
    return call.builder.onnx_elemwise(mode, call.input(0), call.input(1))


@converts("Where", since=9)
def _where(call: Call) -> Value:
    mask, *values = (call.input(k) for k in range(3))
    check_kind(mask.kind, "b")
    check_same_kind(values)
    inputs, dtype = call.builder.same_carrier(values)
    rank = max(mask.rank, *(v.rank for v in values))
    length = common_length([mask, *values])
    return call.builder.node("Where", params.Empty(), [mask.var, *inputs], values[0].kind, rank, dtype, length)


@converts("Clip")
def _clip(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    limits: list[Value | None] = [call.optional(1), call.optional(2)]
    if call.version < 11:
        call.know("min", "max")
        given = [call.attributes.get(name) for name in ("min", "max")]
        limits = [None if a is None or a.f is None else b.number(a.f, x) for a in given]
    for mode, limit in zip((_M.MAX, _M.MIN), limits, strict=True):
        if limit is not None:
            x = b.elemwise(mode, x, limit)
    return x
