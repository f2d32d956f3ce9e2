"""Softmax, computed in double precision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.quantize import from_float32, to_float64
from megengine_lite._core.operators.base import Operator, normalize_axis, register
from megengine_lite._core.operators.checks import check_count, check_float
from megengine_lite._core.operators.facts import IMAGE, InFiles, InOriginal
from megengine_lite._core.operators.samples import along_axis


@register
class Softmax(Operator):
    """Exponentials divided by their sum along an axis."""

    name = "Softmax"
    param = params.Softmax
    in_files = InFiles(record_version=2)
    in_original = InOriginal(type="SoftmaxForward")
    runs_in_float32 = True
    sample_inputs = (IMAGE,)
    has_shape_of = slice(1)
    keeps_samples = along_axis

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        normalize_axis(node, node.params.axis, len(ins[0].shape))
        return [TensorSpec(ins[0].shape, check_float(node, ins))]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        dtype = in_specs[0].dtype
        y = softmax(to_float64(ins[0], dtype), node.params.axis)
        return [from_float32(y.astype(np.float32), dtype)]


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """Softmax of floats along an axis."""
    weights = np.exp(x - x.max(axis, keepdims=True, initial=-np.inf))
    result: np.ndarray = weights / weights.sum(axis, keepdims=True)
    return result
