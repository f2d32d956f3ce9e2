"""Float32 convolution of a plain NCHW input with few channels (images) into a blocked output.

Weights: ``[tile of 2 channel blocks][ic][kh][kw][channels of the tile]``
(:func:`megengine_lite._core.cpu.packing.float32.pack_plain_input`).
"""

import numpy as np


from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from megengine_lite.kernels.common.block cimport Output, Sum, TABLE, conv_row, set_activation
from megengine_lite.kernels.common.arguments cimport Epilogue, Strides, Window
from megengine_lite.kernels.common.simd cimport VW, outlined


cdef inline outlined first_row(
    int vectors, int64_t step, int64_t pixels, const Sum* s, const float* x, const float* w, const Output* o
) noexcept nogil:
    conv_row(TABLE, 1, 2, vectors, step, pixels, s, x, w, o[0])


cdef void padded_row(const float* x, int64_t w, int64_t pad, float* out) noexcept nogil:
    memset(out, 0, pad * sizeof(float))
    memcpy(out + pad, x, w * sizeof(float))
    memset(out + pad + w, 0, pad * sizeof(float))


cdef struct ConvFirstArgs:
    const float* x
    const float* w
    const float* bias
    const float* z
    float* y
    Strides y_, z_
    int64_t ic, ih, iw, oc, oh, ow
    Window window
    Epilogue epilogue


cdef void conv_first_f32(const ConvFirstArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = one output row of one image, all channels.

    The input rows that it reads are copied to `scratch` with their padding, so that the sum needs no border code and
    the input no padded copy: 8 ic kh kw + 4 ic kh (iw + 2 pad_w) bytes.
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
    cdef float* rows = <float*>(taps + ic * kh * kw)
    cdef float* row
    cdef int64_t item, n, r, c, k, at, block
    cdef Sum s
    cdef Output o
    for k in range(ic * kh):
        for c in range(kw):
            taps[k * kw + c] = k * padded + c * dilate_w
    s = Sum(0, 0, 0, 0, 0, 0, ic * kh * kw, 0, taps)
    o.z_pixel = o.y_pixel = VW
    o.z_plane = z_plane
    o.y_plane = y_plane
    set_activation(&o, &a.epilogue)
    for item in range(begin, end):
        n = item // oh
        r = item % oh
        for c in range(ic):
            for k in range(kh):
                row = rows + (c * kh + k) * padded
                at = r * stride_h - pad_h + k * dilate_h
                if 0 <= at < ih:
                    padded_row(x + ((n * ic + c) * ih + at) * iw, iw, pad_w, row)
                else:
                    memset(row, 0, padded * sizeof(float))
        for block in range(0, oc_blocks, 2):
            o.bias = bias + block * VW if bias else NULL
            o.y = y + n * y_image + block * y_plane + r * y_row
            o.z = z + n * z_image + block * z_plane + r * z_row if z else NULL
            first_row(
                2 if block + 1 < oc_blocks else 1, stride_w, ow, &s, rows, w + block * ic * kh * kw * VW, &o
            )


include "conv_first_table.pxi"


# ---- Python functions that run a kernel on arrays: for tests, and to try one out ------------------------------------

def conv_first(const float[:, :, :, ::1] x not None, const float[::1] packed not None, int oc, kernel, stride, pad):
    """Convolves an NCHW image into a blocked one.

    Parameters
    ----------
    x : float32 array [N, C, H, W]
    packed : float32 array
        The filter as :func:`megengine_lite._core.cpu.packing.float32.pack_plain_input` orders it.
    oc : int
        Number of output channels.
    kernel, stride, pad : (int, int)
        Vertical and horizontal.

    Returns
    -------
    float32 array [N, OC / VW, OH, OW, VW]
    """
    cdef ConvFirstArgs a
    cdef Py_ssize_t n = x.shape[0], ic = x.shape[1], h = x.shape[2], w = x.shape[3]
    cdef Py_ssize_t oc_blocks = (oc + VW - 1) // VW
    kh, kw = kernel
    oh, ow = [(size + 2 * p - k) // s + 1 for size, k, s, p in zip((h, w), kernel, stride, pad, strict=True)]
    if min(n, ic, oc, kh, kw, oh, ow, *stride) < 1 or min(pad) < 0:
        raise ValueError(f"a filter {kernel} with stride {stride} and padding {pad} does not fit {h} x {w}")
    if packed.shape[0] != oc_blocks * VW * ic * kh * kw:
        raise ValueError("the packed filter has another size than its shape tells")
    y = np.empty((n, oc_blocks, oh, ow, VW), np.float32)
    cdef float[:, :, :, :, ::1] out = y
    cdef int64_t[::1] scratch = np.empty(ic * kh * (kw + w + 2 * pad[1]), np.int64)
    cdef int64_t work = n * oh
    a = ConvFirstArgs(
        x=&x[0, 0, 0, 0], w=&packed[0], bias=NULL, z=NULL, y=&out[0, 0, 0, 0, 0],
        y_=Strides(row=ow * VW, plane=oh * ow * VW, image=oc_blocks * oh * ow * VW),
        z_=Strides(row=0, plane=0, image=0),
        ic=ic, ih=h, iw=w, oc=oc, oh=oh, ow=ow,
        window=Window(
            kh=kh, kw=kw, stride_h=stride[0], stride_w=stride[1], dilate_h=1, dilate_w=1, pad_h=pad[0], pad_w=pad[1]
        ),
        epilogue=Epilogue(activation=0, act_a=0, act_b=0),
    )
    with nogil:
        conv_first_f32(&a, 0, work, &scratch[0])
    return y
