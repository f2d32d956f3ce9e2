"""Windows of images as tensors, and what is computed from these."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.formats.onnx.export.graph_writer import END, GraphWriter, OnnxValue
from megengine_lite._core.formats.onnx.export.operators.convolution import window_attributes
from megengine_lite._core.formats.onnx.export.operators.sampling import sample
from megengine_lite._core.formats.onnx.export.table import NodeCall, NotExported, exports
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.ir.image_layouts import Format
from megengine_lite._core.ir.params import BorderMode, ConvolutionMode
from megengine_lite._core.operators.conv_shape import conv_shape
from megengine_lite._core.operators.images2neibs import window_of
from megengine_lite._core.operators.window import Window, mirrored, window_2d

_E = ElementType
_MOST_DISPLACEMENTS = 1 << 10


def _positions(w: GraphWriter, length: OnnxValue, window: Window, axis: int) -> OnnxValue:
    """Where the elements of all windows lie along an axis of the padded image, ``[out, size]``."""
    size, stride, pad, dilate = (v[axis] for v in (window.size, window.stride, window.pad, window.dilate))
    span = length + (2 * pad - window.extent[axis])
    starts = w.range(span / stride + 1) * stride
    return w.unsqueeze(starts, [1]) + w.constant(np.arange(size) * dilate)


def unfolded(w: GraphWriter, x: OnnxValue, window: Window, fill: OnnxValue | None = None) -> OnnxValue:
    """All windows of ``x (..., h, w)`` of four dimensions: ``(n, c, oh, window_h, ow, window_w)``."""
    rows, columns = (_positions(w, w.size(x, 2 + k), window, k) for k in (0, 1))
    if any(window.pad):
        ends = [0, 0, *window.pad]
        x = w.pad(x, w.integers(*ends, *ends), fill)
    return w.op("Gather", w.op("Gather", x, rows, axis=2), columns, axis=4)


@exports("Images2Neibs")
def _images_to_windows(call: NodeCall) -> None:
    w, x = call.writer, call.stored(0)
    fill = w.scalar(call.dtype(0).zero_point, x.kind)
    found = unfolded(w, x, window_of(call.params), fill)
    call.give(w.transpose(found, [0, 1, 2, 4, 3, 5]))


@exports("SlidingWindowTranspose")
def _windows_to_images(call: NodeCall) -> None:
    """Adds windows up by a transposed convolution whose filters have a single one each."""
    w, p, dtype = call.writer, call.params, call.dtype(0)
    if not dtype.is_float and dtype.itemsize > 2:
        raise NotExported("sums of such integers are not exact in float32")
    window = window_of(p)
    x = call.numbers_as_float32(0)
    taps = int(np.prod(window.size))
    out = window.output(call.node, (p.out_h, p.out_w))
    planes = w.reshape(w.transpose(x, [0, 1, 4, 5, 2, 3]), -1, taps, *out)
    filters = w.constant(np.eye(taps, dtype=np.float32).reshape(taps, 1, *window.size))
    least = window.transposed_output(call.node, out)
    more = [p.out_h - least[0], p.out_w - least[1]]
    found = w.op("ConvTranspose", planes, filters, output_padding=more, **window_attributes(window))
    lead = w.slice(w.shape(x), 0, 0, 2)
    image = w.reshape(found, lead, p.out_h, p.out_w)
    if dtype.is_float:
        call.give_real(image)
    else:
        call.give(w.as_kind(w.as_kind(image, _E.INT32), call.stored(0).kind))


@exports("Local", "GroupLocal", "LocalShareForward")
def _local(call: NodeCall) -> None:
    """A filter for each element, or each tile, of the output plane: products of the windows with these."""
    w, p = call.writer, call.params
    array = call.constant(1, "the filters").astype(np.float32)
    filters = array if array.ndim == 7 else array[None]  # g oh ow icpg fh fw ocpg
    window = window_2d(p, filters.shape[4:6])
    if call.node.op == "LocalShareForward":
        space = [call.dim(0, k, "the size of the image") for k in (2, 3)]
        for axis, size in zip((1, 2), window.output(call.node, space), strict=True):
            filters = filters.repeat(size // filters.shape[axis], axis)
    elif p.mode == ConvolutionMode.CONVOLUTION:
        filters = mirrored(filters.transpose(0, 1, 2, 3, 6, 4, 5), 2).transpose(0, 1, 2, 3, 5, 6, 4)
    groups, oh, ow, icpg, fh, fw, ocpg = filters.shape
    parts = unfolded(w, call.real(0), window)  # n c oh fh ow fw
    split = w.reshape(parts, 0, groups, icpg, oh, fh, ow, fw)
    columns = w.reshape(w.transpose(split, [1, 3, 5, 0, 2, 4, 6]), groups, oh, ow, -1, icpg * fh * fw)
    rows = w.constant(np.ascontiguousarray(filters.reshape(groups, oh, ow, -1, ocpg)))
    sums = w.transpose(w.op("MatMul", columns, rows), [3, 0, 4, 1, 2])
    call.give_real(w.reshape(sums, 0, groups * ocpg, oh, ow))


@exports("RegionRestrictedConvolution")
def _restricted(call: NodeCall) -> None:
    """A tap counts where input and output are of the same region."""
    w = call.writer
    shape = conv_shape(call.node, call.known(0).shape, call.known(1).shape)
    filters = shape.filter_groups(call.constant(1, "the filter"), call.params.mode).astype(np.float32)
    weights = filters.reshape(1, shape.groups, 1, shape.window.size[0], 1, shape.window.size[1])
    rin, rout = w.as_kind(call.stored(2), _E.INT32), w.as_kind(call.stored(3), _E.INT32)
    inside = unfolded(w, w.unsqueeze(rin, [1]), shape.window)
    same = w.op("Equal", inside, w.unsqueeze(rout, [1, 3, 5]), kind=_E.BOOL)
    taps = unfolded(w, call.real(0), shape.window) * w.constant(weights) * w.as_kind(same, _E.FLOAT)
    call.give_real(w.reduce("ReduceSum", taps, [3, 5], keep=False))


@exports("MaskPropagate")
def _mask(call: NodeCall) -> None:
    w, p = call.writer, call.params
    window = window_2d(p, (p.kernel_h, p.kernel_w))
    marked = w.unsqueeze(w.as_kind(w.as_kind(call.stored(0), _E.BOOL), _E.FLOAT), [0, 1])
    found = w.reduce("ReduceMax", unfolded(w, marked, window), [3, 5], keep=False)
    call.give(w.as_kind(w.squeeze(found, [0, 1]), call.stored(0).kind))


@exports("CorrelationForward")
def _correlation(call: NodeCall) -> None:
    """For each displacement the mean of products over channels, then over the window."""
    w, p = call.writer, call.params
    reach, size, most = p.max_displacement // p.stride2, p.kernel_size, p.max_displacement
    if (2 * reach + 1) ** 2 > _MOST_DISPLACEMENTS:
        raise NotExported(f"{(2 * reach + 1) ** 2} displacements take too many nodes")
    pads = w.integers(0, 0, p.pad_size, p.pad_size, 0, 0, p.pad_size, p.pad_size)
    a, b = (w.pad(call.real(k), pads) for k in (0, 1))

    def moved(image: OnnxValue, dy: int, dx: int) -> OnnxValue:
        ends = [dy - most, dx - most]
        return w.op(
            "Slice",
            image,
            w.integers(most + dy, most + dx),
            w.integers(*(e if e < 0 else END for e in ends)),
            w.integers(2, 3),
        )

    fixed = moved(a, 0, 0)
    steps = [k * p.stride2 for k in range(-reach, reach + 1)]
    means = []
    for dy in steps:
        for dx in steps:
            other = moved(b, dy, dx)
            values = fixed * other if p.is_multiply else w.op("Abs", fixed - other)
            means.append(w.reduce("ReduceMean", values, [1]))
    joined = w.joined(means, 1)
    found = w.op("AveragePool", joined, kernel_shape=[size, size], strides=[p.stride1, p.stride1])
    call.give_real(found)


@exports("DeformableConvForward")
def _deformable(call: NodeCall) -> None:
    """Samples at the moved taps, weighted by the mask, then a product with the filter."""
    w = call.writer
    shape = conv_shape(call.node, call.known(0).shape, call.known(1).shape)
    filters = shape.filter_groups(call.constant(1, "the filter"), call.params.mode)
    taps = int(np.prod(shape.window.size))
    mask_channels = call.dim(3, 1, "the number of channels of the mask")
    groups = mask_channels // taps
    x, offset, mask = call.real(0, Format.NCHW), call.real(2), call.real(3)
    plane = w.slice(w.shape(mask), 0, 2, 4)
    parts = w.reshape(x, -1, shape.input_channels // groups, w.slice(w.shape(x), 0, 2, 4))
    move = w.reshape(offset, -1, taps, 2, plane)  # n dg, taps, (y, x), oh, ow
    places = []
    for k in (0, 1):
        inside = np.indices(shape.window.size)[k].reshape(-1, 1, 1) * shape.window.dilate[k] - shape.window.pad[k]
        along = w.range(w.slice(plane, 0, k, k + 1), _E.FLOAT) * float(shape.window.stride[k])
        along = w.unsqueeze(along, [0, 2] if k == 0 else [0, 1])
        at = along + w.constant(inside.astype(np.float32))  # taps, oh, 1 or taps, 1, ow
        moved = w.squeeze(w.slice(move, 2, k, k + 1), [2]) + at
        places.append(w.reshape(moved, 0, -1, w.slice(plane, 0, 1, 2)))
    y_at, x_at = places
    found = sample(w, parts, x_at, y_at, BorderMode.CONSTANT, 0.0)  # n dg, c / dg, taps oh, ow
    weighted = w.reshape(found, 0, 0, taps, plane) * w.reshape(mask, -1, 1, taps, plane)
    columns = w.reshape(weighted, w.size(x, 0), shape.groups, shape.terms, -1)
    rows = w.constant(np.ascontiguousarray(filters.reshape(shape.groups, shape.ocpg, shape.terms)))
    sums = w.op("MatMul", rows, columns)
    call.give_real(w.reshape(sums, w.size(x, 0), shape.output_channels, plane))
