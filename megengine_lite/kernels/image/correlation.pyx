"""Correlation of two images over displacements: of rows that lie side by side for it."""

from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from megengine_lite.kernels.common.simd cimport (
    VW, inlined, vf, vf_fma, vf_load, vf_max, vf_set1, vf_store_n, vf_zero,
)


cdef enum:
    MOST = 9  # displacements at a time


def row_floats(int64_t w, int64_t pad, int64_t stride):
    """Of a row of a packed image; one of a channel, by how it is packed."""
    return (w + 2 * pad + stride - 1) // stride * stride


def slack_bytes():
    """Behind a packed image: what the last vector of a row reads, and nobody uses."""
    return VW * sizeof(float)


# ---- images side by side ---------------------------------------------------------------------------------------------

cdef struct PackCorrelationArgs:
    const float* x
    float* y
    int64_t channels, h, w, pad, stride


cdef void pack_correlation_f32(const PackCorrelationArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """x [images, channels, h, w] to y [images, padded h, channels, stride, padded w / stride].

    A row has first its columns 0, stride, 2 stride ..., then 1, 1 + stride ...: neighbours in the output are neighbours
    here. One work item = one padded row of all channels.
    """
    cdef int64_t stride = a.stride, pad = a.pad, w = a.w, rows = a.h + 2 * pad
    cdef int64_t length = (w + 2 * pad + stride - 1) // stride, item, row, image, c, k
    cdef const float* x
    cdef float* y
    for item in range(begin, end):
        image, row = item // rows, item % rows - pad
        y = a.y + item * a.channels * stride * length
        if row < 0 or row >= a.h:
            memset(y, 0, a.channels * stride * length * sizeof(float))
            continue
        for c in range(a.channels):
            x = a.x + ((image * a.channels + c) * a.h + row) * w
            memset(y, 0, stride * length * sizeof(float))
            if stride == 1:
                memcpy(y + pad, x, w * sizeof(float))
            else:
                for k in range(w):
                    y[(k + pad) % stride * length + (k + pad) // stride] = x[k]
            y += stride * length


# ---- sums ------------------------------------------------------------------------------------------------------------

cdef struct CorrelationArgs:
    const float* a
    const float* b
    float* y
    int64_t channels, rows, length, oh, ow, size, most, stride, step, across, multiply


cdef inline int64_t place(const CorrelationArgs* a, int64_t column) noexcept nogil:
    """Where a column of the padded image is in a packed row."""
    return column % a.stride * a.length + column // a.stride


cdef inline inlined correlate(
    int COUNT, bint MULTIPLY, const CorrelationArgs* a, const float* first, const float* second, int64_t column,
    int64_t displacement, float* y, int64_t n
) noexcept nogil:
    """n <= VW neighbours in a row of the output, for COUNT displacements to the right from a given one on."""
    cdef int64_t line = a.stride * a.length, i, j, c, x
    cdef int64_t places[MOST]
    cdef const float* p
    cdef const float* q
    cdef vf sums[MOST]
    cdef vf v, d
    cdef vf divisor = vf_set1(<float>(a.channels * a.size * a.size))
    cdef int k
    for k in range(COUNT):
        sums[k] = vf_zero()
    for i in range(a.size):
        for j in range(a.size):
            x = a.most + j
            p = first + i * a.channels * line + place(a, x) + column
            q = second + i * a.channels * line + column
            for k in range(COUNT):
                places[k] = place(a, x + (displacement + k) * a.step)
            for c in range(a.channels):
                v = vf_load(p)
                for k in range(COUNT):
                    if MULTIPLY:
                        sums[k] = vf_fma(vf_load(q + places[k]), v, sums[k])
                    else:
                        d = vf_load(q + places[k]) - v
                        sums[k] = sums[k] + vf_max(d, vf_zero() - d)
                p += line
                q += line
    for k in range(COUNT):
        vf_store_n(y + k * a.oh * a.ow, sums[k] / divisor, n)


cdef inline inlined correlate_row(
    bint MULTIPLY, const CorrelationArgs* a, const float* first, const float* second, float* y
) noexcept nogil:
    """A row of the output for all displacements to the side."""
    cdef int64_t reach = a.across // 2, column = 0, d, count, n
    cdef float* z
    while column < a.ow:
        n = min(a.ow - column, <int64_t>VW)
        d = 0
        while d < a.across:
            count = min(a.across - d, <int64_t>MOST)
            count -= 1 - count % 2  # below are the odd ones
            z = y + d * a.oh * a.ow + column
            if count == 9:
                correlate(9, MULTIPLY, a, first, second, column, d - reach, z, n)
            elif count == 7:
                correlate(7, MULTIPLY, a, first, second, column, d - reach, z, n)
            elif count == 5:
                correlate(5, MULTIPLY, a, first, second, column, d - reach, z, n)
            elif count == 3:
                correlate(3, MULTIPLY, a, first, second, column, d - reach, z, n)
            else:
                correlate(1, MULTIPLY, a, first, second, column, d - reach, z, n)
            d += count
        column += VW


cdef void correlation_f32(const CorrelationArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Means over channels and a window of a b, or of |a - b|, of packed images with b displaced.

    y [images, across, across, oh, ow]: displacements of `step` pixels each, up to `most`, down and to the right. `rows`
    and `length` are those of packed images. One work item = one row of the output for one displacement down.
    """
    cdef int64_t across = a.across, reach = across // 2, row = a.channels * a.stride * a.length
    cdef int64_t item, image, i, down, top
    cdef const float* first
    cdef const float* second
    cdef float* y
    for item in range(begin, end):
        image, i, down = item // across // a.oh, item // across % a.oh, item % across
        top = image * a.rows + a.most + i * a.stride
        first = a.a + top * row
        second = a.b + (top + (down - reach) * a.step) * row
        y = a.y + ((image * across + down) * across * a.oh + i) * a.ow
        if a.multiply:
            correlate_row(True, a, first, second, y)
        else:
            correlate_row(False, a, first, second, y)


include "correlation_table.pxi"
