"""The operators of a report: boxes, and arrows between them.

A box is a dictionary of plain types. ``kind`` is ``"input"``, ``"operator"`` or ``"output"``.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from megengine_lite._core.compile.expand import all_nodes
from megengine_lite._core.device.plan import PlanReport
from megengine_lite._core.ir.expansion import Expansion, Subgraphs
from megengine_lite._core.ir.foreign import ForeignNode
from megengine_lite._core.ir.graph import AnyNode, AnyVar, ModelGraph, Spec, TensorSpec
from megengine_lite._core.reports.file_nodes import FileNodes
from megengine_lite._core.reports.model_facts import is_known, unknown_inside
from megengine_lite._core.reports.model_report.recorded_run import (
    NodeTime,
    Parts,
    RecordedLoop,
    RecordedPlan,
    all_plans,
    in_order,
    outside_of,
    spans,
)
from megengine_lite._core.reports.profile import parameter_values
from megengine_lite._records import field, record

if TYPE_CHECKING:
    from megengine_lite._core.device.planned_graph import PlannedGraph, PlannedNode

# Inputs and merged operators that are listed for one operator: a concatenation of thousands has as many.
MOST_LISTED = 64


@record(slots=True)
class Boxes:
    """Boxes in the order in which they run, and arrows between them by position."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    edges: dict[tuple[int, int], None] = field(default_factory=dict)

    def add(self, kind: str, op: str, name: str, reads: Iterable[int | None], **facts: Any) -> int:
        """Adds a box and the arrows to it; gives its position. None among ``reads`` is where no box is known."""
        place = len(self.nodes)
        self.nodes.append({"kind": kind, "op": op, "name": name, **facts})
        self.connect(reads, place)
        return place

    def connect(self, reads: Iterable[int | None], place: int) -> None:
        """Adds arrows to a box, those that are not there yet."""
        self.edges.update(((source, place), None) for source in reads if source is not None)

    def sort(self) -> None:
        """Puts each box behind those from which arrows lead to it. Else they stay in their order."""
        if all(source < target for source, target in self.edges):
            return
        sources: list[list[int]] = [[] for _ in self.nodes]
        for source, target in self.edges:
            sources[target].append(source)
        order: dict[int, int] = {}
        begun: set[int] = set()
        waiting = [(k, False) for k in reversed(range(len(self.nodes)))]
        while waiting:
            k, is_ready = waiting.pop()
            if is_ready:
                order[k] = len(order)
            elif k not in begun:
                begun.add(k)
                waiting.append((k, True))
                waiting += [(source, False) for source in reversed(sources[k])]
        self.nodes = [self.nodes[k] for k in order]
        self.edges = {(order[a], order[b]): None for a, b in self.edges}


def tensor_facts(spec: Spec | None, name: str = "", memory: str = "") -> dict[str, Any]:
    """Type and shape of a tensor, and its name and layout where they are known."""
    shape = list(spec.shape) if isinstance(spec, TensorSpec) else None
    facts: dict[str, Any] = {"type": None if spec is None else str(spec.dtype), "shape": shape}
    return {**facts, **({"name": name} if name else {}), **({"memory": memory} if memory else {})}


# ---- as a plan runs it -----------------------------------------------------------------------------------------------


def planned_boxes(graph: ModelGraph, parts: Parts) -> Boxes:
    """The boxes of a run.

    The box of a loop stands behind those of its graph, whose last results it reads. What they read from outside is that
    of the first round.

    Parameters
    ----------
    graph
        The model's.
    parts
        What ran; the plans explain themselves.
    """
    boxes = Boxes()
    made = {v.id: [boxes.add("input", "Input", v.name, (), outputs=[tensor_facts(v.spec)])] for v in graph.inputs}
    drawing = _Drawing(boxes, made, _Merged(graph, [plan.report for plan in all_plans(parts)]))
    drawing.add(parts)
    for name, var in zip(graph.output_names, graph.outputs, strict=True):
        outputs = [tensor_facts(drawing.specs.get(var.id, var.spec))]
        boxes.add("output", "Output", name, made.get(var.id, ()), outputs=outputs)
    boxes.sort()
    return boxes


