"""Windows with the rules of ONNX: pooling and its inverse, padding that keeps sizes, sums of windows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from megengine_lite._core.ir import onnx_image_params
from megengine_lite._core.ir.dtype import INT32, INT64
from megengine_lite._core.ir.graph import AnyNode, Node, TensorSpec
from megengine_lite._core.ir.onnx_image_params import Blocks, Unpooling
from megengine_lite._core.ir.quantize import from_float32, to_float32
from megengine_lite._core.operators.base import (
    Operator,
    ProductOperator,
    fail,
    register,
)
from megengine_lite._core.operators.checks import (
    check_count,
    check_index_dtype,
    check_ndim,
    check_shape,
    index_error,
    int32_value,
    to_integers,
    to_shape,
)
from megengine_lite._core.operators.origins import Shape, ShapeOrigins, window_sizes
from megengine_lite._core.operators.window import places_inside


def same_padding(
    space: Sequence[int], window: Sequence[int], strides: Sequence[int], dilations: Sequence[int], lower: bool
) -> list[tuple[int, int]]:
    """What to add in front and behind each axis, so that its output has the size over the stride, rounded up."""
    pairs = []
    for d, k, s, step in zip(space, window, strides, dilations, strict=True):
        total = max((-(-d // s) - 1) * s + (k - 1) * step + 1 - d, 0)
        less, more = total // 2, total - total // 2
        pairs.append((more, less) if lower else (less, more))
    return pairs


@register
class SamePadding(Operator):
    """The numbers to pad data with, as int32: those in front of each axis, then those behind; known before the data."""

    name = "SamePadding"
    of_shapes = True
    in_files = None
    element_types = "floats, integers"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        value = self._value(node, ins[0])
        return [TensorSpec(value.shape, INT32, value)]

    @staticmethod
    def _value(node: AnyNode, data: TensorSpec) -> np.ndarray:
        p = node.params
        if len(data.shape) != len(p.window) + 2:
            raise fail(node, f"a window of {len(p.window)} axes does not fit data of shape {data.shape}")
        pairs = [(0, 0), (0, 0), *same_padding(data.shape[2:], p.window, p.strides, p.dilations, p.lower)]
        return int32_value(node, [a for a, _ in pairs] + [b for _, b in pairs])

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        return [self._value(node, in_specs[0])]


@register
class OnnxPooling(ProductOperator):
    """Maximum, average or norm over a window of any number of axes, and the positions of maxima as int64."""

    name = "OnnxPooling"
    in_files = None
    gives_positions = (1,)
    element_types = "floats, integers"
    runs_in_float32 = True

    def count_outputs(self, params: Any, n_inputs: int, payload: tuple[bytes, ...] = ()) -> int:
        return 2 if type(params) is onnx_image_params.OnnxPooling and params.positions else 1

    @staticmethod
    def _pads(node: AnyNode, space: Sequence[int]) -> list[tuple[int, int]]:
        p = node.params
        if p.same:
            return same_padding(space, p.window, p.strides, p.dilations, p.same == "lower")
        return list(zip(p.pads_begin, p.pads_end, strict=True))

    def _output(self, node: AnyNode, space: Sequence[int]) -> list[int]:
        p, out = node.params, []
        for d, (front, behind), k, s, step in zip(
            space, self._pads(node, space), p.window, p.strides, p.dilations, strict=True
        ):
            room = d + front + behind - (k - 1) * step - 1
            count = (-(-room // s) if p.ceil else room // s) + 1
            if p.ceil and (count - 1) * s >= d + front:
                count -= 1
            if count < 1:
                raise fail(node, f"a window of {p.window} does not fit data of {tuple(space)}")
            out.append(count)
        return out

    @classmethod
    def pooled_axes(cls, node: Node) -> list[tuple[int, int, int, int, int, int, np.ndarray]]:
        """Of each axis length, output, window, stride, dilation, padding in front, and how many places count."""
        p, space, out = node.params, node.inputs[0].shape[2:], node.outputs[0].shape[2:]
        pads = cls._pads(node, space)
        counts = _counts(space, p, pads, out)
        fronts = [front for front, _ in pads]
        return list(zip(space, out, p.window, p.strides, p.dilations, fronts, counts, strict=True))

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        shape, p = ins[0].shape, node.params
        if len(shape) != len(p.window) + 2 or ins[0].dtype.is_quantized:
            raise fail(node, f"a window of {p.window} does not fit {ins[0].dtype} of shape {shape}")
        out = check_shape(node, (*shape[:2], *self._output(node, shape[2:])))
        found = [TensorSpec(out, ins[0].dtype)]
        return [*found, TensorSpec(out, INT64)] if p.positions else found

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        return [window_sizes(shapes, 0)] * (2 if node.params.positions else 1)

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p, dtype = node.params, in_specs[0].dtype
        x = to_float32(ins[0], dtype) if dtype.is_float else ins[0]
        out = out_specs[0].shape
        pads = self._pads(node, x.shape[2:])
        if p.mode == "max":
            values, places = _maxima(x, p, pads, out)
            values = from_float32(values, dtype) if dtype.is_float else values
            return [values, places] if p.positions else [values]
        x = x.astype(np.float64)
        total = np.zeros(out)
        for inside, part in _taps(x, p, pads, out):
            target = total[inside]
            target += part if p.mode == "average" else np.abs(part) ** p.order
        if p.mode == "norm":
            return [from_float32((total ** (1 / p.order)).astype(np.float32), dtype)]
        counts = np.ix_(*_counts(x.shape[2:], p, pads, out[2:]))
        result = total / np.maximum(math.prod(counts), 1)
        if dtype.is_float:
            return [from_float32(result.astype(np.float32), dtype)]
        return [result.astype(dtype.storage)]


def _taps(
    x: np.ndarray, p: onnx_image_params.OnnxPooling, pads: Sequence[tuple[int, int]], out: Sequence[int]
) -> Iterator[tuple[tuple[Any, ...], np.ndarray]]:
    """For each place of the window: which outputs it reaches, and the elements of the data that it has for them."""
    reaching = [
        places_inside(k, s, step, front, d, n)
        for d, (front, _), s, step, k, n in zip(
            x.shape[2:], pads, p.strides, p.dilations, p.window, out[2:], strict=True
        )
    ]
    for place in product(*reaching):
        inside, source = [], []
        for d, (front, _), s, step, k, n in zip(x.shape[2:], pads, p.strides, p.dilations, place, out[2:], strict=True):
            shift = k * step - front
            first, last = max(0, -(shift // s)), min(n, (d - 1 - shift) // s + 1)
            inside.append(slice(first, max(last, first)))
            begin = first * s + shift
            source.append(slice(begin, begin + max(last - first, 0) * s, s) if last > first else slice(0, 0))
        within: tuple[Any, ...] = (..., *source)
        yield (..., *inside), x[within]


def _maxima(
    x: np.ndarray, p: onnx_image_params.OnnxPooling, pads: Sequence[tuple[int, int]], out: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    low = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    best = np.full(out, low, x.dtype)
    places = np.zeros(out, np.int64)
    space: np.ndarray = np.arange(math.prod(x.shape[2:]))
    space = space.reshape(x.shape[:1:-1]).T if p.column_major else space.reshape(x.shape[2:])
    planes = np.arange(math.prod(x.shape[:2])).reshape(x.shape[:2] + (1,) * space.ndim) * space.size
    numbers = planes + space if p.positions else np.broadcast_to(np.int64(0), x.shape)
    for (inside, part), (_, number) in zip(_taps(x, p, pads, out), _taps(numbers, p, pads, out), strict=True):
        target = best[inside]
        better = part > target
        np.copyto(target, part, where=better)
        np.copyto(places[inside], number, where=better)
    return best, places


def _counts(
    space: Sequence[int], p: onnx_image_params.OnnxPooling, pads: Sequence[tuple[int, int]], out: Sequence[int]
) -> list[np.ndarray]:
    """How many places of each window count, along each axis."""
    counts = []
    for d, (front, behind), k, s, step, n in zip(space, pads, p.window, p.strides, p.dilations, out, strict=True):
        first = np.arange(n) * s - front
        low, high = (-front, d + behind) if p.count_pads else (0, d)
        # Places from ceil((low - first) / step) on and below ceil((high - first) / step).
        inside = np.minimum(-((first - high) // step), k) - np.maximum(-((first - low) // step), 0)
        counts.append(np.maximum(inside, 0))
    return counts


@register
class MaxUnpool(Operator):
    """Maxima at their places among zeros; inputs maxima, places in the pooled data[, shape of the result]."""

    name = "MaxUnpool"
    in_files = None
    element_types = "floats, integers"

    def needed_values(self, node: AnyNode) -> tuple[int, ...]:
        return (2,) if len(node.inputs) == 3 else ()

    @staticmethod
    def pooled(p: Unpooling, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The smallest shape whose pooling gives this one."""
        space = zip(shape[2:], p.window, p.strides, p.begin, p.end, strict=True)
        return (*shape[:2], *((d - 1) * s - b - e + k for d, k, s, b, e in space))

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2, 3)
        check_index_dtype(node, ins[1], "the places")
        shape = ins[0].shape
        if len(shape) != 2 + len(node.params.window) or ins[1].shape != shape:
            raise fail(node, f"places of shape {ins[1].shape} do not fit maxima of shape {shape}")
        pooled = check_shape(node, self.pooled(node.params, shape))
        wanted = to_shape(node, ins[2].value) if len(ins) == 3 else pooled
        if len(wanted) != len(pooled) or any(w < d for w, d in zip(wanted, pooled, strict=True)):
            raise fail(node, f"a result of shape {wanted} is smaller than the pooled data, {pooled}")
        return [TensorSpec(wanted, ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        pooled = self.pooled(node.params, ins[0].shape)
        places, count = ins[1].reshape(-1), math.prod(pooled)
        if places.size and not (places.min() >= 0 and places.max() < count):
            raise index_error(node, f"places from {places.min()} to {places.max()} do not fit {count} elements")
        flat = np.zeros(count, ins[0].dtype)
        flat[places] = ins[0].reshape(-1)
        out = np.zeros(out_specs[0].shape, ins[0].dtype)
        out[tuple(slice(d) for d in pooled)] = flat.reshape(pooled)
        return [out]


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
    runs_in_float32 = True

    @staticmethod
    def sizes(
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
        sizes, window, counts = self.sizes(node, ins[1].value, ins[2].value)
        if rows % math.prod(window) or min(counts) < 1 or columns != math.prod(counts):
            raise fail(node, f"columns of shape {ins[0].shape} do not fit {counts} blocks of {window}")
        return [TensorSpec(check_shape(node, (n, rows // math.prod(window), *sizes)), ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p, dtype = node.params, out_specs[0].dtype
        sizes, window, counts = self.sizes(node, ins[1], ins[2])
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
