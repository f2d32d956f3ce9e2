"""Values of stored tensors: views of the file's bytes where that is possible, else decoded at first use."""

from __future__ import annotations

import math
import weakref
from collections.abc import Hashable
from typing import Any

import numpy as np

from megengine_lite._core.ir.dtype import DType, DTypeCode
from megengine_lite._core.ir.graph import Constant
from megengine_lite._core.system.file_bytes import FileBytes, FilePiece
from megengine_lite._records import record, replace
from megengine_lite.errors import ModelFormatError

_RAW, _BYTES, _WORDS = 0, 1, 2
"""First byte of a value in a model with compressed weights: not compressed, 8-bit or 16-bit steps."""
_SCALING_BYTES = 8  # stride and base of compressed values, float32 each
_STEPS: dict[int, np.dtype] = {_BYTES: np.dtype("<u1"), _WORDS: np.dtype("<u2")}
_SIGNED = (DTypeCode.QUANTIZED_S4, DTypeCode.INTB4)


@record(slots=True)
class TensorRecord:
    """A stored tensor; ``data`` is a view of the bytes of its value in the file, None if it has no value."""

    name: str
    shape: tuple[int, ...]
    dtype: DType
    data: memoryview | None


def stored_bytes(shape: tuple[int, ...], dtype: DType) -> int:
    """Size of a tensor's value in a file. Rows of types below a byte begin on a byte."""
    bits = dtype.packed_bits
    if not bits:
        return math.prod(shape) * dtype.itemsize
    return math.prod(shape[:-1]) * ((shape[-1] * bits + 7) // 8) if shape else 0


def piece_of(data: memoryview | FilePiece) -> memoryview | FilePiece:
    """The bytes without a view of the whole file. Who reads them, too, must have this piece: another one keeps them."""
    if isinstance(data, FilePiece):
        return data
    owner: Any = data.obj
    return owner.piece(data) if isinstance(owner, FileBytes) else data


class FileConstant(Constant):
    """A constant whose bytes in the file are not read before ``array`` is asked for."""

    __slots__ = ("_array", "_compressed", "_data", "_held", "_tensor")

    def __init__(self, tensor: TensorRecord, data: memoryview | FilePiece, compressed: bool, key: Hashable):
        self._tensor = replace(tensor, data=None)
        self._data = piece_of(data)
        self._compressed = compressed
        self._array: np.ndarray | None = None
        self._held: weakref.ref[np.ndarray] | None = None  # what a plan may still hold after release
        self.key = key
        self.scales = None
        self.shared = None

    @property
    def array(self) -> np.ndarray:
        found = self._array if self.shared is None else self.shared
        if found is None and self._held is not None:
            found = self._held()
        if found is None:
            found = _decode(self._tensor, memoryview(self._data), self._compressed)
            found.flags.writeable = False
        self._array = found
        return found

    def _drop(self) -> None:
        self.release()

    @property
    def stored_data(self) -> memoryview | FilePiece:
        """The bytes as they are in the file."""
        return self._data

    def stored(self) -> TensorRecord:
        """The tensor with its value as in a file without compression."""
        data = bytes_of(self.array) if self._compressed else memoryview(self._data)
        return replace(self._tensor, data=data)

    def release(self) -> None:
        """Drops the decoded value, and gives the memory of the file's bytes back to the system until the next use."""
        array = self._array
        if array is not None:
            self._held = weakref.ref(array)
            self._array = array = None
        if isinstance(self._data, FilePiece):
            self._data.release()


def bytes_of(array: np.ndarray) -> memoryview:
    """The dense bytes of an array, for a :class:`TensorRecord`."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def file_constant(tensor: TensorRecord, compressed: bool, key: Hashable, what: str) -> FileConstant:
    """The value of a stored tensor.

    Parameters
    ----------
    tensor
        The stored tensor.
    compressed
        Whether each value of the file begins with a byte that says how it is compressed.
    key
        Identity of the constant.
    what
        Name of the model for messages.

    Raises
    ------
    ModelFormatError
        The value is missing or too short for its shape and element type.
    """
    needed = stored_bytes(tensor.shape, tensor.dtype)
    data = memoryview(b"") if tensor.data is None else tensor.data
    if compressed and needed:
        flag = data[0] if len(data) else -1
        data = data[1:]
        if flag in _STEPS and tensor.dtype.code == DTypeCode.FLOAT32:
            needed = _SCALING_BYTES + math.prod(tensor.shape) * _STEPS[flag].itemsize
        elif flag != _RAW:
            raise ModelFormatError(
                f"{what}: the value of tensor {tensor.name!r} ({tensor.dtype}) is compressed in an unknown way ({flag})"
            )
        compressed = flag != _RAW
    if len(data) < needed:
        raise ModelFormatError(
            f"{what}: the value of tensor {tensor.name!r} has {len(data)} bytes, "
            f"shape {tensor.shape} in {tensor.dtype} takes {needed}"
        )
    return FileConstant(tensor, data[:needed], compressed and needed > 0, key)


def _decode(tensor: TensorRecord, data: memoryview, compressed: bool) -> np.ndarray:
    if compressed:
        return _expand(tensor, data)
    dtype = tensor.dtype
    if dtype.packed_bits:
        return _unpack(tensor, data)
    if dtype.code == DTypeCode.BOOL:
        result: np.ndarray = (np.frombuffer(data, np.uint8) != 0).reshape(tensor.shape)  # numpy relies on 0 and 1
        return result
    array = np.frombuffer(data, dtype.storage).reshape(tensor.shape)
    return array if array.flags.aligned else array.copy()


def _expand(tensor: TensorRecord, data: memoryview) -> np.ndarray:
    stride, base = np.frombuffer(data[:_SCALING_BYTES], "<f4")
    n = math.prod(tensor.shape)
    steps = np.frombuffer(data[_SCALING_BYTES:], np.dtype(f"<u{(len(data) - _SCALING_BYTES) // n}"))
    result: np.ndarray = (steps * stride + base).astype(np.float32, copy=False).reshape(tensor.shape)
    return result


def _unpack(tensor: TensorRecord, data: memoryview) -> np.ndarray:
    """Unpacks to one element per byte; the first element of a row is in the lowest bits."""
    bits = tensor.dtype.packed_bits
    shape = tensor.shape
    row_bytes = (shape[-1] * bits + 7) // 8
    packed = np.frombuffer(data, np.uint8).reshape(*shape[:-1], row_bytes, 1)
    fields = (packed >> np.arange(0, 8, bits, dtype=np.uint8)) & np.uint8((1 << bits) - 1)
    rows: np.ndarray = fields.reshape(*shape[:-1], row_bytes * (8 // bits))[..., : shape[-1]]
    if tensor.dtype.code in _SIGNED:
        half = np.int8(1 << (bits - 1))
        rows = (rows.astype(np.int8) ^ half) - half
    return np.ascontiguousarray(rows, dtype=tensor.dtype.storage)
