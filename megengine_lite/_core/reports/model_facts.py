"""What can be said of a model without running it: operators, shapes, parameters, work, and what cannot run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from megengine_lite._core.compile.expand import all_nodes
from megengine_lite._core.compile.infer import NeedsExpansion, NeedsRounds, NeedsValue, Stage, infer_stage
from megengine_lite._core.formats.loaded_model import StoredTensor
from megengine_lite._core.ir.declared_shape import OpenShape, agreed_shape, with_open_sizes
from megengine_lite._core.ir.foreign import ForeignNode
from megengine_lite._core.ir.graph import (
    AnyNode,
    AnyVar,
    ConstantPool,
    DynamicSpec,
    ModelGraph,
    Node,
    Spec,
    TensorSpec,
    Var,
)
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.reports.file_nodes import inferred_nodes, known_specs, work_in_file
from megengine_lite.errors import NOT_ABOUT_THE_MODEL, LiteError

if TYPE_CHECKING:
    from megengine_lite._core.formats.loaded_model import LoadedModel

Shapes = Mapping[str, tuple[int, ...]]


def first_stage(model: LoadedModel, shapes: Shapes) -> Stage:
    """Everything that is known about the graph with inputs of these shapes, without running it."""
    known: dict[AnyVar, TensorSpec] = {}
    for var in model.graph.inputs:
        default = model.default_inputs.get(var.name)
        value = default.array if default is not None and var.name not in shapes else None
        known[var] = TensorSpec(shapes.get(var.name, var.shape), var.dtype, value)
    while True:
        try:
            return infer_stage(model.graph, 0, known, ConstantPool())
        except (NeedsExpansion, NeedsRounds):
            return infer_stage(ModelGraph([], model.graph.inputs, [], []), 0, known, ConstantPool())
        except NeedsValue as need:
            spec = known[need.var]
            # The value of the input is not known here; zeros are as good as any others.
            known[need.var] = TensorSpec(spec.shape, spec.dtype, np.zeros(spec.shape, spec.dtype.storage))


def model_facts(model: LoadedModel, shapes: Shapes) -> dict[str, Any]:
    """Counts, sizes and shapes of a model whose inputs have these shapes, as plain types.

    Inputs that are not named have the shapes of the file. An input or output has ``declared``, its shape as the file
    says it, if that leaves sizes open and no shapes are given. ``unsupported`` lists the operators that cannot run,
    ``problem`` says why the shapes do not fit; it is None if they do. ``operators`` counts those of the
    graph by their type, and ``multiply_adds`` their work. ``file_operators`` is the number of those of the file, from
    which an ONNX model's graph is made, ``operators_in_file`` and ``multiply_adds_in_file`` are the same by the types
    of the file. Work of an operator that is not counted there is done in functions of the model.
    """
    graph = model.graph
    unsupported = unsupported_operators(graph)
    problem = model.problem
    stage = None
    try:
        stage = first_stage(model, shapes) if not unsupported and problem is None else None
    except NOT_ABOUT_THE_MODEL:
        raise
    except LiteError as error:
        given = {v.name: shapes.get(v.name, v.shape) for v in graph.inputs}
        problem = with_open_sizes(str(error), graph.declared, given)
    specs = known_specs(stage) if stage is not None else {}
    in_file = model.listed_graph()
    work, layers = _layers(in_file, stage if in_file is graph else None)
    counts = Counter(n.op for n in all_nodes(in_file))
    counts_in_file = counts if model.file_operators is None else Counter(model.file_operators)
    work_of_file = work if in_file is not graph else work_in_file(graph, stage)
    tensors = tensors_in_file(model, in_file)
    said = {} if shapes else model.open_shapes
    return {
        "container": _container(model),
        "inputs": [_tensor(n, v, _input_spec(v, shapes), said) for n, v in _inputs(model)],
        "outputs": [
            _tensor(n, v, specs.get(v) or _said_type(model, n), said)
            for n, v in zip(graph.output_names, graph.outputs, strict=True)
        ],
        "operators": dict(counts.most_common()),
        "operators_in_file": dict(counts_in_file.most_common()),
        "file_operators": counts_in_file.total(),
        "multiply_adds": dict(work.most_common()),
        "multiply_adds_in_file": dict(work_of_file.most_common()),
        "multiply_adds_total": sum(work.values()),
        "complete": stage is not None and stage.next_node == len(graph.nodes),
        "parameters": sum(t.size for t in tensors),
        "parameter_bytes": sum(t.nbytes for t in tensors),
        "unsupported": unsupported,
        "problem": problem,
        "layers": layers,
    }


def tensors_in_file(model: LoadedModel, listed: ModelGraph) -> Sequence[StoredTensor]:
    """The tensors that the file stores and its operators read; ``listed`` is the model's listed graph."""
    if model.stored_tensors is not None:
        return model.stored_tensors
    found: dict[int, StoredTensor] = {}
    for node in all_nodes(listed):
        for var in node.inputs:
            if var.const is not None and isinstance(spec := var.spec, TensorSpec):
                made = StoredTensor(var.name, spec.dtype, spec.shape, spec.size, spec.nbytes)
                found.setdefault(id(var.const), made).readers[f"{node.op} {node.name}"] = None
    return [*found.values()]


