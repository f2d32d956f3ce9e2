"""Float32 convolution of groups of 2, 4 or 8 channels, several of which share a channel block: any filter and stride.

A group has as many outputs as inputs, so that a block of outputs reads one block of inputs. Each input vector is loaded
once; for channel l of all groups, its lanes are spread over their groups and multiplied. Weights are packed as
``[channel block][kh][kw][channel of the group][VW]`` (:func:`megengine_lite._core.cpu.packing.float32.pack_group`).
"""

from libc.stdint cimport int64_t

from megengine_lite.kernels.common.arguments cimport Epilogue, FilterWindow, Strides
from megengine_lite.kernels.common.block_output cimport BlockOutput, set_activation, skip_pixels, store_block
from megengine_lite.kernels.common.simd cimport VREGS, VW, inlined, outlined, vf, vf_fma, vf_load, vf_spread, vf_zero

cdef enum:
    MAX_PIXELS = 14
    MAX_CHANNELS = 8


# The filter and how it moves over one plane.
cdef struct GroupFilter:
    int64_t kh, kw
    int64_t row, column  # elements between the inputs of neighbouring places of the filter
    int64_t step         # elements between the inputs of neighbouring outputs


cdef inline vf products_of(int CHANNELS, vf value, const vf* weights, vf total) noexcept nogil:
    """The products of one input vector, added up. A loop would become one of the program, without constant lanes."""
    total = vf_fma(vf_spread(CHANNELS, 0, value), weights[0], total)
    total = vf_fma(vf_spread(CHANNELS, 1, value), weights[1], total)
    if CHANNELS > 2:
        total = vf_fma(vf_spread(CHANNELS, 2, value), weights[2], total)
        total = vf_fma(vf_spread(CHANNELS, 3, value), weights[3], total)
    if CHANNELS > 4:
        total = vf_fma(vf_spread(CHANNELS, 4, value), weights[4], total)
        total = vf_fma(vf_spread(CHANNELS, 5, value), weights[5], total)
        total = vf_fma(vf_spread(CHANNELS, 6, value), weights[6], total)
        total = vf_fma(vf_spread(CHANNELS, 7, value), weights[7], total)
    return total


cdef inline inlined group_block(
    int PIXELS, int CHANNELS, const GroupFilter* f, const float* x, const float* w, const BlockOutput* o
) noexcept nogil:
    """PIXELS outputs of all groups of a block, of CHANNELS channels each."""
    cdef vf acc[MAX_PIXELS]
    cdef vf weights[MAX_CHANNELS]
    cdef const float* at
    cdef const float* pixel
    cdef int64_t j, k
    cdef int p, l
    for p in range(PIXELS):
        acc[p] = vf_zero()
    for j in range(f.kh):
        at = x + j * f.row
        for k in range(f.kw):
            for l in range(CHANNELS):
                weights[l] = vf_load(w + l * VW)
            pixel = at
            for p in range(PIXELS):
                acc[p] = products_of(CHANNELS, vf_load(pixel), weights, acc[p])
                pixel += f.step
            at += f.column
            w += CHANNELS * VW
    store_block(PIXELS, 1, acc, o)


cdef inline inlined group_row(
    int CHANNELS, int64_t left, const GroupFilter* f, const float* x, const float* w, const BlockOutput* output
) noexcept nogil:
    """`left` outputs side by side."""
    cdef BlockOutput o = output[0]
    cdef int64_t count
    while left:
        if VREGS == 32 and CHANNELS < 8 and left >= 14:
            count = 14
            group_block(14, CHANNELS, f, x, w, &o)
        elif left >= 7:
            count = 7
            group_block(7, CHANNELS, f, x, w, &o)
        elif left >= 4:
            count = 4
            group_block(4, CHANNELS, f, x, w, &o)
        elif left >= 2:
            count = 2
            group_block(2, CHANNELS, f, x, w, &o)
        else:
            count = 1
            group_block(1, CHANNELS, f, x, w, &o)
        left -= count
        x += count * f.step
        skip_pixels(&o, count)


cdef inline outlined rows_of_2(
    int64_t pixels, const GroupFilter* f, const float* x, const float* w, const BlockOutput* o
) noexcept nogil:
    group_row(2, pixels, f, x, w, o)


cdef inline outlined rows_of_4(
    int64_t pixels, const GroupFilter* f, const float* x, const float* w, const BlockOutput* o
) noexcept nogil:
    group_row(4, pixels, f, x, w, o)


cdef inline outlined rows_of_8(
    int64_t pixels, const GroupFilter* f, const float* x, const float* w, const BlockOutput* o
) noexcept nogil:
    group_row(8, pixels, f, x, w, o)


cdef struct ConvGroupArgs:
    const float* x
    const float* w
    const float* bias
    const float* z
    float* y
    Strides x_, y_, z_
    int64_t blocks, channels, oh, ow
    FilterWindow window
    Epilogue epilogue


cdef void conv_group_f32(const ConvGroupArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = one output row of one channel block of one image.

    A group has `channels` channels: 2, 4 or 8, and fewer than VW. x, y and z point at element (0, 0, 0, 0); x needs a
    halo of at least the padding. y may be z.
    """
    cdef const float* x
    cdef const float* w
    cdef int64_t blocks = a.blocks, oh = a.oh, ow = a.ow, channels = a.channels
    cdef int64_t item, n, c, r
    cdef GroupFilter f = GroupFilter(
        a.window.kh, a.window.kw, a.window.dilate_h * a.x_.row, a.window.dilate_w * VW, a.window.stride_w * VW
    )
    cdef BlockOutput o
    o.z_pixel = o.y_pixel = VW
    o.z_plane = o.y_plane = 0
    set_activation(&o, &a.epilogue)
    for item in range(begin, end):
        n = item // (blocks * oh)
        c = item // oh % blocks
        r = item % oh
        o.bias = a.bias + c * VW if a.bias else NULL
        o.y = a.y + n * a.y_.image + c * a.y_.plane + r * a.y_.row
        o.z = a.z + n * a.z_.image + c * a.z_.plane + r * a.z_.row if a.z else NULL
        x = a.x + n * a.x_.image + c * a.x_.plane + (r * a.window.stride_h - a.window.pad_h) * a.x_.row \
            - a.window.pad_w * VW
        w = a.w + c * f.kh * f.kw * channels * VW
        if channels == 2:
            rows_of_2(ow, &f, x, w, &o)
        elif channels == 4 and VW > 4:
            rows_of_4(ow, &f, x, w, &o)
        elif VW > 8:
            rows_of_8(ow, &f, x, w, &o)


include "conv_group_table.pxi"
