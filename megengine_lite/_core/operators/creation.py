"""Tensors made from numbers: sequences, diagonals, uninitialized memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32, DType, DTypeCode
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.quantize import from_float32, to_float32
from megengine_lite._core.operators.base import Operator, fail, register
from megengine_lite._core.operators.checks import check_computable, check_count, check_shape, to_integer, to_shape
from megengine_lite._core.operators.facts import MATRIX, InOriginal


def plain_dtype(node: AnyNode, code: int) -> DType:
    """The type that a parameter names by its number alone."""
    try:
        dtype = DType(DTypeCode(code))
    except ValueError:
        raise fail(node, f"type {code} is not known") from None
    if dtype.is_quantized:
        raise fail(node, f"type {dtype.name} needs a scale, the parameter has none")
    check_computable(node, dtype)
    return dtype


@register
class Linspace(Operator):
    """``num`` evenly spaced float32 numbers from start to stop; inputs start, stop, num, one number each."""

    name = "Linspace"
    param = params.Linspace
    value_inputs = (2,)
    in_original = InOriginal(label="linspce", mentioned_inputs=2, has_workspace=False, numbers_from=0)
    element_types = "by a parameter"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 3)
        for spec, what in zip(ins, ("start", "stop", "num"), strict=True):
            if spec.size != 1:
                raise fail(node, f"{what} must be one number, its shape is {spec.shape}")
        num = to_integer(node, ins[2].value, "num")
        if num < 0:
            raise fail(node, f"cannot make {num} numbers")
        return [TensorSpec((num,), FLOAT32)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        start, stop = (to_float32(x, s.dtype).reshape(()) for x, s in zip(ins[:2], in_specs, strict=False))
        num = out_specs[0].size
        step = (stop - start) / np.float32(max(num - (1 if node.params.endpoint else 0), 1))
        return [(start + np.arange(num, dtype=np.float32) * step).astype(np.float32)]


@register
class Eye(Operator):
    """A matrix with ones on diagonal k; input one number (square) or two: rows and columns."""

    name = "Eye"
    param = params.Eye
    value_inputs = (0,)
    in_original = InOriginal(has_workspace=False)
    element_types = "by a parameter"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        shape = to_shape(node, ins[0].value)
        if len(shape) > 2:
            raise fail(node, f"a matrix has 2 dimensions, not {shape}")
        return [TensorSpec(check_shape(node, shape * (3 - len(shape))), plain_dtype(node, node.params.dtype))]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        rows, columns = out_specs[0].shape
        return [from_float32(np.eye(rows, columns, node.params.k, np.float32), out_specs[0].dtype)]


@register
class Alloc(Operator):
    """A tensor of the shape that the input lists; its content is undefined (here: zeros)."""

    name = "Alloc"
    param = params.DType
    value_inputs = (0,)
    in_original = InOriginal(has_workspace=False)
    element_types = "by a parameter"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        return [TensorSpec(to_shape(node, ins[0].value), plain_dtype(node, node.params.dtype))]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        spec = out_specs[0]
        return [np.zeros(spec.shape, spec.dtype.storage)]


@register
class Diag(Operator):
    """A square matrix with a vector on diagonal k, or the diagonal k of a matrix."""

    name = "Diag"
    param = params.Diag
    sample_inputs = (MATRIX,)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        shape, k = ins[0].shape, node.params.k
        if len(shape) == 1:
            side = shape[0] + abs(k)
            return [TensorSpec(check_shape(node, (side, side)), ins[0].dtype)]
        if len(shape) != 2:
            raise fail(node, f"needs a vector or a matrix, the input's shape is {shape}")
        rows, columns = shape
        length = min(rows, columns - k) if k >= 0 else min(rows + k, columns)
        if length < 0:
            raise fail(node, f"a matrix of shape {shape} has no diagonal {k}")
        return [TensorSpec((length,), ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        return [np.diag(ins[0], node.params.k)]
