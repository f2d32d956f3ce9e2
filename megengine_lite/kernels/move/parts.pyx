"""Parts of data that stay, or change places: triangles of matrices, sequences turned around."""

from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset


cdef struct KeepTriangleArgs:
    const char* x
    char* y
    int64_t rows, row_bytes, item, diagonal, upper


cdef void keep_triangle(const KeepTriangleArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Matrices x with zeros below or, unless `upper`, above a diagonal, counted upwards from the main one.

    One work item = a row.
    """
    cdef int64_t row, edge
    for row in range(begin, end):
        edge = row % a.rows + a.diagonal + (0 if a.upper else 1)
        edge = min(max(edge * a.item, <int64_t>0), a.row_bytes)
        if a.upper:
            memset(a.y + row * a.row_bytes, 0, edge)
            memcpy(a.y + row * a.row_bytes + edge, a.x + row * a.row_bytes + edge, a.row_bytes - edge)
        else:
            memcpy(a.y + row * a.row_bytes, a.x + row * a.row_bytes, edge)
            memset(a.y + row * a.row_bytes + edge, 0, a.row_bytes - edge)


cdef struct ReverseSequencesArgs:
    const char* x
    char* y
    const void* lengths
    int32_t* fault
    int64_t wide, batch, time, time_stride, batch_stride, run


cdef void reverse_sequences(const ReverseSequencesArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """The first lengths[b] runs of each sequence b in reverse, the others as they are; strides in bytes.

    A length that does not fit sets `fault` and leaves its sequence as it is. One work item = one sequence.
    """
    cdef int64_t b, t, length, source
    for b in range(begin, end):
        length = (<const int64_t*>a.lengths)[b] if a.wide else (<const int32_t*>a.lengths)[b]
        if not 0 <= length <= a.time:
            a.fault[0] = 1
            length = 0
        for t in range(a.time):
            source = length - 1 - t if t < length else t
            memcpy(
                a.y + b * a.batch_stride + t * a.time_stride, a.x + b * a.batch_stride + source * a.time_stride, a.run
            )


include "parts_table.pxi"
