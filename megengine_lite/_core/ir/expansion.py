"""Nodes that stand for a graph, which is not known before the shapes or values of their inputs are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from megengine_lite._core.ir.graph import AnyNode, ModelGraph, TensorSpec


class Expansion(ABC):
    """Parameters of such a node. ``compile/expand.py`` puts the graph in the place of the node.

    Attributes
    ----------
    values
        Positions of the inputs whose values are needed, not only their shapes.
    """

    __slots__ = ()

    values: tuple[int, ...] = ()

    @abstractmethod
    def key(self, node: AnyNode, specs: Sequence[TensorSpec]) -> Hashable:
        """What decides which graph it is."""

    @abstractmethod
    def graph(self, node: AnyNode, specs: Sequence[TensorSpec]) -> ModelGraph:
        """The graph.

        It has no inputs of its own: its nodes read the node's input variables. Its outputs are the node's, in order.
        """

    def known_graphs(self) -> Sequence[ModelGraph]:
        """The graphs that are known without the inputs, for those who count or list nodes."""
        return ()
