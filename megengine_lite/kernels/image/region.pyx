"""Regions of interest: pooled from blocked images, by samples (align) or whole pixels (pool); overlapping ones dropped.
"""

from libc.math cimport ceilf, floorf, roundf
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memset

from megengine_lite.kernels.common.arguments cimport Strides
from megengine_lite.kernels.common.simd cimport (
    VW, vf, vf_eq, vf_fma, vf_le, vf_load, vf_max, vf_select, vf_set1, vf_store, vf_zero,
)

include "roi_mode_numbers.pxi"  # numbers of ROIAlignMode, which are those of ROIPoolingMode


# Two neighbouring pixels and their weights. A pixel outside of the image has the weight 0.
cdef struct Tap:
    int64_t first, second
    float first_weight, second_weight


cdef inline void place_taps(
    Tap* taps, float start, float end, int64_t bins, int64_t samples, int64_t extent, int64_t stride
) noexcept nogil:
    """Taps of all samples along one axis; positions are the same sums of floats as in the operator's definition."""
    cdef float length = end - start
    cdef float size, position, left, fraction
    cdef int64_t b, s, k
    cdef Tap* t
    size = (length if length > 0.0 else <float>0.0) / <float>bins
    for b in range(bins):
        for s in range(samples):
            position = (start + <float>b * size) + (<float>s + <float>0.5) * (size / <float>samples)
            left = floorf(position)
            fraction = position - left
            t = taps + b * samples + s
            t.first = 0
            t.second = 0
            t.first_weight = 0.0
            t.second_weight = 0.0
            if -1.0 <= left < <float>extent:
                k = <int64_t>left
                if k >= 0:
                    t.first = k * stride
                    t.first_weight = 1 - fraction
                if k + 1 < extent:
                    t.second = (k + 1) * stride
                    t.second_weight = fraction


cdef inline vf sample(const float* x, const Tap* y_tap, const Tap* x_tap) noexcept nogil:
    """Linear interpolation between four pixels."""
    cdef vf above = vf_load(x + y_tap.first + x_tap.first) * vf_set1(x_tap.first_weight)
    cdef vf below = vf_load(x + y_tap.second + x_tap.first) * vf_set1(x_tap.first_weight)
    above = vf_fma(vf_load(x + y_tap.first + x_tap.second), vf_set1(x_tap.second_weight), above)
    below = vf_fma(vf_load(x + y_tap.second + x_tap.second), vf_set1(x_tap.second_weight), below)
    return vf_fma(below, vf_set1(y_tap.second_weight), above * vf_set1(y_tap.first_weight))


cdef inline void clear(float* y, int64_t oh, int64_t ow, int64_t row) noexcept nogil:
    cdef int64_t i, j
    for i in range(oh):
        for j in range(ow):
            vf_store(y + i * row + j * VW, vf_zero())


cdef struct RoiAlignArgs:
    const float* x
    const float* rois
    float* y
    int32_t* fault
    Strides x_, y_
    int64_t mode, images, blocks, h, w, oh, ow, sample_h, sample_w
    double scale, offset


def scratch_bytes(int64_t oh, int64_t ow, int64_t sample_h, int64_t sample_w):
    """Bytes of scratch: the taps of all samples along both axes."""
    return sizeof(Tap) * (oh * sample_h + ow * sample_w)


