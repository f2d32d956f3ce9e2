"""Blocked tensors whose channels are picked from others: channel shuffle, concatenation, split."""

from libc.stdint cimport int8_t, int32_t, int64_t

from megengine_lite.kernels.common.arguments cimport Strides
from megengine_lite.kernels.common.simd cimport (
    VW, vf, vf_load, vf_permute, vf_select, vf_store, vf_zero, vi, vi_load, vi_load_s8, vi_set1, vi_store_8,
)

# Planners read these.
cpdef enum:
    MAX_TENSORS = 4  # inputs
    MAX_SOURCES = 4  # input blocks that one output block is picked from
    SOURCE = 5  # numbers that describe a source in the table


cdef struct GatherChannelsArgs:
    const void* x[MAX_TENSORS]
    const int64_t* table
    const int32_t* lanes
    void* y
    int64_t blocks, h, w
    Strides strides


# Where one row of an output block comes from: rows of input blocks, the source of each lane, and which lanes have one.
cdef struct Sources:
    const char* x[MAX_SOURCES]
    vi order[MAX_SOURCES]
    vi mask[MAX_SOURCES]
    int64_t count
    char* y


cdef inline void find_sources(const GatherChannelsArgs* a, int64_t item, int64_t size, Sources* s) noexcept nogil:
    """The sources of a work item; elements have `size` bytes."""
    cdef int64_t row = item % a.h, block = item // a.h % a.blocks, n = item // (a.h * a.blocks), k
    cdef const int64_t* entry
    cdef vi order
    s.count = 0
    for k in range(MAX_SOURCES):
        entry = a.table + (block * MAX_SOURCES + k) * SOURCE
        if entry[0] < 0:
            break
        s.x[k] = <const char*>a.x[entry[0]] + (n * entry[4] + entry[1] * entry[3] + row * entry[2]) * size
        order = vi_load(a.lanes + (block * MAX_SOURCES + k) * VW)
        s.mask[k] = ~(order >> 31)
        s.order[k] = order & s.mask[k]
        s.count += 1
    s.y = <char*>a.y + (n * a.strides.image + block * a.strides.plane + row * a.strides.row) * size


cdef void gather_channels_blocked_f32(
    const GatherChannelsArgs* a, int64_t begin, int64_t end, void* scratch
) noexcept nogil:
    """Picks the channels of y from up to MAX_TENSORS blocked tensors.

    `table` has MAX_SOURCES entries for every output block: (tensor, block, row, plane, image), where the last three are
    strides in elements; tensor < 0 ends the entries of a block. `lanes` has VW numbers for every entry: the source lane
    of each output lane, or -1 if another source gives it. Lanes that no source gives become zero. One work item = one
    row of one output block.
    """
    cdef int64_t item, i, k, w = a.w
    cdef Sources s
    cdef const float* first
    cdef const float* second
    cdef float* y
    cdef vf v
    for item in range(begin, end):
        find_sources(a, item, sizeof(float), &s)
        y = <float*>s.y
        first = <const float*>s.x[0]
        second = <const float*>s.x[1]
        if s.count == 1:
            for i in range(w):
                v = vf_permute(vf_load(first + i * VW), s.order[0])
                vf_store(y + i * VW, vf_select(s.mask[0], v, vf_zero()))
        elif s.count == 2:
            for i in range(w):
                v = vf_select(s.mask[0], vf_permute(vf_load(first + i * VW), s.order[0]), vf_zero())
                v = vf_select(s.mask[1], vf_permute(vf_load(second + i * VW), s.order[1]), v)
                vf_store(y + i * VW, v)
        else:
            for i in range(w):
                v = vf_zero()
                for k in range(s.count):
                    v = vf_select(s.mask[k], vf_permute(vf_load(<const float*>s.x[k] + i * VW), s.order[k]), v)
                vf_store(y + i * VW, v)


cdef void gather_channels_blocked_8(
    const GatherChannelsArgs* a, int64_t begin, int64_t end, void* scratch
) noexcept nogil:
    """The same for elements of 8 bits."""
    cdef int64_t item, i, k, w = a.w
    cdef Sources s
    cdef int8_t* y
    cdef vi v
    for item in range(begin, end):
        find_sources(a, item, 1, &s)
        y = <int8_t*>s.y
        for i in range(w):
            v = vi_set1(0)
            for k in range(s.count):
                v = v | (<vi>vf_permute(<vf>vi_load_s8(<const int8_t*>s.x[k] + i * VW), s.order[k]) & s.mask[k])
            vi_store_8(y + i * VW, v)


include "gather_channels_table.pxi"
