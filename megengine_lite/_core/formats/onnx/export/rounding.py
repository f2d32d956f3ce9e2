"""Arithmetic that ONNX has no operator for, or one that rounds in another way."""

from __future__ import annotations

from megengine_lite._core.formats.onnx.export.graph_writer import GraphWriter, OnnxValue
from megengine_lite._core.formats.onnx.messages import ElementType


def round_half_away(w: GraphWriter, x: OnnxValue) -> OnnxValue:
    """The nearest whole number, halves away from zero; ``Round`` of ONNX takes halves to even ones."""
    size = w.op("Abs", x)
    whole = w.op("Floor", size)
    up = w.as_kind(size - whole >= 0.5, x.kind)  # exact, where size + 0.5 would round 0.49999997 up
    return w.op("Sign", x) * (whole + up)


def truncated(w: GraphWriter, x: OnnxValue) -> OnnxValue:
    """The whole part of real numbers."""
    return w.op("Sign", x) * w.op("Floor", w.op("Abs", x))


def floor_div(w: GraphWriter, x: OnnxValue, y: OnnxValue | int) -> OnnxValue:
    """Quotients of integers, rounded down; ``Div`` of ONNX rounds them towards zero."""
    divisor = y if isinstance(y, OnnxValue) else w.scalar(y, x.kind)
    return (x - w.op("Mod", x, divisor)) / divisor


def log1p(w: GraphWriter, x: OnnxValue) -> OnnxValue:
    """``log(1 + x)`` that is exact near 0: what rounding 1 + x loses is put back as a factor."""
    one_more = 1.0 + x
    lost = one_more - 1.0
    is_tiny = lost.equals(0.0)
    factor = x / w.where(is_tiny, 1.0, lost)
    return w.where(is_tiny, x, w.where(x.equals(float("inf")), x, w.op("Log", one_more) * factor))


def expm1(w: GraphWriter, x: OnnxValue) -> OnnxValue:
    """``exp(x) - 1`` that is exact near 0, by the same means."""
    power = w.op("Exp", x)
    less = power - 1.0
    log = w.op("Log", power)
    is_plain = w.op("Or", less.equals(-1.0), power.equals(float("inf")), kind=ElementType.BOOL)
    is_tiny = log.equals(0.0)
    return w.where(is_tiny, x, w.where(is_plain, less, less * x / w.where(is_tiny, 1.0, log)))
