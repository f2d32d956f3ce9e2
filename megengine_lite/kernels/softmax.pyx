"""Softmax of float32 along any axis."""

import numpy as np

from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uintptr_t

from megengine_lite.kernels.kernel cimport KernelArgs
from megengine_lite.kernels.lanes cimport max_lanes, sum_lanes
from megengine_lite.kernels.rows cimport copy_row, stream_row
from megengine_lite.kernels.simd cimport (
    VW, prefetch, stream_end, vf, vf_load, vf_load_n, vf_max, vf_select, vf_set1, vf_store, vf_store_n, vf_zero, vi, vi_first,
)
from megengine_lite.kernels.vmath cimport v_exp

from megengine_lite.kernels.tiling import softmax_chunk


cdef inline void softmax_row(const float* x, float* y, int64_t n) noexcept nogil:
    """Largest, exponentials and their sum, division: three passes over a row that the cache holds."""
    cdef vf low = vf_set1(-INFINITY)
    cdef vf top = low
    cdef vf top2 = low
    cdef vf total = vf_zero()
    cdef vf total2 = vf_zero()
    cdef vf v, w, factor
    cdef vi tail
    cdef int64_t i = 0
    while i + 2 * VW <= n:
        top = vf_max(vf_load(x + i), top)
        top2 = vf_max(vf_load(x + i + VW), top2)
        i += 2 * VW
    while i < n:
        tail = vi_first(n - i)
        top = vf_max(vf_select(tail, vf_load_n(x + i, min(n - i, <int64_t>VW)), low), top)
        i += VW
    top = vf_set1(max_lanes(vf_max(top, top2)))
    i = 0
    while i + 2 * VW <= n:
        v = v_exp(vf_load(x + i) - top)
        w = v_exp(vf_load(x + i + VW) - top)
        vf_store(y + i, v)
        vf_store(y + i + VW, w)
        total = total + v
        total2 = total2 + w
        i += 2 * VW
    while i < n:
        v = v_exp(vf_load_n(x + i, min(n - i, <int64_t>VW)) - top)
        vf_store_n(y + i, v, min(n - i, <int64_t>VW))
        total = total + vf_select(vi_first(n - i), v, vf_zero())
        i += VW
    factor = vf_set1(1.0 / sum_lanes(total + total2))
    i = 0
    while i + VW <= n:
        vf_store(y + i, vf_load(y + i) * factor)
        i += VW
    if i < n:
        vf_store_n(y + i, vf_load_n(y + i, n - i) * factor, n - i)


cdef inline void softmax_columns(
    const float* x, float* y, int64_t length, int64_t stride, int64_t n, int64_t width, bint stream, float* tile
) noexcept nogil:
    """n <= width columns side by side, computed in `tile`, which takes (length + 1) x width floats.

    Rows that are far apart in memory compete for the same places of a cache and lie on different pages: a piece of each
    is read once and written once. `width` is a multiple of VW.
    """
    cdef float* top = tile + length * width
    cdef int64_t i, r
    cdef vf v, total
    i = 0
    while i < n:
        vf_store(top + i, vf_set1(-INFINITY))
        i += VW
    for r in range(length):
        copy_row(tile + r * width, x + r * stride, n)
        i = 0
        while i < n:  # the next piece of this row
            prefetch(x + r * stride + n + i)
            i += 16
        i = 0
        while i < n:
            vf_store(top + i, vf_max(vf_load(tile + r * width + i), vf_load(top + i)))
            i += VW
    i = 0
    while i < n:
        v = vf_load(top + i)
        total = vf_zero()
        for r in range(length):
            vf_store(tile + r * width + i, v_exp(vf_load(tile + r * width + i) - v))
            total = total + vf_load(tile + r * width + i)
        vf_store(top + i, vf_set1(1.0) / total)
        i += VW
    for r in range(length):
        i = 0
        while i < n:
            vf_store(tile + r * width + i, vf_load(tile + r * width + i) * vf_load(top + i))
            i += VW
        if stream:
            stream_row(y + r * stride, tile + r * width, n)
        else:
            copy_row(y + r * stride, tile + r * width, n)


cdef void softmax_f32(const KernelArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y[o][r][i] = softmax along r. One work item = `chunk` neighbours i of one o (all of r).

    With inner > 1, chunk is a multiple of VW and scratch holds (length + 1) x chunk floats; with `stream`, y is larger
    than the caches, and for inner = 1 scratch holds a row.
    """
    cdef int64_t length = a.i[0], inner = a.i[1], chunk = a.i[2], stream = a.i[3]
    cdef int64_t chunks = (inner + chunk - 1) // chunk
    cdef int64_t item, start, offset
    cdef const float* x = <const float*>a.p[0]
    cdef float* y = <float*>a.p[1]
    cdef float* tile = <float*>scratch
    for item in range(begin, end):
        if inner > 1:
            start = item % chunks * chunk
            offset = item // chunks * length * inner + start
            softmax_columns(
                x + offset, y + offset, length, inner, min(chunk, inner - start), chunk, stream != 0, tile
            )
        elif stream:
            softmax_row(x + item * length, tile, length)
            stream_row(y + item * length, tile, length)
        else:
            softmax_row(x + item * length, y + item * length, length)
    if stream:
        stream_end()


# name -> (address, pointers, integers, reals)
KERNELS = {
    "softmax_f32": (<uintptr_t>&softmax_f32, "x y", "length inner chunk stream", ""),
}


# ---- edge for tests and for curious people -------------------------------------------------------------------------

def softmax(const float[:, :, ::1] x not None):
    """Softmax along the middle axis.

    Parameters
    ----------
    x : float32 array [outer, length, inner]

    Returns
    -------
    float32 array of the same shape
    """
    cdef KernelArgs a
    cdef Py_ssize_t outer = x.shape[0], inner = x.shape[2]
    y = np.empty((outer, x.shape[1], inner), np.float32)
    cdef float[:, :, ::1] out = y
    if y.size == 0:
        return y
    cdef Py_ssize_t chunk = softmax_chunk(x.shape[1], inner)
    cdef float[::1] tile = np.empty((x.shape[1] + 1) * chunk, np.float32)
    a.i[:4] = [x.shape[1], inner, chunk, 0]
    a.p[0] = <void*>&x[0, 0, 0]
    a.p[1] = &out[0, 0, 0]
    with nogil:
        softmax_f32(&a, 0, outer * ((inner + chunk - 1) // chunk), &tile[0])
    return y
