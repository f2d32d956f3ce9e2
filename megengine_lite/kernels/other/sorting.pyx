"""Sorting along an axis, and the first elements in order."""

from libc.stdint cimport int16_t, int32_t, int64_t, int8_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy, memmove

from megengine_lite.kernels.common.order cimport BUCKETS, MOST_PASSES, key_of_float, key_type, sort_all


cpdef enum:  # planners read it: kinds of elements
    OF_F32
    OF_S32
    OF_S16
    OF_U16
    OF_S8
    OF_U8
    OF_S64


cdef enum:
    SHORT = 48  # up to so many elements are sorted by insertion
    FEW = 128  # up to so many of the first elements are found without sorting all
    BLOCK = 64  # elements that are looked through at once for one that is among the first
    SIDE_BY_SIDE = 16  # columns whose elements are read together
    READ_TOGETHER = 65536  # elements that these columns have at most


# ---- keys: numbers that order like the elements ----------------------------------------------------------------------

cdef inline void read_keys(
    int64_t kind, const char* x, int64_t step, int64_t n, key_type flips, key_type* keys
) noexcept nogil:
    """n keys of elements `step` apart, all bits turned around if `flips` has them."""
    cdef int64_t i
    if key_type is uint64_t:
        for i in range(n):
            keys[i] = (<const uint64_t*>x)[i * step] ^ 0x8000000000000000u ^ flips
    elif kind == OF_F32:
        for i in range(n):
            keys[i] = key_of_float((<const uint32_t*>x)[i * step]) ^ flips
    elif kind == OF_S32:
        for i in range(n):
            keys[i] = (<const uint32_t*>x)[i * step] ^ 0x80000000u ^ flips
    elif kind == OF_S16:
        for i in range(n):
            keys[i] = <uint32_t>((<const int16_t*>x)[i * step] + 0x8000) ^ flips
    elif kind == OF_U16:
        for i in range(n):
            keys[i] = (<const uint16_t*>x)[i * step] ^ flips
    elif kind == OF_S8:
        for i in range(n):
            keys[i] = <uint32_t>((<const int8_t*>x)[i * step] + 0x80) ^ flips
    else:
        for i in range(n):
            keys[i] = (<const uint8_t*>x)[i * step] ^ flips


# ---- the smallest keys, in order -------------------------------------------------------------------------------------

cdef inline int64_t insert(key_type key, int32_t place, key_type* keys, int32_t* places, int64_t n, int64_t most) noexcept nogil:
    """Puts a key behind those that are not larger, of n sorted ones; gives how many are kept, at most `most`."""
    cdef int64_t low = 0, high = n, middle, moved
    while low < high:
        middle = (low + high) // 2
        if keys[middle] > key:
            high = middle
        else:
            low = middle + 1
    moved = min(n, most - 1) - low
    if moved > 0:
        memmove(keys + low + 1, keys + low, moved * sizeof(key_type))
        memmove(places + low + 1, places + low, moved * sizeof(int32_t))
    if low < most:
        keys[low] = key
        places[low] = place
    return min(n + 1, most)


cdef inline key_type smallest(const key_type* keys, int64_t n) noexcept nogil:
    cdef key_type found = keys[0]
    cdef int64_t i
    for i in range(1, n):
        found = min(found, keys[i])
    return found


cdef inline void find_few(
    const key_type* keys, int64_t n, int64_t most, key_type* first, int32_t* places
) noexcept nogil:
    """The `most` smallest of n keys, of equal ones those in front."""
    cdef int64_t i = 0, k, found = 0, length
    while i < n:
        length = min(<int64_t>BLOCK, n - i)
        if found < most or (
            smallest(keys + i, BLOCK) if length == BLOCK else smallest(keys + i, length)
        ) < first[most - 1]:
            for k in range(i, i + length):
                if found < most or keys[k] < first[most - 1]:
                    found = insert(keys[k], <int32_t>k, first, places, found, most)
        i += length


