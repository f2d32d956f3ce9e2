"""Smoothing of images, their cosine transform, and convolutions with masks or a filter for each sample."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.formats.onnx.export.graph_writer import GraphWriter, OnnxValue
from megengine_lite._core.formats.onnx.export.operators.convolution import activated, plain_filter, window_attributes
from megengine_lite._core.formats.onnx.export.table import NodeCall, NotExported, exports
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.ir.dtype import DTypeCode
from megengine_lite._core.ir.image_layouts import Format
from megengine_lite._core.ir.params import BorderMode, ConvolutionMode
from megengine_lite._core.operators.conv_shape import conv_shape
from megengine_lite._core.operators.filters import dct_matrix, gaussian_kernel, kernel_sizes

_E = ElementType


def bordered(w: GraphWriter, x: OnnxValue, axis: int, reach: int, border: int) -> OnnxValue:
    """An image with pixels in front and behind along an axis, which are taken by a border rule."""
    if border == BorderMode.CONSTANT:
        ends = [0] * 4
        ends[axis] = reach
        return w.pad(x, w.integers(*ends, *ends))
    length = w.size(x, axis)
    place = w.range(length + 2 * reach) - reach
    if border == BorderMode.REPLICATE:
        place = w.op("Min", w.op("Max", place, w.scalar(0, _E.INT64)), length - 1)
    elif border == BorderMode.WRAP:
        place = w.op("Mod", place, length)
    else:
        repeated = int(border == BorderMode.REFLECT)  # whether the pixel at the edge is mirrored, too
        period = w.op("Max", length * 2 - 2 * (1 - repeated), w.scalar(1, _E.INT64))
        place = w.op("Mod", place, period)
        place = w.op("Min", place, period - repeated - place)
    return w.op("Gather", x, place, axis=axis)


@exports("GaussianBlur")
def _blur(call: NodeCall) -> None:
    w, border, layout = call.writer, call.params.border_mode, Format.NHWC
    is_float = call.dtype(0).is_float
    x = call.numbers_as_float32(0, layout)
    whole = w.shape(x)
    x = w.reshape(x, -1, 1, w.slice(whole, 0, 2, 4))
    kernels = [gaussian_kernel(*k) for k in kernel_sizes(call.node, call.spec(0))]
    for axis in (3, 2):
        kernel = kernels[axis - 2]
        weights = kernel.astype(np.float32) if is_float else np.trunc(kernel * 256).astype(np.float32)
        shape = [1, 1, 1, 1]
        shape[axis] = len(kernel)
        x = bordered(w, x, axis, len(kernel) // 2, border)
        x = w.op("Conv", x, w.constant(weights.reshape(shape)), kernel_shape=shape[2:])
    found = w.op("Reshape", x, whole)
    if is_float:
        call.give_real(found, 0, layout)
        return
    # The sums have 16 fractional bits, and are exact in float32.
    bytes_ = w.op("Clip", w.op("Floor", (found + 32768.0) / 65536.0), w.scalar(0, _E.FLOAT), w.scalar(255, _E.FLOAT))
    call.give(w.as_kind(bytes_, _E.UINT8), 0, layout)


@exports("DctChannelSelect")
def _cosine_transform(call: NodeCall) -> None:
    w, size = call.writer, call.params.dct_block_size
    x = w.as_kind(call.stored(0), _E.FLOAT)
    channels = call.dim(0, 1, "the number of channels")
    rows, columns = (w.size(x, k) / size for k in (2, 3))
    blocks = w.transpose(w.reshape(x, 0, 0, rows, size, columns, size), [0, 1, 2, 4, 3, 5])
    matrix = dct_matrix(size)
    turned = w.op("MatMul", w.constant(matrix), blocks, kind=_E.FLOAT)
    values = w.op("MatMul", turned, w.constant(np.ascontiguousarray(matrix.T)))
    flat = w.reshape(values, 0, 0, rows, columns, size * size)
    image = w.reshape(w.transpose(flat, [0, 1, 4, 2, 3]), 0, channels * size * size, rows, columns)
    if call.count == 3:
        offset, chosen = (call.constant(k, "the mask") for k in (1, 2))
        owner = np.repeat(np.arange(channels), np.diff(offset))
        image = w.op("Gather", image, w.constant((owner * size * size + chosen).astype(np.int64)), axis=1)
    call.give_real(image, 0, Format(call.params.format))


@exports("MaskConvolution")
def _masked(call: NodeCall) -> None:
    w = call.writer
    shape = conv_shape(call.node, call.known(0).shape, call.known(1).shape)
    filters, window = plain_filter(call, 1, shape), window_attributes(shape.window)
    sums = w.op("Conv", call.real(0), filters, group=shape.groups, **window)
    mask = w.as_kind(call.stored(2), _E.BOOL)
    call.give_real(w.where(mask, sums, 0.0))


@exports("BatchConvBiasForward")
def _filter_for_each_sample(call: NodeCall) -> None:
    """Samples with filters of their own are groups of one large sample."""
    w, p = call.writer, call.params
    dtype = call.dtype(0)
    if p.format != Format.NCHW or p.mode == ConvolutionMode.CONVOLUTION or dtype.code == DTypeCode.INT8:
        raise NotExported("filters of samples are written for real numbers in NCHW")
    shape = conv_shape(call.node, call.known(0).shape, call.known(1).shape[1:])
    n = call.dim(0, 0, "the number of samples")
    for axis in range(call.ndim(1)):
        call.dim(1, axis, "a size of the filters")
    x = w.reshape(call.real(0), 1, -1, w.slice(w.shape(call.real(0)), 0, 2, 4))
    filters = w.reshape(call.real(1), -1, shape.icpg, *shape.window.size)
    sums = w.op("Conv", x, filters, group=n * shape.groups, **window_attributes(shape.window))
    found = w.reshape(sums, n, shape.output_channels, w.slice(w.shape(sums), 0, 2, 4))
    for k in range(2, call.count):
        found = found + call.real(k)
    call.give_real(activated(call, found))
