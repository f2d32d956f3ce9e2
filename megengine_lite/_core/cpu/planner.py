"""Makes a plan from a stage of the graph: passes, lowering, memory, program."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np

from megengine_lite._core.compile import passes
from megengine_lite._core.compile.infer import Stage
from megengine_lite._core.cpu.algorithms.tables import check_forced
from megengine_lite._core.cpu.arena import assign_offsets
from megengine_lite._core.cpu.host_call import HostCall, array_of
from megengine_lite._core.cpu.kernel_set import KernelSet
from megengine_lite._core.cpu.lower.table import TABLE
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.native_plan import NativePlan
from megengine_lite._core.cpu.program import Program, array_at
from megengine_lite._core.cpu.step_report import (
    blocked_array,
    blocked_span,
    describe_layout,
    describe_plan,
    describe_steps,
    describe_values,
    results_of_steps,
)
from megengine_lite._core.cpu.steps import HostStep, MemoryPiece, Ref, Step, Tensor
from megengine_lite._core.device.plan import Arena, ArenaPiece, Origin, PlanReport, RunValue, Slot, StepTime
from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.ir.graph import AnyNode, AnyVar, ConstantPool, Graph, Node, Reader, TensorSpec, Var
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.operators.base import checked, quiet
from megengine_lite._core.session_config import SessionConfig
from megengine_lite._core.system import debug
from megengine_lite._core.system.memory import Storage
from megengine_lite._core.system.memory_limit import describe_bytes, memory_limit
from megengine_lite._records import record
from megengine_lite.errors import LiteError
from megengine_lite.log import DEBUG, logger

if TYPE_CHECKING:
    from megengine_lite._core.cpu.explanation import Explanation
    from megengine_lite._core.cpu.program import Record
    from megengine_lite._core.device.planned_graph import NodeResult

# Estimated bytes that a Python step needs for each element of its inputs and outputs: a few arrays of doubles.
HOST_BYTES = 32


@record(slots=True)
class Segment:
    """Records begin..end-1 of the program, then a Python step (None at the end)."""

    begin: int
    end: int
    host: HostCall | None


def step_time(step: Step | HostStep, seconds: float = 0.0) -> StepTime:
    """A step with the time that it took."""
    if isinstance(step, HostStep):
        return StepTime(Origin.of(step.node), "numpy", seconds, 0)
    return StepTime(step.origin, step.kernel.name, seconds, step.flops)


class HostPlan(NativePlan):
    """A plan of the CPU: a program of kernels, with Python steps in between.

    Attributes
    ----------
    steps : list of Step or HostStep
        What runs, in order.
    pieces : list of MemoryPiece
        The pieces of the arena, with their lifetimes in steps.
    threads : int
        How many may take part in a run.
    described : list of str
        What :meth:`describe` gives; set when the plan is complete, if the debug ladder prints plans.
    """

    def __init__(
        self,
        stage: Stage,
        ctx: Lowering,
        inputs: list[Slot],
        outputs: list[Slot],
        dynamic: Mapping[AnyVar, AnyVar],
        threads: int,
        explanation: Explanation | None = None,
    ):
        super().__init__(stage, inputs, outputs, dynamic)
        self.steps = ctx.steps
        self.arena_bytes = assign_offsets(ctx.pieces)
        self.pieces = [p for p in ctx.pieces if p.first is not None]
        # Constants from which only packed weights were made are not read by any step and need not be kept.
        self._constants = [p for p in ctx.constants() if p.first is not None]
        if ctx.pool.shared is not None:
            for piece in self._constants:
                piece.share(ctx.pool.shared)
        self.faults = ctx.faults
        self.threads = threads
        native: list[Record] = []
        self.segments: list[Segment] = []
        begin = 0
        for step in ctx.steps:
            if isinstance(step, HostStep):
                self.segments.append(Segment(begin, len(native), HostCall(step)))
                begin = len(native)
            else:
                native.append(step.record())
        self.segments.append(Segment(begin, len(native), None))
        scratch = max((s.scratch for s in ctx.steps if isinstance(s, Step)), default=0)
        _check_memory(self.arena_bytes + sum(s.spec.nbytes for s in outputs) + scratch * threads, ctx.steps)
        n_bases = 1 + len(inputs) + len(outputs)
        try:
            self.program = Program(native, n_bases, scratch, threads)
        except (MemoryError, OverflowError) as error:
            raise LiteError(f"the model cannot be planned for inputs of these shapes: {error}") from error
        self._results = results_of_steps(ctx) if debug.level() >= debug.VALUES else None
        self._explanation = explanation
        self.described: list[str] = []
        self._single = len(self.segments) == 1 and self._results is None
        self._count = len(native)

    def describe(self, where: str) -> list[str]:
        return self.described

    def run(self, arena: Arena) -> None:
        self._take(arena)
        if self._single:
            self.program.run(0, self._count)
        elif self._results is not None:
            self._print_results(self._results)
        else:
            for segment in self.segments:
                if segment.begin < segment.end:
                    self.program.run(segment.begin, segment.end)
                if segment.host is not None:
                    self._run_host(segment.host)
        if self.faults:
            self._check_faults()

    def _run_one_by_one(self) -> Iterator[int]:
        """Runs step by step; gives the position of each when it is done."""
        k = 0
        for segment in self.segments:
            for native in range(segment.begin, segment.end):
                self.program.run(native, native + 1)
                yield k
                k += 1
            if segment.host is not None:
                self._run_host(segment.host)
                yield k
                k += 1

    def run_watched(self, arena: Arena, watch: Callable[[NodeResult], None]) -> None:
        explanation = self._explanation
        if explanation is None:
            self.run(arena)
            return
        from megengine_lite._core.device.planned_graph import NodeResult

        self._take(arena)
        nodes = iter(zip(explanation.graph.nodes, explanation.results, strict=True))
        waiting = next(nodes, None)
        for done in chain((0,), (k + 1 for k in self._run_one_by_one())):
            while waiting is not None and waiting[0].end <= done:
                node, results = waiting
                reads = tuple(explanation.graph.variables[k].id for k in node.reads)
                for variable, tensor in results:
                    watch(NodeResult(node.origin.op, variable, self._numbers(tensor), reads))
                waiting = next(nodes, None)
        self._check_faults()

    def _print_results(self, results: list[list[Tensor]]) -> None:
        """Runs step by step, and prints statistics of what each computes."""
        for k in self._run_one_by_one():
            about = step_time(self.steps[k])
            for tensor in results[k]:
                debug.say(
                    f"step {k}: {about.origin.op} {about.origin.name!r} by {about.kernel} made "
                    f"{describe_layout(tensor)}: {describe_values(self._numbers(tensor))}"
                )

    def _numbers(self, tensor: Tensor) -> np.ndarray:
        """The numbers of a tensor of any layout, row-major."""
        if not tensor.blocked:
            return self.array(tensor)
        base, offset = tensor.ref.address()
        address = offset if base < 0 else self.program.base(base) + offset
        return blocked_array(tensor, np.frombuffer(array_at(address, blocked_span(tensor)), np.uint8))

    def run_timed(self, arena: Arena) -> list[StepTime]:
        self._take(arena)
        times = []
        native = iter([s for s in self.steps if isinstance(s, Step)])
        for segment in self.segments:
            for ns in self.program.run_timed(segment.begin, segment.end):
                times.append(step_time(next(native), ns * 1e-9))
            if segment.host is not None:
                start = perf_counter_ns()
                self._run_host(segment.host)
                times.append(step_time(segment.host.step, (perf_counter_ns() - start) * 1e-9))
        self._check_faults()
        return times

    def report(self) -> PlanReport:
        return PlanReport(
            [step_time(s) for s in self.steps],
            {p.address: p.nbytes for p in self._constants},
            self.program.scratch_bytes,
            self.arena_bytes,
            [
                ArenaPiece(p.offset, p.nbytes, p.first, p.last)
                for p in self.pieces
                if p.kind == MemoryPiece.ARENA and p.first is not None
            ],
            None if self._explanation is None else self._explanation.graph,
        )

    def constants(self) -> list[MemoryPiece]:
        """The weights that the plan keeps in memory."""
        return self._constants

    def _run_host(self, call: HostCall) -> None:
        results = call.run(self.program)
        if self._dynamic_vars:
            for var, value in zip(call.step.node.outputs, results, strict=True):
                if var in self._dynamic_vars:
                    self.dynamic[self._dynamic_vars[var]] = _new_value(value, var.spec.dtype)

    def array(self, tensor: Tensor) -> np.ndarray:
        """A view of a plain tensor of this plan; valid while its bases are bound as they are."""
        base, offset = tensor.ref.address()
        return array_of(tensor, offset if base < 0 else self.program.base(base) + offset)


def _new_value(array: np.ndarray, dtype: DType) -> RunValue:
    """An array that an operator has made, as memory that may be written to."""
    array = np.ascontiguousarray(array)
    if not array.flags.writeable:
        array = array.copy()
    return RunValue(TensorSpec(array.shape, dtype), Storage.of_buffer(array))


def _check_memory(nbytes: int, steps: Sequence[Step | HostStep]) -> None:
    """Raises if a plan that needs so many bytes cannot run here."""
    hosts = [Origin.of(s.node) for s in steps if isinstance(s, HostStep)]
    needed = nbytes + HOST_BYTES * max(map(_size_of, hosts), default=0)
    if needed > memory_limit():
        largest = max((*hosts, *(s.origin for s in steps if isinstance(s, Step))), key=_size_of)
        raise LiteError(
            f"for inputs of these shapes the model needs {describe_bytes(needed)} of memory, this machine has "
            f"{describe_bytes(memory_limit())}; most is for {largest.op} {largest.name!r}"
        )


def _size_of(origin: Origin) -> int:
    return sum(s.size for s in (*origin.inputs, *origin.outputs) if isinstance(s, TensorSpec))


def _take_inputs(ctx: Lowering, stage: Stage) -> list[Slot]:
    """Gives each input of the graph a base of its own."""
    inputs = []
    for k, var in enumerate(stage.graph.inputs):
        piece = MemoryPiece(var.spec.nbytes, MemoryPiece.EXTERNAL)
        piece.base = 1 + k
        ctx.add_input(var, Tensor(var.spec, Ref(piece)))
        inputs.append(Slot(stage.original[var], var.spec, piece.base))
    return inputs


def _lower_nodes(ctx: Lowering, readers: dict[AnyNode | None, Reader], made: dict[AnyVar, Tensor] | None) -> list[int]:
    """Makes steps of all nodes, and lets go of their ``readers``; returns how many steps there are after each node.

    ``made`` takes the places where nodes put their results, if they are wanted.
    """
    ends = []

    def end(node: AnyNode) -> None:
        ends.append(len(ctx.steps))
        if made is not None:
            made.update((v, tensor) for v in node.outputs if (tensor := ctx.made(v)) is not None)

    for node in ctx.graph.nodes:
        if isinstance(node, Node):
            if checked(node, REGISTRY[node.op].makes_non_negative, node, ctx.is_non_negative):
                ctx.mark_non_negative(node.outputs)
            if all(v.spec.size == 0 for v in node.outputs):
                for v in node.outputs:
                    ctx.new_plain(v)
                end(node)
                continue
        empty = any(v.spec.size == 0 for v in node.inputs)
        if empty or not isinstance(node, Node) or not checked(node, ctx.lower, node):
            ctx.host(node)
        readers.pop(node, None)
        end(node)
    return ends


def _give_outputs(ctx: Lowering, wanted: Sequence[AnyVar], base: int) -> tuple[list[Slot], dict[AnyVar, AnyVar]]:
    """The outputs, which get bases from ``base`` on, and those whose shape depends on data, with what they stand for.

    ``wanted`` are the variables of the model's graph that the outputs of the planned one stand for.
    """
    outputs: list[Slot] = []
    dynamic: dict[AnyVar, AnyVar] = {}
    for original, output in zip(wanted, ctx.graph.outputs, strict=True):
        if not isinstance(output, Var):
            dynamic[output] = original
            continue
        slot = Slot(original, output.spec, base + len(outputs))
        _give_out(ctx, output, slot.base)
        outputs.append(slot)
    return outputs, dynamic


@quiet
def build_plan(stage: Stage, kernels: KernelSet, pool: ConstantPool, config: SessionConfig) -> HostPlan:
    """Makes a plan: optimizes and lowers a stage, and assigns its memory. The stage's graph is changed."""
    check_forced(config.algo)
    start = perf_counter_ns()
    graph = stage.graph
    n_nodes = len(graph.nodes)
    # Passes may replace output variables, but not change their order.
    wanted = [stage.original[v] for v in graph.outputs]
    _name_results(graph)
    before: set[AnyVar] = set()
    made: dict[AnyVar, Tensor] | None = None
    if config.explain:
        before, made = {*graph.inputs, *(v for node in graph.nodes for v in node.outputs)}, {}
    passes.run(graph, pool, config)
    ctx = Lowering(graph, kernels, pool, config, TABLE)
    inputs = _take_inputs(ctx, stage)
    readers = _announce_readers(graph)  # that of the outputs stays until the end
    ends = _lower_nodes(ctx, readers, made)
    outputs, dynamic = _give_outputs(ctx, wanted, 1 + len(inputs))
    if logger.isEnabledFor(DEBUG):
        _log_steps(ctx.steps)
    explanation = None
    if made is not None:
        from megengine_lite._core.cpu.explanation import explain

        explanation = explain(ctx, ends, made, [v.id for v in wanted], [slot.var.id for slot in inputs], before)
    plan = HostPlan(stage, ctx, inputs, outputs, dynamic, config.threads, explanation)
    if debug.level() >= debug.PLANS:
        seconds = (perf_counter_ns() - start) * 1e-9
        named = [(slot.var.name, slot.spec.shape) for slot in inputs]
        plan.described = [describe_plan(ctx, n_nodes, named, plan.arena_bytes, seconds), *describe_steps(ctx)]
    return plan


