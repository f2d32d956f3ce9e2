"""Sorting of rows."""

from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.string cimport memset


cdef enum:
    DIGIT = 11  # bits that one pass of the radix sort looks at
    BUCKETS = 2048
    PASSES = 3
    SHORT = 48  # up to so many elements are sorted by insertion


cdef inline uint32_t key_of(uint32_t bits, bint is_float) noexcept nogil:
    """A number that orders like the element: both zeros alike, all NaN behind everything."""
    if not is_float:
        return bits ^ 0x80000000u
    if bits << 1 == 0:
        return 0x80000000u
    if bits << 1 > 0xFF000000u:
        return 0xFFFFFFFFu
    return ~bits if bits >> 31 else bits | 0x80000000u


cdef inline void sort_short(uint32_t* keys, int32_t* places, int64_t n) noexcept nogil:
    cdef int64_t i, k
    cdef uint32_t key
    cdef int32_t place
    for i in range(1, n):
        key = keys[i]
        place = places[i]
        k = i
        while k > 0 and keys[k - 1] > key:
            keys[k] = keys[k - 1]
            places[k] = places[k - 1]
            k -= 1
        keys[k] = key
        places[k] = place


cdef int32_t* sort_long(
    uint32_t* keys, int32_t* places, uint32_t* keys2, int32_t* places2, uint32_t* starts, int64_t n
) noexcept nogil:
    """Radix sort, which keeps the order of equal keys; gives the array that the places ended in."""
    cdef int64_t i, p, b
    cdef uint32_t total, count, digit
    cdef uint32_t* keys_swap
    cdef int32_t* places_swap
    cdef uint32_t* start
    memset(starts, 0, PASSES * BUCKETS * sizeof(uint32_t))
    for i in range(n):
        for p in range(PASSES):
            starts[p * BUCKETS + (keys[i] >> (p * DIGIT) & (BUCKETS - 1))] += 1
    for p in range(PASSES):
        start = starts + p * BUCKETS
        total = 0
        for b in range(BUCKETS):
            count = start[b]
            start[b] = total
            total += count
        for i in range(n):
            digit = keys[i] >> (p * DIGIT) & (BUCKETS - 1)
            keys2[start[digit]] = keys[i]
            places2[start[digit]] = places[i]
            start[digit] += 1
        keys_swap = keys
        keys = keys2
        keys2 = keys_swap
        places_swap = places
        places = places2
        places2 = places_swap
    return places


cdef struct SortRowsArgs:
    const uint32_t* x
    uint32_t* values
    int32_t* places
    int64_t n, first, count, descending, is_float


def scratch_bytes(int64_t n):
    """Bytes of scratch of sort_rows_32: keys and places of a row twice, and the histograms."""
    return 2 * n * (sizeof(uint32_t) + sizeof(int32_t)) + PASSES * BUCKETS * sizeof(uint32_t)


cdef void sort_rows_32(const SortRowsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Elements `first` to `first + count` of each sorted row of n float32 or int32, and the places they had.

    Equal elements keep their order; `descending` reverses everything. values or places may be NULL. One work item =
    one row. Scratch: scratch_bytes(n).
    """
    cdef int64_t n = a.n, first = a.first, count = a.count
    cdef bint descending = a.descending != 0, is_float = a.is_float != 0
    cdef uint32_t* keys = <uint32_t*>scratch
    cdef uint32_t* keys2 = keys + n
    cdef int32_t* order = <int32_t*>(keys2 + n)
    cdef int32_t* order2 = order + n
    cdef uint32_t* starts = <uint32_t*>(order2 + n)
    cdef int64_t row, i, at
    cdef const uint32_t* x
    cdef const int32_t* sorted_order
    for row in range(begin, end):
        x = a.x + row * n
        for i in range(n):
            keys[i] = key_of(x[i], is_float)
            order[i] = <int32_t>i
        if n <= SHORT:
            sort_short(keys, order, n)
            sorted_order = order
        else:
            sorted_order = sort_long(keys, order, keys2, order2, starts, n)
        for i in range(count):
            at = n - 1 - first - i if descending else first + i
            if a.values:
                a.values[row * count + i] = x[sorted_order[at]]
            if a.places:
                a.places[row * count + i] = sorted_order[at]


include "sorting_table.pxi"
