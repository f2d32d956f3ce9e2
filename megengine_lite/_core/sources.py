"""What data for a tensor can come in: arrays, raw memory, objects that can be arrays."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np

from megengine_lite._core.dlpack import HOST_DEVICES, take_capsule
from megengine_lite._core.layout import ACCEPTED
from megengine_lite._core.memory import Storage, buffer_address, code_of
from megengine_lite.errors import LiteArgumentError, LiteTypeError, LiteValueError


def require_contiguous(array: np.ndarray) -> None:
    if not array.flags.c_contiguous:
        raise LiteArgumentError("the array is not C-contiguous; pass numpy.ascontiguousarray(array)")


def code_of_array(array: np.ndarray) -> int:
    code: int | None = code_of(array.dtype)
    if code is None:
        raise LiteTypeError(f"an array of {array.dtype} cannot become a tensor; convert it to one of {ACCEPTED}")
    return code


# Classes of ctypes objects whose value is an address: pointers of any type.
_POINTER = ctypes._Pointer  # type: ignore[attr-defined]


def is_raw_memory(data: object) -> bool:
    """Whether data is an address or a buffer of plain bytes."""
    if isinstance(data, bytes | bytearray | memoryview | ctypes.c_void_p | ctypes.Array | _POINTER):
        return True
    return isinstance(data, int | np.integer) and not isinstance(data, bool)


def raw_address(data: Any) -> tuple[int, int | None, object]:
    """Address, bytes if known, and what keeps them alive."""
    if isinstance(data, int | np.integer):
        address, size = int(data), None
    elif isinstance(data, ctypes.c_void_p):
        address, size = data.value or 0, None
    elif isinstance(data, _POINTER):
        address, size = ctypes.cast(data, ctypes.c_void_p).value or 0, None
    else:
        address, size = buffer_address(data)
        return address, size, data
    if address <= 0:
        raise LiteValueError("the pointer is null")
    return address, size, data if isinstance(data, _POINTER) else None


# numpy types of DLPack's (type code, bits); more than tensors can hold, so that messages can name them.
_DLPACK_TYPES = {
    **{(0, bits): np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{(1, bits): np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{(2, bits): np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    (6, 8): np.dtype("bool"),
}


def from_dlpack(source: Any) -> np.ndarray:
    """An array over the memory of an object with ``__dlpack__``, writable unless the object says otherwise.

    ``numpy.from_dlpack`` gives read-only arrays in older versions.
    """
    if isinstance(source, np.ndarray):
        return source
    kind = type(source).__name__
    try:
        device, _ = source.__dlpack_device__()
        on_host = device in HOST_DEVICES
        if on_host:
            try:
                capsule = source.__dlpack__(max_version=(1, 0))
            except TypeError:
                capsule = source.__dlpack__()
            owner, address, shape, strides, code, bits, readonly = take_capsule(capsule)
    except (TypeError, BufferError, AttributeError) as error:
        raise LiteTypeError(f"{kind} cannot be read through DLPack: {error}") from None
    if not on_host:
        raise LiteTypeError(f"the memory of {kind} is on another device; copy it to the host first")
    dtype = _DLPACK_TYPES.get((code, bits))
    if dtype is None:
        raise LiteTypeError(f"{kind} has elements of DLPack type {code} with {bits} bits; tensors hold {ACCEPTED}")
    if 0 in shape:
        return np.empty(shape, dtype)
    in_bytes = None if strides is None else tuple(s * dtype.itemsize for s in strides)
    low, high = _span(shape, in_bytes, dtype.itemsize)
    storage = Storage.at(address + low, high - low, owner, readonly)
    return np.ndarray(shape, dtype, memoryview(storage), -low, in_bytes)


def _span(shape: tuple[int, ...], strides: tuple[int, ...] | None, itemsize: int) -> tuple[int, int]:
    """First and last byte of a tensor, seen from its element zero."""
    if strides is None:
        return 0, math.prod(shape) * itemsize
    ends = [(d - 1) * s for d, s in zip(shape, strides, strict=True)]
    return sum(e for e in ends if e < 0), sum(e for e in ends if e > 0) + itemsize


def as_array(data: Any) -> np.ndarray | None:
    """An array from an object that knows how to be one."""
    if hasattr(data, "__dlpack__"):
        return from_dlpack(data)
    if hasattr(data, "__array__") or hasattr(data, "__array_interface__"):
        return np.asarray(data)
    try:
        return np.asarray(memoryview(data))
    except TypeError:
        return None
