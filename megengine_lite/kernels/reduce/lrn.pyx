"""Local response normalization of float32 images: over neighbouring channels, plain and blocked."""

from libc.stdint cimport int64_t

from megengine_lite.kernels.common.arguments cimport Strides
from megengine_lite.kernels.common.simd cimport (
    VW, vf, vf_fma, vf_load, vf_load_n, vf_set1, vf_sqrt, vf_store, vf_store_n, vf_zero,
)
from megengine_lite.kernels.common.vmath cimport v_pow


cdef inline vf response(vf x, vf squares, double k, double alpha, double beta) noexcept nogil:
    """x (k + alpha squares)^-beta."""
    cdef vf base = vf_fma(squares, vf_set1(alpha), vf_set1(k))
    if beta == 0.75:
        base = vf_sqrt(base)
        return x / (base * vf_sqrt(base))
    return x * v_pow(base, vf_set1(-beta))


cdef struct LrnPlainArgs:
    const float* x
    float* y
    int64_t c, size, n
    double k, alpha, beta


cdef void lrn_plain_f32(const LrnPlainArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Local response normalization over `n` neighbouring channels. One work item = up to VW pixels of one image."""
    cdef int64_t c = a.c, size = a.size, reach = a.n // 2
    cdef int64_t chunks = (size + VW - 1) // VW
    cdef int64_t item, start, count, offset, k, j
    cdef const float* x
    cdef float* y
    cdef vf total, v
    for item in range(begin, end):
        start = item % chunks * VW
        count = min(<int64_t>VW, size - start)
        offset = item // chunks * c * size + start
        x = a.x + offset
        y = a.y + offset
        for k in range(c):
            total = vf_zero()
            for j in range(max(k - reach, <int64_t>0), min(k + reach + 1, c)):
                v = vf_load_n(x + j * size, count)
                total = vf_fma(v, v, total)
            v = response(vf_load_n(x + k * size, count), total, a.k, a.alpha, a.beta)
            vf_store_n(y + k * size, v, count)


cdef struct LrnBlockedArgs:
    const float* x
    float* y
    Strides x_, y_
    int64_t c, n, h, w, blocks
    double k, alpha, beta


def scratch_bytes(int64_t blocks, int64_t n):
    """Bytes of scratch of lrn_blocked_f32: the squares of all channels of a pixel, with those of a window around them."""
    return sizeof(float) * ((blocks + 2) * VW + 2 * (n // 2))


cdef void lrn_blocked_f32(const LrnBlockedArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """lrn_plain_f32 for a blocked image. One work item = one row.

    The squares of all channels of a pixel stand side by side in scratch: those of neighbouring channels are loaded from
    a shifted address. Scratch: scratch_bytes(blocks, n).
    """
    cdef int64_t c = a.c, reach = a.n // 2, h = a.h, w = a.w, blocks = a.blocks
    cdef int64_t x_row = a.x_.row, x_plane = a.x_.plane, x_image = a.x_.image
    cdef int64_t y_row = a.y_.row, y_plane = a.y_.plane, y_image = a.y_.image
    cdef float* line = <float*>scratch
    cdef int64_t item, i, k, j
    cdef const float* x
    cdef float* y
    cdef vf total, v
    for k in range(reach):
        line[k] = 0.0
    for item in range(begin, end):
        for i in range(w):
            x = a.x + item // h * x_image + item % h * x_row + i * VW
            y = a.y + item // h * y_image + item % h * y_row + i * VW
            for k in range(blocks):
                v = vf_load(x + k * x_plane)
                vf_store(line + reach + k * VW, v * v)
            for k in range(c, blocks * VW + reach):
                line[reach + k] = 0.0
            for k in range(blocks):
                total = vf_zero()
                for j in range(2 * reach + 1):
                    total = total + vf_load(line + k * VW + j)
                vf_store(y + k * y_plane, response(vf_load(x + k * x_plane), total, a.k, a.alpha, a.beta))


include "lrn_table.pxi"
