"""Merges convolutions with the batch norm, scale, bias and activation that follow them, as far as files can say it.

A convolution that absorbs something becomes a ``ConvBiasForward``. Additions of other tensors stay operators of their
own, because kernels of the original ignore the tensor that is to be added (``z``).
"""

from __future__ import annotations

from megengine_lite._core.compile.passes import fuse_conv
from megengine_lite._core.compile.passes.simplify import batch_norm_as_scale
from megengine_lite._core.compile.transform.shaped import is_shaped
from megengine_lite._core.ir.graph import ConstantPool, Graph, Node
from megengine_lite._core.ir.params import ConvBias, ConvolutionMode, ConvolutionSparse

_NONLINEARITY = {code: mode for mode, code in fuse_conv.NONLINEARITIES.items()}


def run(graph: Graph, pool: ConstantPool) -> None:
    """Rewrites the graph."""
    shaped: list[Node] = []
    rest: list[Node] = []
    for node in graph.nodes:
        # Readers of a variable of unknown shape have unknown shapes, too: they never come before nodes with shapes.
        (shaped if is_shaped(node) else rest).append(node)
    read_later = [v for node in rest for v in node.inputs]
    read = {v for node in graph.nodes for v in node.inputs} | set(graph.outputs)
    part = Graph(shaped, graph.inputs, [*graph.outputs, *read_later], [])
    part.nodes = [batch_norm_as_scale(node, read, pool) or node for node in part.nodes]
    plain = {node.outputs[0]: node for node in part.nodes}
    fuse_conv.run(part, pool, _has_operator)
    graph.nodes = [_as_operator(node, plain.get(node.outputs[0])) for node in part.nodes] + rest
    graph.remove_dead()


def _has_operator(fused: Node) -> bool:
    return not fused.params.has_z and fused.params.activation.code in _NONLINEARITY


def _as_operator(node: Node, before: Node | None) -> Node:
    """A fused convolution as an operator of the format; ``before`` is the node that had its result before fusion."""
    if node.op != "FusedConv":
        return node
    if before is not None and before.op in ("Convolution", "ConvBiasForward"):
        return before  # it has taken nothing in
    p = node.params
    params = ConvBias(
        nonlineMode=_NONLINEARITY[p.activation.code],
        mode=ConvolutionMode.CONVOLUTION if p.mirrored else ConvolutionMode.CROSS_CORRELATION,
        sparse=ConvolutionSparse.GROUP if len(node.inputs[1].shape) == 5 else ConvolutionSparse.DENSE,
        pad_h=p.pad_h,
        pad_w=p.pad_w,
        stride_h=p.stride_h,
        stride_w=p.stride_w,
        dilate_h=p.dilate_h,
        dilate_w=p.dilate_w,
    )
    return Node("ConvBiasForward", params, node.inputs, node.outputs, node.name, node.outputs[0].dtype)
