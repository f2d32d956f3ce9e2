"""A session runs one loaded model on a device: it finds plans for the shapes of its inputs, and binds memory to them.

A session is used by one thread at a time (the API holds a lock); several sessions may share a model's weights
(:class:`ConstantPool`) and run at the same time, or share one arena and run one after the other.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Iterator, Mapping, Set
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from megengine_lite._core.device.interface import Device
from megengine_lite._core.device.plan import Arena, Plan, RunRecorder, RunValue, Slot, StepTime
from megengine_lite._core.ir.declared_shape import check_shapes, open_shape_text, with_open_sizes
from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.ir.graph import AnyVar, ConstantPool, DynamicSpec, ModelGraph, Spec, TensorSpec, Var
from megengine_lite._core.runtime.devices import CPU
from megengine_lite._core.runtime.only_plan import GraphPlace, OnlyPlan
from megengine_lite._core.session_config import SessionConfig
from megengine_lite._core.system.device_errors import errors_of
from megengine_lite._core.system.late_import import late_import
from megengine_lite._core.system.memory import Storage
from megengine_lite.errors import LiteError, LiteIndexError, ShapeError

if TYPE_CHECKING:
    from megengine_lite._core.device.planned_graph import NodeResult
    from megengine_lite._core.formats.loaded_model import LoadedModel
    from megengine_lite._core.runtime.plans_by_shape import Plans
    from megengine_lite._core.runtime.repetition import Repeated


def _checksum(value: RunValue) -> int:
    return zlib.crc32(value.array().data)


class _Bound:
    """A plan that is bound to the memory of the last run, and runs again without a look at the model."""

    __slots__ = ("inputs", "outputs", "plan", "views")

    def __init__(self, plan: Plan):
        self.plan = plan
        self.views: dict[str, np.ndarray] | None = None  # the memory of the model's outputs, in their order
        self.inputs: dict[AnyVar, Slot] = {slot.var: slot for slot in plan.inputs}
        self.outputs: dict[AnyVar, Slot] = {slot.var: slot for slot in plan.outputs}


class _StepTimes(RunRecorder):
    """The times of all steps in order."""

    __slots__ = ("times",)

    def __init__(self) -> None:
        self.times: list[StepTime] = []

    def ran(self, plan: Plan, times: list[StepTime]) -> None:
        self.times += times


class Session:
    """Runs one loaded model.

    Parameters
    ----------
    model
        A loaded model.
    config
        Options; must not be changed later.
    pool
        Weights derived from the model; sessions of the same model may share one. A new one by default.
    arena
        Memory for intermediate tensors, of the same device; sessions that never run at the same time may share one. A
        new one by default.
    shape_only
        Names of outputs whose layout alone is wanted. What is needed only for them is not computed, unless their
        shape depends on it. The storage of such an output is empty.
    device, device_id
        Where it runs; the CPU by default.
    only
        The plan that runs a model whose graph has no nodes.
    """

    def __init__(
        self,
        model: LoadedModel,
        config: SessionConfig | None = None,
        *,
        pool: ConstantPool | None = None,
        arena: Arena | None = None,
        shape_only: Set[str] = frozenset(),
        device: Device = CPU,
        device_id: int = 0,
        only: OnlyPlan | None = None,
    ):
        self.model = model
        self.config = config or SessionConfig()
        self.device = device
        self.device_id = device_id
        self.pool = pool or ConstantPool()
        with errors_of(device):
            self.arena = arena or device.new_arena(device_id)
        graph = model.graph
        self._by_name = {v.name: v for v in graph.inputs}
        self.input_names: list[str] = list(model.input_names)
        self.output_names: list[str] = list(model.output_names)
        self._output_vars = dict(zip(graph.output_names, graph.outputs, strict=True))
        self._plans: Plans | OnlyPlan = only or self._new_plans(shape_only)
        self._inputs: dict[AnyVar, RunValue] = {}
        self._truths: dict[AnyVar, RunValue] = {}  # what runs read in place of inputs of truth values
        self._user_outputs: dict[AnyVar, tuple[Storage, int, int]] = {}  # storage, bytes, offset
        self._results: dict[AnyVar, RunValue] = {}
        self._end: GraphPlace = self._plans.root  # where the last run ended
        self._recorder: RunRecorder | None = None  # of a profiled run
        self._watch: Callable[[NodeResult], None] | None = None  # sees the results of nodes
        self._fast: _Bound | None = None  # the only plan of the last run
        self._inferred: tuple[object, Mapping[AnyVar, Spec]] | None = None  # for what, and the specs of outputs
        self._checked: object = None  # what was compared with the declared shapes last, and fits
        self._sizes_of_parts: dict[object, int] = {}  # by shapes of inputs
        self._runs_part = False  # of a batch whose shapes have been compared

    def _new_plans(self, shape_only: Set[str]) -> Plans:
        with late_import():
            from megengine_lite._core.runtime.plans_by_shape import Plans

        graph = self.model.graph
        whole = {v for name, v in zip(graph.output_names, graph.outputs, strict=True) if name not in shape_only}
        hidden = frozenset(graph.outputs) - whole
        return Plans(graph, self.pool, self.config, hidden, self.device, self.device_id)

    # ---- inputs and outputs -------------------------------------------------------------------------------------

    def input_spec(self, name: str) -> tuple[tuple[int, ...], DType]:
        """The shape that an input had when the model was dumped, and its type."""
        spec = self._input_var(name).spec
        return spec.shape, spec.dtype

    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the inputs that are set, by name."""
        return {name: self._inputs[var].spec.shape for name, var in self._by_name.items() if var in self._inputs}

    def output_spec(self, name: str) -> tuple[tuple[int, ...], DType] | None:
        """Shape and type of an output in the last run. Before a run, those for the dumped input shapes, if known."""
        spec = self._output_spec(name)
        return (spec.shape, spec.dtype) if isinstance(spec, TensorSpec) else None

    def output_dtype(self, name: str) -> DType | None:
        """Type of an output, also of one whose shape depends on data; None if it is not known before a run."""
        spec = self._output_spec(name)
        return None if spec is None else spec.dtype

    def declared_output(self, name: str) -> Spec | None:
        """What is known of an output for inputs of the declared shapes."""
        return self._inferred_output(name, {v: v.spec for v in self.model.graph.inputs})

    def _output_spec(self, name: str) -> Spec | None:
        var = self._output_var(name)
        value = self._results.get(var)
        if value is not None:
            return value.spec
        inputs = self._plans.graph.inputs
        known: dict[AnyVar, TensorSpec] = {v: (self._inputs[v].spec if v in self._inputs else v.spec) for v in inputs}
        return self._inferred_output(name, known)

    def _inferred_output(self, name: str, known: Mapping[AnyVar, TensorSpec]) -> Spec | None:
        """What follows for an output from specs of the inputs, or what the file says of it."""
        key = self._plans, [spec.shape for spec in known.values()]
        if self._inferred is None or self._inferred[0] != key:  # once for all outputs
            self._inferred = key, self._plans.infer_outputs(known)
        found = self._inferred[1].get(self._output_var(name))
        dtype = self.model.output_types.get(name)
        return DynamicSpec(dtype) if found is None and dtype is not None else found

    @property
    def scalars(self) -> frozenset[str]:
        """Inputs and outputs that have no dimensions in the model, those of the last run among them."""
        made = self._end.scalars
        return self.model.scalars.union(name for name, var in self._output_vars.items() if var in made)

    def set_input(
        self, name: str, storage: Storage, shape: tuple[int, ...], dtype: DType | None = None, offset: int = 0
    ) -> None:
        """Sets the memory of an input, dense and row-major. The next runs read it; it is not copied.

        The storage must be memory that the device works in. ``dtype`` None means the model's.
        """
        var = self._by_name.get(name) or self._input_var(name)
        if dtype is not None and dtype is not var.spec.dtype and dtype.storage != var.spec.dtype.storage:
            raise ShapeError(f"input {name!r} is {var.spec.dtype}, got {dtype}")
        current = self._inputs.get(var)
        if current is None or current.spec.shape != shape:
            self._fast = None
            spec = TensorSpec(tuple(shape), var.spec.dtype)
            self._inputs[var] = RunValue(spec, storage, offset)
            if spec.dtype.storage == np.bool_:
                self._truths[var] = RunValue(spec, storage, offset)
            return
        current.storage, current.offset = storage, offset
        if self._fast is not None:
            slot = self._fast.inputs.get(var)
            if slot is not None:
                self._fast.plan.bind(slot, storage, offset)

    def set_array(self, name: str, array: np.ndarray) -> None:
        """Sets an input to a dense array of the model's type; bool may be uint8. It may be copied."""
        dtype = self._input_var(name).dtype
        if array.dtype != dtype.storage and not (dtype.storage == np.bool_ and array.dtype == np.uint8):
            raise ShapeError(f"input {name!r} is {dtype}, got {array.dtype}")
        self.set_input(name, self._stored(array, dtype).storage, array.shape)

    def set_in_place(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Sets inputs to dense arrays of host memory, which the next runs read where they are."""
        for name, array in arrays.items():
            self.set_input(name, Storage.of_buffer(array), array.shape)

    def samples_at_once(self, arrays: Mapping[str, np.ndarray]) -> int:
        """How many samples of a batch :meth:`run_part` should run at a time; 0 for a batch that runs as a whole."""
        shapes = tuple(arrays[name].shape for name in self._by_name)
        found = self._sizes_of_parts.get(shapes)
        if found is None:
            found = self._size_of_parts(dict(zip(self._by_name.values(), shapes, strict=True)))
            if len(self._sizes_of_parts) >= self.config.plan_cache_size:
                self._sizes_of_parts.clear()
            self._sizes_of_parts[shapes] = found
        return found

    def _size_of_parts(self, shapes: dict[AnyVar, tuple[int, ...]]) -> int:
        near = self.device.near_bytes(self.config)
        plans = self._plans
        graph = plans.graph
        if not near or isinstance(plans, OnlyPlan):
            return 0
        with late_import():
            from megengine_lite._core.compile.samples import samples_at_once

        given = {v.name: shape for v, shape in shapes.items()}
        try:
            check_shapes(graph.declared, given)
        except ShapeError:
            return 0  # the run will say so
        return samples_at_once(graph, shapes, near, plans.first_stage)

    def run_part(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs on some samples of a batch; gives the outputs in memory that the next run overwrites."""
        self._runs_part = True
        try:
            self.set_in_place(arrays)
            self.run()
        finally:
            self._runs_part = False
        return {name: self.output(name).array() for name in self.output_names}

    def bind_output(self, name: str, storage: Storage | None, nbytes: int = 0, offset: int = 0) -> None:
        """Sets memory of the caller that an output is computed into; with None the session uses its own again.

        The storage must be memory that the device works in.
        """
        var = self._output_var(name)
        if storage is None:
            self._user_outputs.pop(var, None)
            self._fast = None
            return
        self._user_outputs[var] = storage, nbytes, offset
        if self._fast is None:
            return
        slot = self._fast.outputs.get(var)
        if slot is None or nbytes < slot.spec.nbytes:
            self._fast = None  # the next run tells what is wrong
            return
        self._fast.plan.bind(slot, storage, offset)
        self._fast.views = None
        self._results[var] = RunValue(slot.spec, storage, offset)

    def output(self, name: str) -> RunValue:
        """An output after a run. The next run overwrites its memory."""
        value = self._results.get(self._output_var(name))
        if value is None:
            raise LiteError(f"output {name!r} has no value before the first forward")
        return value

    def copied_outputs(self) -> dict[str, np.ndarray]:
        """The outputs after a run, in their order, in memory of their own."""
        fast = self._fast
        views = None if fast is None else fast.views
        if views is None:
            views = {name: self.output(name).array() for name in self.output_names}
            # An output that is an input lies in other memory each time; what is read from a device is no view.
            is_own = self.device.host_visible and self._inputs.keys().isdisjoint(self._output_vars.values())
            if fast is not None and is_own:
                fast.views = views
        return {name: view.copy() for name, view in views.items()}

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
        """Computes all outputs from the inputs that are set. The device may still be at work afterwards."""
        if self._truths:
            self._read_truths()
        if self._fast is not None:
            try:
                self._fast.plan.run(self.arena)
            except LiteError:
                self._fast = None
                self._results = {}
                raise
            return
        values = {**self._inputs, **self._truths}
        plans = self._plans
        for var in plans.graph.inputs:
            if var not in values:
                raise LiteError(
                    f"input {var.name!r} has no data: set it before forward (it wants shape {var.spec.shape}, "
                    f"{var.spec.dtype})"
                )
        self._results = {}
        only = self._run_stages(plans, values)
        for output in plans.graph.outputs:
            self._results[output] = values[output]
        if only is not None:
            self._fast = _Bound(only)

    def _read_truths(self) -> None:
        """Makes 1 of all bytes but 0 in inputs of truth values. Kernels compare and count these bytes."""
        for var, truths in self._truths.items():
            given = self._inputs[var]
            numbers = given.array().view(np.uint8)
            if numbers.size and numbers.max() > 1:
                given = self._stored((numbers != 0).view(np.uint8), given.dtype)
            truths.storage, truths.offset = given.storage, given.offset
            slot = None if self._fast is None else self._fast.inputs.get(var)
            if self._fast is not None and slot is not None:
                self._fast.plan.bind(slot, truths.storage, truths.offset)

    def _run_stages(self, plans: Plans | OnlyPlan, values: dict[AnyVar, RunValue]) -> Plan | None:
        """Runs a graph; adds its outputs to the values. Gives the plan if there is one only, for all data."""
        stop: GraphPlace = plans.root
        while True:
            plan, following = self._find_plan(plans, stop, values)
            if isinstance(plan, Plan):
                self._run_plan(plan, values)
                if following.is_end:
                    self._end = following
                    break
            else:
                self._run_loop(plan, values)
            stop = following
            for touched in plan.touched():
                if touched in values and not stop.needs(touched):
                    del values[touched]
        # Plans that depend on values of inputs must be chosen anew each time.
        is_only = stop is plans.root and not plan.has_dynamic_outputs and not following.follows_values
        return plan if is_only else None

    def _run_loop(self, loop: Repeated, values: dict[AnyVar, RunValue]) -> None:
        recorder = self._recorder
        run_body = partial(self._run_stages, loop.plans)
        if recorder is None:
            loop.run(values, run_body, self._run_bound if self._watch is None else None, self._stored)
            return

        def run_recorded(values: dict[AnyVar, RunValue]) -> Plan | None:
            recorder.begin_round()
            return run_body(values)

        recorder.begin_loop(loop.node)
        loop.run(values, run_recorded, None, self._stored)
        recorder.end_loop()

    def _run_bound(self, plan: Plan) -> None:
        plan.run(self.arena)

    @property
    def is_bound(self) -> bool:
        """Whether the next run repeats the plan of the last one, without a look at the model."""
        return self._fast is not None

    def prepare(self) -> None:
        """Makes plans for the inputs that are set, as far as that is possible without running.

        Raises
        ------
        ShapeError
            They do not fit the model, or each other.
        """
        if self._fast is None and len(self._inputs) == len(self._plans.graph.inputs):
            self._find_plan(self._plans, self._plans.root, dict(self._inputs))

    def fits(self) -> bool:
        """Whether inputs of the shapes that are set can be run. A session with a graph tells that when it runs."""
        known = {var: value.spec for var, value in self._inputs.items()}
        return not isinstance(self._plans, OnlyPlan) or self._plans.fits(known)

    def plan_for_inputs(self) -> Plan:
        """The plan that runs the whole model for the inputs that are set; no other may have been made.

        Raises
        ------
        LiteError
            There are several.
        """
        self.prepare()
        plan, self._end = self._plans.only_plan("the model cannot be prepared")
        return plan

    def run_profiled(self) -> list[StepTime]:
        """Like :meth:`run`; returns the time of every step, in order."""
        recorder = _StepTimes()
        self.run_recorded(recorder)
        return recorder.times

    def run_recorded(self, recorder: RunRecorder) -> None:
        """Like :meth:`run`; tells what runs, and the times of its steps."""
        self._fast = None
        self._recorder = recorder
        try:
            self.run()
        finally:
            self._recorder = None

    def run_watched(self, watch: Callable[[NodeResult], None]) -> None:
        """Like :meth:`run`; shows each result of a node. The configuration must ask for explanations."""
        self._fast = None
        self._watch = watch
        try:
            self.run()
        finally:
            self._watch = None

    def renew_outputs(self) -> None:
        """Leaves the memory of the last run's outputs to those who refer to it; the next run uses other memory."""
        self._fast = None  # which does not bind outputs
        held = {id(value.storage) for value in self._results.values()}
        for plan in self.plans():
            plan.buffers = [
                self.device.allocate(b.nbytes, self.device_id) if id(b) in held else b for b in plan.buffers
            ]

    def forget_runs(self) -> None:
        """Forgets inputs, memory for outputs, and results, also those of a run that was interrupted. Plans stay."""
        self._fast = None
        self._recorder = None
        self._inputs = {}
        self._truths = {}
        self._user_outputs = {}
        self._results = {}
        for plan in self.plans():
            plan.forget_run()

    def release_graph(self) -> None:
        """Frees the graph and keeps only the plan of the last run; from then on only its input shapes can be run.

        Raises
        ------
        LiteError
            The model needs more than one plan, because shapes in it depend on data or values.
        """
        if self._plans.is_single:
            return  # an interrupt has come between this and what follows it
        plan, _ = self._plans.only_plan("the graph cannot be freed")
        graph = self._plans.graph
        # The variables of outputs would keep the graph alive, so they are replaced by others.
        outputs = {v: copy.copy(v) for v in graph.outputs}
        small = ModelGraph([], graph.inputs, [outputs[v] for v in graph.outputs], graph.output_names)
        model = copy.copy(self.model)
        model.graph, model.scalars = small, self.scalars
        plan = copy.copy(plan)
        plan.outputs = [copy.copy(slot) for slot in plan.outputs]
        plan.forget_graph(outputs)
        only = OnlyPlan(small, plan, "the graph has been freed")
        # In one step, because an exception may come between any two.
        vars(self).update(
            model=model,
            _plans=only,
            _end=only.root,
            _output_vars={name: outputs[v] for name, v in self._output_vars.items()},
            _results={outputs[v]: value for v, value in self._results.items()},
            _user_outputs={outputs[v]: memory for v, memory in self._user_outputs.items()},
            _fast=None,
        )

    def plans(self) -> Iterator[Plan]:
        """All plans that are kept."""
        return iter(self._plans)

    def memory_usage(self) -> dict[str, int]:
        """Bytes of ``weights`` (as plans use them), ``arena``, ``scratch``, ``outputs`` (of all plans) and ``cache``.

        The cache has the weights that are derived from those in the file. It is a part of ``weights``, except for those
        that only other sessions with the same pool use.
        """
        plans = list(self.plans())
        reports = [plan.report() for plan in plans]
        weights = {key: nbytes for r in reports for key, nbytes in r.weights.items()}
        return {
            "weights": sum(weights.values()),
            "arena": self.arena.nbytes,
            "scratch": sum(r.scratch_bytes for r in reports),
            "outputs": sum(b.nbytes for p in plans for b in p.buffers),
            "cache": self.pool.nbytes,
        }

    # ---- inside -------------------------------------------------------------------------------------------------

    def _stored(self, array: np.ndarray, dtype: DType) -> RunValue:
        """A dense array in memory that the device works in: its own, or a copy."""
        storage = Storage.of_buffer(array)
        if not self.device.host_visible:
            with errors_of(self.device):
                storage = self.device.allocate(array.nbytes, self.device_id)
                if array.nbytes:
                    self.device.write(storage, 0, array.reshape(-1).view(np.uint8))
        return RunValue(TensorSpec(array.shape, dtype), storage)

    def _find_plan(
        self, plans: Plans | OnlyPlan, stop: GraphPlace, values: dict[AnyVar, RunValue]
    ) -> tuple[Plan | Repeated, GraphPlace]:
        graph = plans.graph
        if stop is plans.root and graph.declared and not self._runs_part:
            self._check_declared(graph, values)
        try:
            return plans.find(stop, values)
        except ShapeError as error:
            given = {v.name: value.spec.shape for v, value in self._inputs.items()}
            problem = f"{error}{self._other_shapes()}"
            raise ShapeError(with_open_sizes(problem, self.model.graph.declared, given)) from error

    def _check_declared(self, graph: ModelGraph, values: dict[AnyVar, RunValue]) -> None:
        """Compares the shapes of inputs with those that the model declares, unless they fitted in the last run."""
        shapes = [values[v].spec.shape for v in graph.inputs]
        key = graph, shapes, sum(len(d.trusted) for d in graph.declared)
        if key != self._checked:
            check_shapes(graph.declared, dict(zip((v.name for v in graph.inputs), shapes, strict=True)))
            self._checked = key

    def _other_shapes(self) -> str:
        """Names inputs whose shape is not the one that the model declares, for an error about shapes."""
        said = {d.name: d.open_shape for d in self.model.graph.declared}
        other = [
            f"; input {v.name!r} was given shape {list(value.spec.shape)}, the model declares "
            f"{open_shape_text(said.get(v.name, v.shape))}"
            for v, value in self._inputs.items()
            if isinstance(v, Var) and value.spec.shape != v.shape
        ]
        return "".join(other)

    def _run_plan(self, plan: Plan, values: dict[AnyVar, RunValue]) -> None:
        for slot in plan.inputs:
            plan.bind(slot, values[slot.var].storage, values[slot.var].offset)
        made = {}
        for slot, buffer in zip(plan.outputs, plan.buffers, strict=True):
            storage, nbytes, offset = self._user_outputs.get(slot.var, (buffer, buffer.nbytes, 0))
            if nbytes < slot.spec.nbytes:
                raise ShapeError(
                    f"output {slot.var.name!r} needs {slot.spec.nbytes} bytes for shape {slot.spec.shape}, the "
                    f"memory given for it has {nbytes}"
                )
            plan.bind(slot, storage, offset)
            made[slot.var] = RunValue(slot.spec, storage, offset)
        check = self.config.sanity_check and not plan.has_run
        before = [_checksum(values[s.var]) for s in plan.inputs] if check else []
        if self._watch is not None:
            plan.run_watched(self.arena, self._watch)
        elif self._recorder is None:
            plan.run(self.arena)
        else:
            self._recorder.ran(plan, plan.run_timed(self.arena))
        plan.has_run = True
        for slot, crc in zip(plan.inputs, before, strict=False):
            if _checksum(values[slot.var]) != crc:
                raise LiteError(
                    f"{slot.var.name!r} changed during the run that reads it: its memory is written to by somebody "
                    "else, or an operator wrote outside of its outputs"
                )
        values.update(made)
        for var, spec in plan.shapes.items():
            values[var] = RunValue(spec, Storage(0))
        values.update(plan.dynamic)
        plan.dynamic.clear()
