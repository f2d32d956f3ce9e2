"""Convolution and pooling at learned positions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.graph import AnyNode, Node, TensorSpec
from megengine_lite._core.ir.params import BorderMode, ConvolutionFormat
from megengine_lite._core.ir.quantize import round_half_away
from megengine_lite._core.operators.base import Operator, fail, register
from megengine_lite._core.operators.checks import check_count
from megengine_lite._core.operators.conv_shape import ConvShape, conv_shape, count_pixels
from megengine_lite._core.operators.facts import IMAGE, InFiles, InOriginal
from megengine_lite._core.operators.region import MAX_SAMPLES, image_of_region
from megengine_lite._core.operators.sampling import bilinear


@register
class DeformableConvForward(Operator):
    """Convolution whose taps are moved by ``offset`` and weighted by ``mask``.

    Inputs data, filter, offset ``(n, 2 dg fh fw, oh, ow)`` with (y, x) pairs, mask ``(n, dg fh fw, oh, ow)``; ``dg``
    groups of channels have offsets of their own.
    """

    name = "DeformableConvForward"
    param = params.Convolution
    in_files = InFiles(revision=1, record_version=2, has_policy=True)
    in_original = InOriginal(label="deformable_conv", chooses_algorithm=True)
    element_types = "float32"

    def multiply_adds(self, node: Node) -> int:
        return count_pixels(node.outputs[0].shape) * node.inputs[1].spec.size

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 4)
        if node.params.format != ConvolutionFormat.NCHW or any(s.dtype.code is not FLOAT32.code for s in ins):
            raise fail(node, "is defined for float32 in NCHW only")
        shape = conv_shape(node, ins[0].shape, ins[1].shape)
        taps = shape.window.size[0] * shape.window.size[1]
        groups = ins[3].shape[1] // taps if len(ins[3].shape) == 4 else 0
        mask, offset = (shape.n, groups * taps, *shape.out), (shape.n, 2 * groups * taps, *shape.out)
        if groups < 1 or ins[3].shape != mask or ins[2].shape != offset:
            raise fail(node, f"offset {ins[2].shape} and mask {ins[3].shape} do not fit {taps} taps at {shape.out}")
        if shape.input_channels % groups:
            raise fail(node, f"{shape.input_channels} channels cannot be cut in {groups} deformable groups")
        return [TensorSpec(shape.output_shape, FLOAT32)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        shape = conv_shape(node, ins[0].shape, ins[1].shape)
        w = shape.filter_groups(ins[1], node.params.mode).reshape(shape.groups, shape.ocpg, -1)
        result = np.empty(shape.output_shape, np.float32)
        for sample in range(shape.n):
            columns = self._columns(shape, *(a[sample] for a in (ins[0], ins[2], ins[3])))
            result[sample] = (w @ columns).reshape(-1, *shape.out)
        return [result]

    @staticmethod
    def _columns(shape: ConvShape, x: np.ndarray, offset: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The moved patches of one image as ``(groups, icpg fh fw, oh ow)``."""
        (fh, fw), (oh, ow) = shape.window.size, shape.out
        (ph, pw), (sh, sw), (dh, dw) = shape.window.pad, shape.window.stride, shape.window.dilate
        rows = (np.arange(oh) * sh - ph)[:, None] + (np.arange(fh) * dh)[:, None, None, None]
        columns = np.arange(ow) * sw - pw + (np.arange(fw) * dw)[None, :, None, None]
        mask = mask.reshape(-1, fh, fw, oh, ow)
        offset = offset.reshape(-1, fh, fw, 2, oh, ow)
        patches = []
        for part, move, weight in zip(np.split(x, len(mask)), offset, mask, strict=True):
            y_at = rows.astype(np.float32) + move[:, :, 0]
            x_at = columns.astype(np.float32) + move[:, :, 1]
            inside = (y_at > -1) & (y_at < x.shape[1]) & (x_at > -1) & (x_at < x.shape[2])
            y_at, x_at = np.where(inside, y_at, 0), np.where(inside, x_at, 0)
            values = bilinear(part, y_at, x_at, BorderMode.CONSTANT) * np.where(inside, weight, 0)
            patches.append(np.where(inside, values, 0))
        return np.concatenate(patches).reshape(shape.groups, -1, oh * ow)


