"""The plans of a model: made when shapes first appear, and kept.

A model whose shapes follow from those of its inputs has one plan for each set of input shapes. Where shapes depend on
data, a plan ends; another one follows, for the shapes that have been computed until then.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Set

from megengine_lite._core.compile.expand import expanded
from megengine_lite._core.compile.infer import NeedsExpansion, NeedsRounds, NeedsValue, Stage, infer_stage
from megengine_lite._core.compile.lifetimes import Lifetimes
from megengine_lite._core.device.interface import Device
from megengine_lite._core.device.plan import Plan, RunValue
from megengine_lite._core.ir.graph import AnyNode, AnyVar, ConstantPool, ModelGraph, Spec, TensorSpec
from megengine_lite._core.runtime.only_plan import GraphPlace
from megengine_lite._core.runtime.repetition import Repeated
from megengine_lite._core.session_config import SessionConfig
from megengine_lite._core.system import debug
from megengine_lite._core.system.device_errors import errors_of
from megengine_lite._core.system.garbage import without_collector
from megengine_lite._core.system.memory_limit import memory_limit
from megengine_lite._core.system.own_faults import own_faults
from megengine_lite._records import replace
from megengine_lite.errors import LiteError

# The share of the memory that outputs of kept plans may take.
KEPT_PART = 4
# How many sets of shapes and values are remembered that lead to the expansions of a node.
MOST_REMEMBERED = 64


class Stop(GraphPlace):
    """A place in a graph where a stage begins, with the plans made there, least recently used first.

    The graph is the model's, or one in which nodes have been replaced by the graphs that they stand for. Where such a
    node comes first there are no plans: the stops of those graphs have them.
    """

    def __init__(self, node: int, graph: ModelGraph, lifetimes: Lifetimes, follows_values: bool = False):
        self.node = node
        self.graph = graph
        self.lifetimes = lifetimes
        self.follows_values = follows_values
        self.expansions: OrderedDict[Hashable, Stop] = OrderedDict()
        self.expanded: OrderedDict[Hashable, Stop] = OrderedDict()  # the same, found without inference
        self.shape_vars: dict[AnyVar, None] = {}  # variables whose shapes decide the plan
        self.value_vars: list[AnyVar] = []  # variables whose values do
        self.plans: OrderedDict[Hashable, tuple[Plan, Stop]] = OrderedDict()
        self.repeated: tuple[Repeated, Stop] | None = None  # where a loop begins, which needs no plans of its own

    def key(self, values: Mapping[AnyVar, RunValue]) -> Hashable:
        """What decides which plan fits: the shapes, and partly the values, of the variables that exist before it."""
        return (
            tuple(values[v].spec.shape for v in self.shape_vars),
            tuple(values[v].array().tobytes() for v in self.value_vars),
        )

    @property
    def scalars(self) -> frozenset[AnyVar]:
        return self.graph.scalars

    @property
    def is_end(self) -> bool:
        return self.node >= len(self.graph.nodes)

    def needs(self, var: AnyVar) -> bool:
        return self.lifetimes.is_needed(var, self.node)

    def repeat(self, node: AnyNode, plans: Plans) -> tuple[Repeated, Stop]:
        """The loop that begins here, which runs by these plans, and the place behind it."""
        following = Stop(self.node + 1, self.graph, self.lifetimes, follows_values=True)
        self.repeated = Repeated(node, plans), following
        return self.repeated

    def after(self, plan: Plan) -> Stop:
        """The place where a plan that begins here ends."""
        return Stop(plan.next_node, self.graph, self.lifetimes, self.follows_values or bool(self.value_vars))

    def expand(self, need: NeedsExpansion, most: int) -> Stop:
        """The same place in the graph with the node here replaced; at most so many are kept."""
        found = self.expansions.get(need.key)
        if found is None:
            graph, begin = expanded(self.graph, self.node, need.specs), self.node
            end = begin + 1 + len(graph.nodes) - len(self.graph.nodes)
            lifetimes = self.lifetimes.expanded(begin, graph.nodes[begin:end])
            follows_values = self.follows_values or bool(self.value_vars)
            found = self.expansions[need.key] = Stop(begin, graph, lifetimes, follows_values)
        self.expansions.move_to_end(need.key)
        while len(self.expansions) > max(most, 2):
            _, dropped = self.expansions.popitem(last=False)
            self.expanded = OrderedDict((key, stop) for key, stop in self.expanded.items() if stop is not dropped)
        return found

    def remember(self, expanded: Stop, values: Mapping[AnyVar, RunValue]) -> None:
        """Finds the same expansion next time by the shapes and values of what the node here reads."""
        self.shape_vars.update((v, None) for v in self.graph.nodes[self.node].inputs if v in values)
        self.expanded[self.key(values)] = expanded
        if len(self.expanded) > MOST_REMEMBERED:
            self.expanded.popitem(last=False)

    def takes_too_much(self) -> bool:
        """Whether there are several plans and their outputs take too much memory."""
        buffers = [plan.buffers for plan, _ in self.plans.values()]
        return len(buffers) > 1 and sum(b.nbytes for some in buffers for b in some) > memory_limit() // KEPT_PART


class _KnownSpecs(Mapping[AnyVar, TensorSpec]):
    """What is known of variables before a stage: their specs, with the values of those that decide the plan."""

    def __init__(self, values: Mapping[AnyVar, RunValue], value_vars: Iterable[AnyVar]):
        self._values = values
        self._with_value = {v: replace(values[v].spec, value=values[v].array().copy()) for v in value_vars}

    def __getitem__(self, var: AnyVar) -> TensorSpec:
        return self._with_value.get(var) or self._values[var].spec

    def __contains__(self, var: object) -> bool:
        return var in self._values

    def __iter__(self) -> Iterator[AnyVar]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Plans:
    """All plans of a session that has the graph of its model.

    Parameters
    ----------
    graph
        The model's.
    pool
        Weights derived from the model.
    config
        The session's.
    shape_only
        Outputs of which only the layout is wanted.
    device, device_id
        Where they run.
    """

    is_single = False

    def __init__(
        self,
        graph: ModelGraph,
        pool: ConstantPool,
        config: SessionConfig,
        shape_only: Set[AnyVar],
        device: Device,
        device_id: int,
    ):
        self.graph = graph
        self.root = Stop(0, graph, Lifetimes.of(graph))
        self._pool = pool
        self._config = config
        self._shape_only = shape_only
        self._device = device
        self._device_id = device_id
        self._inferred: dict[Hashable, Stage] = {}  # first stages by shapes of inputs, until the next plan

    def __iter__(self) -> Iterator[Plan]:
        for stop in self._stops():
            for plan, _ in stop.plans.values():
                yield plan
            if stop.repeated is not None:
                yield from stop.repeated[0].plans

    def _stops(self) -> Iterator[Stop]:
        stops = [self.root]
        while stops:
            stop = stops.pop()
            yield stop
            stops += stop.expansions.values()
            stops += (following for _, following in stop.plans.values())
            if stop.repeated is not None:
                stops.append(stop.repeated[1])

    def only_plan(self, problem: str) -> tuple[Plan, GraphPlace]:
        """The plan, if a single one runs the whole model for all data, and where it ends.

        ``problem`` says what cannot be done without.

        Raises
        ------
        LiteError
            There are several, or none.
        """
        stops = [stop for stop in self._stops() if stop.plans]
        plans = [entry for stop in stops for entry in stop.plans.values()]
        if len(plans) != 1 or not plans[0][1].is_end or plans[0][1].follows_values:
            raise LiteError(f"{problem}: the shapes in this model depend on data, or several have been run")
        return plans[0]

    def infer_outputs(self, known: Mapping[AnyVar, TensorSpec]) -> dict[AnyVar, Spec]:
        """Specs of outputs for specs of inputs, as far as they are known without a run."""
        try:
            stage = infer_stage(self.graph, 0, known, self._pool)
        except (NeedsValue, NeedsExpansion, NeedsRounds, LiteError):
            return {}
        return {stage.original[v]: v.spec for v in stage.graph.outputs}

    def first_stage(self, known: Mapping[AnyVar, TensorSpec]) -> Stage:
        """The stage with which the model begins, for specs of the inputs. If it runs next, it is not inferred again.

        Raises
        ------
        NeedsValue, NeedsExpansion, NeedsRounds
            As :func:`infer_stage`.
        """
        stage = infer_stage(self.graph, 0, known, self._pool, self._shape_only, self.root.lifetimes)
        self._inferred[tuple(known[v].shape for v in self.graph.inputs)] = stage
        return stage

    def find(self, place: GraphPlace, values: Mapping[AnyVar, RunValue]) -> tuple[Plan | Repeated, GraphPlace]:
        """The plan from a place on, or the loop that stands there, and the place where it ends.

        Raises
        ------
        ShapeError
            The values do not fit the model, or each other.
        """
        assert isinstance(place, Stop)
        stop = place
        inferred, self._inferred = self._inferred, {}
        while True:
            if stop.repeated is not None:
                return stop.repeated
            key = stop.key(values)
            found = stop.plans.get(key)
            if found is not None:
                stop.plans.move_to_end(key)
                return found
            expanded = stop.expanded.get(key)
            if expanded is not None:
                stop = expanded
                continue
            known = _KnownSpecs(values, stop.value_vars)
            try:
                stage = self._stage_from(stop, known, inferred)
            except NeedsValue as need:
                stop.value_vars.append(need.var)
                continue
            except NeedsExpansion as need:
                expanded = stop.expand(need, self._config.plan_cache_size)
                stop.remember(expanded, values)
                stop = expanded
                continue
            except NeedsRounds as need:
                return stop.repeat(need.node, self._of_rounds(need.node))
            config = self._config
            if stop.plans and not config.profile_on_shape_change:
                config = replace(config, measure=False)
            plan = self._new_plan(stage, config)
            self._release_weights(stop.graph.nodes[stop.node : plan.next_node])
            with errors_of(self._device):
                plan.buffers = [self._device.allocate(slot.spec.nbytes, self._device_id) for slot in plan.outputs]
            stop.shape_vars.update((v, None) for v in stage.original.values() if v in known)
            entry = stop.plans[stop.key(values)] = plan, stop.after(plan)
            while len(stop.plans) > self._config.plan_cache_size or stop.takes_too_much():
                stop.plans.popitem(last=False)
            return entry

    def _stage_from(self, stop: Stop, known: Mapping[AnyVar, TensorSpec], inferred: Mapping[Hashable, Stage]) -> Stage:
        """The stage that begins at a place; it may have been inferred already if that is where the model begins."""
        if stop is self.root and inferred:
            found = inferred.get(tuple(known[v].shape for v in self.graph.inputs))
            if found is not None:
                return found
        return infer_stage(stop.graph, stop.node, known, self._pool, self._shape_only, stop.lifetimes)

    def _of_rounds(self, node: AnyNode) -> Plans:
        """Plans of the graph that a node runs again and again."""
        body = node.params.body
        return Plans(body, self._pool, self._config, frozenset(), self._device, self._device_id)

    @without_collector
    def _new_plan(self, stage: Stage, config: SessionConfig) -> Plan:
        device = self._device
        # The CPU is a part of this package.
        with own_faults("the plan") if device.host_visible else errors_of(device):
            plan = device.plan(stage, self._pool, config, self._device_id)
        if debug.level() >= debug.PLANS:
            summary, *steps = plan.describe(device.name)
            for line in (summary, *steps) if debug.level() >= debug.STEPS else (summary,):
                debug.say(line)
        return plan

    @staticmethod
    def _release_weights(nodes: Iterable[AnyNode]) -> None:
        """Frees the memory of weights that no plan reads in the form of the file."""
        for node in nodes:
            for var in node.inputs:
                if var.const is not None:
                    var.const.release()
