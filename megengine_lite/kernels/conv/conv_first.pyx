"""Float32 convolution of a plain NCHW input with few channels (images) into a blocked output.

Weights: ``[tile of 2 channel blocks][ic][kh][kw][channels of the tile]``
(:func:`megengine_lite._core.cpu.packing.float32.pack_plain_input`).
"""

from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from megengine_lite.kernels.common.block cimport SPARE_TAPS, TABLE, BlockSum, conv_row, conv_row_any_step
from megengine_lite.kernels.common.block_output cimport BlockOutput, set_activation
from megengine_lite.kernels.common.arguments cimport Epilogue, FilterWindow, Strides
from megengine_lite.kernels.common.shared_constants cimport TILE_BLOCKS
from megengine_lite.kernels.common.simd cimport VW, outlined


# A function for each step: the time that compilers take grows faster than their functions.
cdef inline outlined first_two_near(
    int64_t pixels, const BlockSum* s, const float* x, const float* w, const BlockOutput* o
) noexcept nogil:
    conv_row(TABLE, 2, 1, pixels, s, x, w, NULL, False, o[0], NULL)


cdef inline outlined first_two_apart(
    int64_t pixels, const BlockSum* s, const float* x, const float* w, const BlockOutput* o
) noexcept nogil:
    conv_row(TABLE, 2, 2, pixels, s, x, w, NULL, False, o[0], NULL)


cdef inline outlined first_two_any(
    int64_t step, int64_t pixels, const BlockSum* s, const float* x, const float* w, const BlockOutput* o
) noexcept nogil:
    conv_row_any_step(TABLE, 2, step, pixels, s, x, w, NULL, False, o[0], NULL)


cdef inline outlined first_one_near(
    int64_t pixels, const BlockSum* s, const float* x, const float* w, const BlockOutput* o
) noexcept nogil:
    conv_row(TABLE, 1, 1, pixels, s, x, w, NULL, False, o[0], NULL)


cdef inline outlined first_one_apart(
    int64_t pixels, const BlockSum* s, const float* x, const float* w, const BlockOutput* o
) noexcept nogil:
    conv_row(TABLE, 1, 2, pixels, s, x, w, NULL, False, o[0], NULL)


cdef inline outlined first_one_any(
    int64_t step, int64_t pixels, const BlockSum* s, const float* x, const float* w, const BlockOutput* o
) noexcept nogil:
    conv_row_any_step(TABLE, 1, step, pixels, s, x, w, NULL, False, o[0], NULL)


cdef inline void first_row(
    int vectors, int64_t step, int64_t pixels, const BlockSum* s, const float* x, const float* w, const BlockOutput* o
) noexcept nogil:
    if vectors == 2:
        if step == 1:
            first_two_near(pixels, s, x, w, o)
        elif step == 2:
            first_two_apart(pixels, s, x, w, o)
        else:
            first_two_any(step, pixels, s, x, w, o)
    elif step == 1:
        first_one_near(pixels, s, x, w, o)
    elif step == 2:
        first_one_apart(pixels, s, x, w, o)
    else:
        first_one_any(step, pixels, s, x, w, o)


cdef struct ConvFirstArgs:
    const float* x
    const float* w
    const float* bias
    const float* z
    float* y
    Strides y_, z_
    int64_t ic, ih, iw, oc, oh, ow
    FilterWindow window
    Epilogue epilogue


def scratch_bytes(int64_t ic, int64_t kh, int64_t kw, int64_t iw, int64_t pad_w):
    """Bytes of scratch: the table of taps, and the padded input rows of one output row, with a vector behind them."""
    return sizeof(int64_t) * (ic * kh * kw + SPARE_TAPS) + sizeof(float) * (ic * kh * (iw + 2 * pad_w) + VW)


cdef void conv_first_f32(const ConvFirstArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = one output row of one image, all channels.

    The input rows that it reads are copied to `scratch` with their padding, so that the sum needs no border code and
    the input no padded copy: scratch_bytes(ic, kh, kw, iw, pad_w).
    """
    cdef const float* x = a.x
    cdef const float* w = a.w
    cdef const float* bias = a.bias
    cdef const float* z = a.z
    cdef float* y = a.y
    cdef int64_t ic = a.ic, ih = a.ih, iw = a.iw
    cdef int64_t y_row = a.y_.row, y_plane = a.y_.plane, y_image = a.y_.image
    cdef int64_t z_row = a.z_.row, z_plane = a.z_.plane, z_image = a.z_.image
    cdef int64_t oc = a.oc, oh = a.oh, ow = a.ow, kh = a.window.kh, kw = a.window.kw
    cdef int64_t stride_h = a.window.stride_h, stride_w = a.window.stride_w
    cdef int64_t dilate_h = a.window.dilate_h, dilate_w = a.window.dilate_w
    cdef int64_t pad_h = a.window.pad_h, pad_w = a.window.pad_w
    cdef int64_t padded = iw + 2 * pad_w, oc_blocks = (oc + VW - 1) // VW
    cdef int64_t* taps = <int64_t*>scratch
    cdef float* rows = <float*>(taps + ic * kh * kw + SPARE_TAPS)
    cdef float* row
    cdef int64_t item, n, r, c, k, at, tile, block
    cdef BlockSum s
    cdef BlockOutput o
    for k in range(ic * kh):
        for c in range(kw):
            taps[k * kw + c] = k * padded + c * dilate_w
    for k in range(SPARE_TAPS):
        taps[ic * kh * kw + k] = 0
    s = BlockSum(0, 0, 0, 0, 0, 0, ic * kh * kw, 0, taps)
    o.z_pixel = o.y_pixel = VW
    o.z_plane = z_plane
    o.y_plane = y_plane
    set_activation(&o, &a.epilogue)
    memset(rows, 0, ic * kh * padded * sizeof(float))  # the padding beside them stays
    for item in range(begin, end):
        n = item // oh
        r = item % oh
        for c in range(ic):
            for k in range(kh):
                row = rows + (c * kh + k) * padded + pad_w
                at = r * stride_h - pad_h + k * dilate_h
                if 0 <= at < ih:
                    memcpy(row, x + ((n * ic + c) * ih + at) * iw, iw * sizeof(float))
                else:
                    memset(row, 0, iw * sizeof(float))
        for tile in range((oc_blocks + TILE_BLOCKS - 1) // TILE_BLOCKS):
            block = tile * TILE_BLOCKS
            o.bias = bias + block * VW if bias else NULL
            o.y = y + n * y_image + block * y_plane + r * y_row
            o.z = z + n * z_image + block * z_plane + r * z_row if z else NULL
            first_row(
                2 if block + 1 < oc_blocks else 1, stride_w, ow, &s, rows, w + block * ic * kh * kw * VW, &o
            )


include "conv_first_table.pxi"