cdef void roi_align_blocked_f32(const RoiAlignArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Maximum or mean of the samples in each bin of each region [image, x0, y0, x1, y1].

    One work item = one channel block of one region. A region of an image that does not exist gives zeros and sets
    `fault`. Scratch: scratch_bytes(oh, ow, sample_h, sample_w).
    """
    cdef bint largest = a.mode == ROI_MAX
    cdef int64_t images = a.images, blocks = a.blocks, h = a.h, w = a.w
    cdef int64_t x_row = a.x_.row, x_plane = a.x_.plane, x_image = a.x_.image
    cdef int64_t oh = a.oh, ow = a.ow, sample_h = a.sample_h, sample_w = a.sample_w
    cdef int64_t y_row = a.y_.row, y_plane = a.y_.plane, y_image = a.y_.image
    cdef float scale = <float>a.scale, offset = <float>a.offset
    cdef Tap* rows = <Tap*>scratch
    cdef Tap* columns = rows + oh * sample_h
    cdef int64_t item, region, planned = -1, i, j, p, q
    cdef const float* roi
    cdef const float* x
    cdef float* y
    cdef vf total, v
    cdef vf weight = vf_set1(<float>1.0 / <float>(sample_h * sample_w))
    for item in range(begin, end):
        region = item // blocks
        roi = a.rois + 5 * region
        y = a.y + region * y_image + item % blocks * y_plane
        if not 0.0 <= roi[0] < <float>images:
            a.fault[0] = 1
            clear(y, oh, ow, y_row)
            continue
        if region != planned:
            place_taps(rows, roi[2] * scale - offset, roi[4] * scale - offset, oh, sample_h, h, x_row)
            place_taps(columns, roi[1] * scale - offset, roi[3] * scale - offset, ow, sample_w, w, VW)
            planned = region
        x = a.x + <int64_t>roi[0] * x_image + item % blocks * x_plane
        for i in range(oh):
            for j in range(ow):
                total = sample(x, rows + i * sample_h, columns + j * sample_w)
                for p in range(sample_h):
                    for q in range(sample_w):
                        if p + q == 0:
                            continue
                        v = sample(x, rows + i * sample_h + p, columns + j * sample_w + q)
                        total = vf_max(v, total) if largest else total + v
                vf_store(y + i * y_row + j * VW, total if largest else total * weight)


# ---- whole pixels --------------------------------------------------------------------------------------------------

# The pixels of a bin along one axis.
cdef struct Edges:
    int64_t first, last


cdef inline int64_t limited(float edge, int64_t extent) noexcept nogil:
    """0 for NaN."""
    return 0 if not edge > 0 else extent if edge >= <float>extent else <int64_t>edge


cdef inline void place_edges(Edges* edges, float start, float end, int64_t bins, int64_t extent) noexcept nogil:
    """Edges of all bins along one axis; the same sums of floats as in the operator's definition."""
    cdef float length = end - start + 1
    cdef float size = (<float>1.0 if length < 1 else length) / <float>bins
    cdef int64_t b
    for b in range(bins):
        edges[b].first = limited(floorf(<float>b * size) + start, extent)
        edges[b].last = limited(ceilf(<float>(b + 1) * size) + start, extent)


cdef inline vf pool_bin(
    const float* x, int64_t row, const Edges* rows, const Edges* columns, bint largest
) noexcept nogil:
    """The largest pixel, NaN if there is one, or the mean; 0 of an empty bin."""
    cdef vf total, v
    cdef int64_t i, j
    if rows.last <= rows.first or columns.last <= columns.first:
        return vf_zero()
    if not largest:
        total = vf_zero()
        for i in range(rows.first, rows.last):
            for j in range(columns.first, columns.last):
                total = total + vf_load(x + i * row + j * VW)
        return total / vf_set1(<float>((rows.last - rows.first) * (columns.last - columns.first)))
    total = vf_load(x + rows.first * row + columns.first * VW)
    for i in range(rows.first, rows.last):
        for j in range(columns.first, columns.last):
            v = vf_load(x + i * row + j * VW)
            total = vf_select(vf_le(v, total), total, vf_select(vf_eq(total, total), v, total))
    return total


cdef struct RoiPoolArgs:
    const float* x
    const float* rois
    float* y
    int32_t* fault
    Strides x_, y_
    int64_t mode, images, blocks, h, w, oh, ow
    double scale


def pool_scratch_bytes(int64_t oh, int64_t ow):
    """Bytes of scratch: the edges of all bins along both axes."""
    return sizeof(Edges) * (oh + ow)


cdef void roi_pool_blocked_f32(const RoiPoolArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Maximum or mean of the pixels in each bin of each region [image, x0, y0, x1, y1].

    One work item = one channel block of one region. A region of an image that does not exist gives zeros and sets
    `fault`. Scratch: pool_scratch_bytes(oh, ow).
    """
    cdef float scale = <float>a.scale
    cdef Edges* rows = <Edges*>scratch
    cdef Edges* columns = rows + a.oh
    cdef int64_t item, region, planned = -1, i, j
    cdef const float* roi
    cdef const float* x
    cdef float* y
    for item in range(begin, end):
        region = item // a.blocks
        roi = a.rois + 5 * region
        y = a.y + region * a.y_.image + item % a.blocks * a.y_.plane
        if not 0.0 <= roi[0] < <float>a.images:
            a.fault[0] = 1
            clear(y, a.oh, a.ow, a.y_.row)
            continue
        if region != planned:
            place_edges(rows, roundf(roi[2] * scale), roundf(roi[4] * scale), a.oh, a.h)
            place_edges(columns, roundf(roi[1] * scale), roundf(roi[3] * scale), a.ow, a.w)
            planned = region
        x = a.x + <int64_t>roi[0] * a.x_.image + item % a.blocks * a.x_.plane
        for i in range(a.oh):
            for j in range(a.ow):
                vf_store(y + i * a.y_.row + j * VW, pool_bin(x, a.x_.row, rows + i, columns + j, a.mode == ROI_MAX))


MODES = (ROI_MAX, ROI_AVERAGE)  # of both; planners refuse all others


# ---- suppression ---------------------------------------------------------------------------------------------------

cdef struct NmsKeepArgs:
    const float* boxes
    int32_t* kept
    int32_t* counts
    int64_t n, limit
    double threshold


def nms_scratch_bytes(int64_t n):
    """Bytes of scratch of nms_keep_f32: a mark for each box."""
    return n


cdef void nms_keep_f32(const NmsKeepArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Indexes of boxes (x0, y0, x1, y1) that overlap with no box kept before them by more than `threshold`.

    kept [batch][limit], filled up with the last index; counts [batch]. One work item = one sample. Scratch:
    nms_scratch_bytes(n).
    """
    cdef int64_t n = a.n, limit = a.limit
    cdef float threshold = <float>a.threshold
    cdef uint8_t* gone = <uint8_t*>scratch
    cdef int64_t sample, i, k, found
    cdef float x0, y0, x1, y1, area, width, height, overlap, other
    cdef const float* box
    cdef const float* boxes
    cdef int32_t* kept
    for sample in range(begin, end):
        boxes = a.boxes + sample * n * 4
        kept = a.kept + sample * limit
        memset(gone, 0, n)
        found = 0
        for i in range(n if limit else 0):
            if gone[i]:
                continue
            kept[found] = <int32_t>i
            found += 1
            if found == limit:
                break
            x0 = boxes[4 * i]
            y0 = boxes[4 * i + 1]
            x1 = boxes[4 * i + 2]
            y1 = boxes[4 * i + 3]
            area = (x1 - x0) * (y1 - y0)
            for k in range(i + 1, n):
                box = boxes + 4 * k
                width = min(x1, box[2]) - max(x0, box[0])
                height = min(y1, box[3]) - max(y0, box[1])
                overlap = (width if width > 0.0 else <float>0.0) * (height if height > 0.0 else <float>0.0)
                other = (box[2] - box[0]) * (box[3] - box[1])
                gone[k] |= overlap > (area + other - overlap) * threshold
        a.counts[sample] = <int32_t>found
        for k in range(found, limit):
            kept[k] = kept[found - 1] if found else 0


include "region_table.pxi"
