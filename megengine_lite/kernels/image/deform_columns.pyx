"""What a convolution with moved taps multiplies: the pixels of a blocked image at these places, as plain columns."""

from libc.math cimport floorf
from libc.stdint cimport int64_t

from megengine_lite.kernels.common.arguments cimport FilterWindow, Strides
from megengine_lite.kernels.common.interleave cimport deinterleave
from megengine_lite.kernels.common.simd cimport VW, vf, vf_fma, vf_load, vf_set1, vf_store, vf_zero


cpdef enum:
    COLUMNS = 64  # of a work item


# The four pixels around a place: where they are in a block, -1 outside of the image.
cdef struct MovedTap:
    int64_t pixel[4]
    float weight[4]
    float factor
    bint anything, everything  # of the four pixels is in the image


cdef struct DeformColumnsArgs:
    const float* x
    const float* offset
    const float* mask
    float* y
    FilterWindow window
    Strides x_
    int64_t channels, groups, h, w, oh, ow, first, count


def scratch_bytes():
    """Bytes of scratch: the places of a work item, and one block of its results."""
    return COLUMNS * (sizeof(MovedTap) + VW * sizeof(float))


cdef inline void find_place(MovedTap* p, float y, float x, float factor, const DeformColumnsArgs* a) noexcept nogil:
    cdef float top, left, below, right
    cdef int64_t i, j
    cdef bint up, down, west, east
    p.anything = -1 < y < <float>a.h and -1 < x < <float>a.w
    p.everything = False
    if not p.anything:
        return
    top, left = floorf(y), floorf(x)
    below, right = y - top, x - left
    i, j = <int64_t>top, <int64_t>left
    up, down, west, east = i >= 0, i + 1 < a.h, j >= 0, j + 1 < a.w
    p.everything = up and down and west and east
    p.pixel[0] = i * a.x_.row + j * VW if up and west else -1
    p.pixel[1] = i * a.x_.row + (j + 1) * VW if up and east else -1
    p.pixel[2] = (i + 1) * a.x_.row + j * VW if down and west else -1
    p.pixel[3] = (i + 1) * a.x_.row + (j + 1) * VW if down and east else -1
    p.weight[0] = (1 - right) * (1 - below)
    p.weight[1] = right * (1 - below)
    p.weight[2] = (1 - right) * below
    p.weight[3] = right * below
    p.factor = factor


cdef inline vf sample(const float* x, const MovedTap* p) noexcept nogil:
    cdef vf sum, other
    cdef int k
    if not p.anything:
        return vf_zero()
    if p.everything:
        sum = vf_load(x + p.pixel[0]) * vf_set1(p.weight[0])
        other = vf_load(x + p.pixel[1]) * vf_set1(p.weight[1])
        sum = vf_fma(vf_load(x + p.pixel[2]), vf_set1(p.weight[2]), sum)
        other = vf_fma(vf_load(x + p.pixel[3]), vf_set1(p.weight[3]), other)
        return (sum + other) * vf_set1(p.factor)
    sum = vf_zero()
    for k in range(4):
        if p.pixel[k] >= 0:
            sum = vf_fma(vf_load(x + p.pixel[k]), vf_set1(p.weight[k]), sum)
    return sum * vf_set1(p.factor)


cdef void deform_columns_f32(const DeformColumnsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """x, blocked images, to y [images, channels, kh, kw, count]: output pixels `first` to first + count of each image.

    offset [images, groups, kh, kw, 2, oh, ow] moves each tap down and to the right, mask [images, groups, kh, kw, oh,
    ow] is a factor; groups of channels share them. A place a pixel or more outside of the image, or NaN, gives 0.
    One work item = COLUMNS pixels at one tap in one group of one image. Scratch: scratch_bytes().
    """
    cdef const FilterWindow* m = &a.window
    cdef int64_t taps = m.kh * m.kw, plane = a.oh * a.ow, pieces = (a.count + COLUMNS - 1) // COLUMNS
    cdef int64_t channels = a.channels // a.groups
    cdef int64_t item, piece, part, tap, image, group, pixel, n, k, channel, lane, top, left
    cdef MovedTap* places = <MovedTap*>scratch
    cdef float* block = <float*>(places + COLUMNS)
    cdef const float* x
    cdef const float* down
    cdef const float* mask
    cdef float* y
    for item in range(begin, end):
        piece, part = item % pieces * COLUMNS, item // pieces
        tap, group, image = part % taps, part // taps % a.groups, part // taps // a.groups
        n = min(a.count - piece, <int64_t>COLUMNS)
        down = a.offset + 2 * part * plane
        mask = a.mask + part * plane
        top, left = tap // m.kw * m.dilate_h - m.pad_h, tap % m.kw * m.dilate_w - m.pad_w
        for k in range(n):
            pixel = a.first + piece + k
            find_place(
                places + k, <float>(pixel // a.ow * m.stride_h + top) + down[pixel],
                <float>(pixel % a.ow * m.stride_w + left) + down[plane + pixel], mask[pixel], a,
            )
        channel = group * channels
        while channel < (group + 1) * channels:
            # From the first channel of the group on; what is read of the next pixel behind the block is not stored.
            lane = channel % VW
            x = a.x + image * a.x_.image + channel // VW * a.x_.plane + lane
            y = a.y + ((image * a.channels + channel) * taps + tap) * a.count + piece
            for k in range(n):
                vf_store(block + k * VW, sample(x, places + k))
            deinterleave(VW, False, block, y, taps * a.count, min((group + 1) * channels - channel, VW - lane), n)
            channel += VW - lane


include "deform_columns_table.pxi"
