# Strided tensors, for other compiled modules.
from libc.stdint cimport int64_t

from megengine_lite._core.system.tensor_limits cimport MAX_NDIM
from megengine_lite._core.system.memory cimport Storage


cdef class TensorLayout:
    cdef public tuple _shape
    cdef public int _code               # LiteDataType
    cdef public bint _explicit_dtype    # False if float32 was only the default
    cdef object __weakref__


cdef class StridedTensor:
    cdef Storage storage
    cdef Storage shown          # the storage of the last _show
    cdef Py_ssize_t offset      # of element (0, ..., 0), in bytes
    cdef Py_ssize_t capacity    # bytes from offset that a dense layout may use
    cdef tuple shape_
    cdef Py_ssize_t shape[MAX_NDIM]
    cdef Py_ssize_t strides[MAX_NDIM]   # in bytes
    cdef int ndim
    cdef int code               # LiteDataType
    cdef Py_ssize_t nbytes_
    cdef bint contiguous
    cdef bint is_slice
    cdef TensorLayout handed_out      # the last one that was made, or None
    cdef readonly int64_t version
    cdef object _pending
    cdef object _busy

    cdef int wait_pending(self) except -1
    cdef int settle(self) except -1
    cdef Storage new_storage(self, Py_ssize_t nbytes)
    cdef bint is_remote(self)
    cdef tuple span(self)
    cdef int set_dense(self, Storage storage, Py_ssize_t offset, Py_ssize_t capacity, shape, int code) except -1
    cdef char* pointer(self) except? NULL
    cdef int require_idle(self) except -1
