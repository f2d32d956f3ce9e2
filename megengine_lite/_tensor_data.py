"""How data gets into a tensor: the rules behind ``set_data_by_copy`` and ``set_data_by_share``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from megengine_lite._core.layout import elements_to_array, to_shape
from megengine_lite._core.memory import NUMPY_TYPES, Storage, StridedTensor, buffer_address, count_bytes
from megengine_lite._core.sources import code_of_array, raw_address, require_contiguous
from megengine_lite.errors import LiteArgumentError, LiteError, LiteTypeError, LiteValueError, ShapeError
from megengine_lite.layout import LiteLayout


class TensorData(StridedTensor):
    """A strided tensor that takes data from arrays, sequences and raw memory."""

    __slots__ = ("_port",)

    _port: tuple[str, int] | None
    """(name, type code) of the network input that this tensor is, if it is one."""

    def _present_layout(self) -> LiteLayout:
        return LiteLayout._make(self._shape, self._code)

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
            self._writable_array()[...] = array
            return
        self._require_writable()
        if layout is not None:
            wanted = self._layout_from(layout)
            if count_bytes(wanted._shape, wanted._code) != array.nbytes:
                raise LiteArgumentError(f"layout {wanted} does not have the {array.nbytes} bytes of the array")
            shape, code = wanted._shape, wanted._code
        address, nbytes = buffer_address(array)
        self._set_layout(shape, code)
        self._copy_bytes(address, nbytes)

    def _copy_elements(self, data: Sequence[Any]) -> None:
        array = elements_to_array(data, NUMPY_TYPES[self._code])
        if array.size == 0:
            return
        shape = self._shape
        if not shape:
            raise LiteError("the tensor has no layout yet; give it one before it takes a list")
        count = self._nbytes // array.itemsize
        if array.ndim > 1 and array.shape != shape:
            raise LiteArgumentError(f"a nested list of shape {list(array.shape)} for a tensor of shape {list(shape)}")
        if array.size > count:
            raise LiteArgumentError(f"{array.size} numbers for a tensor of {count} elements")
        if self._contiguous:
            self._copy_bytes(*buffer_address(array))
        else:
            target = self._writable_array()
            if array.size == count:
                target[...] = array.reshape(shape)
            else:
                target.flat[: array.size] = array

    def _copy_raw(self, data: Any, length: int, layout: LiteLayout | Iterable[int] | None) -> None:
        address, size, owner = raw_address(data)
        wanted = self._present_layout() if layout is None else self._layout_from(layout)
        nbytes = count_bytes(wanted._shape, wanted._code) if wanted._shape else 0
        if layout is None and (length or size or 0) != nbytes:
            raise LiteArgumentError(
                f"{length or size or 0} bytes for a tensor of {nbytes} bytes; pass data_length={nbytes}, or the layout "
                "of the data"
            )
        if length and length != nbytes:
            raise LiteArgumentError(f"data_length is {length}, the layout has {nbytes} bytes")
        if size is not None and size < nbytes:
            raise LiteArgumentError(f"{type(data).__name__} of {size} bytes for {nbytes} bytes of the tensor")
        if not self._contiguous:
            raise LiteArgumentError("raw memory cannot be written through a strided slice")
        self._require_writable()
        self._set_layout(wanted._shape, wanted._code)
        self._copy_bytes(address, nbytes)
        del owner  # kept until here

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
        address, size, owner = raw_address(data)
        wanted = self._present_layout() if layout is None else self._layout_from(layout)
        nbytes = count_bytes(wanted._shape, wanted._code) if wanted._shape else 0
        if length and length != nbytes:
            raise LiteArgumentError(f"length is {length}, the layout has {nbytes} bytes")
        if size is not None and size < nbytes:
            raise LiteArgumentError(f"{type(data).__name__} of {size} bytes for {nbytes} bytes of the tensor")
        self._require_port_dtype(wanted._code)
        if size is not None:
            storage = Storage.of_buffer(data)
        else:
            storage = Storage.at(address, nbytes, owner)
        self._adopt(storage, wanted._shape, wanted._code)

    def _layout_from(self, layout: LiteLayout | Iterable[int]) -> LiteLayout:
        if isinstance(layout, LiteLayout):
            return layout
        return LiteLayout._make(to_shape(layout), self._code)

    def _label(self) -> str:
        return f"input {self._port[0]!r}" if self._port else "the tensor"

    def _require_port_dtype(self, code: int) -> None:
        if self._port is not None and code != self._port[1]:
            name, wanted = self._port
            raise LiteTypeError(f"input {name!r} of the network is {NUMPY_TYPES[wanted]}, not {NUMPY_TYPES[code]}")

    def _require_writable(self) -> None:
        if self._readonly:
            raise LiteArgumentError(
                "the tensor shares memory that is read-only: share a writable array, or make a new tensor"
            )
