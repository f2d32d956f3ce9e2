"""How long the variables of a graph are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from megengine_lite._core.ir.graph import AnyNode, AnyVar, ModelGraph
from megengine_lite._records import record

_Layer = tuple[int, Mapping[AnyVar, int]]


@record(frozen=True, slots=True)
class Lifetimes:
    """The places of the last nodes that read the variables of a graph, and its outputs.

    Places are counted from the end of the graph: the last node has 1. So those behind a node that is replaced by a
    graph stay the same, and the graph with the replacement needs no count of its own.

    Attributes
    ----------
    n_nodes
        How many nodes the graph has.
    layers
        Where each begins, and the lowest place of the nodes from there on that read a variable. A layer holds up to
        where the next one begins: what it says of places beyond that is about nodes that are gone.
    outputs
        Those of the graph.
    """

    n_nodes: int
    layers: tuple[_Layer, ...]
    outputs: Mapping[AnyVar, None]

    @classmethod
    def of(cls, graph: ModelGraph) -> Lifetimes:
        return cls(len(graph.nodes), ((1, _last_reads(graph.nodes, 1)),), dict.fromkeys(graph.outputs))

    def is_needed(self, var: AnyVar, position: int) -> bool:
        """Whether the variable is an output, or a node from this position on reads it."""
        return var in self.outputs or self.is_read(var, position)

    def is_read(self, var: AnyVar, position: int) -> bool:
        """Whether a node from this position on reads the variable."""
        most = self.n_nodes - position
        for k, (begin, reads) in enumerate(self.layers):
            if begin > most:
                return False
            place = reads.get(var)
            if place is not None and (k + 1 == len(self.layers) or place < self.layers[k + 1][0]):
                return place <= most
        return False

    def expanded(self, position: int, nodes: Sequence[AnyNode]) -> Lifetimes:
        """Those of the graph in which the node at a position has been replaced by these nodes.

        Nothing is known then of the nodes before it.
        """
        place = self.n_nodes - position
        layers = (*(layer for layer in self.layers if layer[0] < place), (place, _last_reads(nodes, place)))
        return Lifetimes(self.n_nodes - 1 + len(nodes), layers, self.outputs)


def _last_reads(nodes: Sequence[AnyNode], end: int) -> dict[AnyVar, int]:
    """The place of the last of some nodes that reads each variable; the last node has the place ``end``."""
    return {v: end + len(nodes) - 1 - k for k, node in enumerate(nodes) for v in node.inputs}
