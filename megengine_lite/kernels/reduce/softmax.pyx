"""Softmax of float32 along any axis, and its logarithm along rows."""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uintptr_t

from megengine_lite.kernels.common.lanes cimport max_lanes, sum_lanes
from megengine_lite.kernels.common.rows cimport fill_row
from megengine_lite.kernels.common.shared_constants cimport LINE
from megengine_lite.kernels.common.simd cimport (
    VW, prefetch, stream_end, vf, vf_load, vf_load_n, vf_max, vf_select, vf_set1, vf_store, vf_store_n, vf_stream,
    vf_zero, vi, vi_first,
)
from megengine_lite.kernels.common.vmath cimport v_exp_low, v_log


cdef enum:
    SUMMED = 32  # rows added up before they are added to a sum, so that rounding errors stay small
    # Flags of columns.
    STREAM = 1  # the result goes past the caches
    FIRST = 2  # the columns on the left were not computed just before
    LAST = 4  # those on the right will not be computed next


cdef inline float largest(const float* x, int64_t n) noexcept nogil:
    cdef vf low = vf_set1(-INFINITY)
    cdef vf a = low, b = low, c = low, d = low
    cdef int64_t i = 0
    while i + 4 * VW <= n:
        a = vf_max(vf_load(x + i), a)
        b = vf_max(vf_load(x + i + VW), b)
        c = vf_max(vf_load(x + i + 2 * VW), c)
        d = vf_max(vf_load(x + i + 3 * VW), d)
        i += 4 * VW
    while i + VW <= n:
        a = vf_max(vf_load(x + i), a)
        i += VW
    if i < n:
        b = vf_max(vf_select(vi_first(n - i), vf_load_n(x + i, n - i), low), b)
    return max_lanes(vf_max(vf_max(a, b), vf_max(c, d)))


cdef inline void softmax_row(const float* x, float* e, float* y, int64_t n, bint stream) noexcept nogil:
    """Largest, exponentials (to e, which may be y) and their sum, division: three passes over a row in the cache."""
    cdef vf top = vf_set1(largest(x, n))
    cdef vf total = vf_zero()
    cdef vf total2 = vf_zero()
    cdef vf v, w
    cdef int64_t i = 0
    while i + 2 * VW <= n:
        v = v_exp_low(vf_load(x + i) - top)
        w = v_exp_low(vf_load(x + i + VW) - top)
        vf_store(e + i, v)
        vf_store(e + i + VW, w)
        total = total + v
        total2 = total2 + w
        i += 2 * VW
    if i + VW <= n:
        v = v_exp_low(vf_load(x + i) - top)
        vf_store(e + i, v)
        total = total + v
        i += VW
    if i < n:
        v = v_exp_low(vf_load_n(x + i, n - i) - top)
        vf_store_n(e + i, v, n - i)
        total2 = total2 + vf_select(vi_first(n - i), v, vf_zero())
    scale_row(e, vf_set1(1.0 / sum_lanes(total + total2)), y, n, stream)


cdef inline void log_softmax_row(const float* x, float* y, int64_t n) noexcept nogil:
    """x less the largest number and the logarithm of the sum of exponentials."""
    cdef vf top = vf_set1(largest(x, n))
    cdef vf total = vf_zero()
    cdef vf total2 = vf_zero()
    cdef vf v
    cdef int64_t i = 0
    while i + 2 * VW <= n:
        total = total + v_exp_low(vf_load(x + i) - top)
        total2 = total2 + v_exp_low(vf_load(x + i + VW) - top)
        i += 2 * VW
    while i < n:
        v = v_exp_low(vf_load_n(x + i, min(n - i, <int64_t>VW)) - top)
        total = total + vf_select(vi_first(n - i), v, vf_zero())
        i += VW
    total = v_log(vf_set1(sum_lanes(total + total2)))
    i = 0
    while i + VW <= n:
        vf_store(y + i, vf_load(x + i) - top - total)
        i += VW
    if i < n:
        vf_store_n(y + i, vf_load_n(x + i, n - i) - top - total, n - i)


