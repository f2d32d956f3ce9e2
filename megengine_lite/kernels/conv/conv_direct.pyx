"""Direct float32 convolution in blocked layout: any filter, stride and dilation, dense and grouped.

Bias, a residual tensor and the activation are applied to each block of output pixels while it is in registers.
Weights are packed as ``[group][tile of 2 channel blocks][ic block][kh][kw][ic lane][channels of the tile]``, where
the last ic block of a group has only the lanes that exist (:func:`megengine_lite._core.cpu.packing.float32.pack_direct`).
"""

import numpy as np

from libc.stdint cimport int64_t

from megengine_lite.kernels.common.block cimport (
    FAR, BlockSum, RowBreaks, conv_row, conv_row_any_step, sum_of_channels, weight,
)
from megengine_lite.kernels.common.block_output cimport BlockOutput, set_activation
from megengine_lite.kernels.common.arguments cimport Epilogue, FilterWindow, Strides
from megengine_lite.kernels.common.conv_tiles cimport Division, Part, division, part_of
from megengine_lite.kernels.common.fetch cimport WeightFetch
from megengine_lite.kernels.common.shared_constants cimport (
    TILE_BLOCKS, WEIGHTS_BFLOAT16, WEIGHTS_BFLOAT16_PAIRS, WEIGHTS_FLOAT16,
)
from megengine_lite.kernels.common.simd cimport BY_LANE, DOT_BFLOAT16, VW, bf16, bf16_pair, f16, outlined
from megengine_lite.kernels.common.vmath cimport ACT_NONE

from megengine_lite.kernels.common.array_checks import conv_extents


cdef inline int lanes_of(const weight* w) noexcept nogil:
    """Floats of a pixel of the input, or pairs of them."""
    return VW // 2 if weight is bf16_pair else VW


# A function for each step: the time that compilers take grows faster than their functions.
cdef inline outlined direct_two_near(
    int64_t pixels, const BlockSum* s, const float* x, const weight* w, const WeightFetch* following, bint begins,
    const BlockOutput* o, const RowBreaks* where
) noexcept nogil:
    conv_row(FAR, 2, lanes_of(w), pixels, s, x, w, following, begins, o[0], where)


cdef inline outlined direct_two_apart(
    int64_t pixels, const BlockSum* s, const float* x, const weight* w, const WeightFetch* following, bint begins,
    const BlockOutput* o, const RowBreaks* where
) noexcept nogil:
    conv_row(FAR, 2, 2 * lanes_of(w), pixels, s, x, w, following, begins, o[0], where)


cdef inline outlined direct_two_any(
    int64_t step, int64_t pixels, const BlockSum* s, const float* x, const weight* w, const WeightFetch* following,
    bint begins, const BlockOutput* o, const RowBreaks* where
) noexcept nogil:
    conv_row_any_step(FAR, 2, step, pixels, s, x, w, following, begins, o[0], where)


cdef inline outlined direct_one_near(
    int64_t pixels, const BlockSum* s, const float* x, const weight* w, const WeightFetch* following, bint begins,
    const BlockOutput* o, const RowBreaks* where
) noexcept nogil:
    conv_row(FAR, 1, lanes_of(w), pixels, s, x, w, following, begins, o[0], where)


cdef inline outlined direct_one_apart(
    int64_t pixels, const BlockSum* s, const float* x, const weight* w, const WeightFetch* following, bint begins,
    const BlockOutput* o, const RowBreaks* where
) noexcept nogil:
    conv_row(FAR, 1, 2 * lanes_of(w), pixels, s, x, w, following, begins, o[0], where)


cdef inline outlined direct_one_any(
    int64_t step, int64_t pixels, const BlockSum* s, const float* x, const weight* w, const WeightFetch* following,
    bint begins, const BlockOutput* o, const RowBreaks* where
) noexcept nogil:
    conv_row_any_step(FAR, 1, step, pixels, s, x, w, following, begins, o[0], where)


