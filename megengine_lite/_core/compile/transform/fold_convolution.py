"""Merges convolutions with the batch norm, scale, bias and activation that follow them, as far as files can state it.

A convolution that absorbs something becomes a ``ConvBiasForward``. Additions of other tensors stay operators of their
own, because kernels of the original ignore the tensor that is to be added (``z``).
"""

from __future__ import annotations

from megengine_lite._core.compile.passes import fuse_conv
from megengine_lite._core.compile.passes.simplify import batch_norm_as_scale
from megengine_lite._core.ir.fused import NONLINEARITIES
from megengine_lite._core.ir.graph import AnyNode, ConstantPool, DynamicVar, Graph, ModelGraph, Node, Var
from megengine_lite._core.ir.params import ConvBias, ConvolutionMode, ConvolutionSparse

_NONLINEARITY = {code: mode for mode, code in NONLINEARITIES.items()}


def run(graph: ModelGraph, pool: ConstantPool) -> None:
    """Rewrites the graph."""
    shaped: list[Node] = []
    rest: list[AnyNode] = []
    for node in graph.nodes:
        # Readers of a variable of unknown shape have unknown shapes, too: they never come before nodes with shapes.
        if isinstance(node, Node):
            shaped.append(node)
        else:
            rest.append(node)
    read_later = [v for node in rest for v in node.inputs]
    read = {v for node in graph.nodes for v in node.inputs} | set(graph.outputs)
    outputs: list[Var | DynamicVar] = [v for v in (*graph.outputs, *read_later) if isinstance(v, Var)]
    part = Graph([batch_norm_as_scale(node, read, pool) or node for node in shaped], graph.inputs, outputs, [])
    plain = {node.outputs[0]: node for node in part.nodes if isinstance(node, Node)}
    fuse_conv.run(part, pool, _has_operator)
    part.convert(lambda node: _as_operator(node, plain.get(node.outputs[0])))
    graph.nodes = [*part.nodes, *rest]
    graph.remove_dead()


def _has_operator(fused: Node) -> bool:
    return not fused.params.has_z and fused.params.activation.code in _NONLINEARITY


def _as_operator(node: Node, before: Node | None) -> Node:
    """A fused convolution as an operator of the format; ``before`` is the node that had its result before fusion."""
    if node.op != "FusedConv":
        return node
    if before is not None and before.op in ("Convolution", "ConvBiasForward"):
        return before  # it has absorbed nothing
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
