"""Memory of tensors: storages.

A :class:`Storage` is a piece of memory, allocated here or borrowed from another object that it keeps alive. It never
moves and is freed with its last user.

Memory of a device that the host cannot read is a storage without an address. Its ``device`` copies to and from it. It
has the methods ``read``, ``write``, ``copy`` and ``fill_zero`` of ``_core/device/interface.py``, and ``name``.

``pending`` is None or an object with a method ``wait``: work in progress that writes this memory. It is waited for
before the memory is read or written.
"""

from cpython.buffer cimport (
    PyBUF_FORMAT,
    PyBUF_ND,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cython cimport critical_section
from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc, free

from megengine_lite._core.system.tensor_limits cimport ALIGNMENT, MAX_NDIM

from megengine_lite.errors import DeviceError, LiteArgumentError, LiteMemoryError, LiteTypeError, LiteValueError

globals().update(ALIGNMENT=ALIGNMENT, MAX_NDIM=MAX_NDIM)  # for Python code

cdef extern from "Python.h" nogil:
    Py_ssize_t PY_SSIZE_T_MAX


cdef extern from * nogil:
    """
    /* Without the GIL two threads may come here at the same time. */
    #define ml_set_once(p, old, v) __atomic_compare_exchange_n(p, old, v, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)
    #define ml_publish(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
    """
    bint ml_set_once(void** p, void** old, void* v)
    void ml_publish(char** p, char* v)


cdef char* UNSIGNED_BYTES = b"B"  # as a letter of the struct module


cdef class Storage:
    """A piece of memory, allocated (64-byte aligned, zeroed) at first use, or borrowed from another owner.

    Parameters
    ----------
    nbytes : int
        Size.
    device : Device or None
        The device whose memory it is, if the host cannot read it. Nothing is allocated then: the device's subclass does
        that. None for host memory.

    A subclass may have a constructor with more arguments, after these two; they are ignored here.

    Attributes
    ----------
    nbytes : int
    readonly : bool
        The memory must not be written.
    owner : object
        What keeps borrowed memory alive, or None.
    device : Device or None
    """

    def __cinit__(self, Py_ssize_t nbytes=0, device=None, *args, **kwargs):
        if nbytes < 0:
            raise LiteValueError(f"a storage cannot have {nbytes} bytes")
        self.nbytes = nbytes
        self.device = device

    @staticmethod
    def at(uintptr_t address, Py_ssize_t nbytes, owner=None, bint readonly=False):
        """Memory at an address, kept alive by ``owner`` (by the caller, if that is None)."""
        if address == 0 and nbytes > 0:
            raise LiteValueError("the address is null")
        cdef Storage self = Storage.__new__(Storage, nbytes)
        self.data = <char*>address
        self.owner = owner
        self.readonly = readonly
        return self

    @staticmethod
    def of_buffer(source):
        """The memory of an object with a contiguous buffer, read-only if the object says so.

        Raises
        ------
        LiteArgumentError
            The buffer is not contiguous.
        LiteTypeError
            The object has no buffer, or gives it away no longer.
        """
        cdef Storage self = Storage.__new__(Storage, 0)
        try:
            PyObject_GetBuffer(source, &self.view, PyBUF_ND | PyBUF_WRITABLE)
        except (BufferError, ValueError):  # read-only or not contiguous; the latter in numpy's word
            self.view_readonly(source)
        except TypeError as error:
            raise LiteTypeError(f"{type(source).__name__} has no memory to read: {error}") from None
        self.has_view = True
        self.data = <char*>self.view.buf
        self.nbytes = self.view.len
        self.readonly = self.view.readonly
        self.owner = source
        return self

    cdef int view_readonly(self, source) except -1:
        try:
            PyObject_GetBuffer(source, &self.view, PyBUF_ND)
        except BufferError as error:
            raise LiteArgumentError(f"the memory of {type(source).__name__} is not contiguous: {error}") from None
        except ValueError as error:  # a memoryview that was released
            raise LiteTypeError(f"{type(source).__name__} has no memory to read: {error}") from None
        return 0

    def __dealloc__(self):
        if self.has_view:
            PyBuffer_Release(&self.view)
        free(self.block)

    cdef char* pointer(self) except? NULL:
        cdef void* block = NULL
        cdef void* first = NULL  # the block of another thread that came first
        if self.data == NULL and self.nbytes > 0:
            if self.device is not None:
                raise DeviceError(
                    f"the host cannot reach memory of {self.device.name}: read a copy (to_numpy), or copy_from it into "
                    "a tensor on the CPU"
                )
            if self.nbytes < PY_SSIZE_T_MAX // 2:
                # calloc leaves large memory untouched, so that it costs nothing before it is used.
                block = calloc(self.nbytes + ALIGNMENT, 1)
            if block == NULL:
                raise LiteMemoryError(f"cannot allocate {self.nbytes} bytes for a tensor")
            if not ml_set_once(&self.block, &first, block):
                free(block)
                block = first
            ml_publish(&self.data, <char*>((<uintptr_t>block + ALIGNMENT - 1) & ~<uintptr_t>(ALIGNMENT - 1)))
        return self.data

    cpdef settle(self):
        """Waits for work that writes this memory."""
        cdef object work = None
        if self._pending is not None:
            with critical_section(self):
                work = self._pending
            if work is not None:
                work.wait()

    @property
    def pending(self):
        with critical_section(self):
            return self._pending

    @pending.setter
    def pending(self, work):
        with critical_section(self):
            self._pending = work

    @property
    def address(self):
        """Address of the first byte (0 if there is none). Allocates the memory if that has not been done yet.

        Raises
        ------
        DeviceError
            The host cannot reach the memory.
        """
        return <uintptr_t>self.pointer()

    @property
    def is_allocated(self):
        return self.data != NULL or self.nbytes == 0

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        if flags & PyBUF_WRITABLE == PyBUF_WRITABLE and self.readonly:
            raise BufferError("this memory is read-only")
        buffer.buf = self.pointer()
        buffer.len = self.nbytes
        buffer.readonly = self.readonly
        buffer.itemsize = 1
        buffer.format = UNSIGNED_BYTES if flags & PyBUF_FORMAT else NULL
        buffer.ndim = 1
        buffer.shape = &self.nbytes
        buffer.strides = &buffer.itemsize
        buffer.suboffsets = NULL
        buffer.internal = NULL
        buffer.obj = self
