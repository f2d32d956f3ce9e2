"""Fourier transforms, windows, mel filters."""

from __future__ import annotations

from megengine_lite._core.formats.onnx.graph_values import Value, check_kind
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.operators.constants import target_kind
from megengine_lite._core.formats.onnx.operators.table import Call, converts
from megengine_lite._core.ir.onnx_params import CosineWindow, Fourier, ShortTime


@converts("DFT", since=17)
def _transform(call: Call) -> Value:
    b, x, length = call.builder, call.input(0), call.optional(1)
    check_kind(x.kind, "f")
    named = call.optional(2) if call.version >= 20 else None
    axis = None
    if named is None:
        axis = -2 if call.version >= 20 else call.integer("axis", 1)
    parameters = Fourier(
        bool(call.integer("inverse", 0)), bool(call.integer("onesided", 0)), axis, has_length=length is not None
    )
    numbers = [v.var for v in (length, named) if v is not None]
    return b.node("FourierTransform", parameters, [b.exact(x), *numbers], x.kind, x.rank)


@converts("STFT", since=17)
def _short_time_transform(call: Call) -> Value:
    b, x, step = call.builder, call.input(0), call.input(1)
    window, length = call.optional(2), call.optional(3)
    check_kind(x.kind, "f")
    parameters = ShortTime(bool(call.integer("onesided", 1)), window is not None, length is not None)
    inputs = [b.exact(x), step.var]
    if window is not None:
        check_kind(window.kind, "f")
        inputs.append(b.exact(window))
    if length is not None:
        inputs.append(length.var)
    return b.node("ShortTimeFourier", parameters, inputs, x.kind, 4)


_WINDOWS = {
    "HannWindow": (0.5, -0.5),
    "HammingWindow": (25 / 46, -21 / 46),
    "BlackmanWindow": (0.42, -0.5, 0.08),
}


@converts(*_WINDOWS, since=17)
def _window(call: Call) -> Value:
    b, kind = call.builder, target_kind(call, "output_datatype", ElementType.FLOAT)
    parameters = CosineWindow(_WINDOWS[call.op], bool(call.integer("periodic", 1)))
    return b.retyped(b.node("OnnxWindow", parameters, [call.input(0).var], ElementType.DOUBLE, 1), kind)


@converts("MelWeightMatrix", since=17)
def _mel_filters(call: Call) -> Value:
    b, kind = call.builder, target_kind(call, "output_datatype", ElementType.FLOAT)
    sizes, edges = [call.input(k).var for k in range(3)], [b.exact(call.input(k)) for k in (3, 4)]
    return b.retyped(b.node("MelFilters", None, [*sizes, *edges], ElementType.FLOAT, 2), kind)
