"""Tables of a flatbuffer, read by a :class:`~megengine_lite._core.formats.wire.cursor.Cursor`.

A :class:`TableReader` is a flatbuffer table inside of a window. Nothing here knows what a model is.

A small file can name the same bytes many times, for example by a vector with a million offsets to one long table.
Therefore each window has a budget of bytes that tables, vectors and strings may cover together, a small multiple of its
size. So the size of the file bounds the time and memory of reading it, whatever it contains. Tables of models cannot
contain tables of their own kind, so no depth needs to be counted.

docs/design/flatbuffer-reader.md says why this is not left to the flatbuffers package.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from megengine_lite._core.formats.wire.cursor cimport Cursor

from megengine_lite.errors import ModelFormatError

cdef enum:
    LEAST_TABLE = 12  # a reference, a table with one field


def root_table(Cursor cursor, uint64_t offset=0):
    """The table to which the offset at ``offset`` leads."""
    return open_table(cursor, target(cursor, offset, "root table"), "root table", LEAST_TABLE)


cdef uint64_t target(Cursor cursor, uint64_t offset, str thing) except? 0xFFFFFFFFFFFFFFFF:
    """The place that the offset stored at ``offset`` leads to; four bytes there are readable."""
    cursor.need(offset, 4, thing)
    cdef uint64_t place = offset + cursor.load32(offset)
    cursor.need(place, 4, thing)
    return place


cdef uint64_t vector(Cursor cursor, uint64_t place, uint64_t item_size, str thing) except? 0xFFFFFFFFFFFFFFFF:
    """Number of items of the vector at ``place``, all of them readable."""
    cdef uint64_t count = cursor.load32(place)
    cursor.need(place + 4, count * item_size, thing)
    cursor.charge(4 + count * item_size)
    return count


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
        return 0 if place == 0 else target(self.cursor, place, thing)

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
        count = vector(self.cursor, place, 1, thing)
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
        count = vector(self.cursor, place, 4, thing)
        return tuple([self.cursor.load32(place + 4 + 4 * i) for i in range(count)])

    def int32s(self, unsigned int number, str thing):
        """A vector of signed numbers as a tuple; empty if the field is not stored."""
        cdef uint64_t place = self.reference(number, thing)
        cdef uint64_t count, i
        if place == 0:
            return ()
        count = vector(self.cursor, place, 4, thing)
        return tuple([<int32_t> self.cursor.load32(place + 4 + 4 * i) for i in range(count)])

    def tables(self, unsigned int number, str thing, uint64_t least=LEAST_TABLE):
        """A vector of tables, one after the other; none if the field is not stored.

        ``least`` is what a table of this kind takes in an honest file, with all that belongs to it.
        """
        cdef uint64_t place = self.reference(number, thing)
        cdef uint64_t count, i
        if place != 0:
            count = vector(self.cursor, place, 4, thing)
            for i in range(count):
                yield open_table(self.cursor, target(self.cursor, place + 4 + 4 * i, thing), thing, least)

    def texts(self, unsigned int number, str thing):
        """A vector of strings as a list; empty if the field is not stored."""
        cdef uint64_t place = self.reference(number, thing)
        cdef uint64_t count, i
        if place == 0:
            return []
        count = vector(self.cursor, place, 4, thing)
        return [
            self._copy(target(self.cursor, place + 4 + 4 * i, thing), 1, thing).decode("utf-8", "backslashreplace")
            for i in range(count)
        ]

    cdef bytes _copy(self, uint64_t place, uint64_t item_size, str thing):
        cdef uint64_t count = vector(self.cursor, place, item_size, thing)
        return (<const char*> self.cursor._data + place + 4)[: count * item_size]
