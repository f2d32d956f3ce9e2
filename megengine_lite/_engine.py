"""What a loaded network consists of: a session, its ports, and the order of forward, wait and callbacks."""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

from megengine_lite._core.algo_cache import CACHE
from megengine_lite._core.config import AlgoPolicy, SessionConfig
from megengine_lite._core.device import get_device
from megengine_lite._core.dispatch import Job, Worker
from megengine_lite._ports import CallbackIO, InputPort, OutputPort
from megengine_lite.config import LiteIO, LiteOptions
from megengine_lite.errors import LiteError, LiteValueError, LiteWarning, ShapeError
from megengine_lite.log import logger

if TYPE_CHECKING:
    from megengine_lite._core.graph import ConstantPool
    from megengine_lite._core.loader import Model
    from megengine_lite._core.planner import Plan
    from megengine_lite._core.session import Arena, Session
    from megengine_lite._diagnostics import Dump, Profile

# A forward that takes less is not worth handing to another thread.
_WORTH_DEFERRING = 100e-6
# After so many forwards that were waited for at once, so many of the next ones are not handed over.
_PATIENCE = 8
_PAUSE = 256

Callback = Callable[[CallbackIO], Any]


class RuntimeMemory:
    """Memory for intermediate results, shared by networks that run one after the other."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._arena: Arena | None = None

    def arena(self) -> Arena:
        if self._arena is None:
            from megengine_lite._core.session import Arena

            self._arena = Arena()
        return self._arena


@dataclass(slots=True)
class RunSettings:
    """Everything about a network that is settled before it is loaded."""

    options: LiteOptions = field(default_factory=LiteOptions)
    device_type: int = 0
    device_id: int = 0
    threads: int = 1
    inplace: bool = False
    discrete_input: str = ""
    inputs: list[LiteIO] = field(default_factory=list)
    outputs: list[LiteIO] = field(default_factory=list)
    memory: RuntimeMemory = field(default_factory=RuntimeMemory)

    def check(self) -> None:
        """Raises for combinations that cannot be, warns about what has no effect here."""
        get_device(self.device_type).check_id(self.device_id)
        options = self.options
        if options.force_output_dynamic_alloc and options.force_output_use_user_specified_memory:
            raise LiteValueError(
                "force_output_dynamic_alloc and force_output_use_user_specified_memory exclude each other"
            )
        level = options.comp_node_seq_record_level
        if not 0 <= level <= 2:
            raise LiteValueError(f"comp_node_seq_record_level is 0, 1 or 2, not {level}")
        if level == 2 and (options.var_sanity_check_first_run or options.fake_next_exec):
            raise LiteValueError(
                "comp_node_seq_record_level 2 needs var_sanity_check_first_run and fake_next_exec switched off"
            )
        for name in ("enable_nhwcd4", "enable_nchw4", "enable_nchw32", "enable_nchw64"):
            if getattr(options, name):
                warnings.warn(
                    f"{name} is a layout of other devices; it has no effect on a CPU", LiteWarning, stacklevel=5
                )

    def session_config(self, algo: AlgoPolicy) -> SessionConfig:
        options = self.options
        return SessionConfig(
            threads=self.threads,
            fuse=options.graph_opt_level != 0,
            sanity_check=bool(options.var_sanity_check_first_run),
            profile_on_shape_change=not options.no_profiling_on_shape_change,
            algo=algo,
        )


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


class Engine:
    """A model at work.

    ``lock`` is held while the state changes, never while a job is waited for: a job's callback may want it.
    """

    def __init__(self, model: Model, settings: RunSettings, algo: AlgoPolicy, pool: ConstantPool | None = None):
        from megengine_lite._core.session import Session

        settings.check()
        self.model = model
        self.settings = settings
        self.lock = threading.RLock()
        self.session: Session = Session(model, settings.session_config(algo), pool=pool, arena=settings.memory.arena())
        self.pool: ConstantPool = self.session.pool
        self.has_run = False
        self.start_callback: Callback | None = None
        self.finish_callback: Callback | None = None
        self.async_callback: Callable[[], Any] | None = None
        self._profile: Profile | None = None
        self._dump: Dump | None = None
        self._fake_next = bool(settings.options.fake_next_exec)
        self._fixed = bool(settings.options.const_shape) or settings.options.comp_node_seq_record_level == 2
        self._fixed_shapes: dict[str, tuple[int, ...]] = {}
        self._may_defer = (
            not settings.inplace
            and settings.options.async_exec_level != 0
            and get_device(settings.device_type).count() > 1
        )
        self._seconds = 0.0  # that the last forward took
        self._in_vain = 0  # forwards that were handed over, and waited for before the worker came to them
        self._worker: Worker | None = None
        self._job: Job | None = None
        self._make_ports()
        _LIVE.add(self)

    def _make_ports(self) -> None:
        session, settings = self.session, self.settings
        options = settings.options
        wanted = _by_name(settings.inputs, session.input_names, "input")
        self.inputs: dict[str, InputPort] = {}
        for name in session.input_names:
            default = self.model.default_inputs.get(name)
            self.inputs[name] = InputPort(
                name,
                *session.input_spec(name),
                settings.device_id,
                wanted.get(name),
                None if default is None else default.array,
            )
        wanted = _by_name(settings.outputs, session.output_names, "output")
        user_memory = bool(options.force_output_use_user_specified_memory)
        self.outputs: dict[str, OutputPort] = {
            name: OutputPort(
                name, settings.device_id, wanted.get(name), user_memory, bool(options.force_output_dynamic_alloc)
            )
            for name in session.output_names
        }
        if user_memory:
            for name in self.outputs:
                if session.output_spec(name) is None:
                    raise ShapeError(
                        f"the shape of output {name!r} depends on data, so no memory can be given for it: "
                        "force_output_use_user_specified_memory cannot be used with this model"
                    )
        self._in_ports = list(self.inputs.values())
        self._out_ports = list(self.outputs.values())
        self._bound_outputs = self._out_ports if user_memory else []
        self._outputs_expected = False  # whether their tensors show a layout

    def expect_outputs(self) -> None:
        """Shows the layouts of outputs as far as they are known without a run."""
        if not self._outputs_expected:
            self._outputs_expected = True
            for port in self._out_ports:
                if not port.has_user_memory:
                    port.expect(self.session.output_spec(port.name))

    def use_algo_policy(self, algo: AlgoPolicy) -> None:
        """Plans anew, with other rules for choosing algorithms. Packed weights stay."""
        from megengine_lite._core.session import Session

        lock = self.acquire_idle()
        try:
            self.session = Session(
                self.model_with_graph(),
                self.settings.session_config(algo),
                pool=self.pool,
                arena=self.settings.memory.arena(),
            )
            for port in self._in_ports:
                port.forget_session()
            for out in self._out_ports:
                out.forget_session()
        finally:
            lock.release()

    # ---- running ------------------------------------------------------------------------------------------------

    def acquire_idle(self) -> threading.RLock:
        """Takes the lock at a moment when no forward is under way; the caller releases it."""
        while True:
            job = self._job
            if job is not None and not job.finished and not job.is_mine():
                job.join()
            lock = self.lock
            lock.acquire()
            job = self._job
            if job is None or job.finished or job.is_mine():
                return lock
            lock.release()

    def forward(self) -> None:
        lock = self.acquire_idle()
        try:
            self._forward()
        finally:
            lock.release()

    def _forward(self) -> None:
        if self.start_callback is not None:
            self.start_callback(self.callback_io(self.inputs))
        session = self.session
        reshaped = False
        for port in self._in_ports:
            if port.bind(session):
                reshaped = True
        if reshaped and self._fixed:
            self._check_fixed_shapes()
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
            self._post(self._run_async, True)
        elif not reshaped and self._is_worth_deferring():
            self._post(self._run_deferred, False)
        else:
            self._job = None
            begin = perf_counter()
            self._compute()
            self._seconds = perf_counter() - begin

    def _compute(self) -> None:
        session = self.session
        with self.settings.memory.lock:
            if self._profile is None:
                session.run()
            else:
                self._profile.times = session.run_profiled()
            if self._dump is not None:
                self._dump.write(self)
            if self.settings.options.force_dynamic_alloc:
                session.arena.release()
        CACHE.flush()
        for port in self._out_ports:
            port.publish(session)
        if not self.has_run and self.settings.options.comp_node_seq_record_level == 2:
            session.release_graph()
            self.model = session.model
        self.has_run = True

    def model_with_graph(self) -> Model:
        """The model, for what needs its graph.

        Raises
        ------
        LiteError
            The graph has been freed, as ``comp_node_seq_record_level`` 2 asks for.
        """
        if self.has_run and self.settings.options.comp_node_seq_record_level == 2:
            raise LiteError(
                "the graph has been freed after the first forward, as comp_node_seq_record_level 2 asks for"
            )
        return self.model

    def _is_worth_deferring(self) -> bool:
        """Whether the caller may gain from going on while the worker computes.

        Waking a worker costs some time on a busy machine, so it is not done for callers that always wait at once.
        """
        if not self._may_defer or self._seconds < _WORTH_DEFERRING:
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

    def _post(self, work: Callable[[], None], only_worker: bool) -> None:
        if self._worker is None:
            self._worker = Worker()

        self._job = job = Job(work, self._worker if only_worker else None)
        for out in self._out_ports:
            out.set_pending(job)
        for port in self._in_ports:
            port.busy(job)
        self._worker.post(job)

    def _run_deferred(self) -> None:
        begin = perf_counter()
        self._compute_posted()
        self._seconds = perf_counter() - begin

    def _compute_posted(self) -> None:
        try:
            self._compute()
        finally:
            for port in self._in_ports:
                port.busy(None)
        # After a failure whoever looks at an output is told.
        self._clear_pending()

    def _run_async(self) -> None:
        callback, finish = self.async_callback, self.finish_callback
        self._compute_posted()
        try:
            if callback is not None:
                callback()
            if finish is not None:
                finish(self.callback_io(self.outputs))
        except Exception:
            logger.exception("a callback of an asynchronous forward failed")
            raise

    def _clear_pending(self) -> None:
        for out in self._out_ports:
            out.set_pending(None)

    def wait(self) -> None:
        """Returns when the last forward is done; raises what went wrong in it."""
        job = self._job
        if job is None:
            return
        try:
            job.wait()
        except BaseException:
            if job.finished:
                self._job = None
                self._clear_pending()
            raise

    def after_wait(self) -> None:
        """What follows each ``wait`` of the caller."""
        if self._profile is not None and self._profile.times:
            self._profile.write()
        if self.finish_callback is not None and self.async_callback is None:
            self.finish_callback(self.callback_io(self.outputs))

    def release_memory(self) -> None:
        """Gives memory for intermediate results back until the next run, unless one is under way."""
        memory = self.settings.memory
        if memory.lock.acquire(blocking=False):
            try:
                self.session.arena.release()
            finally:
                memory.lock.release()

    def observe(self, profile: Profile | None, dump: Dump | None) -> None:
        """Says what each run is to be measured and dumped by."""
        lock = self.acquire_idle()
        self._profile, self._dump = profile, dump
        lock.release()

    def plans_for_inputs(self) -> list[Plan]:
        """The plans that a forward with the present inputs takes, in order; made anew."""
        from megengine_lite._core.session import Session

        lock = self.acquire_idle()
        try:
            session = Session(self.model_with_graph(), self.session.config, pool=self.pool)
            for name, port in self.inputs.items():
                tensor = port.tensor.to_numpy()
                session.set_input(name, tensor.ctypes.data, tensor.shape, None, tensor)
            session.run()
            return list(session.plans())
        finally:
            lock.release()

    def callback_io(self, ports: dict[str, InputPort] | dict[str, OutputPort]) -> CallbackIO:
        return CallbackIO({LiteIO(name): port.tensor for name, port in ports.items()})


_LIVE: weakref.WeakSet[Engine] = weakref.WeakSet()


def release_idle_memory() -> None:
    """:meth:`Engine.release_memory` of all networks."""
    for engine in list(_LIVE):
        engine.release_memory()


def _after_fork() -> None:
    # Locks may be held by threads that the child does not have.
    for engine in list(_LIVE):
        engine.lock = threading.RLock()
        engine.settings.memory.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
