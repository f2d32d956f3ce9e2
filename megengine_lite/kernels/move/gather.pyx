"""Gathering by index: embedding lookup, indexing with tensors, one element along an axis.

An index may be negative, counted from the end. One that is out of range sets the step's `fault` and gives zeros.
"""

from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset


cpdef enum:  # planners read it
    MAX_INDEXES = 4


cdef inline int64_t resolved(int64_t index, int64_t extent, int32_t* fault) noexcept nogil:
    """The place of an index in [0, extent), or -1 and a fault."""
    if index < 0:
        index += extent
    if 0 <= index < extent:
        return index
    fault[0] = 1
    return -1


cdef struct GatherRunsArgs:
    const char* x
    char* y
    int32_t* fault
    const int32_t* index[MAX_INDEXES]
    int64_t points, run, outer_stride, indexes
    int64_t extent[MAX_INDEXES]
    int64_t stride[MAX_INDEXES]


cdef void gather_runs(const GatherRunsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y[o][p] = x[o][index0[p]][index1[p]]...: runs of `run` bytes.

    `extent` and `stride` (in bytes) belong to the indexed axes, `outer_stride` to o. One work item = one run.
    """
    cdef const char* x = a.x
    cdef char* y = a.y
    cdef int32_t* fault = a.fault
    cdef int64_t points = a.points, run = a.run, outer_stride = a.outer_stride, indexes = a.indexes
    cdef const int64_t* extent = &a.extent[0]
    cdef const int64_t* stride = &a.stride[0]
    cdef int64_t item, outer, point, place, k
    cdef const char* source
    for item in range(begin, end):
        outer = item // points
        point = item - outer * points
        source = x + outer * outer_stride
        for k in range(indexes):
            place = resolved(a.index[k][point], extent[k], fault)
            if place < 0:
                source = NULL
                break
            source += place * stride[k]
        if source == NULL:
            memset(y + item * run, 0, run)
        elif run == 4:
            (<int32_t*>y)[item] = (<const int32_t*>source)[0]
        elif run == 8:
            (<int64_t*>y)[item] = (<const int64_t*>source)[0]
        elif run == 1:
            y[item] = source[0]
        else:
            memcpy(y + item * run, source, run)


cdef struct GatherOneHotArgs:
    const char* x
    const int32_t* index
    char* y
    int32_t* fault
    int64_t extent, inner, item


cdef void gather_one_hot(const GatherOneHotArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y[o][i] = x[o][index[o][i]][i], elements of `item` bytes. One work item = one o. Negative indexes are wrong."""
    cdef const char* x = a.x
    cdef const int32_t* index = a.index
    cdef char* y = a.y
    cdef int32_t* fault = a.fault
    cdef int64_t extent = a.extent, inner = a.inner, item = a.item
    cdef int64_t o, i, place
    for o in range(begin, end):
        for i in range(inner):
            place = index[o * inner + i]
            if not 0 <= place < extent:
                fault[0] = 1
                memset(y + (o * inner + i) * item, 0, item)
            else:
                memcpy(y + (o * inner + i) * item, x + ((o * extent + place) * inner + i) * item, item)


include "gather_table.pxi"
