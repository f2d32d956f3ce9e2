"""Strided tensors: typed windows into storages.

A :class:`StridedTensor` is a typed, strided window into a :class:`~megengine_lite._core.system.memory.Storage`. A
tensor that grows gets a new storage; everything that was made from the old one (slices, numpy views, DLPack capsules)
keeps the old one alive. So nothing dangles.

``pending`` is None or an object with a method ``wait``: work in progress that writes the tensor. It is waited for
before the elements are read or written. ``busy`` is work that reads them: before the tensor writes, it calls the method
``join`` of that work, which waits for its end and raises nothing if the work has failed.
"""

from cpython.buffer cimport (
    PyBUF_ANY_CONTIGUOUS,
    PyBUF_C_CONTIGUOUS,
    PyBUF_F_CONTIGUOUS,
    PyBUF_FORMAT,
    PyBUF_ND,
    PyBUF_STRIDES,
    PyBUF_WRITABLE,
)
from cython cimport critical_section
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_REFCNT, PyObject
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memmove, memset

import sys

import numpy as np

from megengine_lite._core.system.tensor_limits cimport MAX_NDIM
from megengine_lite._core.system.memory cimport Storage

from megengine_lite._core.system.device_errors import errors_of
from megengine_lite._core.system.dlpack import make_capsule
from megengine_lite.errors import LiteArgumentError, LiteError, LiteIndexError, LiteValueError, ShapeError

cdef enum:
    # Smaller copies keep the GIL: releasing it would take longer.
    NOGIL_BYTES = 1 << 16

# By LiteDataType: float32, float16, int32, int16, int8, uint8, uint16.
cdef int[7] ITEMSIZE = [4, 2, 4, 2, 1, 1, 2]
# The same as letters of the struct module, each with a final zero.
cdef char[14] FORMAT = [c"f", 0, c"e", 0, c"i", 0, c"h", 0, c"b", 0, c"B", 0, c"H", 0]
# (type code, bits) of DLPack: 0 signed, 1 unsigned, 2 float.
cdef tuple DLPACK_TYPE = ((2, 32), (2, 16), (0, 32), (0, 16), (0, 8), (1, 8), (1, 16))

NUMPY_TYPES = tuple(map(np.dtype, ("float32", "float16", "int32", "int16", "int8", "uint8", "uint16")))
"""numpy type of each ``LiteDataType``."""
cdef dict CODES = {dtype: code for code, dtype in enumerate(NUMPY_TYPES)}
# Same bits, and the original takes it, too.
CODES[np.dtype("uint32")] = 2
cdef object ndarray = np.ndarray
cdef str READONLY = "the tensor shares memory that is read-only: share a writable array, or make a new tensor"


def code_of(dtype):
    """``LiteDataType`` number of a numpy dtype instance, or None."""
    return CODES.get(dtype)


# Shape and strides of one exported buffer, and the storage that it keeps alive.
cdef struct Export:
    Py_ssize_t shape[MAX_NDIM]
    Py_ssize_t strides[MAX_NDIM]
    PyObject* storage


def set_zero(array):
    array[...] = 0


def count_bytes(shape, int code):
    """Bytes of a dense tensor; raises if the size does not fit into the address space.

    A tensor without elements has strides as well, so the other dimensions must fit even if one is zero.
    """
    nbytes = extent = ITEMSIZE[code]
    for d in shape:
        nbytes *= d
        extent *= d or 1
    if extent > sys.maxsize // 2:
        raise LiteValueError(f"a tensor of shape {list(shape)} is larger than the address space")
    return nbytes


cdef bytes_of(Storage storage, Py_ssize_t offset, Py_ssize_t nbytes):
    """Host memory as an array of bytes."""
    return ndarray((nbytes,), np.uint8, storage, offset)


