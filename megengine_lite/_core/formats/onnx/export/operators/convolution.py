"""Convolutions, plain and transposed."""

from __future__ import annotations

from typing import Any

import numpy as np

from megengine_lite._core.formats.onnx.export.forms import Layout
from megengine_lite._core.formats.onnx.export.graph_writer import OnnxValue
from megengine_lite._core.formats.onnx.export.operators.functions import h_swish
from megengine_lite._core.formats.onnx.export.table import NodeCall, NotExported, exports
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.ir.image_layouts import Format, to_nchw
from megengine_lite._core.ir.params import ConvBiasNonlineMode, ConvolutionMode
from megengine_lite._core.ir.quantize import to_float32
from megengine_lite._core.operators.conv3d import Conv3DShape, conv3d_shape
from megengine_lite._core.operators.conv_shape import ConvShape, conv_shape, transposed_conv_shape
from megengine_lite._core.operators.conv_types import product_scale, sum_scale
from megengine_lite._core.operators.window import Window

_E = ElementType
AnyShape = ConvShape | Conv3DShape
_EXACT = 1 << 24  # up to here float32 holds all integers


def window_attributes(window: Window) -> dict[str, Any]:
    """The attributes that say how a window moves."""
    return {
        "kernel_shape": list(window.size),
        "strides": list(window.stride),
        "pads": [*window.pad, *window.pad],
        "dilations": list(window.dilate),
    }


def plain_filter(call: NodeCall, place: int, shape: AnyShape, scale: float | None = None) -> OnnxValue:
    """The filter as (output channels, input channels of a group, window), as real numbers or as integers in float32.

    ``scale`` replaces that of a quantized filter.
    """
    w, known, mode = call.writer, call.known(place), call.params.mode
    if known.constant is None:
        return _computed_filter(call, place, shape)
    groups = shape.filter_groups(known.constant.array, mode)
    plain = np.ascontiguousarray(groups.reshape(-1, *groups.shape[2:]))
    key, dtype = (id(known.constant), "filter", shape.groups, mode), known.dtype
    if not dtype.is_quantized:
        return w.constant(to_float32(plain, dtype), key=key)
    stored = w.constant(plain, key=key)
    step = w.scalar(dtype.scale if scale is None else scale, _E.FLOAT)
    return w.op("DequantizeLinear", stored, step, w.scalar(dtype.zero_point, stored.kind), kind=_E.FLOAT)


def _computed_filter(call: NodeCall, place: int, shape: AnyShape) -> OnnxValue:
    w, known, dimensions = call.writer, call.known(place), len(shape.window.size)
    channels = len(known.shape) - dimensions
    if getattr(call.params, "format", 0) != Format.NCHW or channels not in (2, 3) or not known.dtype.is_float:
        raise NotExported("the filter is computed, and not one of floats in NCHW")
    for axis in range(len(known.shape)):  # attributes tell them
        call.dim(place, axis, "a size of the filter")
    found = call.real(place)
    for axis in range(channels, len(known.shape)) if call.params.mode == ConvolutionMode.CONVOLUTION else ():
        found = w.flip(found, axis)
    if channels == 3:
        found = w.reshape(found, shape.groups * shape.ocpg, shape.icpg, *shape.window.size)
    return found


def _data(call: NodeCall, place: int, layout: Format) -> OnnxValue:
    """The data as real numbers, or as the integers that they are."""
    dtype = call.dtype(place)
    if dtype.is_float or dtype.is_quantized:
        return call.real(place, layout)
    return call.writer.as_kind(call.stored(place, layout), _E.FLOAT)


def _check_exact(call: NodeCall, shape: ConvShape, x: DType) -> None:
    if not x.is_float and not x.is_quantized and shape.terms * 128 * 128 >= _EXACT:
        raise NotExported("sums of so many integers are not exact in float32")


def _give(call: NodeCall, value: OnnxValue, layout: Layout) -> None:
    """The result in the type of the output."""
    dtype = call.output().dtype
    if dtype.is_float or dtype.is_quantized:
        call.give_real(value, 0, layout)
    else:
        call.give(call.writer.as_kind(value, _E.INT32 if dtype.itemsize == 4 else _E.INT16), 0, layout)


def _filter_scale(call: NodeCall, data: int, weights: int, bias: DType | None) -> float | None:
    """The scale of the filter with which sums of products have the scale that counts: that of an integer bias."""
    x, w = call.dtype(data), call.dtype(weights)
    if not x.is_quantized:
        return None
    wanted = sum_scale(x, w, bias, call.output().dtype)
    return None if wanted == product_scale(x, w) else float(np.float32(wanted) / np.float32(x.scale))


