"""Suppression of boxes that overlap, with the rules of ONNX."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir.dtype import INT32
from megengine_lite._core.ir.graph import AnyNode, DynamicSpec, Spec, TensorSpec
from megengine_lite._core.ir.quantize import to_float32
from megengine_lite._core.operators.base import DynamicOperator, Operator, fail, register
from megengine_lite._core.operators.checks import (
    check_count,
    check_float,
    check_ndim,
    check_shape,
    to_integer,
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
class SuppressedBoxes(Operator):
    """The boxes of each class that overlap too much with none of a higher score, as int32, and how many they are.

    Inputs boxes ``(n, m, 4)``, scores ``(n, classes, m)``, the most boxes for each class, the largest overlap[, the
    least score]; outputs ``(n, classes, most)``, filled up with 0, and ``(n, classes)``.
    """

    name = "SuppressedBoxes"
    in_files = None
    n_outputs = 2
    value_inputs = (2,)
    element_types = "float32"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 4 + node.params.has_scores)
        check_float(node, ins[:2])
        n, m, four = check_ndim(node, ins[0], 3, "the boxes")
        scores = check_ndim(node, ins[1], 3, "the scores")
        if four != 4 or (scores[0], scores[2]) != (n, m):
            raise fail(node, f"scores of shape {scores} do not fit boxes of shape {ins[0].shape}")
        if any(spec.size != 1 for spec in ins[2:]):
            raise fail(node, "the limits must be single numbers")
        most = max(min(to_integer(node, ins[2].value, "the most boxes"), m), 0)
        return [TensorSpec(check_shape(node, (*scores[:2], most)), INT32), TensorSpec(scores[:2], INT32)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        boxes, scores = (to_float32(x, s.dtype) for x, s in zip(ins[:2], in_specs, strict=False))
        overlap, *least = (to_float32(x, s.dtype).reshape(-1)[0] for x, s in zip(ins[3:], in_specs[3:], strict=True))
        found, counts = (np.zeros(spec.shape, np.int32) for spec in out_specs)
        for k, (some, of_classes) in enumerate(zip(boxes, scores, strict=True)):
            corners = _corners(some, node.params.by_center)
            for c, of_class in enumerate(of_classes):
                order = np.argsort(-of_class, kind="stable")
                if least:
                    order = order[of_class[order] > least[0]]
                kept = _kept(corners, order, found.shape[2], overlap)
                found[k, c, : len(kept)], counts[k, c] = kept, len(kept)
        return [found, counts]


@register
class KeptBoxes(DynamicOperator):
    """The outputs of :class:`SuppressedBoxes` as int32 rows of image, class and box."""

    name = "KeptBoxes"
    in_files = None
    dynamic = True
    element_types = "int32"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> Sequence[Spec]:
        check_count(node, ins, 2)
        shape = check_ndim(node, ins[0], 3, "the boxes")
        if ins[1].shape != shape[:2] or not ins[0].dtype == ins[1].dtype == INT32:
            raise fail(node, f"counts {ins[1].shape} do not fit boxes {shape}, both in int32")
        return [DynamicSpec(INT32)]

    def counted_shape(self, ins: Sequence[TensorSpec], count: int) -> tuple[int, ...]:
        return count, 3

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[Spec]
    ) -> list[np.ndarray]:
        boxes, counts = ins
        places = np.repeat(np.arange(counts.size), counts.reshape(-1))
        rows = np.empty((len(places), 3), np.int32)
        np.divmod(places, counts.shape[1], out=(rows[:, 0], rows[:, 1]), casting="same_kind")
        rows[:, 2] = boxes[np.arange(boxes.shape[2]) < counts[..., None]]
        return [rows]