cdef int copy_bytes(
    Storage source, Py_ssize_t source_offset, Storage target, Py_ssize_t target_offset, Py_ssize_t nbytes
) except -1:
    """Copies between any two storages; they may overlap."""
    cdef char* to
    cdef char* here
    if source.device is None and target.device is None:
        to, here = target.pointer() + target_offset, source.pointer() + source_offset
        if nbytes < NOGIL_BYTES:
            memmove(to, here, nbytes)
        else:
            with nogil:
                memmove(to, here, nbytes)
    elif source.device is None:
        with errors_of(target.device):
            target.device.write(target, target_offset, bytes_of(source, source_offset, nbytes))
    elif target.device is None:
        with errors_of(source.device):
            source.device.read(source, source_offset, bytes_of(target, target_offset, nbytes))
    elif source.device is target.device:
        with errors_of(source.device):
            source.device.copy(source, source_offset, target, target_offset, nbytes)
    else:
        with errors_of(source.device):
            between = np.empty(nbytes, np.uint8)
            source.device.read(source, source_offset, between)
        with errors_of(target.device):
            target.device.write(target, target_offset, between)
    return 0


cdef class TensorLayout:
    """Shape and element type. The base of ``LiteLayout``, which checks and converts arguments."""


cdef TensorLayout new_layout(cls):
    return TensorLayout.__new__(cls)


