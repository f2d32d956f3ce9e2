"""Selections with the rules of ONNX whose sizes depend on data, and parts that change places."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from megengine_lite._core.ir.dtype import INT32, DType
from megengine_lite._core.ir.graph import AnyNode, DynamicSpec, Spec, TensorSpec
from megengine_lite._core.ir.quantize import from_float32, to_float32
from megengine_lite._core.operators.base import DynamicOperator, Operator, fail, normalize_axis, register
from megengine_lite._core.operators.checks import (
    check_count,
    check_float,
    check_index_dtype,
    check_ndim,
    check_shape,
    common_dtype,
    index_error,
    to_integers,
    to_shape,
)
from megengine_lite._records import record


@record(frozen=True, slots=True)
class Suppression:
    """Parameters of :class:`OnnxNonMaxSuppression`.

    Attributes
    ----------
    by_center
        Boxes are center x, center y, width, height; else y, x of two opposite corners.
    has_scores
        The last input is a threshold of scores.
    """

    by_center: bool
    has_scores: bool


def _corners(boxes: np.ndarray, by_center: bool) -> np.ndarray:
    """Boxes ``(n, 4)`` as ``(2, 2, n)``: lower and upper corner, each in two coordinates."""
    if by_center:
        half = boxes[:, 2:] / 2
        return np.stack([boxes[:, :2] - half, boxes[:, :2] + half]).swapaxes(1, 2)
    pairs = np.stack([boxes[:, :2], boxes[:, 2:]])
    return np.sort(pairs, 0).swapaxes(1, 2)


def _kept(corners: np.ndarray, order: np.ndarray, limit: int, threshold: np.float32) -> list[int]:
    """The boxes of an order that overlap too much with none kept before them, up to a limit."""
    low, high = corners[:, :, order]
    area = (high - low).prod(0)
    alive = np.ones(len(order), np.bool_)
    kept: list[int] = []
    for k, box in enumerate(order):
        if len(kept) >= limit:
            break
        if not alive[k]:
            continue
        kept.append(int(box))
        rest = slice(k + 1, None)
        sides = np.minimum(high[:, [k]], high[:, rest]) - np.maximum(low[:, [k]], low[:, rest])
        shared = np.where((sides > 0).all(0), sides.prod(0), 0)
        whole = area[k] + area[rest] - shared
        counts = (shared > 0) & (area[k] > 0) & (area[rest] > 0) & (whole > 0)
        alive[rest] &= ~(counts & (shared / whole > threshold))
    return kept


@register
class OnnxNonMaxSuppression(DynamicOperator):
    """The boxes that are kept, as int32 rows of image, class and box.

    Inputs boxes ``(n, m, 4)``, scores ``(n, classes, m)``, the most boxes for each class, the largest overlap[, the
    least score].
    """

    name = "OnnxNonMaxSuppression"
    in_files = None
    dynamic = True
    element_types = "float32"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> Sequence[Spec]:
        check_count(node, ins, 4 + node.params.has_scores)
        check_float(node, ins[:2])
        n, m, four = check_ndim(node, ins[0], 3, "the boxes")
        scores = check_ndim(node, ins[1], 3, "the scores")
        if four != 4 or (scores[0], scores[2]) != (n, m):
            raise fail(node, f"scores of shape {scores} do not fit boxes of shape {ins[0].shape}")
        if any(spec.size != 1 for spec in ins[2:]):
            raise fail(node, "the limits must be single numbers")
        return [DynamicSpec(INT32)]

    def counted_shape(self, ins: Sequence[TensorSpec], count: int) -> tuple[int, ...]:
        return count, 3

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[Spec]
    ) -> list[np.ndarray]:
        boxes, scores, *limits = (to_float32(x, s.dtype) for x, s in zip(ins, in_specs, strict=True))
        most, overlap, *least = (x.reshape(-1)[0] for x in limits)
        rows: list[tuple[int, int, int]] = []
        for k, (some, of_classes) in enumerate(zip(boxes, scores, strict=True)):
            corners = _corners(some, node.params.by_center)
            for c, of_class in enumerate(of_classes):
                order = np.argsort(-of_class, kind="stable")
                if least:
                    order = order[of_class[order] > least[0]]
                rows += ((k, c, box) for box in _kept(corners, order, int(most), overlap))
        return [np.array(rows, np.int32).reshape(-1, 3)]


@record(frozen=True, slots=True)
class Distinct:
    """The axis along which parts are compared, None for all elements; whether they are sorted, else as they come."""

    axis: int | None
    is_sorted: bool


@register
class Unique(DynamicOperator):
    """Different elements or parts; where each comes first, which of them each part is, how often each is there."""

    name = "Unique"
    in_files = None
    n_outputs = 4
    dynamic = True
    element_types = "floats, integers, bool"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> Sequence[Spec]:
        check_count(node, ins, 1)
        return [DynamicSpec(ins[0].dtype), *[DynamicSpec(INT32)] * 3]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[Spec]
    ) -> list[np.ndarray]:
        p: Distinct = node.params
        x, dtype = ins[0], in_specs[0].dtype
        axis = None if p.axis is None else normalize_axis(node, p.axis, x.ndim)
        if axis is None:
            x, axis = x.reshape(-1), 0
        parts = np.moveaxis(x, axis, 0)
        keys = to_float32(parts, dtype) if dtype.is_float else parts
        keys = keys.reshape(len(parts), math.prod(parts.shape[1:]))
        firsts, numbers, counts = _distinct(keys)
        if not p.is_sorted:
            order = np.argsort(firsts)
            firsts, counts = firsts[order], counts[order]
            numbers = np.argsort(order)[numbers]
        taken = np.ascontiguousarray(np.take(x, firsts, axis))
        return [taken, *(v.astype(np.int32) for v in (firsts, numbers, counts))]


def _distinct(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of rows in sorted order: where each comes first, the number of each row, and how often each is there."""
    if keys.shape[0] == 0 or keys.shape[1] == 0:
        ones = np.array([0] if len(keys) else [], np.int64)
        return ones, np.zeros(len(keys), np.int64), np.array([len(keys)] if len(keys) else [], np.int64)
    order = np.lexsort(keys.T[::-1])
    ordered = keys[order]
    differs = (ordered[1:] != ordered[:-1]) & ~((ordered[1:] != ordered[1:]) & (ordered[:-1] != ordered[:-1]))
    begins = np.concatenate([[True], differs.any(1)])
    numbers = np.empty(len(keys), np.int64)
    numbers[order] = np.cumsum(begins) - 1
    return order[begins], numbers, np.bincount(numbers)


