"""Regions of blocked images pooled to one size, by samples as dense as ONNX says."""

from libc.math cimport INFINITY, ceilf
from libc.stdint cimport int32_t, int64_t

from megengine_lite.kernels.common.arguments cimport Strides
from megengine_lite.kernels.common.simd cimport (
    VW, vf, vf_eq, vf_fma, vf_le, vf_load, vf_select, vf_set1, vf_store, vf_zero,
)


# A pixel of a bin along one axis.
cdef struct Pixel:
    int64_t place
    float weight


# What the bins of a region are made of along one axis: bin b has the pixels `first[b]` up to first[b + 1].
cdef struct Bins:
    int64_t count, samples
    int32_t* first
    Pixel* pixels


cdef struct AlignRegionsArgs:
    const float* x
    const float* rois
    const void* numbers
    float* y
    int32_t* no_image
    int32_t* no_region
    Strides x_, y_
    int64_t wide, largest, half_pixel, ratio, most, images, blocks, h, w, oh, ow
    double scale


def scratch_bytes(int64_t oh, int64_t ow, int64_t samples):
    """Bytes of scratch of align_regions_f32: the pixels of up to `samples` samples of all bins, along both axes."""
    return (oh + ow) * (2 * samples + 1) * sizeof(Pixel) + 32


cdef inline void add_pixel(Bins* b, int64_t* n, int64_t begin, int64_t place, float weight, bint merge) noexcept nogil:
    """One more pixel of a bin whose pixels begin at `begin`; equal ones are merged if `merge`."""
    cdef int64_t k
    if merge:
        for k in range(max(begin, n[0] - 2), n[0]):
            if b.pixels[k].place == place:
                b.pixels[k].weight += weight
                return
    b.pixels[n[0]].place = place
    b.pixels[n[0]].weight = weight
    n[0] += 1


cdef inline bint place_bins(
    Bins* b, const AlignRegionsArgs* a, float begin, float end, int64_t length, int64_t stride
) noexcept nogil:
    """False if the region is not finite, or takes more samples than are allowed."""
    cdef float extent = end - begin, size, rest
    cdef double at
    cdef int64_t k, s, low, n = 0
    cdef bint inside
    if not a.half_pixel and extent < 1:
        extent = 1
    if not (-INFINITY < begin < INFINITY and -INFINITY < extent < INFINITY):
        return False
    size = extent / <float>b.count
    b.samples = a.ratio
    if not a.ratio:
        if ceilf(size) > <float>a.most:
            return False
        b.samples = max(<int64_t>ceilf(size), <int64_t>0)
    for k in range(b.count):
        b.first[k] = <int32_t>n
        for s in range(b.samples):
            at = begin + (k + (s + 0.5) / b.samples) * size
            inside = -1 <= at <= length
            at = min(max(at, 0), <double>(length - 1))
            low = min(<int64_t>at, length - 1)
            rest = <float>(at - low)
            add_pixel(b, &n, b.first[k], low * stride, (1 - rest) * inside, not a.largest)
            add_pixel(b, &n, b.first[k], min(low + 1, length - 1) * stride, rest * inside, not a.largest)
    b.first[b.count] = <int32_t>n
    return True


cdef inline vf pool_bin(
    const float* x, const Bins* rows, int64_t i, const Bins* columns, int64_t j, bint largest
) noexcept nogil:
    """The weighted sum of the pixels of a bin, or the largest weighted one, NaN if there is one."""
    cdef vf total = vf_set1(-INFINITY) if largest else vf_zero(), part, v
    cdef int64_t p, q
    cdef const float* row
    for p in range(rows.first[i], rows.first[i + 1]):
        row = x + rows.pixels[p].place
        part = vf_zero()
        for q in range(columns.first[j], columns.first[j + 1]):
            if largest:
                v = vf_load(row + columns.pixels[q].place) * vf_set1(rows.pixels[p].weight * columns.pixels[q].weight)
                total = vf_select(vf_le(v, total), total, vf_select(vf_eq(total, total), v, total))
            else:
                part = vf_fma(vf_load(row + columns.pixels[q].place), vf_set1(columns.pixels[q].weight), part)
        if not largest:
            total = vf_fma(part, vf_set1(rows.pixels[p].weight), total)
    return total


cdef void align_regions_f32(const AlignRegionsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Mean or maximum of weighted pixels in each bin of each region x0, y0, x1, y1 of the image with its number.

    `ratio` samples along each axis of a bin; 0 for one a pixel, at most `most`. One work item = one channel block of one
    region. A region of an image that does not exist sets `no_image`, one that is not finite or needs more samples
    `no_region`; both give zeros. Scratch: scratch_bytes(oh, ow, ratio or most).
    """
    cdef int64_t item, region, number = 0, planned = -1, i, j
    cdef bint fits = False
    cdef const float* roi
    cdef const float* x
    cdef float* y
    cdef float scale = <float>a.scale, shift = <float>0.5 if a.half_pixel else <float>0.0, factor
    cdef Bins rows, columns
    cdef vf v
    rows.count = a.oh
    columns.count = a.ow
    rows.first = <int32_t*>scratch
    columns.first = rows.first + a.oh + 1
    rows.pixels = <Pixel*>(rows.first + (a.oh + a.ow + 2 + 3) // 4 * 4)
    columns.pixels = rows.pixels + a.oh * 2 * (a.ratio if a.ratio else a.most)
    for item in range(begin, end):
        region = item // a.blocks
        if region != planned:
            planned = region
            roi = a.rois + 4 * region
            number = (<const int64_t*>a.numbers)[region] if a.wide else (<const int32_t*>a.numbers)[region]
            fits = 0 <= number < a.images
            if not fits:
                a.no_image[0] = 1
            elif not (
                place_bins(&rows, a, roi[1] * scale - shift, roi[3] * scale - shift, a.h, a.x_.row)
                and place_bins(&columns, a, roi[0] * scale - shift, roi[2] * scale - shift, a.w, VW)
            ):
                fits = False
                a.no_region[0] = 1
        y = a.y + region * a.y_.image + item % a.blocks * a.y_.plane
        if not fits or rows.samples == 0 or columns.samples == 0:
            for i in range(a.oh):
                for j in range(a.ow):
                    vf_store(y + i * a.y_.row + j * VW, vf_zero())
            continue
        x = a.x + number * a.x_.image + item % a.blocks * a.x_.plane
        factor = 1 / <float>(rows.samples * columns.samples)
        for i in range(a.oh):
            for j in range(a.ow):
                v = pool_bin(x, &rows, i, &columns, j, a.largest)
                vf_store(y + i * a.y_.row + j * VW, v if a.largest else v * vf_set1(factor))


include "align_regions_table.pxi"
