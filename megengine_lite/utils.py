"""Helpers around the runtime: :class:`TensorBatchCollector`."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import numpy as np

from megengine_lite._api.arguments import require_unmasked, to_list, to_shape
from megengine_lite._core.system.integers import to_integer
from megengine_lite.errors import LiteArgumentError, LiteIndexError, LiteTypeError, ShapeError
from megengine_lite.log import warn
from megengine_lite.struct import LiteDataType, LiteDeviceType
from megengine_lite.tensor import LiteLayout, LiteTensor

__all__ = ["TensorBatchCollector"]


class TensorBatchCollector:
    """Collects the samples of a batch one by one in one tensor, without copies in between.

    Parameters
    ----------
    shape
        Shape of the whole batch; the first dimension is the number of samples.
    dtype
        Element type, in any form.
    device_type, device_id, is_pinned_host
        As for :class:`LiteTensor`. The default device is CUDA, as in the original: on a machine without it, pass
        ``device_type=LiteDeviceType.LITE_CPU``.
    tensor
        A tensor to collect in, instead of a new one. ``shape`` must be its shape; its type and device are used.

    Raises
    ------
    DeviceError
        There is no such device.

    Notes
    -----
    Several threads may collect at the same time.

    Examples
    --------
    >>> batch = TensorBatchCollector([2, 3], dtype="int32", device_type=LiteDeviceType.LITE_CPU)
    >>> batch.collect(np.array([1, 2, 3], "int32")), batch.collect(np.array([4, 5, 6], "int32"))
    (0, 1)
    >>> batch.to_numpy()
    array([[1, 2, 3],
           [4, 5, 6]], dtype=int32)
    """

    def __init__(
        self,
        shape: Iterable[int],
        dtype: object = LiteDataType.LITE_INT8,
        device_type: LiteDeviceType | int = LiteDeviceType.LITE_CUDA,
        device_id: int = 0,
        is_pinned_host: bool = False,
        tensor: LiteTensor | None = None,
    ):
        dims = to_shape(shape)
        if not dims:
            raise LiteIndexError("a batch has at least one dimension: the number of samples")
        if tensor is None:
            tensor = LiteTensor(LiteLayout(dims, dtype), device_type, device_id, is_pinned_host)
        elif not isinstance(tensor, LiteTensor):
            raise LiteTypeError(f"tensor is a LiteTensor, not {type(tensor).__name__}")
        elif list(dims) != tensor.layout.shapes:
            raise LiteArgumentError(f"shape is {list(dims)}, the tensor has {tensor.layout.shapes}")
        self.shape = shape if isinstance(shape, list) else list(dims)
        self.dtype = int(tensor.layout.data_type)
        self.device_type = self.dev_type = tensor.device_type
        self.device_id = self.dev_id = tensor.device_id
        self.is_pinned_host = tensor.is_pinned_host
        self._tensor = tensor
        self._item = dims[1:]
        self._count = dims[0]
        self._free = list(range(dims[0]))  # in the order of reuse
        self._lock = threading.Lock()

    def collect(self, array: np.ndarray | LiteTensor) -> int:
        """Copies a sample into the first free place.

        Parameters
        ----------
        array
            An array (strided ones, too) or tensor with the shape of one sample and the batch's element type.

        Returns
        -------
        int
            The id of the place; -1, with a warning, if the batch is full.
        """
        source = self._checked(array)
        self._check_places()
        batch_id = self._take()
        if batch_id >= 0:
            self._put(batch_id, source)
        return batch_id

    def collect_id(self, array: np.ndarray | LiteTensor, batch_id: int) -> int:
        """Copies a sample into a place of the caller's choice; warns if it is taken, and overwrites it.

        Raises
        ------
        LiteIndexError
            There is no such place.
        """
        batch_id = self._checked_id(batch_id)
        source = self._checked(array)
        self._check_places()
        with self._lock:
            taken = batch_id not in self._free
            if not taken:
                self._free.remove(batch_id)
        if taken:
            warn(f"batch id {batch_id} is collected already; it is overwritten")
        self._put(batch_id, source)
        return batch_id

    def collect_by_ctypes(self, data: Any, length: int) -> int:
        """Copies a sample from raw memory (an address or a ``c_void_p``) of ``length`` bytes, the size of one sample.

        Returns
        -------
        int
            The id; -1, with a warning, if the batch is full.
        """
        sample = LiteTensor(LiteLayout(self._item or (1,), self._tensor.layout.dtype))
        if to_integer(length, "length") != sample.nbytes:
            raise LiteArgumentError(f"length is {length}, a sample of this batch has {sample.nbytes} bytes")
        sample.set_data_by_share(data, length)
        source = sample.get_data_by_share().reshape(self._item)
        self._check_places()
        batch_id = self._take()
        if batch_id >= 0:
            self._put(batch_id, source)
        return batch_id

    def free(self, indexes: Iterable[int]) -> None:
        """Makes places free again; they are reused in the order in which they were freed.

        Warns about places that are free already.
        """
        ids = to_list(indexes, "a list of batch ids", self._count, self._checked_id)
        with self._lock:
            for batch_id in ids:
                if batch_id in self._free:
                    warn(f"batch id {batch_id} is free already")
                else:
                    self._free.append(batch_id)

    def get_tensor_at(self, idx: int) -> LiteTensor:
        """One sample as a tensor of shape ``[1, …]`` that shares the batch's memory; warns if it is not collected."""
        idx = self._checked_id(idx)
        if idx in self._free:
            warn(f"batch id {idx} is not collected")
        return self._tensor.slice([idx], [idx + 1])

    def get(self) -> LiteTensor:
        """The tensor of the whole batch."""
        return self._tensor

    def to_numpy(self) -> np.ndarray:
        """The whole batch as a new array."""
        return self._tensor.to_numpy()

    def _take(self) -> int:
        with self._lock:
            if self._free:
                return self._free.pop(0)
        warn("the batch is full: free places before you collect more")
        return -1

    def _check_places(self) -> None:
        """Raises if no sample can be written. It is called before a place is taken."""
        tensor = self._tensor
        tensor._require_writable(tensor._nbytes)
        if tensor._shape != (self._count, *self._item):
            raise ShapeError(
                f"the batch's tensor was given shape {list(tensor._shape)}; it needs {[self._count, *self._item]}"
            )

    def _put(self, batch_id: int, sample: np.ndarray) -> None:
        self._tensor.slice([batch_id], [batch_id + 1])._modify(lambda place: np.copyto(place, sample))

    def _checked_id(self, batch_id: int) -> int:
        number = to_integer(batch_id, "a batch id")
        if not 0 <= number < self._count:
            raise LiteIndexError(f"batch id {number} is out of range for a batch of {self._count}")
        return number

    def _checked(self, array: np.ndarray | LiteTensor) -> np.ndarray:
        if isinstance(array, LiteTensor):
            source = array._read()
        elif isinstance(array, np.ndarray | np.generic):
            require_unmasked(array)
            source = np.asarray(array)
        else:
            raise LiteArgumentError(f"a sample is a numpy array or a LiteTensor, not {type(array).__name__}")
        if source.shape != self._item and not (self._item == () and source.shape == (1,)):
            raise ShapeError(f"a sample of this batch has shape {list(self._item)}, not {list(source.shape)}")
        wanted = self._tensor.layout.dtype
        if source.dtype == np.uint32 and wanted is np.int32:
            source = source.view(np.int32)
        if source.dtype != wanted:
            raise LiteArgumentError(f"a sample of this batch is {np.dtype(wanted)}, not {source.dtype}")
        return source.reshape(self._item)
