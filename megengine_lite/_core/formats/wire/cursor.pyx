"""The one place where numbers are taken out of file bytes.

A :class:`Cursor` is a window on a buffer; every read checks ``offset <= size - length`` in unsigned 64-bit numbers before
it touches memory. Nothing here knows what a model is, or how a format stores its fields: ``flatbuffer`` and
``protobuf`` do, and read by a cursor only.

Files are little-endian, and so are all machines that this package is built for.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from megengine_lite.errors import ModelFormatError

# What references in a file may cover together: writers share equal strings and lists of fields, nothing else, so that
# reading an honest file costs about its size.
cdef enum:
    BUDGET_FACTOR = 3
    BUDGET_EXTRA = 1 << 16


cdef class Cursor:
    """A window ``[begin, end)`` on a buffer; offsets count from its begin.

    Parameters
    ----------
    buffer
        Any object with the buffer protocol (contiguous bytes). The cursor keeps it alive. It must not change as long as
        models made from it exist.
    begin, end
        The window; ``end`` None is the end of the buffer.
    what
        Name of the thing that is read, for messages.
    """

    def __cinit__(self, buffer, begin=0, end=None, str what="model"):
        self._held = False
        PyObject_GetBuffer(buffer, &self._buffer, PyBUF_SIMPLE)
        self._held = True
        self.what = what
        total = self._buffer.len
        end = total if end is None else end
        if not 0 <= begin <= end <= total:
            raise ModelFormatError(f"{what}: bytes {begin} to {end} are asked for, the file has {total}")
        self._data = <const uint8_t*> self._buffer.buf + <uint64_t> begin
        self.begin = begin
        self.size = end - begin
        self._budget = self.size * BUDGET_FACTOR + BUDGET_EXTRA
        self.view = memoryview(buffer).cast("B").toreadonly()[begin:end]

    def __dealloc__(self):
        if self._held:
            PyBuffer_Release(&self._buffer)

    def __len__(self):
        return self.size

    cdef int need(self, uint64_t offset, uint64_t length, str thing) except -1:
        if offset > self.size or length > self.size - offset:
            raise ModelFormatError(
                f"{self.what}: {thing} at byte {self.begin + offset} takes {length} bytes, but the end is at "
                f"{self.begin + self.size}: the file is cut off or damaged"
            )
        return 0

    cdef int charge(self, uint64_t nbytes) except -1:
        if nbytes > self._budget:
            raise ModelFormatError(f"{self.what}: the same bytes are referred to again and again; the file is damaged")
        self._budget -= nbytes
        return 0

    cdef uint32_t load32(self, uint64_t offset) noexcept:
        cdef uint32_t value
        memcpy(&value, self._data + offset, 4)
        return value

    def uint32(self, uint64_t offset, str thing):
        """The number at ``offset``."""
        self.need(offset, 4, thing)
        return self.load32(offset)

    def uint64(self, uint64_t offset, str thing):
        """The number at ``offset``."""
        cdef uint64_t value
        self.need(offset, 8, thing)
        memcpy(&value, self._data + offset, 8)
        return value

    def startswith(self, bytes text, uint64_t offset=0):
        """Whether ``text`` stands at ``offset``; False if the window is too short."""
        return self.size >= offset and bytes(self.view[offset : offset + <uint64_t> len(text)]) == text

    def span(self, uint64_t offset, uint64_t nbytes, str thing):
        """The bytes ``[offset, offset + nbytes)`` as a read-only memoryview on the buffer."""
        self.need(offset, nbytes, thing)
        return self.view[offset : offset + nbytes]