cdef inline void direct_row(
    int vectors, int64_t step, int64_t pixels, const BlockSum* s, const float* x, const weight* w,
    const WeightFetch* following, bint begins, const BlockOutput* o, const RowBreaks* where
) noexcept nogil:
    if weight is not float and VW == 4 and not BY_LANE:  # rare on such processors: one form for all steps
        if vectors == 2:
            direct_two_any(step, pixels, s, x, w, following, begins, o, where)
        else:
            direct_one_any(step, pixels, s, x, w, following, begins, o, where)
    elif vectors == 2:
        if step == lanes_of(w):
            direct_two_near(pixels, s, x, w, following, begins, o, where)
        elif step == 2 * lanes_of(w):
            direct_two_apart(pixels, s, x, w, following, begins, o, where)
        else:
            direct_two_any(step, pixels, s, x, w, following, begins, o, where)
    elif step == lanes_of(w):
        direct_one_near(pixels, s, x, w, following, begins, o, where)
    elif step == 2 * lanes_of(w):
        direct_one_apart(pixels, s, x, w, following, begins, o, where)
    else:
        direct_one_any(step, pixels, s, x, w, following, begins, o, where)


cdef struct ConvDirectArgs:
    const float* x
    const void* w
    const float* bias
    const float* z
    float* y
    Strides x_, y_, z_
    int64_t y_pixel, run, groups, x_group, y_group, ic, oc, oh, ow, band, chunks, weights
    FilterWindow window
    Epilogue epilogue


