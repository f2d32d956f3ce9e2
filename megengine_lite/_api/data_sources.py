"""Where data of a tensor can come from: arrays, raw memory, objects that can become arrays."""

from __future__ import annotations

import ctypes
import math
import mmap
from typing import Any

import numpy as np

from megengine_lite._api.arguments import ACCEPTED, MAX_DIM, require_unmasked
from megengine_lite._core.system.dlpack import HOST_DEVICES, is_capsule, take_capsule
from megengine_lite._core.system.memory import Storage
from megengine_lite._core.system.strided import code_of
from megengine_lite.errors import LiteArgumentError, LiteMemoryError, LiteTypeError, LiteValueError, brief


def require_contiguous(array: np.ndarray) -> None:
    if not array.flags.c_contiguous:
        raise LiteArgumentError("the array is not C-contiguous; pass numpy.ascontiguousarray(array)")


def code_of_array(array: np.ndarray) -> int:
    """``LiteDataType`` number of an array that can become a tensor."""
    require_unmasked(array)
    if array.ndim > MAX_DIM:
        raise LiteArgumentError(f"a tensor has at most {MAX_DIM} dimensions, the array {array.ndim}")
    code: int | None = code_of(array.dtype)
    if code is None:
        raise LiteTypeError(f"an array of {array.dtype} cannot become a tensor; convert it to one of {ACCEPTED}")
    return code


# Python's and numpy's integers that are wide enough for an address.
_ADDRESSES = (int, np.intp, np.uintp)
_LAST_ADDRESS = int(np.iinfo(np.uintp).max)
# Classes of ctypes objects whose value is an address: pointers of any type, and what ctypes.byref makes.
_POINTERS = (
    ctypes.c_void_p,
    ctypes.c_char_p,
    ctypes._Pointer,
    type(ctypes.byref(ctypes.c_int())),
)
# Types of buffers that are plain bytes.
_BYTES = (bytes, bytearray, memoryview, mmap.mmap, ctypes.Array, ctypes.Structure, ctypes.Union)
_RAW = (*_BYTES, *_POINTERS)


def is_raw_memory(data: object) -> bool:
    """Whether data is an address or a buffer of plain bytes."""
    if isinstance(data, _RAW):
        return True
    return isinstance(data, _ADDRESSES) and not isinstance(data, bool)


def raw_memory(data: Any, nbytes: int) -> tuple[Storage, int | None]:
    """Raw memory as a storage, which keeps its owner alive, and the number of bytes; None if that is not known.

    ``nbytes`` is the size of the storage then.
    """
    if isinstance(data, _BYTES):
        storage = Storage.of_buffer(data)
        return storage, storage.nbytes
    if isinstance(data, _POINTERS):
        address, owner = ctypes.cast(data, ctypes.c_void_p).value or 0, data
    else:
        address, owner = int(data), None
    if address == 0:
        raise LiteValueError("the pointer is null")
    if not 0 < address <= _LAST_ADDRESS:
        raise LiteValueError(f"{brief(address)} is not an address")
    return Storage.at(address, nbytes, owner), None


# numpy types of DLPack's (type code, bits); more than tensors can hold, so that messages can name them.
_DLPACK_TYPES = {
    **{(0, bits): np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{(1, bits): np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{(2, bits): np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    (6, 8): np.dtype("bool"),
}


def from_dlpack(source: Any) -> np.ndarray:
    """An array over the memory of a capsule or an object with ``__dlpack__``, writable unless the capsule is read-only.

    ``numpy.from_dlpack`` is not used because it gives read-only arrays in older versions.
    """
    if isinstance(source, np.ndarray):
        return source
    kind = type(source).__name__
    try:
        capsule = source if is_capsule(source) else _ask_for_capsule(source)
        owner, address, shape, strides, code, bits, readonly = take_capsule(capsule)
    except MemoryError as error:
        raise LiteMemoryError(f"there is not enough memory for what {kind} gives through DLPack") from error
    except Exception as error:  # of the caller's class
        raise LiteTypeError(f"{kind} cannot be read through DLPack: {error}") from error
    dtype = _DLPACK_TYPES.get((code, bits))
    if dtype is None:
        raise LiteTypeError(f"{kind} has elements of DLPack type {code} with {bits} bits; tensors hold {ACCEPTED}")
    if 0 in shape:
        return np.empty(shape, dtype)
    in_bytes = None if strides is None else tuple(s * dtype.itemsize for s in strides)
    low, high = _span(shape, in_bytes, dtype.itemsize)
    storage = Storage.at(address + low, high - low, owner, readonly)
    return np.ndarray(shape, dtype, memoryview(storage), -low, in_bytes)


def _ask_for_capsule(source: Any) -> Any:
    device, _ = source.__dlpack_device__()
    if device not in HOST_DEVICES:
        raise TypeError("its memory is on another device; copy it to the host first")
    try:
        return source.__dlpack__(max_version=(1, 0))
    except TypeError:
        return source.__dlpack__()


def _span(shape: tuple[int, ...], strides: tuple[int, ...] | None, itemsize: int) -> tuple[int, int]:
    """Offsets of the first and the last byte of a tensor from its element zero."""
    if strides is None:
        return 0, math.prod(shape) * itemsize
    ends = [(d - 1) * s for d, s in zip(shape, strides, strict=True)]
    return sum(e for e in ends if e < 0), sum(e for e in ends if e > 0) + itemsize


def as_array(data: Any) -> np.ndarray | None:
    """An array from an object that can become one; a copy if that is necessary."""
    if not _has_dlpack(data) and hasattr(data, "__array__"):
        return _to_array(data, data)
    return as_shared_array(data)


def as_shared_array(data: Any) -> np.ndarray | None:
    """An array over the memory of an object with DLPack, array interface or buffer protocol; None for others."""
    if _has_dlpack(data):
        return from_dlpack(data)
    if hasattr(data, "__array_interface__"):
        return _to_array(data, data)
    try:
        view = memoryview(data)
    except TypeError:
        return None
    return _to_array(view, data)


def _has_dlpack(data: Any) -> bool:
    return is_capsule(data) or hasattr(data, "__dlpack__")


def _to_array(source: Any, data: Any) -> np.ndarray:
    try:
        return np.asarray(source)
    except MemoryError as error:
        raise LiteMemoryError(f"there is not enough memory for the array that {type(data).__name__} gives") from error
    except Exception as error:  # of the caller's class
        raise LiteTypeError(f"{type(data).__name__} cannot be read as an array: {error}") from error
