"""Elementwise operators whose inputs have one type, and a few relatives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import BOOL, DType, DTypeCode
from megengine_lite._core.ir.graph import AnyNode, AnyVar, TensorSpec
from megengine_lite._core.ir.params import ElemwiseMode
from megengine_lite._core.ir.quantize import from_float32, stored_constant, to_float32
from megengine_lite._core.operators.base import ElementwiseOperator, Operator, broadcast_shapes, fail, register
from megengine_lite._core.operators.checks import check_count, common_dtype
from megengine_lite._core.operators.elemwise_functions import FUNCTIONS
from megengine_lite._core.operators.facts import FILTER, IMAGE, MASK, MATRIX, InFiles, InOriginal
from megengine_lite._core.operators.origins import (
    KnownOrigins,
    Multiple,
    Number,
    NumberOrigins,
    Origin,
    aligned_numbers,
)
from megengine_lite._core.operators.power import constant_exponent, constant_power

# On quantized numbers of one type these are plain integer arithmetic.
_QUANTIZED_MODES = frozenset(
    (
        ElemwiseMode.ADD,
        ElemwiseMode.SUB,
        ElemwiseMode.NEGATE,
        ElemwiseMode.RELU,
        ElemwiseMode.MAX,
        ElemwiseMode.MIN,
    )
)


def _kind(dtype: DType) -> str:
    """Which of the kinds of :class:`Function` a type is of."""
    if dtype.is_float:
        return "f"
    kind = dtype.storage.kind
    return "i" if kind == "u" else kind


@register
class Elemwise(ElementwiseOperator):
    """A function of one to four inputs of one type that broadcast together; the output has that type too."""

    name = "Elemwise"
    param = params.Elemwise
    in_original = InOriginal(has_workspace=False, predicts_results=True)
    runs_in_float32 = True
    sample_inputs = (IMAGE,)

    def original_label(self, node: AnyNode) -> str:
        return ElemwiseMode(node.params.mode).name

    def divisor(self, node: AnyNode) -> AnyVar | None:
        return node.inputs[1] if node.params.mode in (ElemwiseMode.FLOOR_DIV, ElemwiseMode.MOD) else None

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        mode = node.params.mode
        function = FUNCTIONS.get(mode)
        if function is None:
            raise fail(node, f"mode {mode} is not known")
        label = ElemwiseMode(mode).name
        if len(ins) != function.arity:
            raise fail(node, f"mode {label} needs {function.arity} inputs, has {len(ins)}")
        dtype = common_dtype(node, ins)
        allowed = mode in _QUANTIZED_MODES if dtype.is_quantized else _kind(dtype) in function.kinds
        if not allowed:
            raise fail(node, f"mode {label} is not defined for {dtype}")
        return [TensorSpec(broadcast_shapes(node, [s.shape for s in ins]), dtype)]

    def number_origins(self, node: AnyNode, specs: Sequence[TensorSpec], known: KnownOrigins) -> NumberOrigins:
        """Of integers, a size times a number that is the same for all sizes is a multiple of that size."""
        found = aligned_numbers([s.shape for s in specs], range(len(specs)))
        if node.params.mode != ElemwiseMode.MUL or specs[0].dtype.code not in (DTypeCode.INT32, DTypeCode.INT64):
            return found
        return [_multiple(of, specs, known) or of for of in found]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        call = FUNCTIONS[node.params.mode].call
        dtype = in_specs[0].dtype
        if not dtype.is_float:
            return [call(*ins)]
        real = [to_float32(x, dtype) for x in ins]
        exponent = constant_exponent(node)
        return [from_float32(call(*real) if exponent is None else constant_power(real[0], exponent), dtype)]


def _multiple(of: Origin | list[Origin], specs: Sequence[TensorSpec], known: KnownOrigins) -> Multiple | None:
    """A product of two numbers, if it is one."""
    if isinstance(of, list):
        for size, number in (of, of[::-1]):
            value = specs[number.input].value
            if isinstance(number, Number) and value is not None and known.is_size(size) and known.is_fixed(number):
                factor = int(value.reshape(-1)[number.place])
                return Multiple(size, factor) if factor > 0 else None
    return None


@register
class PowC(ElementwiseOperator):
    """Power with a constant exponent; of negative numbers, too."""

    name = "PowC"
    param = params.PowC
    in_original = InOriginal(predicts_results=True)
    runs_in_float32 = True
    sample_inputs = (IMAGE,)

    def original_label(self, node: AnyNode) -> str:
        return f"powc_{node.params.exp:g}"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        dtype = ins[0].dtype
        if dtype.is_quantized or dtype.code == DTypeCode.BOOL:
            raise fail(node, f"is not defined for {dtype}")
        return [TensorSpec(ins[0].shape, dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        dtype, exponent = in_specs[0].dtype, np.float32(node.params.exp)
        if dtype.is_float:
            return [from_float32(constant_power(to_float32(ins[0], dtype), float(exponent)), dtype)]
        return [np.power(ins[0].astype(np.float64), exponent).astype(dtype.storage)]


@register
class Where(ElementwiseOperator):
    """Elements of x where the mask is set, of y elsewhere; inputs mask (Bool), x, y."""

    name = "Where"
    elements_of = slice(1, 3)
    param = params.Empty
    in_files = InFiles(released=False)
    sample_inputs = (MASK, MATRIX, MATRIX)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 3)
        if ins[0].dtype != BOOL:
            raise fail(node, f"the mask must be bool, is {ins[0].dtype}")
        dtype = common_dtype(node, ins[1:])
        return [TensorSpec(broadcast_shapes(node, [s.shape for s in ins]), dtype)]

    def number_origins(self, node: AnyNode, specs: Sequence[TensorSpec], known: KnownOrigins) -> NumberOrigins:
        """Where the mask is the same for all sizes, a number is a copy of the one that it chooses."""
        found = aligned_numbers([s.shape for s in specs], range(3))
        if specs[0].value is None:
            return found
        chosen = np.broadcast_to(specs[0].value, np.broadcast_shapes(*(s.shape for s in specs))).reshape(-1)
        return [
            (of[1] if mask else of[2]) if isinstance(of, list) and known.is_fixed(of[0]) else of
            for of, mask in zip(found, chosen, strict=True)
        ]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        return [np.where(*ins)]


@register
class MaskedFill(Operator):
    """A constant where the mask is set; the mask's dimensions are the leading ones of the data."""

    name = "MaskedFill"
    param = params.Fill
    in_original = InOriginal(mentioned_inputs=1)
    sample_inputs = (FILTER, MASK)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        data, mask = ins
        if mask.dtype != BOOL:
            raise fail(node, f"the mask must be bool, is {mask.dtype}")
        if data.shape[: len(mask.shape)] != mask.shape:
            raise fail(node, f"the mask's shape {mask.shape} is not the beginning of {data.shape}")
        return [TensorSpec(data.shape, data.dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        data, mask = ins
        mask = mask.reshape(mask.shape + (1,) * (data.ndim - mask.ndim))
        return [np.where(mask, stored_constant(node.params.value, in_specs[0].dtype), data)]
