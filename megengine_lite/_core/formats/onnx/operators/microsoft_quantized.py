"""The operators of quantized numbers in ONNX Runtime's own domain."""

from __future__ import annotations

import math

import numpy as np

from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import Value
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.operators.activations import choose
from megengine_lite._core.formats.onnx.operators.matrices import multiplied
from megengine_lite._core.formats.onnx.operators.microsoft import (
    as_standard,
    attention_of_rows,
    first_of,
    mean_of_axes_from,
    with_turned_matrices,
)
from megengine_lite._core.formats.onnx.operators.quantization import (
    dequantized,
    quantized,
    quantized_convolution,
)
from megengine_lite._core.formats.onnx.operators.table import MICROSOFT, Call, NotConverted, converts
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.graph import DerivedConstant, TensorSpec, Var
from megengine_lite._core.ir.params import ElemwiseMode

_M = ElemwiseMode


def _real(call: Call, place: int) -> Value:
    """The real values of the input at a place, whose scale and zero point follow."""
    x, scale, zero = call.input(place), call.input(place + 1), call.optional(place + 2)
    return dequantized(call.builder, x, _single(scale), None if zero is None else _single(zero), 0, ElementType.FLOAT)


def _single(x: Value) -> Value:
    """A number that may stand as a vector of one."""
    if x.rank and x.length != 1:
        raise NotConverted("scales for parts of the data are not computed here")
    return x.with_rank(0)


def _stepped(call: Call, x: Value, place: int, kind: ElementType | None = None) -> Value:
    """Real values as quantized numbers, of the first input's type if none is given; scale and zero point are inputs."""
    scale, zero = call.input(place), call.optional(place + 1)
    kind = call.input(0).kind if kind is None else kind
    return quantized(call.builder, x, _single(scale), None if zero is None else _single(zero), 0, kind)


@converts("QLinearAdd", "QLinearMul", domain=MICROSOFT)
def _quantized_pair(call: Call) -> Value:
    mode = _M.ADD if call.op == "QLinearAdd" else _M.MUL
    return _stepped(call, call.builder.elemwise(mode, _real(call, 0), _real(call, 3)), 6)


@converts("QLinearSigmoid", "QLinearLeakyRelu", domain=MICROSOFT)
def _quantized_activation(call: Call) -> Value:
    b, x = call.builder, _real(call, 0)
    if call.op == "QLinearSigmoid":
        return _stepped(call, b.elemwise(_M.SIGMOID, x), 3)
    return _stepped(call, b.elemwise(_M.PRELU, x, b.number(call.real("alpha", 0.01), x)), 3)


def _channels_first(b: GraphBuilder, x: Value) -> Value:
    return b.transposed(x, [0, x.rank - 1, *range(1, x.rank - 1)])


def _channels_last(b: GraphBuilder, x: Value) -> Value:
    return b.transposed(x, [0, *range(2, x.rank), 1])


@converts("QLinearGlobalAveragePool", domain=MICROSOFT)
def _quantized_average(call: Call) -> Value:
    b, x = call.builder, _real(call, 0)
    if call.integer("channels_last", 0):
        return _stepped(call, _channels_last(b, mean_of_axes_from(b, _channels_first(b, x), 2)), 3)
    return _stepped(call, mean_of_axes_from(b, x, 2), 3)


@converts("QLinearAveragePool", domain=MICROSOFT)
def _quantized_windows(call: Call) -> Value:
    b, x, last = call.builder, _real(call, 0), call.integer("channels_last", 0)
    names = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")
    pooled = first_of(as_standard(call, "AveragePool", [_channels_first(b, x) if last else x], *names))
    return _stepped(call, _channels_last(b, pooled) if last else pooled, 3)


@converts("QLinearSoftmax", domain=MICROSOFT)
def _quantized_softmax(call: Call) -> Value:
    version = call.integer("opset")
    return _stepped(call, first_of(as_standard(call, "Softmax", [_real(call, 0)], "axis", version=version)), 3)


