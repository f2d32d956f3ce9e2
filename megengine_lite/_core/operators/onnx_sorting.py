"""Sorted and distinct elements with the rules of ONNX."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir.dtype import INT32
from megengine_lite._core.ir.graph import AnyNode, DynamicSpec, Spec, TensorSpec
from megengine_lite._core.ir.onnx_params import Distinct
from megengine_lite._core.ir.quantize import to_float32
from megengine_lite._core.operators.base import (
    DynamicOperator,
    Operator,
    fail,
    normalize_axis,
    register,
)
from megengine_lite._core.operators.checks import (
    check_count,
    to_integer,
)
from megengine_lite._core.operators.origins import Number, Shape, ShapeOrigins, sizes_of


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


@register
class SortedTopK(Operator):
    """The k largest or smallest elements along an axis, sorted, and their positions as int32; inputs data, k."""

    name = "SortedTopK"
    gives_positions = (1,)
    elements_of = slice(1)
    in_files = None
    n_outputs = 2
    value_inputs = (1,)
    element_types = "floats, integers"
    runs_in_float32 = True

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        shape = list(ins[0].shape)
        axis = normalize_axis(node, node.params.axis, len(shape))
        k = to_integer(node, ins[1].value, "k")
        if not 0 <= k <= shape[axis]:
            raise fail(node, f"there are no {k} elements along axis {axis} of shape {tuple(shape)}")
        shape[axis] = k
        return [TensorSpec(tuple(shape), ins[0].dtype), TensorSpec(tuple(shape), INT32)]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        axis = node.params.axis % len(shapes[0])
        sizes = [[Number(1, 0)] if size.axis == axis else [size] for size in sizes_of(shapes[0], 0)]
        return [sizes, sizes]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        axis, k = node.params.axis, to_integer(node, ins[1], "k")
        keys = to_float32(ins[0], in_specs[0].dtype) if in_specs[0].dtype.is_float else ins[0]
        if node.params.largest:  # equal elements keep their order, so that order cannot be reversed as a whole
            keys = np.flip(keys, axis)
            order = np.flip(keys.shape[axis] - 1 - np.argsort(keys, axis, kind="stable"), axis)
        else:
            order = np.argsort(keys, axis, kind="stable")
        order = np.take(order, range(k), axis)
        return [np.take_along_axis(ins[0], order, axis), order.astype(np.int32)]
