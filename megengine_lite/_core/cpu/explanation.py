"""What a plan runs, node by node: for reports, and to compare the results of nodes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Tensor
from megengine_lite._core.device.plan import Origin
from megengine_lite._core.device.planned_graph import PlannedGraph, PlannedNode, PlannedVar, Standing
from megengine_lite._core.ir.graph import AnyVar, Var
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


def _shape(var: AnyVar) -> tuple[int, ...] | None:
    return var.shape if isinstance(var, Var) else None


def explain(
    ctx: Lowering,
    ends: Sequence[int],
    made: Mapping[AnyVar, Tensor],
    outputs: Sequence[int],
    inputs: Sequence[int],
    before: Collection[AnyVar],
) -> Explanation:
    """The explanation of a plan.

    Parameters
    ----------
    ctx
        After lowering.
    ends
        How many steps there are after each node.
    made
        Where nodes put their results. Copies in other layouts are made for those that read them.
    outputs, inputs
        The numbers in the model's graph of the variables that the plan makes and reads.
    before
        The variables that the graph had before the passes.
    """
    shapes = {var.id: _shape(var) for var in before}
    tensors: dict[AnyVar, list[Tensor]] = {}
    for var, tensor in ctx.tensors():
        tensors.setdefault(var, []).append(tensor)
    places: dict[AnyVar, int] = {}
    variables: list[PlannedVar] = []

    def add(var: AnyVar) -> int:
        assert var.spec is not None
        places[var] = len(variables)
        memory = " and ".join(dict.fromkeys(map(describe_memory, tensors.get(var, ()))))
        twin = Standing.TWIN if _shape(var) == shapes.get(var.id) else Standing.PIECE
        variables.append(PlannedVar(var.id, var.name, var.spec, memory, Standing.SAME if var in before else twin))
        return places[var]

    graph = ctx.graph
    given = [(add(var), number) for var, number in zip(graph.inputs, inputs, strict=True)]
    nodes, results, first = [], [], 0
    for node, end in zip(graph.nodes, ends, strict=True):
        reads = tuple(places[v] for v in dict.fromkeys(node.inputs) if v in places)
        makes = tuple(map(add, node.outputs))
        nodes.append(PlannedNode(Origin.of(node), reads, makes, first, end))
        results.append([(variables[places[v]], made[v]) for v in node.outputs if v in made])
        first = end
    wanted = [(places[v], number) for v, number in zip(graph.outputs, outputs, strict=True) if v in places]
    return Explanation(PlannedGraph(variables, nodes, given, wanted), results)