cdef class StridedTensor:
    """A typed window into a storage. The base of ``LiteTensor``, which checks and converts arguments.

    The subclass has the attributes ``_device``, ``_device_id`` and ``_pinned``, which say where new memory comes from.
    """

    def __cinit__(self, *args, **kwargs):
        self.shape_ = ()
        self.contiguous = True

    # ---- inside ----

    cdef int wait_pending(self) except -1:
        cdef object work
        with critical_section(self):
            work = self._pending
        if work is not None:
            work.wait()
        return 0

    cdef int settle(self) except -1:
        if self._pending is not None:
            self.wait_pending()
        if self.storage is not None and self.storage._pending is not None:
            self.storage.settle()
        return 0

    cdef Storage new_storage(self, Py_ssize_t nbytes):
        """Memory of the tensor's device, by the attributes that the subclass has."""
        try:
            return self._device.allocate(nbytes, self._device_id, self._pinned)
        except LiteError:
            raise
        except Exception as error:  # of the device
            raise self._device.fault(error) from error

    cdef bint is_remote(self):
        """Whether the host cannot reach the elements."""
        return self.storage is not None and self.storage.device is not None and self.nbytes_ != 0

    cdef tuple span(self):
        """Bytes from element zero to the first byte of all elements, and behind the last."""
        cdef Py_ssize_t low = 0, high = ITEMSIZE[self.code]
        cdef int k
        for k in range(self.ndim):
            if self.strides[k] < 0:
                low += (self.shape[k] - 1) * self.strides[k]
            else:
                high += (self.shape[k] - 1) * self.strides[k]
        return low, high

    cdef int set_dense(self, Storage storage, Py_ssize_t offset, Py_ssize_t capacity, shape, int code) except -1:
        cdef tuple dims = tuple(shape)
        cdef Py_ssize_t nbytes = count_bytes(dims, code)
        cdef Py_ssize_t stride = ITEMSIZE[code]
        cdef int ndim = <int>len(dims), k
        if ndim > MAX_NDIM:
            raise ShapeError(f"a tensor has at most {MAX_NDIM} dimensions, not {ndim}")
        for k in range(ndim - 1, -1, -1):
            self.shape[k] = dims[k]
            self.strides[k] = stride
            stride *= self.shape[k]
        self.storage = storage
        self.offset = offset
        self.capacity = capacity
        self.shape_ = dims
        self.ndim = ndim
        self.code = code
        self.nbytes_ = nbytes if ndim else 0
        self.contiguous = True
        self.version += 1
        return 0

    cdef char* pointer(self) except? NULL:
        if self.storage is None or (self.storage.device is not None and self.nbytes_ == 0):
            return NULL  # nothing is read there
        return self.storage.pointer() + self.offset

    cdef int require_idle(self) except -1:
        """Waits for work that reads the memory; raises if that must not be written."""
        cdef object work = None
        if self._busy is not None:
            with critical_section(self):
                work = self._busy
            if work is not None:
                work.join()
        if self.storage is not None and self.storage.readonly:
            raise LiteArgumentError(READONLY)
        return 0

    # ---- layout ----

    @property
    def pending(self):
        with critical_section(self):
            return self._pending

    @pending.setter
    def pending(self, work):
        with critical_section(self):
            self._pending = work

    @property
    def busy(self):
        with critical_section(self):
            return self._busy

    @busy.setter
    def busy(self, work):
        with critical_section(self):
            self._busy = work

    @property
    def _shape(self):
        self.settle()
        return self.shape_

    def _layout(self, cls):
        """Shape and element type as a new object of a class derived from :class:`TensorLayout`."""
        cdef TensorLayout layout
        self.settle()
        with critical_section(self):
            layout = self.handed_out
            # A layout that only this tensor refers to can be used again; ``tensor.layout.shapes`` leaves such a one.
            if layout is None or Py_REFCNT(layout) > 2 or type(layout) is not cls:
                layout = self.handed_out = new_layout(cls)
            layout._shape = self.shape_
            layout._code = self.code
            layout._explicit_dtype = True
        return layout

    @property
    def _strides(self):
        """In bytes."""
        self.settle()
        return tuple([self.strides[k] for k in range(self.ndim)])

    @property
    def _code(self):
        if self._pending is not None:
            self.wait_pending()
        return self.code

    @property
    def _nbytes(self):
        if self._pending is not None:
            self.wait_pending()
        return self.nbytes_

    @property
    def _contiguous(self):
        if self._pending is not None:
            self.wait_pending()
        return self.contiguous

    @property
    def _is_slice(self):
        return self.is_slice

    @property
    def _shown(self):
        """The storage of the last :meth:`_show`. If the tensor has another one, the user has set it."""
        return self.shown

    @property
    def _storage(self):
        return self.storage

    @property
    def _offset(self):
        """Of the first element in the storage, in bytes."""
        return self.offset

    @property
    def _readonly(self):
        return self.storage is not None and self.storage.readonly

    def _set_layout(self, shape, int code):
        """Makes the tensor dense with this layout. Memory and content stay if the size fits, else memory is new."""
        cdef Py_ssize_t nbytes = count_bytes(shape, code)
        self.settle()
        if not self.contiguous:
            raise LiteError(
                "the layout of a strided slice cannot be changed: its elements do not lie side by side; "
                "copy it into another tensor first (copy_from)"
            )
        if self.is_slice and nbytes > self.capacity:
            raise LiteError(
                f"{nbytes} bytes do not fit into a slice of {self.capacity} bytes; its neighbours would be overwritten"
            )
        if self.storage is None or nbytes > self.capacity:
            self.set_dense(self.new_storage(nbytes), 0, nbytes, shape, code)
        else:
            self.set_dense(self.storage, self.offset, self.capacity, shape, code)

    def _reshape(self, shape):
        """Gives the tensor another shape of the same number of elements; ``shape`` has no -1 any more."""
        self.settle()
        if not self.contiguous:
            raise LiteError("a strided slice cannot be reshaped; copy it into another tensor first (copy_from)")
        self.set_dense(self.storage, self.offset, self.capacity, shape, self.code)

    def _adopt(self, Storage storage, shape, int code):
        """Uses another storage as memory from now on."""
        self.settle()
        self.set_dense(storage, 0, storage.nbytes, shape, code)
        self.is_slice = False

    def _show(self, Storage storage, shape, int code):
        """Like :meth:`_adopt`, for the memory of an output, which does not belong to the user."""
        self._adopt(storage, shape, code)
        self.shown = storage

    def _share_with(self, StridedTensor other):
        """Becomes the same window into the same storage."""
        cdef int k
        self.settle()
        other.settle()
        if other.storage is None:
            other.storage = other.new_storage(0)
        self.storage = other.storage
        self.offset = other.offset
        self.capacity = other.capacity
        self.is_slice = other.is_slice
        self.shape_ = other.shape_
        self.ndim = other.ndim
        for k in range(self.ndim):
            self.shape[k] = other.shape[k]
            self.strides[k] = other.strides[k]
        self.code = other.code
        self.nbytes_ = other.nbytes_
        self.contiguous = other.contiguous
        self.version += 1

    def _become_slice(self, StridedTensor parent, start, stop, step):
        """Becomes the window ``parent[start:stop:step, ...]``, by Python's rules for each leading dimension."""
        cdef Py_ssize_t length, dense
        cdef int k
        self._share_with(parent)
        shape = list(self.shape_)
        for k in range(<int>len(start)):
            first, last, by = slice(start[k], stop[k], step[k]).indices(shape[k])
            length = len(range(first, last, by))
            if length:
                self.offset += first * self.strides[k]
            if length > 1:  # else the step has no meaning, and may be larger than any stride
                self.strides[k] *= by
            self.shape[k] = shape[k] = length
        self.shape_ = tuple(shape)
        self.nbytes_ = count_bytes(shape, self.code) if shape else 0
        self.contiguous = True
        dense = ITEMSIZE[self.code]
        for k in range(self.ndim - 1, -1, -1):
            if self.shape[k] != 1 and self.strides[k] != dense and self.nbytes_:
                self.contiguous = False
            dense *= self.shape[k]
        self.capacity = self.nbytes_ if self.contiguous else 0
        self.is_slice = True

    # ---- contents ----

    @property
    def _address(self):
        self.settle()
        return <uintptr_t>self.pointer()

    def _writable_array(self):
        """A numpy view to write through."""
        self.require_idle()
        return self._array()

    def _array(self):
        """A numpy view that keeps the storage alive."""
        self.settle()
        if self.ndim == 0:
            return np.empty(0, NUMPY_TYPES[self.code])
        if self.storage is None:
            self.storage = self.new_storage(0)
        if self.nbytes_ == 0:
            return np.empty(self.shape_, NUMPY_TYPES[self.code])
        return ndarray(self.shape_, NUMPY_TYPES[self.code], self.storage, self.offset, self._strides)

    def _read(self):
        """The elements on the host: a view like that of :meth:`_array`, or a copy of what the host cannot reach."""
        self.settle()
        if not self.is_remote():
            return self._array()
        low, high = self.span()
        with errors_of(self.storage.device):
            window = np.empty(high - low, np.uint8)
            self.storage.device.read(self.storage, self.offset + low, window)
        return ndarray(self.shape_, NUMPY_TYPES[self.code], window, -low, self._strides)

    def _modify(self, change):
        """Calls ``change(array)``, which writes to the elements. What the host cannot reach is copied there and back."""
        self.settle()
        if not self.is_remote():
            change(self._writable_array())
            return
        self.require_idle()
        cdef Storage keep = self.storage
        low, high = self.span()
        with errors_of(keep.device):
            window = np.empty(high - low, np.uint8)
            keep.device.read(keep, self.offset + low, window)
        change(ndarray(self.shape_, NUMPY_TYPES[self.code], window, -low, self._strides))
        with errors_of(keep.device):
            keep.device.write(keep, self.offset + low, window)

    def _require_writable(self, Py_ssize_t nbytes):
        """Raises if this many bytes would be written to read-only memory, and not to new memory."""
        self.settle()
        if nbytes and self.storage is not None and self.storage.readonly:
            if self.is_slice or nbytes <= self.capacity:
                raise LiteArgumentError(READONLY)

    def _copy_bytes(self, Storage source, Py_ssize_t offset, Py_ssize_t nbytes):
        """Copies from a storage, of any device, into the first bytes of a dense tensor; the memory may overlap."""
        self.settle()
        if nbytes == 0:
            return
        self.require_idle()
        cdef Storage keep = self.storage  # another thread may give the tensor a new one meanwhile
        if not self.contiguous or nbytes > self.nbytes_:
            raise LiteIndexError(f"{nbytes} bytes do not fit into {self.nbytes_} bytes of dense memory")
        copy_bytes(source, offset, keep, self.offset, nbytes)

    def _fill_zero(self):
        self.settle()
        if self.nbytes_ == 0:
            return
        self.require_idle()
        cdef Storage keep = self.storage
        cdef char* target
        if not self.contiguous:
            self._modify(set_zero)
        elif keep.device is not None:
            with errors_of(keep.device):
                keep.device.fill_zero(keep, self.offset, self.nbytes_)
        else:
            target = keep.pointer() + self.offset
            if self.nbytes_ < NOGIL_BYTES:
                memset(target, 0, self.nbytes_)
            else:
                with nogil:
                    memset(target, 0, self.nbytes_)

    # ---- export ----

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        cdef Export* export
        cdef int k
        self.settle()
        if self.storage is None:
            self.storage = self.new_storage(0)
        if flags & PyBUF_WRITABLE == PyBUF_WRITABLE and self.storage.readonly:
            raise BufferError("the tensor shares memory that is read-only")
        if not self.contiguous and (
            flags & PyBUF_STRIDES != PyBUF_STRIDES
            or flags & PyBUF_C_CONTIGUOUS == PyBUF_C_CONTIGUOUS
            or flags & PyBUF_ANY_CONTIGUOUS == PyBUF_ANY_CONTIGUOUS
        ):
            raise BufferError("the tensor is not contiguous")
        if flags & PyBUF_F_CONTIGUOUS == PyBUF_F_CONTIGUOUS and self.ndim > 1:
            raise BufferError("the tensor is row-major")
        buffer.buf = self.pointer()
        export = <Export*>malloc(sizeof(Export))
        if export == NULL:
            raise MemoryError()
        export.shape[0] = 0
        export.strides[0] = ITEMSIZE[self.code]
        for k in range(self.ndim):
            export.shape[k] = self.shape[k]
            export.strides[k] = self.strides[k]
        Py_INCREF(self.storage)
        export.storage = <PyObject*>self.storage
        buffer.internal = export
        buffer.len = self.nbytes_
        buffer.readonly = self.storage.readonly
        buffer.itemsize = ITEMSIZE[self.code]
        buffer.format = &FORMAT[2 * self.code] if flags & PyBUF_FORMAT else NULL
        buffer.ndim = max(self.ndim, 1)
        buffer.shape = export.shape if flags & PyBUF_ND else NULL
        buffer.strides = export.strides if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
        buffer.suboffsets = NULL
        buffer.obj = self

    def __releasebuffer__(self, Py_buffer* buffer):
        cdef Export* export = <Export*>buffer.internal
        if export:
            Py_DECREF(<object>export.storage)
            free(export)

    def _capsule(self, tuple device, bint versioned, bint copied=False):
        """A DLPack capsule over the tensor's memory on a device (type, id); ``copied`` if that was made for it."""
        cdef uintptr_t address = 0
        self.settle()
        if self.storage is None:
            self.storage = self.new_storage(0)
        if self.storage.readonly and not versioned:
            raise BufferError("read-only memory needs a consumer of DLPack 1.0 or newer")
        kind, bits = DLPACK_TYPE[self.code]
        if self.is_remote():
            with errors_of(self.storage.device):
                address = self.storage.device.dlpack_address(self.storage) + self.offset
        else:
            address = <uintptr_t>self.pointer()
        return make_capsule(
            self.storage, device, address, self.shape_ if self.ndim else (0,),
            tuple([self.strides[k] // ITEMSIZE[self.code] for k in range(self.ndim)]) if self.ndim else (1,),
            kind, bits, self.storage.readonly, versioned, copied,
        )
