# Across the lanes of a vector.
from megengine_lite.kernels.common.simd cimport VW, vf, vf_max, vf_permute, vf_store, vi_lanes, vi_set1


cdef inline float sum_lanes(vf x) noexcept nogil:
    cdef float lanes[VW]
    cdef int half = VW // 2
    while half:
        x = x + vf_permute(x, vi_lanes() ^ vi_set1(half))
        half //= 2
    vf_store(lanes, x)
    return lanes[0]


cdef inline float max_lanes(vf x) noexcept nogil:
    """The largest lane; undefined if one is NaN."""
    cdef float lanes[VW]
    cdef int half = VW // 2
    while half:
        x = vf_max(x, vf_permute(x, vi_lanes() ^ vi_set1(half)))
        half //= 2
    vf_store(lanes, x)
    return lanes[0]
