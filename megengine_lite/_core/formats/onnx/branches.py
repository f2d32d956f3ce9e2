"""The branches of an ``If``: converted when the model is loaded, or when they are chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import NotConverted, Nothing, TensorList, Value, tensors_of
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.tensors import DTYPES
from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.ir.graph import AnyNode, AnyVar, ModelGraph, TensorSpec
from megengine_lite._records import record
from megengine_lite.errors import UnsupportedOperatorError

Specs = Mapping[AnyVar, TensorSpec]


@record(frozen=True, slots=True)
class OutputForm:
    """What both branches give for an output."""

    kind: ElementType
    rank: int
    dtype: DType

    @classmethod
    def of(cls, *values: Value | None) -> OutputForm:
        """The form of what branches give; None stands for what is not known yet."""
        known = [v for v in values if v is not None]
        same = len({v.dtype for v in known}) == 1 and len(known) == len(values)
        return cls(known[0].kind, known[0].rank, known[0].dtype if same else DTYPES[known[0].kind])


@record(frozen=True, slots=True)
class Branch:
    """A branch that has been converted: its outputs and nodes."""

    values: Sequence[Value]
    nodes: list[AnyNode]

    @property
    def inputs(self) -> list[AnyVar]:
        """Variables that it reads and does not make."""
        made = {v for node in self.nodes for v in node.outputs}
        read = (*(v for node in self.nodes for v in node.inputs), *(v.var for v in self.values))
        return [v for v in read if v.const is None and v not in made]

    def lists(self) -> dict[int, TensorList]:
        """The sequences among the outputs, by their places."""
        return {k: v for k, v in enumerate(self.values) if isinstance(v, TensorList)}

    def of_tensors(self) -> Branch:
        """The branch with the tensors of sequences as outputs."""
        if any(isinstance(v, Nothing) for v in self.values):
            raise NotConverted("whether an optional value is there is known only when the model runs")
        return Branch(tensors_of(self.values), self.nodes)

    def graph(self, builder: GraphBuilder, forms: Sequence[OutputForm]) -> ModelGraph:
        """The graph, with outputs of these forms."""
        with builder.aside(self.nodes):
            pairs = zip(self.values, forms, strict=True)
            outputs = [v.var if v.dtype == f.dtype else builder.exact(v) for v, f in pairs]
        return ModelGraph(self.nodes, [], outputs, [""] * len(outputs))


@record(frozen=True, slots=True)
class LaterBranch:
    """A branch that is converted when it is chosen, because the shapes that it depends on are known then.

    Attributes
    ----------
    values
        None for each output: what it is, is not known yet.
    inputs
        Variables that it may read.
    convert
        Converts it for inputs of given shapes; gives its outputs and the builder that has its nodes.
    """

    values: Sequence[None]
    inputs: Sequence[AnyVar]
    convert: Callable[[Specs], tuple[Sequence[Value], GraphBuilder]]

    def lists(self) -> dict[int, TensorList]:
        """None: what its outputs are, is not known yet."""
        return {}

    def of_tensors(self) -> LaterBranch:
        return self

    def graph(self, builder: GraphBuilder, forms: Sequence[OutputForm]) -> Callable[[Specs], ModelGraph]:
        """What makes the graph, with outputs of these forms."""
        label = builder.label

        def make(specs: Specs) -> ModelGraph:
            values, own = self.convert(specs)
            for value, form in zip(values, forms, strict=True):
                if (value.kind, value.rank) != (form.kind, form.rank):
                    raise UnsupportedOperatorError(
                        f"a graph of {label!r} gives {value.kind.name} of {value.rank} dimensions where "
                        f"{form.kind.name} of {form.rank} is needed: such a model cannot be run"
                    )
            return Branch(values, own.nodes).graph(own, forms)

        return make
