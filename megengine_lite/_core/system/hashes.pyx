"""The two hash functions that are needed to interpret a model file.

``xxh64`` makes the type ids of operators (XXH64, Yann Collet's specification). ``std_hash`` is what ``std::hash`` of a
string gives in libstdc++ (MurmurHash64A, Austin Appleby); the original lists inputs in an order that depends on it.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    LANES = 4

cdef uint64_t P1 = 0x9E3779B185EBCA87ULL
cdef uint64_t P2 = 0xC2B2AE3D27D4EB4FULL
cdef uint64_t P3 = 0x165667B19E3779F9ULL
cdef uint64_t P4 = 0x85EBCA77C2B2AE63ULL
cdef uint64_t P5 = 0x27D4EB2F165667C5ULL
cdef uint64_t MURMUR = 0xC6A4A7935BD1E995ULL
cdef uint64_t STD_SEED = 0xC70F6907ULL


cdef inline uint64_t rotate(uint64_t x, int bits) noexcept nogil:
    return (x << bits) | (x >> (64 - bits))


cdef inline uint64_t load64(const uint8_t* p) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, p, 8)
    return value


cdef inline uint64_t lane_round(uint64_t lane, uint64_t word) noexcept nogil:
    return rotate(lane + word * P2, 31) * P1


def xxh64(const uint8_t[::1] data, uint64_t seed):
    """The XXH64 hash of some bytes."""
    cdef uint64_t size = data.shape[0]
    cdef const uint8_t* p = &data[0] if size else NULL
    cdef const uint8_t* end = p + size
    cdef uint64_t lanes[LANES]
    cdef uint64_t h
    cdef uint32_t word
    cdef int i
    if size >= 32:
        lanes[0] = seed + P1 + P2
        lanes[1] = seed + P2
        lanes[2] = seed
        lanes[3] = seed - P1
        while end - p >= 32:
            for i in range(LANES):
                lanes[i] = lane_round(lanes[i], load64(p + 8 * i))
            p += 32
        h = rotate(lanes[0], 1) + rotate(lanes[1], 7) + rotate(lanes[2], 12) + rotate(lanes[3], 18)
        for i in range(LANES):
            h = (h ^ lane_round(0, lanes[i])) * P1 + P4
    else:
        h = seed + P5
    h += size
    while end - p >= 8:
        h = rotate(h ^ lane_round(0, load64(p)), 27) * P1 + P4
        p += 8
    if end - p >= 4:
        memcpy(&word, p, 4)
        h = rotate(h ^ word * P1, 23) * P2 + P3
        p += 4
    while p < end:
        h = rotate(h ^ p[0] * P5, 11) * P1
        p += 1
    h = (h ^ (h >> 33)) * P2
    h = (h ^ (h >> 29)) * P3
    return h ^ (h >> 32)


cdef inline uint64_t fold(uint64_t x) noexcept nogil:
    return x ^ (x >> 47)


def std_hash(const uint8_t[::1] data):
    """``std::hash<std::string>`` of libstdc++ on 64-bit machines."""
    cdef uint64_t size = data.shape[0]
    cdef uint64_t h = STD_SEED ^ (size * MURMUR)
    cdef uint64_t tail = 0
    cdef uint64_t i = 0
    while i + 8 <= size:
        h = (h ^ (fold(load64(&data[i]) * MURMUR) * MURMUR)) * MURMUR
        i += 8
    if i < size:
        memcpy(&tail, &data[i], size - i)
        h = (h ^ tail) * MURMUR
    return fold(fold(h) * MURMUR)