def _bias_vector(call: NodeCall, place: int, layout: Format) -> OnnxValue | None:
    """The bias as a vector of real numbers, if it is a constant with one number for each channel."""
    known, w = call.known(place), call.writer
    if known.constant is None:
        return None
    image = to_nchw(layout, known.constant.array)
    if image.size != image.shape[1]:
        return None
    vector, dtype = image.reshape(-1), known.dtype
    if dtype.is_quantized:
        stored = w.constant(vector, key=(id(known.constant), "bias"))
        return w.op("DequantizeLinear", stored, w.scalar(dtype.scale, _E.FLOAT), kind=_E.FLOAT)
    return w.constant(to_float32(vector, dtype), key=(id(known.constant), "bias"))


def activated(call: NodeCall, x: OnnxValue) -> OnnxValue:
    """The activation of a ConvBias."""
    w, mode = call.writer, getattr(call.params, "nonlineMode", ConvBiasNonlineMode.IDENTITY)
    if mode == ConvBiasNonlineMode.RELU:
        return w.op("Relu", x)
    if mode == ConvBiasNonlineMode.SIGMOID:
        return w.op("Sigmoid", x)
    return h_swish(w, x) if mode == ConvBiasNonlineMode.H_SWISH else x


@exports("Convolution", "ConvBiasForward")
def _convolution(call: NodeCall) -> None:
    w, node = call.writer, call.node
    shape = conv_shape(node, call.known(0).shape, call.known(1).shape)
    _check_exact(call, shape, call.dtype(0))
    bias_type = call.dtype(2) if call.count > 2 else None
    filters = plain_filter(call, 1, shape, _filter_scale(call, 0, 1, bias_type))
    bias = _bias_vector(call, 2, shape.output_format) if call.count > 2 else None
    x = _data(call, 0, shape.input_format)
    result = w.op("Conv", x, filters, bias, group=shape.groups, **window_attributes(shape.window))
    if call.count > 2 and bias is None:
        result = result + _data(call, 2, shape.output_format)
    if call.count > 3:
        result = result + _data(call, 3, shape.output_format)
    _give(call, activated(call, result), shape.output_format)


@exports("ConvolutionBackwardData")
def _transposed(call: NodeCall) -> None:
    w, node = call.writer, call.node
    shape = transposed_conv_shape(node, *(call.known(k).shape for k in range(call.count)))
    _check_exact(call, shape, call.dtype(1))
    filters = plain_filter(call, 0, shape)
    x, attributes = _data(call, 1, shape.output_format), window_attributes(shape.window)
    if call.count == 3:
        result = _with_size_of(call, shape, x, filters)
    else:
        result = w.op("ConvTranspose", x, filters, group=shape.groups, **attributes)
    _give(call, result, shape.input_format)


def _with_size_of(call: NodeCall, shape: ConvShape, x: OnnxValue, filters: OnnxValue) -> OnnxValue:
    """A transposed convolution whose result has the size of the third input.

    Several sizes lead to the same output of a convolution that skips pixels; the transposed one needs to be told.
    """
    w, window = call.writer, shape.window
    known, like = call.known(1).dims, call.known(2).dims
    attributes = window_attributes(window)
    if all(d is not None for d in (*known, *like)):
        least = window.transposed_output(call.node, shape.out)
        more = [s - m for s, m in zip(shape.space, least, strict=True)]
        return w.op("ConvTranspose", x, filters, group=shape.groups, output_padding=more, **attributes)
    # The largest result that there can be; what is needed of it is cut out.
    attributes["pads"] = [0] * (2 * len(window.size))
    whole = w.op("ConvTranspose", x, filters, group=shape.groups, **attributes)
    extra = w.constant(np.array([0] * 6 + [s - 1 for s in window.stride], np.int64))
    whole = w.pad(whole, extra)
    size = w.slice(w.shape(call.stored(2, shape.input_format)), 0, 2, 4)
    begin = w.integers(*window.pad)
    return w.op("Slice", whole, begin, size + begin, w.integers(2, 3))


@exports("Convolution3D")
def _convolution_3d(call: NodeCall) -> None:
    shape = conv3d_shape(call.node, call.known(0).shape, call.known(1).shape)
    filters, window = plain_filter(call, 1, shape), window_attributes(shape.window)
    call.give_real(call.writer.op("Conv", call.real(0), filters, group=shape.groups, **window))


@exports("Convolution3DBackwardData")
def _transposed_3d(call: NodeCall) -> None:
    filters, data, *like = (call.known(k).shape for k in range(call.count))
    shape = conv3d_shape(call.node, data, filters, transposed=True, like=like[0] if like else ())
    more = None
    if like:
        out = [call.dim(1, k, "the size of the result") for k in (2, 3, 4)]
        space = [call.dim(2, k, "the size of the result") for k in (2, 3, 4)]
        more = [s - m for s, m in zip(space, shape.window.transposed_output(call.node, out), strict=True)]
    weights, window = plain_filter(call, 0, shape), window_attributes(shape.window)
    call.give_real(
        call.writer.op("ConvTranspose", call.real(1), weights, group=shape.groups, output_padding=more, **window)
    )
