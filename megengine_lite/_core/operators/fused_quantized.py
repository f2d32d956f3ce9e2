"""Definitions of the operators that ``passes/fuse_quantized.py`` makes, by the operators that they replace."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.ir.fused_quantized import QuantizedConv, QuantizedMatMul
from megengine_lite._core.ir.graph import AnyNode, Node, TensorSpec, Var
from megengine_lite._core.ir.params import DTypeTable, Elemwise, ElemwiseMode, ElemwiseMultiType, ElemwiseMultiTypeMode
from megengine_lite._core.operators.base import REGISTRY, Operator, register
from megengine_lite._core.operators.convolution import NON_NEGATIVE
from megengine_lite._core.operators.facts import InOriginal


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
        return p.conv.nonlineMode in NON_NEGATIVE

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p: QuantizedConv = node.params
        chain = _Chain(node.name)
        x, x_spec = chain.convert(ins[0], in_specs[0], p.input_dtype)
        operands, specs = [x, *ins[1:]], [x_spec, *in_specs[1:]]
        added = [(operands.pop(), specs.pop())] if p.add is not None else []
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
        y, spec = chain.run("MatrixMul", p.matmul, ins[:2], in_specs[:2], p.product_dtype)
        if p.has_bias:
            operands, specs = [y, ins[2].reshape(1, -1)], [spec, TensorSpec((1, y.shape[1]), spec.dtype)]
            y, spec = chain.run("Elemwise", Elemwise(mode=ElemwiseMode.ADD), operands, specs, spec.dtype)
        return [chain.convert(y, spec, out_specs[0].dtype)[0]]
