"""Conversion between element types."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import INT32, INT64, DType, DTypeCode
from megengine_lite._core.ir.graph import AnyNode, Node, TensorSpec, Var
from megengine_lite._core.ir.quantize import float_to_int, from_float32, to_float32, wrap_int
from megengine_lite._core.operators.base import ElementwiseOperator, first_input_is_non_negative, register
from megengine_lite._core.operators.checks import check_computable, check_count
from megengine_lite._core.operators.facts import InFiles, InOriginal
from megengine_lite._core.operators.origins import KnownOrigins, NumberOrigins, numbers_of


@register
class TypeCvt(ElementwiseOperator):
    """The same values in another type.

    Floats become integers by truncation towards zero, integers wrap, anything but 0 is True. Real values go to
    quantized types by :func:`quantize`, from one quantized type to another by way of float32. Wide types are converted
    as numpy does it.
    """

    name = "TypeCvt"
    param = params.DTypeTable
    in_files = InFiles(revision=2)
    in_original = InOriginal(has_workspace=False, predicts_results=True)
    element_types = "floats, integers, bool, quantized"

    def is_identity(self, node: Node) -> bool:
        return True

    def makes_non_negative(self, node: Node, is_non_negative: Callable[[Var], bool]) -> bool:
        return first_input_is_non_negative(node, is_non_negative)

    def original_label(self, node: AnyNode) -> str:
        return f"as{node.params.dtype.original_name}"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        dtype = node.params.dtype
        for end in (ins[0].dtype, dtype):
            check_computable(node, end)
        return [TensorSpec(ins[0].shape, dtype)]

    def number_origins(self, node: AnyNode, specs: Sequence[TensorSpec], known: KnownOrigins) -> NumberOrigins:
        numbers = numbers_of(specs[0].shape, 0)
        keeps = specs[0].dtype in (INT32, INT64) and node.params.dtype in (INT32, INT64)
        return numbers if keeps else [[number] for number in numbers]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        x, source, target = ins[0], in_specs[0].dtype, out_specs[0].dtype
        if source == target:
            return [x]
        if source.is_wide or target.is_wide:
            return [_from_or_to_wide(x, source, target)]
        if target.is_float or target.is_quantized:
            return [from_float32(to_float32(x, source), target)]
        if target.code == DTypeCode.BOOL:
            return [to_float32(x, source) != 0 if source.is_float else x != 0]
        if source.is_float or source.is_quantized:
            return [float_to_int(to_float32(x, source), target)]
        return [wrap_int(x, target)]


def _from_or_to_wide(x: np.ndarray, source: DType, target: DType) -> np.ndarray:
    """A conversion of which one end is a type of 64 bits, or uint32."""
    if target.is_quantized or target.code == DTypeCode.BFLOAT16:
        return from_float32(x.astype(np.float32), target)
    if source.is_quantized or source.is_float:
        x = to_float32(x, source)
    result: np.ndarray = x != 0 if target.code == DTypeCode.BOOL else x.astype(target.storage)
    return result
