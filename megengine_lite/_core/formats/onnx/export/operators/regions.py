"""Regions of interest: pooling, and suppression of those that overlap."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.formats.onnx.export.graph_writer import OnnxValue
from megengine_lite._core.formats.onnx.export.operators.sampling import sample
from megengine_lite._core.formats.onnx.export.rounding import round_half_away
from megengine_lite._core.formats.onnx.export.table import NodeCall, NotExported, exports
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.ir.params import BorderMode, ROIAlignMode, ROIPoolingMode
from megengine_lite._core.operators.image_helpers import image_format

_E = ElementType


@exports("ROIAlign")
def _roi_align(call: NodeCall) -> None:
    """By GridSample: RoiAlign of ONNX repeats the edge outside of an image, where ours has zeros.

    All images are put below one another, each in a frame of zeros, and sampled as one, so that no image is copied for
    each of its regions.
    """
    w, p, layout = call.writer, call.params, image_format(call.node)
    data, rois = call.real(0, layout), call.real(1)
    height, width = w.size(data, 2), w.size(data, 3)
    framed = w.transpose(w.pad(data, w.integers(0, 0, 1, 1, 0, 0, 1, 1)), [1, 0, 2, 3])
    stacked = w.unsqueeze(w.reshape(framed, 0, -1, width + w.integers(2)), [0])

    columns = [w.slice(rois, 1, k, k + 1) for k in range(5)]
    corners = [c * float(np.float32(p.spatial_scale)) - float(np.float32(p.offset)) for c in columns[1:]]
    x = _positions(call, corners[0], corners[2], p.pooled_width, p.sample_width)
    y = _positions(call, corners[1], corners[3], p.pooled_height, p.sample_height)
    # One pixel outside of an image all is zero, as it is in the frame.
    x, y = (_limited(call, v, n) + 1.0 for v, n in ((x, width), (y, height)))
    rows = w.as_kind(height + w.integers(2), _E.FLOAT)
    y = y + w.op("Floor", columns[0]) * rows

    region = w.size(rois, 0)
    shape = w.joined([region, w.integers(p.pooled_height * p.sample_height, p.pooled_width * p.sample_width)])
    x, y = (w.op("Expand", w.unsqueeze(v, [axis]), shape) for v, axis in ((x, 1), (y, 2)))
    flat = w.integers(1, -1, p.pooled_width * p.sample_width)
    x, y = (w.op("Reshape", v, flat) for v in (x, y))
    found = w.squeeze(sample(w, stacked, x, y, BorderMode.CONSTANT, 0.0), [0])  # [c, regions ph sh, pw sw]
    bins = w.reshape(found, 0, -1, p.pooled_height, p.sample_height, p.pooled_width, p.sample_width)
    samples = w.reshape(w.transpose(bins, [1, 0, 2, 4, 3, 5]), 0, 0, 0, 0, p.sample_height * p.sample_width)
    is_max = p.mode == ROIAlignMode.MAX
    result = w.reduce("ReduceMax" if is_max else "ReduceMean", samples, [4], keep=False)
    call.give_real(result, 0, layout)
    if call.wanted[1]:
        place = w.op("ArgMax", samples, kind=_E.INT64, axis=4, keepdims=0)
        index = w.as_kind(place, _E.INT32)
        call.give(index if is_max else index * 0, 1, layout)


def _positions(call: NodeCall, start: OnnxValue, end: OnnxValue, bins: int, samples: int) -> OnnxValue:
    """Where the samples of all bins of a region lie along an axis, ``[regions, bins samples]``."""
    w = call.writer
    size = w.op("Max", end - start, w.scalar(0.0, _E.FLOAT)) / float(bins)
    first = np.repeat(np.arange(bins, dtype=np.float32), samples)
    inside = np.tile(np.arange(samples, dtype=np.float32) + np.float32(0.5), bins)
    return (start + w.constant(first) * size) + w.constant(inside) * (size / float(samples))


def _limited(call: NodeCall, position: OnnxValue, length: OnnxValue) -> OnnxValue:
    w = call.writer
    return w.op("Min", w.op("Max", position, w.scalar(-1.0, _E.FLOAT)), w.as_kind(length, _E.FLOAT))


@exports("ROIPooling")
def _roi_pooling(call: NodeCall) -> None:
    if call.wanted[1]:
        raise NotExported("the places of the largest pixels have no counterpart")
    sizes = call.numbers(2, "the number of bins")
    shape = sizes * 2 if len(sizes) == 1 else sizes
    scale = float(np.float32(call.params.scale))
    if call.params.mode != ROIPoolingMode.MAX:
        call.give_real(_means(call, shape, scale))
        return
    call.give_real(call.writer.op("MaxRoiPool", call.real(0), call.real(1), pooled_shape=shape, spatial_scale=scale))


def _means(call: NodeCall, bins: list[int], scale: float) -> OnnxValue:
    """Means of the pixels of each bin, as products with matrices that say which pixels belong to it."""
    w, rois = call.writer, call.real(1)
    corners = [round_half_away(w, w.slice(rois, 1, k, k + 1) * scale) for k in range(1, 5)]
    image = w.op("Gather", call.real(0), w.as_kind(w.squeeze(w.slice(rois, 1, 0, 1), [1]), _E.INT64), axis=0)
    rows = _members(call, image, 2, corners[1], corners[3], bins[0])  # regions, bins, h
    columns = _members(call, image, 3, corners[0], corners[2], bins[1])
    sums = w.op(
        "MatMul", w.op("MatMul", w.unsqueeze(rows, [1]), image), w.unsqueeze(w.transpose(columns, [0, 2, 1]), [1])
    )
    counts = [w.reduce("ReduceSum", m, [2]) for m in (rows, columns)]
    area = w.op("MatMul", counts[0], w.transpose(counts[1], [0, 2, 1]))
    return sums / w.unsqueeze(w.op("Max", area, w.scalar(1.0, _E.FLOAT)), [1])


def _members(call: NodeCall, image: OnnxValue, axis: int, start: OnnxValue, end: OnnxValue, bins: int) -> OnnxValue:
    """Which pixels belong to each bin along an axis, as ones and zeros."""
    w = call.writer
    size = w.op("Max", end - start + 1.0, w.scalar(1.0, _E.FLOAT)) / float(bins)
    steps = np.arange(bins, dtype=np.float32)
    first = w.op("Floor", w.constant(steps) * size) + start
    last = w.op("Ceil", w.constant(steps + 1) * size) + start
    pixel = w.unsqueeze(w.range(w.size(image, axis), _E.FLOAT), [0, 1])
    inside = w.op("And", pixel >= w.unsqueeze(first, [2]), pixel < w.unsqueeze(last, [2]))
    return w.as_kind(inside, _E.FLOAT)


@exports("NMSKeepMGB")
def _suppression(call: NodeCall) -> None:
    """Boxes come sorted, so that scores are falling numbers. Places behind the kept ones repeat the last one."""
    w, limit = call.writer, call.params.max_output
    boxes = call.real(0)
    batch, n = w.size(boxes, 0), w.size(boxes, 1)
    if not limit:
        call.give(w.filled(w.joined([batch, w.integers(0)]), np.int32(0)))
        call.give(w.filled(batch, np.int32(0)), 1)
        return
    falling = -w.unsqueeze(w.range(n, _E.FLOAT), [0, 1])
    scores = w.op("Expand", falling, w.joined([batch, w.integers(1), n]))
    threshold = w.constant(np.array([call.params.iou_thresh], np.float32))
    kept = w.op("NonMaxSuppression", boxes, scores, w.integers(limit), threshold, kind=_E.INT64)
    sample, box = w.slice(kept, 1, 0, 1), w.slice(kept, 1, 2, 3)  # [kept, 1] each
    mine = w.as_kind(w.op("Equal", sample, w.unsqueeze(w.range(batch), [0]), kind=_E.BOOL), _E.INT64)  # [kept, batch]
    count = w.reduce("ReduceSum", mine, [0])  # [1, batch]
    before = w.op("CumSum", count, w.scalar(1, _E.INT64), exclusive=1)
    place = w.unsqueeze(w.range(w.size(kept, 0)), [1]) - w.op("Gather", w.squeeze(before, [0]), sample, axis=0)
    empty = w.filled(w.joined([batch, w.integers(limit)]), np.int64(0))
    table = w.op("ScatterND", empty, w.joined([sample, place], 1), w.squeeze(box, [1]))
    count = w.squeeze(count, [0])
    last = w.unsqueeze(w.op("Max", count - 1, w.scalar(0, _E.INT64)), [1])
    column = w.unsqueeze(w.constant(np.arange(limit)), [0])
    call.give_index(w.op("GatherElements", table, w.op("Min", column, last), axis=1))
    call.give_index(count, 1)