@record(slots=True)
class _Drawing:
    """The boxes of a run while they are added.

    Attributes
    ----------
    made
        The boxes by the numbers of the variables that they make. It is several if a loop makes one in several ways.
    insides
        For each box, the branches that it is a part of.
    specs
        Of the variables that plans give.
    steps
        How many there are in all plans until now.
    """

    boxes: Boxes
    made: dict[int, list[int]]
    merged: _Merged
    insides: dict[int, set[AnyNode]] = field(default_factory=dict)
    specs: dict[int, Spec | None] = field(default_factory=dict)
    steps: int = 0

    def add(self, parts: Parts, loop: dict[Hashable, int] | None = None) -> None:
        """Adds what ran; ``loop`` has the boxes of the loop that it belongs to."""
        for part in in_order(parts):
            if isinstance(part, RecordedLoop):
                self._add_loop(part)
            else:
                self._add_plan(part, loop)

    def _makers(self, variables: Iterable[AnyVar]) -> list[int]:
        return [place for v in variables for place in self.made.get(v.id, ())]

    def _add_loop(self, loop: RecordedLoop) -> None:
        node, p = loop.node, loop.node.params
        for inner, outer in outside_of(loop):
            self.made[inner] = self.made.get(outer, [])
        self.add(loop.parts, {})
        deciding = node.inputs[: p.has_count + p.has_condition]
        place = self.boxes.add(
            "operator",
            node.op,
            _title(node),
            self._makers([*deciding, *(p.body.outputs if loop.rounds else node.inputs)]),
            inputs=[tensor_facts(v.spec) for v in node.inputs[:MOST_LISTED]],
            outputs=[tensor_facts(v.spec, v.name) for v in node.outputs[:MOST_LISTED]],
            ms=0.0,
            operations=0,
            bytes=0,
            kernels=[],
            rounds=loop.rounds,
        )
        self.made.update({v.id: [place] for v in node.outputs})

    def _add_plan(self, plan: RecordedPlan, loop: dict[Hashable, int] | None) -> None:
        planned = plan.report.graph
        assert planned is not None
        boxes = self.boxes
        places = {place: self.made.get(number, []) for place, number in planned.inputs}
        for (node, first, end), done in zip(spans(plan.report), plan.nodes, strict=True):
            if first == end and len(node.reads) == 1 and (sources := places[node.reads[0]]):
                for source in sources:
                    _add_view(boxes.nodes[source], planned, node)
                places.update(dict.fromkeys(node.makes, sources))
                continue
            merged = self.merged.of(node)
            facts = _facts(planned, node, done, merged)
            key = node.origin.op, node.origin.output_ids
            box = loop.get(key) if loop is not None else None
            if box is None:
                box = boxes.add(
                    "operator", node.origin.op, node.origin.name, (), **facts, first_step=self.steps + first
                )
                if loop is not None:
                    loop[key] = box
                    boxes.nodes[box]["runs"] = 0
            else:  # another plan of the same loop runs it, too
                _add_times(boxes.nodes[box], facts)
            if loop is not None:
                boxes.nodes[box]["runs"] += plan.runs
            reads = [source for place in node.reads for source in places[place]]
            boxes.connect([*reads, *self._deciding(box, node, merged, reads)], box)
            places.update((place, [box]) for place in node.makes)
        for place, number in planned.outputs:
            self.made[number] = list(dict.fromkeys([*self.made.get(number, ()), *places[place]]))
            self.specs[number] = planned.variables[place].spec
        self.steps += len(plan.report.steps)

    def _deciding(self, box: int, node: PlannedNode, merged: Iterable[AnyNode], reads: Iterable[int]) -> list[int]:
        """The boxes of conditions that have decided that a box runs, if it is among the first of a branch."""
        inside = self.merged.branches_of(node)
        self.insides.setdefault(box, set()).update(inside)
        before = set().union(*(self.insides.get(source, ()) for source in reads))
        found = [n for n in (*inside, *merged) if isinstance(n.params, Expansion) and n not in before]
        return self._makers(n.inputs[k] for n in found for k in n.params.values)


def _add_view(box: dict[str, Any], planned: PlannedGraph, node: PlannedNode) -> None:
    """Notes that the result of a box is read in another shape, which takes no step."""
    views = box.setdefault("views", [])
    if len(views) < MOST_LISTED and all(v["name"] != node.origin.name for v in views):
        variables = [planned.variables[place] for place in node.makes]
        views.append(
            {"op": node.origin.op, "name": node.origin.name, "outputs": [tensor_facts(v.spec) for v in variables]}
        )


