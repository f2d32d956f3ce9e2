"""Pooling over windows."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.formats.onnx.export.graph_writer import OnnxValue
from megengine_lite._core.formats.onnx.export.operators.convolution import window_attributes
from megengine_lite._core.formats.onnx.export.rounding import round_half_away, truncated
from megengine_lite._core.formats.onnx.export.table import NodeCall, exports
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.ir.image_layouts import stored_axes
from megengine_lite._core.ir.params import PoolingMode
from megengine_lite._core.operators.image_helpers import image_format
from megengine_lite._core.operators.pooling import pool_window
from megengine_lite._core.operators.window import Window

_E = ElementType
# What MaxPool takes as it is.
_ORDERED = (_E.FLOAT, _E.INT8, _E.UINT8)


def _source(call: NodeCall) -> OnnxValue:
    """The image in NCHW: stored numbers where only their order counts, else what they stand for, as float32."""
    fmt, dtype = image_format(call.node), call.dtype(0)
    if call.params.mode == PoolingMode.MAX and not dtype.is_float:
        x = call.stored(0, fmt)
        return x if x.kind in _ORDERED else call.writer.as_kind(x, _E.FLOAT)
    # Averages of a few integers are often halves, which must not be lost by scaling them before.
    numbers = call.numbers_as_float32(0, fmt)
    return numbers - float(dtype.zero_point) if dtype.zero_point else numbers


def _give(call: NodeCall, value: OnnxValue) -> None:
    w, fmt, dtype = call.writer, image_format(call.node), call.output().dtype
    mode, kind = call.params.mode, call.stored(0, fmt).kind
    if dtype.is_float:
        call.give_real(value, 0, fmt)
    elif mode == PoolingMode.MAX:
        call.give(w.as_kind(value, kind), 0, fmt)
    else:
        if dtype.zero_point:
            value = value + float(dtype.zero_point)
        cuts = not dtype.is_quantized and mode == PoolingMode.AVERAGE
        call.give(w.as_kind((truncated if cuts else round_half_away)(w, value), kind), 0, fmt)


def _pooled(call: NodeCall, x: OnnxValue, window: Window) -> OnnxValue:
    attributes = window_attributes(window)
    if call.params.mode == PoolingMode.MAX:
        return call.writer.op("MaxPool", x, **attributes)
    del attributes["dilations"]  # version 19 has them, and they are 1
    counts = int(call.params.mode == PoolingMode.AVERAGE)
    return call.writer.op("AveragePool", x, count_include_pad=counts, **attributes)


@exports("Pooling")
def _pooling(call: NodeCall) -> None:
    space = (1 << 30, 1 << 30)  # the window does not depend on it
    _give(call, _pooled(call, _source(call), pool_window(call.node, space, None)))


@exports("AdaptivePooling")
def _adaptive(call: NodeCall) -> None:
    sizes = np.array(call.numbers(1, "the size of the output"))
    x = _source(call)
    name = "MaxPool" if call.params.mode == PoolingMode.MAX else "AveragePool"
    dims = [call.known(0).dims[k] for k in stored_axes(image_format(call.node))[-2:]]
    if (sizes == 1).all() and x.kind == _E.FLOAT:
        _give(call, call.writer.op(f"Global{name}", x))
    elif (sizes == 1).all():  # maxima of bytes
        _give(call, call.writer.reduce("ReduceMax", x, [2, 3], keep=True))
    elif dims[0] is not None and dims[1] is not None:
        _give(call, _pooled(call, x, pool_window(call.node, (dims[0], dims[1]), sizes)))
    else:
        for axis, size in zip((2, 3), np.broadcast_to(sizes, 2), strict=True):
            x = _adaptive_axis(call, x, axis, int(size))
        _give(call, x)


def _adaptive_axis(call: NodeCall, x: OnnxValue, axis: int, count: int) -> OnnxValue:
    """Pooling along an axis whose length is known when the model runs: the elements of each window, then one axis less.

    The stride is length // count and the window length - (count - 1) * stride, as the definition has it.
    """
    w = call.writer
    length = w.size(x, axis)
    stride = length / w.integers(count)
    size = length - stride * w.integers(count - 1)
    starts = w.unsqueeze(w.constant(np.arange(count)) * stride, [1])
    x = w.op("Gather", x, starts + w.range(size), axis=axis)
    reduction = "ReduceMax" if call.params.mode == PoolingMode.MAX else "ReduceMean"
    return w.reduce(reduction, x, [axis + 1], keep=False)
