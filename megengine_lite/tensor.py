"""Tensors: :class:`LiteLayout`, :class:`LiteTensor`, :func:`LiteTensorConcat`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from megengine_lite._api.arguments import MAX_DIM, to_dtype_code, to_integers, to_list, to_shape
from megengine_lite._api.data_sources import as_array, as_shared_array, from_dlpack, is_raw_memory
from megengine_lite._api.layout import LiteLayout, ctype_to_lite_dtypes, lite_dtype_2_numpy
from megengine_lite._api.tensor_data import one_length
from megengine_lite._api.tensor_reading import TensorReading
from megengine_lite._core.device.interface import Device
from megengine_lite._core.runtime.devices import get_device
from megengine_lite._core.system.integers import to_integer
from megengine_lite._core.system.strided import NUMPY_TYPES
from megengine_lite.errors import (
    DeviceError,
    LiteArgumentError,
    LiteError,
    LiteIndexError,
    LiteTypeError,
    LiteValueError,
    ShapeError,
    brief,
)
from megengine_lite.struct import LiteDeviceType

__all__ = ["MAX_DIM", "LiteLayout", "LiteTensor", "LiteTensorConcat", "ctype_to_lite_dtypes", "lite_dtype_2_numpy"]


class LiteTensor(TensorReading):
    """A dense array of numbers, or a strided window into one.

    Parameters
    ----------
    layout
        Shape and element type. It may also be a shape, if ``dtype`` is given.
    device_type
        Where the memory is: ``LITE_CPU`` (``LITE_DEVICE_DEFAULT`` means the same), or another device that exists.
    device_id
        On a CPU a label, -1 or more.
    is_pinned_host
        Memory of the host that the device copies from and to fast. It has no effect on a CPU.
    shapes, dtype
        The layout, if ``layout`` is not given.

    Raises
    ------
    DeviceError
        There is no such device.

    Notes
    -----
    Memory is allocated when it is first needed, zeroed and 64-byte aligned. Tensors can share memory: with arrays
    (:meth:`set_data_by_share`), with each other (:meth:`share_memory_with`, :meth:`slice`), and as arrays
    (:meth:`get_data_by_share`, ``numpy.asarray``, DLPack). Each of them keeps the memory alive. If a tensor needs more
    memory than it has, it gets new memory, and the others keep the old one.

    Reading a tensor from several threads is safe; writing needs a lock of the caller's.

    Examples
    --------
    >>> tensor = LiteTensor(LiteLayout([2, 3], "int32"))
    >>> tensor.set_data_by_copy([1, 2, 3, 4, 5, 6])
    >>> tensor.slice([0, 1], [2, 3]).to_numpy()
    array([[2, 3],
           [5, 6]], dtype=int32)
    """

    __slots__ = ("__weakref__",)

    def __init__(
        self,
        layout: LiteLayout | Iterable[int] | None = None,
        device_type: LiteDeviceType | int = LiteDeviceType.LITE_CPU,
        device_id: int = 0,
        is_pinned_host: bool = False,
        shapes: Iterable[int] | None = None,
        dtype: object = None,
    ):
        device = get_device(device_type)
        try:  # not errors_of, which would take longer
            device_id = device.check_id(device_id)
        except LiteError:
            raise
        except Exception as error:
            raise device.fault(error) from error
        if not isinstance(is_pinned_host, bool | int | np.bool_):
            raise LiteTypeError(f"is_pinned_host is a bool, not {type(is_pinned_host).__name__}")
        self._place(device, device_id, bool(is_pinned_host))
        self._port = None
        if isinstance(layout, LiteLayout):
            self._set_layout(layout._shape, layout._code)
        else:
            shape = layout if layout is not None else shapes
            self._set_layout(() if shape is None else to_shape(shape), to_dtype_code(dtype))

    def _place(self, device: Device, device_id: int, pinned: bool) -> None:
        """Sets where new memory comes from; the present memory stays."""
        self._device = device
        self._device_id = device_id
        self._pinned = pinned
        self._device_type = device.type
        self._on_host = pinned or device.host_visible

    def _sibling(self) -> LiteTensor:
        """An empty tensor on the same device."""
        other = LiteTensor.__new__(LiteTensor)
        other._place(self._device, self._device_id, self._pinned)
        other._port = None
        return other

    def _on_cpu(self) -> LiteTensor:
        """An empty tensor on the CPU."""
        return LiteTensor()

    # ---- properties ---------------------------------------------------------------------------------------------

    @property
    def layout(self) -> LiteLayout:
        """Shape and element type, as a new object.

        Assign a :class:`LiteLayout`, or a shape to keep the element type. Memory and bytes stay if the new layout
        does not need more; else the tensor gets new memory.
        """
        return self._layout(LiteLayout)

    @layout.setter
    def layout(self, layout: LiteLayout | Iterable[int]) -> None:
        if isinstance(layout, LiteLayout):
            self._set_layout(layout._shape, layout._code)
        elif layout is None:
            raise LiteTypeError("a layout is a LiteLayout or a shape, not None")
        else:
            self._set_layout(to_shape(layout), self._code)

    @property
    def is_pinned_host(self) -> bool:
        """The argument of the constructor; True for inputs and outputs that a device copies from and to the host."""
        return self._pinned

    @property
    def device_type(self) -> LiteDeviceType:
        """The kind of device that holds the memory."""
        return self._device_type

    @property
    def device_id(self) -> int:
        """The id that the constructor was given; tensors of a network have that of the network."""
        return self._device_id

    @property
    def is_continue(self) -> bool:
        """Whether the elements lie side by side, in row-major order."""
        return self._contiguous

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self._nbytes

    # ---- writing ------------------------------------------------------------------------------------------------

    def fill_zero(self) -> None:
        """Sets all elements to zero."""
        if not self._shape:
            raise LiteError("the tensor has no layout yet; give it one before fill_zero")
        self._fill_zero()

    def set_data_by_copy(
        self,
        data: Any,
        data_length: int = 0,
        layout: LiteLayout | Iterable[int] | None = None,
        *,
        length: int = 0,
    ) -> None:
        """Copies data into the tensor.

        Parameters
        ----------
        data
            Its type decides what happens:

            - *numpy array*, C-contiguous: the tensor takes the array's shape and type, or ``layout`` if that has as
              many bytes. Objects with DLPack, ``__array__`` or a typed buffer (``array.array``) count as arrays.
            - *list*, tuple, range: numbers, converted to the tensor's type. The layout stays; fewer numbers than
              elements set the first ones. A nested list must have the tensor's shape.
            - *raw memory*: ``ctypes.c_void_p``, an address, a ctypes pointer, array or structure, bytes, bytearray,
              memoryview, mmap. ``data_length`` or ``layout`` must give the number of bytes, except for buffers.
        data_length
            Bytes of raw memory; must be the size of the tensor.
        layout
            New layout for the tensor.
        length
            Another name of ``data_length``.

        Raises
        ------
        LiteArgumentError
            Array not contiguous, too many numbers, or a length that is not the tensor's; nothing is written.
        LiteTypeError, LiteValueError
            A type that tensors cannot have; numbers that do not fit.

        Examples
        --------
        >>> tensor = LiteTensor()
        >>> tensor.set_data_by_copy(np.arange(4, dtype="int8"))
        >>> tensor.layout
        {'shapes': [4], 'ndim': 1, 'data_type': <class 'numpy.int8'>}
        """
        if isinstance(data, np.ndarray):
            self._copy_array(data, layout)
        elif isinstance(data, list | tuple | range):
            self._copy_elements(data, layout)
        elif is_raw_memory(data):
            self._copy_raw(data, one_length(data_length, length), layout)
        elif (array := as_array(data)) is not None:
            self._copy_array(array, layout)
        else:
            raise LiteArgumentError(
                f"cannot copy from {type(data).__name__}: give a numpy array, a list of numbers, a buffer, or a "
                "ctypes.c_void_p with data_length"
            )

    def set_data_by_share(
        self,
        data: Any,
        length: int = 0,
        layout: LiteLayout | Iterable[int] | None = None,
        *,
        data_length: int = 0,
    ) -> None:
        """Makes the tensor use memory of the caller, without a copy.

        Parameters
        ----------
        data
            - *numpy array*, C-contiguous, or an object with DLPack, an array interface or a typed buffer
              (``array.array``): kept alive as long as the memory is in use. With as many bytes as the tensor and the
              same type, the tensor keeps its shape; with another size it takes the array's shape and type. A read-only
              array makes the tensor read-only.
            - ``ctypes.c_void_p``, an address or a ctypes pointer: the caller keeps the memory alive.
            - bytes, bytearray, memoryview, mmap, ctypes arrays and structures: raw bytes, kept alive.
        length
            Bytes; must be the size of the array, or of the tensor for raw memory. 0 means: not checked.
        layout
            New layout for the tensor; no larger than the memory, if its size is known.
        data_length
            Another name of ``length``.

        Raises
        ------
        LiteArgumentError
            Array or tensor not contiguous, wrong length.
        DeviceError
            The tensor is in memory of a device.
        LiteTypeError
            Another element type (elements are never reinterpreted unless ``layout`` says so), or something that has no
            memory to share.

        Examples
        --------
        >>> array = np.zeros([2, 2], "float32")
        >>> tensor = LiteTensor()
        >>> tensor.set_data_by_share(array)
        >>> array[1, 1] = 7
        >>> tensor.to_numpy().tolist()
        [[0.0, 0.0], [0.0, 7.0]]
        """
        length = one_length(length, data_length)
        if not self._on_host:
            raise DeviceError(
                f"{self._label()} is in memory of {self._device.name} and cannot share memory of the host: use "
                "set_data_by_copy, or a tensor with is_pinned_host"
            )
        if not self._contiguous:
            raise LiteArgumentError("a strided slice cannot take other memory; make a new tensor")
        if isinstance(data, np.ndarray):
            self._share_array(data, length, layout)
        elif is_raw_memory(data):
            self._share_raw(data, length, layout)
        elif data is None:
            raise LiteValueError("there is no memory at None")
        elif (array := as_shared_array(data)) is not None:
            self._share_array(array, length, layout)
        else:
            raise LiteTypeError(
                f"{type(data).__name__} has no memory to share; make a numpy array of it, or use set_data_by_copy"
            )

    def copy_from(self, src_tensor: LiteTensor) -> None:
        """Copies another tensor's elements, shape and type into this one.

        A strided slice keeps its layout and takes only a tensor of the same shape and type. The two may overlap.
        """
        _require_tensor(src_tensor)
        shape, code = src_tensor._shape, src_tensor._code
        if not shape:
            raise LiteError("the source tensor has no layout, so there is nothing to copy")
        if src_tensor is self:
            return
        if not self._contiguous:
            if shape != self._shape or code != self._code:
                raise ShapeError(f"a tensor with {src_tensor.layout} cannot be written through a slice {self.layout}")
            self._modify(lambda window: np.copyto(window, src_tensor._read()))
            return
        self._require_writable(src_tensor._nbytes)
        if src_tensor._contiguous:
            storage, offset, nbytes = src_tensor._storage, src_tensor._offset, src_tensor._nbytes
            self._set_layout(shape, code)
            self._copy_bytes(storage, offset, nbytes)
        else:
            source = src_tensor._read()  # holds the memory, should it be this tensor's old one
            self._set_layout(shape, code)
            self._modify(lambda window: np.copyto(window, source))

    def share_memory_with(self, src_tensor: LiteTensor) -> None:
        """Becomes another name of ``src_tensor``: same memory, layout (strided, too), device.

        If ``src_tensor`` later gets other memory, this tensor keeps the present one.

        Raises
        ------
        DeviceError
            One of the two is in memory that the host reads, the other is not.
        """
        _require_tensor(src_tensor)
        if self._on_host != src_tensor._on_host:
            raise DeviceError(
                "a tensor in host memory and one in memory of a device cannot share it: copy the elements (copy_from), "
                "or make a tensor with the other's device_type and is_pinned_host"
            )
        if not src_tensor._shape:
            raise LiteError("the source tensor has no layout, so there is no memory to share")
        self._share_with(src_tensor)
        self._place(src_tensor._device, src_tensor._device_id, src_tensor._pinned)

    # ---- shape --------------------------------------------------------------------------------------------------

    def reshape(self, shape: Iterable[int]) -> None:
        """Changes the shape; the number of elements stays. One dimension may be -1: it is computed.

        Raises
        ------
        ShapeError
            Another number of elements.
        LiteError
            The tensor is a strided slice.
        """
        dims = to_integers(shape, "a shape", MAX_DIM)
        count = self._nbytes // NUMPY_TYPES[self._code].itemsize
        if not dims or dims.count(-1) > 1 or min(dims) < -1:
            raise ShapeError(f"{brief(dims)} is not a shape to reshape to")
        if -1 in dims:
            known = 1
            for d in dims:
                known *= abs(d)
            if known == 0 or count % known:
                raise ShapeError(f"{count} elements cannot have shape {dims}")
            dims[dims.index(-1)] = count // known
        new = to_shape(dims)
        product = 1
        for d in new:
            product *= d
        if product != count:
            raise ShapeError(f"{count} elements of shape {list(self._shape)} cannot have shape {dims}")
        self._reshape(new)

    def slice(self, start: Sequence[int], end: Sequence[int], step: Sequence[int] | None = None) -> LiteTensor:
        """A window into this tensor that shares its memory, by Python's slicing rules.

        Parameters
        ----------
        start, end, step
            One entry for each of the first dimensions; the remaining ones are kept whole. ``step`` is 1 if omitted.

        Returns
        -------
        LiteTensor
            ``is_continue`` tells whether its elements lie side by side.
        """
        first, last = to_integers(start, "start", MAX_DIM), to_integers(end, "end", MAX_DIM)
        by = [] if step is None else to_integers(step, "step", MAX_DIM)
        by = by or [1] * len(first)
        if not len(first) == len(last) == len(by):
            raise LiteArgumentError(f"start, end and step have {len(first)}, {len(last)} and {len(by)} entries")
        if len(first) > len(self._shape):
            raise LiteIndexError(f"{len(first)} indices for a tensor of shape {list(self._shape)}")
        if 0 in by:
            raise LiteValueError("a step of a slice cannot be 0")
        window = self._sibling()
        window._become_slice(self, first, last, by)
        return window

    def update(self) -> None:
        """Does nothing: the properties are always up to date."""

    @classmethod
    def from_dlpack(cls, source: Any) -> LiteTensor:
        """A tensor over the memory of an object with ``__dlpack__`` (an array of torch, jax, …) on a CPU, or a capsule.

        Examples
        --------
        >>> LiteTensor.from_dlpack(np.ones(3, "float32")).layout.shapes
        [3]
        """
        tensor = cls()
        tensor._share_array(from_dlpack(source), 0, None)
        return tensor

    def __reduce__(self) -> Any:
        return _rebuild, (self.to_numpy(), self.layout, self._device_id, self._pinned, self.device_type)

    def __repr__(self) -> str:
        return str(
            {
                "layout": self.layout,
                "device_type": self.device_type,
                "device_id": self.device_id,
                "is_pinned_host": self.is_pinned_host,
            }
        )

    def _repr_html_(self) -> str:
        from megengine_lite._api.notebooks import facts_table, tensor_facts

        return facts_table(tensor_facts(self))


def _rebuild(
    array: np.ndarray,
    layout: LiteLayout,
    device_id: int,
    pinned: bool,
    device_type: LiteDeviceType = LiteDeviceType.LITE_CPU,
) -> LiteTensor:
    """A pickled tensor."""
    tensor = LiteTensor(layout, device_type, device_id, pinned)
    if array.size:
        tensor.set_data_by_copy(array)
    return tensor


def _require_tensor(tensor: object) -> LiteTensor:
    if not isinstance(tensor, LiteTensor):
        raise LiteArgumentError(f"a LiteTensor is needed, not {type(tensor).__name__}")
    return tensor


def LiteTensorConcat(
    tensors: Sequence[LiteTensor],
    dim: int,
    device_type: LiteDeviceType | int = LiteDeviceType.LITE_DEVICE_DEFAULT,
    device_id: int = -1,
) -> LiteTensor:
    """Joins tensors along a dimension into a new one.

    Parameters
    ----------
    tensors
        All must have the same element type, and the same shape except for ``dim``. Empty tensors are skipped.
    dim
        The dimension; negative ones count from the end.
    device_type, device_id
        Device of the result; by default that of the first tensor.

    Raises
    ------
    ShapeError, LiteTypeError, LiteIndexError
        The tensors do not fit together, or have no such dimension.

    Examples
    --------
    >>> a = LiteTensor(LiteLayout([1, 2], "int8"))
    >>> LiteTensorConcat([a, a, a], 0).layout.shapes
    [3, 2]
    """
    if not isinstance(tensors, Iterable):
        raise LiteTypeError(f"tensors is a list of tensors, not {type(tensors).__name__}")
    dim = to_integer(dim, "dim")
    tensors = to_list(tensors, "a list of tensors", None, _require_tensor)
    first = tensors[0] if tensors else None
    is_default = device_type == LiteDeviceType.LITE_DEVICE_DEFAULT
    device = get_device(first.device_type if is_default and first is not None else device_type)
    is_pinned_host = False
    if first is not None and first.device_type == device.type:
        device_id = first.device_id if device_id == -1 else device_id
        is_pinned_host = first.is_pinned_host
    result = LiteTensor(device_type=device.type, device_id=device_id, is_pinned_host=is_pinned_host)
    if first is None:
        return result
    shape = first._shape
    if not -len(shape) <= dim < len(shape):
        raise LiteIndexError(f"dim {dim} is out of range for tensors of shape {list(shape)}")
    dim %= len(shape)
    for t in tensors:
        if t._code != first._code:
            raise LiteTypeError(f"{t.layout.data_type.name} and {first.layout.data_type.name} do not concatenate")
        if len(t._shape) != len(shape) or t._shape[:dim] + t._shape[dim + 1 :] != shape[:dim] + shape[dim + 1 :]:
            raise ShapeError(f"shapes {list(shape)} and {list(t._shape)} do not concatenate along dimension {dim}")
    total = sum(t._shape[dim] for t in tensors)
    result._set_layout((*shape[:dim], total, *shape[dim + 1 :]), first._code)
    if result._nbytes:
        result._modify(lambda out: np.concatenate([t._read() for t in tensors], axis=dim, out=out))
    return result
