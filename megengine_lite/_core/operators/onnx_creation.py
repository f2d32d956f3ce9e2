"""Sequences of numbers, and triangles of matrices, with the rules of ONNX."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.operators.base import Operator, fail, register
from megengine_lite._core.operators.checks import check_count, check_shape, common_dtype, to_integer


@register
class Range(Operator):
    """Numbers from start up to limit, which is left out, by steps; inputs start, limit, step."""

    name = "Range"
    in_files = None
    value_inputs = (0, 1, 2)
    element_types = "floats, integers"

    @staticmethod
    def _count(node: AnyNode, values: Sequence[np.ndarray | None]) -> int:
        numbers = [float(v.reshape(-1)[0]) for v in values if v is not None and v.size == 1]
        if len(numbers) != 3 or numbers[2] == 0 or not np.isfinite(numbers).all():
            raise fail(node, f"start, limit and step must be single numbers, the step not 0; they are {numbers}")
        return max(int(np.ceil((numbers[1] - numbers[0]) / numbers[2])), 0)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 3)
        return [TensorSpec(check_shape(node, (self._count(node, [s.value for s in ins]),)), common_dtype(node, ins))]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        start, _, step = (x.reshape(()) for x in ins)
        dtype = out_specs[0].dtype.storage
        return [(start + np.arange(out_specs[0].size, dtype=dtype) * step).astype(dtype)]


@register
class Triangle(Operator):
    """The upper or lower triangle of the matrices in the last two axes, zeros elsewhere; inputs data[, diagonal]."""

    name = "Triangle"
    in_files = None
    value_inputs = ()
    element_types = "floats, integers, bool"
    has_shape_of = slice(1)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1, 2)
        if len(ins[0].shape) < 2:
            raise fail(node, f"a matrix has two dimensions, the data have the shape {ins[0].shape}")
        return [TensorSpec(ins[0].shape, ins[0].dtype)]

    @staticmethod
    def diagonal(node: AnyNode, shape: Sequence[int], value: np.ndarray | None = None) -> int:
        """The diagonal, moved to the corners if it is further away."""
        found = 0 if value is None else to_integer(node, value, "the diagonal")
        return min(max(found, -shape[0] - 1), shape[1] + 1)

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        diagonal = self.diagonal(node, ins[0].shape[-2:], *ins[1:])
        return [np.triu(ins[0], diagonal) if node.params.upper else np.tril(ins[0], diagonal)]
