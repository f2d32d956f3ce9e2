# Packed weights stream from far memory, and processors' own prefetching stops at each page. So kernels fetch weights
# before they use them: convolutions on x86-64 those of the next tile, a part with each block of pixels (WeightFetch);
# others with 32 registers those that lie AHEAD (fetch), on x86-64 into the first cache, because an instruction that
# fetches into the second waits there for what the second cache has already, and keeps loads from their turn. The small
# first caches of ARM64 (BY_LANE) get nothing so early.
from libc.stdint cimport int64_t

from megengine_lite.kernels.common.shared_constants cimport LINE
from megengine_lite.kernels.common.simd cimport BY_LANE, inlined, prefetch, prefetch_far

cdef enum:
    LINE_BYTES = 4 * LINE
    AHEAD = 16384  # bytes from weights that are used to those that are fetched


# Weights that are fetched into the second cache while others are used: from `at` on, `step` bytes for each block of
# input channels; `until` is where they end. For a whole row of blocks of pixels, the blocks share the steps.
cdef struct WeightFetch:
    const char* at
    const char* until
    int64_t step


cdef inline inlined fetch_more(WeightFetch* f) noexcept nogil:
    """What falls to one block of channels. No line is fetched twice: that would cost as much as from far memory."""
    f.until += f.step
    while f.at < f.until:
        prefetch_far(f.at)
        f.at += LINE_BYTES


cdef inline inlined fetch(int bytes, const void* p) noexcept nogil:
    """Fetches `bytes`, a constant, from p on. Any address may be given."""
    cdef int k
    for k in range(bytes // LINE_BYTES):
        if BY_LANE:
            prefetch_far(<const char*>p + k * LINE_BYTES)
        else:
            prefetch(<const char*>p + k * LINE_BYTES)
