"""Resampling along axes with all the rules of ONNX: a matrix of weights for each axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.onnx_image_params import OnnxResize as Parameters
from megengine_lite._core.ir.quantize import from_float32, to_float32
from megengine_lite._core.operators.base import ProductOperator, fail, register
from megengine_lite._core.operators.checks import check_count, check_shape

_MOST_WEIGHTS = 1 << 26  # of one axis


@register
class OnnxResize(ProductOperator):
    """Resampling; inputs data, factors or sizes[, region of interest], which are known before the data."""

    name = "OnnxResize"
    in_files = None
    element_types = "floats, integers"

    def needed_values(self, node: AnyNode) -> tuple[int, ...]:
        return tuple(range(1, len(node.inputs)))

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2, 3)
        sizes, _ = self._sizes(node, ins[0].shape, ins[1].value)
        shape = list(ins[0].shape)
        for axis, n in zip(node.params.axes, sizes, strict=True):
            shape[axis] = n
            if n * ins[0].shape[axis] > _MOST_WEIGHTS:
                raise fail(node, f"axis {axis} of shape {ins[0].shape} is too long to be resized to {n}")
        if 0 in ins[0].shape and 0 not in shape:
            raise fail(node, f"data of shape {ins[0].shape} have no elements")
        return [TensorSpec(check_shape(node, shape), ins[0].dtype)]

    @staticmethod
    def _sizes(node: AnyNode, shape: tuple[int, ...], value: np.ndarray | None) -> tuple[list[int], list[float]]:
        """The sizes of the resized axes, and the factors."""
        p: Parameters = node.params
        if value is None or value.size != len(p.axes):
            raise fail(node, f"needs {len(p.axes)} sizes or factors, has {'none' if value is None else value.size}")
        given = [float(v) for v in value.reshape(-1)]
        lengths = [shape[a] for a in p.axes]
        if not all(math.isfinite(v) and v >= 0 and v * max(d, 1) < 2**31 for v, d in zip(given, lengths, strict=True)):
            raise fail(node, f"cannot resize {shape} by {given}")
        if not p.by_sizes:
            return [math.floor(d * s) for d, s in zip(lengths, given, strict=True)], given
        sizes = [int(v) for v in given]
        factors = [n / d if d else 1.0 for n, d in zip(sizes, lengths, strict=True)]
        if p.policy != "stretch":
            factor = min(factors) if p.policy == "not_larger" else max(factors)
            factors = [factor] * len(factors)
            sizes = [math.floor(d * factor + 0.5) for d in lengths]
        return sizes, factors

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p, dtype = node.params, in_specs[0].dtype
        sizes, factors = self._sizes(node, ins[0].shape, ins[1])
        x = to_float32(ins[0], dtype) if dtype.is_float else ins[0]
        exact = x.astype(np.float64) if p.mode != "nearest" else x
        outside = np.zeros(out_specs[0].shape, np.bool_)
        rois = ins[2].reshape(2, -1).T if len(ins) == 3 else np.tile([0.0, 1.0], (len(p.axes), 1))
        for axis, n, factor, roi in zip(p.axes, sizes, factors, rois, strict=True):
            places, beyond = _coordinates(p, ins[0].shape[axis], n, factor, roi)
            if p.mode == "nearest":
                exact = np.take(exact, _nearest(p.nearest, places, ins[0].shape[axis]), axis)
            else:
                weights = _weights(p, places, ins[0].shape[axis], factor)
                exact = np.moveaxis(np.tensordot(weights, exact, (1, axis)), 0, axis)
            outside |= beyond.reshape([n if k == axis else 1 for k in range(x.ndim)])
        if p.coordinates == "tf_crop_and_resize":
            exact = np.where(outside, exact.dtype.type(p.extrapolation), exact)
        if dtype.is_float:
            return [from_float32(exact.astype(np.float32), dtype)]
        if p.mode != "nearest":
            exact = np.rint(exact)
        if dtype.storage.kind in "iu" and p.mode != "nearest":
            limits = np.iinfo(dtype.storage)
            exact = np.clip(exact, limits.min, limits.max)
        return [exact.astype(dtype.storage)]


def _coordinates(p: Parameters, length: int, n: int, factor: float, roi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each element of the result lies in the data, and whether that is beyond their ends."""
    x = np.arange(n, dtype=np.float64)
    kind = p.coordinates
    if kind == "align_corners":
        whole = factor * length  # of which the result has the whole elements
        x = x * (length - 1) / (whole - 1) if whole > 1 else x * 0
    elif kind == "asymmetric":
        x = x / factor
    elif kind == "pytorch_half_pixel" and n == 1:
        x = x * 0
    elif kind == "half_pixel_symmetric":
        middle = length * (1 - n / (factor * length)) / 2 if length else 0.0
        x = middle + (x + 0.5) / factor - 0.5
    elif kind == "tf_crop_and_resize":
        begin, end = roi
        if n > 1:
            x = begin * (length - 1) + x * (end - begin) * (length - 1) / (n - 1)
        else:
            x = x * 0 + 0.5 * (begin + end) * (length - 1)
    else:  # half_pixel, and pytorch_half_pixel of more than one element
        x = (x + 0.5) / factor - 0.5
    return x, (x < 0) | (x > length - 1)


def _nearest(how: str, places: np.ndarray, length: int) -> np.ndarray:
    if how == "floor":
        found = np.floor(places)
    elif how == "ceil":
        found = np.ceil(places)
    else:
        half = places - np.floor(places) == 0.5
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


def _weights(p: Parameters, places: np.ndarray, length: int, factor: float) -> np.ndarray:
    """A row of weights of the data's elements for each element of the result."""
    if not len(places):
        return np.zeros((0, length))
    stretch = min(factor, 1.0) if p.antialias else 1.0
    reach = (1 if p.mode == "linear" else 2) / stretch
    steps = np.arange(math.floor(-reach), math.ceil(reach) + 1)
    taps = np.floor(places)[:, None] + steps
    values = _kernel(p, (taps - places[:, None]) * stretch)
    if p.exclude_outside:
        values = np.where((taps >= 0) & (taps <= length - 1), values, 0.0)
    total = values.sum(1, keepdims=True)
    values = values / np.where(total == 0, 1.0, total)
    rows = np.zeros((len(places), length))
    clipped = np.clip(taps, 0, length - 1).astype(np.int64)
    np.add.at(rows, (np.arange(len(places))[:, None], clipped), values)
    return rows