def _name_results(graph: Graph) -> None:
    """Calls results without a name as the operator that makes them.

    Files of MegEngine need not name tensors. What merges operators keeps the results of the last one, so reports,
    profiles and comparisons call it by that one.
    """
    for node in graph.nodes:
        if node.outputs and not any(v.name for v in node.outputs):
            node.outputs[0].name = node.name


def _announce_readers(graph: Graph) -> dict[AnyNode | None, Reader]:
    """Announces nodes and the caller (None) as readers of constants, so that none is released early and made twice."""
    readers: dict[AnyNode | None, Reader] = {}
    reads: Iterator[tuple[AnyNode | None, Sequence[AnyVar]]] = ((n, n.inputs) for n in graph.nodes)
    for reader, variables in (*reads, (None, graph.outputs)):
        for v in variables:
            if v.const is not None:
                v.const.keep_for(readers.setdefault(reader, Reader()))
    return readers


def _log_steps(steps: Sequence[Step | HostStep]) -> None:
    """A line for each step: the operator, its results, and its kernel."""
    for step in map(step_time, steps):
        origin = step.origin
        shapes = ", ".join(str(list(s.shape)) if isinstance(s, TensorSpec) else "?" for s in origin.outputs)
        logger.debug("%s %r -> %s by %s", origin.op, origin.name, shapes, step.kernel)


def _give_out(ctx: Lowering, var: Var, base: int) -> None:
    """Binds an output to an external base: its own piece of memory becomes that one, or else it is copied there."""
    tensor = ctx.plain(var)
    piece = tensor.ref.piece
    if piece.kind == MemoryPiece.ARENA and tensor.ref.offset == 0 and piece.nbytes == var.spec.nbytes:
        piece.kind = MemoryPiece.EXTERNAL
        piece.base = base
    elif var.spec.nbytes:
        out = MemoryPiece(var.spec.nbytes, MemoryPiece.EXTERNAL)
        out.base = base
        ctx.copy_bytes(Node("Copy", None, (), (), var.name), tensor.ref, Ref(out), var.spec.nbytes)
