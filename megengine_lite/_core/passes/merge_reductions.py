"""Reductions over one axis after another (global pooling is written so) become one reduction over several axes."""

from __future__ import annotations

from megengine_lite._core.dtype import DTypeCode
from megengine_lite._core.fused import ReduceAxes
from megengine_lite._core.graph import Graph, Node
from megengine_lite._core.params import ReduceDataType, ReduceMode

_COMPOSABLE = {ReduceMode.SUM, ReduceMode.PRODUCT, ReduceMode.MIN, ReduceMode.MAX, ReduceMode.MEAN}


def run(graph: Graph) -> None:
    """Every float32 ``Reduce`` over one axis becomes ``ReduceAxes``, chains of them become one."""
    consumers = graph.consumers()
    outputs = set(graph.outputs)
    nodes: list[Node] = []
    for node in graph.nodes:
        merged = _as_reduce_axes(node)
        if merged is not None:
            x = merged.inputs[0]
            before = x.producer
            if (
                before is not None
                and before.op == "ReduceAxes"
                and before.params.mode == merged.params.mode
                and merged.params.mode in _COMPOSABLE
                and len(consumers[x]) == 1
                and x not in outputs
            ):
                axes = tuple(sorted({*before.params.axes, *merged.params.axes}))
                nodes.remove(before)
                merged = Node(
                    "ReduceAxes", ReduceAxes(merged.params.mode, axes), before.inputs, node.outputs, node.name
                )
            node = merged
        nodes.append(node)
    graph.nodes = nodes


def _as_reduce_axes(node: Node) -> Node | None:
    if node.op != "Reduce" or len(node.inputs) != 1 or node.params.data_type != ReduceDataType.DEFAULT:
        return None
    x = node.inputs[0]
    axis = node.params.axis
    if x.dtype.code != DTypeCode.FLOAT32 or not -len(x.shape) <= axis < len(x.shape):
        return None
    return Node("ReduceAxes", ReduceAxes(int(node.params.mode), (axis % len(x.shape),)), [x], node.outputs, node.name)
