"""A loaded network: a session, its ports, and the order of forward, wait and callbacks."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from megengine_lite._api.network_io import LiteIO
from megengine_lite._api.ports import CallbackIO, InputPort, OutputPort
from megengine_lite._api.run_settings import RunSettings
from megengine_lite._core.runtime.jobs import Job, Turns
from megengine_lite._core.session_config import AlgoPolicy
from megengine_lite._core.system.device_errors import errors_of
from megengine_lite._core.system.late_import import late_import
from megengine_lite.errors import InternalError, LiteError, LiteMemoryError, ShapeError
from megengine_lite.log import INFO, logger

if TYPE_CHECKING:
    import numpy as np

    from megengine_lite._core.device.plan import Arena, PlanReport, StepTime
    from megengine_lite._core.formats.loaded_model import LoadedModel
    from megengine_lite._core.ir.graph import ConstantPool
    from megengine_lite._core.runtime.only_plan import OnlyPlan
    from megengine_lite._core.runtime.prepared import PreparedModel
    from megengine_lite._core.runtime.session import Session
    from megengine_lite._core.session_config import SessionConfig

# A forward that takes less time is not handed to another thread.
_WORTH_DEFERRING = 100e-6
# If the caller has waited at once for the last _PATIENCE forwards, the next _PAUSE ones are not handed over.
_PATIENCE = 8
_PAUSE = 256

Callback = Callable[[CallbackIO], Any]


def _by_name(ios: list[LiteIO], known: list[str], kind: str) -> dict[str, LiteIO]:
    found: dict[str, LiteIO] = {}
    for io in ios:
        if io.name not in known:
            logger.warning("the model has no %s %r; its LiteIO is ignored (there are %s)", kind, io.name, known)
        elif io.name in found:
            logger.warning("%s %r is described twice; the first description counts", kind, io.name)
        else:
            found[io.name] = io
    return found


class RunProfile(Protocol):
    """What measures runs."""

    times: list[StepTime] | None

    def run(self, engine: Engine) -> None:
        """Runs the engine's session and measures every step."""

    def write(self) -> None:
        """Writes what the last run took."""


class RunDump(Protocol):
    """What writes the variables of runs."""

    def write(self, engine: Engine) -> None:
        """Writes those of the run that has just ended."""


