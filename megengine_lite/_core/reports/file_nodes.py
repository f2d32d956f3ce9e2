"""The operators of a model's file, with shapes and work as far as they are known without a run.

An ONNX model is run by a graph of other operators that is made of those of the file. What is known of that graph is
told here by the names of the file's own values and nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from megengine_lite._core.compile.infer import Stage
from megengine_lite._core.ir.graph import (
    AnyNode,
    AnyVar,
    DynamicNode,
    DynamicSpec,
    ModelGraph,
    Node,
    Spec,
    TensorSpec,
)
from megengine_lite._core.operators import REGISTRY
from megengine_lite._records import field, record

if TYPE_CHECKING:
    from megengine_lite._core.formats.loaded_model import LoadedModel


NO_SHAPES: Mapping[str, tuple[int, ...]] = MappingProxyType({})


@record(slots=True)
class FileNodes:
    """A graph to look at, the types and shapes of its variables, and the multiply-adds of its nodes."""

    graph: ModelGraph
    specs: dict[AnyVar, Spec] = field(default_factory=dict)
    multiply_adds: dict[AnyNode, int] = field(default_factory=dict)


def known_specs(stage: Stage) -> dict[AnyVar, Spec]:
    """Types and shapes of the variables of the model's graph, as far as a stage tells."""
    return {source: copy.spec for copy, source in stage.original.items() if copy.spec is not None}


def inferred_nodes(stage: Stage | None) -> dict[AnyVar, Node | DynamicNode]:
    """The nodes that a stage has inferred, by the first result in the model's graph."""
    return {} if stage is None else {stage.original[n.outputs[0]]: n for n in stage.graph.nodes if n.outputs}


def imported_nodes(graph: ModelGraph, stage: Stage | None) -> FileNodes:
    """Those of the model's graph; ``stage`` tells what is known of it."""
    return FileNodes(graph, {} if stage is None else known_specs(stage), dict(_work(graph, stage)))


def file_nodes(model: LoadedModel, stage: Stage | None, shapes: Mapping[str, tuple[int, ...]] = NO_SHAPES) -> FileNodes:
    """Those of the file.

    Parameters
    ----------
    stage
        Tells what is known of the model's graph.
    shapes
        Those that inputs are given, where the model does not run with them and there is no stage.
    """
    if model.file_graph is None:
        graph = model.listed_graph()
        if stage is not None and graph is model.graph:
            return imported_nodes(graph, stage)
    else:
        graph = model.file_graph()
    found = FileNodes(graph)
    if stage is None or model.file_graph is None:
        found.specs = _with_shapes(graph, shapes)
        return found
    by_name = dict(_named_specs(model, stage))
    for var in {*graph.inputs, *graph.outputs, *(v for n in graph.nodes for v in (*n.inputs, *n.outputs))}:
        if (spec := _agreed(var.spec, by_name.get(var.name))) is not None:
            found.specs[var] = spec
    work: Counter[str] = Counter()
    for node, cost in _work(model.graph, stage):
        work[node.name] += cost
    labels = Counter(node.name for node in graph.nodes)
    found.multiply_adds = {n: work[n.name] for n in graph.nodes if labels[n.name] == 1 and n.name in work}
    return found


def _with_shapes(graph: ModelGraph, shapes: Mapping[str, tuple[int, ...]]) -> dict[AnyVar, Spec]:
    """What is known of variables if inputs get these shapes: if they are others, not what the file says of results."""
    given: dict[AnyVar, Spec] = {
        v: TensorSpec(shapes[v.name], v.spec.dtype)
        for v in graph.inputs
        if v.name in shapes and isinstance(v.spec, TensorSpec) and v.spec.shape != shapes[v.name]
    }
    if not given:
        return {}
    made = (v for node in graph.nodes for v in node.outputs if v.const is None)
    return {**{v: DynamicSpec(v.spec.dtype) for v in made if v.spec is not None}, **given}


def work_in_file(graph: ModelGraph, stage: Stage | None) -> Counter[str]:
    """Multiply-adds by the operators of the file that the nodes of a model's graph were made for."""
    found: Counter[str] = Counter()
    for node, cost in _work(graph, stage):
        found[graph.operators_in_file.get(node.name, node.op)] += cost
    return found


def file_layers(model: LoadedModel, stage: Stage | None, shapes: Mapping[str, tuple[int, ...]]) -> list[dict[str, Any]]:
    """Operator, name, shapes and multiply-adds of each node of the file, in order."""
    known = file_nodes(model, stage, shapes)
    return [
        {
            "operator": node.op,
            "name": node.name,
            "inputs": [_shape(known, v) for v in node.inputs],
            "outputs": [_shape(known, v) for v in node.outputs],
            "multiply_adds": known.multiply_adds.get(node, 0),
        }
        for node in known.graph.nodes
    ]


def _shape(known: FileNodes, var: AnyVar) -> list[int] | None:
    spec = known.specs.get(var, var.spec)
    return list(spec.shape) if isinstance(spec, TensorSpec) else None


def _work(graph: ModelGraph, stage: Stage | None) -> Iterator[tuple[AnyNode, int]]:
    """The nodes that multiply and add, and how often."""
    inferred = inferred_nodes(stage)
    for node in graph.nodes:
        known = inferred.get(node.outputs[0]) if node.outputs else None
        if isinstance(known, Node) and (cost := REGISTRY[known.op].multiply_adds(known)):
            yield node, cost


def _named_specs(model: LoadedModel, stage: Stage) -> Iterator[tuple[str, Spec]]:
    """What is known of values, by their names in the file."""
    names = model.names_of_results().tensors
    inputs = {v.id: v.name for v in model.graph.inputs}
    for var, spec in known_specs(stage).items():
        yield from ((name, spec) for name in names.get(var.id, ()))
        if var.id in inputs:
            yield inputs[var.id], spec


def _agreed(said: Spec | None, found: Spec | None) -> Spec | None:
    """The shape that was found with the type of the file, of which the graph lacks some, and with its scalars."""
    if said is None or not isinstance(found, TensorSpec):
        return found if said is None else said
    is_scalar = isinstance(said, TensorSpec) and said.shape == () and found.shape == (1,)
    return TensorSpec(() if is_scalar else found.shape, said.dtype)
