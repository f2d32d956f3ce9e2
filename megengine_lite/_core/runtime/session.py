"""A session runs one loaded model: it makes and keeps plans for the shapes of its inputs, and binds memory.

A session is used by one thread at a time (the API holds a lock); several sessions may share a model's weights
(:class:`ConstantPool`) and run at the same time, or share one arena and run one after the other.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import zlib
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Set
from typing import TYPE_CHECKING

import numpy as np

from megengine_lite._core.compile.infer import Lifetimes, NeedsValue, infer_stage
from megengine_lite._core.config import SessionConfig
from megengine_lite._core.cpu.arena import aligned_bytes
from megengine_lite._core.cpu.kernel_set import KernelSet, kernel_set
from megengine_lite._core.cpu.lowering import ARENA_BASE
from megengine_lite._core.cpu.planner import Plan, StepTime, build_plan
from megengine_lite._core.cpu.program import array_at
from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.ir.graph import AnyVar, ConstantPool, ModelGraph, Spec, TensorSpec, Var
from megengine_lite._core.system.limits import memory_limit
from megengine_lite.errors import LiteError, LiteIndexError, ShapeError

if TYPE_CHECKING:
    from megengine_lite._core.formats.mge import Model


# The share of the memory that outputs of kept plans may take.
KEPT_PART = 4


class Arena:
    """The memory of intermediate tensors. It grows to the size that the largest plan needs."""

    def __init__(self) -> None:
        self._memory = aligned_bytes(0)
        self.address = 0

    @property
    def nbytes(self) -> int:
        return self._memory.nbytes

    def reserve(self, nbytes: int) -> int:
        """The address of the memory, which has at least ``nbytes``."""
        if nbytes > self._memory.nbytes or not self.address:
            self.address = 0  # until the new memory is there: an interrupt must not leave the old address
            self._memory = aligned_bytes(nbytes)
            self.address = self._memory.ctypes.data
        return self.address

    def release(self) -> None:
        """Frees the memory; the next run allocates as much as it needs."""
        self.address = 0
        self._memory = aligned_bytes(0)


class _Stop:
    """A place in the graph where a stage begins, with the plans made there, least recently used first."""

    def __init__(self, node: int):
        self.node = node
        self.shape_vars: dict[AnyVar, None] = {}  # variables whose shapes decide the plan
        self.value_vars: list[AnyVar] = []  # variables whose values do
        self.plans: OrderedDict[Hashable, tuple[Plan, _Stop]] = OrderedDict()


def _key_of(stop: _Stop, values: dict[AnyVar, _Value]) -> Hashable:
    """What decides which plan fits: the shapes, and partly the values, of the variables that exist before it."""
    return (
        tuple(values[v].spec.shape for v in stop.shape_vars),
        tuple(values[v].array().tobytes() for v in stop.value_vars),
    )


def _take_too_much(stop: _Stop) -> bool:
    """Whether there are several plans and their outputs take too much memory."""
    buffers = [plan.buffers for plan, _ in stop.plans.values()]
    return len(buffers) > 1 and sum(b.nbytes for some in buffers for b in some) > memory_limit() // KEPT_PART


class _Value:
    """Memory of a variable that exists between stages."""

    __slots__ = ("address", "owner", "spec")

    def __init__(self, spec: TensorSpec, address: int, owner: object):
        self.spec = spec
        self.address = address
        self.owner = owner

    def array(self) -> np.ndarray:
        if self.spec.size == 0:
            return np.empty(self.spec.shape, self.spec.dtype.storage)
        flat = np.frombuffer(array_at(self.address, self.spec.nbytes), self.spec.dtype.storage)
        return flat.reshape(self.spec.shape)


class _Known(Mapping[AnyVar, TensorSpec]):
    """What is known of variables before a stage: their specs, with the values of those that decide the plan."""

    def __init__(self, values: dict[AnyVar, _Value], value_vars: Iterable[AnyVar]):
        self._values = values
        self._with_value = {v: dataclasses.replace(values[v].spec, value=values[v].array().copy()) for v in value_vars}

    def __getitem__(self, var: AnyVar) -> TensorSpec:
        return self._with_value.get(var) or self._values[var].spec

    def __contains__(self, var: object) -> bool:
        return var in self._values

    def __iter__(self) -> Iterator[AnyVar]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def _checksum(value: _Value) -> int:
    return zlib.crc32(value.array().data)


class Session:
    """Runs one loaded model; see the text of the module.

    Parameters
    ----------
    model
        A loaded model.
    config
        Options; must not be changed later.
    pool
        Weights derived from the model; sessions of the same model may share one. A new one by default.
    arena
        Memory for intermediate tensors; sessions that never run at the same time may share one. A new one by default.
    shape_only
        Names of outputs of which only the layout is wanted. What is needed only for them is not computed, unless their
        shape depends on it. The address of such an output is 0.
    """

    def __init__(
        self,
        model: Model,
        config: SessionConfig | None = None,
        *,
        pool: ConstantPool | None = None,
        arena: Arena | None = None,
        shape_only: Set[str] = frozenset(),
    ):
        self.model = model
        self.config = config or SessionConfig()
        self.kernels: KernelSet = kernel_set(self.config.isa)
        self.pool = pool or ConstantPool()
        self.arena = arena or Arena()
        graph = model.graph
        self._graph = graph
        self._by_name = {v.name: v for v in graph.inputs}
        self.input_names: list[str] = list(model.input_names)
        self.output_names: list[str] = list(model.output_names)
        self._output_vars = dict(zip(graph.output_names, graph.outputs, strict=True))
        whole = {v for name, v in zip(graph.output_names, graph.outputs, strict=True) if name not in shape_only}
        self._shape_only = frozenset(graph.outputs) - whole
        self._inputs: dict[AnyVar, _Value] = {}
        self._user_outputs: dict[AnyVar, tuple[int, int, object]] = {}
        self._results: dict[AnyVar, _Value] = {}
        self._lifetimes = Lifetimes.of(graph)
        self._root = _Stop(0)
        self._only_plan: Plan | None = None  # once the graph has been released
        self._times: list[StepTime] | None = None  # filled by a profiled run
        self._fast: tuple[Plan, list[tuple[AnyVar, int]]] | None = None  # the only plan of the last run, its inputs

    # ---- inputs and outputs -------------------------------------------------------------------------------------

    def input_spec(self, name: str) -> tuple[tuple[int, ...], DType]:
        """The shape that an input had when the model was dumped, and its type."""
        spec = self._input_var(name).spec
        return spec.shape, spec.dtype

    def output_spec(self, name: str) -> tuple[tuple[int, ...], DType] | None:
        """Shape and type of an output in the last run. Before a run, those for the dumped input shapes, if known."""
        var = self._output_var(name)
        if var in self._results:
            spec: Spec = self._results[var].spec
        else:
            found = self._inferred_outputs().get(var)
            if found is None:
                return None
            spec = found
        return (spec.shape, spec.dtype) if isinstance(spec, TensorSpec) else None

    def output_dtype(self, name: str) -> DType | None:
        """Type of an output, also of one whose shape depends on data; None if it is not known before a run."""
        var = self._output_var(name)
        value = self._results.get(var)
        spec = value.spec if value is not None else self._inferred_outputs().get(var)
        return None if spec is None else spec.dtype

    def _inferred_outputs(self) -> dict[AnyVar, Spec]:
        known: dict[AnyVar, TensorSpec] = {
            v: (self._inputs[v].spec if v in self._inputs else v.spec) for v in self._graph.inputs
        }
        try:
            stage = infer_stage(self._graph, 0, known, self.pool)
        except (NeedsValue, LiteError):
            return {}
        return {stage.original[v]: v.spec for v in stage.graph.outputs}

    def set_input(self, name: str, address: int, shape: tuple[int, ...], dtype: DType | None, owner: object) -> None:
        """Sets the memory of an input, dense and row-major. The next runs read it; it is not copied.

        ``owner`` is kept as long as the memory is in use. ``dtype`` None means the model's.
        """
        var = self._input_var(name)
        if dtype is not None and dtype is not var.spec.dtype and dtype.storage != var.spec.dtype.storage:
            raise ShapeError(f"input {name!r} is {var.spec.dtype}, got {dtype}")
        current = self._inputs.get(var)
        if current is not None and current.spec.shape == shape:
            current.address = address
            current.owner = owner
            return
        self._fast = None
        self._inputs[var] = _Value(TensorSpec(tuple(shape), var.spec.dtype), address, owner)

    def bind_output(self, name: str, address: int | None, nbytes: int = 0, owner: object = None) -> None:
        """Sets memory of the caller that an output is computed into; with None the session uses its own again."""
        var = self._output_var(name)
        if address is None:
            self._user_outputs.pop(var, None)
            self._fast = None
            return
        self._user_outputs[var] = (address, nbytes, owner)
        if self._fast is None:
            return
        plan, _ = self._fast
        slot = next((s for s in plan.outputs if s.var is var), None)
        if slot is None or nbytes < slot.spec.nbytes:
            self._fast = None  # the next run tells what is wrong
            return
        plan.bind(slot.base, address)
        self._results[var] = _Value(slot.spec, address, owner)

    def output(self, name: str) -> tuple[int, tuple[int, ...], DType, object]:
        """Address, shape, type and owner of an output, after a run. The next run overwrites the memory."""
        value = self._results.get(self._output_var(name))
        if value is None:
            raise LiteError(f"output {name!r} has no value before the first forward")
        return value.address, value.spec.shape, value.spec.dtype, value.owner

    def _input_var(self, name: str) -> Var:
        try:
            return self._by_name[name]
        except KeyError:
            raise LiteIndexError(f"no input named {name!r}; there are {self.input_names}") from None

    def _output_var(self, name: str) -> AnyVar:
        try:
            return self._output_vars[name]
        except KeyError:
            raise LiteIndexError(f"no output named {name!r}; there are {self.output_names}") from None

    # ---- running ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Computes all outputs from the inputs that are set."""
        if self._fast is not None:
            plan, bindings = self._fast
            inputs = self._inputs
            for var, base in bindings:
                plan.bind(base, inputs[var].address)
            plan.bind(ARENA_BASE, self.arena.reserve(plan.arena_bytes))
            try:
                plan.run()
            except LiteError:
                self._fast = None
                self._results = {}
                raise
            return
        values = dict(self._inputs)
        for var in self._graph.inputs:
            if var not in values:
                raise LiteError(
                    f"input {var.name!r} has no data: set it before forward (it wants shape {var.spec.shape}, "
                    f"{var.spec.dtype})"
                )
        self._results = {}
        stop = self._root
        while True:
            plan, following = self._plan(stop, values)
            self._run_plan(plan, values)
            if plan.next_node >= len(self._graph.nodes):
                break
            stop = following
            for var in plan.touched():
                if var in values and not self._lifetimes.is_needed(var, stop.node):
                    del values[var]
        for var in self._graph.outputs:
            self._results[var] = values[var]
        # Plans that depend on values of inputs must be chosen anew each time.
        if stop is self._root and len(plan.segments) == 1 and not stop.value_vars:
            self._fast = plan, [(s.var, s.base) for s in plan.inputs]

    def prepare(self) -> None:
        """Makes plans for the inputs that are set, as far as that is possible without running.

        Raises
        ------
        ShapeError
            They do not fit the model, or each other.
        """
        if self._fast is None and len(self._inputs) == len(self._graph.inputs):
            self._plan(self._root, dict(self._inputs))

    def renew_outputs(self) -> None:
        """Leaves the memory of the last run's outputs to those who refer to it; the next run uses other memory."""
        self._fast = None  # which does not bind outputs
        held = {id(value.owner) for value in self._results.values()}
        for plan in self.plans():
            plan.buffers = [aligned_bytes(b.nbytes) if id(b) in held else b for b in plan.buffers]

    def forget_runs(self) -> None:
        """Forgets inputs, memory for outputs, and results, also those of a run that was interrupted. Plans stay."""
        self._fast = None
        self._times = None
        self._inputs = {}
        self._user_outputs = {}
        self._results = {}
        for plan in self.plans():
            plan.dynamic.clear()
            with contextlib.suppress(LiteIndexError):
                plan._check_faults()  # of the data at that time

    def release_graph(self) -> None:
        """Frees the graph and keeps only the plan of the last run; from then on only its input shapes can be run.

        Raises
        ------
        LiteError
            The model needs more than one plan, because shapes in it depend on data or values.
        """
        if self._only_plan is not None:
            return  # an interrupt has come between this and what follows it
        plans = list(self.plans())
        if len(plans) != 1 or self._root.value_vars or plans[0].next_node < len(self._graph.nodes):
            raise LiteError(
                "the graph cannot be freed: the shapes in this model depend on data, or several have been run"
            )
        (plan,) = plans
        graph = self._graph
        # The variables of outputs would keep the graph alive, so they are replaced by others.
        outputs = {v: copy.copy(v) for v in graph.outputs}
        small = ModelGraph([], graph.inputs, [outputs[v] for v in graph.outputs], graph.output_names)
        model = copy.copy(self.model)
        model.graph = small
        plan = copy.copy(plan)
        plan.outputs = [copy.copy(slot) for slot in plan.outputs]
        plan.forget_graph(outputs)
        # In one step, because an exception may come between any two.
        vars(self).update(
            model=model,
            _graph=small,
            _lifetimes=Lifetimes.of(small),
            _output_vars={name: outputs[v] for name, v in self._output_vars.items()},
            _results={outputs[v]: value for v, value in self._results.items()},
            _user_outputs={outputs[v]: memory for v, memory in self._user_outputs.items()},
            _shape_only=frozenset(),
            _only_plan=plan,
            _root=_Stop(0),
            _fast=None if self._fast is None else (plan, self._fast[1]),
        )

    def run_profiled(self) -> list[StepTime]:
        """Like :meth:`run`; returns the time of every step, in order."""
        self._fast = None
        self._times = []
        try:
            self.run()
            return self._times
        finally:
            self._times = None

    def plans(self) -> Iterator[Plan]:
        """All plans that are kept."""
        if self._only_plan is not None:
            yield self._only_plan
        stops = [self._root]
        while stops:
            for plan, following in stops.pop().plans.values():
                yield plan
                stops.append(following)

    def memory_usage(self) -> dict[str, int]:
        """Bytes of ``weights`` (as plans use them), ``arena``, ``scratch``, ``outputs`` (of all plans) and ``cache``.

        The cache has the weights that are derived from those in the file. It is a part of ``weights``, except for those
        that only other sessions with the same pool use.
        """
        plans = list(self.plans())
        weights = {s.address: s.nbytes for p in plans for s in p.constants()}
        return {
            "weights": sum(weights.values()),
            "arena": self.arena.nbytes,
            "scratch": sum(p.program.scratch_bytes for p in plans),
            "outputs": sum(b.nbytes for p in plans for b in p.buffers),
            "cache": self.pool.nbytes,
        }

    def _plan(self, stop: _Stop, values: dict[AnyVar, _Value]) -> tuple[Plan, _Stop]:
        if self._only_plan is not None:
            for slot in self._only_plan.inputs:
                if values[slot.var].spec.shape != slot.spec.shape:
                    raise LiteError(
                        f"input {slot.var.name!r} has shape {values[slot.var].spec.shape}; the graph has been freed, "
                        f"so only {slot.spec.shape} can be run"
                    )
            return self._only_plan, stop
        while True:
            key = _key_of(stop, values)
            found = stop.plans.get(key)
            if found is not None:
                stop.plans.move_to_end(key)
                return found
            known = _Known(values, stop.value_vars)
            try:
                stage = infer_stage(self._graph, stop.node, known, self.pool, self._shape_only, self._lifetimes)
            except NeedsValue as need:
                stop.value_vars.append(need.var)
                continue
            except ShapeError as error:
                raise ShapeError(f"{error}{self._other_shapes()}") from error
            config = self.config
            if stop.plans and not config.profile_on_shape_change:
                config = dataclasses.replace(config, measure=False)
            plan = build_plan(stage, self.kernels, self.pool, config)
            self._release_weights(stop.node, plan.next_node)
            plan.buffers = [aligned_bytes(slot.spec.nbytes) for slot in plan.outputs]
            stop.shape_vars.update((v, None) for v in stage.original.values() if v in known)
            entry = stop.plans[_key_of(stop, values)] = plan, _Stop(plan.next_node)
            while len(stop.plans) > self.config.plan_cache_size or _take_too_much(stop):
                stop.plans.popitem(last=False)
            return entry

    def _other_shapes(self) -> str:
        """Names inputs whose shape is not the one that the model declares, for an error about shapes."""
        other = [
            f"; input {v.name!r} was given shape {list(value.spec.shape)}, the model declares {list(v.shape)}"
            for v, value in self._inputs.items()
            if isinstance(v, Var) and value.spec.shape != v.shape
        ]
        return "".join(other)

    def _release_weights(self, begin: int, end: int) -> None:
        """Frees the memory of weights that no plan reads in the form of the file."""
        for node in self._graph.nodes[begin:end]:
            for var in node.inputs:
                if var.const is not None:
                    var.const.release()

    def _run_plan(self, plan: Plan, values: dict[AnyVar, _Value]) -> None:
        plan.bind(ARENA_BASE, self.arena.reserve(plan.arena_bytes))
        for slot in plan.inputs:
            plan.bind(slot.base, values[slot.var].address)
        made = {}
        for slot, buffer in zip(plan.outputs, plan.buffers, strict=True):
            user = self._user_outputs.get(slot.var)
            if user is not None:
                address, nbytes, owner = user
                if nbytes < slot.spec.nbytes:
                    raise ShapeError(
                        f"output {slot.var.name!r} needs {slot.spec.nbytes} bytes for shape {slot.spec.shape}, the "
                        f"memory given for it has {nbytes}"
                    )
            else:
                address, owner = buffer.ctypes.data, buffer
            plan.bind(slot.base, address)
            made[slot.var] = _Value(slot.spec, address, owner)
        check = self.config.sanity_check and not plan.has_run
        before = [_checksum(values[s.var]) for s in plan.inputs] if check else []
        if self._times is None:
            plan.run()
        else:
            self._times += plan.run_timed()
        plan.has_run = True
        for slot, crc in zip(plan.inputs, before, strict=False):
            if _checksum(values[slot.var]) != crc:
                raise LiteError(
                    f"{slot.var.name!r} changed during the run that reads it: its memory is written to by somebody "
                    "else, or an operator wrote outside of its outputs"
                )
        values.update(made)
        for var, spec in plan.shapes.items():
            values[var] = _Value(spec, 0, None)
        for var, (array, dtype) in plan.dynamic.items():
            values[var] = _Value(TensorSpec(array.shape, dtype), array.ctypes.data, array)
        plan.dynamic.clear()
