"""Merges quantized convolutions and matrix products with the conversions and additions around them.

Every absorbed node keeps its own rounding, so results do not change.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from megengine_lite._core.compile.passes.fuse_conv import ADD_THEN, with_function
from megengine_lite._core.compile.passes.recognise_quantized import quantizes, source_of, with_bias
from megengine_lite._core.compile.rewriter import Rewriter
from megengine_lite._core.ir.dtype import INT8_OPERANDS, DTypeCode
from megengine_lite._core.ir.fused import Activation, ActivationCode
from megengine_lite._core.ir.fused_quantized import MAX_IMAGE_CHANNELS, QuantizedConv, QuantizedMatMul
from megengine_lite._core.ir.graph import Graph, Node, Var
from megengine_lite._core.ir.params import (
    ConvBiasNonlineMode,
    ConvolutionFormat,
    ConvolutionSparse,
    ElemwiseMode,
    ElemwiseMultiTypeMode,
    MatrixMulFormat,
)
from megengine_lite._core.ir.quantize import keeps_sums
from megengine_lite._core.operators.conv_types import product_scale
from megengine_lite._records import replace

_C = DTypeCode
_ADDITIONS = (ElemwiseMultiTypeMode.QADD, ElemwiseMultiTypeMode.QFUSE_ADD_RELU)


def run(graph: Graph) -> None:
    graph.convert(lambda node: as_quantized_conv(node) or as_quantized_matmul(node))
    rewriter = Rewriter(graph)
    for node in rewriter:
        if (pair := _fused_with_producer(node, rewriter)) is not None:
            before, fused = pair
            rewriter.replace([before, node], [fused])
    rewriter.finish()


def _fused_with_producer(node: Node, rewriter: Rewriter) -> tuple[Node, Node] | None:
    """A producer of an input that can be fused with a node, and the fused node; None if there is none."""
    combine = _combination(node)
    if combine is None:
        return None
    inputs = node.inputs[:1] if node.op in ("QuantizedConv", "TypeCvt") else node.inputs
    found = [(producer, v) for v in inputs if (producer := rewriter.producer(v)) is not None]
    # The operand that is computed last is still in the cache.
    for before, v in sorted(found, key=lambda pair: rewriter.position(pair[0]), reverse=True):
        if rewriter.only_reader(v) is node and node.inputs.count(v) == 1:
            fused = combine(before, node, v) or _real(before, node, v, rewriter)
            if fused is not None:
                return before, fused
    return None


def _combination(node: Node) -> Callable[[Node, Node, Var], Node | None] | None:
    """How a node is fused with what makes its input."""
    if node.op == "QuantizedConv":
        return _with_conversion_before
    if node.op == "TypeCvt":
        return _with_conversion_behind
    if node.op == "ElemwiseMultiType" and node.params.mode in _ADDITIONS:
        return _with_addition
    if node.op == "Elemwise":
        return _with_bias
    return None


def _real(before: Node, node: Node, y: Var, rewriter: Rewriter) -> Node | None:
    """A real result with what is done to it."""
    z = None
    if len(node.inputs) == 2:
        z = source_of(_other(node, y), rewriter)
    found = absorbed_by_real(before, node, y, z)
    return None if found is None else Node(before.op, *found, node.outputs, before.name)


def absorbed_by_real(
    product: Node, reader: Node, y: Var, z: Var | None = None
) -> tuple[QuantizedConv | QuantizedMatMul, list[Var]] | None:
    """Parameters and inputs of a product that does what a reader of its real result ``y`` does.

    ``y`` may be the result in another shape with the same last dimension. ``z`` has the quantized numbers of the other
    operand of an addition. None if it cannot be done.
    """
    if product.op not in ("QuantizedConv", "QuantizedMatMul") or not product.params.is_real:
        return None
    p: QuantizedConv | QuantizedMatMul = product.params
    is_conv = isinstance(p, QuantizedConv)
    out = reader.outputs[0]
    if product.outputs[0].dtype.code is not _C.FLOAT32 or out.shape != y.shape:
        return None
    if (p.conv_dtype if isinstance(p, QuantizedConv) else p.product_dtype).is_quantized:
        return None  # what follows would come before the rounding
    if quantizes(reader):
        if isinstance(p, QuantizedConv):
            return replace(p, conv_dtype=out.dtype), product.inputs
        return replace(p, product_dtype=out.dtype), product.inputs
    if reader.op != "Elemwise" or reader.inputs.count(y) != 1:
        return None
    found = with_function(p.activation, reader, y)
    if found is not None:
        return replace(p, activation=found), product.inputs
    mode = reader.params.mode
    if p.activation.code != ActivationCode.NONE or mode not in ADD_THEN or (isinstance(p, QuantizedConv) and p.has_z):
        return None
    other, activation = _other(reader, y), Activation(ADD_THEN[mode])
    channels = y.shape[1 if is_conv else -1]
    if other.const is not None:
        shape = (channels, 1, 1) if is_conv else (channels,)
        if p.has_bias or other.dtype.code is not _C.FLOAT32 or math.prod(other.shape) != channels:
            return None
        if other.shape[-len(shape) :] != shape:
            return None
        inputs = [*product.inputs[:2], other, *product.inputs[2:]]
        return replace(p, has_bias=True, activation=activation), inputs
    if z is None or not isinstance(p, QuantizedConv) or z.shape != y.shape:
        return None
    place = 2 + p.has_bias
    return replace(p, has_z=True, activation=activation), [*product.inputs[:place], z, *product.inputs[place:]]


def as_quantized_conv(node: Node) -> Node | None:
    """An int8 convolution with a constant filter as a ``QuantizedConv``, or None if the node is something else."""
    if node.op not in ("Convolution", "ConvBiasForward") or node.params.format != ConvolutionFormat.NCHW:
        return None
    x, w, *rest = node.inputs
    y = node.outputs[0]
    if x.dtype.code not in INT8_OPERANDS or w.dtype.code not in INT8_OPERANDS or w.const is None or len(x.shape) != 4:
        return None
    p = node.params
    if len(w.shape) != (5 if p.sparse == ConvolutionSparse.GROUP else 4):
        return None
    if rest:
        bias = rest[0]
        if bias.const is None or bias.spec.size != y.shape[1] or bias.shape[1:2] != (y.shape[1],):
            return None
    conv = p if node.op == "ConvBiasForward" else with_bias(p)
    params = QuantizedConv(
        conv=conv, input_dtype=x.dtype, conv_dtype=y.dtype, has_bias=len(rest) > 0, has_z=len(rest) > 1
    )
    return Node("QuantizedConv", params, node.inputs, node.outputs, node.name)


def as_quantized_matmul(node: Node) -> Node | None:
    """A product of two int8 matrices as a ``QuantizedMatMul``, or None if the node is something else."""
    if node.op != "MatrixMul" or node.params.format != MatrixMulFormat.DEFAULT:
        return None
    if any(v.dtype.code not in INT8_OPERANDS for v in node.inputs):
        return None
    params = QuantizedMatMul(matmul=node.params, product_dtype=node.outputs[0].dtype)
    return Node("QuantizedMatMul", params, node.inputs, node.outputs, node.name)


def _with_conversion_before(cvt: Node, conv: Node, _: Var) -> Node | None:
    """Absorbs the quantization of an image that only its convolution reads; the convolution does it as it packs."""
    if cvt.op != "TypeCvt" or conv.params.input_dtype != conv.inputs[0].dtype:
        return None
    x = cvt.inputs[0]
    dense = conv.params.conv.sparse == ConvolutionSparse.DENSE
    if x.dtype.code is not _C.FLOAT32 or not dense or x.shape[1] > MAX_IMAGE_CHANNELS:
        return None
    if not conv.params.input_dtype.is_quantized:
        return None
    return Node("QuantizedConv", conv.params, [x, *conv.inputs[1:]], conv.outputs, conv.name)


def _keeps_sums(node: Node) -> bool:
    """Whether the node's result is the plain sum of products, without rescaling."""
    y = node.outputs[0].dtype
    a, b = node.params.input_dtype if node.op == "QuantizedConv" else node.inputs[0].dtype, node.inputs[1].dtype
    return a.is_quantized and y.is_quantized and keeps_sums(y, product_scale(a, b))