@record(frozen=True, slots=True)
class SequenceAxes:
    """Which axis has the sequences, and along which they go."""

    batch: int
    time: int


@register
class ReverseSequence(Operator):
    """Data in which the first elements of each sequence are turned around; inputs data, how many of each."""

    name = "ReverseSequence"
    in_files = None
    element_types = "floats, integers, bool, quantized"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        p, shape = node.params, ins[0].shape
        check_index_dtype(node, ins[1], "the lengths")
        if len(shape) < 2 or {p.batch, p.time} != {0, 1} or ins[1].shape != (shape[p.batch],):
            raise fail(node, f"lengths of shape {ins[1].shape} do not fit data of shape {shape}")
        return [TensorSpec(shape, ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        batch_first = ins[0] if node.params.batch == 0 else ins[0].swapaxes(0, 1)
        count = batch_first.shape[1]
        lengths = ins[1].astype(np.int64)[:, None]
        if lengths.size and not (lengths.min() >= 0 and lengths.max() <= count):
            raise index_error(node, f"lengths from {lengths.min()} to {lengths.max()} do not fit {count} elements")
        places = np.arange(count)
        places = np.where(places < lengths, lengths - 1 - places, places)
        turned = batch_first[np.arange(len(batch_first))[:, None], places]
        return [np.ascontiguousarray(turned if node.params.batch == 0 else turned.swapaxes(0, 1))]


@record(frozen=True, slots=True)
class CacheUpdate:
    """The axis of a cache along which an update is written, and whether it goes on at the front behind the end."""

    axis: int
    circular: bool


@register
class TensorScatter(Operator):
    """A copy of a cache with an update written into it; inputs cache, update[, where it begins in each sample]."""

    name = "TensorScatter"
    in_files = None
    element_types = "floats, integers, bool, quantized"

    @staticmethod
    def _axis(node: AnyNode, shape: tuple[int, ...]) -> int:
        axis = normalize_axis(node, node.params.axis, len(shape))
        if axis == 0:
            raise fail(node, "axis 0 has the samples, it cannot be written along")
        return axis

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2, 3)
        cache, update = ins[0].shape, ins[1].shape
        axis = self._axis(node, cache)
        fits = len(cache) == len(update) and update[axis] <= cache[axis]
        if not fits or any(a != b and k != axis for k, (a, b) in enumerate(zip(cache, update, strict=True))):
            raise fail(node, f"an update of shape {update} does not fit a cache of shape {cache} along axis {axis}")
        if len(ins) == 3:
            check_index_dtype(node, ins[2], "the beginnings")
            if ins[2].shape != (cache[0],):
                raise fail(node, f"beginnings of shape {ins[2].shape} do not fit {cache[0]} samples")
        return [TensorSpec(cache, common_dtype(node, ins[:2]))]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        out, axis = ins[0].copy(), self._axis(node, ins[0].shape)
        length, count = out.shape[axis], ins[1].shape[axis]
        begins = ins[2].astype(np.int64) if len(ins) == 3 else np.zeros(len(out), np.int64)
        for sample, update, begin in zip(out, ins[1], begins, strict=True):
            places = begin + np.arange(count)
            if node.params.circular:
                places %= max(length, 1)
            elif count and not (begin >= 0 and begin + count <= length):
                raise index_error(node, f"{count} elements from {begin} on do not fit a cache of {length}")
            np.moveaxis(sample, axis - 1, 0)[places] = np.moveaxis(update, axis - 1, 0)
        return [out]


@record(frozen=True, slots=True)
class Unpooling:
    """The window of a pooling that is undone: numbers for each axis behind the channels."""

    window: tuple[int, ...]
    strides: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]


