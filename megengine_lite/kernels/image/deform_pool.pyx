"""Regions of blocked images pooled to one size, with bins that are moved by learned offsets."""

from libc.math cimport floorf, roundf
from libc.stdint cimport int32_t, int64_t

from megengine_lite.kernels.common.arguments cimport Strides
from megengine_lite.kernels.common.simd cimport (
    VW, vf, vf_fma, vf_load, vf_select, vf_set1, vf_store, vf_zero, vi, vi_first,
)


# Two neighbouring pixels of a row or a column, and their weights.
cdef struct PixelPair:
    int64_t first, second
    float first_weight, second_weight


# A region along one axis: where it begins, its length, and that of a bin.
cdef struct Extent:
    float begin, length, bin


cdef struct DeformPoolArgs:
    const float* x
    const float* rois
    const float* trans
    float* y
    float* counts
    int32_t* fault
    Strides x_, y_, counts_
    int64_t images, channels, h, w, oh, ow, parts, samples
    double scale, spread


def scratch_bytes(int64_t samples):
    """Bytes of scratch: the taps of the samples of a bin along both axes."""
    return 2 * samples * sizeof(PixelPair)


cdef inline Extent place_region(float begin, float end, float scale, int64_t bins) noexcept nogil:
    """Of the corners as they are given; the same sums of floats as in the operator's definition."""
    cdef float half = 0.5, least = <float>0.1
    cdef float first = roundf(begin) * scale - half
    cdef float length = (roundf(end) + 1) * scale - half - first
    if least > length:
        length = least
    return Extent(first, length, length / <float>bins)


cdef inline int64_t place_taps(
    PixelPair* taps, Extent e, int64_t b, float move, int64_t samples, int64_t size, int64_t stride
) noexcept nogil:
    """Taps of the samples of bin b that lie in the image; their number."""
    cdef float begin = e.begin + <float>b * e.bin + move * e.length, step = e.bin / <float>samples
    cdef float low = -0.5, high = <float>(size - 0.5), last = <float>(size - 1), at, whole
    cdef int64_t k, count = 0, pixel
    for k in range(samples):
        at = begin + <float>k * step
        if not low <= at <= high:
            continue
        at = 0 if at < 0 else last if at > last else at
        whole = floorf(at)
        pixel = min(<int64_t>whole, size - 1)
        taps[count] = PixelPair(pixel * stride, min(pixel + 1, size - 1) * stride, 1 - (at - whole), at - whole)
        count += 1
    return count


cdef inline vf sum_samples(
    const float* x, const PixelPair* rows, int64_t row_count, const PixelPair* columns, int64_t column_count
) noexcept nogil:
    """Sum of all samples of a bin, each between four pixels."""
    cdef vf total = vf_zero(), first, second, above, above2, below, below2
    cdef const float* upper
    cdef const float* lower
    cdef int64_t r, c
    for r in range(row_count):
        upper, lower = x + rows[r].first, x + rows[r].second
        above, above2, below, below2 = vf_zero(), vf_zero(), vf_zero(), vf_zero()
        for c in range(column_count):
            first, second = vf_set1(columns[c].first_weight), vf_set1(columns[c].second_weight)
            above = vf_fma(vf_load(upper + columns[c].first), first, above)
            above2 = vf_fma(vf_load(upper + columns[c].second), second, above2)
            below = vf_fma(vf_load(lower + columns[c].first), first, below)
            below2 = vf_fma(vf_load(lower + columns[c].second), second, below2)
        total = vf_fma(above + above2, vf_set1(rows[r].first_weight), total)
        total = vf_fma(below + below2, vf_set1(rows[r].second_weight), total)
    return total


cdef void deform_pool_f32(const DeformPoolArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Mean of the samples in each bin of each region [image, x0, y0, x1, y1], and if `counts` is given their number.

    A bin moves by the (x, y) of its part in `trans` [regions, 2, parts, parts], which may be NULL, times `spread` and
    the size of the region. One work item = one row of bins of one region. A region of an image that does not exist
    gives zeros and sets `fault`. Scratch: scratch_bytes(samples).
    """
    cdef int64_t blocks = (a.channels + VW - 1) // VW, parts = a.parts, samples = a.samples
    cdef float scale = <float>a.scale, spread = <float>a.spread, move_x, move_y
    cdef PixelPair* rows = <PixelPair*>scratch
    cdef PixelPair* columns = rows + samples
    cdef Extent across, down
    cdef const float* roi
    cdef const float* x
    cdef const float* move
    cdef float* y
    cdef float* counted
    cdef int64_t item, region, i, j, k, row_count, column_count, total
    cdef bint fits
    cdef vf count
    for item in range(begin, end):
        region, i = item // a.oh, item % a.oh
        roi = a.rois + 5 * region
        fits = 0.0 <= roi[0] < <float>a.images
        x = a.x
        if fits:
            x = x + <int64_t>roi[0] * a.x_.image
        else:
            a.fault[0] = 1
        across, down = place_region(roi[1], roi[3], scale, a.ow), place_region(roi[2], roi[4], scale, a.oh)
        move_x = move_y = 0
        for j in range(a.ow):
            if a.trans:
                move = a.trans + (2 * region * parts + i * parts // a.oh) * parts + j * parts // a.ow
                move_x, move_y = move[0] * spread, move[parts * parts] * spread
            row_count = place_taps(rows, down, i, move_y, samples, a.h, a.x_.row)
            column_count = place_taps(columns, across, j, move_x, samples, a.w, VW)
            total = row_count * column_count if fits else 0
            y = a.y + region * a.y_.image + i * a.y_.row + j * VW
            count = vf_set1(<float>total)
            for k in range(blocks):
                if total:
                    vf_store(
                        y + k * a.y_.plane,
                        sum_samples(x + k * a.x_.plane, rows, row_count, columns, column_count) / count,
                    )
                else:
                    vf_store(y + k * a.y_.plane, vf_zero())
            if a.counts:
                counted = a.counts + region * a.counts_.image + i * a.counts_.row + j * VW
                for k in range(blocks):
                    vf_store(
                        counted + k * a.counts_.plane,
                        vf_select(vi_first(min(a.channels - k * VW, VW)), count, vf_zero()),
                    )


include "deform_pool_table.pxi"