def _with_conversion_behind(node: Node, cvt: Node, _: Var) -> Node | None:
    to = cvt.outputs[0].dtype
    if to.code is not _C.FLOAT32 and not to.is_quantized:
        return None
    if node.op == "QuantizedMatMul":
        if not _keeps_sums(node):
            return None
        return Node(node.op, node.params, node.inputs, cvt.outputs, node.name)
    if node.op != "QuantizedConv" or not _can_be_staged(node):
        return None
    return Node(node.op, node.params, node.inputs, cvt.outputs, node.name)


def _can_be_staged(conv: Node) -> bool:
    """Whether a kernel can still change the result of the convolution before it stores it."""
    p: QuantizedConv = conv.params
    simple = p.conv.nonlineMode in (ConvBiasNonlineMode.IDENTITY, ConvBiasNonlineMode.RELU)
    simple = simple and p.activation.bounds is not None
    return not p.has_z and simple and p.conv_dtype == conv.outputs[0].dtype and p.conv_dtype.is_quantized


def _other(node: Node, y: Var) -> Var:
    """The other one of a node's two operands."""
    return node.inputs[1] if node.inputs[0] is y else node.inputs[0]


def _with_addition(conv: Node, addition: Node, y: Var) -> Node | None:
    if conv.op != "QuantizedConv" or not _can_be_staged(conv):
        return None
    other = _other(addition, y)
    if other.shape != y.shape or addition.outputs[0].shape != y.shape or other.const is not None:
        return None
    if other.dtype.code not in INT8_OPERANDS or addition.outputs[0].dtype.code not in INT8_OPERANDS:
        return None
    if addition.outputs[0].dtype.ties_to_even != conv.outputs[0].dtype.ties_to_even:
        return None
    params = replace(conv.params, has_z=True, add=ElemwiseMultiTypeMode(addition.params.mode))
    place = 2 + params.has_bias
    inputs = [*conv.inputs[:place], other, *conv.inputs[place:]]
    return Node("QuantizedConv", params, inputs, addition.outputs, conv.name)


def _with_bias(product: Node, addition: Node, y: Var) -> Node | None:
    if product.op != "QuantizedMatMul" or product.params.has_bias or product.params.is_real:
        return None
    if addition.params.mode != ElemwiseMode.ADD or addition.outputs[0].shape != y.shape:
        return None
    other = _other(addition, y)
    if other.const is None or other.shape[-1:] != y.shape[-1:] or other.spec.size != y.shape[-1]:
        return None
    if product.outputs[0].dtype.code not in (_C.QUANTIZED_S32, _C.INT32):
        return None
    params = replace(product.params, has_bias=True)
    return Node("QuantizedMatMul", params, [*product.inputs, other], addition.outputs, product.name)