class Engine(Turns):
    """A model at work.

    :class:`Turns` calls :meth:`_forward`, which computes. If an exception comes at any place in there, it makes sure
    that the next forward computes right numbers.
    """

    # Objects with more than 30 attributes of the usual kind are slower to read.
    __slots__ = (
        "__weakref__",
        "_always_defers",
        "_bound_outputs",
        "_device",
        "_dump",
        "_fake_next",
        "_fixed",
        "_fixed_shapes",
        "_fresh_outputs",
        "_in_ports",
        "_in_vain",
        "_keeps_no_memory",
        "_may_defer",
        "_memory",
        "_out_ports",
        "_outputs_expected",
        "_prepared",
        "_profile",
        "_seconds",
        "_synchronizes",
        "async_callback",
        "finish_callback",
        "has_run",
        "inputs",
        "model",
        "outputs",
        "pool",
        "session",
        "settings",
    )

    def __init__(
        self,
        model: LoadedModel,
        settings: RunSettings,
        algo: AlgoPolicy,
        pool: ConstantPool | None = None,
        prepared: PreparedModel | None = None,
    ):
        settings.check()
        settings.check_algo(algo)
        self.model = model
        self._prepared = prepared  # None as soon as the model's graph has been needed
        self.settings = settings
        self._memory = settings.memory
        self._device = settings.device
        self._synchronizes = not self._device.host_visible  # else a run is over when its call returns
        self.has_run = False
        self._make_ports()
        self.session: Session = self._new_session(algo, pool, self._memory.arena(self._device, settings.device_id))
        self.pool: ConstantPool = self.session.pool
        self.finish_callback: Callback | None = None
        self.async_callback: Callable[[], Any] | None = None
        self._profile: RunProfile | None = None
        self._dump: RunDump | None = None
        self._fake_next = bool(settings.options.fake_next_exec)
        self._fixed = settings.fixes_shapes
        self._fixed_shapes: dict[str, tuple[int, ...]] = {}
        self._may_defer = settings.may_defer
        self._always_defers = settings.always_defers
        self._fresh_outputs = bool(settings.options.force_output_dynamic_alloc)
        self._keeps_no_memory = bool(settings.options.force_dynamic_alloc)
        self._seconds = 0.0  # that the last forward took
        self._in_vain = 0  # forwards that were handed over, and waited for before the worker came to them
        self._check_outputs()
        with errors_of(self._device):
            width = self._device.channels_of_block(self.session.config)
        for note in settings.notes(width):
            logger.info("%s", note)
        if settings.prepares:
            self._prepare_for_inputs()
        _LIVE.add(self)

    def _make_ports(self) -> None:
        model, settings = self.model, self.settings
        options = settings.options
        wanted = _by_name(settings.inputs, model.input_names, "input")
        specs = {v.name: v.spec for v in model.graph.inputs}
        self.inputs: dict[str, InputPort] = {}
        for name in model.input_names:
            default = model.default_inputs.get(name)
            self.inputs[name] = InputPort(
                name,
                specs[name].shape,
                specs[name].dtype,
                self._device,
                settings.device_id,
                wanted.get(name),
                None if default is None else default.array,
            )
        if settings.discrete_input and settings.discrete_input not in self.inputs:
            logger.warning(
                "the model has no input %r; discrete_input_name is ignored (there are %s)",
                settings.discrete_input,
                model.input_names,
            )
        wanted = _by_name(settings.outputs, model.output_names, "output")
        user_memory = bool(options.force_output_use_user_specified_memory)
        self.outputs: dict[str, OutputPort] = {
            name: OutputPort(
                name,
                self._device,
                settings.device_id,
                wanted.get(name),
                user_memory,
                bool(options.force_output_dynamic_alloc),
            )
            for name in model.output_names
        }
        self._in_ports = list(self.inputs.values())
        self._out_ports = list(self.outputs.values())
        self._bound_outputs = [p for p in self._out_ports if p.needs_memory]
        self._outputs_expected = False  # whether their tensors show a layout

    def _new_session(
        self, algo: AlgoPolicy, pool: ConstantPool | None, arena: Arena | None = None, explain: bool = False
    ) -> Session:
        config = self.settings.session_config(algo, explain)
        if self._prepared is None:
            return self._session_of(self.model_with_graph(), config, pool, arena)
        plan = self._prepared.new_plan(self._device, self.settings.device_id, config)
        return self._session_of(self.model, config, pool, arena, plan)

    def _session_of(
        self,
        model: LoadedModel,
        config: SessionConfig,
        pool: ConstantPool | None,
        arena: Arena | None,
        only: OnlyPlan | None = None,
    ) -> Session:
        with late_import():
            from megengine_lite._core.runtime.session import Session

        return Session(
            model,
            config,
            pool=pool,
            arena=arena,
            shape_only={p.name for p in self._out_ports if p.shape_only},
            device=self._device,
            device_id=self.settings.device_id,
            only=only,
        )

    def _use_graph(self) -> None:
        """Loads the model itself, if the network has a prepared plan; from now on it makes its own plans."""
        prepared = self._prepared
        if prepared is None:
            return
        logger.info("the model is loaded, because its prepared plan is for another shape or another purpose")
        model = prepared.load_graph()
        session = self._session_of(model, self.session.config, self.pool, self.session.arena)
        self._forget_session()
        self.model, self.pool, self.session, self._prepared = model, session.pool, session, None

    def _fitting_session(self, set_inputs: Callable[[], None]) -> Session:
        """A session that can run the inputs that are set. If it is another one, ``set_inputs`` sets them again."""
        if self._prepared is not None and not self.session.fits():
            self._use_graph()
            set_inputs()
        return self.session

    def _bind_inputs(self) -> None:
        for port in self._in_ports:
            port.bind(self.session)

    def session_for(self, feeds: Mapping[str, np.ndarray]) -> Session:
        """A session of its own that plans as this network does. Its inputs are set; those not given are as here."""
        return self.exclusively(self._session_for, feeds, False)

    def _session_for(self, feeds: Mapping[str, np.ndarray], explain: bool) -> Session:
        self._use_graph()
        session = self._new_session(self.session.config.algo, self.pool, explain=explain)
        for name, port in self.inputs.items():
            session.set_array(name, feeds[name] if name in feeds else port.tensor.to_numpy())
        return session

    def _check_outputs(self) -> None:
        """Raises if the caller has to give memory for outputs whose size is not known before the run."""
        for port in self._bound_outputs:
            if self.session.output_spec(port.name) is None:
                raise ShapeError(
                    f"the shape of output {port.name!r} depends on data, so no memory can be given for it: "
                    "force_output_use_user_specified_memory cannot be used with this model"
                )

    def _prepare_for_inputs(self) -> None:
        """Plans for the present inputs and packs the weights."""
        try:
            self._bind_inputs()
            session = self._fitting_session(self._bind_inputs)
            session.prepare()
        except InternalError:
            raise
        except LiteError as error:
            logger.info("weight_preprocess: left to the first forward, because it needs the data: %s", error)
        else:
            if logger.isEnabledFor(INFO):
                nbytes = session.memory_usage()["weights"]
                logger.info("weight_preprocess: planned, with %d bytes of weights as the kernels read them", nbytes)
        finally:
            # The next forward must treat the inputs as new.
            for port in self._in_ports:
                port.forget_session()

    def expect_outputs(self) -> None:
        """Shows the layouts of outputs as far as they are known without a run."""
        if not self._outputs_expected:
            self.exclusively(self._expect_outputs)

    def _expect_outputs(self) -> None:
        if self._outputs_expected:
            return
        for port in self._out_ports:
            if not port.has_user_memory:
                port.expect(self.session.output_spec(port.name))
        self._outputs_expected = True

    def use_algo_policy(self, algo: AlgoPolicy) -> None:
        """Drops the plans and uses other rules for choosing algorithms. Packed weights stay."""
        self.settings.check_algo(algo)
        self.exclusively(self._use_algo_policy, algo)

    def _use_algo_policy(self, algo: AlgoPolicy) -> None:
        self._use_graph()
        session = self._new_session(algo, self.pool, self.session.arena)
        self._forget_session()
        self.session = session
        if self.settings.prepares:
            self._prepare_for_inputs()

    def _forget_session(self) -> None:
        for port in self._in_ports:
            port.forget_session()
        for out in self._out_ports:
            out.forget_session()

    # ---- running ------------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """After a forward that an exception has ended: drops all state that may be incomplete."""
        self._forget_session()
        self.session.forget_runs()

    def _forward(self) -> Job | None:
        """Computes, or returns a job that will."""
        try:
            session = self.session
            reshaped = False
            for port in self._in_ports:
                if port.bind(session):
                    reshaped = True
            if self._fixed:
                self._check_fixed_shapes()
            if reshaped:
                session = self._fitting_session(self._bind_inputs)
            for out in self._bound_outputs:
                out.bind(session)
            self._outputs_expected = True
            if self._fake_next:
                self._fake_next = False
                session.prepare()
                for out in self._out_ports:
                    out.publish_zeros(session.output_spec(out.name))
            elif self.async_callback is not None:
                session.prepare()  # shapes that do not fit are the caller's to know
                return self._posted(partial(self._run_async, self.async_callback), True)
            elif self._always_defers:
                session.prepare()
                return self._posted(self._run_deferred, False)
            elif self._seconds >= _WORTH_DEFERRING and not reshaped and self._is_worth_deferring():
                return self._posted(self._run_deferred, False)
            else:
                begin = perf_counter()
                self._compute()
                self._seconds = perf_counter() - begin
        except Exception as error:
            self._tell_fault(error)
            raise
        return None

    def _tell_fault(self, error: Exception) -> None:
        """Raises an error of this package if a device with memory of its own has failed in its own way."""
        if not self._device.host_visible:
            self._recover()  # it may have come from any place
            if not isinstance(error, LiteError):
                raise self._device.fault(error) from error

    def _call_start(self, callback: Callback) -> None:
        callback(self.callback_io(self.inputs))

    def _call_finish(self, callback: Callback) -> None:
        callback(self.callback_io(self.outputs))

    def answer(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs on dense arrays of host memory, one for each input; gives copies of the outputs in order.

        The arrays are read where they are, and kept until the next run. Tensors and callbacks have no part in it.
        """
        return self.exclusively(self._answer, inputs)

    def _answer(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            is_watched = self._profile is not None or self._dump is not None
            if self._prepared is None and not is_watched and (size := self.session.samples_at_once(inputs)):
                with late_import():
                    from megengine_lite._api.large_batches import answer_in_parts

                outputs = answer_in_parts(self.session, self._memory.use, inputs, size)
                self.has_run = True
                return outputs
            self.session.set_in_place(inputs)
            if self._prepared is not None:
                self._fitting_session(lambda: self.session.set_in_place(inputs))
            self._memory.use(self._run_session)
            self.has_run = True
            return self.session.copied_outputs()
        except LiteError:
            raise
        except BaseException as error:
            self._recover()  # it may have come from any place
            if isinstance(error, MemoryError):
                raise LiteMemoryError("the run: there is not enough memory") from error
            raise

    def _compute(self) -> None:
        session = self.session
        self._memory.use(self._run_session)
        if self._fresh_outputs:
            session.renew_outputs()
        for port in self._out_ports:
            port.publish(session)
        if not self.has_run and self.settings.options.comp_node_seq_record_level == 2:
            session.release_graph()
            self.model = session.model
        self.has_run = True

    def _run_session(self) -> None:
        if self._profile is None:
            self.session.run()
        else:
            self._profile.run(self)
        if self._synchronizes:
            self._device.synchronize(self.settings.device_id)
        if self._dump is not None:
            self._dump.write(self)
        if self._keeps_no_memory:
            self.session.arena.release()

    def model_with_graph(self) -> LoadedModel:
        """The model, for what needs its graph.

        Raises
        ------
        LiteError
            The graph has been freed because of ``comp_node_seq_record_level`` 2.
        """
        if self.has_run and self.settings.options.comp_node_seq_record_level == 2:
            raise LiteError(
                "the graph has been freed after the first forward, as comp_node_seq_record_level 2 asks for"
            )
        if self._prepared is not None:
            self.exclusively(self._use_graph)
        return self.model

    def prepared_for(self, settings: RunSettings, algo: AlgoPolicy) -> PreparedModel | None:
        """The prepared model, if this network runs it and another one with these settings may."""
        if self._prepared is None:
            return None
        from megengine_lite._api.preparing import fits

        return self._prepared if fits(self._prepared, settings, algo) else None

    def _is_worth_deferring(self) -> bool:
        """Whether the caller may gain time if a worker computes.

        Waking a worker takes some time on a busy machine, so it is not done for callers that always wait at once.
        """
        if not self._may_defer:
            return False
        last = self._job
        if last is not None:
            self._in_vain = self._in_vain + 1 if last.was_waited_for else 0
        elif self._in_vain:
            self._in_vain = (self._in_vain + 1) % (_PATIENCE + _PAUSE)
        return self._in_vain < _PATIENCE and all(port.is_plain for port in self._out_ports)

    def _check_fixed_shapes(self) -> None:
        shapes = {port.name: port.tensor._shape for port in self._in_ports}
        for name, shape in (self._fixed_shapes or shapes).items():
            if shape != shapes[name]:
                raise ShapeError(
                    f"input {name!r} has shape {list(shapes[name])}; const_shape or comp_node_seq_record_level 2 holds "
                    f"it to {list(shape)}"
                )
        self._fixed_shapes = shapes

    def _posted(self, work: Callable[[], None], only_worker: bool) -> Job:
        """A job for the worker. Reading an output or writing to an input waits for it."""
        job = self.new_job(work, only_worker)
        for out in self._out_ports:
            out.set_pending(job)
        for port in self._in_ports:
            port.busy(job)
        return job

    def _run_deferred(self) -> None:
        begin = perf_counter()
        self._compute_posted()
        self._seconds = perf_counter() - begin

    def _compute_posted(self) -> None:
        try:
            self._compute()
        except Exception as error:
            self._tell_fault(error)
            raise
        finally:
            for port in self._in_ports:
                port.busy(None)
        # After a failure, reading an output raises.
        for out in self._out_ports:
            out.set_pending(None)

    def _run_async(self, callback: Callable[[], Any]) -> None:
        self._compute_posted()
        try:
            callback()
            finish = self.finish_callback
            if finish is not None:
                finish(self.callback_io(self.outputs))
        except Exception:
            logger.exception("a callback of an asynchronous forward failed")
            raise

    def after_wait(self) -> None:
        """Called after each ``wait`` of the caller."""
        if self._profile is not None and self._profile.times is not None:
            self._profile.write()
        if self.finish_callback is not None and self.async_callback is None:
            self.finish(self.finish_callback)

    def release_memory(self) -> None:
        """Frees the memory of intermediate results until the next run, unless a run is under way."""
        self._memory.use_if_idle(self.session.arena.release)

    def observe(self, profile: RunProfile | None, dump: RunDump | None) -> None:
        """Sets the profile and the dump of all later runs."""
        self.exclusively(self._observe, profile, dump)

    def _observe(self, profile: RunProfile | None, dump: RunDump | None) -> None:
        if profile is not None or dump is not None:
            self._use_graph()
        self._profile, self._dump = profile, dump

    def plans_for_inputs(self) -> list[PlanReport]:
        """Reports of the plans that a forward with the present inputs uses, in order. They are made anew."""
        return self.exclusively(self._plans_for_inputs)

    def explained_session(self, feeds: Mapping[str, np.ndarray]) -> Session:
        """A session of its own that runs as this network does and explains its plans. Its inputs are set.

        Inputs that are not given have their present values.
        """
        return self.exclusively(self._session_for, feeds, True)

    def _plans_for_inputs(self) -> list[PlanReport]:
        session = self._session_for({}, False)
        with errors_of(self._device):
            session.run()
            return [plan.report() for plan in session.plans()]

    def memory_usage(self) -> dict[str, int]:
        """Bytes that the session holds, by purpose."""
        return self.exclusively(lambda: self.session.memory_usage())

    def callback_io(self, ports: dict[str, InputPort] | dict[str, OutputPort]) -> CallbackIO:
        return CallbackIO({LiteIO(name): port.tensor for name, port in ports.items()})


class EngineOwner:
    """What has an engine from the time on when its model is loaded: the base of the parts of a network."""

    _engine: Engine | None

    def _loaded(self, call: str) -> Engine:
        engine = self._engine
        if engine is None:
            raise LiteError(f"the network has no model: call load before {call}")
        return engine

    def _require_not_loaded(self, call: str) -> None:
        if self._engine is not None:
            reason = "make a new network for another model" if call == "load" else "it has to come before load"
            raise LiteError(f"{call}: the network has a model already; {reason}")


_LIVE: weakref.WeakSet[Engine] = weakref.WeakSet()


def release_idle_memory() -> None:
    """:meth:`Engine.release_memory` of all networks."""
    for engine in list(_LIVE):
        engine.release_memory()


def _after_fork() -> None:
    for engine in list(_LIVE):
        engine.pool.after_fork()
        engine.settings.memory.after_fork()
        if engine.after_fork():
            engine._recover()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