@register
class MaxUnpool(Operator):
    """Maxima at their places among zeros; inputs maxima, places in the pooled data[, shape of the result]."""

    name = "MaxUnpool"
    in_files = None
    element_types = "floats, integers"

    def needed_values(self, node: AnyNode) -> tuple[int, ...]:
        return (2,) if len(node.inputs) == 3 else ()

    @staticmethod
    def _pooled(p: Unpooling, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The smallest shape whose pooling gives this one."""
        space = zip(shape[2:], p.window, p.strides, p.begin, p.end, strict=True)
        return (*shape[:2], *((d - 1) * s - b - e + k for d, k, s, b, e in space))

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2, 3)
        check_index_dtype(node, ins[1], "the places")
        shape = ins[0].shape
        if len(shape) != 2 + len(node.params.window) or ins[1].shape != shape:
            raise fail(node, f"places of shape {ins[1].shape} do not fit maxima of shape {shape}")
        pooled = check_shape(node, self._pooled(node.params, shape))
        wanted = to_shape(node, ins[2].value) if len(ins) == 3 else pooled
        if len(wanted) != len(pooled) or any(w < d for w, d in zip(wanted, pooled, strict=True)):
            raise fail(node, f"a result of shape {wanted} is smaller than the pooled data, {pooled}")
        return [TensorSpec(wanted, ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        pooled = self._pooled(node.params, ins[0].shape)
        places, count = ins[1].reshape(-1), math.prod(pooled)
        if places.size and not (places.min() >= 0 and places.max() < count):
            raise index_error(node, f"places from {places.min()} to {places.max()} do not fit {count} elements")
        flat = np.zeros(count, ins[0].dtype)
        flat[places] = ins[0].reshape(-1)
        out = np.zeros(out_specs[0].shape, ins[0].dtype)
        out[tuple(slice(d) for d in pooled)] = flat.reshape(pooled)
        return [out]


@record(frozen=True, slots=True)
class Blocks:
    """How blocks stand in an image: numbers for each axis behind the channels."""

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]


def _behind(places: Iterable[int | slice]) -> tuple[Any, ...]:
    """An index of the axes behind the channels."""
    return (slice(None), slice(None), *places)


@register
class Col2Im(Operator):
    """Images that are sums of blocks; inputs columns ``(n, channels * block, count)``, image's size, block's size."""

    name = "Col2Im"
    in_files = None
    value_inputs = (1, 2)
    element_types = "floats, integers"

    @staticmethod
    def _sizes(
        node: AnyNode, image: np.ndarray | None, block: np.ndarray | None
    ) -> tuple[list[int], list[int], list[int]]:
        """Sizes of the image and of blocks, and how many blocks there are along each axis."""
        p: Blocks = node.params
        sizes, window = to_integers(node, image, "the image's size"), to_integers(node, block, "the block's size")
        if not len(sizes) == len(window) == len(p.strides) or min(*sizes, *window) < 1:
            raise fail(node, f"an image of {sizes} does not fit blocks of {window}")
        counts = [
            (d + b + e - t * (k - 1) - 1) // s + 1
            for d, k, s, t, b, e in zip(sizes, window, p.strides, p.dilations, p.begin, p.end, strict=True)
        ]
        return sizes, window, counts

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 3)
        n, rows, columns = check_ndim(node, ins[0], 3, "the columns")
        sizes, window, counts = self._sizes(node, ins[1].value, ins[2].value)
        if rows % math.prod(window) or min(counts) < 1 or columns != math.prod(counts):
            raise fail(node, f"columns of shape {ins[0].shape} do not fit {counts} blocks of {window}")
        return [TensorSpec(check_shape(node, (n, rows // math.prod(window), *sizes)), ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p, dtype = node.params, out_specs[0].dtype
        sizes, window, counts = self._sizes(node, ins[1], ins[2])
        x = to_float32(ins[0], dtype) if dtype.is_float else ins[0]
        blocks = x.reshape(*out_specs[0].shape[:2], *window, *counts)
        padded = [d + b + e for d, b, e in zip(sizes, p.begin, p.end, strict=True)]
        out = np.zeros((*out_specs[0].shape[:2], *padded), x.dtype)
        for tap in itertools.product(*map(range, window)):
            place = tuple(
                slice(k * t, k * t + (c - 1) * s + 1, s)
                for k, t, c, s in zip(tap, p.dilations, counts, p.strides, strict=True)
            )
            out[_behind(place)] += blocks[_behind(tap)]
        inner = out[_behind(slice(b, b + d) for d, b in zip(sizes, p.begin, strict=True))]
        return [from_float32(inner, dtype) if dtype.is_float else np.ascontiguousarray(inner)]


@record(frozen=True, slots=True)
class OtherType:
    """An element type."""

    dtype: DType


@register
class BitCast(Operator):
    """The bits of the elements as elements of another type of the same size."""

    name = "BitCast"
    in_files = None
    element_types = "floats, integers, bool"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        dtype: DType = node.params.dtype
        if dtype.itemsize != ins[0].dtype.itemsize:
            raise fail(node, f"elements of {ins[0].dtype} have another size than those of {dtype}")
        return [TensorSpec(ins[0].shape, dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        return [np.ascontiguousarray(ins[0]).view(out_specs[0].dtype.storage)]
