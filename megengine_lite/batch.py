"""Models on many machines: :class:`Predictor`, a function of batches that other engines can send to their workers."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from megengine_lite._api.arguments import to_list
from megengine_lite._api.batches import check_rows, require_rows
from megengine_lite._api.columns import (
    Columns,
    check_no_nan,
    columns_of,
    joined,
    numbers_of,
    runs_of_one_shape,
    stacked,
)
from megengine_lite._api.load_options import LoadOptions
from megengine_lite._api.model_inputs import TensorDescription
from megengine_lite._api.progress_bars import counting
from megengine_lite._core.system.files import to_path
from megengine_lite._core.system.integers import to_integer, to_switch
from megengine_lite.errors import (
    DecryptionError,
    DeviceError,
    InternalError,
    LiteError,
    LiteMemoryError,
    LiteOSError,
    LiteTypeError,
    LiteValueError,
    ModelFormatError,
    ShapeError,
    UnsupportedOperatorError,
    brief,
)
from megengine_lite.model import Model, load

__all__ = ["Predictor"]


class Predictor:
    """A function from a batch of rows to a batch of rows, which runs a model on them.

    Engines such as Ray Data, Dask, Spark and :mod:`concurrent.futures` pickle it and call it in their processes. It is
    small: each process loads the model when it is first called, and keeps it for later calls and for equal predictors.
    Calls from several threads are safe.

    Parameters
    ----------
    model
        A path, which must be the same on all machines, or the model's bytes, which travel with the predictor.
    inputs
        For each input of the model, the column that holds it: its name, or the integer that a pandas frame without
        names of columns has for it. A list takes columns of numbers together: they become the last dimension. By
        default columns have the inputs' names; a batch with a single column needs none if the model has one input.
    outputs
        The outputs that become columns, all by default; a mapping also gives the columns' names.
    keep
        Columns of the batch that the result has, too: a key, for example.
    batch_size
        How many rows one run has at most; by default all that have one shape.
    threads
        Threads of one run. By default the number in the environment variable ``OMP_NUM_THREADS``, which Ray and Dask
        set to the processors of a worker, else 1: engines start a process for each processor. Of a list of numbers,
        which OpenMP allows, the first counts.
    workers
        How many runs may be under way at the same time in one process: set it to the number of threads that call.
    precision, narrow_double, decryption
        As in :func:`megengine_lite.load`.
    prepared
        The path, on all machines, of a file made by :meth:`Model.prepare <megengine_lite.model.Model.prepare>`. The
        processes of a machine share the memory of its weights, and start sooner. Machines of another kind load the
        model as usual.
    share_weights
        As in :func:`megengine_lite.load`: the processes of a user on a machine have the weights in memory once.
    progress
        Show how many rows of a batch are done, in a bar of the package tqdm, which the process that is called needs.

    Raises
    ------
    LiteTypeError, LiteValueError
        An argument that cannot be.

    Examples
    --------
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import megengine_lite
    >>> from megengine_lite.batch import Predictor
    >>> digits = Path(megengine_lite.__file__).parent / "bundled" / "digits.mge"
    >>> predict = Predictor(digits, inputs={"data": "image"}, outputs={"prob": "probabilities"}, keep=["id"])
    >>> result = predict({"id": np.arange(3), "image": np.zeros([3, 1, 8, 8])})
    >>> result["id"], result["probabilities"].shape
    (array([0, 1, 2]), (3, 10))
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        *,
        inputs: Mapping[str, str | int | Sequence[str | int]] | None = None,
        outputs: Mapping[str, str] | Iterable[str] | None = None,
        keep: Iterable[str | int] = (),
        batch_size: int | None = None,
        threads: int | None = None,
        workers: int = 1,
        precision: str = "float32",
        narrow_double: bool = False,
        decryption: str = "",
        prepared: str | os.PathLike[str] | None = None,
        share_weights: bool = True,
        progress: bool = False,
    ):
        if isinstance(model, bytes):
            self._source: _File | _Bytes = _Bytes(model, hashlib.sha256(model).digest())
        elif isinstance(model, str | os.PathLike):
            self._source = _File(os.path.abspath(to_path(model)))
        else:
            raise LiteTypeError(f"a model is a path or bytes, because it is pickled, not {type(model).__name__}")
        self._inputs = None if inputs is None else _columns_by_input(inputs)
        if outputs is not None and not isinstance(outputs, Mapping):
            outputs = {name: name for name in _names(outputs, "outputs")}
        self._outputs = None if outputs is None else dict(outputs)
        _names([*(self._outputs or {}), *(self._outputs or {}).values()], "outputs")
        columns = list((self._outputs or {}).values())
        if twice := next((name for name in columns if columns.count(name) > 1), None):
            raise LiteValueError(f"two outputs cannot become one column {twice!r}: give each a name of its own")
        self._keep = _columns(keep, "keep")
        self._progress = to_switch(progress, "progress")
        self._batch_size = None if batch_size is None else to_integer(batch_size, "batch_size")
        if self._batch_size is not None and self._batch_size < 1:
            raise LiteValueError(f"batch_size is 1 or more, not {self._batch_size}")
        self._options = LoadOptions.checked(
            threads, workers, precision, narrow_double, decryption, prepared, share_weights
        )

    def __call__(self, batch: Any) -> Any:
        """Runs the model on the rows of a batch.

        Parameters
        ----------
        batch
            A dict of arrays, whose first dimension is that of the rows; a pandas frame or an Arrow table or record
            batch, whose cells hold numbers, arrays, lists or tensors; an array, if the model has one input. Rows of
            several shapes run one shape after the other. A batch without rows gives a result without rows.

        Returns
        -------
        The same kind of batch, with the columns that are kept and a column for each output.

        Raises
        ------
        LiteError
            The model cannot be loaded, a column is missing, or a row cannot run: the message has its number.
        """
        model = self._model()
        columns = columns_of(batch)
        wanted = self._chosen_outputs(model)
        if both := set(wanted.values()).intersection(self._keep):
            raise LiteValueError(f"column {min(both)!r} is kept and also made from an output; rename one of them")
        for name in self._keep:
            columns.require_rows(name)
        feeds = {name: self._feed(columns, name) for name in self._fed(model, columns)}
        for given in model.inputs:
            if given.name in feeds and given.dtype is not None and given.dtype.kind in "iu":
                check_no_nan(feeds[given.name], given.name)
        pieces: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
        most = self._batch_size or max(columns.rows, 1)
        with counting(self._progress, columns.rows, "rows") as advance:
            for begin, end in runs_of_one_shape(list(feeds.values()), columns.rows, most):
                for name, array in _run(model, feeds, begin, end).items():
                    if name in pieces:
                        pieces[name].append(array)
                advance(end - begin)
        if not columns.rows:
            pieces = {name: [array] for name, array in _of_no_rows(model, feeds).items()}
        return columns.build(self._keep, {column: joined(pieces[name]) for name, column in wanted.items()})

    def warmup(self) -> None:
        """Loads the model in this process and runs it once on zeros, so that the first batch does not wait.

        For example as the ``initializer`` of a :class:`concurrent.futures.ProcessPoolExecutor`.
        """
        self._model().warmup()

    def _model(self) -> Model:
        return _MODELS.get(self._source, self._options)

    def _chosen_outputs(self, model: Model) -> dict[str, str]:
        """The column for each output that is wanted."""
        names = [o.name for o in model.outputs]
        if self._outputs is None:
            return {name: name for name in names}
        for name in self._outputs:
            if name not in names:
                raise LiteValueError(f"the model has no output {name!r}; it has {names}")
        return self._outputs

    def _fed(self, model: Model, columns: Columns) -> list[str]:
        """The inputs that columns give; others have a value in the model, or the run says that they are missing."""
        names = [i.name for i in model.inputs]
        if self._inputs is not None:
            for name in self._inputs:
                if name not in names:
                    raise LiteValueError(f"the model has no input {name!r}; it has {names}")
            fed = list(self._inputs)
        elif len(names) == 1:
            fed = names
        else:
            fed = [name for name in names if name in columns.names]
        if missing := [i.name for i in model._inputs if i.default is None and i.name not in fed]:
            there = brief(list(columns.names), 400)
            raise LiteValueError(f"nothing gives input {missing[0]!r} of the model: the batch has the columns {there}")
        return fed

    def _feed(self, columns: Columns, name: str) -> np.ndarray:
        """The rows of an input."""
        if self._inputs is None:
            alone = len(columns.names) == 1 and name not in columns.names
            return columns.column(columns.names[0] if alone else name)
        chosen = self._inputs[name]
        if not isinstance(chosen, tuple):
            return columns.column(chosen)
        return np.stack([numbers_of(columns.column(c), c, name) for c in chosen], axis=-1)

    def __repr__(self) -> str:
        return f"<Predictor of {self._source}>"


