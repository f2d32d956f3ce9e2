"""Fields of a message of Protocol Buffers, read by a :class:`~megengine_lite._core.formats.wire.cursor.Cursor`.

A message is a row of fields, each a key (number and kind of storage) and a value. Nothing here knows what a model is.
Messages lie inside of each other and cannot overlap, so reading costs at most the size of the file for each level of
nesting; ``reader`` limits the levels and counts what it makes.
"""

from array import array

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from megengine_lite._core.formats.wire.cursor cimport Cursor

from megengine_lite.errors import ModelFormatError

cpdef enum Wire:
    """How the value of a field is stored."""
    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    FIXED32 = 5

cdef enum:
    MOST_VARINT = 10  # bytes of a number of 64 bits
    MOST_PADDING = 24  # what encryption leaves behind a message: zeros, then perhaps a checksum


cdef class FieldReader:
    """Iterates over the fields of the message ``[begin, end)`` of a cursor.

    With ``padded`` a zero and a few more bytes may stand behind the last field, as encryption leaves them.

    Yields
    ------
    tuple
        Number of the field, kind of storage, and two integers: the value as an unsigned number and 0, or, for bytes,
        where they begin and end.
    """

    cdef Cursor cursor
    cdef uint64_t place
    cdef uint64_t end
    cdef str thing
    cdef bint padded

    def __init__(self, Cursor cursor, uint64_t begin, uint64_t end, str thing, bint padded=False):
        if begin > end:
            raise ValueError(f"a message cannot begin at {begin} and end at {end}")
        cursor.need(begin, end - begin, thing)
        self.cursor = cursor
        self.place = begin
        self.end = end
        self.thing = thing
        self.padded = padded

    def __iter__(self):
        return self

    def __next__(self):
        cdef uint64_t key, number, length
        cdef unsigned int wire
        if self.place == self.end:
            raise StopIteration
        key = varint(self.cursor, &self.place, self.end, self.thing)
        number, wire = key >> 3, key & 7
        if key == 0 and self.padded and self.end - self.place < MOST_PADDING:
            self.place = self.end
            raise StopIteration
        if number == 0 or key > 0xFFFFFFFF:
            raise self.damaged("has a field without a valid number")
        if wire == VARINT:
            return number, wire, varint(self.cursor, &self.place, self.end, self.thing), 0
        if wire == BYTES:
            length = varint(self.cursor, &self.place, self.end, self.thing)
        elif wire == FIXED64 or wire == FIXED32:
            length = 8 if wire == FIXED64 else 4
        else:
            raise self.damaged(f"has field {number} in a form that no writer uses ({wire})")
        if length > self.end - self.place:
            raise self.damaged(f"has field {number} of {length} bytes, but {self.end - self.place} are left")
        begin, self.place = self.place, self.place + length
        if wire == BYTES:
            return number, wire, begin, self.place
        return number, wire, load64(self.cursor, begin) if wire == FIXED64 else self.cursor.load32(begin), 0

    cdef damaged(self, str fault):
        return ModelFormatError(
            f"{self.cursor.what}: {self.thing} {fault}, before byte {self.cursor.begin + self.place}: the file is cut "
            "off or damaged; make or copy it again"
        )


cdef uint64_t load64(Cursor cursor, uint64_t place) noexcept:
    """The number at ``place``, where eight bytes are readable."""
    cdef uint64_t value
    memcpy(&value, cursor._data + place, 8)
    return value


cdef uint64_t varint(Cursor cursor, uint64_t* place, uint64_t end, str thing) except? 0xFFFFFFFFFFFFFFFF:
    """The number at ``place``, which is moved behind it. ``end`` is not behind the window's."""
    cdef uint64_t value = 0, byte
    cdef int k
    for k in range(MOST_VARINT):
        if place[0] == end:
            break
        byte = cursor._data[place[0]]
        place[0] += 1
        value |= (byte & 0x7F) << (7 * k)
        if byte < 0x80:
            return value
    raise ModelFormatError(
        f"{cursor.what}: {thing} has a number that does not end, before byte {cursor.begin + place[0]}: the file is cut "
        "off or damaged; make or copy it again"
    )


def signed(uint64_t value):
    """A number of 64 bits as signed."""
    return <int64_t> value


def as_float32(uint32_t bits):
    """The float that these 32 bits are."""
    cdef float value
    memcpy(&value, &bits, 4)
    return value


cdef dict _SIZES = {"f": 4, "d": 8}


def packed(Cursor cursor, uint64_t begin, uint64_t end, str code, str thing):
    """The numbers that stand side by side in ``[begin, end)``, as an array of the type ``code`` (see ``array``)."""
    cdef uint64_t place = begin, count = 0, k
    cdef bytearray buffer
    cdef char* out
    cdef int width
    cdef uint64_t value
    if begin > end:
        raise ValueError(f"numbers cannot begin at {begin} and end at {end}")
    cursor.need(begin, end - begin, thing)
    numbers = array(code)
    if code in _SIZES:
        if (end - begin) % <uint64_t> _SIZES[code]:
            raise ModelFormatError(
                f"{cursor.what}: {thing} takes {end - begin} bytes, which is no whole number of elements: the file is "
                "damaged"
            )
        numbers.frombytes(cursor.view[begin:end])
        return numbers
    width = numbers.itemsize
    for k in range(begin, end):
        count += cursor._data[k] < 0x80
    buffer = bytearray(count * width)
    out = buffer
    for k in range(count):
        value = varint(cursor, &place, end, thing)
        memcpy(out + k * width, &value, width)  # the low bits: negative numbers are stored with 64 bits
    if place != end:
        varint(cursor, &place, end, thing)  # raises: the last number does not end
    numbers.frombytes(buffer)
    return numbers
