"""The pixels of an image, moved by a matrix."""

from libc.stdint cimport int64_t

from megengine_lite.kernels.common.simd cimport inlined


cpdef enum:  # planners read it
    AXES = 3


cdef struct AffinePointsArgs:
    const float* matrices  # [n, axes, axes + 1]
    float* y  # [n, outer axes, w, axes]
    const float* at[AXES]  # where the pixels of an axis are, the first axis of an image first
    int64_t extent[AXES]
    int64_t axes


cdef inline inlined move_row(
    int64_t AXES_, int64_t width, const float* matrix, const float* at, const float* start, float* y
) noexcept nogil:
    """A row of pixels. The last axis is the first coordinate."""
    cdef int64_t i, j
    for i in range(width):
        for j in range(AXES_):
            y[i * AXES_ + j] = at[i] * matrix[j * (AXES_ + 1)] + start[j]


cdef void affine_points_f32(const AffinePointsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y = matrix * (coordinates of the pixel, 1), coordinates in reverse order of the axes.

    One work item = the pixels of an image along its last axis.
    """
    cdef int64_t axes = a.axes, last = a.axes - 1, item, rest, j, k
    cdef float start[AXES]
    cdef float at
    cdef const float* matrix
    for item in range(begin, end):
        rest = item
        for k in range(last):
            rest //= a.extent[k]
        matrix = a.matrices + rest * axes * (axes + 1)
        for j in range(axes):
            start[j] = matrix[j * (axes + 1) + axes]
        rest = item
        for k in range(last - 1, -1, -1):
            at = a.at[k][rest % a.extent[k]]
            rest //= a.extent[k]
            for j in range(axes):
                start[j] += at * matrix[j * (axes + 1) + last - k]
        if axes == 2:
            move_row(2, a.extent[1], matrix, a.at[1], start, a.y + item * a.extent[1] * 2)
        else:
            move_row(axes, a.extent[last], matrix, a.at[last], start, a.y + item * a.extent[last] * axes)


include "affine_points_table.pxi"
