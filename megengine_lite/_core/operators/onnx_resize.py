"""Resampling along axes with all the rules of ONNX: for each axis a table of elements and their weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir.dtype import FLOAT64
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.onnx_image_params import BY_SCALE
from megengine_lite._core.ir.onnx_image_params import OnnxResize as Parameters
from megengine_lite._core.ir.quantize import from_float32, to_float32
from megengine_lite._core.operators.base import ProductOperator, fail, register
from megengine_lite._core.operators.checks import check_count, check_shape
from megengine_lite._core.operators.origins import Number, Origin, Shape, ShapeOrigins, Size, later_numbers, sizes_of
from megengine_lite._core.operators.resize import Taps, apply_taps

_MOST_WEIGHTS = 1 << 26  # of one axis
_NEAR_A_HALF = 1e-6  # what float32 makes of a half, as in ONNX Runtime


@register
class OnnxResize(ProductOperator):
    """Resampling; inputs data, factors or sizes[, region of interest], which are known before the data."""

    name = "OnnxResize"
    in_files = None
    element_types = "floats, integers"
    runs_in_float32 = True

    def needed_values(self, node: AnyNode) -> tuple[int, ...]:
        return tuple(range(1, len(node.inputs)))

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2, 3)
        sizes, factors = self._sizes(node, ins[0].shape, ins[1].value)
        shape = list(ins[0].shape)
        for axis, n, factor in zip(node.params.axes, sizes, factors, strict=True):
            shape[axis] = n
            steps = _steps(node.params, factor)
            if n * (steps.stop - steps.start) > _MOST_WEIGHTS:
                raise fail(node, f"axis {axis} of shape {ins[0].shape} is too long to be resized to {n}")
        if 0 in ins[0].shape and 0 not in shape:
            raise fail(node, f"data of shape {ins[0].shape} have no elements")
        return [TensorSpec(check_shape(node, shape), ins[0].dtype)]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        given = later_numbers(shapes)
        sizes: list[list[Origin]] = [[size] for size in sizes_of(shapes[0], 0)]
        fits = node.params.by_sizes and node.params.policy != "stretch"
        for k, axis in enumerate(node.params.axes):
            own: list[Origin] = [Number(1, k)] if node.params.by_sizes else [Size(0, axis), Number(1, k)]
            sizes[axis] = [*sizes_of(shapes[0], 0), *given] if fits else own
        return [sizes]

    @staticmethod
    def _sizes(node: AnyNode, shape: tuple[int, ...], value: np.ndarray | None) -> tuple[list[int], list[float]]:
        """The sizes of the resized axes, and the factors.

        ONNX Runtime multiplies sizes by factors in float32: 640 by 0.35 is 224 there, and 223.99999 otherwise.
        """
        p: Parameters = node.params
        if value is None or value.size != len(p.axes):
            raise fail(node, f"needs {len(p.axes)} sizes or factors, has {'none' if value is None else value.size}")
        given = [float(v) for v in value.reshape(-1)]
        lengths = [shape[a] for a in p.axes]
        if not all(math.isfinite(v) and v >= 0 and v * max(d, 1) < 2**31 for v, d in zip(given, lengths, strict=True)):
            raise fail(node, f"cannot resize {shape} by {given}")
        if not p.by_sizes:
            return [math.floor(np.float32(d) * np.float32(s)) for d, s in zip(lengths, given, strict=True)], given
        sizes = [int(v) for v in given]
        factors = [n / d if d else 1.0 for n, d in zip(sizes, lengths, strict=True)]
        if p.policy != "stretch":
            factor = min(factors) if p.policy == "not_larger" else max(factors)
            factors = [factor] * len(factors)
            sizes = [math.floor(d * factor + 0.5) for d in lengths]
        return sizes, factors

    def taps(
        self, node: AnyNode, shape: tuple[int, ...], numbers: np.ndarray | None, region: np.ndarray | None = None
    ) -> dict[int, tuple[Taps, np.ndarray]]:
        """By axis: what each element of the result is made of, and whether it lies beyond the ends of the data."""
        p = node.params
        sizes, factors = self._sizes(node, shape, numbers)
        regions = np.tile([0.0, 1.0], (len(p.axes), 1)) if region is None else region.reshape(2, -1).T
        found = {}
        for axis, n, factor, part in zip(p.axes, sizes, factors, regions, strict=True):
            places, beyond = _coordinates(p, shape[axis], n, factor, part)
            if p.mode == "nearest":
                how = ("ceil" if factor < 1 else "floor") if p.nearest == BY_SCALE else p.nearest
                taps = _nearest(how, places, shape[axis])[:, None], np.ones((n, 1))
            else:
                taps = _weighted(p, places, shape[axis], factor)
            found[axis] = taps, beyond
        return found

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p, dtype = node.params, in_specs[0].dtype
        x = to_float32(ins[0], dtype) if dtype.is_float else ins[0]
        exact = x.astype(np.float64) if p.mode != "nearest" else x
        outside = np.zeros(out_specs[0].shape, np.bool_)
        for axis, (taps, beyond) in self.taps(node, ins[0].shape, *ins[1:]).items():
            exact = np.take(exact, taps[0][:, 0], axis) if p.mode == "nearest" else apply_taps(exact, axis, taps)
            outside |= beyond.reshape([len(beyond) if k == axis else 1 for k in range(x.ndim)])
        if p.coordinates == "tf_crop_and_resize":
            exact = np.where(outside, exact.dtype.type(p.extrapolation), exact)
        if dtype.is_float:
            return [from_float32(exact.astype(np.float32), dtype)]
        if dtype == FLOAT64:
            return [exact]
        if p.mode != "nearest":
            exact = np.rint(exact)
        if dtype.storage.kind in "iu" and p.mode != "nearest":
            limits = np.iinfo(dtype.storage)
            exact = np.clip(exact, limits.min, limits.max)
        return [exact.astype(dtype.storage)]


def _coordinates(p: Parameters, length: int, n: int, factor: float, roi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each element of the result lies in the data, and whether that is beyond their ends.

    The nearest elements are those of ONNX Runtime, which computes in float32: a third of 9, which a file stores as
    0.33333334, lies there at 3, and at 2.9999999 otherwise.
    """
    kind = np.float32 if p.mode == "nearest" else np.float64
    x: np.ndarray = np.arange(n).astype(kind)
    scale = kind(factor)
    rule = p.coordinates
    if rule == "align_corners":
        whole = n if p.by_sizes else scale * length  # of which the result has the whole elements
        x = x * (length - 1) / (whole - 1) if whole > 1 else x * 0
    elif rule == "asymmetric":
        x = x / scale
    elif rule == "tf_half_pixel_for_nn":  # of versions 11 and 12 of the operators
        x = (x + 0.5) / scale
    elif rule == "pytorch_half_pixel" and n == 1:
        x = x * 0
    elif rule == "half_pixel_symmetric":
        middle = length * (1 - n / (scale * length)) / 2 if length else 0.0
        # ONNX Runtime computes the rest of this rule in float64.
        x = (np.float64(middle) + (x.astype(np.float64) + 0.5) / np.float64(scale) - 0.5).astype(kind)
    elif rule == "tf_crop_and_resize":
        begin, end = roi
        if n > 1:
            x = begin * (length - 1) + x * (end - begin) * (length - 1) / (n - 1)
        else:
            x = x * 0 + 0.5 * (begin + end) * (length - 1)
    else:  # half_pixel, and pytorch_half_pixel of more than one element
        x = (x + 0.5) / scale - 0.5
    return x, (x < 0) | (x > length - 1)


