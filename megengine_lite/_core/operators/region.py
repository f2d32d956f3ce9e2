"""Regions of interest: pooling, and suppression of those that overlap."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32, INT32
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.image_layouts import from_nchw, layout_shape, to_nchw
from megengine_lite._core.ir.params import BorderMode, ROIAlignMode, ROIPoolingMode
from megengine_lite._core.ir.quantize import from_float32, round_half_away, to_float32
from megengine_lite._core.operators.base import Operator, fail, register
from megengine_lite._core.operators.checks import check_count, check_ndim
from megengine_lite._core.operators.facts import IMAGE, InFiles, InOriginal
from megengine_lite._core.operators.image_helpers import image_format, image_shape, output_size
from megengine_lite._core.operators.sampling import bilinear

MAX_SAMPLES = 1 << 10
"""Samples of a bin in one direction; far beyond any use, but a file could ask for billions."""


def check_regions(node: AnyNode, data: TensorSpec, rois: TensorSpec) -> int:
    """Number of regions ``(m, 5)`` = (image, x0, y0, x1, y1); raises if they are not of this shape."""
    if len(rois.shape) != 2 or rois.shape[1] != 5 or not rois.dtype.is_float or not data.dtype.is_float:
        raise fail(node, f"needs floats and regions of 5 numbers, has {data.dtype} and {rois.dtype} {rois.shape}")
    return rois.shape[0]


def image_of_region(node: AnyNode, roi: np.ndarray, images: int) -> int:
    """The index of the image that a region belongs to."""
    if not 0 <= roi[0] < images:
        raise fail(node, f"a region belongs to image {roi[0]:g}, there are {images}")
    return int(roi[0])


@register
class ROIAlign(Operator):
    """Maximum or mean of interpolated samples in the bins of each region.

    The second output tells which sample is the maximum of its bin.
    """

    name = "ROIAlign"
    param = params.ROIAlign
    in_files = InFiles(revision=1)
    in_original = InOriginal(type="ROIAlignForward")
    n_outputs = 2
    sample_inputs = (IMAGE, (3, 5))

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        p, fmt = node.params, image_format(node)
        _, c, h, w = image_shape(node, fmt, ins[0])
        m = check_regions(node, ins[0], ins[1])
        if min(p.pooled_height, p.pooled_width, p.sample_height, p.sample_width) < 1:
            raise fail(node, "pooled_height, pooled_width, sample_height and sample_width must be positive")
        if max(p.sample_height, p.sample_width) > MAX_SAMPLES:
            raise fail(node, f"more than {MAX_SAMPLES} samples of a bin in one direction are not supported")
        if p.mode not in list(ROIAlignMode) or min(h, w) < 1:
            raise fail(node, f"unknown mode {p.mode} or empty image {ins[0].shape}")
        shape = layout_shape(fmt, m, c, p.pooled_height, p.pooled_width)
        return [TensorSpec(shape, ins[0].dtype), TensorSpec(shape, INT32)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p, fmt = node.params, image_format(node)
        data, rois = to_float32(to_nchw(fmt, ins[0]), in_specs[0].dtype), to_float32(ins[1], in_specs[1].dtype)
        shape = len(rois), data.shape[1], p.pooled_height, p.pooled_width
        result, index = np.zeros(shape, np.float32), np.zeros(shape, np.int32)
        for m, roi in enumerate(rois):
            samples = self._samples(p, data[image_of_region(node, roi, len(data))], roi)
            if p.mode == ROIAlignMode.MAX:
                index[m] = samples.argmax(axis=-1)
                result[m] = samples.max(axis=-1)
            else:
                result[m] = samples.mean(axis=-1)
        return [from_nchw(fmt, from_float32(result, out_specs[0].dtype)), from_nchw(fmt, index)]

    @staticmethod
    def _samples(p: params.ROIAlign, image: np.ndarray, roi: np.ndarray) -> np.ndarray:
        """The samples of each bin, ``(c, pooled_height, pooled_width, samples)``."""
        x0, y0, x1, y1 = roi[1:] * np.float32(p.spatial_scale) - np.float32(p.offset)

        def positions(start: np.float32, end: np.float32, bins: int, samples: int) -> np.ndarray:
            size = max(end - start, np.float32(0)) / np.float32(bins)
            inside = (np.arange(samples, dtype=np.float32) + np.float32(0.5)) * (size / np.float32(samples))
            return (start + np.arange(bins, dtype=np.float32)[:, None] * size) + inside

        y = positions(y0, y1, p.pooled_height, p.sample_height)[:, None, :, None]
        x = positions(x0, x1, p.pooled_width, p.sample_width)[None, :, None, :]
        samples = bilinear(image, y, x, BorderMode.CONSTANT)
        return samples.reshape(*samples.shape[:3], p.sample_height * p.sample_width)


@register
class ROIPooling(Operator):
    """Maximum or mean of the pixels in the bins of each region; empty bins are 0.

    Inputs data, regions and the number of bins. The second output tells which pixel is the maximum, -1 for none.
    """

    name = "ROIPooling"
    param = params.ROIPooling
    value_inputs = (2,)
    in_original = InOriginal(type="ROIPoolingForward")
    n_outputs = 2
    sample_inputs = (IMAGE, (3, 5), [1])

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 3)
        if len(ins[0].shape) != 4 or node.params.mode not in list(ROIPoolingMode):
            raise fail(node, f"needs NCHW data and a known mode, has {ins[0].shape}, mode {node.params.mode}")
        shape = check_regions(node, ins[0], ins[1]), ins[0].shape[1], *output_size(node, ins[2].value, 2)
        return [TensorSpec(shape, ins[0].dtype), TensorSpec(shape, INT32)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        data, rois = (to_float32(a, s.dtype) for a, s in zip(ins[:2], in_specs, strict=False))
        height, width = data.shape[2:]
        bins = output_size(node, ins[2], 2)
        result = np.zeros((len(rois), data.shape[1], *bins), np.float32)
        index = np.full(result.shape, -1, np.int32)
        for m, roi in enumerate(rois):
            image = data[image_of_region(node, roi, len(data))]
            x0, y0, x1, y1 = round_half_away(roi[1:] * np.float32(node.params.scale))
            rows, columns = self._edges(y0, y1, bins[0], height), self._edges(x0, x1, bins[1], width)
            for (i, (top, bottom)), (j, (left, right)) in product(enumerate(rows), enumerate(columns)):
                part = image[:, top:bottom, left:right]
                if not part.size:
                    continue
                if node.params.mode == ROIPoolingMode.MAX:
                    flat = part.reshape(len(part), -1)
                    best = flat.argmax(axis=1)
                    result[m, :, i, j] = flat.max(axis=1)
                    index[m, :, i, j] = (top + best // (right - left)) * width + left + best % (right - left)
                else:
                    result[m, :, i, j] = part.mean(axis=(1, 2))
        return [from_float32(result, out_specs[0].dtype), index]

    @staticmethod
    def _edges(start: np.float32, end: np.float32, bins: int, length: int) -> list[tuple[int, int]]:
        """First and last pixel of each bin along one axis; bins are empty where an edge is NaN."""
        size = max(end - start + 1, np.float32(1)) / np.float32(bins)
        steps = np.arange(bins, dtype=np.float32)
        first = np.nan_to_num(np.clip(np.floor(steps * size) + start, 0, length))
        last = np.nan_to_num(np.clip(np.ceil((steps + 1) * size) + start, 0, length))
        return list(zip(first.astype(int).tolist(), last.astype(int).tolist(), strict=True))


@register
class NMSKeepMGB(Operator):
    """Non-maximum suppression of boxes that are sorted by falling score.

    Input float32 [batch, n, 4] with x0, y0, x1, y1. Outputs int32 [batch, max_output] with the kept indexes, where
    unused places repeat the last one, and int32 [batch] with their number. MegEngine writes max_output 0 for models
    that were traced without boxes.
    """

    name = "NMSKeepMGB"
    param = params.NMSKeep
    in_original = InOriginal(type="NMSKeep", label="nms_keep")
    n_outputs = 2
    element_types = "float32"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        batch, _, four = check_ndim(node, ins[0], 3, "the boxes")
        if four != 4 or ins[0].dtype != FLOAT32:
            raise fail(node, f"the boxes must be float32 [batch, n, 4], are {ins[0].dtype} {ins[0].shape}")
        return [TensorSpec((batch, node.params.max_output), INT32), TensorSpec((batch,), INT32)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        kept = np.zeros(out_specs[0].shape, np.int32)
        count = np.zeros(out_specs[1].shape, np.int32)
        for sample, boxes in enumerate(ins[0]):
            found = _suppress(boxes, np.float32(node.params.iou_thresh), kept.shape[1])
            count[sample] = len(found)
            if found:
                kept[sample] = found[-1]
                kept[sample, : len(found)] = found
        return [kept, count]


def _suppress(boxes: np.ndarray, threshold: np.float32, limit: int) -> list[int]:
    """Indexes of the boxes that overlap with no box kept before them."""
    x0, y0, x1, y1 = boxes.T
    area = (x1 - x0) * (y1 - y0)
    alive = np.ones(len(boxes), np.bool_)
    kept: list[int] = []
    for i in range(len(boxes)):
        if len(kept) == limit:
            break
        if not alive[i]:
            continue
        kept.append(i)
        rest = slice(i + 1, None)
        width = np.maximum(np.minimum(x1[i], x1[rest]) - np.maximum(x0[i], x0[rest]), 0)
        height = np.maximum(np.minimum(y1[i], y1[rest]) - np.maximum(y0[i], y0[rest]), 0)
        overlap = width * height
        alive[rest] &= ~(overlap > (area[i] + area[rest] - overlap) * threshold)
    return kept
