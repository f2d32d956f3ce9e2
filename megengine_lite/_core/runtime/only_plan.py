"""A single plan that runs a whole model, where there is no graph to make others from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from megengine_lite._core.device.plan import Plan, RunValue
from megengine_lite._core.ir.graph import AnyVar, ModelGraph, Spec, TensorSpec
from megengine_lite.errors import LiteError


class GraphPlace(ABC):
    """A place between the nodes of a graph, where a run may have come to."""

    follows_values: bool  # whether one comes here because of values, not only of shapes

    @property
    def scalars(self) -> frozenset[AnyVar]:
        """Outputs of which it is known here that they have no dimensions in the model."""
        return frozenset()

    @property
    @abstractmethod
    def is_end(self) -> bool:
        """Whether no node is left."""

    @abstractmethod
    def needs(self, var: AnyVar) -> bool:
        """Whether the variable is an output, or a node behind this place reads it."""


class _End(GraphPlace):
    """The begin and the end of a graph without nodes."""

    follows_values = False
    is_end = True

    def needs(self, var: AnyVar) -> bool:
        return True


class OnlyPlan:
    """The plans of a session that has one only; see :class:`Plans`, whose place it takes.

    Parameters
    ----------
    graph
        The inputs and outputs of the model, without nodes.
    plan
        What runs it, with memory for its outputs.
    reason
        Why there is no other, for errors.
    declared
        The specs of outputs for inputs of the declared shapes, as far as they are known.
    """

    is_single = True

    def __init__(self, graph: ModelGraph, plan: Plan, reason: str, declared: Mapping[AnyVar, Spec] | None = None):
        self.graph = graph
        self.root: GraphPlace = _End()
        self._plan = plan
        self._reason = reason
        self._declared = declared or {}

    def __iter__(self) -> Iterator[Plan]:
        yield self._plan

    def only_plan(self, problem: str) -> tuple[Plan, GraphPlace]:
        """The plan, and the end."""
        return self._plan, self.root

    def fits(self, known: Mapping[AnyVar, TensorSpec]) -> bool:
        """Whether the plan runs inputs of these shapes."""
        return all(known[slot.var].shape == slot.spec.shape for slot in self._plan.inputs)

    def infer_outputs(self, known: Mapping[AnyVar, TensorSpec]) -> Mapping[AnyVar, Spec]:
        """Specs of outputs for specs of inputs, as far as they are known without a graph."""
        if self.fits(known):
            return {slot.var: slot.spec for slot in self._plan.outputs}
        if all(known[v].shape == v.shape for v in self.graph.inputs):
            return self._declared
        return {}

    def find(self, place: GraphPlace, values: Mapping[AnyVar, RunValue]) -> tuple[Plan, GraphPlace]:
        """The plan, and the end.

        Raises
        ------
        LiteError
            It is for other shapes.
        """
        for slot in self._plan.inputs:
            if values[slot.var].spec.shape != slot.spec.shape:
                raise LiteError(
                    f"input {slot.var.name!r} has shape {values[slot.var].spec.shape}; {self._reason}, so only "
                    f"{slot.spec.shape} can be run"
                )
        return self._plan, place