def _names(names: Any, what: str) -> tuple[str, ...]:
    """A list of names that an argument gives."""
    if isinstance(names, str):
        raise LiteTypeError(f"{what} is a list of names, not a text")
    found: tuple[Any, ...] = tuple(to_list(names, what))
    for name in found:
        if not isinstance(name, str):
            raise LiteTypeError(f"{what} has names, which are texts, not {brief(name)}")
    return found


def _columns(columns: Any, what: str) -> tuple[str | int, ...]:
    """A list of columns of a batch that an argument gives."""
    if isinstance(columns, str):
        raise LiteTypeError(f"{what} is a list of names, not a text")
    found: tuple[Any, ...] = tuple(to_list(columns, what))
    for column in found:
        if not _is_column(column):
            raise LiteTypeError(f"{what} has columns, which are texts or integers, not {brief(column)}")
    return found


def _is_column(column: Any) -> bool:
    """Whether this can be the name of one column; a frame without names numbers its columns."""
    return isinstance(column, str | int | np.integer) and not isinstance(column, bool)


def _columns_by_input(inputs: Any) -> dict[str, str | int | tuple[str | int, ...]]:
    if not isinstance(inputs, Mapping):
        raise LiteTypeError(f"inputs is a mapping from inputs to columns, not {brief(inputs)}")
    found: dict[str, str | int | tuple[str | int, ...]] = {}
    for name, columns in inputs.items():
        _names([name], "inputs")
        found[name] = columns if _is_column(columns) else _columns(columns, f"inputs[{name!r}]")
        if found[name] == ():
            raise LiteValueError(f"inputs gives {name!r} an empty list of columns")
    return found


