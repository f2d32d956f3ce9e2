"""How data gets out of a tensor: as arrays, addresses, DLPack. Public as a part of :class:`LiteTensor`."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from megengine_lite._api.tensor_data import TensorData
from megengine_lite._core.device.interface import Device
from megengine_lite._core.system.device_errors import errors_of
from megengine_lite._core.system.dlpack import CPU_DEVICE
from megengine_lite.errors import LiteError, LiteMemoryError, LiteValueError, brief
from megengine_lite.struct import LiteDeviceType


class TensorReading(TensorData):
    """The part of :class:`LiteTensor` that gives its elements to others."""

    __slots__ = ("_device", "_device_id", "_device_type", "_on_host", "_pinned")

    # Where new memory comes from: _device.allocate(nbytes, _device_id, _pinned).
    _device: Device
    _device_id: int
    _pinned: bool
    _device_type: LiteDeviceType  # the device's; kept here because programs ask often
    _on_host: bool  # whether the host reaches the memory

    def _sibling(self) -> Any:
        """An empty tensor on the same device."""
        raise NotImplementedError

    def _on_cpu(self) -> Any:
        """An empty tensor on the CPU."""
        raise NotImplementedError

    def to_numpy(self) -> np.ndarray:
        """The elements as a new numpy array."""
        return self._copied()

    def _copied(self, dtype: Any = None) -> np.ndarray:
        """The elements as a new array."""
        array = self._read()
        try:
            return np.array(array, dtype, order="C")
        except MemoryError as error:
            raise LiteMemoryError(f"there is not enough memory for a copy of {array.nbytes} bytes") from error

    def get_data_by_share(self) -> np.ndarray:
        """A numpy array over the tensor's memory, with its strides.

        It keeps the memory alive and shows later changes; for an output, also the results of the next forward. If the
        tensor gets other memory, the array keeps the old one.

        Raises
        ------
        DeviceError
            The host cannot read the memory; use :meth:`to_numpy`.
        """
        return self._array()

    def get_ctypes_memory(self) -> ctypes.c_void_p:
        """The address of the first element, valid until the tensor gets other memory. Allocates if needed.

        Raises
        ------
        DeviceError
            The host cannot read the memory; use :meth:`to_numpy`.
        """
        if not self._shape:
            raise LiteError("the tensor has no layout yet, so it has no memory")
        return ctypes.c_void_p(self._address)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self._array()
        if dtype is not None and np.dtype(dtype) != array.dtype:
            if copy is False:
                raise LiteValueError(f"{array.dtype} cannot become {np.dtype(dtype)} without a copy")
            return self._copied(dtype)
        return self._copied() if copy else array

    @property
    def __array_interface__(self) -> dict[str, Any]:
        # The memory is given as an object, not as an address, so that the receiver keeps it alive.
        array = self._array()
        base = self._storage
        if array.nbytes == 0:
            return {"version": 3, "shape": array.shape, "typestr": array.dtype.str, "data": b""}
        return {
            "version": 3,
            "shape": array.shape,
            "typestr": array.dtype.str,
            "strides": array.strides,
            "data": base,
            "offset": self._address - base.address,
        }

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        here = self.__dlpack_device__()
        wanted = here if dl_device is None else (dl_device[0], dl_device[1])
        if stream is not None and self._on_host:
            raise LiteValueError(f"host memory has no streams: stream is None, not {brief(stream)}")
        if wanted not in (here, CPU_DEVICE) or (wanted != here and copy is False):
            where = "host memory" if self._on_host else f"memory of {self._device.name}"
            raise BufferError(f"the tensor is in {where} and cannot be exported to DLPack device {dl_device}")
        copy = copy or wanted != here
        source = self
        if copy:
            source = self._sibling() if wanted == here else self._on_cpu()
            if self._shape:
                source.copy_from(self)
            else:
                source._set_layout(self._shape, self._code)
        capsule = source._capsule(wanted, max_version is not None and max_version[0] >= 1, bool(copy))
        if not source._on_host:
            with errors_of(source._device):
                source._device.synchronize(source._device_id)  # the other library's streams do not know ours
        return capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        with errors_of(self._device):
            return self._device.dlpack_device(self._device_id, self._pinned)
