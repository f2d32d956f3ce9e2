"""Decides which operands of concatenations along channels are computed directly into their place in the result.

This is decided for the whole graph before any node is lowered. When the concatenation is lowered
(``lower/gather_channels.py``), operands that were not computed into their place are copied. docs/design/placement.md
says why.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from megengine_lite._core.ir.fused import ChannelGather
from megengine_lite._core.ir.graph import AnyVar, Graph, Node, Var
from megengine_lite._records import record


def is_concatenation(node: Node) -> bool:
    """Whether a ``ChannelGather`` is all channels of all inputs in order."""
    return len(node.inputs) > 1 and node.params == ChannelGather.concatenation(v.shape[1] for v in node.inputs)


@record(frozen=True, slots=True)
class Place:
    """Channel blocks of another variable, from ``first_block`` on."""

    whole: Var
    first_block: int


class Placement:
    """The places of the variables of a graph.

    Parameters
    ----------
    graph
        The graph that is going to be lowered.
    width
        Channels of a block.
    halo
        The halo (rows, pixels) that the readers of a variable want around it.
    """

    def __init__(self, graph: Graph, width: int, halo: Callable[[Var], tuple[int, int]]):
        self._width = width
        self._halo = halo
        self._places: dict[Var, Place] = {}
        self._halos: dict[Var, tuple[int, int]] = {}
        gathers = [n for n in graph.nodes if n.op == "ChannelGather" and isinstance(n, Node)]
        concatenations = [n for n in gathers if is_concatenation(n)]
        if concatenations:
            made = graph.producers()
            for node in concatenations:
                if self._fits(node, made):
                    self._place_operands(node)

    def _fits(self, node: Node, made: Container[AnyVar]) -> bool:
        operands = node.inputs
        if len(set(operands)) != len(operands) or any(v.shape[1] % self._width for v in operands[:-1]):
            return False
        return all(v in made and v not in self._places for v in operands)

    def _place_operands(self, node: Node) -> None:
        y = node.outputs[0]
        first = 0
        for v in node.inputs:
            self._places[v] = Place(y, first)
            first += v.shape[1] // self._width
        halos = [self.halo(v) for v in (*node.inputs, y)]
        self._halos[y] = max(h for h, _ in halos), max(w for _, w in halos)

    def halo(self, var: Var) -> tuple[int, int]:
        """The halo that the readers of a variable, and of everything that is placed in it, want."""
        found = self._halos.get(var)
        return self._halo(var) if found is None else found

    def has_parts(self, var: Var) -> bool:
        """Whether a variable is a concatenation that operands are computed into."""
        return var in self._halos

    def outermost(self, var: Var) -> Place:
        """Where a variable lies: in the outermost concatenation that contains it, or in memory of its own."""
        first = 0
        while (place := self._places.get(var)) is not None:
            var, first = place.whole, first + place.first_block
        return Place(var, first)