_NOT_OF_ROWS = (
    InternalError,
    LiteMemoryError,
    DeviceError,
    LiteOSError,
    ModelFormatError,
    DecryptionError,
    UnsupportedOperatorError,
)
"""Errors that rows are not to blame for, so that no other run helps. Any other may come from a row, such as those of
operators that users write."""


def _run(model: Model, feeds: dict[str, np.ndarray], begin: int, end: int) -> dict[str, np.ndarray]:
    """The outputs of some rows."""
    try:
        return _run_together(model, feeds, begin, end)
    except _NOT_OF_ROWS:
        raise
    except LiteError as error:
        if end - begin == 1:
            raise _of_row(error, begin) from error
        for row in range(begin, end):
            try:
                _run_together(model, feeds, row, row + 1)
            except _NOT_OF_ROWS:
                raise
            except LiteError as its:
                raise _of_row(its, row) from its
        raise ShapeError(
            f"rows {begin} to {end - 1} do not run together, but each does alone: use batch_size=1 ({error})"
        ) from error


def _run_together(model: Model, feeds: dict[str, np.ndarray], begin: int, end: int) -> dict[str, np.ndarray]:
    given = {name: stacked(column, begin, end) for name, column in feeds.items()}
    if end - begin > 1:
        require_rows(model._engine("Predictor").model.graph, {name: array.shape for name, array in given.items()})
    outputs = model(given)
    check_rows(outputs, end - begin, "choose other outputs")  # with batch_size=1 it is this row that fails
    return dict(outputs.items())


def _of_row(error: LiteError, row: int) -> LiteError:
    """The error with the number of the row."""
    return type(error)(f"row {row} of the batch: {error}")


def _of_no_rows(model: Model, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs for a batch without rows: of the shapes and types that rows of these columns would give."""
    zeros = {i.name: _row_of_zeros(i, feeds[i.name]) for i in model.inputs if i.name in feeds}
    given = {name: row for name, row in zeros.items() if row is not None}
    if len(given) == len(zeros):
        try:
            return {name: array[:0] for name, array in _run_together(model, given, 0, 1).items()}
        except _NOT_OF_ROWS:
            raise
        except LiteError:
            pass  # zeros may be what no row is
    return {o.name: np.zeros([0, *_sizes(o, 0)], o.dtype or np.float32) for o in model._outputs}


def _row_of_zeros(given: TensorDescription, column: np.ndarray) -> np.ndarray | None:
    """A row of an input as a column without rows has it; None if that leaves sizes open."""
    sizes = _sizes(given, None)
    if column.ndim == len(sizes) + 1 and all(column.shape[1:]):
        sizes = column.shape[1:]
    return None if None in sizes else np.zeros((1, *sizes), given.dtype)


def _sizes(tensor: TensorDescription, of_open: int | None) -> tuple[Any, ...]:
    """The dimensions behind that of the rows."""
    return tuple(s if isinstance(s, int) else of_open for s in (tensor.shape or ())[1:])


# ---- the models of a process -----------------------------------------------------------------------------------------


class _File(NamedTuple):
    path: str

    @property
    def content(self) -> str:
        return self.path

    def identity(self) -> object:
        """Equal as long as the file is the same."""
        try:
            found = os.stat(self.path)
        except OSError:  # loading says what is wrong
            return self.path
        return self.path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def __str__(self) -> str:
        return repr(self.path)


class _Bytes(NamedTuple):
    content: bytes
    digest: bytes

    def identity(self) -> object:
        return self.digest

    def __str__(self) -> str:
        return f"{len(self.content)} bytes"


def _loaded(source: _File | _Bytes, options: LoadOptions) -> Model:
    threads = _threads_of_worker() if options.threads is None else options.threads
    return load(source.content, **options._replace(threads=threads)._asdict())


def _threads_of_worker() -> int:
    """What ``OMP_NUM_THREADS`` says, else 1; of a list the first number, which is that of the outermost loops."""
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return max(1, int(said)) if said.isdecimal() and len(said) < 10 else 1


class _Models:
    """The models that were used last, by where they come from and how they were loaded."""

    MOST = 8

    def __init__(self) -> None:
        self._lock = Lock()
        self._models: OrderedDict[object, Model] = OrderedDict()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self._lock = Lock()  # a thread that the child does not have may have held it

    def get(self, source: _File | _Bytes, options: LoadOptions) -> Model:
        """The model, loaded unless it is here. A file that has changed is loaded again."""
        key = source.identity(), options
        with self._lock:
            model = self._models.get(key)
            if model is None:
                model = self._models[key] = _loaded(source, options)
                if len(self._models) > self.MOST:
                    self._models.popitem(last=False)
            else:
                self._models.move_to_end(key)
            return model


_MODELS = _Models()
