"""Parts of sequences that change places: reversed ones, and updates of a cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.operators.base import Operator, fail, normalize_axis, register
from megengine_lite._core.operators.checks import (
    check_count,
    check_index_dtype,
    common_dtype,
    index_error,
)


@register
class ReverseSequence(Operator):
    """Data in which the first elements of each sequence are turned around; inputs data, how many of each."""

    name = "ReverseSequence"
    in_files = None
    element_types = "floats, integers, bool, quantized"
    has_shape_of = slice(1)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        p, shape = node.params, ins[0].shape
        check_index_dtype(node, ins[1], "the lengths")
        if len(shape) < 2 or {p.batch, p.time} != {0, 1} or ins[1].shape != (shape[p.batch],):
            raise fail(node, f"lengths of shape {ins[1].shape} do not fit data of shape {shape}")
        return [TensorSpec(shape, ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        batch_first = ins[0] if node.params.batch == 0 else ins[0].swapaxes(0, 1)
        count = batch_first.shape[1]
        lengths = ins[1].astype(np.int64)[:, None]
        if lengths.size and not (lengths.min() >= 0 and lengths.max() <= count):
            raise index_error(node, f"lengths from {lengths.min()} to {lengths.max()} do not fit {count} elements")
        places = np.arange(count)
        places = np.where(places < lengths, lengths - 1 - places, places)
        turned = batch_first[np.arange(len(batch_first))[:, None], places]
        return [np.ascontiguousarray(turned if node.params.batch == 0 else turned.swapaxes(0, 1))]


@register
class TensorScatter(Operator):
    """A copy of a cache with an update written into it; inputs cache, update[, where it begins in each sample]."""

    name = "TensorScatter"
    in_files = None
    element_types = "floats, integers, bool, quantized"

    @staticmethod
    def _axis(node: AnyNode, shape: tuple[int, ...]) -> int:
        axis = normalize_axis(node, node.params.axis, len(shape))
        if axis == 0:
            raise fail(node, "axis 0 has the samples, it cannot be written along")
        return axis

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2, 3)
        cache, update = ins[0].shape, ins[1].shape
        axis = self._axis(node, cache)
        fits = len(cache) == len(update) and update[axis] <= cache[axis]
        if not fits or any(a != b and k != axis for k, (a, b) in enumerate(zip(cache, update, strict=True))):
            raise fail(node, f"an update of shape {update} does not fit a cache of shape {cache} along axis {axis}")
        if len(ins) == 3:
            check_index_dtype(node, ins[2], "the beginnings")
            if ins[2].shape != (cache[0],):
                raise fail(node, f"beginnings of shape {ins[2].shape} do not fit {cache[0]} samples")
        return [TensorSpec(cache, common_dtype(node, ins[:2]))]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        out, axis = ins[0].copy(), self._axis(node, ins[0].shape)
        length, count = out.shape[axis], ins[1].shape[axis]
        begins = ins[2].astype(np.int64) if len(ins) == 3 else np.zeros(len(out), np.int64)
        for sample, update, begin in zip(out, ins[1], begins, strict=True):
            places = begin + np.arange(count)
            if node.params.circular:
                places %= max(length, 1)
            elif count and not (begin >= 0 and begin + count <= length):
                raise index_error(node, f"{count} elements from {begin} on do not fit a cache of {length}")
            np.moveaxis(sample, axis - 1, 0)[places] = np.moveaxis(update, axis - 1, 0)
        return [out]
