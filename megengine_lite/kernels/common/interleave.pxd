# Interleaving of rows: the inner loop of every change between planar and channel-packed layouts, and of transposition.
#
# `count` rows of floats, `stride` apart, against one stream that holds element i of all rows side by side. With a
# constant `count` (a power of two up to VW) everything stays in registers: log2(count) rounds of two-vector shuffles.
from libc.stdint cimport int64_t

from megengine_lite.kernels.common.simd cimport (
    VW, inlined, vf, vf_load, vf_load_n, vf_store, vf_store_n, vf_stream, vf_transpose, vf_unzip_even, vf_unzip_odd, vf_zero,
    vf_zip_high, vf_zip_low,
)

cdef enum:
    MAX_ROWS = 16


cdef inline inlined zip_round(int count, vf* r) noexcept nogil:
    cdef vf t[MAX_ROWS]
    cdef int k
    for k in range(count // 2):
        t[2 * k] = vf_zip_low(r[k], r[k + count // 2])
        t[2 * k + 1] = vf_zip_high(r[k], r[k + count // 2])
    for k in range(count):
        r[k] = t[k]


cdef inline inlined unzip_round(int count, vf* r) noexcept nogil:
    cdef vf t[MAX_ROWS]
    cdef int k
    for k in range(count // 2):
        t[k] = vf_unzip_even(r[2 * k], r[2 * k + 1])
        t[k + count // 2] = vf_unzip_odd(r[2 * k], r[2 * k + 1])
    for k in range(count):
        r[k] = t[k]


cdef inline inlined zip_rows(int count, vf* r) noexcept nogil:
    """count vectors, one per row -> the same elements in stream order. For count = VW a transposition."""
    if count == VW:
        vf_transpose(r)
        return
    zip_round(count, r)
    if count > 2:
        zip_round(count, r)
    if count > 4:
        zip_round(count, r)
    if count > 8:
        zip_round(count, r)


cdef inline inlined unzip_rows(int count, vf* r) noexcept nogil:
    """The inverse of zip_rows."""
    if count == VW:
        vf_transpose(r)
        return
    unzip_round(count, r)
    if count > 2:
        unzip_round(count, r)
    if count > 4:
        unzip_round(count, r)
    if count > 8:
        unzip_round(count, r)


cdef inline inlined interleave(
    int count, bint STREAM, const float* x, int64_t stride, int64_t rows, float* y, int64_t n
) noexcept nogil:
    """y[i count + k] = x[k stride + i] for i < n; rows k >= `rows` are taken as zeros. With STREAM y is aligned to a
    vector and written past the caches."""
    cdef vf r[MAX_ROWS]
    cdef int64_t i = 0
    cdef int k
    while i + VW <= n:
        for k in range(count):
            r[k] = vf_load(x + k * stride + i) if k < rows else vf_zero()
        zip_rows(count, r)
        for k in range(count):
            if STREAM:
                vf_stream(y + i * count + k * VW, r[k])
            else:
                vf_store(y + i * count + k * VW, r[k])
        i += VW
    if i == n:
        return
    for k in range(count):
        r[k] = vf_load_n(x + k * stride + i, n - i) if k < rows else vf_zero()
    zip_rows(count, r)
    for k in range(count):
        store_part(y + i * count, k, r[k], (n - i) * count)


cdef inline inlined deinterleave(
    int count, bint STREAM, const float* x, float* y, int64_t stride, int64_t rows, int64_t n
) noexcept nogil:
    """y[k stride + i] = x[i count + k] for i < n and k < rows. With STREAM all rows of y are aligned to a vector and
    written past the caches."""
    cdef vf r[MAX_ROWS]
    cdef int64_t i = 0
    cdef int k
    while i + VW <= n:
        for k in range(count):
            r[k] = vf_load(x + i * count + k * VW)
        unzip_rows(count, r)
        for k in range(count):
            if k < rows:
                if STREAM:
                    vf_stream(y + k * stride + i, r[k])
                else:
                    vf_store(y + k * stride + i, r[k])
        i += VW
    if i == n:
        return
    for k in range(count):
        r[k] = load_part(x + i * count, k, (n - i) * count)
    unzip_rows(count, r)
    for k in range(count):
        if k < rows:
            vf_store_n(y + k * stride + i, r[k], n - i)


cdef inline vf load_part(const float* p, int k, int64_t n) noexcept nogil:
    """Vector k of n floats; zeros from the end on."""
    cdef int64_t left = n - k * VW
    if left >= VW:
        return vf_load(p + k * VW)
    return vf_load_n(p + k * VW, left) if left > 0 else vf_zero()


cdef inline inlined store_part(float* p, int k, vf x, int64_t n) noexcept nogil:
    """Stores what of vector k lies within n floats."""
    cdef int64_t left = n - k * VW
    if left >= VW:
        vf_store(p + k * VW, x)
    elif left > 0:
        vf_store_n(p + k * VW, x, left)
