"""The walk of passes that make a new list of nodes and let later nodes read other variables than before."""

from __future__ import annotations

from collections.abc import Iterator

from megengine_lite._core.ir.graph import AnyVar, DynamicNode, DynamicVar, Graph, Node, Var


class Substitution:
    """The nodes of a graph as a pass rewrites them, and the variables that are read in place of others.

    A pass iterates over it, adds the nodes that it keeps or makes with :meth:`add`, and says with :meth:`replace` which
    variable later nodes and the graph's outputs read in place of another one. The nodes that it gets read the new
    variables already. :meth:`finish` gives the graph its new nodes.

    Nodes with an output of unknown shape are not given out. They stay where they are.
    """

    def __init__(self, graph: Graph):
        self._graph = graph
        self._nodes: list[Node | DynamicNode] = []
        self._instead: dict[AnyVar, Var] = {}

    def __iter__(self) -> Iterator[Node]:
        instead = self._instead
        for node in self._graph.nodes:
            node.inputs = [instead.get(v, v) for v in node.inputs]
            if isinstance(node, Node):
                yield node
            else:
                self._nodes.append(node)

    def add(self, *nodes: Node) -> None:
        """Adds nodes that read only what comes before them."""
        self._nodes += nodes

    def replace(self, var: Var, by: Var) -> None:
        """From now on ``by`` is read in place of ``var``, whose node may be left out."""
        self._instead[var] = self._instead.get(by, by)

    def finish(self) -> None:
        """Gives the graph its new nodes, without those that nobody needs any more."""
        outputs: list[Var | DynamicVar] = [self._instead.get(v, v) for v in self._graph.outputs]
        self._graph.nodes = self._nodes
        self._graph.outputs = outputs
        self._graph.remove_dead()
