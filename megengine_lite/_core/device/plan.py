"""What the plans of a device must offer, the values that go in and out, and what is reported of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from megengine_lite._core.ir.describe import describe_spec
from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.ir.graph import AnyNode, AnyVar, DynamicNode, Node, Spec, TensorSpec
from megengine_lite._core.system.device_errors import errors_of
from megengine_lite._core.system.memory import Storage
from megengine_lite._records import field, record

if TYPE_CHECKING:
    from megengine_lite._core.compile.infer import Stage
    from megengine_lite._core.device.planned_graph import NodeResult, PlannedGraph

# ---- values ----------------------------------------------------------------------------------------------------------


@record(slots=True, eq=False)
class RunValue:
    """A variable in memory: dense and row-major, from ``offset`` bytes into a storage on."""

    spec: TensorSpec
    storage: Storage
    offset: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.spec.shape

    @property
    def dtype(self) -> DType:
        return self.spec.dtype

    def array(self) -> np.ndarray:
        """The elements on the host: a view of host memory, a copy of a device's."""
        spec, storage = self.spec, self.storage
        if spec.size == 0:
            return np.empty(spec.shape, spec.dtype.storage)
        if storage.device is None:
            return np.ndarray(spec.shape, spec.dtype.storage, memoryview(storage), self.offset)
        with errors_of(storage.device):
            copy = np.empty(spec.shape, spec.dtype.storage)
            storage.device.read(storage, self.offset, copy.reshape(-1).view(np.uint8))
        return copy


# ---- what ran, for profiles and memory reports -----------------------------------------------------------------------


@record(frozen=True, slots=True)
class Origin:
    """What a step was made from, for profiles: a node without its weights.

    ``name`` is that of its first result that has one, else that of the node. The result of merged operators is that of
    the last of them. Reports, profiles and comparisons all call the step so.
    """

    op: str
    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[Spec, ...]
    input_ids: tuple[int, ...] = ()  # numbers of the variables
    output_ids: tuple[int, ...] = ()
    params: Any = None

    @classmethod
    def of(cls, node: Node | DynamicNode) -> Origin:
        """The node without its weights."""
        return cls(
            node.op,
            next((v.name for v in node.outputs if v.name), node.name),
            tuple(TensorSpec(v.spec.shape, v.spec.dtype) for v in node.inputs),
            tuple(v.spec for v in node.outputs),
            tuple(v.id for v in node.inputs),
            tuple(v.id for v in node.outputs),
            node.params,
        )


@record(frozen=True, slots=True)
class StepTime:
    """One step of a run. ``kernel`` names the algorithm, ``"numpy"`` for Python; ``seconds`` is 0 if not measured."""

    origin: Origin
    kernel: str
    seconds: float
    flops: int


class RunRecorder:
    """What is told of a profiled run, as it goes on: plans that ran, and the loops in which they did. Ignores all."""

    __slots__ = ()

    def ran(self, plan: Plan, times: list[StepTime]) -> None:
        """A plan has run."""

    def begin_loop(self, node: AnyNode) -> None:
        """A node begins that runs its graph in rounds. What runs until :meth:`end_loop` belongs to it."""

    def begin_round(self) -> None:
        """The next round of the innermost loop begins."""

    def end_loop(self) -> None:
        """The innermost loop has ended."""


@record(frozen=True, slots=True)
class ArenaPiece:
    """A piece of the arena, in bytes, and the first and last step that use it."""

    offset: int
    nbytes: int
    first: int
    last: int


@record(frozen=True, slots=True)
class PlanReport:
    """What a plan does, and the memory that it uses.

    Attributes
    ----------
    steps
        The steps in order, without times.
    weights
        Bytes of each piece of weights. The keys are the same in all plans that share the piece.
    scratch_bytes
        Working memory that the plan keeps.
    arena_bytes, pieces
        The size of the arena that it needs, and what lies there.
    graph
        What it runs, if the configuration asks for explanations and the device gives them.
    """

    steps: list[StepTime]
    weights: Mapping[Hashable, int] = field(default_factory=dict)
    scratch_bytes: int = 0
    arena_bytes: int = 0
    pieces: list[ArenaPiece] = field(default_factory=list)
    graph: PlannedGraph | None = None


def _describe_step(step: StepTime) -> str:
    origin = step.origin
    inputs, outputs = (", ".join(map(describe_spec, specs)) for specs in (origin.inputs, origin.outputs))
    return f"{origin.op} {origin.name!r} by {step.kernel}: {inputs or 'no inputs'} -> {outputs or 'no outputs'}"


