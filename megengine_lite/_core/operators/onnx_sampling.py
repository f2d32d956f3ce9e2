"""Sampling of images with the rules of ONNX: grids, regions, center crops."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.onnx_image_params import GridSampling, Regions
from megengine_lite._core.ir.quantize import from_float32, to_float32
from megengine_lite._core.operators.base import Operator, fail, register
from megengine_lite._core.operators.checks import (
    check_count,
    check_index_dtype,
    check_ndim,
    check_shape,
    index_error,
    to_integers,
    to_shape,
)
from megengine_lite._core.operators.sampling import border_index, cubic_weights, floor_and_fraction, to_pixels


def _numbers(x: np.ndarray, dtype: DType) -> np.ndarray:
    """Elements of any type as they are computed with."""
    return to_float32(x, dtype) if dtype.is_float else x


@register
class GridSample(Operator):
    """Images ``(n, c, d1 … dr)`` at the points of a grid ``(n, o1 … or, r)``, the last axis first, from -1 to 1."""

    name = "GridSample"
    in_files = None
    element_types = "floats, integers, bool"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        image, grid = ins[0].shape, ins[1].shape
        if len(image) < 3 or len(grid) != len(image) or grid[0] != image[0] or grid[-1] != len(image) - 2:
            raise fail(node, f"a grid of shape {grid} does not fit images of shape {image}")
        if min(image[2:]) < 1:
            raise fail(node, f"an empty image of shape {image} cannot be sampled")
        return [TensorSpec(check_shape(node, (*image[:2], *grid[1:-1])), ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p: GridSampling = node.params
        images, dtype = _numbers(ins[0], in_specs[0].dtype), in_specs[0].dtype
        grids = _numbers(ins[1], in_specs[1].dtype)
        out = np.empty(out_specs[0].shape, images.dtype)
        for image, grid, result in zip(images, grids, out, strict=True):
            taps = [
                self._taps(p, grid[..., image.ndim - 2 - axis], length) for axis, length in enumerate(image.shape[1:])
            ]
            result[:] = sum(self._tap(image, chosen) for chosen in itertools.product(*taps))
        return [from_float32(out, dtype) if dtype.is_float else out]

    @staticmethod
    def _tap(image: np.ndarray, taps: Sequence[tuple[np.ndarray, np.ndarray | None]]) -> np.ndarray:
        """One pixel of every point, times its weight."""
        picked = image[(slice(None), *(np.maximum(place, 0) for place, _ in taps))]
        for place, weight in taps:
            picked = np.where(place < 0, np.zeros((), image.dtype), picked if weight is None else picked * weight)
        return picked.astype(image.dtype, copy=False)

    @staticmethod
    def _taps(p: GridSampling, at: np.ndarray, length: int) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Pixels of one axis, -1 outside, and their weights; None for 1."""
        x = (at + 1) / 2 * (length - 1) if p.align_corners else ((at + 1) * length - 1) / 2
        if p.mode == "nearest":
            return [(border_index(to_pixels(np.rint(x)), length, p.border), None)]
        low, high = (0, length - 1) if p.align_corners else (-0.5, length - 0.5)
        outside = (x < low) | (x > high)
        if p.padding == "border" and p.mode == "linear":
            x = np.where(outside, np.clip(x, 0, length - 1), x)
        elif p.padding == "reflection":
            span = high - low
            turned = np.mod(x - low, 2 * span) if span else np.zeros_like(x)
            x = np.where(outside, low + np.minimum(turned, 2 * span - turned), x).astype(x.dtype)
        whole, rest = floor_and_fraction(x)
        if p.mode == "linear":
            weights, first = [1 - rest, rest], 0
        else:
            weights, first = list(np.moveaxis(cubic_weights(rest), -1, 0)), -1
        return [(border_index(whole + first + k, length, p.border), w) for k, w in enumerate(weights)]


@register
class AffineGrid(Operator):
    """The points of an image of a size, moved by matrices; inputs matrices ``(n, r, r + 1)``, size ``(n, c, d1 …)``."""

    name = "AffineGrid"
    in_files = None
    value_inputs = (1,)
    element_types = "floats"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        n, rows, columns = check_ndim(node, ins[0], 3, "the matrices")
        size = to_shape(node, ins[1].value, "the size")
        if columns != rows + 1 or len(size) != rows + 2 or size[0] != n:
            raise fail(node, f"matrices of shape {ins[0].shape} do not fit images of the size {size}")
        return [TensorSpec((n, *size[2:], rows), ins[0].dtype)]

    @staticmethod
    def axes(node: AnyNode, shape: Sequence[int]) -> list[np.ndarray]:
        """Where the pixels of each axis are, between -1 and 1."""
        found = []
        for length in shape:
            edge = 1.0 if node.params.align_corners else 1 - 1 / length
            found.append(np.linspace(-edge, edge, length) if length > 1 else np.zeros(1))
        return found

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        dtype, shape = in_specs[0].dtype, out_specs[0].shape[1:-1]
        theta, axes = _numbers(ins[0], dtype), self.axes(node, shape)
        points = np.stack(np.meshgrid(*axes, indexing="ij")[::-1], -1).astype(theta.dtype)
        turned = np.einsum("...k,njk->n...j", points, theta[..., :-1])
        moved = turned + theta[..., -1].reshape(len(theta), *[1] * len(shape), -1)
        return [from_float32(moved, dtype) if dtype.is_float else moved]


