"""Losses of ONNX, which models that are trained elsewhere may still have as outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.quantize import from_float32, to_float32
from megengine_lite._core.operators.base import Operator, fail, register
from megengine_lite._core.operators.checks import check_count, check_float, check_index_dtype, index_error
from megengine_lite._records import record


@record(frozen=True, slots=True)
class Likelihood:
    """Parameters of :class:`LikelihoodLoss`.

    Attributes
    ----------
    reduction
        ``none`` gives the loss of each place, ``sum`` and ``mean`` one number. A mean is that of weighted losses.
    ignored
        A class that does not count; None if all do.
    """

    reduction: str
    ignored: int | None


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
        dtype = check_float(node, [ins[0], *ins[2:]])
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
        logs = to_float32(ins[0], in_specs[0].dtype)
        right = ins[1]
        counts = np.ones(right.shape, np.bool_) if p.ignored is None else right != p.ignored
        classes = np.where(counts, right, 0)
        if classes.size and not (classes.min() >= 0 and classes.max() < logs.shape[1]):
            raise index_error(node, f"a class is out of range, there are {logs.shape[1]}")
        weights = counts.astype(np.float32)
        if len(ins) == 3:
            weights *= to_float32(ins[2], in_specs[2].dtype)[classes]
        found = np.take_along_axis(logs, np.expand_dims(classes, 1), 1)[:, 0]
        losses = np.where(counts, -found * weights, np.float32(0))
        if p.reduction != "none":
            total = losses.sum(dtype=np.float32)
            losses = np.reshape(total if p.reduction == "sum" else total / weights.sum(dtype=np.float32), 1)
        return [from_float32(losses, out_specs[0].dtype)]
