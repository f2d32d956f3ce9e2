"""Sums and products up to each element, with the rules of ONNX."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.quantize import from_float32, to_float64
from megengine_lite._core.operators.base import Operator, fail, normalize_axis, register
from megengine_lite._core.operators.checks import check_count, to_integer


@register
class Cumulative(Operator):
    """Sums or products of the elements up to each one along an axis; inputs data, axis."""

    name = "Cumulative"
    in_files = None
    element_types = "floats, integers"
    has_shape_of = slice(1)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        if ins[0].dtype.storage.kind not in "iuf" or ins[0].dtype.is_quantized:
            raise fail(node, f"is not defined for {ins[0].dtype}")
        return [TensorSpec(ins[0].shape, ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p, dtype = node.params, in_specs[0].dtype
        axis = normalize_axis(node, to_integer(node, ins[1], "the axis"), ins[0].ndim)
        x = to_float64(ins[0], dtype) if dtype.is_float else ins[0]
        x = np.flip(x, axis) if p.reverse else x
        total = np.cumprod(x, axis, x.dtype) if p.product else np.cumsum(x, axis, x.dtype)
        if p.exclusive:
            first = np.full_like(np.take(x, range(min(1, x.shape[axis])), axis), 1 if p.product else 0)
            total = np.concatenate([first, np.take(total, range(max(x.shape[axis] - 1, 0)), axis)], axis)
        total = np.flip(total, axis) if p.reverse else total
        return [from_float32(total.astype(np.float32), dtype) if dtype.is_float else total]
