"""The one place where numbers are taken out of file bytes.

A :class:`Cursor` is a window on a buffer; every read checks ``offset <= size - length`` in unsigned 64-bit numbers before
it touches memory. A :class:`TableReader` is a flatbuffer table inside of a window. Nothing here knows what a model is.

A small file can name the same bytes many times, for example by a vector with a million offsets to one long table.
Therefore each window has a budget of bytes that tables, vectors and strings may cover together, a small multiple of its
size. So the size of the file bounds the time and memory of reading it, whatever it contains. Tables of models cannot
contain tables of their own kind, so no depth needs to be counted.

Files are little-endian, and so are all machines that this package is built for.
docs/design/flatbuffer-reader.md says why this is not left to the flatbuffers package.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from megengine_lite.errors import ModelFormatError

# Writers share equal strings and lists of fields, nothing else: reading an honest file costs about its size.
cdef enum:
    BUDGET_FACTOR = 3
    BUDGET_EXTRA = 1 << 16
    LEAST_TABLE = 12  # a reference, a table with one field


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

    cdef Py_buffer _buffer
    cdef bint _held
    cdef const uint8_t* _data
    cdef uint64_t _budget
    cdef readonly uint64_t size
    cdef readonly uint64_t begin
    cdef readonly object view
    cdef readonly str what

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

    cdef uint64_t target(self, uint64_t offset, str thing) except? 0xFFFFFFFFFFFFFFFF:
        """The place that the offset stored at ``offset`` leads to; four bytes there are readable."""
        self.need(offset, 4, thing)
        cdef uint64_t place = offset + self.load32(offset)
        self.need(place, 4, thing)
        return place

    cdef uint64_t vector(self, uint64_t place, uint64_t item_size, str thing) except? 0xFFFFFFFFFFFFFFFF:
        """Number of items of the vector at ``place``, all of them readable."""
        cdef uint64_t count = self.load32(place)
        self.need(place + 4, count * item_size, thing)
        self.charge(4 + count * item_size)
        return count

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

    def root(self, uint64_t offset=0):
        """The table to which the offset at ``offset`` leads."""
        return open_table(self, self.target(offset, "root table"), "root table", LEAST_TABLE)


cdef TableReader open_table(Cursor cursor, uint64_t place, str thing, uint64_t least):
    """The table at ``place`` (four bytes there are readable), with its list of fields checked.

    It is charged with at least ``least`` bytes.
    """
    cdef TableReader table = TableReader.__new__(TableReader)
    cdef uint16_t vtable_size, table_size
    cdef int64_t vtable = <int64_t> place - <int32_t> cursor.load32(place)
    if vtable < 0:
        raise ModelFormatError(
            f"{cursor.what}: {thing} at byte {cursor.begin + place} has no field list; the file is damaged"
        )
    cursor.need(<uint64_t> vtable, 4, "field list of " + thing)
    memcpy(&vtable_size, cursor._data + vtable, 2)
    memcpy(&table_size, cursor._data + vtable + 2, 2)
    cursor.need(<uint64_t> vtable, vtable_size, "field list of " + thing)
    cursor.need(place, table_size, thing)
    if vtable_size < 4 or table_size < 4:
        raise ModelFormatError(
            f"{cursor.what}: {thing} at byte {cursor.begin + place} has an impossible size; the file is damaged"
        )
    cursor.charge(max(table_size, least))
    table.cursor = cursor
    table.place = place
    table.vtable = <uint64_t> vtable
    table.vtable_size = vtable_size
    table.table_size = table_size
    table.thing = thing
    return table


cdef class TableReader:
    """A flatbuffer table. Fields are named by their number; a field that is not stored gives the default."""

    cdef readonly Cursor cursor
    cdef uint64_t place
    cdef uint64_t vtable
    cdef uint16_t vtable_size
    cdef uint16_t table_size
    cdef readonly str thing

    cdef uint64_t field(self, unsigned int number, unsigned int width) except? 0xFFFFFFFFFFFFFFFF:
        """Place of a stored field, or 0."""
        cdef uint16_t offset
        cdef unsigned int slot = 4 + 2 * number
        if slot + 2 > self.vtable_size:
            return 0
        memcpy(&offset, self.cursor._data + self.vtable + slot, 2)
        if offset == 0:
            return 0
        if offset < 4 or offset + width > self.table_size:
            raise ModelFormatError(
                f"{self.cursor.what}: field {number} of {self.thing} at byte {self.cursor.begin + self.place} lies outside of "
                "the table; the file is damaged"
            )
        return self.place + offset

    cdef uint64_t reference(self, unsigned int number, str thing) except? 0xFFFFFFFFFFFFFFFF:
        """Place of the object that a stored field leads to, or 0."""
        cdef uint64_t place = self.field(number, 4)
        return 0 if place == 0 else self.cursor.target(place, thing)

    def has(self, unsigned int number):
        """Whether the field is stored."""
        return self.field(number, 1) != 0

    def boolean(self, unsigned int number, default=False):
        cdef uint64_t place = self.field(number, 1)
        return default if place == 0 else self.cursor._data[place] != 0

    def uint8(self, unsigned int number, default=0):
        cdef uint64_t place = self.field(number, 1)
        return default if place == 0 else self.cursor._data[place]

    def int8(self, unsigned int number, default=0):
        cdef uint64_t place = self.field(number, 1)
        return default if place == 0 else <int8_t> self.cursor._data[place]

    def uint32(self, unsigned int number, default=0):
        cdef uint64_t place = self.field(number, 4)
        return default if place == 0 else self.cursor.load32(place)

    def int32(self, unsigned int number, default=0):
        cdef uint64_t place = self.field(number, 4)
        return default if place == 0 else <int32_t> self.cursor.load32(place)

    def uint64(self, unsigned int number, default=0):
        cdef uint64_t place = self.field(number, 8)
        cdef uint64_t value
        if place == 0:
            return default
        memcpy(&value, self.cursor._data + place, 8)
        return value

    def float32(self, unsigned int number, default=0.0):
        cdef uint64_t place = self.field(number, 4)
        cdef float value
        if place == 0:
            return default
        memcpy(&value, self.cursor._data + place, 4)
        return value

    def float64(self, unsigned int number, default=0.0):
        cdef uint64_t place = self.field(number, 8)
        cdef double value
        if place == 0:
            return default
        memcpy(&value, self.cursor._data + place, 8)
        return value

    def table(self, unsigned int number, str thing):
        """The table of a field, or None."""
        cdef uint64_t place = self.reference(number, thing)
        return None if place == 0 else open_table(self.cursor, place, thing, LEAST_TABLE)

    def span(self, unsigned int number, str thing):
        """The bytes of a string or byte vector as a read-only memoryview on the buffer, or None."""
        cdef uint64_t place = self.reference(number, thing)
        cdef uint64_t count
        if place == 0:
            return None
        count = self.cursor.vector(place, 1, thing)
        return self.cursor.view[place + 4 : place + 4 + count]

    def blob(self, unsigned int number, str thing):
        """A copy of the bytes of a string or byte vector; empty if the field is not stored."""
        cdef uint64_t place = self.reference(number, thing)
        return b"" if place == 0 else self._copy(place, 1, thing)

    def text(self, unsigned int number, str thing):
        """A string; empty if the field is not stored. Bytes that are not UTF-8 are written as escapes."""
        return self.blob(number, thing).decode("utf-8", "backslashreplace")

    def structs(self, unsigned int number, uint64_t item_size, str thing):
        """A copy of the bytes of a vector of structures; empty if the field is not stored."""
        cdef uint64_t place = self.reference(number, thing)
        return b"" if place == 0 else self._copy(place, item_size, thing)

    def uint32s(self, unsigned int number, str thing):
        """A vector of numbers as a tuple; empty if the field is not stored."""
        cdef uint64_t place = self.reference(number, thing)
        cdef uint64_t count, i
        if place == 0:
            return ()
        count = self.cursor.vector(place, 4, thing)
        return tuple([self.cursor.load32(place + 4 + 4 * i) for i in range(count)])

    def int32s(self, unsigned int number, str thing):
        """A vector of signed numbers as a tuple; empty if the field is not stored."""
        cdef uint64_t place = self.reference(number, thing)
        cdef uint64_t count, i
        if place == 0:
            return ()
        count = self.cursor.vector(place, 4, thing)
        return tuple([<int32_t> self.cursor.load32(place + 4 + 4 * i) for i in range(count)])

    def tables(self, unsigned int number, str thing, uint64_t least=LEAST_TABLE):
        """A vector of tables, one after the other; none if the field is not stored.

        ``least`` is what a table of this kind takes in an honest file, with all that belongs to it.
        """
        cdef uint64_t place = self.reference(number, thing)
        cdef uint64_t count, i
        if place != 0:
            count = self.cursor.vector(place, 4, thing)
            for i in range(count):
                yield open_table(self.cursor, self.cursor.target(place + 4 + 4 * i, thing), thing, least)

    def texts(self, unsigned int number, str thing):
        """A vector of strings as a list; empty if the field is not stored."""
        cdef uint64_t place = self.reference(number, thing)
        cdef uint64_t count, i
        if place == 0:
            return []
        count = self.cursor.vector(place, 4, thing)
        return [
            self._copy(self.cursor.target(place + 4 + 4 * i, thing), 1, thing).decode("utf-8", "backslashreplace")
            for i in range(count)
        ]

    cdef bytes _copy(self, uint64_t place, uint64_t item_size, str thing):
        cdef uint64_t count = self.cursor.vector(place, item_size, thing)
        return (<const char*> self.cursor._data + place + 4)[: count * item_size]
