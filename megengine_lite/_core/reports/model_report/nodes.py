"""The operators of a report: boxes, and arrows between them.

A box is a dictionary of plain types. ``kind`` is ``"input"``, ``"operator"`` or ``"output"``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from megengine_lite._core.compile.infer import Stage
from megengine_lite._core.device.plan import PlanReport, StepTime
from megengine_lite._core.ir.foreign import ForeignNode
from megengine_lite._core.ir.graph import AnyNode, AnyVar, ModelGraph, Node, Spec, TensorSpec
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.reports.model_facts import inferred_nodes, is_known, known_specs, unknown_inside
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
    edges: list[tuple[int, int]] = field(default_factory=list)

    def add(self, kind: str, op: str, name: str, reads: Iterable[int | None], **facts: Any) -> int:
        """Adds a box and the arrows to it; gives its position. None among ``reads`` is where no box is known."""
        place = len(self.nodes)
        self.nodes.append({"kind": kind, "op": op, "name": name, **facts})
        self.edges += [(source, place) for source in dict.fromkeys(reads) if source is not None]
        return place


def tensor_facts(spec: Spec | None, name: str = "", memory: str = "") -> dict[str, Any]:
    """Type and shape of a tensor, and its name and layout where they are known."""
    shape = list(spec.shape) if isinstance(spec, TensorSpec) else None
    facts: dict[str, Any] = {"type": None if spec is None else str(spec.dtype), "shape": shape}
    return {**facts, **({"name": name} if name else {}), **({"memory": memory} if memory else {})}


def _nbytes(specs: Iterable[Spec]) -> int:
    return sum(s.nbytes for s in specs if isinstance(s, TensorSpec))


# ---- as a plan runs it -----------------------------------------------------------------------------------------------


def planned_boxes(graph: ModelGraph, plans: Sequence[PlanReport], steps: Sequence[StepTime]) -> Boxes:
    """The boxes of a run.

    Parameters
    ----------
    graph
        The model's.
    plans
        Those that ran, in order; they explain themselves.
    steps
        All their steps, with times.
    """
    boxes = Boxes()
    made = {v.id: boxes.add("input", "Input", v.name, (), outputs=[tensor_facts(v.spec)]) for v in graph.inputs}
    specs: dict[int, Spec | None] = {}
    merged = _Merged(graph, plans)
    begin = 0
    for plan in plans:
        planned = plan.graph
        assert planned is not None
        places = {place: made.get(number) for place, number in planned.inputs}
        last = len(planned.nodes) - 1
        for k, node in enumerate(planned.nodes):
            end = len(plan.steps) if k == last else node.end  # those at the end move results to the outputs
            if node.first == end and len(node.reads) == 1 and (source := places[node.reads[0]]) is not None:
                _add_view(boxes.nodes[source], planned, node)
                places.update(dict.fromkeys(node.makes, source))
                continue
            place = _add_planned(boxes, planned, node, places, steps[begin + node.first : begin + end], merged)
            boxes.nodes[place]["first_step"] = begin + node.first
            places.update(dict.fromkeys(node.makes, place))
        for place, number in planned.outputs:
            if (found := places[place]) is not None:
                made[number] = found
                specs[number] = planned.variables[place].spec
        begin += len(plan.steps)
    for name, var in zip(graph.output_names, graph.outputs, strict=True):
        boxes.add("output", "Output", name, [made.get(var.id)], outputs=[tensor_facts(specs.get(var.id, var.spec))])
    return boxes


def _add_view(box: dict[str, Any], planned: PlannedGraph, node: PlannedNode) -> None:
    """Notes that the result of a box is read in another shape, which takes no step."""
    views = box.setdefault("views", [])
    if len(views) < MOST_LISTED:
        variables = [planned.variables[place] for place in node.makes]
        views.append(
            {"op": node.origin.op, "name": node.origin.name, "outputs": [tensor_facts(v.spec) for v in variables]}
        )


def _add_planned(
    boxes: Boxes,
    planned: PlannedGraph,
    node: PlannedNode,
    places: dict[int, int | None],
    steps: Sequence[StepTime],
    merged: _Merged,
) -> int:
    origin = node.origin
    variables = [planned.variables[place] for place in node.makes]
    return boxes.add(
        "operator",
        origin.op,
        origin.name,
        (places[place] for place in node.reads),
        parameters=parameter_values(origin.params),
        inputs=[tensor_facts(spec) for spec in origin.inputs[:MOST_LISTED]],
        outputs=[tensor_facts(v.spec, v.name, v.memory) for v in variables[:MOST_LISTED]],
        ms=sum(s.seconds for s in steps) * 1e3,
        operations=sum(s.flops for s in steps),
        bytes=_nbytes(origin.inputs) + _nbytes(origin.outputs),
        kernels=_kernels(steps),
        merged=merged.of(node)[:MOST_LISTED],
    )


def _kernels(steps: Sequence[StepTime]) -> list[dict[str, Any]]:
    """The kernels of an operator, each once, in order."""
    found: dict[str, dict[str, Any]] = {}
    for step in steps:
        entry = found.setdefault(step.kernel, {"kernel": step.kernel, "steps": 0, "ms": 0.0, "operations": 0})
        entry["steps"] += 1
        entry["ms"] += step.seconds * 1e3
        entry["operations"] += step.flops
    return list(found.values())


class _Merged:
    """Finds the operators of the file that one of a plan stands for: those between what it reads and what it makes."""

    def __init__(self, graph: ModelGraph, plans: Sequence[PlanReport]):
        self._producers = {v.id: node for node in graph.nodes for v in node.outputs}
        self._planned = {v.id for plan in plans if plan.graph is not None for v in plan.graph.variables}

    def of(self, node: PlannedNode) -> list[str]:
        found: dict[AnyNode, None] = {}
        stop = self._planned | set(node.origin.input_ids)
        waiting = [self._producers.get(number) for number in node.origin.output_ids]
        while waiting and len(found) <= MOST_LISTED:
            producer = waiting.pop()
            if producer is None or producer in found:
                continue
            found[producer] = None
            waiting += [self._producers.get(v.id) for v in producer.inputs if v.const is None and v.id not in stop]
        names = [f"{n.op} {_title(n)}" for n in reversed(found)]
        return names if len(names) > 1 else []


# ---- as the file has it ----------------------------------------------------------------------------------------------


def _title(node: AnyNode) -> str:
    if isinstance(node.params, ForeignNode):
        return node.name  # the one in messages about it
    return next((v.name for v in node.outputs if v.name), node.name)


def file_boxes(graph: ModelGraph, stage: Stage | None) -> Boxes:
    """The boxes of a model that does not run; ``stage`` has the shapes that are known. ``unknown`` marks operators."""
    boxes = Boxes()
    specs = known_specs(stage) if stage is not None else {}
    inferred = inferred_nodes(stage)
    made: dict[AnyVar, int] = {}
    for given in graph.inputs:
        outputs = [tensor_facts(specs.get(given, given.spec))]
        made[given] = boxes.add("input", "Input", given.name, (), outputs=outputs)
    for node in graph.nodes:
        known = inferred.get(node.outputs[0]) if node.outputs else None
        work = 2 * REGISTRY[known.op].multiply_adds(known) if isinstance(known, Node) else 0
        place = boxes.add(
            "operator",
            node.op,
            _title(node),
            (made.get(v) for v in node.inputs),
            parameters=parameter_values(node.params),
            inputs=[tensor_facts(specs.get(v, v.spec)) for v in node.inputs[:MOST_LISTED]],
            outputs=[tensor_facts(specs.get(v, v.spec), v.name) for v in node.outputs[:MOST_LISTED]],
            operations=work,
            unknown=not is_known(node),
            **({"inside": [f"{op} {name}" for op, name in inside]} if (inside := unknown_inside(node)) else {}),
        )
        made.update(dict.fromkeys(node.outputs, place))
    for name, var in zip(graph.output_names, graph.outputs, strict=True):
        boxes.add("output", "Output", name, [made.get(var)], outputs=[tensor_facts(specs.get(var, var.spec))])
    return boxes
