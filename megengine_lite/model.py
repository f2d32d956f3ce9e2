"""Models as functions: :func:`load` and :class:`Model`, a thin layer over :class:`LiteNetwork`."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from operator import length_hint
from threading import Condition, local
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO
from weakref import WeakSet

import numpy as np

from megengine_lite._api.batches import Feeds, LastError, batches_of, one_by_one, taken_apart, with_last_error
from megengine_lite._api.load_options import LoadOptions, to_name
from megengine_lite._api.measured import Measured
from megengine_lite._api.model_inputs import ModelInput, TensorDescription, to_feeds
from megengine_lite._api.model_outputs import Outputs
from megengine_lite._api.options import LiteConfig
from megengine_lite._core.ir.declared_shape import agreed_shape
from megengine_lite._core.runtime.devices import busy_processors
from megengine_lite._core.runtime.loans import Loans
from megengine_lite._core.system.files import path_to_write
from megengine_lite._core.system.imports_at_fork import wait_at_forks
from megengine_lite._core.system.integers import to_integer, to_switch
from megengine_lite._core.system.memory_limit import describe_bytes
from megengine_lite.errors import DeviceError, LiteError, LiteTypeError, LiteValueError, brief, printable
from megengine_lite.network import LiteNetwork

if TYPE_CHECKING:
    from megengine_lite._api.engine import Engine

__all__ = ["Model", "Outputs", "RunFuture", "TensorDescription", "load"]


class RunFuture(Future[Outputs]):
    """The result of :meth:`Model.run_async`: a :class:`concurrent.futures.Future` that asyncio can await.

    ``asyncio.wait`` and ``create_task`` want a future of asyncio's own: ``asyncio.wrap_future(model.run_async(x))``.
    A forked process has none of its parent's threads. There, a run that has not ended never will: :meth:`result` and
    :meth:`exception` raise :class:`LiteError`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._process = os.getpid()

    def result(self, timeout: float | None = None) -> Outputs:
        """The outputs. Waits for the run to end, at most ``timeout`` seconds.

        Raises
        ------
        TimeoutError
            The run has not ended by then.
        LiteError
            The error in which the run has ended, or this process was forked from the one that began it.
        """
        self._require_its_thread()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The error in which the run has ended, None if there was none. Waits as :meth:`result` does."""
        self._require_its_thread()
        return super().exception(timeout)

    def _require_its_thread(self) -> None:
        if self._process == os.getpid():
            return
        self._condition = Condition()  # a thread that this process does not have may have held the other one
        if not self.done():
            raise LiteError(
                f"the run was begun by process {self._process}, and no thread of it is in this process, which was "
                "forked from it: call the model again"
            )
        self._process = os.getpid()

    def __await__(self) -> Generator[Any, None, Outputs]:
        self._require_its_thread()
        from asyncio import wrap_future  # whoever awaits has it; others need not import it

        return wrap_future(self).__await__()


class _Worker:
    """A network of a model, and what its inputs are if they are left out."""

    __slots__ = ("answer", "count", "defaults", "network")

    def __init__(self, network: LiteNetwork, inputs: Sequence[ModelInput]):
        self.network = network
        self.answer = network._loaded("Model").answer
        self.count = len(inputs)
        self.defaults = {i.name: i.array(i.default) for i in inputs if i.default is not None}

    def scalar_outputs(self) -> list[str]:
        """The outputs of the last run that have no dimensions in the model."""
        session = self.network._loaded("Model").session
        scalars = session.scalars
        return [name for name in session.output_names if name in scalars]


_INSIDE = (
    "a run of this model is under way on this thread, so an operator or a signal handler inside of it can neither run "
    "the model nor close it: load the model a second time for that"
)


def load(
    model: str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO,
    *,
    threads: int | None = None,
    workers: int = 1,
    precision: str = "float32",
    narrow_double: bool = False,
    device: str = "cpu",
    decryption: str = "",
    prepared: str | os.PathLike[str] | None = None,
    share_weights: bool = False,
) -> Model:
    """Loads a model of MegEngine's or an ONNX model, as a function that can be called.

    Parameters
    ----------
    model
        A path, a ``file://`` URL, a binary file, or the model's bytes: plain, encrypted or packed.
    threads
        How many threads a run may use. By default the processors that this process may use and that the quotas of its
        control groups can keep busy, divided among the workers.
    workers
        How many runs may be under way at the same time. Each has memory of its own; the weights are there once.
    precision
        How weights are kept, as :attr:`LiteNetwork.precision <megengine_lite.LiteNetwork.precision>` explains:
        ``"float32"``, or in half the memory as ``"bfloat16"`` or ``"float16"``.
    narrow_double
        Compute the double of an ONNX model as float32, as
        :attr:`LiteNetwork.narrow_double <megengine_lite.LiteNetwork.narrow_double>` explains.
    device
        ``"cpu"``.
    decryption
        The method of an encrypted file that does not name it. Its key is set by
        :meth:`LiteGlobal.update_decryption_key <megengine_lite.LiteGlobal.update_decryption_key>`.
    prepared
        The path of a file that :meth:`Model.prepare` has made from the model, so that the first run of a process comes
        sooner. If it was made for something else, a :class:`LiteWarning` says so, and the model is loaded without it.
    share_weights
        Share the memory of the weights with other processes of this user that load the same model so. They write it to
        a file in the directory for temporary files, which the last of them removes. The weights of an encrypted model
        are never written. Where that file cannot be, and on Windows, each process has weights of its own.

    Raises
    ------
    LiteError
        As :meth:`LiteNetwork.load <megengine_lite.LiteNetwork.load>`; :class:`DeviceError` for a device that does not
        exist; :class:`LiteValueError` for numbers and names that cannot be.

    Examples
    --------
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import megengine_lite
    >>> model = megengine_lite.load(Path(megengine_lite.__file__).parent / "bundled" / "digits.mge")
    >>> (probabilities,) = model(np.zeros([1, 1, 8, 8]))
    >>> probabilities.shape
    (1, 10)
    """
    return Model(
        model,
        threads=threads,
        workers=workers,
        precision=precision,
        narrow_double=narrow_double,
        device=device,
        decryption=decryption,
        prepared=prepared,
        share_weights=share_weights,
    )


class Model(Measured):
    """A model that is called like a function. Made by :func:`load`, which explains the parameters.

    Calls from several threads are safe; as many run at the same time as there are workers, the others wait. A model can
    be pickled: another process loads it from its file or bytes. Used in ``with``, it is closed at the end.

    Examples
    --------
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import megengine_lite
    >>> with megengine_lite.load(Path(megengine_lite.__file__).parent / "bundled" / "digits.mge") as model:
    ...     image = np.zeros([1, 1, 8, 8], "float32")
    ...     same = [model(image), model({"data": image}), model(data=image), model.run_async(image).result()]
    ...     many = list(model.map([image] * 10, batch_size=4))
    >>> len(many), many[0][0].shape
    (10, (1, 10))
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO,
        *,
        threads: int | None = None,
        workers: int = 1,
        precision: str = "float32",
        narrow_double: bool = False,
        device: str = "cpu",
        decryption: str = "",
        prepared: str | os.PathLike[str] | None = None,
        share_weights: bool = False,
    ):
        options = LoadOptions.checked(threads, workers, precision, narrow_double, decryption, prepared, share_weights)
        if to_name(device, "device") != "cpu":
            raise DeviceError(f"there is no device {brief(device)}; there is 'cpu'")
        each = options.threads or max(1, busy_processors() // options.workers)
        config = LiteConfig()
        config.bare_model_cryption_name = options.decryption
        first = LiteNetwork(config)
        first.threads_number, first.precision = each, options.precision
        first.narrow_double = options.narrow_double
        first._settings.shares_weights = options.share_weights
        first.load(model, prepared=options.prepared)
        self._options = options
        self._threads = each
        self._source = first._source
        loaded = first._loaded("Model").model
        self._inputs = tuple(ModelInput.of(loaded, v) for v in loaded.graph.inputs)
        self._scalars = loaded.scalars
        self._metadata = loaded.properties
        self._outputs = tuple(self._declared(first, name) for name in first.get_all_output_name())
        self._scalar_outputs = [o.name for o in self._outputs if o.name in self._scalars]
        self._has_open_ranks = loaded.as_in_file is not None  # those of its graph follow from the shapes of the inputs
        networks = [first]
        for _ in range(options.workers - 1):
            network = LiteNetwork()
            network.threads_number, network.precision = each, options.precision
            network.share_weights_with(first)
            networks.append(network)
        self._workers = [_Worker(n, self._inputs) for n in networks]
        self._loans = Loans(self._workers, _INSIDE)
        self._pool: ThreadPoolExecutor | None = None
        self._last: tuple[float, list[tuple[tuple[int, ...], np.dtype[Any]]]] | None = None  # seconds, forms of outputs
        self._thread = local()  # what a thread knows of itself: whether it is one of the pool
        self._closed = False
        _LIVE.add(self)

    def _declared(self, network: LiteNetwork, name: str) -> TensorDescription:
        """An output as it is for inputs of the declared shapes."""
        engine = network._loaded("Model")
        known, dtype = engine.session.output_spec(name), engine.session.output_dtype(name)
        inferred = None if known is None else known[0]
        shape: tuple[int | str, ...] | None = inferred
        if name in self._scalars:
            shape = ()
        elif name in engine.model.open_shapes:
            shape = agreed_shape(engine.model.open_shapes[name], inferred)
        return TensorDescription(name, shape, None if dtype is None else dtype.storage)

    # ---- what it is -------------------------------------------------------------------------------------------------

    @property
    def inputs(self) -> tuple[TensorDescription, ...]:
        """Name, shape and element type of each input, in the order in which a call takes them."""
        return tuple(i.info for i in self._inputs)

    @property
    def outputs(self) -> tuple[TensorDescription, ...]:
        """Name, shape and element type of each output; sizes are those of the last run.

        Before a run, they are those that follow from the declared inputs. If these leave sizes open, the shape is what
        the file says, and None if it says nothing or the shape depends on data.
        """
        last = self._last
        if last is None:
            return self._outputs
        return tuple(TensorDescription(o.name, *form) for o, form in zip(self._outputs, last[1], strict=True))

    @property
    def metadata(self) -> dict[str, str]:
        """Texts by name that an ONNX model carries (its ``metadata_props``), such as labels; else none."""
        return dict(self._metadata)

    # ---- running ----------------------------------------------------------------------------------------------------

    def __call__(self, /, *arrays: Any, **named: Any) -> Outputs:
        """Runs the model.

        Parameters
        ----------
        arrays
            The inputs in order, or one mapping from names to them. An input is an array of any strides, a number, a
            (nested) list, an object with ``__dlpack__``, or a Pillow image if the model's input has the form of one.
            Its elements are converted if that loses no kind: integers to floats, float64 to float32, which rounds.
        named
            Inputs by name.

        Raises
        ------
        LiteValueError
            Inputs are missing, or given twice, or there are no such. Or a number is too large for the input's type.
        LiteTypeError, ShapeError
            An input does not fit.
        """
        return self._loans.lend(self._run, to_feeds(self._inputs, arrays, named))

    def _run(self, worker: _Worker | None, feeds: Mapping[str, np.ndarray]) -> Outputs:
        if worker is None:
            raise LiteError("the model is closed: load it again")
        begin = perf_counter()
        arrays = worker.answer(feeds if len(feeds) == worker.count else {**worker.defaults, **feeds})
        for name in worker.scalar_outputs() if self._has_open_ranks else self._scalar_outputs:
            if arrays[name].shape == (1,):  # else the file says so of what is none
                arrays[name] = arrays[name].reshape(())
        self._last = perf_counter() - begin, [(a.shape, a.dtype) for a in arrays.values()]
        return Outputs(arrays)

    def run_async(self, /, *arrays: Any, **named: Any) -> RunFuture:
        """Runs the model on another thread.

        Inputs are as in a call. They are read when the run begins, so they must not be changed before it is done.

        Returns
        -------
        RunFuture
            ``result()`` waits; in a coroutine, ``await`` it. ``cancel()`` works until the run begins.
        """
        feeds = to_feeds(self._inputs, arrays, named)
        self._loans.require_outside()
        future = RunFuture()
        work = self._executor().submit(self._finish, future, feeds)
        work.add_done_callback(lambda work: work.cancelled() and future.cancel())  # as ``close`` does
        return future

    def _finish(self, future: RunFuture, feeds: Mapping[str, np.ndarray]) -> None:
        self._thread.runs_futures = True
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(self._loans.lend(self._run, feeds))
        except BaseException as error:
            future.set_exception(error)

    def map(
        self, inputs: Iterable[Any], *, batch_size: int = 1, prefetch: int | None = None, progress: bool = False
    ) -> Iterator[Outputs]:
        """Runs the model on each of many inputs; results come in their order.

        Parameters
        ----------
        inputs
            What a call takes as its only argument: an array if the model has one input, or a mapping. A tuple has the
            inputs in order. Values are copied before the next item is asked for, so that all items may come in the
            same memory, as frames of a video do.
        batch_size
            So many inputs are put together along their first dimension for one run, and the outputs are taken apart
            again. Inputs of other sizes begin a new batch. Every output must have a row for each row of the inputs.
        prefetch
            How many runs may be ahead of the one whose result is waited for: by default twice the workers.
        progress
            Show how many results have come, in a bar of the package tqdm.

        Raises
        ------
        ShapeError
            An output cannot be taken apart.
        LiteError
            As a call. The results of the items before come first, also if ``inputs`` itself raises an exception; and
            those before it in its batch. Or there is no tqdm for the bar.
        """
        size = to_integer(batch_size, "batch_size")
        ahead = 2 * self._options.workers if prefetch is None else to_integer(prefetch, "prefetch")
        if size < 1 or ahead < 1:
            raise LiteValueError(f"batch_size and prefetch are 1 or more, not {size} and {ahead}")
        try:
            items = iter(inputs)
        except TypeError:
            raise LiteTypeError(f"map takes an iterable of inputs, not {brief(inputs)}") from None
        results = self._mapped(items, size, ahead)
        if not to_switch(progress, "progress"):
            return results
        from megengine_lite._api.progress_bars import require_tqdm, with_bar

        require_tqdm()  # now, not with the first result
        return with_bar(results, length_hint(inputs) or None, "running")

    def _mapped(self, inputs: Iterator[Any], size: int, ahead: int) -> Generator[Outputs, None, None]:
        waiting: deque[tuple[RunFuture, Feeds, list[int] | None]] = deque()
        failure: Exception | None = None
        graph = self._engine("map").model.graph
        try:
            for batch in with_last_error(batches_of((self._feeds_of(x) for x in inputs), size, graph)):
                if isinstance(batch, LastError):
                    failure = batch.error
                    break
                feeds, counts = batch
                waiting.append((self.run_async(feeds), feeds if counts else {}, counts))
                if len(waiting) > ahead:
                    yield from self._results_of(*waiting.popleft())
            while waiting:
                yield from self._results_of(*waiting.popleft())
            if failure is not None:
                raise failure
        finally:
            for future, _, _ in waiting:
                future.cancel()

    def _results_of(self, future: RunFuture, feeds: Feeds, counts: list[int] | None) -> Iterator[Outputs]:
        """The results of a run. If a batch fails, its items run one by one, so that those before the bad one count."""
        try:
            outputs = future.result()
        except LiteError:
            if counts is None or len(counts) == 1:
                raise
            for item in one_by_one(feeds, counts):
                yield self.run_async(item).result()
            return
        yield from taken_apart(outputs, counts)

    def _feeds_of(self, item: Any) -> dict[str, np.ndarray]:
        """The arrays of an item, in memory of their own: the next item may come in the memory of this one."""
        return to_feeds(self._inputs, item if isinstance(item, tuple) else (item,), {}, ModelInput.own_array)

    def warmup(self, /, *arrays: Any, **named: Any) -> None:
        """Runs every worker once, so that weights are packed and memory is there before the first call.

        Inputs are as in a call. Without any, zeros of the declared shapes are taken; sizes that are not declared are 1.
        """
        given = arrays or named
        feeds = to_feeds(self._inputs, arrays, named) if given else {i.name: i.zeros() for i in self._inputs}
        self._loans.lend_each(self._run, feeds)

    def prepare(self, path: str | os.PathLike[str], *arrays: Any, **named: Any) -> None:
        """Writes a prepared file: the plan for inputs of one shape, with the weights as kernels read them.

        ``load(model, prepared=path)`` runs inputs of that shape without the work of planning and packing; other shapes
        run as usual. The file is for this model, this processor, this release and these settings; what it holds is
        mapped, so that processes share the memory of the weights.

        Parameters
        ----------
        path
            Where to; an existing file is replaced.
        arrays, named
            Inputs of that shape, as in a call. Without any, the declared shapes are taken; sizes that are not declared
            are 1.

        Raises
        ------
        LiteError
            The model cannot be prepared: it is encrypted, in a package or has weights in other files, shapes in it
            depend on data, or an operator has no kernel here.

        Notes
        -----
        The file is trusted as a program is: load only those that you have made.

        Examples
        --------
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> import megengine_lite
        >>> digits = Path(megengine_lite.__file__).parent / "bundled" / "digits.mge"
        >>> image = np.zeros([1, 1, 8, 8])
        >>> with TemporaryDirectory() as folder:
        ...     megengine_lite.load(digits, threads=1).prepare(Path(folder) / "digits.prepared", image)
        ...     model = megengine_lite.load(digits, threads=1, prepared=Path(folder) / "digits.prepared")
        ...     model(image)["prob"].shape
        (1, 10)
        """
        from megengine_lite._api.preparing import write_prepared_file

        engine, feeds = self._engine_and_feeds("prepare", arrays, named)
        network = self._workers[0].network
        assert network._source is not None
        self._loans.beside(
            write_prepared_file, engine, network._source, network._source_config, feeds, path_to_write(path)
        )

    def _engine_and_feeds(
        self, call: str, arrays: tuple[Any, ...], named: Mapping[str, Any]
    ) -> tuple[Engine, dict[str, np.ndarray]]:
        """What runs the model, and its inputs: those that are given, or random ones of the declared shapes."""
        engine = self._engine(call)
        if arrays or named:
            feeds = to_feeds(self._inputs, arrays, named)
            feeds.update({i.name: i.array(i.default) for i in self._inputs if i.name not in feeds})
        else:
            feeds = {i.name: i.random() if i.default is None else i.array(i.default) for i in self._inputs}
        return engine, feeds

    def _engine(self, call: str) -> Engine:
        self._require_open()
        return self._workers[0].network._loaded(call)

    def _require_open(self) -> None:
        if self._closed:
            raise LiteError("the model is closed: load it again")

    def _executor(self) -> ThreadPoolExecutor:
        self._require_open()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(len(self._workers), "megengine_lite.Model")
        return self._pool

    # ---- the object -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Waits for the runs that are under way, cancels those that have not begun, and frees the networks.

        Later calls raise :class:`LiteError`.
        """
        if self._closed:
            return
        self._loans.require_outside()
        self._closed = True
        if self._pool is not None:
            # A callback of a future runs on a thread of the pool, which cannot wait for itself.
            self._pool.shutdown(wait=not getattr(self._thread, "runs_futures", False), cancel_futures=True)
        self._loans.take_away()
        self._workers = []

    def _after_fork(self) -> None:
        self._loans.after_fork()
        self._pool = None  # its threads are not in this process

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., Model], tuple[Any, ...]]:
        source: Any = bytes(self._source) if isinstance(self._source, memoryview) else self._source
        return partial(load, source, **self._options._asdict()), ()

    def _facts(self) -> dict[str, str]:
        """What ``repr`` shows, by title."""
        if self._closed:
            return {"state": "closed"}
        facts = {
            "inputs": ", ".join(map(str, self.inputs)),
            "outputs": ", ".join(map(str, self.outputs)),
            "device": f"cpu, {self._options.workers} x {self._threads} threads",
            **({} if self._options.precision == "float32" else {"precision": self._options.precision}),
            **({"double": "float32"} if self._options.narrow_double else {}),
            "memory": describe_bytes(self._memory()),
        }
        if self._last is not None:
            facts["last run"] = f"{1e3 * self._last[0]:.3f} ms"
        return facts

    def _memory(self) -> int:
        """Bytes that the networks hold; they share their weights."""
        used = [w.network.memory_usage for w in self._workers]
        return used[0]["weights"] + sum(u["arena"] + u["scratch"] + u["outputs"] for u in used)

    def __repr__(self) -> str:
        return printable(f"<Model {'; '.join(f'{title} {fact}' for title, fact in self._facts().items())}>")

    def _repr_html_(self) -> str:
        from megengine_lite._api.notebooks import facts_table

        return facts_table(self._facts())


_LIVE: WeakSet[Model] = WeakSet()


def _after_fork() -> None:
    for model in list(_LIVE):
        model._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
wait_at_forks()
