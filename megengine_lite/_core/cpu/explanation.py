"""What a plan runs, node by node: for reports, and to compare the results of nodes."""

from __future__ import annotations

from collections.abc import Sequence

from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Tensor
from megengine_lite._core.device.plan import Origin
from megengine_lite._core.device.planned_graph import PlannedGraph, PlannedNode, PlannedVar
from megengine_lite._core.ir.graph import AnyVar
from megengine_lite._records import record


@record(frozen=True, slots=True)
class Explanation:
    """The graph of a plan, and for each node its results with one place where each lies."""

    graph: PlannedGraph
    results: list[list[tuple[PlannedVar, Tensor]]]


def describe_memory(tensor: Tensor) -> str:
    """How a tensor lies in memory: ``row-major``, or ``blocks of 16 channels, padded by 1x1``."""
    if not tensor.blocked:
        return "row-major"
    padded = f", padded by {tensor.halo_h}x{tensor.halo_w}" if tensor.halo_h or tensor.halo_w else ""
    return f"blocks of {tensor.width} channels{padded}"


def _begin(tensor: Tensor) -> int:
    """The first step that touches the memory of a tensor. Copies in other layouts are made later than the first."""
    first = tensor.ref.piece.first
    return -1 if first is None else first


def explain(ctx: Lowering, ends: Sequence[int], outputs: Sequence[int], inputs: Sequence[int]) -> Explanation:
    """The explanation of a plan.

    Parameters
    ----------
    ctx
        After lowering.
    ends
        How many steps there are after each node.
    outputs, inputs
        The numbers in the model's graph of the variables that the plan makes and reads.
    """
    tensors: dict[AnyVar, list[Tensor]] = {}
    for var, tensor in ctx.tensors():
        tensors.setdefault(var, []).append(tensor)
    places: dict[AnyVar, int] = {}
    variables: list[PlannedVar] = []

    def add(var: AnyVar) -> int:
        assert var.spec is not None
        places[var] = len(variables)
        memory = " and ".join(dict.fromkeys(map(describe_memory, tensors.get(var, ()))))
        variables.append(PlannedVar(var.id, var.name, var.spec, memory))
        return places[var]

    graph = ctx.graph
    given = [(add(var), number) for var, number in zip(graph.inputs, inputs, strict=True)]
    nodes, results, first = [], [], 0
    for node, end in zip(graph.nodes, ends, strict=True):
        reads = tuple(places[v] for v in dict.fromkeys(node.inputs) if v in places)
        makes = tuple(map(add, node.outputs))
        nodes.append(PlannedNode(Origin.of(node), reads, makes, first, end))
        results.append([(variables[places[v]], min(tensors[v], key=_begin)) for v in node.outputs if v in tensors])
        first = end
    made = [(places[v], number) for v, number in zip(graph.outputs, outputs, strict=True) if v in places]
    return Explanation(PlannedGraph(variables, nodes, given, made), results)
