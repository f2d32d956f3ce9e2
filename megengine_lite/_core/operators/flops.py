"""The number of multiply-adds of convolutions, matrix products, recurrent layers and attention.

All other operators are limited by memory, not by arithmetic. They count as zero, as is usual when networks are
compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from megengine_lite._core.ir.graph import Node
from megengine_lite._core.ir.params import MatrixMulFormat
from megengine_lite._core.operators.conv_shape import conv_shape, transposed_conv_shape


def _convolution(node: Node) -> int:
    data, filters = node.inputs[:2]
    shape = conv_shape(node, data.shape, filters.shape)
    return shape.n * math.prod(shape.out) * filters.spec.size


def _filter_per_sample(node: Node) -> int:
    data, filters = node.inputs[:2]
    return math.prod(conv_shape(node, data.shape, filters.shape[1:]).out) * filters.spec.size


def _transposed_convolution(node: Node) -> int:
    filters, data = node.inputs[:2]
    shape = transposed_conv_shape(node, filters.shape, data.shape)
    return shape.n * math.prod(shape.out) * filters.spec.size


def _convolution_3d(node: Node) -> int:
    """Each element of the filter is used once for each pixel (n, d, h, w) of the output."""
    return _pixels(node.outputs[0].shape) * node.inputs[1].spec.size


def _transposed_convolution_3d(node: Node) -> int:
    return _pixels(node.inputs[1].shape) * node.inputs[0].spec.size


def _pixels(shape: tuple[int, ...]) -> int:
    return shape[0] * math.prod(shape[2:])


def _deformable_convolution(node: Node) -> int:
    return _pixels(node.outputs[0].shape) * node.inputs[1].spec.size


def _filter_per_pixel(node: Node) -> int:
    return node.inputs[0].shape[0] * node.inputs[1].spec.size


def _filter_per_tile(node: Node) -> int:
    """Filters ([groups,] tiles_h, tiles_w, icpg, h, w, ocpg): that of a tile is used for each of its output pixels."""
    filters = node.inputs[1]
    return _pixels(node.outputs[0].shape) * filters.spec.size // math.prod(filters.shape[-6:-4])


def _matrix_product(node: Node) -> int:
    a, b = node.inputs[:2]
    out = node.outputs[0].spec.size
    if node.params.format != MatrixMulFormat.DEFAULT:
        return math.isqrt(a.spec.size * b.spec.size * out)  # (m k) (k n) (m n)
    depth = a.shape[-2] if node.params.transposeA and len(a.shape) > 1 else a.shape[-1]
    return out * depth


def _dot(node: Node) -> int:
    return max(v.spec.size for v in node.inputs)


def _recurrent(gates: int) -> Callable[[Node], int]:
    """Data are (time, batch, features); the weights of all layers and directions come last, in one piece."""

    def count(node: Node) -> int:
        p = node.params
        steps, batch = node.inputs[0].shape[:2]
        n_biases = 2 * gates * p.hidden_size * p.num_layers * (1 + p.bidirectional) if p.bias else 0
        return steps * batch * (node.inputs[-1].spec.size - n_biases)

    return count


def _recurrent_cell(node: Node) -> int:
    """Inputs: data, their weights, bias, hidden state, its weights, bias, and perhaps the cell's state."""
    return node.inputs[0].shape[0] * (node.inputs[1].spec.size + node.inputs[4].spec.size)


def _attention(node: Node) -> int:
    """Projections of query, key, value and result, as far as there are any, and the two products of each head."""
    p = node.params
    (batch, n_queries, q_in), (_, n_keys, k_in), (_, _, v_in) = (v.shape for v in node.inputs[:3])
    q_width = p.qproj_size or q_in * p.num_heads
    v_width = p.vproj_size or v_in * p.num_heads
    projections = n_queries * (q_in * p.qproj_size + v_width * p.oproj_size)
    projections += n_keys * (k_in * p.kproj_size + v_in * p.vproj_size)
    return batch * (projections + n_queries * n_keys * (q_width + v_width))


_COUNTERS: dict[str, Callable[[Node], int]] = {
    "BatchConvBiasForward": _filter_per_sample,
    "BatchedMatrixMul": _matrix_product,
    "ConvBiasForward": _convolution,
    "Convolution": _convolution,
    "Convolution3D": _convolution_3d,
    "Convolution3DBackwardData": _transposed_convolution_3d,
    "ConvolutionBackwardData": _transposed_convolution,
    "DeformableConvForward": _deformable_convolution,
    "Dot": _dot,
    "GroupLocal": _filter_per_pixel,
    "LSTMCellForward": _recurrent_cell,
    "LSTMForward": _recurrent(gates=4),
    "Local": _filter_per_pixel,
    "LocalShareForward": _filter_per_tile,
    "MaskConvolution": _convolution,
    "MatrixMul": _matrix_product,
    "MultiHeadAttn": _attention,
    "RNNCellForward": _recurrent_cell,
    "RNNForward": _recurrent(gates=1),
    "RegionRestrictedConvolution": _convolution,
}


def multiply_adds(node: Node) -> int:
    """Multiply-adds of a node whose variables have known shapes."""
    counter = _COUNTERS.get(node.op)
    return counter(node) if counter is not None else 0
