"""Writing models as ONNX files, and comparing what these compute with what is computed here."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from megengine_lite._api.comparison import (
    compare_result,
    described,
    divides_by_zero,
    makes_nan,
    problem_of,
    run_here,
    tolerance,
)
from megengine_lite._api.integer_inputs import integer_ranges
from megengine_lite._api.loading import read_model, to_source
from megengine_lite._api.options import LiteConfig
from megengine_lite._api.random_values import random_values, with_integers, without_zeros
from megengine_lite._api.typed_errors import typed_errors
from megengine_lite._core.formats.onnx.export import DEFAULT_OPSET
from megengine_lite._core.operators.base import operator_of
from megengine_lite._core.system.integers import to_integer, to_switch
from megengine_lite._core.system.late_import import late_import
from megengine_lite._core.system.own_faults import own_fault
from megengine_lite._records import field, record, replace
from megengine_lite.base import version
from megengine_lite.errors import NOT_ABOUT_THE_MODEL, LiteError, LiteValueError, brief

if TYPE_CHECKING:
    from megengine_lite._core.formats.loaded_model import LoadedModel
    from megengine_lite._core.formats.onnx.export.exporter import ExportOptions
    from megengine_lite._core.formats.onnx.messages import ModelProto, OperatorSetIdProto
    from megengine_lite._core.ir.graph import ModelGraph
    from megengine_lite._core.ir.known_shapes import KnownShapes, Shape

_LIMIT = 2**31 - 1
"""Bytes that an ONNX file can have."""


@record(frozen=True, slots=True)
class ExportResult:
    """What came of an export.

    Attributes
    ----------
    chunks
        The file, in pieces.
    data
        A file that must be beside it, in pieces; None if it needs none.
    dimensions
        Names of the dimensions that may change, by input and axis.
    checked
        The checker of the package onnx has accepted the file.
    compared
        Shapes of the inputs for which ONNX Runtime gave the outputs that are computed here; empty if it is not
        installed.
    notes
        What could not be verified, and why.
    """

    chunks: list[Any]
    dimensions: dict[tuple[str, int], str]
    checked: bool = False
    compared: list[dict[str, Shape]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    data: list[Any] | None = None

    def files(self, path: str) -> dict[str, list[Any]]:
        """What is to be written if the model's file is ``path``, in this order."""
        return {path: self.chunks} if self.data is None else {_data_file(path): self.data, path: self.chunks}


def _data_file(path: str) -> str:
    """Where the values of a model lie that one file cannot hold."""
    return f"{path}.data"


def exported(
    model: Any,
    config: LiteConfig | None = None,
    *,
    opset: int = DEFAULT_OPSET,
    static: bool = False,
    custom_domain: bool = False,
    verify: bool = True,
    target: str | None = None,
) -> ExportResult:
    """A model as an ONNX file, to be written to ``target``; see :func:`megengine_lite.export_onnx`."""
    with late_import():
        from megengine_lite._core.formats.onnx.export.exporter import ExportOptions
        from megengine_lite._core.formats.onnx.writer import move_values_out, write_model
    with typed_errors("the model cannot be exported"):
        source = to_source(model)
        what = source if isinstance(source, str) else "model"
        loaded = read_model(source, config or LiteConfig())
        if getattr(loaded, "container", "") == "onnx":
            raise LiteValueError(
                f"{what} is an ONNX model already; to change its container use unpack, decrypt or pack, and to make a "
                "file of MegEngine's of it, write to a name that does not end in .onnx"
            )
        options = ExportOptions(
            to_integer(opset, "opset"), to_switch(custom_domain, "custom_domain"), ("megengine_lite", version)
        )
        static, verify = to_switch(static, "static"), to_switch(verify, "verify")
        record, known = record_of(loaded.graph, static, options, what)
        chunks, data = write_model(record), None
        if target is not None and sum(map(len, chunks)) > _LIMIT:
            data = move_values_out(record, os.path.basename(_data_file(target)))
            chunks = write_model(record)
        size = sum(map(len, chunks))
        if size > _LIMIT:
            raise LiteError(f"{what}: the ONNX file would have {size} bytes, and may have {_LIMIT}")
        assert record.graph is not None
        pairs = zip(loaded.graph.output_names, record.graph.output, strict=True)
        renamed = [f"{brief(name)} is {brief(info.name)}" for name, info in pairs if name != info.name]
        notes = [f"outputs have other names in the file, since something else has theirs: {', '.join(renamed)}"]
        result = ExportResult(chunks, dict(known.free), notes=notes if renamed else [], data=data)
        if not verify:
            return result
        with _readable(result, target) as file:
            return _verified(result, file, loaded, known, record.opset_import)


