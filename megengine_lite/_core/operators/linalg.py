"""Inverse, determinant, singular values, vector product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.quantize import from_float32, to_float32, to_float64
from megengine_lite._core.operators.base import Operator, fail, normalize_axis, register
from megengine_lite._core.operators.checks import check_count, check_float
from megengine_lite._core.operators.facts import FILTER, IMAGE, InFiles, InOriginal
from megengine_lite.errors import LiteValueError


@register
class MatrixInverse(Operator):
    """Inverse of each of a batch of square matrices."""

    name = "MatrixInverse"
    param = params.Empty
    in_original = InOriginal(label="matrix_inv")
    element_types = "floats"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        shape = ins[0].shape
        if len(shape) < 2 or shape[-1] != shape[-2]:
            raise fail(node, f"needs square matrices, the input's shape is {shape}")
        return [TensorSpec(shape, check_float(node, ins))]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        dtype = in_specs[0].dtype
        try:
            inverse = np.linalg.inv(to_float64(ins[0], dtype))
        except np.linalg.LinAlgError as error:
            raise LiteValueError(str(fail(node, str(error)))) from None
        return [from_float32(inverse.astype(np.float32), dtype)]


@register
class Det(Operator):
    """Determinants of the square matrices in the last two axes."""

    name = "Det"
    in_files = None
    element_types = "floats"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        shape = ins[0].shape
        if len(shape) < 2 or shape[-1] != shape[-2]:
            raise fail(node, f"the matrices must be square, the data have the shape {shape}")
        return [TensorSpec(shape[:-2] or (1,), ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        spec = out_specs[0]
        x = to_float32(ins[0], spec.dtype) if spec.dtype.is_float else ins[0]
        found = np.asarray(np.linalg.det(x.astype(np.float64))).reshape(spec.shape)
        return [from_float32(found.astype(np.float32), spec.dtype) if spec.dtype.is_float else found]


@register
class SVD(Operator):
    """Singular value decomposition of each of a batch of matrices: u, s, vt, or s alone."""

    name = "SVD"
    param = params.SVD
    sample_inputs = (IMAGE,)

    def count_outputs(self, params: Any, n_inputs: int, payload: tuple[bytes, ...] = ()) -> int:
        return 1 if type(params) is self.param and not params.compute_uv else 3

    def hidden_outputs(self, node: AnyNode) -> tuple[int, int]:
        return (0, 1) if len(node.outputs) == 3 else (1, 2)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        shape, dtype = ins[0].shape, check_float(node, ins)
        if len(shape) < 2:
            raise fail(node, f"needs matrices, the input's shape is {shape}")
        *batch, m, n = shape
        k = min(m, n)
        values = TensorSpec((*batch, k), dtype)
        if not node.params.compute_uv:
            return [values]
        full = node.params.full_matrices
        return [
            TensorSpec((*batch, m, m if full else k), dtype),
            values,
            TensorSpec((*batch, n if full else k, n), dtype),
        ]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p, dtype = node.params, in_specs[0].dtype
        x = to_float64(ins[0], dtype)
        try:
            parts = np.linalg.svd(x, full_matrices=p.full_matrices, compute_uv=p.compute_uv)
        except np.linalg.LinAlgError as error:
            raise LiteValueError(str(fail(node, str(error)))) from None
        return [from_float32(part.astype(np.float32), dtype) for part in (parts if p.compute_uv else [parts])]


@register
class Cross(Operator):
    """Vector product along an axis of length 3 of each input; the other axes are equal."""

    name = "Cross"
    param = params.Cross
    in_files = InFiles(released=False)
    sample_inputs = (FILTER, FILTER)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        dtype = check_float(node, ins)
        rest = []
        for spec, axis in zip(ins, (node.params.axisa, node.params.axisb), strict=True):
            shape = list(spec.shape)
            if shape.pop(normalize_axis(node, axis, len(shape))) != 3:
                raise fail(node, f"axis {axis} of shape {spec.shape} must have length 3")
            rest.append(tuple(shape))
        if rest[0] != rest[1]:
            raise fail(node, f"vectors of shapes {ins[0].shape} and {ins[1].shape} do not fit")
        out = list(rest[0])
        out.insert(normalize_axis(node, node.params.axisc, len(out) + 1), 3)
        return [TensorSpec(tuple(out), dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p, dtype = node.params, out_specs[0].dtype
        a, b = (to_float32(x, dtype) for x in ins)
        return [from_float32(np.cross(a, b, p.axisa, p.axisb, p.axisc), dtype)]
