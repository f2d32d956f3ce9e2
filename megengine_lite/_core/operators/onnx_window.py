"""Windows with the rules of ONNX: pooling over any number of axes, padding that keeps sizes, Einstein's sums."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from megengine_lite._core.ir import onnx_params
from megengine_lite._core.ir.dtype import INT32, INT64
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.quantize import from_float32, to_float32
from megengine_lite._core.operators.base import Operator, ProductOperator, fail, register
from megengine_lite._core.operators.checks import check_count, check_shape, common_dtype
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
        return np.array([a for a, _ in pairs] + [b for _, b in pairs], np.int32)

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        return [self._value(node, in_specs[0])]


@register
class OnnxPooling(ProductOperator):
    """Maximum, average or norm over a window of any number of axes, and the positions of maxima as int64."""

    name = "OnnxPooling"
    in_files = None
    element_types = "floats, integers"

    def count_outputs(self, params: Any, n_inputs: int, payload: tuple[bytes, ...] = ()) -> int:
        return 2 if type(params) is onnx_params.OnnxPooling and params.positions else 1

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
            if room < 0:
                raise fail(node, f"a window of {p.window} does not fit data of {tuple(space)}")
            count = (-(-room // s) if p.ceil else room // s) + 1
            if p.ceil and (count - 1) * s >= d + front:
                count -= 1
            out.append(count)
        return out

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        shape, p = ins[0].shape, node.params
        if len(shape) != len(p.window) + 2 or ins[0].dtype.is_quantized:
            raise fail(node, f"a window of {p.window} does not fit {ins[0].dtype} of shape {shape}")
        out = check_shape(node, (*shape[:2], *self._output(node, shape[2:])))
        found = [TensorSpec(out, ins[0].dtype)]
        return [*found, TensorSpec(out, INT64)] if p.positions else found

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
        result = total / _divisor(x.shape[2:], p, pads, out[2:])
        if dtype.is_float:
            return [from_float32(result.astype(np.float32), dtype)]
        return [result.astype(dtype.storage)]


def _taps(
    x: np.ndarray, p: onnx_params.OnnxPooling, pads: Sequence[tuple[int, int]], out: Sequence[int]
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
    x: np.ndarray, p: onnx_params.OnnxPooling, pads: Sequence[tuple[int, int]], out: Sequence[int]
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


def _divisor(
    space: Sequence[int], p: onnx_params.OnnxPooling, pads: Sequence[tuple[int, int]], out: Sequence[int]
) -> np.ndarray:
    """How many places of each window count."""
    counts = np.ones((1,) * len(out))
    for axis, (d, (front, behind), k, s, step, n) in enumerate(
        zip(space, pads, p.window, p.strides, p.dilations, out, strict=True)
    ):
        first = np.arange(n) * s - front
        low, high = (-front, d + behind) if p.count_pads else (0, d)
        # Places from ceil((low - first) / step) on and below ceil((high - first) / step).
        inside = np.minimum(-((first - high) // step), k) - np.maximum(-((first - low) // step), 0)
        inside = np.maximum(inside, 0)
        counts = counts * inside.reshape([n if a == axis else 1 for a in range(len(out))])
    return np.maximum(counts, 1)


@register
class Einsum(Operator):
    """Sums of products by an equation in numpy's notation."""

    name = "Einsum"
    in_files = None
    element_types = "floats, integers"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        dtype = common_dtype(node, ins)
        left, _, result = node.params.equation.partition("->")
        sizes: dict[str, int] = {}
        shared: tuple[int, ...] = ()
        for term, spec in zip(left.split(","), ins, strict=True):
            head, dots, tail = term.partition("...")
            if not term:  # a scalar, which has one dimension here
                continue
            lead, rest = len(head), len(spec.shape) - len(tail)
            if rest < lead or (not dots and rest != lead):
                raise fail(node, f"the term {term!r} does not fit the shape {spec.shape}")
            shared = tuple(np.broadcast_shapes(shared, spec.shape[lead:rest] if dots else ()))
            for letter, d in zip(head + tail, (*spec.shape[:lead], *spec.shape[rest:]), strict=True):
                if sizes.setdefault(letter, d) not in (d, 1) and d != 1:
                    raise fail(node, f"{letter!r} is {sizes[letter]} and {d}")
                sizes[letter] = max(sizes[letter], d)
        head, dots, tail = result.partition("...")
        if any(c not in sizes for c in head + tail):
            raise fail(node, f"the result {result!r} has letters that no input has")
        shape = (*(sizes[c] for c in head), *(shared if dots else ()), *(sizes[c] for c in tail))
        return [TensorSpec(check_shape(node, shape or (1,)), dtype)]

    def folding_steps(self, node: AnyNode, ins: Sequence[TensorSpec], outs: Sequence[TensorSpec]) -> int:
        return math.prod(spec.size for spec in ins)

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        dtype = in_specs[0].dtype
        operands = [to_float32(x, dtype).astype(np.float64) for x in ins] if dtype.is_float else list(ins)
        terms = node.params.equation.partition("->")[0].split(",")
        operands = [x if term else x.reshape(()) for x, term in zip(operands, terms, strict=True)]
        result = np.asarray(np.einsum(node.params.equation, *operands, optimize=len(operands) > 2))
        result = result.reshape(out_specs[0].shape)
        return [from_float32(result.astype(np.float32), dtype) if dtype.is_float else result.astype(dtype.storage)]
