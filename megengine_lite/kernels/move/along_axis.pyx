"""Elements at an index along an axis, taken and written: the index has as many dimensions as the data.

An index may be negative, counted from the end. One that is out of range sets the step's `fault`; it gives zeros, and
changes nothing.
"""

from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset

from megengine_lite.kernels.common.indexes cimport resolved
from megengine_lite.kernels.common.simd cimport inlined


cpdef enum:  # planners read it
    MAX_OUTER = 6  # dimensions but the last one

ctypedef fused index_type:
    int32_t
    int64_t


# Rows of the index, along its last axis, and where they lie in the data. `extent` are the dimensions of the work items,
# `stride` their distances in the data in bytes, and `row` in rows of the index. A work item has `along` rows, `step`
# rows apart: those along the axis, if that is not the last one.
cdef struct IndexRows:
    const void* index
    int32_t* fault
    int64_t wide  # whether the index is int64, not int32
    int64_t length, item, axis_extent, axis_stride, last_stride, along, step
    int64_t extent[MAX_OUTER]
    int64_t stride[MAX_OUTER]
    int64_t row[MAX_OUTER]


cdef struct GatherElementsArgs:
    const char* x
    char* y
    IndexRows rows


cdef struct ScatterElementsArgs:
    const char* x
    char* y
    int64_t adds
    IndexRows rows


cdef inline void find_rows(const IndexRows* r, int64_t work, int64_t* row, int64_t* place) noexcept nogil:
    """The first row of a work item, and its distance in the data."""
    cdef int64_t k, at
    row[0] = place[0] = 0
    for k in range(MAX_OUTER - 1, -1, -1):
        if r.extent[k] > 1:
            at = work % r.extent[k]
            work //= r.extent[k]
            row[0] += at * r.row[k]
            place[0] += at * r.stride[k]


cdef inline int64_t place_of(const IndexRows* r, const index_type* index, int64_t j) noexcept nogil:
    """Distance of an element from its row's place in the data, or -1 and a fault."""
    cdef int64_t at = resolved(index[j], r.axis_extent, r.fault)
    return -1 if at < 0 else at * r.axis_stride + j * r.last_stride


cdef inline void copy_element(char* y, const char* x, int64_t item) noexcept nogil:
    if item == 4:
        memcpy(y, x, 4)
    elif item == 8:
        memcpy(y, x, 8)
    elif item == 2:
        memcpy(y, x, 2)
    else:
        memcpy(y, x, item)


cdef inline inlined gather_row(
    int64_t ITEM, const IndexRows* r, const index_type* index, const char* x, char* y
) noexcept nogil:
    """ITEM may be a constant."""
    cdef int64_t j, found
    for j in range(r.length):
        found = place_of(r, index, j)
        if found < 0:
            memset(y + j * ITEM, 0, ITEM)
        else:
            copy_element(y + j * ITEM, x + found, ITEM)


cdef inline void gather_row_of(
    const IndexRows* r, const index_type* index, const char* x, char* y
) noexcept nogil:
    if r.item == 4:
        gather_row(4, r, index, x, y)
    else:
        gather_row(r.item, r, index, x, y)


cdef void gather_elements(const GatherElementsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y[..., j] = x[..., j] with `index` as coordinate of the axis; y is dense.

    One work item = one position of `extent`.
    """
    cdef const IndexRows* r = &a.rows
    cdef int64_t work, row, place, k, first
    for work in range(begin, end):
        find_rows(r, work, &row, &place)
        for k in range(r.along):
            first = row * r.length
            if r.wide:
                gather_row_of(r, <const int64_t*>r.index + first, a.x + place, a.y + first * r.item)
            else:
                gather_row_of(r, <const int32_t*>r.index + first, a.x + place, a.y + first * r.item)
            row += r.step


cdef inline inlined scatter_row(
    bint ADDS, int64_t ITEM, const IndexRows* r, const index_type* index, const char* x, char* y
) noexcept nogil:
    cdef int64_t j, found
    for j in range(r.length):
        found = place_of(r, index, j)
        if found < 0:
            continue
        if ADDS:
            (<float*>(y + found))[0] += (<const float*>(x + j * ITEM))[0]
        else:
            copy_element(y + found, x + j * ITEM, ITEM)


cdef inline void scatter_row_of(
    bint adds, const IndexRows* r, const index_type* index, const char* x, char* y
) noexcept nogil:
    if adds:
        scatter_row(True, 4, r, index, x, y)
    elif r.item == 4:
        scatter_row(False, 4, r, index, x, y)
    else:
        scatter_row(False, r.item, r, index, x, y)


cdef void scatter_elements(const ScatterElementsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """The reverse: y with dense x written into it, or added if `adds`, float32 then.

    Elements for one place go in order. One work item = one position of `extent`; it has all elements that may share a
    place.
    """
    cdef const IndexRows* r = &a.rows
    cdef int64_t work, row, place, k, first
    for work in range(begin, end):
        find_rows(r, work, &row, &place)
        for k in range(r.along):
            first = row * r.length
            if r.wide:
                scatter_row_of(
                    a.adds, r, <const int64_t*>r.index + first, a.x + first * r.item, a.y + place
                )
            else:
                scatter_row_of(
                    a.adds, r, <const int32_t*>r.index + first, a.x + first * r.item, a.y + place
                )
            row += r.step


include "along_axis_table.pxi"
