"""Direct float32 convolution in blocked layout: any filter, stride and dilation, dense and grouped.

Bias, a residual tensor and the activation are applied to each block of output pixels while it is in registers.
Weights are packed as ``[group][tile of 2 channel blocks][ic block][kh][kw][ic lane][channels of the tile]``, where
the last ic block of a group has only the lanes that exist (:func:`megengine_lite._core.cpu.packing.float32.pack_direct`).
"""

import numpy as np


from libc.stdint cimport int64_t, uintptr_t

from megengine_lite.kernels.common.block cimport FAR, Output, Sum, conv_row, set_activation
from megengine_lite.kernels.common.kernel cimport KernelArgs
from megengine_lite.kernels.common.simd cimport VW, outlined


cdef inline outlined direct_row(
    int vectors, int64_t step, int64_t pixels, const Sum* s, const float* x, const float* w, const Output* o
) noexcept nogil:
    conv_row(FAR, VW, 2 * VW, vectors, step, pixels, s, x, w, o[0])


cdef void conv_direct_f32(const KernelArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = one chunk of one output row, for one image and one tile of output channels.

    x, y and z point at element (0, 0, 0, 0); x needs a halo of at least the padding. Pixels of y lie `y_pixel`
    elements apart, so that the phases of a transposed convolution can interleave. Items are ordered by image, band
    of `band` rows, tile, row, chunk: the weights of a tile stay in the cache for a band, the rows of a band for all
    tiles. y may be z.
    """
    cdef const float* x = <const float*>a.p[0]
    cdef const float* w = <const float*>a.p[1]
    cdef const float* bias = <const float*>a.p[2]
    cdef const float* z = <const float*>a.p[3]
    cdef float* y = <float*>a.p[4]
    cdef int64_t x_row = a.i[0], x_plane = a.i[1], x_image = a.i[2]
    cdef int64_t y_pixel = a.i[3], y_row = a.i[4], y_plane = a.i[5], y_image = a.i[6]
    cdef int64_t z_row = a.i[7], z_plane = a.i[8], z_image = a.i[9]
    cdef int64_t groups = a.i[10], ic = a.i[11], oc = a.i[12], oh = a.i[13], ow = a.i[14]
    cdef int64_t kh = a.i[15], kw = a.i[16], stride_h = a.i[17], stride_w = a.i[18]
    cdef int64_t dilate_h = a.i[19], dilate_w = a.i[20], pad_h = a.i[21], pad_w = a.i[22]
    cdef int64_t band = a.i[23], chunks = a.i[24]
    cdef int64_t ic_blocks = (ic + VW - 1) // VW, oc_blocks = (oc + VW - 1) // VW
    cdef int64_t tiles = (oc_blocks + 1) // 2
    cdef int64_t depth = ic * kh * kw
    cdef int64_t per_row = chunks, per_image = groups * tiles * oh * per_row
    cdef int64_t item, n, rest, first_row, rows, tile, g, block, r, chunk, first_px, last_px
    cdef Sum s
    cdef Output o
    s = Sum(ic_blocks, x_plane, kh, dilate_h * x_row, kw, dilate_w * VW, VW, ic - (ic_blocks - 1) * VW, NULL)
    o.z_pixel = VW
    o.z_plane = z_plane
    o.y_pixel = y_pixel
    o.y_plane = y_plane
    set_activation(&o, a.i[25], a.f[0], a.f[1])
    for item in range(begin, end):
        n = item // per_image
        rest = item % per_image
        first_row = rest // (groups * tiles * band * per_row) * band
        rest -= first_row * groups * tiles * per_row
        rows = min(band, oh - first_row)
        tile = rest // (rows * per_row)
        rest -= tile * rows * per_row
        r = first_row + rest // per_row
        chunk = rest % per_row
        g = tile // tiles
        block = tile % tiles * 2
        first_px = ow * chunk // chunks
        last_px = ow * (chunk + 1) // chunks
        o.bias = bias + (g * oc_blocks + block) * VW if bias else NULL
        o.y = y + n * y_image + (g * oc_blocks + block) * y_plane + r * y_row + first_px * y_pixel
        o.z = z + n * z_image + (g * oc_blocks + block) * z_plane + r * z_row + first_px * VW if z else NULL
        direct_row(
            2 if block + 1 < oc_blocks else 1,
            stride_w * VW,
            last_px - first_px,
            &s,
            x + n * x_image + g * ic_blocks * x_plane + (r * stride_h - pad_h) * x_row
            + (first_px * stride_w - pad_w) * VW,
            w + (g * oc_blocks + block) * depth * VW,
            &o,
        )


# name -> (address, pointers, integers, reals)
KERNELS = {
    "conv_direct_f32": (
        <uintptr_t>&conv_direct_f32,
        "x w bias z y",
        "x_row x_plane x_image y_pixel y_row y_plane y_image z_row z_plane z_image groups ic oc oh ow kh kw"
        " stride_h stride_w dilate_h dilate_w pad_h pad_w band chunks activation",
        "act_a act_b",
    ),
}


# ---- Python functions that run a kernel on arrays: for tests, and to try one out ------------------------------------

def conv_direct(const float[:, :, :, :, ::1] x not None, const float[::1] packed not None, shape, stride, dilate):
    """Convolves a blocked image that has its padding around it.

    Parameters
    ----------
    x : float32 array [N, C / VW, H, W, VW]
    packed : float32 array
        The filter as :func:`megengine_lite._core.cpu.packing.float32.pack_direct` orders it.
    shape : (int, int, int, int, int)
        Groups, output and input channels of a group, height and width of the filter. With more than one group the
        channels of a group fill whole blocks.
    stride, dilate : (int, int)
        Vertical and horizontal.

    Returns
    -------
    float32 array [N, OC / VW, OH, OW, VW]
    """
    cdef KernelArgs a
    groups, oc, ic, kh, kw = shape
    cdef Py_ssize_t n = x.shape[0], h = x.shape[2], w = x.shape[3]
    oc_blocks, ic_blocks = -(-oc // VW), -(-ic // VW)
    if x.shape[4] != VW or x.shape[1] != groups * ic_blocks:
        raise ValueError(f"the image must have {groups * ic_blocks} blocks of {VW} channels")
    if groups > 1 and (oc % VW or ic % VW):
        raise ValueError(f"channels of a group must be multiples of {VW}")
    if packed.shape[0] != groups * oc_blocks * VW * ic * kh * kw:
        raise ValueError("the packed filter has another size than its shape tells")
    oh, ow = [
        (size - (k - 1) * d - 1) // s + 1 for size, k, s, d in zip((h, w), (kh, kw), stride, dilate, strict=True)
    ]
    if min(n, groups, oc, ic, kh, kw, oh, ow, *stride, *dilate) < 1:
        raise ValueError(f"a filter {shape} with stride {stride} and dilation {dilate} does not fit {h} x {w}")
    y = np.empty((n, groups * oc_blocks, oh, ow, VW), np.float32)
    cdef float[:, :, :, :, ::1] out = y
    cdef int64_t work = n * groups * ((oc_blocks + 1) // 2) * oh
    a.p[0] = <void*>&x[0, 0, 0, 0, 0]
    a.p[1] = <void*>&packed[0]
    a.p[2] = a.p[3] = NULL
    a.p[4] = &out[0, 0, 0, 0, 0]
    for k, value in enumerate((
        w * VW, h * w * VW, x.shape[1] * h * w * VW,
        VW, ow * VW, oh * ow * VW, y.shape[1] * oh * ow * VW,
        0, 0, 0,
        groups, ic, oc, oh, ow, kh, kw,
        *stride, *dilate, 0, 0,
        oh, 1, 0,
    )):
        a.i[k] = value
    a.f[0] = a.f[1] = 0
    with nogil:
        conv_direct_f32(&a, 0, work, NULL)
    return y
