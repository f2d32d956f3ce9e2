"""How data gets into a tensor: the rules behind ``set_data_by_copy`` and ``set_data_by_share``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from megengine_lite._api.arguments import elements_to_array, to_shape
from megengine_lite._api.data_sources import code_of_array, raw_memory, require_contiguous
from megengine_lite._api.layout import LiteLayout
from megengine_lite._core.system.integers import to_integer
from megengine_lite._core.system.memory import Storage
from megengine_lite._core.system.strided import NUMPY_TYPES, StridedTensor, count_bytes
from megengine_lite.errors import LiteArgumentError, LiteError, LiteTypeError, LiteValueError, ShapeError


def one_length(length: int, same: int) -> int:
    """The number of bytes given by either of the two keywords of a call; 0 if neither is given."""
    length, same = to_integer(length, "the length of data"), to_integer(same, "the length of data")
    if length and same and length != same:
        raise LiteArgumentError(f"length and data_length mean the same, and are {length} and {same}")
    return length or same


class TensorData(StridedTensor):
    """A strided tensor that takes data from arrays, sequences and raw memory."""

    __slots__ = ("_port",)

    _port: tuple[str, int] | None
    """(name, type code) of the network input that this tensor is, if it is one."""

    def _present_layout(self) -> LiteLayout:
        return self._layout(LiteLayout)

    def _copy_array(self, array: np.ndarray, layout: LiteLayout | Iterable[int] | None) -> None:
        code = code_of_array(array)
        require_contiguous(array)
        shape = array.shape or (1,)
        if not self._contiguous:
            if layout is not None or shape != self._shape or code != self._code:
                raise ShapeError(
                    f"an array of shape {list(array.shape)} and type {array.dtype} cannot be written through a slice "
                    f"with {self._present_layout()}"
                )
            self._modify(lambda window: np.copyto(window, array))
            return
        if layout is not None:
            wanted = self._layout_from(layout)
            if count_bytes(wanted._shape, wanted._code) != array.nbytes:
                raise LiteArgumentError(f"layout {wanted} does not have the {array.nbytes} bytes of the array")
            shape, code = wanted._shape, wanted._code
        self._write_dense(Storage.of_buffer(array), array.nbytes, shape, code)

    def _copy_elements(self, data: Sequence[Any], layout: LiteLayout | Iterable[int] | None) -> None:
        wanted = self._present_layout() if layout is None else self._layout_from(layout)
        shape, dtype = wanted._shape, NUMPY_TYPES[wanted._code]
        count = count_bytes(shape, wanted._code) // dtype.itemsize if shape else 0
        if isinstance(data, range) and data[count:]:  # may be longer than any memory
            raise LiteArgumentError(f"{data} has more numbers than the {count} elements of the tensor")
        array = elements_to_array(data, dtype)
        if array.size == 0 and layout is None:
            return
        if not shape:
            raise LiteError("the tensor has no layout yet; give it one before it takes a list")
        if array.ndim > 1 and array.shape != shape:
            raise LiteArgumentError(f"a nested list of shape {list(array.shape)} for a tensor of shape {list(shape)}")
        if array.size > count:
            raise LiteArgumentError(f"{array.size} numbers for a tensor of {count} elements")
        if self._contiguous or layout is not None:
            self._write_dense(Storage.of_buffer(array), array.nbytes, shape, wanted._code)
        else:
            self._modify(lambda window: _put_first(window, array))

    def _copy_raw(self, data: Any, length: int, layout: LiteLayout | Iterable[int] | None) -> None:
        wanted = self._raw_layout(layout)
        nbytes = count_bytes(wanted._shape, wanted._code)
        memory, size = raw_memory(data, nbytes)
        if layout is None and (length or size or 0) != nbytes:
            raise LiteArgumentError(
                f"{length or size or 0} bytes for a tensor of {nbytes} bytes; pass data_length={nbytes}, or the layout "
                "of the data"
            )
        _require_bytes(data, size, length, nbytes)
        if not self._contiguous:
            raise LiteArgumentError("raw memory cannot be written through a strided slice")
        self._write_dense(memory, nbytes, wanted._shape, wanted._code)

    def _write_dense(self, memory: Storage, nbytes: int, shape: tuple[int, ...], code: int) -> None:
        """Uses a layout and the first bytes of a memory from now on."""
        self._require_writable(count_bytes(shape, code))
        self._set_layout(shape, code)
        self._copy_bytes(memory, 0, nbytes)

    def _share_array(self, array: np.ndarray, length: int, layout: LiteLayout | Iterable[int] | None) -> None:
        code = code_of_array(array)
        shape = array.shape
        nbytes = array.nbytes
        if not shape:
            raise LiteValueError("an array without dimensions cannot be shared; reshape it to (1,)")
        require_contiguous(array)
        if length and length != nbytes:
            raise LiteArgumentError(f"length is {length}, the array has {nbytes} bytes")
        if layout is not None:
            wanted = self._layout_from(layout)
            needed = count_bytes(wanted._shape, wanted._code)
            if needed > nbytes:
                raise LiteArgumentError(f"layout {wanted} needs {needed} bytes, the array has {nbytes}")
            shape, code = wanted._shape, wanted._code
        elif nbytes and nbytes == self._nbytes:
            if code != self._code:
                raise LiteTypeError(
                    f"{self._label()} holds {NUMPY_TYPES[self._code]}, the array {array.dtype}; convert the array, or "
                    "assign the tensor's layout first"
                )
            shape = self._shape
        self._require_port_dtype(code)
        self._adopt(Storage.of_buffer(array), shape, code)

    def _share_raw(self, data: Any, length: int, layout: LiteLayout | Iterable[int] | None) -> None:
        wanted = self._raw_layout(layout)
        nbytes = count_bytes(wanted._shape, wanted._code)
        memory, size = raw_memory(data, nbytes)
        _require_bytes(data, size, length, nbytes)
        self._require_port_dtype(wanted._code)
        self._adopt(memory, wanted._shape, wanted._code)

    def _layout_from(self, layout: LiteLayout | Iterable[int]) -> LiteLayout:
        """The layout that comes with data."""
        wanted = layout if isinstance(layout, LiteLayout) else LiteLayout._make(to_shape(layout), self._code)
        if not wanted._shape:
            raise LiteValueError("a layout without dimensions has no room for data")
        return wanted

    def _raw_layout(self, layout: LiteLayout | Iterable[int] | None) -> LiteLayout:
        if layout is not None:
            return self._layout_from(layout)
        if not self._shape:
            raise LiteArgumentError("the tensor has no layout yet; pass the layout of the data")
        return self._present_layout()

    def _label(self) -> str:
        return f"input {self._port[0]!r}" if self._port else "the tensor"

    def _require_port_dtype(self, code: int) -> None:
        if self._port is not None and code != self._port[1]:
            name, wanted = self._port
            raise LiteTypeError(f"input {name!r} of the network is {NUMPY_TYPES[wanted]}, not {NUMPY_TYPES[code]}")


def _put_first(window: np.ndarray, values: np.ndarray) -> None:
    """Sets the first elements of an array."""
    if values.size == window.size:
        window[...] = values.reshape(window.shape)
    else:
        window.flat[: values.size] = values


def _require_bytes(data: Any, size: int | None, length: int, nbytes: int) -> None:
    """Checks the size of raw memory, as far as it is known, and the length that the caller states."""
    if length and length != nbytes:
        raise LiteArgumentError(f"the length of the data is {length}, the layout has {nbytes} bytes")
    if size is not None and size < nbytes:
        raise LiteArgumentError(f"{type(data).__name__} of {size} bytes for {nbytes} bytes of the tensor")
