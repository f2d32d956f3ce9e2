"""The part of a model whose shapes are known before it runs; what depends on data is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from megengine_lite._core.compile.expand import all_nodes, expanded
from megengine_lite._core.compile.infer import NeedsExpansion, NeedsRounds, NeedsValue, Stage, infer_stage
from megengine_lite._core.compile.transform.counterparts import find
from megengine_lite._core.compile.transform.size_origins import SizeOrigins
from megengine_lite._core.compile.unroll import sliced_inputs, unrolled
from megengine_lite._core.ir.expansion import Expansion, Repetition, Subgraphs
from megengine_lite._core.ir.graph import AnyNode, AnyVar, ConstantPool, DynamicNode, ModelGraph, TensorSpec, Var
from megengine_lite._core.operators.base import operator_of
from megengine_lite._records import record
from megengine_lite.errors import InternalError, brief, listed

MISSING = "there is no such operator"


@record(frozen=True, slots=True)
class KnownPart:
    """The part of a model whose shapes are known before it runs.

    Attributes
    ----------
    graph
        Its nodes in the model's terms, with graphs in the place of the nodes that stand for them.
    stage
        The same with shapes. What follows from them is constant there.
    problems
        Nodes that are left out, since they depend on data, and those behind them that files would not have otherwise.
    decided
        Variables and axes by which graphs were chosen: the size of an axis, or for None the shape and the numbers.
    """

    graph: ModelGraph
    stage: Stage
    problems: list[tuple[AnyNode, str]]
    decided: list[tuple[AnyVar, int | None]]

    def origins(self, known: Mapping[AnyVar, TensorSpec]) -> SizeOrigins:
        """From which sizes of the inputs, which are known, all of it follows."""
        specs = {original: _spec_with_value(copy) for copy, original in self.stage.original.items()}
        return SizeOrigins(self.graph, {**known} | {v: spec for v, spec in specs.items() if spec is not None})


def _spec_with_value(copy: AnyVar) -> TensorSpec | None:
    if not isinstance(copy, Var):
        return None
    spec, const = copy.spec, copy.const
    return spec if const is None or spec.value is not None else TensorSpec(spec.shape, spec.dtype, const.array)


def known_part(source: ModelGraph, known: Mapping[AnyVar, TensorSpec]) -> KnownPart:
    """The graph with all shapes known, and what follows from them constant. What depends on data is left out."""
    graph = source
    problems: list[tuple[AnyNode, str]] = []
    decided: list[tuple[AnyVar, int | None]] = []
    while True:
        end, culprits = 0, []
        try:
            stage = infer_stage(graph, 0, known, ConstantPool())
        except NeedsExpansion as need:
            decided += _deciding(graph.nodes[0], need.specs)
            graph = expanded(graph, 0, need.specs)
            continue
        except (NeedsRounds, NeedsValue) as need:
            culprits = [need.node]
        else:
            end = stage.next_node
            made = {
                stage.original.get(v, v) for n in stage.graph.nodes if isinstance(n, DynamicNode) for v in n.outputs
            }
            culprits = [node for node in graph.nodes[:end] if not made.isdisjoint(node.outputs)]
            if end == len(graph.nodes) and not culprits:
                loops = [k for k, node in enumerate(graph.nodes) if isinstance(node.params, Subgraphs)]
                if not loops:
                    return KnownPart(graph, stage, problems, decided)
                graph, more = _with_rounds(graph, stage, loops)
                decided += more
                continue
            if end < len(graph.nodes) and isinstance(graph.nodes[end].params, Subgraphs):
                specs = _specs_of(stage, graph, end, known)
                if specs is not None:
                    decided += _deciding(graph.nodes[end], specs)
                    graph = expanded(graph, end, specs)
                    continue
        for node in culprits or [graph.nodes[end]]:
            problems.append((node, _reason_of(node, graph)))
            graph, others = _without(graph, node)
            problems += others


def _deciding(node: AnyNode, specs: Sequence[TensorSpec]) -> list[tuple[AnyVar, int | None]]:
    """By what the graph is chosen that takes the place of a node."""
    expansion = node.params
    if expansion.depends_on_shapes(specs):
        return [(v, None) for v in node.inputs]
    return [(node.inputs[k], None) for k in expansion.values]


def _with_rounds(
    graph: ModelGraph, stage: Stage, loops: Sequence[int]
) -> tuple[ModelGraph, list[tuple[AnyVar, int | None]]]:
    """The graph with the rounds of loops, which inference has found to be few; and what decides how many."""
    copies = {original: copy for copy, original in stage.original.items()}
    nodes = list(graph.nodes)
    decided: list[tuple[AnyVar, int | None]] = []
    for k in reversed(loops):
        node = nodes[k]
        specs = [_spec_with_value(copies[v]) for v in node.inputs]
        rounds = unrolled(node, [spec for spec in specs if spec is not None])
        if rounds is None:
            raise InternalError(f"{node}: its rounds were known before")
        nodes[k : k + 1] = rounds
        p = node.params
        decided += [(v, None) for v in node.inputs[: p.has_count + p.has_condition]]
        decided += sliced_inputs(node)
    return ModelGraph(nodes, graph.inputs, graph.outputs, graph.output_names), decided


def _specs_of(
    stage: Stage, graph: ModelGraph, end: int, known: Mapping[AnyVar, TensorSpec]
) -> Sequence[TensorSpec] | None:
    """What is known of the inputs of a node that stands for a graph, if that is enough to put the graph there."""
    before = ModelGraph(graph.nodes[:end], graph.inputs, list(graph.nodes[end].inputs), [])
    part = infer_stage(before, 0, known, ConstantPool())
    made = {original: copy for copy, original in part.original.items()}
    specs: dict[AnyVar, TensorSpec] = {**known}
    for var in graph.nodes[end].inputs:
        spec = _spec_with_value(made[var]) if var in made else None
        if spec is not None:
            specs[var] = spec
        elif var.const is None and var not in specs:
            return None
    try:
        infer_stage(graph, end, specs, ConstantPool())
    except NeedsExpansion as need:
        return need.specs
    except (NeedsRounds, NeedsValue):
        return None
    return None


def _reason_of(node: AnyNode, graph: ModelGraph) -> str:
    if isinstance(node.params, Subgraphs):
        decided, what = _deciding_values(node), "whether and how often its graph is computed depends on"
    elif is_missing(node):
        return MISSING
    else:
        places = operator_of(node.op).needed_values(node)
        decided, what = [node.inputs[k] for k in places], "the shape of its results depends on"
    names = _inputs_behind(decided, graph)
    if not names:
        return f"{what} data"
    return f"{what} the values of {listed([*map(brief, names)], ', ', 5)}; give the model constants in their place"


def _deciding_values(node: AnyNode) -> Sequence[AnyVar]:
    """The variables whose values decide about the graph of a node."""
    p = node.params
    if isinstance(p, Expansion):
        return [node.inputs[k] for k in p.values]
    return node.inputs[: p.has_count + p.has_condition] if isinstance(p, Repetition) else ()


def _inputs_behind(variables: Sequence[AnyVar], graph: ModelGraph) -> list[str]:
    """The names of the model's inputs from whose values those of some variables follow."""
    makers = {v: node for node in graph.nodes for v in node.outputs}
    found = dict.fromkeys(variables)
    waiting = [*found]
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None:
            operator = operator_of(node.op)
            read = [node.inputs[k] for k in operator.needed_values(node)] if operator.of_shapes else node.inputs
            waiting += (v for v in read if v not in found)
            found.update(dict.fromkeys(read))
    return [v.name for v in graph.inputs if v in found]


def _without(graph: ModelGraph, node: AnyNode) -> tuple[ModelGraph, list[tuple[AnyNode, str]]]:
    """The graph without a node and all that read what it makes; of these, those that files have not either."""
    gone, kept, problems = set(node.outputs), [], []
    for other in graph.nodes:
        if other is node:
            problems += [(n, MISSING) for n in _inside(other) if is_missing(n)]
        elif gone.isdisjoint(other.inputs):
            kept.append(other)
        else:
            gone.update(other.outputs)
            problems += [(n, MISSING) for n in (other, *_inside(other)) if is_missing(n)]
    pairs = [(v, n) for v, n in zip(graph.outputs, graph.output_names, strict=True) if v not in gone]
    return ModelGraph(kept, graph.inputs, [v for v, _ in pairs], [n for _, n in pairs]), problems


def _inside(node: AnyNode) -> Iterator[AnyNode]:
    if isinstance(node.params, Subgraphs):
        for inner in node.params.known_graphs():
            yield from all_nodes(inner)


def is_missing(node: AnyNode) -> bool:
    """Whether files lack a node whatever its shapes are."""
    return operator_of(node.op).in_files is None and find(node.op) is None and not operator_of(node.op).of_shapes