@contextlib.contextmanager
def _readable(result: ExportResult, target: str | None) -> Iterator[bytes | str]:
    """The bytes of an export, or the path of a copy if it needs another file, which is there for a moment."""
    from megengine_lite._core.system.files import write_made

    if result.data is None or target is None:
        yield b"".join(bytes(c) for c in result.chunks)
        return
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(target)), prefix=".export-") as folder:
        copy = os.path.join(folder, os.path.basename(target))
        for path, chunks in result.files(copy).items():
            write_made(path, chunks, None)
        yield copy


def record_of(
    graph: ModelGraph, static: bool, options: ExportOptions, what: str = "model"
) -> tuple[ModelProto, KnownShapes]:
    """The records of an ONNX model, and what is known of the shapes of the graph.

    Dimensions that some node needs to be fixed are fixed, all others may change.
    """
    from megengine_lite._core.compile.vary_sizes import known_shapes
    from megengine_lite._core.formats.onnx.export.exporter import FixedSizesNeeded, export_graph

    fixed: set[str] = set()
    while True:
        known = known_shapes(graph, static, fixed)
        try:
            return export_graph(graph, known, options, what), known
        except FixedSizesNeeded as needed:
            fixed |= needed.names


def export_onnx(
    model: Any,
    path: str | os.PathLike[str],
    *,
    opset: int = DEFAULT_OPSET,
    static: bool = False,
    custom_domain: bool = False,
    verify: bool = True,
    config: LiteConfig | None = None,
) -> ExportResult:
    """Writes a model as an ONNX file, which other programs can run.

    What one file cannot hold, since those of ONNX end at 2 GiB, has its weights in ``path`` with ``.data`` behind it.
    The file has operators of the standard only. Unless ``static`` is set, dimensions of the inputs may change in it
    wherever they may change here: the batch, and the sizes of images if the network allows it.

    Parameters
    ----------
    model : path, binary file or bytes
        A model of any container, as ``LiteNetwork.load`` takes it.
    path : path
        The file to write. It is written as a whole or not at all; an existing one is replaced.
    opset : int
        Version of the standard's operators, 13 to 23.
    static : bool
        Write the shapes that the model's file gives to its inputs, and no others.
    custom_domain : bool
        Write nodes that the standard cannot say as operators of the domain ``megengine``, which no other program knows.
    verify : bool
        Check the file by ``onnx.checker``, and compare the outputs that ONNX Runtime computes from random inputs with
        those that are computed here, as far as these packages are installed.
    config : LiteConfig, optional
        How the model is encrypted.

    Returns
    -------
    ExportResult
        ``dimensions`` names those that may change, ``checked`` and ``compared`` say what was verified, ``notes`` what
        was not.

    Raises
    ------
    UnsupportedOperatorError
        Nodes that cannot be written; all of them are listed, with reasons.
    LiteError
        The model cannot be read or the file not written, or its outputs differ from ours.

    Examples
    --------
    >>> import megengine_lite
    >>> megengine_lite.export_onnx("model.mge", "model.onnx")  # doctest: +SKIP
    """
    from megengine_lite._core.system.files import check_other_file, path_to_write, write_made

    source, target = to_source(model), path_to_write(path)
    file = source if isinstance(source, str) else None
    if file is not None:
        check_other_file(target, file)  # before the work
    result = exported(
        source, config, opset=opset, static=static, custom_domain=custom_domain, verify=verify, target=target
    )
    for name, chunks in result.files(target).items():
        write_made(name, chunks, file)
    return result


def _verified(
    result: ExportResult,
    file: bytes | str,
    model: LoadedModel,
    known: KnownShapes,
    opsets: Sequence[OperatorSetIdProto],
) -> ExportResult:
    domains = [s.domain for s in opsets if s.domain]  # of operators that are not the standard's
    notes = [*result.notes]
    checked = _check(file, notes)
    compared: list[dict[str, Shape]] = []
    if not all(operator_of(node.op).folds for node in model.graph.nodes):
        notes.append("not compared: the model draws random numbers, or runs code of yours")
    elif domains:
        notes.append(f"not compared with ONNX Runtime: it has no operators of the domain {', '.join(domains)}")
    else:
        runner = _runtime(file, notes)
        if runner is not None:
            compared = _compare(runner, model, known, notes)
    return replace(result, checked=checked, compared=compared, notes=notes)