# ---- plans -----------------------------------------------------------------------------------------------------------


@record(slots=True)
class Slot:
    """An input or output of a plan: a variable of the model's graph, and the plan's number for its memory."""

    var: AnyVar
    spec: TensorSpec
    base: int


class Arena(ABC):
    """Memory for intermediate results. Plans that never run at the same time may share one."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes that are allocated now."""

    @abstractmethod
    def release(self) -> None:
        """Frees the memory; the next run allocates as much as it needs."""


class Plan(ABC):
    """An executable stage for fixed input shapes.

    Parameters
    ----------
    stage
        What it runs; None if that is not known any more, and the plan is of a whole model.
    inputs, outputs
        The variables that must be bound before a run.
    dynamic
        The stage's variables whose shape depends on data, and the variables of the model's graph that they stand for.

    Attributes
    ----------
    inputs, outputs : list of Slot
    shapes : dict
        Specs of outputs of the model's graph that are not computed, by variable of that graph.
    dynamic : dict
        After a run: the outputs whose shape depends on data, by variable of the model's graph.
    next_node : int
        Where the next stage begins in the model's graph.
    buffers : list of Storage
        Memory for the outputs, where the caller has not given any. The session's.
    has_run : bool
        Whether it has run. The session's.
    """

    def __init__(self, stage: Stage | None, inputs: list[Slot], outputs: list[Slot], dynamic: Mapping[AnyVar, AnyVar]):
        self.inputs = inputs
        self.outputs = outputs
        self.shapes: dict[AnyVar, TensorSpec] = {} if stage is None else stage.shapes
        self.dynamic: dict[AnyVar, RunValue] = {}
        self.next_node = 0 if stage is None else stage.next_node
        self.buffers: list[Storage] = []
        self.has_run = False
        self._dynamic_vars = dict(dynamic)

    @property
    def has_dynamic_outputs(self) -> bool:
        """Whether outputs get their shapes, and their memory, anew in each run."""
        return bool(self._dynamic_vars)

    def touched(self) -> list[AnyVar]:
        """The variables of the model's graph that the plan reads or makes."""
        return [*(s.var for s in (*self.inputs, *self.outputs)), *self.shapes, *self._dynamic_vars.values()]

    @abstractmethod
    def bind(self, slot: Slot, storage: Storage, offset: int) -> None:
        """Sets the memory of an input or output: dense, from ``offset`` on. The caller keeps it alive."""

    @abstractmethod
    def run(self, arena: Arena) -> None:
        """Runs all steps; every input and output is bound. ``arena`` comes from :meth:`Device.new_arena`.

        Raises
        ------
        LiteError
            The data does not allow it, for example an index that is out of range.
        """

    @abstractmethod
    def run_timed(self, arena: Arena) -> list[StepTime]:
        """Like :meth:`run`; returns the steps with their times."""

    def run_watched(self, arena: Arena, watch: Callable[[NodeResult], None]) -> None:
        """Like :meth:`run`; shows the results of nodes when they are there, if the configuration asks for explanations.

        A device that cannot show them only runs.
        """
        self.run(arena)

    @abstractmethod
    def report(self) -> PlanReport:
        """What the plan does, and the memory that it uses."""

    def describe(self, where: str) -> list[str]:
        """The plan for the debug ladder: a line about it, then one for each step. ``where`` names the device."""
        report = self.report()
        shapes = ", ".join(f"{slot.var.name!r} {list(slot.spec.shape)}" for slot in self.inputs)
        return [
            f"plan for {shapes or 'no inputs'} on {where}: {len(report.steps)} steps, "
            f"arena {report.arena_bytes / 1024:.1f} KiB, weights {sum(report.weights.values()) / 1024:.1f} KiB",
            *(f"step {k}: {_describe_step(step)}" for k, step in enumerate(report.steps)),
        ]

    def forget_run(self) -> None:
        """Forgets everything about the last run, which may have ended anywhere."""
        self.dynamic.clear()

    def forget_graph(self, outputs: Mapping[AnyVar, AnyVar]) -> None:
        """Drops references to the model's graph; outputs are named by other variables from now on."""
        for slot in self.outputs:
            slot.var = outputs[slot.var]
        self.shapes = {outputs[v]: spec for v, spec in self.shapes.items()}
        self._dynamic_vars = {v: outputs[original] for v, original in self._dynamic_vars.items()}
