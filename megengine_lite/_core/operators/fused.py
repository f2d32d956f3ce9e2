"""Definitions of the operators that passes make; no file has them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.fused import ELEMWISE_OF, Activation, ActivationCode, FunctionOfOne, FusedAttention
from megengine_lite._core.ir.graph import AnyNode, Node, Spec, TensorSpec, Var
from megengine_lite._core.ir.params import (
    Convolution,
    ConvolutionMode,
    ConvolutionSparse,
    Elemwise,
    MatrixMul,
    Reduce,
)
from megengine_lite._core.operators.base import Operator, register
from megengine_lite._core.operators.facts import InOriginal
from megengine_lite._core.operators.registry import REGISTRY
from megengine_lite._core.operators.softmax import softmax


def _elemwise(mode: int, operands: Sequence[np.ndarray], spec: TensorSpec) -> np.ndarray:
    specs = [TensorSpec(a.shape, spec.dtype) for a in operands]
    node = Node("Elemwise", Elemwise(mode=mode), (), ())
    shape = np.broadcast_shapes(*(a.shape for a in operands))
    return REGISTRY["Elemwise"].compute(node, operands, specs, [TensorSpec(shape, spec.dtype)])[0]


def activated(act: Activation, y: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """An activation of float32 numbers."""
    if act.code == ActivationCode.NONE:
        return y
    if act.code == ActivationCode.CLIP_NAN:
        clipped: np.ndarray = np.clip(y, np.float32(act.a), np.float32(act.b))
        return clipped
    if act.code in (ActivationCode.CLIP, ActivationCode.CLIP_HIGH):
        of_nan = act.a if act.code == ActivationCode.CLIP else act.b
        return np.clip(np.where(np.isnan(y), np.float32(of_nan), y), np.float32(act.a), np.float32(act.b))
    if act.code == ActivationCode.LEAKY_RELU:
        return np.where(y > 0, y, y * np.float32(act.a))
    return _elemwise(ELEMWISE_OF[act.code], [y], spec)


def value_of(function: FunctionOfOne, x: np.ndarray) -> np.ndarray:
    """A function of float32 numbers, by the definitions of its steps."""
    operands = [x, *(np.full(1, n, np.float32) for n in function.numbers)]
    specs = [TensorSpec(a.shape, FLOAT32) for a in operands]
    chain = Node("FusedElemwise", function.program, (), ())
    return REGISTRY["FusedElemwise"].compute(chain, operands, specs, [specs[0]])[0]


@register
class FusedConvOperator(Operator):
    """Convolution, bias, residual and activation; made by ``passes/fuse_conv.py``."""

    name = "FusedConv"
    in_files = None
    in_original = InOriginal(type="ConvBiasForward")

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> Sequence[Spec]:
        return REGISTRY["Convolution"].infer(self._convolution(node, len(ins[1].shape)), ins[:2])

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p = node.params
        conv = self._convolution(node, ins[1].ndim)
        y = REGISTRY["Convolution"].compute(conv, ins[:2], in_specs[:2], out_specs)[0]
        rest = list(ins[2:])
        if p.has_bias:
            y = y + rest.pop(0).reshape(1, -1, 1, 1)
        if p.has_z:
            y = y + rest.pop(0)
        return [activated(p.activation, y, out_specs[0])]

    @staticmethod
    def _convolution(node: AnyNode, filter_ndim: int) -> AnyNode:
        p = node.params
        params = Convolution(
            mode=ConvolutionMode.CONVOLUTION if p.mirrored else ConvolutionMode.CROSS_CORRELATION,
            pad_h=p.pad_h,
            pad_w=p.pad_w,
            stride_h=p.stride_h,
            stride_w=p.stride_w,
            dilate_h=p.dilate_h,
            dilate_w=p.dilate_w,
            sparse=ConvolutionSparse.DENSE if filter_ndim == 4 else ConvolutionSparse.GROUP,
        )
        return AnyNode("Convolution", params, node.inputs[:2], (), node.name)


@register
class FusedElemwiseOperator(Operator):
    """A chain of elementwise functions; made by ``passes/fuse_elemwise.py``."""

    name = "FusedElemwise"
    in_files = None
    in_original = InOriginal(type="Elemwise")

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        return [TensorSpec(tuple(np.broadcast_shapes(*(s.shape for s in ins))), ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        registers = list(ins)
        for step in node.params.steps:
            registers.append(_elemwise(step.mode, [registers[a] for a in step.args], out_specs[0]))
        return [np.broadcast_to(registers[-1], out_specs[0].shape)]


@register
class ChannelGatherOperator(Operator):
    """Channels picked from tensors of one batch and image size; made by ``passes/gather_channels.py``."""

    name = "ChannelGather"
    in_files = None

    def makes_non_negative(self, node: Node, is_non_negative: Callable[[Var], bool]) -> bool:
        return all(map(is_non_negative, node.inputs))

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        n, _, h, w = ins[0].shape
        return [TensorSpec((n, node.params.channels, h, w), ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        first = np.cumsum([0, *(a.shape[1] for a in ins)])
        order = [first[i] + c for i, c in node.params.sources()]
        return [np.concatenate(ins, axis=1)[:, order]]


@register
class ReduceAxesOperator(Operator):
    """A reduction over several axes; made by ``passes/merge_reductions.py``."""

    name = "ReduceAxes"
    in_files = None
    in_original = InOriginal(type="Reduce")

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        axes = node.params.axes
        shape = tuple(1 if k in axes else d for k, d in enumerate(ins[0].shape))
        return [TensorSpec(shape, ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        y = ins[0]
        for axis in node.params.axes:
            step = Node("Reduce", Reduce(mode=node.params.mode, axis=axis), (), ())
            shape = tuple(1 if k == axis else d for k, d in enumerate(y.shape))
            spec = TensorSpec(y.shape, in_specs[0].dtype)
            y = REGISTRY["Reduce"].compute(step, [y], [spec], [TensorSpec(shape, in_specs[0].dtype)])[0]
        return [y]


@register
class RmsNormOperator(Operator):
    """Division by the root of the mean of squares; made by ``passes/recognise_norms.py``."""

    name = "RmsNorm"
    in_files = None

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        return [TensorSpec(ins[0].shape, ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        x = ins[0].astype(np.float64)
        axes = tuple(range(node.params.first, x.ndim))
        y = x / np.sqrt(np.square(x).mean(axes, keepdims=True) + node.params.eps)
        return [(y * ins[1] if node.params.has_weight else y).astype(np.float32)]


@register
class LogSoftmaxOperator(Operator):
    """Logarithm of the softmax along an axis; made by ``passes/recognise_softmax.py``."""

    name = "LogSoftmax"
    in_files = None

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        return [TensorSpec(ins[0].shape, ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        x, axis = ins[0].astype(np.float64), node.params.axis
        x = x - x.max(axis, keepdims=True)
        return [(x - np.log(np.exp(x).sum(axis, keepdims=True))).astype(np.float32)]


@register
class FusedAttentionOperator(Operator):
    """Attention of many heads; made by ``passes/recognise_attention.py``."""

    name = "FusedAttention"
    in_files = None

    def multiply_adds(self, node: Node) -> int:
        (count, rows, width), (_, columns, _), (_, _, size) = self._sizes(node.params, [v.spec for v in node.inputs])
        return count * rows * columns * (width + size)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        p = node.params
        (count, rows, _), _, (_, _, size) = self._sizes(p, ins)
        if len(p.out_order) == 3:
            return [TensorSpec((count, rows, size), FLOAT32)]
        logical = count // p.heads, p.heads, rows, size
        return [TensorSpec(tuple(logical[p.out_order.index(k)] for k in range(4)), FLOAT32)]

    @staticmethod
    def _sizes(p: FusedAttention, ins: Sequence[TensorSpec]) -> list[tuple[int, int, int]]:
        """Products, rows and columns of queries, keys and values."""
        found = []
        for spec, order in zip(ins, (p.q_order, p.k_order, p.v_order), strict=False):
            *batch, rows, columns = (spec.shape[k] for k in order)
            found.append((math.prod(batch), rows, columns))
        return found

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p = node.params
        sizes = self._sizes(p, in_specs)
        orders = p.q_order, p.k_order, p.v_order
        q, k, v = (
            a.transpose(order).reshape(size).astype(np.float64)
            for a, order, size in zip(ins, orders, sizes, strict=False)
        )
        scores = (q @ k.transpose(0, 2, 1)).astype(np.float32).reshape(p.scores_shape)
        spec = TensorSpec(p.scores_shape, FLOAT32)
        if p.scores.steps:
            chain = Node("FusedElemwise", p.scores, (), ())
            scores = REGISTRY["FusedElemwise"].compute(chain, [scores, *ins[3:]], [spec, *in_specs[3:]], [spec])[0]
        shares = softmax(scores.astype(np.float64), -1).reshape(-1, q.shape[1], k.shape[1])
        if p.nan_is_zero:
            shares = np.where(np.isnan(shares), 0, shares)
        result = (shares @ v).astype(np.float32)
        if len(p.out_order) == 4:
            result = result.reshape(-1, p.heads, *result.shape[1:]).transpose(np.argsort(p.out_order))
        return [result]


@register
class FusedMatMulOperator(Operator):
    """Matrix product, bias, residual and activation; made by ``passes/fuse_matmul.py``."""

    name = "FusedMatMul"
    in_files = None
    in_original = InOriginal(type="MatrixMul")

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> Sequence[Spec]:
        return REGISTRY["MatrixMul"].infer(self._product(node), ins[:2])

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p = node.params
        y = REGISTRY["MatrixMul"].compute(self._product(node), ins[:2], in_specs[:2], out_specs)[0]
        rest = list(ins[2:])
        if p.has_bias:
            y = y + rest.pop(0).reshape(1, -1)
        if p.has_z:
            y = y + rest.pop(0)
        return [activated(p.activation, y, out_specs[0])]

    @staticmethod
    def _product(node: AnyNode) -> AnyNode:
        params = MatrixMul(transposeA=node.params.transposeA, transposeB=node.params.transposeB)
        return AnyNode("MatrixMul", params, node.inputs[:2], (), node.name)