def _facts(planned: PlannedGraph, node: PlannedNode, done: NodeTime, merged: Sequence[AnyNode]) -> dict[str, Any]:
    origin = node.origin
    variables = [planned.variables[place] for place in node.makes]
    kernels = [
        {"kernel": name, "steps": k.steps, "ms": k.seconds * 1e3, "operations": k.flops}
        for name, k in done.kernels.items()
    ]
    names = [f"{n.op} {_title(n)}" for n in reversed(merged)]
    return {
        "parameters": parameter_values(origin.params),
        "inputs": [tensor_facts(spec) for spec in origin.inputs[:MOST_LISTED]],
        "outputs": [tensor_facts(v.spec, v.name, v.memory) for v in variables[:MOST_LISTED]],
        "ms": sum(k.seconds for k in done.kernels.values()) * 1e3,
        "operations": sum(k.flops for k in done.kernels.values()),
        "bytes": done.nbytes,
        "kernels": kernels,
        "merged": names[:MOST_LISTED] if len(names) > 1 else [],
    }


def _add_times(box: dict[str, Any], facts: dict[str, Any]) -> None:
    """Adds what another plan has done for an operator."""
    for name in ("ms", "operations", "bytes"):
        box[name] += facts[name]
    kernels = {k["kernel"]: k for k in box["kernels"]}
    for more in facts["kernels"]:
        if (known := kernels.get(more["kernel"])) is None:
            box["kernels"].append(more)
        else:
            known.update({name: known[name] + more[name] for name in ("steps", "ms", "operations")})


class _Merged:
    """Finds the operators of the file that one of a plan stands for: those between what it reads and what it makes."""

    def __init__(self, graph: ModelGraph, reports: Iterable[PlanReport]):
        self._producers = {v.id: node for node in all_nodes(graph) for v in node.outputs}
        self._branches: dict[int, tuple[AnyNode, ...]] = {}  # of a variable: the nodes in whose branches it is made
        self._note_branches(graph, ())
        self._planned = {v.id for report in reports if report.graph is not None for v in report.graph.variables}

    def _note_branches(self, graph: ModelGraph, outer: tuple[AnyNode, ...]) -> None:
        for node in graph.nodes:
            self._branches.update((v.id, outer) for v in node.outputs)
            if isinstance(node.params, Subgraphs):
                inner = (*outer, node) if isinstance(node.params, Expansion) else ()  # a loop begins anew
                for branch in node.params.known_graphs():
                    self._note_branches(branch, inner)

    def branches_of(self, node: PlannedNode) -> list[AnyNode]:
        """The nodes in whose branches a node of a plan is, the outermost first."""
        return list(dict.fromkeys(n for number in node.origin.output_ids for n in self._branches.get(number, ())))

    def of(self, node: PlannedNode) -> list[AnyNode]:
        """The last one first."""
        found: dict[AnyNode, None] = {}
        # What a node in a branch makes is the result of the node that has the branch, whose number no plan knows.
        stop = self._planned | set(node.origin.input_ids)
        waiting = [self._producers.get(number) for number in node.origin.output_ids]
        while waiting and len(found) <= MOST_LISTED:
            producer = waiting.pop()
            if producer is None or producer in found:
                continue
            found[producer] = None
            waiting += [self._producers.get(v.id) for v in producer.inputs if v.const is None and v.id not in stop]
        return list(found)


# ---- as the file has it ----------------------------------------------------------------------------------------------


def _title(node: AnyNode) -> str:
    if isinstance(node.params, ForeignNode):
        return node.name  # the one in messages about it
    return next((v.name for v in node.outputs if v.name), node.name)


def file_boxes(file: FileNodes, failing: Collection[AnyNode] = ()) -> Boxes:
    """The boxes of a graph that does not run. ``unknown`` and, of those that end the run, ``failed`` mark operators."""
    boxes, specs, graph = Boxes(), file.specs, file.graph
    made: dict[AnyVar, int] = {}
    for given in graph.inputs:
        outputs = [tensor_facts(specs.get(given, given.spec))]
        made[given] = boxes.add("input", "Input", given.name, (), outputs=outputs)
    for node in graph.nodes:
        place = boxes.add(
            "operator",
            node.op,
            _title(node),
            (made.get(v) for v in node.inputs),
            parameters=parameter_values(node.params),
            inputs=[tensor_facts(specs.get(v, v.spec)) for v in node.inputs[:MOST_LISTED]],
            outputs=[tensor_facts(specs.get(v, v.spec), v.name) for v in node.outputs[:MOST_LISTED]],
            operations=2 * file.multiply_adds.get(node, 0),
            unknown=not is_known(node),
            **({"failed": True} if node in failing else {}),
            **({"inside": [f"{op} {name}" for op, name in inside]} if (inside := unknown_inside(node)) else {}),
        )
        made.update(dict.fromkeys(node.outputs, place))
    for name, var in zip(graph.output_names, graph.outputs, strict=True):
        boxes.add("output", "Output", name, [made.get(var)], outputs=[tensor_facts(specs.get(var, var.spec))])
    return boxes
