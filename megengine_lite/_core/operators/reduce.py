"""Reductions along axes and running sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT16, FLOAT32, INT32, DType, DTypeCode
from megengine_lite._core.ir.graph import AnyNode, Node, TensorSpec
from megengine_lite._core.ir.params import INT_MAX, ReduceDataType, ReduceMode
from megengine_lite._core.ir.quantize import from_float32, to_float32, to_float64
from megengine_lite._core.operators.base import Operator, fail, normalize_axis, register
from megengine_lite._core.operators.checks import check_count, to_shape
from megengine_lite._core.operators.facts import IMAGE, InFiles, InOriginal
from megengine_lite._core.operators.origins import Shape, ShapeOrigins, kept_sizes
from megengine_lite._core.operators.samples import along_axis

Axes = tuple[int, ...]
LOWEST = np.finfo(np.float32).min


def _mean(x: np.ndarray, axes: Axes) -> np.ndarray:
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    total = x.sum(axis=axes, dtype=x.dtype, keepdims=True)
    if x.dtype.kind == "f":
        result: np.ndarray = total.astype(np.float32) / np.float32(count)  # the sum may overflow, as in kernels
        return result
    # C's division, towards zero; the sum wraps like every integer sum.
    quotient = np.abs(total.astype(np.int64)) // max(count, 1)
    result = np.where(total < 0, -quotient, quotient).astype(x.dtype)
    return result


# NaN stays. Maxima begin at the lowest finite number, minima at the largest, so they do not reach infinity there.
def _min(x: np.ndarray, axes: Axes) -> np.ndarray:
    least = x.min(axis=axes, keepdims=True)
    result: np.ndarray = np.minimum(least, -LOWEST) if x.dtype.kind == "f" else least
    return result


def _max(x: np.ndarray, axes: Axes) -> np.ndarray:
    largest = x.max(axis=axes, keepdims=True)
    result: np.ndarray = np.maximum(largest, LOWEST) if x.dtype.kind == "f" else largest
    return result


_REDUCTIONS: dict[int, Callable[[np.ndarray, Axes], np.ndarray]] = {
    ReduceMode.SUM: lambda x, axes: x.sum(axis=axes, dtype=x.dtype, keepdims=True),
    ReduceMode.SUM_SQR: lambda x, axes: np.square(x).sum(axis=axes, dtype=x.dtype, keepdims=True),
    ReduceMode.PRODUCT: lambda x, axes: x.prod(axis=axes, dtype=x.dtype, keepdims=True),
    ReduceMode.MIN: _min,
    ReduceMode.MAX: _max,
    ReduceMode.MEAN: _mean,
}

_INTEGER_SUMS = {
    ReduceDataType.QUINT_I8xO32: DTypeCode.QUANTIZED8_ASYMM,
    ReduceDataType.QINT_I8xO32: DTypeCode.QUANTIZED_S8,
}


@register
class Reduce(Operator):
    """Reduction along one axis, which stays with length 1, or to the target shape of a second input."""

    name = "Reduce"
    param = params.Reduce
    in_files = InFiles(revision=2)
    in_original = InOriginal(mentioned_inputs=1, predicts_results=True)
    runs_in_float32 = True
    sample_inputs = (IMAGE, [1])

    def float32_params(self, params: Any) -> Any:
        return params.replace(data_type=ReduceDataType.DEFAULT)

    def original_label(self, node: AnyNode) -> str:
        return f"reduce{int(node.params.mode)}"

    def needed_values(self, node: AnyNode) -> tuple[int, ...]:
        return (1,) if len(node.inputs) == 2 else ()

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1, 2)
        if node.params.mode not in _REDUCTIONS:
            raise fail(node, f"mode {node.params.mode} is not known")
        shape = ins[0].shape
        axes = self.axes(node, ins)
        kept = tuple(1 if i in axes else d for i, d in enumerate(shape))
        if node.params.mode in (ReduceMode.MIN, ReduceMode.MAX) and 0 in shape and 0 not in kept:
            raise fail(node, f"the smallest or largest of no elements is not defined, the input's shape is {shape}")
        if len(ins) == 2:
            kept = self._drop_leading(kept, to_shape(node, ins[1].value))
        return [TensorSpec(kept, self._output_dtype(node, ins[0].dtype))]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        if len(shapes) > 1:
            return None
        return [kept_sizes(shapes[0], self._axes(node, shapes[0], None))]

    def axes(self, node: AnyNode, ins: Sequence[TensorSpec]) -> Axes:
        """What is reduced, of a node whose inputs have passed ``infer``."""
        return self._axes(node, ins[0].shape, None if len(ins) == 1 else to_shape(node, ins[1].value))

    @staticmethod
    def _axes(node: AnyNode, shape: tuple[int, ...], target: tuple[int, ...] | None) -> Axes:
        if target is None:
            axis = node.params.axis
            if axis == INT_MAX:
                raise fail(node, "has neither an axis nor a target shape")
            return (normalize_axis(node, axis, len(shape)),)
        if target == (1,):
            return tuple(range(len(shape)))
        missing = len(shape) - len(target)
        aligned = (1,) * missing + target
        if missing < 0 or any(t not in (1, d) for t, d in zip(aligned, shape, strict=True)):
            raise fail(node, f"shape {shape} cannot be reduced to {target}")
        return tuple(i for i, (t, d) in enumerate(zip(aligned, shape, strict=True)) if t != d or i < missing)

    @staticmethod
    def _drop_leading(kept: tuple[int, ...], target: tuple[int, ...]) -> tuple[int, ...]:
        return kept[len(kept) - len(target) :]

    @staticmethod
    def _output_dtype(node: AnyNode, dtype: DType) -> DType:
        mode, data_type = node.params.mode, node.params.data_type
        if data_type in _INTEGER_SUMS:
            if dtype.code != _INTEGER_SUMS[data_type]:
                raise fail(node, f"data type {ReduceDataType(data_type).name} does not fit an input of {dtype}")
            return DType(DTypeCode.QUANTIZED_S32, dtype.scale)
        if data_type == ReduceDataType.DEFAULT:
            only_ordered = dtype.is_quantized or dtype.code == DTypeCode.BOOL
            if only_ordered and mode not in (ReduceMode.MIN, ReduceMode.MAX):
                raise fail(node, f"mode {ReduceMode(mode).name} is not defined for {dtype}")
            return dtype
        if not dtype.is_float:
            raise fail(node, f"data type {data_type} needs a float input, not {dtype}")
        if data_type == ReduceDataType.FLOAT_O32xC32:
            return FLOAT32
        if data_type in (ReduceDataType.FLOAT_O16xC32, ReduceDataType.FLOAT_IO16xC32):
            return FLOAT16
        raise fail(node, f"data type {data_type} is not known")

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        x, source, out = ins[0], in_specs[0].dtype, out_specs[0]
        if 0 in out.shape:
            return [np.empty(out.shape, out.dtype.storage)]
        target = None if len(ins) == 1 else to_shape(node, ins[1])
        axes = self._axes(node, x.shape, target)
        mode = node.params.mode
        reduction = _REDUCTIONS[mode]
        if source.is_float:
            x = to_float32(x, source)
            if mode not in (ReduceMode.MIN, ReduceMode.MAX):
                x = x.astype(np.float64)
            result = from_float32(reduction(x, axes).astype(np.float32, copy=False), out.dtype)
        else:
            if out.dtype != source:  # integer sums of quantized numbers
                x = x.astype(np.int32) - source.zero_point
            result = reduction(x, axes)
        return [result.reshape(out.shape)]

    def keeps_samples(self, node: Node, rows: Sequence[int]) -> bool:
        return len(rows) == 1 and along_axis(self, node, rows)


class _ArgReduce(Operator):
    """Position of the smallest or largest element along an axis, which stays with length 1; NaN beats all."""

    param = params.Axis
    gives_positions = (0,)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        shape = ins[0].shape
        axis = normalize_axis(node, node.params.axis, len(shape))
        places = *shape[:axis], 1, *shape[axis + 1 :]
        if shape[axis] == 0 and 0 not in places:
            raise fail(node, f"axis {axis} of the input is empty, its shape is {shape}")
        return [TensorSpec(places, INT32)]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        return [kept_sizes(shapes[0], (node.params.axis % len(shapes[0]),))]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        axis = node.params.axis
        if 0 in out_specs[0].shape:
            return [np.empty(out_specs[0].shape, np.int32)]
        x = to_float32(ins[0], in_specs[0].dtype) if in_specs[0].dtype.is_float else ins[0]
        position = np.expand_dims(self.position(x, axis), axis)
        unknown = np.isnan(x)
        if unknown.any():
            last = x.shape[axis] - 1 - np.expand_dims(np.argmax(np.flip(unknown, axis), axis), axis)
            position = np.where(unknown.any(axis, keepdims=True), last, position)
        return [position.astype(np.int32)]

    def position(self, x: np.ndarray, axis: int) -> np.ndarray:
        """Index of the first such element."""
        raise NotImplementedError


@register
class Argmax(_ArgReduce):
    """Position of the first largest element, or of the last NaN if there is one."""

    name = "Argmax"
    sample_inputs = (IMAGE,)

    def position(self, x: np.ndarray, axis: int) -> np.ndarray:
        result: np.ndarray = np.argmax(x, axis=axis)
        return result


@register
class Argmin(_ArgReduce):
    """Position of the first smallest element, or of the last NaN if there is one."""

    name = "Argmin"
    sample_inputs = (IMAGE,)

    def position(self, x: np.ndarray, axis: int) -> np.ndarray:
        result: np.ndarray = np.argmin(x, axis=axis)
        return result


@register
class Cumsum(Operator):
    """Running sum along an axis, with or without the element itself, from the front or from the back."""

    name = "Cumsum"
    param = params.Cumsum
    in_files = InFiles(revision=1)
    in_original = InOriginal(label="Cumsum")
    runs_in_float32 = True
    sample_inputs = (IMAGE,)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        shape, dtype = ins[0].shape, ins[0].dtype
        if dtype.is_quantized or dtype.code == DTypeCode.BOOL:
            raise fail(node, f"is not defined for {dtype}")
        if node.params.axis != INT_MAX:
            normalize_axis(node, node.params.axis, len(shape))
        return [TensorSpec(shape if node.params.axis != INT_MAX else (ins[0].size,), dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p, dtype = node.params, in_specs[0].dtype
        x = ins[0] if p.axis != INT_MAX else ins[0].reshape(-1)
        if dtype.is_float:
            x = to_float64(x, dtype)
        x = np.moveaxis(x, p.axis if p.axis != INT_MAX else 0, 0)
        if p.reverse:
            x = x[::-1]
        total = np.cumsum(x, axis=0, dtype=x.dtype)
        if p.exclusive:
            total = np.concatenate([np.zeros_like(x[:1]), total[:-1]])
        if p.reverse:
            total = total[::-1]
        total = np.moveaxis(total, 0, p.axis if p.axis != INT_MAX else 0)
        if dtype.is_float:
            total = from_float32(total.astype(np.float32), dtype)
        return [total]