MOST_SAMPLES = 1 << 10
"""Samples along one side of a bin; more than that are far denser than pixels."""


@register
class OnnxRoiAlign(Operator):
    """Regions of images pooled to one size; inputs images, regions ``(m, 4)`` of x0, y0, x1, y1, numbers of images."""

    name = "OnnxRoiAlign"
    in_files = None
    element_types = "floats"
    runs_in_float32 = True

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 3)
        _, c, h, w = check_ndim(node, ins[0], 4, "the images")
        m, four = check_ndim(node, ins[1], 2, "the regions")
        check_index_dtype(node, ins[2], "the numbers of images")
        if four != 4 or ins[2].shape != (m,) or (min(h, w) < 1 and m):
            raise fail(node, f"regions {ins[1].shape} of images {ins[2].shape} do not fit data of {ins[0].shape}")
        return [TensorSpec(check_shape(node, (m, c, *node.params.size)), ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p: Regions = node.params
        images, regions = (_numbers(x, s.dtype) for x, s in zip(ins[:2], in_specs, strict=False))
        out = np.empty(out_specs[0].shape, images.dtype)
        for region, number, result in zip(regions, ins[2], out, strict=True):
            if not 0 <= number < len(images):
                raise index_error(node, f"there is no image {number} among {len(images)}")
            image = images[number]
            edges = region * np.float32(p.scale) - (0.5 if p.half_pixel else 0)
            taps = [
                self._taps(node, edges[1 - axis], edges[3 - axis], p.size[axis], image.shape[1 + axis])
                for axis in (0, 1)
            ]
            parts = [
                image[:, rows[0]][:, :, columns[0]] * (rows[1][:, None] * columns[1])
                for rows, columns in itertools.product(*taps)
            ]
            whole = np.maximum.reduce(parts) if p.takes_max else sum(parts)
            bins = whole.reshape(
                len(image), p.size[0], whole.shape[1] // p.size[0], p.size[1], whole.shape[2] // p.size[1]
            )
            if bins.size == 0:
                result[:] = 0
            else:
                result[:] = bins.max((2, 4)) if p.takes_max else bins.mean((2, 4))
        return [from_float32(out, out_specs[0].dtype) if out_specs[0].dtype.is_float else out]

    @staticmethod
    def _taps(
        node: AnyNode, begin: np.floating, end: np.floating, count: int, length: int
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Both neighbours of the samples along one axis, with their weights, 0 outside of the image."""
        p: Regions = node.params
        extent = end - begin if p.half_pixel else max(end - begin, np.float32(1))
        if not np.isfinite(begin) or not np.isfinite(extent):
            raise index_error(node, "a region has a number that is not finite")
        samples = p.sampling_ratio or max(int(np.ceil(extent / count)), 0)
        if samples > MOST_SAMPLES:
            raise index_error(node, f"a region takes {samples} samples along one side of a bin, at most {MOST_SAMPLES}")
        steps = (np.arange(samples) + 0.5) / max(samples, 1)
        at = begin + (np.arange(count)[:, None] + steps).reshape(-1) * (extent / count)
        inside = (at >= -1) & (at <= length)
        at = np.clip(at, 0, length - 1)
        low = np.minimum(at.astype(np.int64), length - 1)
        rest = (at - low).astype(np.float32)
        return [(low, (1 - rest) * inside), (np.minimum(low + 1, length - 1), rest * inside)]


@register
class CenterCropPad(Operator):
    """Data cut or padded with zeros to a size around their center; inputs data, sizes of the axes."""

    name = "CenterCropPad"
    in_files = None
    value_inputs = (1,)
    element_types = "floats, integers, bool"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        sizes, axes = to_integers(node, ins[1].value, "the size"), node.params.axes
        if len(sizes) != len(axes):
            raise fail(node, f"{len(sizes)} sizes do not fit {len(axes)} axes")
        shape = list(ins[0].shape)
        for axis, size in zip(axes, sizes, strict=True):
            shape[axis] = size
        return [TensorSpec(check_shape(node, shape), ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        out = np.zeros(out_specs[0].shape, ins[0].dtype)
        source, target = [], []
        for have, want in zip(ins[0].shape, out.shape, strict=True):
            cut, free = max(have - want, 0) // 2, max(want - have, 0) // 2
            count = min(have, want)
            source.append(slice(cut, cut + count))
            target.append(slice(free, free + count))
        out[tuple(target)] = ins[0][tuple(source)]
        return [out]
