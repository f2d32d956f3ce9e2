"""Values of ONNX tensors: views of the file's bytes where that is possible, else arrays."""

from __future__ import annotations

import math
from array import array
from collections.abc import Hashable
from typing import Any

import numpy as np

from megengine_lite._core.formats.onnx.external_files import ExternalFiles
from megengine_lite._core.formats.onnx.messages import (
    EXTERNAL,
    ElementType,
    GraphProto,
    SparseTensorProto,
    StoredTensorProto,
    TensorProto,
    type_name,
)
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
FEW_BITS = {_E.INT4: (_E.INT8, 4), _E.UINT4: (_E.UINT8, 4), _E.INT2: (_E.INT8, 2), _E.UINT2: (_E.UINT8, 2)}
"""Types of stored integers of less than 8 bits: one that has all their numbers, and how many bits they have."""
KINDS: dict[np.dtype[Any], ElementType] = {dtype.storage: kind for kind, dtype in DTYPES.items() if kind != _E.BFLOAT16}
"""The element type there of arrays of each numpy type; the elements of bfloat16 have none."""

MOST_DENSE = 1 << 28
"""Bytes of a dense tensor that is made of a sparse one, which takes nearly nothing in the file."""

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


def initializers_of(graph: GraphProto) -> list[StoredTensorProto]:
    """The stored tensors of a graph."""
    return [*graph.initializer, *graph.sparse_initializer]


def name_of(tensor: StoredTensorProto) -> str:
    """The name of a stored tensor; a sparse one has that of its values."""
    values = tensor.values if isinstance(tensor, SparseTensorProto) else tensor
    return "" if values is None else values.name


def kind_of(tensor: StoredTensorProto) -> int | None:
    """The number of the element type of a stored tensor."""
    values = tensor.values if isinstance(tensor, SparseTensorProto) else tensor
    return None if values is None else values.data_type


def shape_of(tensor: StoredTensorProto, what: str) -> tuple[int, ...]:
    """The dimensions of a stored tensor, none for a scalar."""
    dims = tuple(tensor.dims)
    if len(dims) > MAX_NDIM or any(d < 0 for d in dims) or math.prod(d or 1 for d in dims) >= 2**60:
        raise ModelFormatError(
            f"{what}: tensor {brief(name_of(tensor))} has the shape {dims[:20]}; it may have up to {MAX_NDIM} "
            "dimensions, none "
            "of them negative, and not so many elements"
        )
    return dims


