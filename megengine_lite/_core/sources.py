"""What data for a tensor can come in: arrays, raw memory, objects that can be arrays."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from megengine_lite._core.layout import ACCEPTED
from megengine_lite._core.memory import buffer_address, code_of
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


def from_dlpack(source: Any) -> np.ndarray:
    try:
        return np.from_dlpack(source)
    except (TypeError, BufferError, RuntimeError, AttributeError) as error:
        raise LiteTypeError(f"{type(source).__name__} cannot be read through DLPack: {error}") from None


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