def _nearest(how: str, places: np.ndarray, length: int) -> np.ndarray:
    if how == "floor":
        found = np.floor(places)
    elif how == "ceil":
        found = np.ceil(places)
    else:
        half = np.abs(places - np.floor(places) - 0.5) < _NEAR_A_HALF
        down = np.floor(places) if how == "round_prefer_floor" else np.ceil(places)
        found = np.where(half, down, np.rint(places))
    result: np.ndarray = np.clip(found, 0, max(length - 1, 0)).astype(np.int64)
    return result


def _kernel(p: Parameters, distance: np.ndarray) -> np.ndarray:
    """The weight of an element at a distance, not yet normalized."""
    t = np.abs(distance)
    if p.mode == "linear":
        near: np.ndarray = np.clip(1 - t, 0, None)
        return near
    a = p.cubic_a
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def _steps(p: Parameters, factor: float) -> range:
    """The elements that may count for a place, relative to that in front of it."""
    reach = (1 if p.mode == "linear" else 2) / _stretch(p, factor)
    return range(math.floor(-reach), math.ceil(reach) + 1)


def _stretch(p: Parameters, factor: float) -> float:
    return min(factor, 1.0) if p.antialias and factor else 1.0


def _weighted(p: Parameters, places: np.ndarray, length: int, factor: float) -> Taps:
    """The elements for each element of the result, and their weights."""
    if not len(places):
        return np.zeros((0, 1), np.int64), np.zeros((0, 1))
    taps = np.floor(places)[:, None] + np.array(_steps(p, factor))
    values = _kernel(p, (taps - places[:, None]) * _stretch(p, factor))
    if p.exclude_outside:
        values = np.where((taps >= 0) & (taps <= length - 1), values, 0.0)
    total = values.sum(1, keepdims=True)
    values = values / np.where(total == 0, 1.0, total)
    used: np.ndarray = (values != 0).any(0)
    used[0] |= not used.any()
    return np.clip(taps, 0, length - 1).astype(np.int64)[:, used], values[:, used]
