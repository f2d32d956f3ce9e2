"""Gathering by index: embedding lookup, indexing with tensors, one element along an axis; and assignment by index.

An index may be negative, counted from the end, where nothing else is said. One that is out of range sets the step's `fault`; it gives zeros, and
changes nothing.
"""

from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset

from megengine_lite.kernels.common.indexes cimport resolved
from megengine_lite.kernels.common.simd cimport inlined


cpdef enum:  # planners read it
    MAX_INDEXES = 4


cdef struct GatherRunsArgs:
    const char* x
    char* y
    int32_t* fault
    const void* index[MAX_INDEXES]
    int64_t wide  # whether indexes are int64, not int32
    int64_t step  # from the index of a point to that of the next one
    int64_t from_end  # whether negative ones count from the end
    int64_t points, run, outer_stride, indexes
    int64_t extent[MAX_INDEXES]
    int64_t stride[MAX_INDEXES]


cdef inline int64_t place_of_run(bint WIDE, int64_t indexes, const GatherRunsArgs* a, int64_t point) noexcept nogil:
    """Distance of a run from x[o], or -1 and a fault."""
    cdef int64_t k, index, place = 0
    for k in range(indexes):
        if WIDE:
            index = (<const int64_t*>a.index[k])[point * a.step]
        else:
            index = (<const int32_t*>a.index[k])[point * a.step]
        if index < 0 and not a.from_end:
            a.fault[0] = 1
            return -1
        index = resolved(index, a.extent[k], a.fault)
        if index < 0:
            return -1
        place += index * a.stride[k]
    return place


cdef inline void copy_run(char* y, const char* x, int64_t nbytes) noexcept nogil:
    if nbytes == 4:
        memcpy(y, x, 4)
    elif nbytes == 8:
        memcpy(y, x, 8)
    elif nbytes == 1:
        y[0] = x[0]
    else:
        memcpy(y, x, nbytes)


# Loops over points, for some constants: with one index, a run of 4 bytes.

cdef inline inlined gather_points(
    bint WIDE, int64_t indexes, int64_t run, const GatherRunsArgs* a, int64_t begin, int64_t end
) noexcept nogil:
    cdef int64_t outer = begin // a.points, point = begin % a.points, item, place
    for item in range(begin, end):
        place = place_of_run(WIDE, indexes, a, point)
        if place < 0:
            memset(a.y + item * run, 0, run)
        else:
            copy_run(a.y + item * run, a.x + outer * a.outer_stride + place, run)
        point += 1
        if point == a.points:
            point = 0
            outer += 1


cdef inline inlined scatter_points(
    bint WIDE, int64_t indexes, int64_t run, const GatherRunsArgs* a, int64_t outer
) noexcept nogil:
    cdef int64_t point, place
    cdef const char* x = a.x + outer * a.points * run
    for point in range(a.points):
        place = place_of_run(WIDE, indexes, a, point)
        if place >= 0:
            copy_run(a.y + outer * a.outer_stride + place, x + point * run, run)


cdef void gather_runs(const GatherRunsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y[o][p] = x[o][index0[p]][index1[p]]...: runs of `run` bytes.

    `extent` and `stride` (in bytes) belong to the indexed axes, `outer_stride` to o. One work item = one run.
    """
    if a.wide and a.indexes == 1 and a.run == 4:
        gather_points(True, 1, 4, a, begin, end)
    elif a.wide:
        gather_points(True, a.indexes, a.run, a, begin, end)
    elif a.indexes == 1 and a.run == 4:
        gather_points(False, 1, 4, a, begin, end)
    else:
        gather_points(False, a.indexes, a.run, a, begin, end)


cdef void scatter_runs(const GatherRunsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y[o][index0[p]][index1[p]]... = x[o][p]: the reverse. Of several runs for one place, the last one stays.

    One work item = all runs of one o.
    """
    cdef int64_t outer
    for outer in range(begin, end):
        if a.wide and a.indexes == 1 and a.run == 4:
            scatter_points(True, 1, 4, a, outer)
        elif a.wide:
            scatter_points(True, a.indexes, a.run, a, outer)
        elif a.indexes == 1 and a.run == 4:
            scatter_points(False, 1, 4, a, outer)
        else:
            scatter_points(False, a.indexes, a.run, a, outer)


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