@converts("QLinearConcat", domain=MICROSOFT)
def _quantized_concat(call: Call) -> Value:
    """Scale and zero point of the result come first; then three inputs for each part."""
    parts = [_real(call, k) for k in range(2, max(len(call.inputs), 5), 3)]
    joined = call.builder.joined(parts, call.axis("axis", 0, parts[0].rank))
    return _stepped(call, joined, 0, call.input(2).kind)


@converts("QLinearWhere", domain=MICROSOFT)
def _quantized_choice(call: Call) -> Value:
    return _stepped(call, choose(call.builder, call.input(0), _real(call, 1), _real(call, 4)), 7, call.input(1).kind)


@converts("QLinearConv", domain=MICROSOFT)
def _conv_of_bytes(call: Call) -> Value:
    b, x, last = call.builder, call.input(0), call.integer("channels_last", 0)
    result = quantized_convolution(call, _channels_first(b, x) if last else x)
    return _channels_last(b, result) if last else result


@converts("NhwcMaxPool", domain=MICROSOFT)
def _max_pool_of_bytes(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    names = ("auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides")
    return _channels_last(b, first_of(as_standard(call, "MaxPool", [_channels_first(b, x)], *names)))


def _whole(b: GraphBuilder, x: Value, zero: Value | None) -> Value:
    """Quantized numbers less their zero point, as floats, which hold them exactly."""
    real = b.retyped(x, ElementType.FLOAT)
    return real if zero is None else b.elemwise(_M.SUB, real, b.retyped(zero, ElementType.FLOAT))


def _scaled_product(call: Call, x: Value, y: Value, scale: Value, bias: Value | None) -> Value:
    b = call.builder
    result = b.elemwise(_M.MUL, multiplied(b, x, y), scale)
    return result if bias is None else b.elemwise(_M.ADD, result, bias)


@converts("MatMulIntegerToFloat", domain=MICROSOFT)
def _matmul_to_float(call: Call) -> Value:
    b, zeros = call.builder, [call.optional(4), call.optional(5)]
    x, y = (_whole(b, call.input(k), zero) for k, zero in enumerate(zeros))
    return _scaled_product(call, x, y, b.elemwise(_M.MUL, call.input(2), call.input(3)), call.optional(6))


@converts("DynamicQuantizeMatMul", domain=MICROSOFT)
def _dynamic_matmul(call: Call) -> Value:
    b = call.builder
    steps, scale, zero = as_standard(call, "DynamicQuantizeLinear", [call.input(0)])
    assert steps is not None and scale is not None
    y = _whole(b, call.input(1), call.optional(3))
    return _scaled_product(call, _whole(b, steps, zero), y, b.elemwise(_M.MUL, scale, call.input(2)), call.optional(4))


@converts("QGemm", domain=MICROSOFT)
def _quantized_gemm(call: Call) -> Value:
    b = call.builder
    x = with_turned_matrices(b, _whole(b, call.input(0), _single(call.input(2))), call.integer("transA", 0))
    zero, scale = call.input(5), b.elemwise(_M.MUL, _single(call.input(1)), call.input(4))
    turn = call.integer("transB", 0)
    if turn and zero.rank and zero.length != 1:
        zero = b.with_axes(zero, [1])  # one for each column of the product, which are the rows now
    y, added = with_turned_matrices(b, _whole(b, call.input(3), zero), turn), call.optional(6)
    result = multiplied(b, x, y)
    alpha = call.real("alpha", 1.0)
    if added is not None:
        result = b.elemwise(_M.ADD, result, b.retyped(added, ElementType.FLOAT))
    if not math.isclose(alpha, 1):
        result = b.elemwise(_M.MUL, result, b.number(alpha, result))
    result = b.elemwise(_M.MUL, result, scale)
    return result if call.optional(7) is None else _stepped(call, result, 7)


@converts("QAttention", domain=MICROSOFT)
def _quantized_attention(call: Call) -> list[Value | None]:
    b, zeros = call.builder, [call.optional(6), call.optional(7)]
    x, weights = (_whole(b, call.input(k), zero) for k, zero in enumerate(zeros))
    scale = b.elemwise(_M.MUL, _single(call.input(3)), call.input(4))
    rows = _scaled_product(call, x, weights, scale, call.input(2))
    return attention_of_rows(call, rows, call.optional(5), call.optional(8), None)


@converts("DynamicQuantizeLSTM", domain=MICROSOFT)
def _lstm_of_bytes(call: Call) -> list[Value | None]:
    """With its weights as real numbers; its data are not rounded, as ONNX Runtime does it in each round."""
    b = call.builder
    # Gates stand in the last axis of weights; scales and zero points are for a direction, or for each gate of it.
    weights = []
    for place, first in ((1, 8), (2, 10)):
        zero = call.optional(first + 1)
        whole = _whole(b, call.input(place), None if zero is None else _of_gates(b, zero))
        real = b.elemwise(_M.MUL, whole, _of_gates(b, call.input(first)))
        weights.append(b.transposed(real, (0, 2, 1)))
    rest = [call.optional(k) for k in range(3, 8)]
    names = ("activations", "activation_alpha", "activation_beta", "clip", "direction", "hidden_size", "input_forget")
    return as_standard(call, "LSTM", [call.input(0), *weights, *rest], *names)


def _of_gates(b: GraphBuilder, x: Value) -> Value:
    return b.with_axes(x, [1, 2] if x.rank == 1 else [1])


# ---- weights in few bits ---------------------------------------------------------------------------------------------


def _unpacked(q: np.ndarray, bits: int) -> np.ndarray:
    """Numbers of 2, 4 or 8 bits that lie in bytes, the first in the lowest bits."""
    numbers: np.ndarray = (q[..., None] >> np.arange(0, 8, bits, dtype=np.uint8)) & np.uint8((1 << bits) - 1)
    return numbers.reshape(*q.shape[:-1], -1)


@converts("MatMulNBits", domain=MICROSOFT)
def _packed_product(call: Call) -> Value:
    """A product with columns that are stored in blocks, each with a scale and a zero point."""
    b, x, *stored = call.builder, *(call.input(k) for k in range(3))
    zeros, order, bias = (call.optional(k) for k in range(3, 6))
    depth, width, bits, size = (call.positive(name) for name in ("K", "N", "bits", "block_size"))
    call.know("accuracy_level")
    if order is not None or call.integer("weight_prepacked", 0):
        raise NotConverted("blocks in another order, and packed for a processor, are not read")
    if bits not in (2, 4, 8):
        raise NotConverted(f"weights of {bits} bits are not defined")
    parts = stored if zeros is None else [*stored, zeros]
    constants = [v.var.constant for v in parts if isinstance(v.var, Var) and v.var.const is not None]
    if len(constants) < len(parts):
        raise NotConverted("weights that are computed are not read")
    blocks, is_packed = -(-depth // size), zeros is not None and zeros.kind == ElementType.UINT8
    row = -(-blocks * bits // 8) if is_packed else blocks
    wanted = [width * blocks * (size * bits // 8), width * blocks, width * row]
    sizes = [v.var.spec.size for v in parts if isinstance(v.var, Var)]
    if sizes != wanted[: len(sizes)] or size * bits % 8 or stored[0].kind != ElementType.UINT8:
        raise NotConverted(f"{sizes} numbers are no {width} columns of {depth} numbers in blocks of {size}")

    def made(q: np.ndarray, scales: np.ndarray, *zeros: np.ndarray) -> np.ndarray:
        real = _unpacked(q.reshape(width, blocks, -1), bits).astype(np.float32)
        middle = np.full((width, blocks), 1 << (bits - 1)) if not zeros else zeros[0].reshape(width, row)
        middle = _unpacked(middle, bits)[:, :blocks] if is_packed else middle
        real = (real - middle[:, :, None].astype(np.float32)) * scales.astype(np.float32).reshape(width, blocks, 1)
        columns: np.ndarray = real.reshape(width, -1)[:, :depth].T
        return np.ascontiguousarray(columns)

    constant = DerivedConstant(constants, made)
    weight = Value(
        Var(b.new_id(), b.label, TensorSpec((depth, width), FLOAT32), constant), ElementType.FLOAT, 2, FLOAT32
    )
    result = multiplied(b, x, b.retyped(weight, x.kind))
    return result if bias is None else b.elemwise(_M.ADD, result, bias)
