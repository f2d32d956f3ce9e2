"""Gathering and scattering with the rules of ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.operators.base import Operator, fail, normalize_axis, register
from megengine_lite._core.operators.checks import (
    check_count,
    check_index_dtype,
    check_shape,
    common_dtype,
    index_error,
)


def _positions(node: AnyNode, index: np.ndarray, extent: int) -> np.ndarray:
    """Indexes counted from the front."""
    index = index.astype(np.int64, copy=False)
    if index.size and not (-extent <= index.min() and index.max() < extent):
        raise index_error(node, f"an index from {index.min()} to {index.max()} is out of range for {extent} elements")
    return np.where(index < 0, index + extent, index)


def _grid(node: AnyNode, index: np.ndarray, data: tuple[int, ...], axis: int) -> tuple[np.ndarray, ...]:
    """For each element of ``index`` its place in the data, of which one coordinate is the index itself."""
    return tuple(
        _positions(node, index, data[axis]) if k == axis else np.arange(n).reshape(n, *[1] * (index.ndim - k - 1))
        for k, n in enumerate(index.shape)
    )


class _Indexed(Operator):
    """Base of operators whose second input is an index."""

    def index_inputs(self, node: AnyNode) -> tuple[int, ...]:
        return (1,)


class _IndexedElements(_Indexed):
    """Base of operators whose index has as many dimensions as the data."""

    in_files = None
    element_types = "floats, integers, bool, quantized"

    @staticmethod
    def check(node: AnyNode, ins: Sequence[TensorSpec]) -> int:
        """The axis; raises if the index does not fit."""
        data, index = ins[0].shape, ins[1].shape
        axis = normalize_axis(node, node.params.axis, len(data))
        check_index_dtype(node, ins[1], "the index")
        fits = len(index) == len(data) and all(
            i <= d or k == axis for k, (i, d) in enumerate(zip(index, data, strict=True))
        )
        if not fits:
            raise fail(node, f"an index of shape {index} does not fit data of shape {data} along axis {axis}")
        return axis


@register
class GatherElements(_IndexedElements):
    """Elements at an index along an axis; inputs data, index."""

    name = "GatherElements"
    reads_part = True
    elements_of = slice(1)
    has_shape_of = slice(1, 2)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        self.check(node, ins)
        return [TensorSpec(ins[1].shape, ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        axis = self.check(node, in_specs)
        return [ins[0][_grid(node, ins[1], ins[0].shape, axis)]]


_COMBINE: dict[str, Callable[..., Any]] = {
    "add": np.add.at,
    "mul": np.multiply.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
}


def _scatter(node: AnyNode, data: np.ndarray, places: tuple[Any, ...], updates: np.ndarray) -> np.ndarray:
    out = data.copy()
    reduction = node.params.reduction
    if reduction == "none":
        out[places] = updates
    elif out.dtype == np.bool_:
        combine = np.logical_or.at if reduction in ("add", "max") else np.logical_and.at
        combine(out, places, updates)
    else:
        _COMBINE[reduction](out, places, updates)
    return out


class _Scatter(_Indexed):
    """Base of operators that give a copy of the data with updates at an index; inputs data, index, updates."""

    in_files = None
    element_types = "floats, integers, bool, quantized"
    has_shape_of = slice(1)

    def check_index(self, node: AnyNode, ins: Sequence[TensorSpec]) -> None:
        """Raises if index and updates do not fit the data."""
        raise NotImplementedError

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 3)
        reduction = node.params.reduction
        if reduction != "none" and reduction not in _COMBINE:
            raise fail(node, f"the reduction {reduction!r} is not known; there are none, {', '.join(_COMBINE)}")
        self.check_index(node, ins)
        return [TensorSpec(ins[0].shape, common_dtype(node, (ins[0], ins[2])))]


@register
class ScatterElements(_Scatter, _IndexedElements):
    """A copy of the data with elements at an index along an axis replaced or combined; inputs data, index, updates."""

    name = "ScatterElements"

    def check_index(self, node: AnyNode, ins: Sequence[TensorSpec]) -> None:
        self.check(node, ins)
        if ins[1].shape != ins[2].shape:
            raise fail(node, f"an index of shape {ins[1].shape} does not fit updates of shape {ins[2].shape}")

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        axis = self.check(node, in_specs)
        return [_scatter(node, ins[0], _grid(node, ins[1], ins[0].shape, axis), ins[2])]


@register
class GatherND(_Indexed):
    """Slices of the data at tuples of indexes, which stand along the last axis; inputs data, index."""

    name = "GatherND"
    reads_part = True
    elements_of = slice(1)
    in_files = None
    element_types = "floats, integers, bool, quantized"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        data, index, batch = ins[0].shape, ins[1].shape, node.params.batch_dims
        check_index_dtype(node, ins[1], "the index")
        depth = index[-1]
        if batch >= len(index) or batch + depth > len(data) or data[:batch] != index[:batch] or depth < 1:
            raise fail(node, f"an index of shape {index} does not fit data of shape {data}")
        return [TensorSpec(check_shape(node, (*index[:-1], *data[batch + depth :]) or (1,)), ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        data, index, batch = ins[0], ins[1], node.params.batch_dims
        places = _tuples(node, index, data.shape[batch:])
        lead = np.indices(index.shape[:batch] + (1,) * (index.ndim - 1 - batch), sparse=True)[:batch]
        return [data[(*lead, *places)].reshape(out_specs[0].shape)]


def _tuples(node: AnyNode, index: np.ndarray, data: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """The coordinates that stand along the last axis of an index, one array for each."""
    return tuple(_positions(node, index[..., k], data[k]) for k in range(index.shape[-1]))


@register
class ScatterND(_Scatter):
    """A copy of the data with slices at tuples of indexes replaced or combined; inputs data, index, updates."""

    name = "ScatterND"

    def check_index(self, node: AnyNode, ins: Sequence[TensorSpec]) -> None:
        data, index, updates = (s.shape for s in ins)
        check_index_dtype(node, ins[1], "the index")
        depth = index[-1]
        if depth > len(data) or updates != ((*index[:-1], *data[depth:]) or (1,)):
            raise fail(node, f"an index of shape {index} does not fit data of shape {data} and updates of {updates}")

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        places = _tuples(node, ins[1], ins[0].shape)
        return [
            _scatter(node, ins[0], places or (...,), ins[2].reshape(ins[1].shape[:-1] + ins[0].shape[len(places) :]))
        ]
