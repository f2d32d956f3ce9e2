"""Values of ONNX tensors: views of the file's bytes where that is possible, else arrays."""

from __future__ import annotations

import math
from array import array
from collections.abc import Hashable
from typing import Any

import numpy as np

from megengine_lite._core.formats.onnx.external_files import ExternalFiles
from megengine_lite._core.formats.onnx.messages import EXTERNAL, ElementType, TensorProto, type_name
from megengine_lite._core.formats.stored_values import FileConstant, TensorRecord, bytes_of
from megengine_lite._core.ir.dtype import (
    BOOL,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    INT8,
    INT16,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    DType,
    DTypeCode,
)
from megengine_lite._core.system.memory import MAX_NDIM
from megengine_lite.errors import ModelFormatError, UnsupportedOperatorError, brief

_E = ElementType
DTYPES = {
    _E.FLOAT: FLOAT32,
    _E.UINT8: UINT8,
    _E.INT8: INT8,
    _E.UINT16: UINT16,
    _E.INT16: INT16,
    _E.INT32: INT32,
    _E.INT64: INT64,
    _E.BOOL: BOOL,
    _E.FLOAT16: FLOAT16,
    _E.DOUBLE: FLOAT64,
    _E.UINT32: UINT32,
    _E.UINT64: UINT64,
    _E.BFLOAT16: DType(DTypeCode.BFLOAT16),
}
"""The element type here of each one there that can be computed."""
KINDS: dict[np.dtype[Any], ElementType] = {dtype.storage: kind for kind, dtype in DTYPES.items() if kind != _E.BFLOAT16}
"""The element type there of arrays of each numpy type; the elements of bfloat16 have none."""

# Which list holds the numbers of a type that are not stored as bytes; float16 and bfloat16 are there as bits.
_LISTS = {
    _E.FLOAT: "float_data",
    _E.DOUBLE: "double_data",
    _E.INT64: "int64_data",
    _E.UINT32: "uint64_data",
    _E.UINT64: "uint64_data",
}


def element_type(number: int | None, thing: str, what: str) -> ElementType:
    """An element type that can be computed.

    Raises
    ------
    UnsupportedOperatorError
        It cannot.
    """
    if number not in DTYPES:
        raise UnsupportedOperatorError(
            f"{what}: {thing} has elements of type {type_name(number)}, which are not computed here: use floats, or "
            "integers of 8 bits or more"
        )
    return ElementType(number)


def shape_of(tensor: TensorProto, what: str) -> tuple[int, ...]:
    """The dimensions of a stored tensor, none for a scalar."""
    dims = tuple(tensor.dims)
    if len(dims) > MAX_NDIM or any(d < 0 for d in dims) or math.prod(d or 1 for d in dims) >= 2**60:
        raise ModelFormatError(
            f"{what}: tensor {brief(tensor.name)} has the shape {dims[:20]}; it may have up to {MAX_NDIM} "
            "dimensions, none "
            "of them negative, and not so many elements"
        )
    return dims


def tensor_constant(tensor: TensorProto, files: ExternalFiles, key: Hashable, what: str) -> FileConstant:
    """The value of a tensor; a scalar has the shape (1,).

    Raises
    ------
    ModelFormatError
        The value is missing, or has not the size that the shape needs.
    UnsupportedOperatorError
        The type of the elements is not computed here.
    """
    kind = element_type(tensor.data_type, f"tensor {brief(tensor.name)}", what)
    shape, dtype = shape_of(tensor, what), DTYPES[kind]
    count = math.prod(shape)
    if tensor.segment is not None:
        raise UnsupportedOperatorError(
            f"{what}: tensor {brief(tensor.name)} is stored in segments; export the model again"
        )
    if tensor.data_location == EXTERNAL:
        data = files.value_of(tensor)
    elif tensor.raw_data is not None:
        data = tensor.raw_data
    else:
        numbers = getattr(tensor, _LISTS.get(kind, "int32_data"))
        if len(numbers) != count:
            raise ModelFormatError(
                f"{what}: tensor {brief(tensor.name)} has {len(numbers)} numbers, its shape {shape} needs {count}"
            )
        data = bytes_of(_converted(numbers, dtype))
    if len(data) != count * dtype.itemsize:
        raise ModelFormatError(
            f"{what}: the value of tensor {brief(tensor.name)} has {len(data)} bytes, {count} elements of "
            f"{kind.name} take "
            f"{count * dtype.itemsize}: the file is damaged or not complete"
        )
    if dtype == BOOL and count and (truths := np.frombuffer(memoryview(data), np.uint8)).max() > 1:
        data = bytes_of(truths != 0)
    constant = FileConstant(TensorRecord(tensor.name, shape or (1,), dtype, None), data, False, key)
    if tensor.raw_data is not None:
        tensor.raw_data = constant.stored_data
    return constant


def _converted(numbers: array[float], dtype: DType) -> np.ndarray:
    """Numbers of a list in the storage of a type; those that do not fit lose their high bits."""
    found = np.asarray(numbers) if len(numbers) else np.empty(0, dtype.storage)
    if dtype.storage == np.float16:
        return found.astype(np.uint16).view(np.float16)
    return found != 0 if dtype == BOOL else found.astype(dtype.storage, copy=False)
