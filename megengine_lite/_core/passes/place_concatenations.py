"""Concatenation along channels without a copy: its operands are computed into their place in the result."""

from __future__ import annotations

from megengine_lite._core.graph import Graph
from megengine_lite._core.lower.channels import is_concatenation
from megengine_lite._core.lower.context import Lowering


def place_concatenations(graph: Graph, ctx: Lowering) -> None:
    """Tells the lowering context which blocked tensors are slices of a concatenation."""
    placed = set()
    for node in graph.nodes:
        if node.op != "ChannelGather" or not is_concatenation(node):
            continue
        operands = node.inputs
        if len(set(operands)) != len(operands) or any(v.shape[1] % ctx.width for v in operands[:-1]):
            continue
        if any(v in placed or v.const is not None or v.producer is None for v in operands):
            continue
        first = 0
        for v in operands:
            ctx.place(v, node.outputs[0], first)
            placed.add(v)
            first += v.shape[1] // ctx.width
