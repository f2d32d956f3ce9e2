"""Dumps of every operator's results, in the original's forms: one text file, or one binary file per variable.

Tools of MegEngine compare such dumps of two runs.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable

import numpy as np

from megengine_lite._core.dtype import DType, DTypeCode
from megengine_lite._core.trace import Record, Value
from megengine_lite.errors import LiteError

_NAMES = {
    DTypeCode.FLOAT32: "Float32",
    DTypeCode.UINT8: "Uint8",
    DTypeCode.INT8: "Int8",
    DTypeCode.INT16: "Int16",
    DTypeCode.INT32: "Int32",
    DTypeCode.BYTE: "Byte",
    DTypeCode.FLOAT16: "Float16",
    DTypeCode.BFLOAT16: "BFloat16",
    DTypeCode.BOOL: "Bool",
    DTypeCode.UINT16: "Uint16",
    DTypeCode.QUANTIZED8_ASYMM: "Quantized8Asymm",
    DTypeCode.QUANTIZED_S32: "QuantizedS32",
    DTypeCode.QUANTIZED_S8: "QuantizedS8",
    DTypeCode.QUANTIZED_S16: "QuantizedS16",
    DTypeCode.QUANTIZED4_ASYMM: "Quantized4Asymm",
    DTypeCode.QUANTIZED_S4: "QuantizedS4",
    DTypeCode.QUANTIZED_S1: "QuantizedS1",
    DTypeCode.COMPLEX64: "Complex64",
}
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
_MAX_NDIM = 7
_SHOWN = 5
_DEVICE = 'CompNode("cpu0:0" from "cpu0:0")'


def dtype_name(dtype: DType) -> str:
    """The original's name of an element type."""
    name = _NAMES.get(dtype.code, dtype.name)
    if not dtype.is_quantized:
        return name
    zero = f", {dtype.zero_point}" if "Asymm" in name else ""
    return f"{name}({dtype.scale:g}{zero})"


def layout_text(array: np.ndarray, dtype: DType) -> str:
    """Shape, strides in elements, and type: ``{2(3),3(1) Float32}``."""
    dims = ",".join(f"{d}({s // array.itemsize})" for d, s in zip(array.shape, array.strides, strict=True))
    return f"{{{dims} {dtype_name(dtype)}}}"


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


def _storage_letter(value: Value) -> str:
    return "s" if value.static else "d"


class TextDump:
    """Appends to a text file, which is created empty at once."""

    def __init__(self, path: str):
        self._path = path
        try:
            with open(path, "w", encoding="utf-8"):
                pass
        except OSError as error:
            raise LiteError(f"the dump cannot be written to {path}: {error.strerror}") from error

    def write(self, records: Iterable[Record]) -> None:
        with open(self._path, "a", encoding="utf-8") as file:
            for record in records:
                for value in record.outputs:
                    file.write(self._text(record, value))

    @staticmethod
    def _text(record: Record, value: Value) -> str:
        var = value.var
        name = var.name or f"{value.owner}:{value.slot}"
        deps = "".join(
            f"  [i{k}]var{dep.var.id}: {_values_text(dep.array)} {_storage_letter(dep)}\n"
            for k, dep in enumerate(record.inputs)
        )
        return (
            f"var{var.id} produced: name={name} layout={layout_text(value.array, value.dtype)} "
            f"owner_opr={value.owner}{{{value.owner_type}}} opr{value.owner_id}\n deps:\n{deps}"
            f" val: {_values_text(value.array)}{_statistics_text(value.array)} {_storage_letter(value)}\n"
        )


class BinaryDump:
    """Writes a file per variable into a directory, over those of the run before."""

    def __init__(self, directory: str):
        self._directory = directory
        try:
            os.makedirs(directory, exist_ok=True)
        except OSError as error:
            raise LiteError(f"the dump directory {directory} cannot be made: {error.strerror}") from error

    def write(self, records: Iterable[Record]) -> None:
        for record in records:
            for value in record.outputs:
                self._write(os.path.join(self._directory, f"{value.var.id:06x}"), record, value)

    @staticmethod
    def _write(path: str, record: Record, value: Value) -> None:
        inputs = " ".join(f"{k}={_description(dep)}" for k, dep in enumerate(record.inputs))
        name = f"var={_description(value)} owner_opr_inputs={inputs}".encode()
        code = _BINARY_CODES.get(value.dtype.code)
        if code is None or value.array.ndim > _MAX_NDIM:
            return  # the form has no number for these types
        shape = value.array.shape + (0,) * (_MAX_NDIM - value.array.ndim)
        try:
            with open(path, "wb") as file:
                file.write(struct.pack(f"<III{_MAX_NDIM}I", len(name), code, _MAX_NDIM, *shape))
                file.write(name)
                file.write(np.ascontiguousarray(value.array).data)
        except OSError as error:
            raise LiteError(f"the dump cannot be written to {path}: {error.strerror}") from error


# How the original knows a variable's shape and value beforehand: constant, from the inputs, or not at all.
_INFERENCE = {"constant": "2, 2", "input": "4, 4", "computed": "4, 1"}


def _description(value: Value) -> str:
    var = value.var
    return (
        f"{{id:{var.id}, layout:{layout_text(value.array, value.dtype)}, {dtype_name(value.dtype)}, "
        f"owner:{value.owner}{{{value.owner_type}}}, name:{var.name or f'{value.owner}:{value.slot}'}, "
        f"slot:{value.slot}, {_DEVICE}, {_storage_letter(value)}, "
        f"{_INFERENCE[value.kind] if value.static else '1, 1'}}}"
    )
