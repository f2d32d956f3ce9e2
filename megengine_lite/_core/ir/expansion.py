"""Nodes that stand for graphs: one that takes their place, or one that runs again and again.

Such a node begins a stage, since its graph may depend on what has been computed before it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from megengine_lite._records import record

if TYPE_CHECKING:
    from megengine_lite._core.ir.dtype import DType
    from megengine_lite._core.ir.graph import AnyNode, AnyVar, ModelGraph, TensorSpec


class Subgraphs:
    """Parameters of a node that stands for graphs."""

    __slots__ = ()

    def known_graphs(self) -> Sequence[ModelGraph]:
        """The graphs that are known without the inputs, for those who count or list nodes."""
        return ()


class Expansion(Subgraphs, ABC):
    """Parameters of a node that stands for a graph, which is not known before the shapes or values of its inputs are.

    ``compile/expand.py`` puts the graph in the place of the node.

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

    def depends_on_shapes(self, specs: Sequence[TensorSpec]) -> bool:
        """Whether the graph is another one for inputs of other shapes, not only of other values."""
        return True

    @abstractmethod
    def graph(self, node: AnyNode, specs: Sequence[TensorSpec]) -> ModelGraph:
        """The graph.

        It has no inputs of its own: its nodes read the node's input variables. Its outputs are the node's, in order.
        """


@record(frozen=True, slots=True)
class Sliced:
    """An input of which each round gets a part: along which axis, and whether the last part comes first."""

    axis: int
    backwards: bool


@record(frozen=True, slots=True)
class Stacked:
    """An output that has a part of each round.

    Attributes
    ----------
    axis, backwards
        The new axis along which they stand, and whether the last one stands first.
    dtype
        The type of the elements.
    shape
        The shape of a part as far as the model says it, 0 for what it does not say. It counts if there are no rounds.
    """

    axis: int
    backwards: bool
    dtype: DType
    shape: tuple[int, ...]


@record(frozen=True, slots=True, eq=False)
class Repetition(Subgraphs):
    """Parameters of a node that runs a graph in rounds. ``runtime/repetition.py`` does it.

    The node's inputs are the number of rounds and the condition of the first one, if they are given; the states; the
    inputs that are cut in slices; and the variables outside of the graph that it reads. Its outputs are the last states
    and the outputs that are stacked.

    Attributes
    ----------
    body
        The graph. Its inputs are the number of the round and the condition, if it ``asks``, the states, and the slices;
        its outputs are the condition of the next round, if it ``asks``, the new states and the parts of stacked
        outputs.
    outside
        The variables outside of the graph that it reads, or gives as outputs.
    n_states
        How many states go from round to round.
    has_count, has_condition
        Whether the node has these inputs.
    asks
        Whether the graph says if there is another round. Else there are as many as slices.
    sliced, stacked
        How inputs are cut, and outputs put together.
    """

    body: ModelGraph
    outside: tuple[AnyVar, ...]
    n_states: int
    has_count: bool = False
    has_condition: bool = False
    asks: bool = False
    sliced: tuple[Sliced, ...] = ()
    stacked: tuple[Stacked, ...] = ()

    def known_graphs(self) -> Sequence[ModelGraph]:
        return (self.body,)
