"""Merges reductions over one axis after another, as in global pooling, into one reduction over several axes."""

from __future__ import annotations

from megengine_lite._core.compile.rewriter import Rewriter
from megengine_lite._core.ir.dtype import DTypeCode
from megengine_lite._core.ir.fused import ReduceAxes
from megengine_lite._core.ir.graph import Graph, Node
from megengine_lite._core.ir.params import ReduceDataType, ReduceMode

_COMPOSABLE = {ReduceMode.SUM, ReduceMode.PRODUCT, ReduceMode.MIN, ReduceMode.MAX, ReduceMode.MEAN}


def run(graph: Graph) -> None:
    """Replaces every float32 ``Reduce`` over one axis by a ``ReduceAxes``, and a chain of them by one."""
    graph.convert(_as_reduce_axes)
    rewriter = Rewriter(graph)
    for node in rewriter:
        if node.op != "ReduceAxes" or node.params.mode not in _COMPOSABLE:
            continue
        before = rewriter.producer(node.inputs[0])
        if (
            before is not None
            and before.op == "ReduceAxes"
            and before.params.mode == node.params.mode
            and rewriter.only_reader(node.inputs[0]) is node
        ):
            axes = tuple(sorted({*before.params.axes, *node.params.axes}))
            merged = Node("ReduceAxes", ReduceAxes(node.params.mode, axes), before.inputs, node.outputs, node.name)
            rewriter.replace([before, node], [merged])
    rewriter.finish()


def _as_reduce_axes(node: Node) -> Node | None:
    if node.op != "Reduce" or len(node.inputs) != 1 or node.params.data_type != ReduceDataType.DEFAULT:
        return None
    x = node.inputs[0]
    axis = node.params.axis
    if x.dtype.code != DTypeCode.FLOAT32 or not -len(x.shape) <= axis < len(x.shape):
        return None
    return Node("ReduceAxes", ReduceAxes(int(node.params.mode), (axis % len(x.shape),)), [x], node.outputs, node.name)
