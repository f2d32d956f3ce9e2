"""Sorting and selection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32, INT32
from megengine_lite._core.ir.graph import AnyNode, DynamicSpec, Spec, TensorSpec
from megengine_lite._core.ir.params import ArgsortOrder, CondTakeMode, TopKMode
from megengine_lite._core.ir.quantize import stored_constant, to_float32
from megengine_lite._core.operators.base import DynamicOperator, Operator, fail, register
from megengine_lite._core.operators.checks import check_count, check_ndim, to_integer
from megengine_lite._core.operators.facts import IMAGE, MATRIX, InFiles, InOriginal


def _order(x: np.ndarray, spec: TensorSpec, descending: bool) -> np.ndarray:
    """Indexes that sort each row; equal elements keep their order, or are reversed with the rest if descending."""
    keys = to_float32(x, spec.dtype) if spec.dtype.is_float else x
    order = np.argsort(keys, axis=1, kind="stable").astype(np.int32)
    return order[:, ::-1] if descending else order


@register
class Argsort(Operator):
    """Rows in ascending or descending order, with the indexes that the elements had."""

    name = "Argsort"
    param = params.Argsort
    in_original = InOriginal(type="ArgsortForward")
    n_outputs = 2
    sample_inputs = (MATRIX,)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        shape = check_ndim(node, ins[0], 2, "the input")
        if node.params.order not in (ArgsortOrder.ASCENDING, ArgsortOrder.DESCENDING):
            raise fail(node, f"order {node.params.order} is not known")
        return [TensorSpec(shape, ins[0].dtype), TensorSpec(shape, INT32)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        order = _order(ins[0], in_specs[0], node.params.order == ArgsortOrder.DESCENDING)
        return [np.take_along_axis(ins[0], order, 1), order]


@register
class TopK(Operator):
    """The k smallest elements of each row, or the -k largest if k is negative; or only the last of these.

    Elements come sorted, also where the mode leaves the order open.
    """

    name = "TopK"
    param = params.TopK
    value_inputs = (1,)
    in_original = InOriginal(reads_when_run=True)
    sample_inputs = (MATRIX, [1])

    def count_outputs(self, params: Any, n_inputs: int, payload: tuple[bytes, ...] = ()) -> int:
        return 1 if type(params) is self.param and params.mode == TopKMode.KTH_ONLY else 2

    def hidden_outputs(self, node: AnyNode) -> tuple[int, int]:
        return 0, 3 - len(node.outputs)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        rows, length = check_ndim(node, ins[0], 2, "the data")
        k = to_integer(node, ins[1].value, "k")
        if k == 0 or length == 0:
            raise fail(node, f"cannot take {k} elements from rows of {length}")
        dtype, mode = ins[0].dtype, node.params.mode
        if mode == TopKMode.KTH_ONLY:
            return [TensorSpec((rows,), dtype)]
        if mode not in (TopKMode.VALUE_IDX_NOSORT, TopKMode.VALUE_IDX_SORTED):
            raise fail(node, f"mode {mode} is not known")
        shape = (rows, min(abs(k), length))
        return [TensorSpec(shape, dtype), TensorSpec(shape, INT32)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        k = to_integer(node, ins[1], "k")
        order = _order(ins[0], in_specs[0], k < 0)[:, : abs(k)]
        values = np.take_along_axis(ins[0], order, 1)
        if node.params.mode == TopKMode.KTH_ONLY:
            return [values[:, -1]]
        return [values, order]


_COMPARISONS: dict[int, Callable[[np.ndarray, np.ndarray, np.float32], np.ndarray]] = {
    CondTakeMode.EQ: lambda mask, value, eps: _equal(mask, value, eps),
    CondTakeMode.NEQ: lambda mask, value, eps: ~_equal(mask, value, eps),
    CondTakeMode.LT: lambda mask, value, eps: mask < value,
    CondTakeMode.LEQ: lambda mask, value, eps: mask <= value,
    CondTakeMode.GT: lambda mask, value, eps: mask > value,
    CondTakeMode.GEQ: lambda mask, value, eps: mask >= value,
}


def _equal(mask: np.ndarray, value: np.ndarray, eps: np.float32) -> np.ndarray:
    result: np.ndarray = np.abs(mask - value) < eps if mask.dtype.kind == "f" else mask == value
    return result


@register
class CondTake(DynamicOperator):
    """The elements whose mask compares true with a constant, and their positions in the flattened data."""

    name = "CondTake"
    param = params.CondTake
    dynamic = True
    n_outputs = 2
    sample_inputs = (IMAGE, IMAGE)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> Sequence[DynamicSpec]:
        check_count(node, ins, 2)
        data, mask = ins
        if data.shape != mask.shape:
            raise fail(node, f"data of shape {data.shape} and mask of shape {mask.shape} must have one shape")
        if node.params.mode not in _COMPARISONS:
            raise fail(node, f"mode {node.params.mode} is not known")
        if mask.dtype.is_quantized:
            raise fail(node, f"the mask cannot be {mask.dtype}")
        return [DynamicSpec(data.dtype), DynamicSpec(INT32)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[Spec]
    ) -> list[np.ndarray]:
        data, mask = ins[0].reshape(-1), ins[1].reshape(-1)
        p, dtype = node.params, in_specs[1].dtype
        if dtype.is_float:
            mask = to_float32(mask, dtype)
        value = stored_constant(p.val, FLOAT32 if dtype.is_float else dtype)
        taken = np.flatnonzero(_COMPARISONS[p.mode](mask, value, np.float32(p.eps)))
        return [data[taken], taken.astype(np.int32)]


@register
class NonZero(DynamicOperator):
    """Positions of the elements that are not zero, as int32 [dimensions, count]."""

    name = "NonZero"
    param = params.Empty
    in_files = InFiles(released=False)
    dynamic = True
    sample_inputs = (IMAGE,)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> Sequence[DynamicSpec]:
        check_count(node, ins, 1)
        return [DynamicSpec(INT32)]

    def counted_shape(self, ins: Sequence[TensorSpec], count: int) -> tuple[int, ...]:
        return len(ins[0].shape), count

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[Spec]
    ) -> list[np.ndarray]:
        dtype = in_specs[0].dtype
        x = to_float32(ins[0], dtype) if dtype.is_float or dtype.is_quantized else ins[0]
        return [np.stack(np.nonzero(x)).astype(np.int32)]
