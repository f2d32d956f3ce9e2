# Sorting by keys: unsigned numbers that order like the elements.
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memset

cdef enum:
    DIGIT = 11  # bits that one pass of the radix sort looks at
    BUCKETS = 2048
    MOST_PASSES = 6

ctypedef fused key_type:
    uint32_t
    uint64_t


cdef inline uint32_t key_of_float(uint32_t bits) noexcept nogil:
    """Both zeros are alike, all NaN are behind everything."""
    if bits << 1 == 0:
        return 0x80000000u
    if bits << 1 > 0xFF000000u:
        return 0xFFFFFFFFu
    return ~bits if bits >> 31 else bits | 0x80000000u


cdef inline int32_t* sort_all(
    key_type* keys, int32_t* places, int64_t n, key_type* keys2, uint32_t* starts
) noexcept nogil:
    """Radix sort of n > 0 keys, which keeps the order of equal ones. keys2 is as long as keys, places is [2][n], starts
    [MOST_PASSES][BUCKETS]. Gives the half of places that has those of the keys in order.
    """
    cdef int64_t i, p, b, passes = (8 * sizeof(key_type) + DIGIT - 1) // DIGIT
    cdef int32_t* places2 = places + n
    cdef uint32_t total, count, digit
    cdef key_type* keys_swap
    cdef int32_t* places_swap
    cdef uint32_t* start
    memset(starts, 0, passes * BUCKETS * sizeof(uint32_t))
    for i in range(n):
        places[i] = <int32_t>i
        for p in range(passes):
            starts[p * BUCKETS + (keys[i] >> (p * DIGIT) & (BUCKETS - 1))] += 1
    for p in range(passes):
        start = starts + p * BUCKETS
        if start[keys[0] >> (p * DIGIT) & (BUCKETS - 1)] == n:
            continue  # all have this digit
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
