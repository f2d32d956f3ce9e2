"""Resizing of images and volumes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import DType, DTypeCode
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.image_layouts import Format, from_nchw, layout_shape, to_nchw
from megengine_lite._core.ir.params import InterpolationMode
from megengine_lite._core.operators.base import Operator, fail, register
from megengine_lite._core.operators.checks import check_count
from megengine_lite._core.operators.facts import IMAGE, InFiles, InOriginal
from megengine_lite._core.operators.image_helpers import (
    float_to_stored,
    image_format,
    image_shape,
    output_size,
    stored_to_float,
)
from megengine_lite._core.operators.samples import with_format
from megengine_lite._core.operators.sampling import cubic_weights, floor_and_fraction, lanczos4_weights

Taps = tuple[np.ndarray, np.ndarray]
"""For each output position along one axis: the input positions ``(out, taps)`` and their weights."""

_NO_IMAGE = (DTypeCode.BOOL, DTypeCode.BYTE, DTypeCode.COMPLEX64)


def _half_pixel(length: int, out: int) -> tuple[np.ndarray, np.ndarray]:
    scale = np.float32(out) / np.float32(length)
    return floor_and_fraction((np.arange(out, dtype=np.float32) + np.float32(0.5)) / scale - np.float32(0.5))


def nearest_taps(length: int, out: int) -> Taps:
    """The pixel at the left end of what an output pixel covers."""
    scale = np.float32(out) / np.float32(length)
    index = np.floor(np.arange(out, dtype=np.float32) / scale).astype(np.int64)
    return np.minimum(index, length - 1)[:, None], np.ones((out, 1), np.float32)


def linear_taps(length: int, out: int) -> Taps:
    """The two pixels around the centre of an output pixel; outside of the image the edge counts."""
    left, fraction = _half_pixel(length, out)
    fraction = np.where((left < 0) | (left + 1 >= length), 0, fraction)
    return _clamped_pair(left, length), np.stack([1 - fraction, fraction], axis=1).astype(np.float32)


def _clamped_pair(left: np.ndarray, length: int) -> np.ndarray:
    result: np.ndarray = np.clip(np.stack([left, left + 1], axis=1), 0, length - 1)
    return result


def cubic_taps(length: int, out: int) -> Taps:
    """Four pixels around the centre."""
    left, fraction = _half_pixel(length, out)
    return np.clip(left[:, None] + np.arange(-1, 3), 0, length - 1), cubic_weights(fraction).astype(np.float32)


def lanczos4_taps(length: int, out: int) -> Taps:
    """Eight pixels around the centre."""
    left, fraction = _half_pixel(length, out)
    return np.clip(left[:, None] + np.arange(-3, 5), 0, length - 1), lanczos4_weights(fraction)


def covered_taps(length: int, out: int) -> Taps:
    """All pixels that an output pixel covers, by how much of them (AREA, smaller output)."""
    edges = np.arange(out + 1) * (length / out)
    first = np.floor(edges[:-1] + 1e-6).astype(np.int64)
    count = int((np.ceil(edges[1:] - 1e-6).astype(np.int64) - first).max())
    index = first[:, None] + np.arange(count)
    shares = np.minimum(index + 1, edges[1:, None]) - np.maximum(index, edges[:-1, None])
    weights = np.maximum(shares, 0) * (out / length)
    return np.minimum(index, length - 1), weights.astype(np.float32)


def area_linear_taps(length: int, out: int) -> Taps:
    """Linear interpolation that keeps flat areas flat (AREA, larger output)."""
    scale, positions = out / length, np.arange(out)
    left = np.floor(positions / scale).astype(np.int64)
    fraction = (positions + 1) - (left + 1) * scale
    fraction = np.where(fraction <= 0, 0, fraction - np.floor(fraction))
    fraction = np.where(left + 1 >= length, 0, fraction)
    return _clamped_pair(left, length), np.stack([1 - fraction, fraction], axis=1).astype(np.float32)


_TAPS = {
    InterpolationMode.NEAREST: nearest_taps,
    InterpolationMode.LINEAR: linear_taps,
    InterpolationMode.CUBIC: cubic_taps,
    InterpolationMode.LANCZOS4: lanczos4_taps,
}


def image_taps(mode: int, space: Sequence[int], out: Sequence[int]) -> list[Taps]:
    """Taps along both axes of an image."""
    if mode != InterpolationMode.AREA:
        return [_TAPS[InterpolationMode(mode)](length, size) for length, size in zip(space, out, strict=True)]
    shrinks = all(size <= length for length, size in zip(space, out, strict=True))
    make = covered_taps if shrinks else area_linear_taps
    return [make(length, size) for length, size in zip(space, out, strict=True)]


def apply_taps(values: np.ndarray, axis: int, taps: Taps) -> np.ndarray:
    """Weighted sums along one axis of a float32 array."""
    index, weights = taps
    shape = [1] * values.ndim
    shape[axis] = len(index)
    result = values.take(index[:, 0], axis) * weights[:, 0].reshape(shape)
    for k in range(1, index.shape[1]):
        result += values.take(index[:, k], axis) * weights[:, k].reshape(shape)
    return result


def has_cv_variant(fmt: Format, channels: int) -> bool:
    """Whether an image is resized with all modes; other NHWC images know NEAREST and LINEAR only."""
    return fmt == Format.NHWC and channels in (1, 3)


def cuts_fractions(
    fmt: Format, channels: int, dtype: DType, mode: int, space: Sequence[int], out: Sequence[int]
) -> bool:
    """Whether results are rounded down: NHWC images of 1 or 3 channels in uint8 that are averaged."""
    if not has_cv_variant(fmt, channels) or dtype.code is not DTypeCode.UINT8:
        return False
    shrinks = all(o <= s for s, o in zip(space, out, strict=True))
    return mode == InterpolationMode.LINEAR or (mode == InterpolationMode.AREA and shrinks)


@register
class Resize(Operator):
    """Resized images, half-pixel centres; inputs data and size (height, width).

    NHWC images of other than 1 or 3 channels are resized linearly in all modes but NEAREST, as MegEngine does it.
    Results in uint8 are rounded, except those that MegEngine cuts off: see :func:`cuts_fractions`.
    """

    name = "Resize"
    param = params.Resize
    value_inputs = (1,)
    in_files = InFiles(revision=2)
    in_original = InOriginal(type="ResizeForward", mentioned_inputs=1, reads_when_run=True)
    runs_in_float32 = True
    sample_inputs = (IMAGE, [1])
    keeps_samples = with_format

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        fmt = image_format(node)
        if ins[0].dtype.code in _NO_IMAGE:
            raise fail(node, f"cannot resize {ins[0].dtype}")
        n, c, h, w = image_shape(node, fmt, ins[0])
        mode = node.params.imode
        allowed = [InterpolationMode.NEAREST, InterpolationMode.LINEAR, InterpolationMode.CUBIC]
        if fmt == Format.NHWC:
            allowed = list(InterpolationMode)
        if mode not in allowed:
            raise fail(node, f"interpolation {mode!s} is not defined for format {fmt.name}")
        out = output_size(node, ins[1].value, 2, least=min(h, w, 1))
        if min(h, w) < 1 and 0 not in (n, c, *out):
            raise fail(node, f"the image is empty: {ins[0].shape}")
        return [TensorSpec(layout_shape(fmt, n, c, *out), ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        fmt, mode = image_format(node), node.params.imode
        x = to_nchw(fmt, ins[0])
        if 0 in out_specs[0].shape:
            return [np.empty(out_specs[0].shape, ins[0].dtype)]
        if fmt == Format.NHWC and not has_cv_variant(fmt, x.shape[1]) and mode != InterpolationMode.NEAREST:
            mode = InterpolationMode.LINEAR
        out = output_size(node, ins[1], 2)
        rows, columns = image_taps(mode, x.shape[2:], out)
        if mode == InterpolationMode.NEAREST:
            return [from_nchw(fmt, x[:, :, rows[0], columns[0][:, 0]])]
        values = apply_taps(apply_taps(stored_to_float(x, in_specs[0].dtype), 3, columns), 2, rows)
        if cuts_fractions(fmt, x.shape[1], in_specs[0].dtype, mode, x.shape[2:], out):
            values = np.floor(values)
        return [from_nchw(fmt, float_to_stored(values, in_specs[0].dtype))]


@register
class Resize3D(Operator):
    """Resized volumes, trilinear; inputs data (NCDHW) and size (depth, height, width)."""

    name = "Resize3D"
    param = params.Resize3D
    value_inputs = (1,)
    in_original = InOriginal(type="Resize3DForward", mentioned_inputs=1, reads_when_run=True)
    element_types = "floats"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        p = node.params
        if p.format != params.Convolution3DFormat.NCDHW or p.imode != InterpolationMode.LINEAR:
            raise fail(node, f"is defined for linear interpolation in NCDHW, not for {p.imode!s} in {p.format!s}")
        if len(ins[0].shape) != 5 or not ins[0].dtype.is_float or min(ins[0].shape[2:]) < 1:
            raise fail(node, f"needs float data of 5 dimensions, has {ins[0].dtype} {ins[0].shape}")
        return [TensorSpec((*ins[0].shape[:2], *output_size(node, ins[1].value, 3)), ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        values = stored_to_float(ins[0], in_specs[0].dtype)
        for axis, out in zip((4, 3, 2), reversed(output_size(node, ins[1], 3)), strict=True):
            values = apply_taps(values, axis, self._taps(values.shape[axis], out, node.params.align_corners))
        return [float_to_stored(values, in_specs[0].dtype)]

    @staticmethod
    def _taps(length: int, out: int, align_corners: bool) -> Taps:
        positions = np.arange(out, dtype=np.float32)
        if align_corners:
            scale = np.float32(length - 1) / np.float32(max(out - 1, 1))
            centres = positions * scale if out > 1 else np.zeros(1, np.float32)
        else:
            scale = np.float32(length) / np.float32(out)
            centres = np.maximum((positions + np.float32(0.5)) * scale - np.float32(0.5), 0)
        left, fraction = floor_and_fraction(centres)
        return _clamped_pair(left, length), np.stack([1 - fraction, fraction], axis=1).astype(np.float32)
