# Packed weights stream from far memory, and processors' own prefetching stops at each page. So blocks with 32 registers
# fetch weights before they use them: on x86-64 into the first cache, because an instruction that fetches into the second
# waits there for what the second cache has already, and keeps loads from their turn. The small first caches of ARM64
# (BY_LANE) get nothing so early.
from megengine_lite.kernels.common.shared_constants cimport LINE
from megengine_lite.kernels.common.simd cimport BY_LANE, inlined, prefetch, prefetch_far

cdef enum:
    LINE_BYTES = 4 * LINE
    AHEAD = 16384  # bytes from weights that are used to those that are fetched


cdef inline inlined fetch(int bytes, const void* p) noexcept nogil:
    """Fetches `bytes`, a constant, from p on. Any address may be given."""
    cdef int k
    for k in range(bytes // LINE_BYTES):
        if BY_LANE:
            prefetch_far(<const char*>p + k * LINE_BYTES)
        else:
            prefetch(<const char*>p + k * LINE_BYTES)