# ---- the kernel ------------------------------------------------------------------------------------------------------

cdef struct SortElementsArgs:
    const char* x
    char* values
    int32_t* places
    int64_t kind, n, inner, first, count, descending, backward


def work_items(int64_t n, int64_t inner):
    """Work items of sort_elements for `inner` columns of n elements that lie side by side."""
    cdef int64_t together = columns_of(n, inner)
    return (inner + together - 1) // together


cdef inline int64_t columns_of(int64_t n, int64_t inner) noexcept nogil:
    return max(min(min(inner, <int64_t>SIDE_BY_SIDE), READ_TOGETHER // max(n, <int64_t>1)), <int64_t>1)


def scratch_bytes(int64_t n, int64_t inner):
    """Bytes of scratch of sort_elements: keys of columns, those of one again, places twice, and histograms."""
    return (columns_of(n, inner) + 1) * (n + FEW) * 8 + 2 * (n + FEW) * 4 + MOST_PASSES * BUCKETS * 4


cdef inline int64_t size_of(int64_t kind) noexcept nogil:
    if kind == OF_F32 or kind == OF_S32:
        return 4
    if kind == OF_S64:
        return 8
    return 2 if kind == OF_S16 or kind == OF_U16 else 1


cdef inline void sort_columns(
    const SortElementsArgs* a, int64_t begin, int64_t end, key_type* keys
) noexcept nogil:
    cdef int64_t n = a.n, inner = a.inner, item = size_of(a.kind), most = a.first + a.count
    cdef int64_t together = columns_of(n, inner), groups = (inner + together - 1) // together
    cdef key_type flips = <key_type>0 - 1 if a.descending else 0
    cdef key_type* keys2 = keys + together * n
    cdef int32_t* places = <int32_t*>(keys2 + n + FEW)
    cdef uint32_t* starts = <uint32_t*>(places + 2 * (n + FEW))
    cdef int64_t work, outer, group, width, c, i, at, to, step = -inner if a.backward else inner
    cdef const char* x
    cdef const char* first
    cdef key_type swap
    cdef const int32_t* order
    for work in range(begin, end):
        outer = work // groups
        group = work % groups * together
        width = min(together, inner - group)
        x = a.x + (outer * n * inner + group) * item
        first = x + (n - 1) * inner * item if a.backward else x
        if inner == 1:
            if a.backward:
                read_keys(a.kind, first, -1, n, flips, keys)
            else:
                read_keys(a.kind, first, 1, n, flips, keys)
        else:
            for c in range(width):
                read_keys(a.kind, first + c * item, step, n, flips, keys + c * n)
        for c in range(width):
            if most <= FEW or n <= SHORT:
                find_few(keys + c * n, n, most, keys2, places)
                order = places
            else:
                order = sort_all(keys + c * n, places, n, keys2, starts)
            to = (outer * a.count * inner + group) + c
            for i in range(a.count):
                at = order[a.first + i]
                if a.backward:
                    at = n - 1 - at
                if a.places:
                    a.places[to + i * inner] = <int32_t>at
                if a.values:
                    copy_item(a.values + (to + i * inner) * item, x + (at * inner + c) * item, item)


cdef inline void copy_item(char* y, const char* x, int64_t item) noexcept nogil:
    if item == 4:
        memcpy(y, x, 4)
    elif item == 8:
        memcpy(y, x, 8)
    else:
        memcpy(y, x, item)


cdef void sort_elements(const SortElementsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Elements `first` to `first + count` of x [outer, n, inner], sorted along n, and the places they had.

    `descending` begins with the largest. Equal elements keep their order, with `backward` the reverse. values or places
    [outer, count, inner] may be NULL. One work item = columns(n, inner) neighbouring columns. Scratch:
    scratch_bytes(n, inner).
    """
    if a.kind == OF_S64:
        sort_columns(a, begin, end, <uint64_t*>scratch)
    else:
        sort_columns(a, begin, end, <uint32_t*>scratch)


include "sorting_table.pxi"
