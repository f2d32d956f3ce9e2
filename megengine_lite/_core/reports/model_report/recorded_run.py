"""What ran, and how long each operator took: the plans of a run with their loops, each plan once.

A loop runs plans again and again. They are told as one that has run so often. Plans of one loop that run the same
operators, such as those of states that grow, are told as one, too.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from statistics import median

from megengine_lite._core.device.plan import Plan, PlanReport, RunRecorder, StepTime
from megengine_lite._core.device.planned_graph import PlannedNode
from megengine_lite._core.ir.expansion import Repetition
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.operators import REGISTRY
from megengine_lite._records import field, record

# So many plans are remembered with what they stand for: a loop whose state grows has a new one in each round.
MOST_REMEMBERED = 64


@record(slots=True)
class KernelTime:
    """What a kernel has done for a node in one run of the model; ``steps`` counts those of all rounds."""

    seconds: float = 0.0
    flops: int = 0
    steps: int = 0


@record(slots=True)
class NodeTime:
    """What a node has done in one run of the model."""

    kernels: dict[str, KernelTime] = field(default_factory=dict)
    nbytes: int = 0


@record(slots=True, eq=False)
class RecordedPlan:
    """A plan, or several that run the same operators.

    Attributes
    ----------
    report
        That of the plan with the largest arena.
    runs
        How often one of them ran.
    nodes
        For each node of the plan's graph; empty if it does not explain itself.
    """

    report: PlanReport
    runs: int = 0
    nodes: list[NodeTime] = field(default_factory=list)


@record(slots=True, eq=False)
class RecordedLoop:
    """A loop: the node, its rounds in one run of the model, and what ran in them."""

    node: AnyNode
    rounds: int = 0
    parts: dict[Hashable, RecordedPlan | RecordedLoop] = field(default_factory=dict)


Parts = dict[Hashable, RecordedPlan | RecordedLoop]


class RecordedRun(RunRecorder):
    """Records one run.

    Attributes
    ----------
    parts
        Plans and loops by what tells them apart, in the order in which they began. :func:`in_order` gives them in one
        in which each follows those whose results it reads.
    seconds, flops, n_steps
        Sums of all steps that ran.
    """

    __slots__ = ("_inside", "_known", "flops", "n_steps", "parts", "seconds")

    def __init__(self) -> None:
        self.parts: Parts = {}
        self.seconds, self.flops, self.n_steps = 0.0, 0, 0
        self._inside: list[RecordedLoop] = []
        self._known: dict[int, tuple[Plan, PlanReport, Hashable]] = {}  # the plan is kept, so that its id stays its own

    def _here(self) -> Parts:
        return self._inside[-1].parts if self._inside else self.parts

    def begin_loop(self, node: AnyNode) -> None:
        found = self._here().setdefault(id(node), RecordedLoop(node))
        assert isinstance(found, RecordedLoop)
        self._inside.append(found)

    def begin_round(self) -> None:
        self._inside[-1].rounds += 1

    def end_loop(self) -> None:
        self._inside.pop()

    def ran(self, plan: Plan, times: list[StepTime]) -> None:
        self.seconds += sum(step.seconds for step in times)
        self.flops += sum(step.flops for step in times)
        self.n_steps += len(times)
        known = self._known.get(id(plan))
        if known is None:
            report = plan.report()
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            known = self._known[id(plan)] = plan, report, _what_runs(report, plan)
        _, report, key = known
        part = self._here().setdefault(key, RecordedPlan(report))
        assert isinstance(part, RecordedPlan)
        part.runs += 1
        if report.arena_bytes > part.report.arena_bytes:
            part.report = report
        if report.graph is None:
            return
        nodes = report.graph.nodes
        part.nodes = part.nodes or [NodeTime() for _ in nodes]
        for place, (node, first, end) in enumerate(spans(report)):
            total = part.nodes[place]
            total.nbytes += moved_bytes(node)
            for step in times[first:end]:
                kernel = total.kernels.setdefault(step.kernel, KernelTime())
                kernel.seconds += step.seconds
                kernel.flops += step.flops
                kernel.steps += 1


def _what_runs(report: PlanReport, plan: Plan) -> Hashable:
    """Equal for plans that run the same operators."""
    graph = report.graph
    if graph is None:
        return id(plan)
    nodes = tuple((n.origin.op, n.origin.name, n.origin.output_ids) for n in graph.nodes)
    return nodes, tuple(number for _, number in graph.inputs), tuple(number for _, number in graph.outputs)


def spans(report: PlanReport) -> Iterator[tuple[PlannedNode, int, int]]:
    """The nodes of a plan that explains itself, with the steps ``first`` .. ``end - 1`` of each."""
    assert report.graph is not None
    nodes = report.graph.nodes
    for node in nodes:
        # Steps at the end, which move results to the outputs, are the last node's.
        yield node, node.first, len(report.steps) if node is nodes[-1] else node.end


def moved_bytes(node: PlannedNode) -> int:
    """How many bytes a node reads and writes."""
    origin = node.origin
    read, written = (
        [s.nbytes if isinstance(s, TensorSpec) else 0 for s in specs] for specs in (origin.inputs, origin.outputs)
    )
    if origin.op in REGISTRY and REGISTRY[origin.op].reads_part:
        read[0] = min(read[0], written[0])
    return sum(read) + sum(written)


# ---- several runs ----------------------------------------------------------------------------------------------------


def set_medians(first: Parts, others: Sequence[Parts]) -> None:
    """Puts the medians of several runs in the place of the times of the first."""
    for key, part in first.items():
        same = [parts[key] for parts in others if key in parts]
        if isinstance(part, RecordedLoop):
            set_medians(part.parts, [loop.parts for loop in same if isinstance(loop, RecordedLoop)])
            continue
        plans = [plan for plan in same if isinstance(plan, RecordedPlan)]
        for place, node in enumerate(part.nodes):
            for name, kernel in node.kernels.items():
                times = [p.nodes[place].kernels[name].seconds for p in plans if name in p.nodes[place].kernels]
                kernel.seconds = median([kernel.seconds, *times])


def all_plans(parts: Parts) -> Iterator[RecordedPlan]:
    """The plans, those of loops among them, in order."""
    for part in in_order(parts):
        if isinstance(part, RecordedLoop):
            yield from all_plans(part.parts)
        else:
            yield part


def in_order(parts: Parts) -> list[RecordedPlan | RecordedLoop]:
    """Each behind those whose results it reads: in a loop, a branch of a later round may come before a first one's."""
    makers: dict[int, list[RecordedPlan | RecordedLoop]] = {}
    for part in parts.values():
        for number in _numbers(part)[1]:
            makers.setdefault(number, []).append(part)
    found: dict[int, RecordedPlan | RecordedLoop] = {}
    waiting = [(part, False) for part in reversed(parts.values())]
    begun: set[int] = set()
    while waiting:
        part, is_ready = waiting.pop()
        if is_ready:
            found[id(part)] = part
        elif id(part) not in begun:
            begun.add(id(part))
            waiting.append((part, True))
            waiting += [(m, False) for number in reversed(_numbers(part)[0]) for m in reversed(makers.get(number, ()))]
    return list(found.values())


def _numbers(part: RecordedPlan | RecordedLoop) -> tuple[list[int], list[int]]:
    """The numbers of the variables that a part reads, and of those that it makes."""
    if isinstance(part, RecordedLoop):
        return [v.id for v in part.node.inputs], [v.id for v in part.node.outputs]
    graph = part.report.graph
    if graph is None:
        return [], []
    return [number for _, number in graph.inputs], [number for _, number in graph.outputs]


def outside_of(loop: RecordedLoop) -> Iterator[tuple[int, int]]:
    """Numbers of the variables of a loop's graph, and of those outside that they are in the first round."""
    p = loop.node.params
    assert isinstance(p, Repetition)
    inner = [v.id for v in p.body.inputs]
    outer = [v.id for v in loop.node.inputs]
    if p.asks and p.has_condition:
        yield inner[1], outer[int(p.has_count)]
    yield from zip(inner[2 * p.asks :], outer[p.has_count + p.has_condition :], strict=False)
