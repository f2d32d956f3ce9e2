"""Dumps of every operator's results, in the original's forms: one text file, or one binary file per variable.

Tools of MegEngine compare such dumps of two runs.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence

import numpy as np

from megengine_lite._core.ir.dtype import DType, DTypeCode
from megengine_lite._core.ir.image_layouts import dense_strides
from megengine_lite._core.operators.facts import Use
from megengine_lite._core.reports.original_names import DEVICE
from megengine_lite._core.reports.trace import Dependency, Known, TracedOperator, TracedValue
from megengine_lite._core.system.files import open_for_writing
from megengine_lite._core.system.memory import MAX_NDIM
from megengine_lite.errors import os_error
from megengine_lite.log import warn

# Numbers of the types in binary dumps, which are not those of model files.
_BINARY_CODES = {
    DTypeCode.FLOAT32: 0,
    DTypeCode.UINT8: 1,
    DTypeCode.INT8: 2,
    DTypeCode.INT16: 3,
    DTypeCode.INT32: 4,
    DTypeCode.BYTE: 8,
    DTypeCode.FLOAT16: 9,
    DTypeCode.BFLOAT16: 11,
    DTypeCode.BOOL: 12,
    DTypeCode.UINT16: 13,
    DTypeCode.QUANTIZED8_ASYMM: 100000,
    DTypeCode.QUANTIZED_S32: 100001,
    DTypeCode.QUANTIZED_S8: 100002,
}
_SHOWN = 5
_LAZY = "<see lazy value below>"


def layout_text(shape: Sequence[int], dtype: DType) -> str:
    """Shape, strides in elements, and type of a dense tensor: ``{2(3),3(1) Float32}``."""
    dims = ",".join(f"{d}({s})" for d, s in zip(shape, dense_strides(shape), strict=True))
    return f"{{{dims} {dtype.original_name}}}"


def _values_text(array: np.ndarray) -> str:
    shown = [f"{float(x):.4g}" for x in array.flat[:_SHOWN]]
    if array.size > _SHOWN:
        shown.append("...")
    return "[" + ", ".join(shown) + "]"


def _statistics_text(array: np.ndarray) -> str:
    if array.size == 0:
        return "min=N/A max=N/A mean=N/A l2=N/A sd=N/A"
    x = array.astype(np.float64).ravel()
    with np.errstate(all="ignore"):
        l2 = float(np.sqrt(np.mean(x * x)))
        sd = f"{float(np.std(x, ddof=1)):.3g}" if x.size > 1 else "N/A"
        mean = float(np.mean(x))
    return f"min={x.min():.3g} max={x.max():.3g} mean={mean:.3g} l2={l2:.3g} sd={sd}"


def _storage_letter(value: TracedValue) -> str:
    return "s" if value.static else "d"


def _owner_text(record: TracedOperator) -> str:
    owner = record.outputs[0].owner
    return f"{owner.name}{{{owner.type}}}"


def _dependency_text(dep: Dependency, lazy: bool) -> str:
    """Which part of a variable an operator reads, and the values there."""
    value = dep.value
    if dep.use == Use.SHAPE:
        letter = "s" if value.static else "d"
        content = f" <shape dep[{letter}]> {{{','.join(map(str, value.array.shape))}}}"
    elif dep.use == Use.NUMBERS:
        letter = "s" if value.value_known in (Known.CONSTANT, Known.FROM_INPUTS) else "d"
        content = f" <host value[{letter}]> {_values_text(value.array)}"
    else:
        content = _LAZY if lazy else _values_text(value.array)
    return f"  [i{dep.position}]var{value.number}: {content} {_storage_letter(value)}\n"


class TextDump:
    """Appends to a text file. An empty file is created at once.

    A *lazy* dump has the form that the original writes when it records a run and then replays it
    (``comp_node_seq_record_level``): the operators once for each new set of shapes, and the values of the last run at
    the end of the dump.
    """

    def __init__(self, path: str):
        self._path = path
        self._recording = ""  # operators of the recording under way
        self._recorded = ""  # their last values
        try:
            open_for_writing(path).close()
        except OSError as error:
            raise os_error(error, f"the dump cannot be written to {path}: {error.strerror}", path) from error

    def write(self, records: Iterable[TracedOperator], lazy: bool = False) -> None:
        """Adds a run."""
        if not lazy:
            self.finish()
            self._append(self._text(r, v, lazy) for r in records for v in r.outputs)
            return
        ran = list(records)
        recording = "".join(self._text(r, v, lazy) for r in ran for v in r.outputs)
        if recording != self._recording:
            self.finish()
            self._append(("==== begin lazy value recording\n", recording))
            self._recording, self._process = recording, os.getpid()
        self._recorded = "".join(self._values(k, r) for k, r in enumerate(r for r in ran if r.outputs))

    def finish(self) -> None:
        """Ends the present recording: writes the values of its last run."""
        if self._recording and os.getpid() == self._process:  # a child leaves that to its parent
            self._append(("==== recorded values\n", self._recorded))
        self._recording = self._recorded = ""

    def _append(self, texts: Iterable[str]) -> None:
        try:
            with open_for_writing(self._path, append=True) as file:
                file.writelines(text.encode() for text in texts)
        except OSError as error:
            raise os_error(
                error, f"the dump cannot be written to {self._path}: {error.strerror}", self._path
            ) from error

    @staticmethod
    def _text(record: TracedOperator, value: TracedValue, lazy: bool) -> str:
        deps = "".join(_dependency_text(dep, lazy) for dep in record.dependencies)
        content = _LAZY if lazy else _values_text(value.array) + _statistics_text(value.array)
        return (
            f"var{value.number} produced: name={value.name} layout={layout_text(value.array.shape, value.dtype)} "
            f"owner_opr={_owner_text(record)} opr{value.owner.number}\n deps:\n{deps}"
            f" val: {content} {_storage_letter(value)}\n"
        )

    @staticmethod
    def _values(place: int, record: TracedOperator) -> str:
        lines = [f"#{place}: opr{record.outputs[0].owner.number} {_owner_text(record)}\n"]
        lines += [
            f"  var{v.number}: name={v.name} {_values_text(v.array)}{_statistics_text(v.array)}\n"
            for v in record.outputs
        ]
        return "".join(lines)


class BinaryDump:
    """Writes one file per variable into a directory, over the files of the previous run."""

    def __init__(self, directory: str):
        self._directory = directory
        self._left_out: set[str] = set()
        try:
            os.makedirs(directory, exist_ok=True)
        except OSError as error:
            raise os_error(
                error, f"the dump directory {directory} cannot be made: {error.strerror}", directory
            ) from error

    def write(self, records: Iterable[TracedOperator], lazy: bool = False) -> None:
        """Writes a run; ``lazy`` has no effect."""
        for record in records:
            for value in record.outputs:
                self._write(os.path.join(self._directory, f"{value.number:06x}"), record, value)

    def finish(self) -> None:
        """Does nothing: everything has been written."""

    def _write(self, path: str, record: TracedOperator, value: TracedValue) -> None:
        code = _BINARY_CODES.get(value.dtype.code)
        if code is None:  # the form has no number for these types
            dtype = value.dtype.original_name
            if dtype not in self._left_out:
                self._left_out.add(dtype)
                warn(f"binary dumps have no place for variables of type {dtype}; they are left out")
            return
        numbered = len(record.inputs) > 1
        inputs = " ".join((f"{k}=" if numbered else "") + _description(v) for k, v in enumerate(record.inputs))
        name = f"var={_description(value)} owner_opr_inputs={inputs}".encode()
        shape = value.array.shape + (0,) * (MAX_NDIM - value.array.ndim)
        try:
            with open_for_writing(path) as file:
                file.write(struct.pack(f"<III{MAX_NDIM}I", len(name), code, MAX_NDIM, *shape))
                file.write(name)
                file.write(np.ascontiguousarray(value.array).data)
        except OSError as error:
            raise os_error(error, f"the dump cannot be written to {path}: {error.strerror}", path) from error


def _description(value: TracedValue) -> str:
    owner, shape = value.owner, value.array.shape
    place = f"layout:{layout_text(shape, value.dtype)}" if value.ran else f"shape:{{{','.join(map(str, shape))}}}"
    return (
        f"{{id:{value.number}, {place}, {value.dtype.original_name}, "
        f"owner:{owner.name}{{{owner.type}}}, name:{value.name}, slot:{value.slot}, {DEVICE}, "
        f"{_storage_letter(value)}, {value.shape_known:d}, {value.value_known:d}}}"
    )
