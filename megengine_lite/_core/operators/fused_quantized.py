"""Definitions of the operators that ``passes/fuse_quantized.py`` makes, by the operators that they replace."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from megengine_lite._core.ir.dtype import FLOAT32, DType, DTypeCode
from megengine_lite._core.ir.fused import Activation, FunctionOfOne
from megengine_lite._core.ir.fused_quantized import QuantizedConv, QuantizedMatMul
from megengine_lite._core.ir.graph import AnyNode, Node, TensorSpec, Var
from megengine_lite._core.ir.params import DTypeTable, Elemwise, ElemwiseMode, ElemwiseMultiType, ElemwiseMultiTypeMode
from megengine_lite._core.ir.quantize import from_float32, to_float32
from megengine_lite._core.operators.base import Operator, register
from megengine_lite._core.operators.conv_types import product_scale
from megengine_lite._core.operators.convolution import NON_NEGATIVE
from megengine_lite._core.operators.facts import InOriginal
from megengine_lite._core.operators.fused import activated, value_of
from megengine_lite._core.operators.matmul import multiply
from megengine_lite._core.operators.registry import REGISTRY


class _Chain:
    """Computes operators one after the other."""

    def __init__(self, name: str):
        self.name = name

    def run(
        self, op: str, params: object, ins: Sequence[np.ndarray], specs: Sequence[TensorSpec], dtype: DType
    ) -> tuple[np.ndarray, TensorSpec]:
        node = Node(op, params, (), (), self.name, dtype)
        (out,) = (s for s in REGISTRY[op].infer(node, specs) if isinstance(s, TensorSpec))
        return REGISTRY[op].compute(node, ins, specs, [out])[0], out

    def convert(self, x: np.ndarray, spec: TensorSpec, dtype: DType) -> tuple[np.ndarray, TensorSpec]:
        if spec.dtype == dtype:
            return x, spec
        return self.run("TypeCvt", DTypeTable(dtype=dtype), [x], [spec], dtype)

    @staticmethod
    def sums(x: TensorSpec, w: TensorSpec) -> DType:
        """The type of plain sums of products."""
        return DType(DTypeCode.QUANTIZED_S32, product_scale(x.dtype, w.dtype))

    @staticmethod
    def real(
        sums: np.ndarray,
        dtype: DType,
        scales: np.ndarray | None,
        addends: Sequence[np.ndarray],
        activation: Activation,
        shape: tuple[int, ...],
        out: DType,
    ) -> np.ndarray:
        """Sums of products as real numbers, with what is added to them and an activation, in the type ``out``.

        Scales and addends that are no tensors of full size have ``shape``.
        """
        scale = np.float32(dtype.scale)
        factor = scale if scales is None else (scale * scales).reshape(shape)
        y = sums.astype(np.float32) * factor
        for addend in addends:
            y = y + (addend if addend.shape == y.shape else addend.reshape(shape))
        return from_float32(activated(activation, y, TensorSpec(y.shape, FLOAT32)), out)


@register
class QuantizedConvOperator(Operator):
    """Conversion, convolution, addition and conversion."""

    name = "QuantizedConv"
    in_files = None
    in_original = InOriginal(type="ConvBiasForward")

    def makes_non_negative(self, node: Node, is_non_negative: Callable[[Var], bool]) -> bool:
        p: QuantizedConv = node.params
        if p.add is not None:
            return p.add == ElemwiseMultiTypeMode.QFUSE_ADD_RELU
        return p.conv.nonlineMode in NON_NEGATIVE or p.activation.is_non_negative

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p: QuantizedConv = node.params
        chain = _Chain(node.name)
        x, x_spec = chain.convert(ins[0], in_specs[0], p.input_dtype)
        operands, specs = [x, *ins[1:]], [x_spec, *in_specs[1:]]
        scales = operands.pop() if p.has_scales else None
        added = [(operands.pop(), specs.pop())] if p.add is not None else []
        if p.is_real:
            dtype = chain.sums(*specs[:2])
            sums, _ = chain.run("ConvBiasForward", p.conv, operands[:2], specs[:2], dtype)
            more = [to_float32(v, s.dtype) for v, s in zip(operands[2:], specs[2:], strict=False)]
            y = chain.real(sums, dtype, scales, more, p.activation, (1, -1, 1, 1), p.conv_dtype)
            spec = TensorSpec(y.shape, p.conv_dtype)
        else:
            y, spec = chain.run("ConvBiasForward", p.conv, operands, specs, p.conv_dtype)
        for z, z_spec in added:
            assert p.add is not None
            mode = ElemwiseMultiType(mode=p.add)
            y, spec = chain.run("ElemwiseMultiType", mode, [y, z], [spec, z_spec], out_specs[0].dtype)
        return [chain.convert(y, spec, out_specs[0].dtype)[0]]


@register
class QuantizedMatMulOperator(Operator):
    """Product, bias and conversion."""

    name = "QuantizedMatMul"
    in_files = None
    in_original = InOriginal(type="MatrixMul")

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p: QuantizedMatMul = node.params
        chain = _Chain(node.name)
        if p.is_real:
            turned = (p.matmul.transposeA, p.matmul.transposeB)
            a, b = (x.swapaxes(-1, -2) if t else x for x, t in zip(ins[:2], turned, strict=True))
            dtype = chain.sums(*in_specs[:2])
            sums = multiply(a, b, in_specs, dtype)
            more = [ins[2]] if p.has_bias else []
            scales = ins[-1] if p.has_scales else None
            return [chain.real(sums, dtype, scales, more, p.activation, (-1,), out_specs[0].dtype)]
        y, spec = chain.run("MatrixMul", p.matmul, ins[:2], in_specs[:2], p.product_dtype)
        if p.has_bias:
            operands, specs = [y, ins[2].reshape(1, -1)], [spec, TensorSpec((1, y.shape[1]), spec.dtype)]
            y, spec = chain.run("Elemwise", Elemwise(mode=ElemwiseMode.ADD), operands, specs, spec.dtype)
        return [chain.convert(y, spec, out_specs[0].dtype)[0]]


@register
class QuantizedFunctionOperator(Operator):
    """Conversion to real numbers, elementwise functions, and conversion."""

    name = "QuantizedFunction"
    in_files = None
    in_original = InOriginal(type="Elemwise")

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p: FunctionOfOne = node.params
        return [from_float32(value_of(p, to_float32(ins[0], in_specs[0].dtype)), out_specs[0].dtype)]