def _container(model: LoadedModel) -> dict[str, Any]:
    container: dict[str, Any] = {"format": model.container, "release": model.version}
    if model.package is not None:
        container["package"] = {
            "name": model.package.name,
            "model_encryption": model.package.model_cryption,
            "information_encryption": model.package.information_cryption,
            "has_cache": model.package.algorithm_cache is not None,
        }
    if model.metadata is not None:
        container["user_info_bytes"] = len(model.metadata.user_info)
    return container


def _inputs(model: LoadedModel) -> list[tuple[str, Var]]:
    by_name = {v.name: v for v in model.graph.inputs}
    return [(name, by_name[name]) for name in model.input_names]


def _input_spec(var: Var, shapes: Shapes) -> Spec | None:
    spec: Spec | None = var.spec  # there is none where a model that cannot be run does not say it
    return TensorSpec(shapes[var.name], spec.dtype) if var.name in shapes and spec is not None else spec


def unsupported_operators(graph: ModelGraph) -> list[dict[str, str]]:
    """The operators that nothing here can compute, in order; of those in branches and functions also what has them."""
    found = []
    for node in graph.nodes:
        if not is_known(node):
            inside = unknown_inside(node)
            found += [{"operator": op, "name": name, "inside": f"{node.op} {node.name}"} for op, name in inside]
            if not inside:
                found.append({"operator": node.op, "name": node.name})
    return found


def unknown_inside(node: AnyNode) -> Sequence[tuple[str, str]]:
    """Operator and name of what is not known in the branches or the function of a node."""
    return node.params.inside if isinstance(node.params, ForeignNode) else ()


def is_known(node: AnyNode) -> bool:
    """Whether there is an operator that computes a node."""
    return node.params.is_known if isinstance(node.params, ForeignNode) else node.op in REGISTRY


def _said_type(model: LoadedModel, name: str) -> Spec | None:
    dtype = model.output_types.get(name)
    return None if dtype is None else DynamicSpec(dtype)


def _tensor(name: str, var: AnyVar, spec: Spec | None, said: Mapping[str, OpenShape | None]) -> dict[str, Any]:
    if spec is None and var.const is not None:
        spec = var.spec
    shape = list(spec.shape) if isinstance(spec, TensorSpec) else None
    declared = agreed_shape(said.get(name), shape)
    facts = {"name": name, "dtype": None if spec is None else str(spec.dtype), "shape": shape}
    return facts if declared is None else {**facts, "declared": list(declared)}


def _layers(graph: ModelGraph, stage: Stage | None) -> tuple[Counter[str], list[dict[str, Any]]]:
    """Multiply-adds by type of operator, and all operators in order."""
    inferred = inferred_nodes(stage)
    work: Counter[str] = Counter()
    layers = []
    for node in graph.nodes:
        known = inferred.get(node.outputs[0]) if node.outputs else None
        cost = REGISTRY[known.op].multiply_adds(known) if isinstance(known, Node) else 0
        if cost:
            work[node.op] += cost
        layers.append(
            {
                "operator": node.op,
                "name": node.name,
                "inputs": None if known is None else [_shape(v) for v in known.inputs],
                "outputs": None if known is None else [_shape(v) for v in known.outputs],
                "multiply_adds": cost,
                "folded": stage is not None and known is None,
            }
        )
    return work, layers


def _shape(var: AnyVar) -> list[int] | None:
    return list(var.shape) if isinstance(var, Var) else None