def _check(file: bytes | str, notes: list[str]) -> bool:
    try:
        import onnx
    except ImportError:
        notes.append("not checked: the package onnx is not installed")
        return False
    try:
        onnx.checker.check_model(file if isinstance(file, str) else onnx.load_from_string(file), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise own_fault(f"the exported model is not valid: {error}") from error
    return True


Runner = Callable[[Mapping[str, np.ndarray]], Sequence[np.ndarray]]


def _runtime(file: bytes | str, notes: list[str]) -> Runner | None:
    """A function that runs the file in ONNX Runtime; None if that is not installed."""
    try:
        import onnxruntime
    except ImportError:
        notes.append("not compared: the package onnxruntime is not installed")
        return None
    options = onnxruntime.SessionOptions()
    # What the file says is compared, not what optimizers make of it.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise LiteError(f"ONNX Runtime cannot load the exported model: {error}") from error
    names = [given.name for given in session.get_inputs()]

    def run(inputs: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        found: Sequence[np.ndarray] = session.run(None, {n: inputs[n] for n in names})
        return found

    return run


def _compare(run: Runner, model: LoadedModel, known: KnownShapes, notes: list[str]) -> list[dict[str, Shape]]:
    """Runs both on random inputs, for the sizes of the file and for others; gives the sizes."""
    from megengine_lite._core.runtime.session import Session

    session = Session(model)
    done = []
    limit = tolerance({v.dtype for v in known.variables.values()})
    for sizes in known.sizes[:2]:
        inputs = _random_inputs(model, sizes, integer_ranges(model.graph))
        problem = problem_of(session, inputs)
        if problem is not None:
            inputs = _random_inputs(model, sizes, {})
            problem = problem_of(session, inputs)
        if problem is not None:  # indexes were out of range, perhaps
            inputs = with_integers(inputs, np.zeros_like)
            if problem_of(session, inputs) is not None:
                notes.append(f"not compared for inputs {described(sizes)}, which the model does not take: {problem}")
                continue
        try:
            outputs = run(inputs)
        except Exception as error:
            if not divides_by_zero(model, inputs):  # ONNX Runtime does not, and here the result is 0
                raise own_fault(f"ONNX Runtime cannot run the exported model: {error}") from error
            inputs = with_integers(inputs, without_zeros)
            try:
                run_here(session, inputs)
                outputs = run(inputs)
            except NOT_ABOUT_THE_MODEL:
                raise
            except Exception:
                raise own_fault(f"ONNX Runtime cannot run the exported model: {error}") from error
        for name, got in zip(model.graph.output_names, outputs, strict=True):
            where = f"the output {name!r} of the exported model, for inputs {described(sizes)},"
            left_out = _numbers_of_nan(model, inputs, got)
            notes += compare_result(where, got, session, name, inputs, limit, left_out)
        done.append(dict(sizes))
    return done


def _random_inputs(
    model: LoadedModel, sizes: Mapping[str, Shape], ranges: Mapping[str, tuple[int, int]]
) -> dict[str, np.ndarray]:
    return {
        v.name: _ordered_boxes(random_values(sizes[v.name], v.dtype.storage, k, ranges.get(v.name)))
        for k, v in enumerate(model.graph.inputs)
    }


def _ordered_boxes(values: np.ndarray) -> np.ndarray:
    """Values that may be boxes in an order in which each ends behind its begin: ONNX takes others in another way."""
    return np.ascontiguousarray(np.sort(values, axis=-1)) if values.ndim in (2, 3) else values


def _numbers_of_nan(model: LoadedModel, inputs: Mapping[str, np.ndarray], got: np.ndarray) -> np.ndarray | None:
    """Where there may be a number here for NaN of the file: nowhere if no operator here has NaN among its results."""
    nan: np.ndarray | None = np.isnan(got) if got.dtype.kind == "f" else None
    return nan if nan is not None and nan.any() and makes_nan(model, inputs) else None
