"""Losses of ONNX, which models that are trained elsewhere may still have as outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir.dtype import FLOAT64
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.onnx_params import Likelihood
from megengine_lite._core.ir.quantize import from_float32, to_float32
from megengine_lite._core.operators.base import Operator, fail, register
from megengine_lite._core.operators.checks import check_count, check_index_dtype, common_dtype, index_error


@register
class LikelihoodLoss(Operator):
    """Minus the log-probabilities of the right classes.

    Inputs are log-probabilities ``(n, classes, ...)``, the right classes ``(n, ...)``[, weights of the classes].
    """

    name = "LikelihoodLoss"
    in_files = None
    element_types = "floats"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2, 3)
        dtype = common_dtype(node, [ins[0], *ins[2:]])
        if not dtype.is_float and dtype != FLOAT64:
            raise fail(node, f"works on floats, not on {dtype}")
        check_index_dtype(node, ins[1], "the right classes")
        shape = ins[0].shape
        if len(shape) < 2 or ins[1].shape != (shape[0], *shape[2:]):
            raise fail(node, f"classes of shape {ins[1].shape} do not fit log-probabilities of shape {shape}")
        if len(ins) == 3 and ins[2].shape != (shape[1],):
            raise fail(node, f"weights of shape {ins[2].shape} do not fit {shape[1]} classes")
        return [TensorSpec(ins[1].shape if node.params.reduction == "none" else (1,), dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p: Likelihood = node.params
        dtype = out_specs[0].dtype
        logs, *weights_of = (to_float32(x, dtype) if dtype.is_float else x for x in (ins[0], *ins[2:]))
        right = ins[1]
        counts = np.ones(right.shape, np.bool_) if p.ignored is None else right != p.ignored
        classes = np.where(counts, right, 0)
        if classes.size and not (classes.min() >= 0 and classes.max() < logs.shape[1]):
            raise index_error(node, f"a class is out of range, there are {logs.shape[1]}")
        weights = counts.astype(logs.dtype)
        if weights_of:
            weights *= weights_of[0][classes]
        found = np.take_along_axis(logs, np.expand_dims(classes, 1), 1)[:, 0]
        losses = np.where(counts, -found * weights, logs.dtype.type(0))
        if p.reduction != "none":
            total = losses.sum()
            losses = np.reshape(total if p.reduction == "sum" else total / weights.sum(), 1)
        return [from_float32(losses, dtype) if dtype.is_float else losses]