cdef void conv_direct_f32(const ConvDirectArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = one chunk of one output row, for one image and one tile of output channels.

    x, y and z point at element (0, 0, 0, 0); x needs a halo of at least the padding. Pixels of y lie `y_pixel`
    elements apart, so that the phases of a transposed convolution can interleave. If `run` is not 0, rows of x and z are
    joined, `ow` pixels each, and `oh` is their number, but rows of y have `run` pixels and lie y_row apart. The channel
    blocks of a group begin `x_group` and `y_group` blocks behind those of the group before. `band` and `chunks` divide
    the work (conv_tiles.pxd). `weights` (a Weights) says how the filter is stored. With BFLOAT16_PAIRS x consists of
    pairs of channels, too, of which `ic` and the strides of x are numbers. y may be z.
    """
    cdef const float* x = a.x
    cdef const float* bias = a.bias
    cdef const float* z = a.z
    cdef float* y = a.y
    cdef int64_t x_row = a.x_.row, x_plane = a.x_.plane, x_image = a.x_.image
    cdef int64_t y_pixel = a.y_pixel, y_row = a.y_.row, y_plane = a.y_.plane, y_image = a.y_.image
    cdef int64_t z_row = a.z_.row, z_plane = a.z_.plane, z_image = a.z_.image
    cdef int64_t groups = a.groups, ic = a.ic, oc = a.oc, oh = a.oh, ow = a.ow
    cdef int64_t kh = a.window.kh, kw = a.window.kw, stride_h = a.window.stride_h, stride_w = a.window.stride_w
    cdef int64_t dilate_h = a.window.dilate_h, dilate_w = a.window.dilate_w
    cdef int64_t pad_h = a.window.pad_h, pad_w = a.window.pad_w
    cdef int64_t lanes = VW // 2 if a.weights == WEIGHTS_BFLOAT16_PAIRS else VW
    cdef int64_t weight_bytes = 2 if a.weights == WEIGHTS_BFLOAT16 or a.weights == WEIGHTS_FLOAT16 else 4
    cdef int64_t ic_blocks = (ic + lanes - 1) // lanes, oc_blocks = (oc + VW - 1) // VW
    cdef int64_t depth = ic * kh * kw, run = a.run, item, pixel, first, tile, pixels, block
    cdef const float* at
    cdef const RowBreaks* where
    cdef Division whole = division(groups, oc_blocks, oh, ow, a.band, a.chunks)
    cdef Part p
    cdef WeightFetch following
    cdef BlockSum s
    cdef BlockOutput o
    cdef RowBreaks breaks
    breaks.run = run
    breaks.gap = y_row - run * y_pixel
    if kh == 1 and kw == 1:
        s = sum_of_channels(ic, x_plane, lanes)
    else:
        s = BlockSum(
            ic_blocks, x_plane, kh, dilate_h * x_row, kw, dilate_w * lanes, lanes, ic - (ic_blocks - 1) * lanes, NULL
        )
    o.z_pixel = VW
    o.z_plane = z_plane
    o.y_pixel = y_pixel
    o.y_plane = y_plane
    set_activation(&o, &a.epilogue)
    for item in range(begin, end):
        p = part_of(&whole, item)
        block = p.block + p.group * (a.y_group - oc_blocks)
        o.bias = bias + block * VW if bias else NULL
        o.y = y + p.image * y_image + block * y_plane
        if run:
            pixel = p.row * ow + p.first
            o.y += pixel // run * y_row + pixel % run * y_pixel
            breaks.left = run - pixel % run
        else:
            o.y += p.row * y_row + p.first * y_pixel
        o.z = z + p.image * z_image + block * z_plane + p.row * z_row + p.first * VW if z else NULL
        at = x + p.image * x_image + p.group * a.x_group * x_plane + (p.row * stride_h - pad_h) * x_row \
            + (p.first * stride_w - pad_w) * lanes
        first = p.block * depth * VW
        tile = p.vectors * depth * VW * weight_bytes
        following.at = <const char*>a.w + first * weight_bytes + tile + tile * p.number // p.of
        following.step = 0 if p.is_last else p.vectors * VW * lanes * weight_bytes // p.of
        pixels = p.last - p.first
        where = &breaks if run else NULL
        if a.weights == WEIGHTS_BFLOAT16_PAIRS:
            if DOT_BFLOAT16:
                direct_row(
                    p.vectors, stride_w * lanes, pixels, &s, at, <const bf16_pair*>a.w + first, &following,
                    item == begin, &o, where,
                )
        elif a.weights == WEIGHTS_BFLOAT16:
            direct_row(
                p.vectors, stride_w * VW, pixels, &s, at, <const bf16*>a.w + first, &following, item == begin, &o,
                where,
            )
        elif a.weights == WEIGHTS_FLOAT16:
            direct_row(
                p.vectors, stride_w * VW, pixels, &s, at, <const f16*>a.w + first, &following, item == begin, &o,
                where,
            )
        else:
            direct_row(
                p.vectors, stride_w * VW, pixels, &s, at, <const float*>a.w + first, &following, item == begin, &o,
                where,
            )


include "conv_direct_table.pxi"


# ---- convolution of arrays -----------------------------------------------------------------------------------------

def conv_direct(const float[:, :, :, :, ::1] x not None, const float[::1] packed not None, shape, stride, dilate):
    """Convolves an image in blocked layout.

    The blocks have VW channels, the width of this build: 4 (NCHW44), 8 (NCHW88) or 16.

    Parameters
    ----------
    x : float32 array [N, C / VW, H, W, VW], C-contiguous
        With its padding: zeros around the image, and in channels that fill up a block.
    packed : float32 array [number of weights], C-contiguous
        The filter as :func:`megengine_lite._core.cpu.packing.float32.pack_direct` orders it.
    shape : (int, int, int, int, int)
        Groups, output and input channels of a group, height and width of the filter. With more than one group the
        channels of a group fill whole blocks.
    stride, dilate : (int, int)
        Vertical and horizontal.

    Returns
    -------
    float32 array [N, OC / VW, OH, OW, VW]

    Raises
    ------
    ValueError
        The image has another number of blocks, the weights have another number than ``shape`` says, the filter does
        not fit the image, or an array has another type or is not C-contiguous.
    """
    cdef ConvDirectArgs a
    cdef Py_ssize_t n = x.shape[0], h = x.shape[2], w = x.shape[3]
    cdef int64_t groups, oc, ic, kh, kw, blocks, oh, ow
    groups, oc, ic, kh, kw = shape = tuple(shape)
    blocks, oh, ow = conv_extents(np.shape(x), packed.shape[0], shape, stride, dilate, VW)
    y = np.empty((n, blocks, oh, ow, VW), np.float32)
    cdef float[:, :, :, :, ::1] out = y
    cdef int64_t work = n * groups * ((blocks // groups + TILE_BLOCKS - 1) // TILE_BLOCKS) * oh
    a = ConvDirectArgs(
        x=&x[0, 0, 0, 0, 0], w=&packed[0], bias=NULL, z=NULL, y=&out[0, 0, 0, 0, 0],
        x_=Strides(row=w * VW, plane=h * w * VW, image=x.shape[1] * h * w * VW),
        y_=Strides(row=ow * VW, plane=oh * ow * VW, image=blocks * oh * ow * VW),
        z_=Strides(row=0, plane=0, image=0),
        y_pixel=VW, run=0, groups=groups, x_group=(ic + VW - 1) // VW, y_group=blocks // groups, ic=ic, oc=oc, oh=oh, ow=ow, band=oh, chunks=1, weights=0,
        window=FilterWindow(
            kh=kh, kw=kw, stride_h=stride[0], stride_w=stride[1], dilate_h=dilate[0], dilate_w=dilate[1],
            pad_h=0, pad_w=0,
        ),
        epilogue=Epilogue(activation=ACT_NONE, act_a=0, act_b=0),
    )
    with nogil:
        conv_direct_f32(&a, 0, work, NULL)
    return y
