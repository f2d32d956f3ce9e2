"""Tables that both generations of the file format share: element types, shapes, parameters."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

from megengine_lite._core.formats.mge.history import Release, layout_of, modernize
from megengine_lite._core.formats.wire.flatbuffer import TableReader
from megengine_lite._core.ir.dtype import WIDE, DType, DTypeCode
from megengine_lite._core.ir.params import (
    AxisDesc,
    AxisMethod,
    DTypeTable,
    ElemwiseMode,
    IndexDescMaskItem,
    Param,
    table_of,
)
from megengine_lite._core.ir.params.elemwise import OF_OTHER_FORMATS
from megengine_lite._core.system.memory import MAX_NDIM
from megengine_lite.errors import ModelFormatError, UnsupportedOperatorError

_MAX_ELEMENTS = 1 << 48
LEAST_OPERATOR = 40
"""Bytes that even the smallest operator takes in a file: its type, inputs and outputs."""
_CODES = {int(c): c for c in DTypeCode if c not in WIDE}
_PLAIN = {c: DType(c) for c in DTypeCode}
_NEVER_STORED = (DTypeCode.INTB1, DTypeCode.INTB2)
LINEAR_QUANTIZATION = 1
"""Number of the one kind of quantization that DType tables have: by scale and zero point."""


def read_dtype(table: TableReader) -> DType:
    """The element type that a DType table describes."""
    number = table.int8(0)
    code = _CODES.get(number)
    what = table.cursor.what
    if code is None:
        raise ModelFormatError(f"{what}: element type {number} is not known")
    if code in _NEVER_STORED:
        raise UnsupportedOperatorError(f"{what}: element type {code.name} is not supported")
    plain = _PLAIN[code]
    if not plain.is_quantized:
        return plain
    quantization = table.table(2, "quantization") if table.uint8(1) == LINEAR_QUANTIZATION else None
    if quantization is None:
        raise ModelFormatError(f"{what}: element type {code.name} comes without its scale")
    scale = quantization.float32(0)
    if not (math.isfinite(scale) and scale > 0):
        raise ModelFormatError(f"{what}: element type {code.name} has the scale {scale}")
    zero_point = quantization.uint8(1) if "ASYMM" in code.name else 0
    return DType(code, scale, zero_point)


def read_optional_dtype(table: TableReader, number: int) -> DType | None:
    """The element type in a field, None if it is not stored."""
    found = table.table(number, "element type")
    return None if found is None else read_dtype(found)


def read_shape(table: TableReader, number: int, thing: str) -> tuple[int, ...]:
    """A shape of at most seven dimensions that can be an array."""
    shape = table.uint32s(number, thing)
    if len(shape) > MAX_NDIM:
        raise ModelFormatError(
            f"{table.cursor.what}: {thing} has {len(shape)} dimensions, at most {MAX_NDIM} are possible"
        )
    if math.prod(d or 1 for d in shape) > _MAX_ELEMENTS:  # numpy counts the others when one is zero
        raise ModelFormatError(f"{table.cursor.what}: {thing} is {shape}: too large")
    return shape


_AXIS_DESC = struct.Struct("<b3xi")
_INDEX_ITEM = struct.Struct("<b????")


def _axis_descs(table: TableReader, number: int) -> tuple[AxisDesc, ...]:
    stored = table.structs(number, _AXIS_DESC.size, "axis steps")
    methods = AxisMethod._value2member_map_
    return tuple(AxisDesc(methods.get(m, m), axis) for m, axis in _AXIS_DESC.iter_unpack(stored))


def _index_items(table: TableReader, number: int) -> tuple[IndexDescMaskItem, ...]:
    stored = table.structs(number, _INDEX_ITEM.size, "index items")
    return tuple(IndexDescMaskItem(*fields) for fields in _INDEX_ITEM.iter_unpack(stored))


_READERS: dict[str, Callable[[TableReader, int], Any]] = {
    "bool": TableReader.boolean,
    "int8": TableReader.int8,
    "int32": TableReader.int32,
    "uint32": TableReader.uint32,
    "uint64": TableReader.uint64,
    "float32": TableReader.float32,
    "float64": TableReader.float64,
    "int32[]": lambda table, number: table.int32s(number, "numbers"),
    "AxisDesc[]": _axis_descs,
    "IndexDescMaskItem[]": _index_items,
}


def read_param(operator: TableReader, number: int, release: Release) -> tuple[int, Param | None]:
    """The parameters in the union at fields ``number`` (code) and ``number`` + 1.

    Returns
    -------
    code
        Type code of the table, 0 if there is none.
    params
        None if there is no table, or none that is known.
    """
    code = operator.uint8(number)
    cls = table_of(code)
    if cls is None:
        return code, None
    table = operator.table(number + 1, "parameters")
    if table is None:
        raise ModelFormatError(f"{operator.cursor.what}: parameters of kind {code} are announced and missing")
    if cls is DTypeTable:
        return code, DTypeTable(dtype=read_dtype(table))
    stored = {}
    for f in layout_of(cls, release):
        if table.has(f.id):
            value = _READERS[f.kind](table, f.id)
            stored[f.name] = value if f.enum is None else f.enum._value2member_map_.get(value, value)
            if f.enum is ElemwiseMode and value in OF_OTHER_FORMATS:
                raise ModelFormatError(f"{operator.cursor.what}: Elemwise has the mode {value}, which no file has")
    return code, modernize(cls(**stored), release)