def stored_bytes(tensor: TensorProto, what: str) -> int | None:
    """How many bytes the value of a dense tensor takes; None if its type is not computed here."""
    if tensor.data_type in FEW_BITS:
        bits = FEW_BITS[ElementType(tensor.data_type)][1]
    elif tensor.data_type in DTYPES:
        bits = 8 * DTYPES[ElementType(tensor.data_type)].itemsize
    else:
        return None
    return -(-math.prod(shape_of(tensor, what)) * bits // 8)


def tensor_constant(
    tensor: StoredTensorProto, files: ExternalFiles, key: Hashable, what: str, widens: bool = False
) -> FileConstant:
    """The value of a tensor, a dense one if it is sparse; a scalar has the shape (1,).

    Parameters
    ----------
    widens
        Read the types in ``FEW_BITS``, too, as the one that has all their numbers.

    Raises
    ------
    ModelFormatError
        The value is missing, or has not the size that the shape needs.
    UnsupportedOperatorError
        The type of the elements is not computed here.
    """
    if isinstance(tensor, SparseTensorProto):
        tensor = _dense(tensor, files, what)
    few = FEW_BITS.get(ElementType(tensor.data_type)) if widens and tensor.data_type in FEW_BITS else None
    kind = element_type(tensor.data_type if few is None else few[0], f"tensor {brief(tensor.name)}", what)
    shape, dtype = shape_of(tensor, what), DTYPES[kind]
    n_numbers = math.prod(shape)
    count = n_numbers if few is None else -(-n_numbers * few[1] // 8)  # some of them in a byte
    if tensor.segment is not None:
        raise UnsupportedOperatorError(
            f"{what}: tensor {brief(tensor.name)} is stored in segments; export the model again"
        )
    if tensor.data_location == EXTERNAL:
        data = files.value_of(tensor, count * dtype.itemsize)
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
            f"{what}: the value of tensor {brief(tensor.name)} has {len(data)} bytes, {n_numbers} elements of "
            f"{type_name(tensor.data_type)} take {count * dtype.itemsize}: the file is damaged or not complete"
        )
    if dtype == BOOL and count and (truths := np.frombuffer(memoryview(data), np.uint8)).max() > 1:
        data = bytes_of(truths != 0)
    if few is not None:
        data = bytes_of(_unpacked(np.frombuffer(memoryview(data), np.uint8), few[1], n_numbers, dtype))
    constant = FileConstant(TensorRecord(tensor.name, shape or (1,), dtype, None), data, False, key)
    if tensor.raw_data is not None and few is None:
        tensor.raw_data = constant.stored_data
    return constant


def _unpacked(packed: np.ndarray, bits: int, count: int, dtype: DType) -> np.ndarray:
    """Integers that lie some in a byte, the first one in its lowest bits."""
    found = np.empty((packed.size, 8 // bits), dtype.storage)
    for k in range(8 // bits):  # the bits go to the upper end, and back with the sign
        found[:, k] = (packed << np.uint8(8 - bits * (k + 1))).view(dtype.storage) >> (8 - bits)
    return found.reshape(-1)[:count]


def _converted(numbers: array[float], dtype: DType) -> np.ndarray:
    """Numbers of a list in the storage of a type; those that do not fit lose their high bits."""
    found = np.asarray(numbers) if len(numbers) else np.empty(0, dtype.storage)
    if dtype.storage == np.float16:
        return found.astype(np.uint16).view(np.float16)
    return found != 0 if dtype == BOOL else found.astype(dtype.storage, copy=False)


def _dense(sparse: SparseTensorProto, files: ExternalFiles, what: str) -> TensorProto:
    """A sparse tensor as a dense one."""
    thing = f"{what}: sparse tensor {brief(name_of(sparse))}"
    if sparse.values is None or sparse.indices is None:
        raise ModelFormatError(f"{thing} has no {'values' if sparse.values is None else 'indices'}")
    if len(sparse.values.dims) != 1:
        raise ModelFormatError(f"{thing} has values of {len(sparse.values.dims)} dimensions, and must have a vector")
    kind = element_type(sparse.values.data_type, f"sparse tensor {brief(name_of(sparse))}", what)
    shape, width = shape_of(sparse, what), DTYPES[kind].itemsize
    if math.prod(shape) * width > MOST_DENSE:
        raise UnsupportedOperatorError(
            f"{thing} of shape {shape} would have more than {MOST_DENSE} bytes as a dense one, and only dense ones are "
            "computed here"
        )
    values = tensor_constant(sparse.values, files, None, what).array
    indices = tensor_constant(sparse.indices, files, None, what).array
    dense = np.zeros(math.prod(shape), values.dtype)
    dense[_places(indices, len(values), shape, thing)] = values.reshape(-1)
    return TensorProto(dims=shape, data_type=kind, name=sparse.values.name, raw_data=bytes_of(dense))


def _places(indices: np.ndarray, count: int, shape: tuple[int, ...], thing: str) -> np.ndarray:
    """Where the values of a sparse tensor stand among all elements: its indices say that, or the place on each axis."""
    axes = shape or (1,)
    form = f"{thing} of shape {shape} has {count} values and indices of shape {indices.shape}"
    if indices.dtype.kind not in "iu" or indices.shape not in ((count,), (count, len(axes))):
        raise ModelFormatError(f"{form}; they must be integers of shape {(count,)} or {(count, len(axes))}")
    sizes = axes if indices.ndim == 2 else (math.prod(axes),)
    places = indices.reshape(count, len(sizes))
    if (places < 0).any() or (places >= np.array(sizes, np.int64)).any():
        raise ModelFormatError(f"{form}, some of which are out of range; the file is damaged")
    found = places.astype(np.int64) @ np.cumprod([1, *sizes[:0:-1]], dtype=np.int64)[::-1]
    if len(np.unique(found)) < count:
        raise ModelFormatError(f"{form}, two of which are the same; keep one value for each place")
    return found
