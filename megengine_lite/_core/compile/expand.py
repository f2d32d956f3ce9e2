"""Puts graphs in the place of the nodes that stand for them (see ``ir/expansion.py``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from megengine_lite._core.ir.expansion import Subgraphs
from megengine_lite._core.ir.graph import AnyNode, AnyVar, ModelGraph, TensorSpec, Var
from megengine_lite._core.ir.params import Empty


def expanded(graph: ModelGraph, position: int, specs: Sequence[TensorSpec]) -> ModelGraph:
    """A copy of a graph in which the node at a position has been replaced by its graph.

    That graph's outputs become those of the node, so variables that others read, and the positions of earlier nodes,
    stay as they are.
    """
    node = graph.nodes[position]
    inner = node.params.graph(node, specs)
    results = [
        AnyNode("Identity", Empty(), [made], [out], node.name)
        for made, out in zip(inner.outputs, node.outputs, strict=True)
    ]
    nodes = [*graph.nodes[:position], *inner.nodes, *results, *graph.nodes[position + 1 :]]
    found = ModelGraph(nodes, graph.inputs, graph.outputs, graph.output_names)
    pairs = zip(inner.outputs, node.outputs, strict=True)
    found.scalars = graph.scalars.union(out for made, out in pairs if made in inner.scalars)
    return found


def input_specs(node: AnyNode, known: Mapping[AnyVar, TensorSpec]) -> list[TensorSpec]:
    """What is known of a node's inputs, with the values of constants."""
    return [
        TensorSpec(v.shape, v.dtype, v.constant.array) if isinstance(v, Var) and v.const is not None else known[v]
        for v in node.inputs
    ]


def all_nodes(graph: ModelGraph) -> Iterator[AnyNode]:
    """The nodes of a graph and of all graphs that nodes in it may stand for, as far as these are known."""
    for node in graph.nodes:
        yield node
        if isinstance(node.params, Subgraphs):
            for inner in node.params.known_graphs():
                yield from all_nodes(inner)