cdef inline void scale_row(const float* x, vf factor, float* y, int64_t n, bint stream) noexcept nogil:
    """y = x times a number, past the caches if it is to `stream`."""
    cdef int64_t i = 0
    if stream:
        i = min(<int64_t>(-<uintptr_t>y % (4 * VW) // 4), n)
        vf_store_n(y, vf_load_n(x, i) * factor, i)
        while i + VW <= n:
            vf_stream(y + i, vf_load(x + i) * factor)
            i += VW
    while i + VW <= n:
        vf_store(y + i, vf_load(x + i) * factor)
        i += VW
    if i < n:
        vf_store_n(y + i, vf_load_n(x + i, n - i) * factor, n - i)


cdef inline void softmax_columns(
    const float* x, float* y, int64_t length, int64_t stride, int64_t n, int64_t width, int flags, float* tile
) noexcept nogil:
    """n <= width columns side by side, computed in `tile`, which takes (length + 1) (LINE + width) floats.

    Rows that are far apart in memory compete for the same places of a cache and lie on different pages: a piece of each
    is read once and written once. `width` is a multiple of LINE; for `flags` see multiply_row.
    """
    cdef int64_t pitch = LINE + width  # in front of each row of the tile is room for what multiply_row leaves over
    cdef float* scale = tile + length * pitch + LINE  # first the largest of each column, then the inverse of its sum
    cdef float* line
    cdef int64_t i, r
    cdef vf v
    fill_row(scale - LINE, 1.0, LINE)
    fill_row(scale, -INFINITY, width)
    for r in range(length):
        line = tile + r * pitch + LINE
        i = 0
        while i < n:
            v = vf_load(x + r * stride + i) if i + VW <= n else vf_load_n(x + r * stride + i, n - i)
            vf_store(line + i, v)
            vf_store(scale + i, vf_max(v, vf_load(scale + i)))
            i += VW
    for r in range(length):
        line = tile + r * pitch + LINE
        i = 0
        while i < n:
            if i % LINE == 0:
                prefetch(x + r * stride + n + i + LINE - 1)  # of the next columns, while there is something to compute
            vf_store(line + i, v_exp_low(vf_load(line + i) - vf_load(scale + i)))
            i += VW
    i = 0
    while i < n:
        vf_store(scale + i, vf_set1(1.0) / column_sum(tile + LINE + i, pitch, length))
        i += VW
    for r in range(length):
        multiply_row(tile + r * pitch + LINE, scale, y + r * stride, n, flags)


cdef inline vf column_sum(const float* x, int64_t stride, int64_t length) noexcept nogil:
    cdef vf total = vf_zero(), part
    cdef int64_t r = 0, end
    while r < length:
        part = vf_zero()
        end = min(r + SUMMED, length)
        while r < end:
            part = part + vf_load(x + r * stride)
            r += 1
        total = total + part
    return total


cdef inline void multiply_row(float* x, const float* scale, float* y, int64_t n, int flags) noexcept nogil:
    """y = x scale for a piece of a row.

    Stores past the caches are fast only for whole cache lines, and a piece may begin anywhere in one. So the part of a
    piece in its last line is multiplied and left in front of x, and stored with the first line of the next piece. There
    `scale` has ones.
    """
    cdef int64_t begun = <uintptr_t>y % (4 * LINE) // 4  # floats of the first line before y
    cdef int64_t i = 0, k
    if flags & STREAM:
        i = -begun
        if flags & FIRST and begun:
            i = min(LINE - begun, n)
            multiply(x, scale, y, i)
        while i + LINE <= n:
            for k in range(LINE // VW):
                vf_stream(y + i + k * VW, vf_load(x + i + k * VW) * vf_load(scale + i + k * VW))
            i += LINE
        if not flags & LAST:
            multiply(x + i, scale + i, x - begun, begun)
            return
    multiply(x + i, scale + i, y + i, n - i)


cdef inline void multiply(const float* x, const float* scale, float* y, int64_t n) noexcept nogil:
    cdef int64_t i = 0
    while i + VW <= n:
        vf_store(y + i, vf_load(x + i) * vf_load(scale + i))
        i += VW
    if i < n:
        vf_store_n(y + i, vf_load_n(x + i, n - i) * vf_load_n(scale + i, n - i), n - i)


cdef struct SoftmaxArgs:
    const float* x
    float* y
    int64_t length, inner, chunk, stream


def scratch_bytes(int64_t length, int64_t inner, int64_t chunk, bint stream):
    """Bytes of scratch: a tile, or a row whose result goes past the caches."""
    if inner > 1:
        return sizeof(float) * (length + 1) * (LINE + chunk)
    return sizeof(float) * length if stream else 0


cdef void softmax_f32(const SoftmaxArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y[o][r][i] = softmax along r. One work item = `chunk` neighbours i of one o (all of r).

    With inner > 1, chunk is a multiple of LINE; with `stream`, y is larger than the caches. Scratch:
    scratch_bytes(length, inner, chunk, stream).
    """
    cdef int64_t length = a.length, inner = a.inner, chunk = a.chunk, stream = a.stream
    cdef int64_t chunks = (inner + chunk - 1) // chunk
    cdef int64_t item, start, offset
    cdef const float* x = a.x
    cdef float* y = a.y
    cdef float* tile = <float*>scratch
    cdef int flags
    for item in range(begin, end):
        if inner > 1:
            start = item % chunks * chunk
            offset = item // chunks * length * inner + start
            flags = 0
            if stream:
                flags = STREAM
                if item == begin or start == 0:
                    flags |= FIRST
                if item == end - 1 or start + chunk >= inner:
                    flags |= LAST
            softmax_columns(x + offset, y + offset, length, inner, min(chunk, inner - start), chunk, flags, tile)
        elif stream:
            softmax_row(x + item * length, tile, y + item * length, length, True)
        else:
            softmax_row(x + item * length, y + item * length, y + item * length, length, False)
    if stream:
        stream_end()


cdef struct LogSoftmaxArgs:
    const float* x
    float* y
    int64_t length


cdef void log_softmax_f32(const LogSoftmaxArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y[o][r] = logarithm of the softmax along r. One work item = one row."""
    cdef int64_t length = a.length, item
    for item in range(begin, end):
        log_softmax_row(a.x + item * length, a.y + item * length, length)


include "softmax_table.pxi"
