"""The graph as a pass rewrites it: who makes and who reads each variable is up to date after every change."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from megengine_lite._core.ir.graph import AnyNode, AnyVar, DynamicNode, Graph, Node, Var


class Rewriter:
    """Replaces nodes of a graph by others.

    The nodes that replace several others stand where the last of these stood. Everything that any of them read is
    computed before that place, so the order stays right as long as no node in between reads a result of the earlier
    ones. docs/design/pass-order.md says why.

    Iterating gives the nodes in order, including those that replace nodes behind the current one meanwhile. Nodes with
    an output of unknown shape stay as they are: they count as readers, and are never given out.
    """

    def __init__(self, graph: Graph):
        self._graph = graph
        self._slots: list[list[Node | DynamicNode]] = [[node] for node in graph.nodes]
        self._slot_of: dict[AnyNode, int] = {}
        self._producers: dict[Var, Node] = {}
        self._readers: dict[Var, dict[Node | DynamicNode, None]] = {}
        self._outputs: set[AnyVar] = set(graph.outputs)
        for k, node in enumerate(graph.nodes):
            self._attach(node, k)

    def _attach(self, node: Node | DynamicNode, slot: int) -> None:
        self._slot_of[node] = slot
        if isinstance(node, Node):
            for v in node.outputs:
                self._producers[v] = node
        for v in node.inputs:
            self._readers.setdefault(v, {})[node] = None

    def __iter__(self) -> Iterator[Node]:
        for slot in self._slots:
            for node in list(slot):
                if isinstance(node, Node) and node in self._slot_of:
                    yield node

    def producer(self, var: Var) -> Node | None:
        """The node that makes a variable; None for inputs of the graph, constants, and results of dynamic nodes."""
        return self._producers.get(var)

    def readers(self, var: Var) -> list[Node | DynamicNode]:
        """The nodes that read a variable, each once, in no particular order."""
        return list(self._readers.get(var, ()))

    def only_reader(self, var: Var) -> Node | None:
        """The only node that reads a variable.

        None if there are several, if the variable is an output, or if the shape of the node's result is not known.
        """
        readers = self._readers.get(var, ())
        if len(readers) != 1 or var in self._outputs:
            return None
        reader = next(iter(readers))
        return reader if isinstance(reader, Node) else None

    def only_read_by(self, var: Var, nodes: Container[Node | DynamicNode]) -> bool:
        """Whether all readers of a variable are among some nodes, and it is no output."""
        return var not in self._outputs and all(reader in nodes for reader in self._readers.get(var, ()))

    def position(self, node: Node) -> int:
        """A number that grows along the order of nodes."""
        return self._slot_of[node]

    def replace(self, old: Sequence[Node], new: Sequence[Node]) -> None:
        """Puts nodes in place of others. The new ones must compute all results of the old ones that are still read."""
        place = max(self._slot_of[node] for node in old)
        for node in old:
            slot = self._slots[self._slot_of.pop(node)]
            slot[:] = [n for n in slot if n is not node]
            for v in node.outputs:
                self._producers.pop(v, None)
            for v in node.inputs:
                self._readers[v].pop(node, None)
        self._slots[place].extend(new)
        for node in new:
            self._attach(node, place)

    def finish(self) -> None:
        """Gives the graph its new nodes."""
        self._graph.nodes = [node for slot in self._slots for node in slot]
