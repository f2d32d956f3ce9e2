"""Converts the operators of ONNX that have graphs."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from megengine_lite._core.formats.onnx.branches import Branch, LaterBranch, OutputForm
from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import Value
from megengine_lite._core.formats.onnx.messages import AttributeProto, GraphProto
from megengine_lite._core.formats.onnx.operators.table import NeedsShapes
from megengine_lite._core.formats.onnx.ordering import names_read
from megengine_lite._core.formats.onnx.scope import Scope
from megengine_lite._core.ir import onnx_params
from megengine_lite._core.ir.graph import AnyVar, TensorSpec
from megengine_lite.errors import ModelFormatError, brief


class ControlFlow(ABC):
    """The part of a converter of graphs that converts such operators.

    Attributes
    ----------
    builder
        Makes the nodes.
    _missing
        The nodes that cannot be converted.
    _n_waiting
        How many of them can be once shapes are known.
    """

    builder: GraphBuilder
    _missing: list[str]
    _n_waiting: int

    @abstractmethod
    def fault(self, message: str) -> ModelFormatError:
        """An error about the model."""

    @abstractmethod
    def _lookup(self, name: str, scope: Scope | None) -> Value | None:
        """What a name means; None if it could not be made."""

    @abstractmethod
    def _inner(self, graph: GraphProto, scope: Scope) -> list[Value | None]:
        """The outputs of a graph inside of another one, whose values it can read."""

    @abstractmethod
    def anew(self) -> ControlFlow:
        """A converter for another graph of the same model."""

    @abstractmethod
    def refuse(self) -> None:
        """Raises if nodes could not be converted."""

    def _branch(
        self, inputs: Sequence[Value | None], attributes: Mapping[str, AttributeProto], scope: Scope
    ) -> list[Value | None]:
        """The outputs of an If: those of a branch, or of both."""
        condition = inputs[0] if len(inputs) == 1 else None
        if condition is None:
            raise self.fault(f"If {brief(self.builder.label)} needs one input, the condition")
        graphs = []
        for name in ("then_branch", "else_branch"):
            attribute = attributes.get(name)
            if attribute is None or attribute.g is None:
                raise self.fault(f"If {brief(self.builder.label)} has no {name}")
            graphs.append(attribute.g)
        decided = self.builder.known_value(condition)
        if decided is not None:
            return self._inner(graphs[0 if decided.reshape(-1).any() else 1], scope)
        return self._both_branches(condition, graphs, scope)

    def _both_branches(self, condition: Value, graphs: Sequence[GraphProto], scope: Scope) -> list[Value | None]:
        """The outputs of an If that is decided when the model runs."""
        label = self.builder.label
        branches = [self._branch_of(graph, scope) for graph in graphs]
        if None in branches:
            return [None] * len(graphs[0].output)  # listed already
        first, second = (b for b in branches if b is not None)
        if len(first.values) != len(second.values):
            raise self.fault(
                f"the branches of If {brief(label)} have {len(first.values)} and {len(second.values)} outputs"
            )
        results = [*zip(first.values, second.values, strict=True)]
        if any(a is None and b is None for a, b in results):
            raise NeedsShapes("its branches depend on shapes that are known only when the model runs")
        for a, b in results:
            if a is not None and b is not None and a.kind != b.kind:
                raise self.fault(f"the branches of If {brief(label)} give {a.kind.name} and {b.kind.name}")
            if a is not None and b is not None and a.rank != b.rank:
                raise NeedsShapes(f"its branches give results of {a.rank} and of {b.rank} dimensions")
        forms = [OutputForm.of(a, b) for a, b in results]
        graphs_of = [branch.graph(self.builder, forms) for branch in (first, second)]
        inputs = dict.fromkeys(v for branch in (first, second) for v in branch.inputs)
        outs = self.builder.nodes_of("OnnxIf", onnx_params.OnnxIf(*graphs_of), [condition.var, *inputs], len(forms))
        return [Value(var, f.kind, f.rank, f.dtype) for var, f in zip(outs, forms, strict=True)]

    def _branch_of(self, graph: GraphProto, scope: Scope) -> Branch | LaterBranch | None:
        """A branch, converted now or, where only shapes are missing, later; None if it cannot be."""
        n_missing, n_waiting = len(self._missing), self._n_waiting
        with self.builder.aside() as nodes:
            results = self._inner(graph, scope)
        values = [v for v in results if v is not None]
        if len(values) == len(results):
            return Branch(values, nodes)
        added = len(self._missing) - n_missing
        if not added or self._n_waiting - n_waiting < added:
            return None
        del self._missing[n_missing:]
        self._n_waiting = n_waiting
        captured = {}
        for name in names_read(graph):
            with contextlib.suppress(ModelFormatError):  # a name of the branch's own
                captured[name] = self._lookup(name, scope)

        def convert(specs: Mapping[AnyVar, TensorSpec]) -> tuple[Sequence[Value], GraphBuilder]:
            again = self.anew()
            inner = Scope(scope.versions, None, scope.attributes, scope.calls, {**captured})
            inner.omitted.update(name for name, value in captured.items() if value is None)
            for value in captured.values():
                if value is not None and value.var in specs:
                    again.builder.know(value, specs[value.var])
            found = again._inner(graph, inner)
            again.refuse()
            return [v for v in found if v is not None], again.builder

        inputs = [v.var for v in captured.values() if v is not None and v.var.const is None]
        return LaterBranch([None] * len(graph.output), inputs, convert)
