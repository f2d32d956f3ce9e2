"""Float32 depthwise convolution (one filter for each channel) in blocked layout: any filter, stride and dilation.

Each channel vector needs one load and one multiply-add per tap, and a core does two of each in a cycle, so that a
block of pixels over a list of taps is as fast as code for one filter size. Weights: ``[channel block][kh][kw][VW]``.
"""

from libc.stdint cimport int64_t, uintptr_t

from megengine_lite.kernels.block cimport Output, block_pixels, set_activation, store_block
from megengine_lite.kernels.kernel cimport KernelArgs
from megengine_lite.kernels.simd cimport VREGS, VW, inlined, outlined, vf, vf_fma, vf_load, vf_zero


cdef inline inlined depthwise_block(
    int PIXELS, int64_t STEP, int64_t taps, const int64_t* offsets, const float* x, const float* w, const Output* o
) noexcept nogil:
    cdef vf acc[14]
    cdef vf weight
    cdef const float* at
    cdef int64_t t
    cdef int p
    for p in range(PIXELS):
        acc[p] = vf_zero()
    for t in range(taps):
        weight = vf_load(w + t * VW)
        at = x + offsets[t]
        for p in range(PIXELS):
            acc[p] = vf_fma(vf_load(at + p * STEP), weight, acc[p])
    store_block(PIXELS, 1, acc, o)


cdef inline inlined depthwise_block_of(
    int pixels, int64_t STEP, int64_t taps, const int64_t* offsets, const float* x, const float* w, const Output* o
) noexcept nogil:
    if VREGS == 32 and pixels == 14:
        depthwise_block(14, STEP, taps, offsets, x, w, o)
    elif VREGS == 32 and pixels == 13:
        depthwise_block(13, STEP, taps, offsets, x, w, o)
    elif pixels == 12:
        depthwise_block(12, STEP, taps, offsets, x, w, o)
    elif pixels == 11:
        depthwise_block(11, STEP, taps, offsets, x, w, o)
    elif pixels == 10:
        depthwise_block(10, STEP, taps, offsets, x, w, o)
    elif pixels == 9:
        depthwise_block(9, STEP, taps, offsets, x, w, o)
    elif pixels == 8:
        depthwise_block(8, STEP, taps, offsets, x, w, o)
    elif pixels == 7:
        depthwise_block(7, STEP, taps, offsets, x, w, o)
    elif pixels == 6:
        depthwise_block(6, STEP, taps, offsets, x, w, o)
    elif pixels == 5:
        depthwise_block(5, STEP, taps, offsets, x, w, o)
    elif pixels == 4:
        depthwise_block(4, STEP, taps, offsets, x, w, o)
    elif pixels == 3:
        depthwise_block(3, STEP, taps, offsets, x, w, o)
    elif pixels == 2:
        depthwise_block(2, STEP, taps, offsets, x, w, o)
    else:
        depthwise_block(1, STEP, taps, offsets, x, w, o)


cdef inline outlined depthwise_row(
    int64_t pixels, int64_t step, int64_t taps, const int64_t* offsets, const float* x, const float* w, Output o
) noexcept nogil:
    """One output row in blocks of nearly equal size."""
    cdef int64_t largest = block_pixels(1) if step <= 2 * VW else 4
    cdef int64_t blocks = (pixels + largest - 1) // largest
    cdef int64_t k, first = 0, end
    cdef int count
    for k in range(blocks):
        end = pixels * (k + 1) // blocks
        count = <int>(end - first)
        if step == VW:
            depthwise_block_of(count, VW, taps, offsets, x, w, &o)
        elif step == 2 * VW:
            depthwise_block_of(count, 2 * VW, taps, offsets, x, w, &o)
        elif count == 4:
            depthwise_block(4, step, taps, offsets, x, w, &o)
        elif count == 3:
            depthwise_block(3, step, taps, offsets, x, w, &o)
        elif count == 2:
            depthwise_block(2, step, taps, offsets, x, w, &o)
        else:
            depthwise_block(1, step, taps, offsets, x, w, &o)
        x += count * step
        o.y += count * o.y_pixel
        if o.z:
            o.z += count * VW
        first = end


cdef void conv_depthwise_f32(const KernelArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = one output row of one channel block of one image.

    x, y and z point at element (0, 0, 0, 0); x needs a halo of at least the padding, and pixels of y
    lie `y_pixel` elements apart. `scratch` holds the tap offsets:
    8 kh kw bytes. y may be z.
    """
    cdef const float* x = <const float*>a.p[0]
    cdef const float* w = <const float*>a.p[1]
    cdef const float* bias = <const float*>a.p[2]
    cdef const float* z = <const float*>a.p[3]
    cdef float* y = <float*>a.p[4]
    cdef int64_t x_row = a.i[0], x_plane = a.i[1], x_image = a.i[2]
    cdef int64_t y_pixel = a.i[3], y_row = a.i[4], y_plane = a.i[5], y_image = a.i[6]
    cdef int64_t z_row = a.i[7], z_plane = a.i[8], z_image = a.i[9]
    cdef int64_t blocks = a.i[10], oh = a.i[11], ow = a.i[12], kh = a.i[13], kw = a.i[14]
    cdef int64_t stride_h = a.i[15], stride_w = a.i[16], dilate_h = a.i[17], dilate_w = a.i[18]
    cdef int64_t pad_h = a.i[19], pad_w = a.i[20]
    cdef int64_t* offsets = <int64_t*>scratch
    cdef int64_t item, n, c, r, j, k
    cdef Output o
    for j in range(kh):
        for k in range(kw):
            offsets[j * kw + k] = (j * dilate_h - pad_h) * x_row + (k * dilate_w - pad_w) * VW
    o.z_pixel = VW
    o.y_pixel = y_pixel
    o.z_plane = o.y_plane = 0
    set_activation(&o, a.i[21], a.f[0], a.f[1])
    n = begin // (blocks * oh)
    c = begin // oh % blocks
    r = begin % oh
    for item in range(begin, end):
        o.bias = bias + c * VW if bias else NULL
        o.y = y + n * y_image + c * y_plane + r * y_row
        o.z = z + n * z_image + c * z_plane + r * z_row if z else NULL
        depthwise_row(
            ow, stride_w * VW, kh * kw, offsets, x + n * x_image + c * x_plane + r * stride_h * x_row,
            w + c * kh * kw * VW, o,
        )
        r += 1
        if r == oh:
            r = 0
            c += 1
            if c == blocks:
                c = 0
                n += 1


# name -> (address, pointers, integers, reals)
KERNELS = {
    "conv_depthwise_f32": (
        <uintptr_t>&conv_depthwise_f32,
        "x w bias z y",
        "x_row x_plane x_image y_pixel y_row y_plane y_image z_row z_plane z_image blocks oh ow kh kw"
        " stride_h stride_w dilate_h dilate_w pad_h pad_w activation",
        "act_a act_b",
    ),
}
