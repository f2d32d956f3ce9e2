"""Gathering of pixels by a map, mirroring and turning of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import DTypeCode
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.image_layouts import from_nchw, layout_shape, to_nchw
from megengine_lite._core.ir.params import BorderMode, InterpolationMode
from megengine_lite._core.operators.base import Operator, fail, register
from megengine_lite._core.operators.checks import check_count
from megengine_lite._core.operators.facts import IMAGE, InFiles, InOriginal
from megengine_lite._core.operators.image_helpers import (
    float_to_stored,
    image_format,
    image_shape,
    outside_value,
    stored_to_float,
)
from megengine_lite._core.operators.sampling import bilinear, gather, to_pixels

_BORDERS = (BorderMode.REPLICATE, BorderMode.REFLECT, BorderMode.REFLECT_101, BorderMode.WRAP, BorderMode.CONSTANT)


@register
class Remap(Operator):
    """Images sampled at the positions of a map; inputs data and map ``(n, oh, ow, 2)`` of (x, y)."""

    name = "Remap"
    param = params.Remap
    in_files = InFiles(revision=1)
    in_original = InOriginal(type="RemapForward", mentioned_inputs=1)
    runs_in_float32 = True
    element_types = "floats, integers, quantized"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        p, fmt = node.params, image_format(node)
        n, c, h, w = image_shape(node, fmt, ins[0])
        where = ins[1].shape
        if ins[1].dtype.code is not DTypeCode.FLOAT32 or len(where) != 4 or where[0] != n or where[3] != 2:
            raise fail(node, f"the map must be float32 ({n}, height, width, 2), is {ins[1].dtype} {where}")
        if p.imode not in (InterpolationMode.NEAREST, InterpolationMode.LINEAR) or p.border_type not in _BORDERS:
            raise fail(node, f"interpolation {p.imode!s} with border {p.border_type!s} is not supported")
        if ins[0].dtype.code in (DTypeCode.BOOL, DTypeCode.BYTE, DTypeCode.COMPLEX64) or min(h, w) < 1:
            raise fail(node, f"cannot sample an image of {ins[0].dtype} {ins[0].shape}")
        return [TensorSpec(layout_shape(fmt, n, c, *where[1:3]), ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p, fmt = node.params, image_format(node)
        images = stored_to_float(to_nchw(fmt, ins[0]), in_specs[0].dtype)
        outside = outside_value(p.scalar, in_specs[0].dtype)
        result = np.empty((*images.shape[:2], *ins[1].shape[1:3]), np.float32)
        for image, where, out in zip(images, ins[1], result, strict=True):
            x, y = where[..., 0], where[..., 1]
            if p.imode == InterpolationMode.LINEAR:
                out[:] = bilinear(image, y, x, p.border_type, outside)
            else:
                out[:] = gather(image, to_pixels(np.rint(y)), to_pixels(np.rint(x)), p.border_type, outside)
        return [from_nchw(fmt, float_to_stored(result, in_specs[0].dtype))]


def _nhwc(node: AnyNode, ins: Sequence[TensorSpec]) -> tuple[int, int, int, int]:
    check_count(node, ins, 1)
    if len(ins[0].shape) != 4:
        raise fail(node, f"needs an NHWC image, has shape {ins[0].shape}")
    n, h, w, c = ins[0].shape
    return n, h, w, c


@register
class Flip(Operator):
    """NHWC images mirrored top to bottom (``vertical``) and left to right (``horizontal``)."""

    name = "Flip"
    param = params.Flip
    in_files = InFiles(released=False)
    sample_inputs = (IMAGE,)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        _nhwc(node, ins)
        return [ins[0]]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        axes = tuple(axis for axis, mirrored in ((1, node.params.vertical), (2, node.params.horizontal)) if mirrored)
        return [np.ascontiguousarray(np.flip(ins[0], axes))]


@register
class Rotate(Operator):
    """NHWC images turned by 90 degrees."""

    name = "Rotate"
    param = params.Rotate
    sample_inputs = (IMAGE,)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        n, h, w, c = _nhwc(node, ins)
        return [TensorSpec((n, w, h, c), ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        return [np.ascontiguousarray(np.rot90(ins[0], -1 if node.params.clockwise else 1, axes=(1, 2)))]
