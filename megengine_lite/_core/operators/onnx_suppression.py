"""Suppression of boxes that overlap, with the rules of ONNX."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir.dtype import INT32
from megengine_lite._core.ir.graph import AnyNode, DynamicSpec, Spec, TensorSpec
from megengine_lite._core.ir.quantize import to_float32
from megengine_lite._core.operators.base import DynamicOperator, fail, register
from megengine_lite._core.operators.checks import (
    check_count,
    check_float,
    check_ndim,
)


def _corners(boxes: np.ndarray, by_center: bool) -> np.ndarray:
    """Boxes ``(n, 4)`` as ``(2, 2, n)``: lower and upper corner, each in two coordinates."""
    if by_center:
        half = boxes[:, 2:] / 2
        return np.stack([boxes[:, :2] - half, boxes[:, :2] + half]).swapaxes(1, 2)
    pairs = np.stack([boxes[:, :2], boxes[:, 2:]])
    return np.sort(pairs, 0).swapaxes(1, 2)


def _kept(corners: np.ndarray, order: np.ndarray, limit: int, threshold: np.float32) -> list[int]:
    """The boxes of an order that overlap too much with none kept before them, up to a limit."""
    low, high = corners[:, :, order]
    area = (high - low).prod(0)
    alive = np.ones(len(order), np.bool_)
    kept: list[int] = []
    for k, box in enumerate(order):
        if len(kept) >= limit:
            break
        if not alive[k]:
            continue
        kept.append(int(box))
        rest = slice(k + 1, None)
        sides = np.minimum(high[:, [k]], high[:, rest]) - np.maximum(low[:, [k]], low[:, rest])
        shared = np.where((sides > 0).all(0), sides.prod(0), 0)
        whole = area[k] + area[rest] - shared
        counts = (shared > 0) & (area[k] > 0) & (area[rest] > 0) & (whole > 0)
        alive[rest] &= ~(counts & (shared / whole > threshold))
    return kept


@register
class OnnxNonMaxSuppression(DynamicOperator):
    """The boxes that are kept, as int32 rows of image, class and box.

    Inputs boxes ``(n, m, 4)``, scores ``(n, classes, m)``, the most boxes for each class, the largest overlap[, the
    least score].
    """

    name = "OnnxNonMaxSuppression"
    in_files = None
    dynamic = True
    element_types = "float32"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> Sequence[Spec]:
        check_count(node, ins, 4 + node.params.has_scores)
        check_float(node, ins[:2])
        n, m, four = check_ndim(node, ins[0], 3, "the boxes")
        scores = check_ndim(node, ins[1], 3, "the scores")
        if four != 4 or (scores[0], scores[2]) != (n, m):
            raise fail(node, f"scores of shape {scores} do not fit boxes of shape {ins[0].shape}")
        if any(spec.size != 1 for spec in ins[2:]):
            raise fail(node, "the limits must be single numbers")
        return [DynamicSpec(INT32)]

    def counted_shape(self, ins: Sequence[TensorSpec], count: int) -> tuple[int, ...]:
        return count, 3

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[Spec]
    ) -> list[np.ndarray]:
        boxes, scores, *limits = (to_float32(x, s.dtype) for x, s in zip(ins, in_specs, strict=True))
        most, overlap, *least = (x.reshape(-1)[0] for x in limits)
        rows: list[tuple[int, int, int]] = []
        for k, (some, of_classes) in enumerate(zip(boxes, scores, strict=True)):
            corners = _corners(some, node.params.by_center)
            for c, of_class in enumerate(of_classes):
                order = np.argsort(-of_class, kind="stable")
                if least:
                    order = order[of_class[order] > least[0]]
                rows += ((k, c, box) for box in _kept(corners, order, int(most), overlap))
        return [np.array(rows, np.int32).reshape(-1, 3)]