@register
class DeformablePSROIPoolingForward(Operator):
    """Pooling of regions whose bins are moved by ``trans``.

    Inputs data, regions ``(m, 5)`` as (image, x0, y0, x1, y1), trans ``(k, 2, pooled_h, pooled_w)``, whose memory
    begins with the ``(m, 2, part_size, part_size)`` that are read; outputs the result and the number of samples of
    each bin.
    """

    name = "DeformablePSROIPoolingForward"
    param = params.DeformablePSROIPooling
    in_original = InOriginal(label="deformable_ps_roi_pooling")
    n_outputs = 2
    sample_inputs = (IMAGE, (3, 5), IMAGE)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        p = node.params
        check_count(node, ins, 3)
        data, rois, trans = (s.shape for s in ins)
        if len(data) != 4 or len(rois) != 2 or rois[1] != 5 or any(s.dtype.code is not FLOAT32.code for s in ins):
            raise fail(node, f"needs float32 data in NCHW and regions of 5 numbers, has {data} and {rois}")
        if min(p.pooled_h, p.pooled_w, p.part_size, p.sample_per_part) < 1:
            raise fail(node, "pooled_h, pooled_w, part_size and sample_per_part must be positive")
        if p.sample_per_part > MAX_SAMPLES:
            raise fail(node, f"sample_per_part is {p.sample_per_part}, at most {MAX_SAMPLES} is supported")
        if not p.no_trans:
            needed = (2, p.pooled_h, p.pooled_w)
            if len(trans) != 4 or trans[1:] != needed or math.prod(trans) < rois[0] * 2 * p.part_size**2:
                raise fail(
                    node,
                    f"trans must have shape (k, {', '.join(map(str, needed))}) and at least 2 * {p.part_size}^2 "
                    f"numbers for each of {rois[0]} regions, is {trans}",
                )
        out = TensorSpec((rois[0], data[1], p.pooled_h, p.pooled_w), FLOAT32)
        return [out, out]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        data, rois, trans = ins
        result = np.zeros(out_specs[0].shape, np.float32)
        count = np.zeros(out_specs[0].shape, np.float32)
        p = node.params
        parts = 1 if p.no_trans else p.part_size
        moves = np.zeros((len(rois), 2, parts, parts), np.float32)
        if not p.no_trans:
            moves = trans.ravel()[: moves.size].reshape(moves.shape) * np.float32(p.trans_std)
        for m, roi in enumerate(rois):
            image = data[image_of_region(node, roi, len(data))]
            self._pool(p, image, roi, moves[m], result[m], count[m])
        return [result, count]

    @staticmethod
    def _pool(
        p: params.DeformablePSROIPooling,
        image: np.ndarray,
        roi: np.ndarray,
        moves: np.ndarray,
        result: np.ndarray,
        count: np.ndarray,
    ) -> None:
        """Fills the bins of one region."""
        height, width = image.shape[1:]
        scale = np.float32(p.spatial_scale)
        x0, y0, x1, y1 = round_half_away(roi[1:])
        left, top = x0 * scale - np.float32(0.5), y0 * scale - np.float32(0.5)
        one = np.float32(1)  # numpy before 2 makes double of a float32 and an int
        size_w = max((x1 + one) * scale - np.float32(0.5) - left, np.float32(0.1))
        size_h = max((y1 + one) * scale - np.float32(0.5) - top, np.float32(0.1))
        bin_w, bin_h = size_w / np.float32(p.pooled_w), size_h / np.float32(p.pooled_h)
        samples = np.arange(p.sample_per_part, dtype=np.float32)
        for i, j in np.ndindex(p.pooled_h, p.pooled_w):
            move_x, move_y = moves[:, i * moves.shape[1] // p.pooled_h, j * moves.shape[2] // p.pooled_w]
            y = top + np.float32(i) * bin_h + move_y * size_h + samples * (bin_h / np.float32(p.sample_per_part))
            x = left + np.float32(j) * bin_w + move_x * size_w + samples * (bin_w / np.float32(p.sample_per_part))
            y = np.clip(y[(y >= -0.5) & (y <= height - 0.5)], 0, height - 1)
            x = np.clip(x[(x >= -0.5) & (x <= width - 0.5)], 0, width - 1)
            count[:, i, j] = len(y) * len(x)
            if len(y) and len(x):
                result[:, i, j] = bilinear(image, y[:, None], x, BorderMode.REPLICATE).mean(axis=(1, 2))
