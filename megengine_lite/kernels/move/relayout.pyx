"""Change between the plain and the channel-blocked layout, and copies between blocked tensors."""

from libc.stdint cimport int8_t, int16_t, int64_t, uintptr_t
from libc.string cimport memcpy

from megengine_lite.kernels.common.interleave cimport deinterleave, interleave
from megengine_lite.kernels.common.arguments cimport Strides
from megengine_lite.kernels.common.rows cimport is_aligned
from megengine_lite.kernels.common.simd cimport VW, stream_end

ctypedef fused small:
    int8_t
    int16_t


# ---- plain <-> blocked ---------------------------------------------------------------------------------------------
#
# One work item = one row of one channel block of one image. Consecutive rows of a plane without halo are done as one
# long row, so that small planes do not consist of remainders.

cdef inline int64_t rows_at_once(int64_t item, int64_t end, int64_t h, int64_t w, int64_t row) noexcept nogil:
    return min(end - item, h - item % h) if row == w * VW else 1


cdef struct RelayoutArgs:
    const void* x
    void* y
    int64_t n, c, h, w, stream
    Strides blocked


cdef void relayout_to_blocked_32(const RelayoutArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    cdef const float* x = <const float*>a.x
    cdef float* y = <float*>a.y
    cdef int64_t c = a.c, h = a.h, w = a.w, row = a.blocked.row, plane = a.blocked.plane, image = a.blocked.image
    cdef int64_t blocks = (c + VW - 1) // VW
    cdef int64_t item = begin, rows, n, cb, yy
    cdef bint stream = a.stream and is_aligned(y)
    cdef const float* source
    cdef float* target
    while item < end:
        rows = rows_at_once(item, end, h, w, row)
        yy = item % h
        cb = item // h % blocks
        n = item // (h * blocks)
        source = x + ((n * c + cb * VW) * h + yy) * w
        target = y + n * image + cb * plane + yy * row
        if stream:
            interleave(VW, True, source, h * w, c - cb * VW, target, rows * w)
        else:
            interleave(VW, False, source, h * w, c - cb * VW, target, rows * w)
        item += rows
    if stream:
        stream_end()


cdef void relayout_to_plain_32(const RelayoutArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    cdef const float* x = <const float*>a.x
    cdef float* y = <float*>a.y
    cdef int64_t c = a.c, h = a.h, w = a.w, row = a.blocked.row, plane = a.blocked.plane, image = a.blocked.image
    cdef int64_t blocks = (c + VW - 1) // VW
    cdef int64_t item = begin, rows, n, cb, yy
    cdef bint stream = a.stream and h * w % VW == 0
    cdef const float* source
    cdef float* target
    while item < end:
        rows = rows_at_once(item, end, h, w, row)
        yy = item % h
        cb = item // h % blocks
        n = item // (h * blocks)
        source = x + n * image + cb * plane + yy * row
        target = y + ((n * c + cb * VW) * h + yy) * w
        if stream and is_aligned(target):
            deinterleave(VW, True, source, target, h * w, c - cb * VW, rows * w)
        else:
            deinterleave(VW, False, source, target, h * w, c - cb * VW, rows * w)
        item += rows
    if stream:
        stream_end()


cdef void relayout_to_blocked_small(
    const RelayoutArgs* a, int64_t begin, int64_t end, small* x, small* y
) noexcept nogil:
    cdef int64_t c = a.c, h = a.h, w = a.w, row = a.blocked.row, plane = a.blocked.plane, image = a.blocked.image
    cdef int64_t blocks = (c + VW - 1) // VW
    cdef int64_t item, channels, k, i
    cdef small* source
    cdef small* target
    for item in range(begin, end):
        channels = min(<int64_t>VW, c - item // h % blocks * VW)
        source = x + ((item // (h * blocks) * c + item // h % blocks * VW) * h + item % h) * w
        target = y + item // (h * blocks) * image + item // h % blocks * plane + item % h * row
        for k in range(VW):
            for i in range(w):
                target[i * VW + k] = source[k * h * w + i] if k < channels else <small>0


cdef void relayout_to_plain_small(
    const RelayoutArgs* a, int64_t begin, int64_t end, small* x, small* y
) noexcept nogil:
    cdef int64_t c = a.c, h = a.h, w = a.w, row = a.blocked.row, plane = a.blocked.plane, image = a.blocked.image
    cdef int64_t blocks = (c + VW - 1) // VW
    cdef int64_t item, channels, k, i
    cdef small* source
    cdef small* target
    for item in range(begin, end):
        channels = min(<int64_t>VW, c - item // h % blocks * VW)
        source = x + item // (h * blocks) * image + item // h % blocks * plane + item % h * row
        target = y + ((item // (h * blocks) * c + item // h % blocks * VW) * h + item % h) * w
        for k in range(channels):
            for i in range(w):
                target[k * h * w + i] = source[i * VW + k]


cdef void relayout_to_blocked_16(const RelayoutArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    relayout_to_blocked_small(a, begin, end, <int16_t*>a.x, <int16_t*>a.y)


cdef void relayout_to_blocked_8(const RelayoutArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    relayout_to_blocked_small(a, begin, end, <int8_t*>a.x, <int8_t*>a.y)


cdef void relayout_to_plain_16(const RelayoutArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    relayout_to_plain_small(a, begin, end, <int16_t*>a.x, <int16_t*>a.y)


cdef void relayout_to_plain_8(const RelayoutArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    relayout_to_plain_small(a, begin, end, <int8_t*>a.x, <int8_t*>a.y)


# ---- blocked -> blocked --------------------------------------------------------------------------------------------

cdef struct CopyBlockedArgs:
    const char* x
    char* y
    Strides x_, y_
    int64_t h, row_bytes, blocks


cdef void copy_blocked(const CopyBlockedArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Copy between blocked tensors of different halo; sizes and strides in bytes. One work item = one plane."""
    cdef int64_t h = a.h, row_bytes = a.row_bytes, blocks = a.blocks
    cdef int64_t x_row = a.x_.row, x_plane = a.x_.plane, x_image = a.x_.image
    cdef int64_t y_row = a.y_.row, y_plane = a.y_.plane, y_image = a.y_.image
    cdef int64_t item, r
    cdef const char* x
    cdef char* y
    for item in range(begin, end):
        x = a.x + item // blocks * x_image + item % blocks * x_plane
        y = a.y + item // blocks * y_image + item % blocks * y_plane
        if x_row == row_bytes and y_row == row_bytes:
            memcpy(y, x, h * row_bytes)
            continue
        for r in range(h):
            memcpy(y + r * y_row, x + r * x_row, row_bytes)


include "relayout_table.pxi"


# ---- NCHW44, NCHW88: plain <-> packed by 4, 8 or 16 channels, whatever the width of this build -----------------------

def nchw_to_packed(const float[:, :, :, ::1] x not None, float[:, :, :, :, ::1] y not None):
    """Writes an NCHW tensor in the layout NCHWc, which holds p neighbouring channels of a pixel side by side.

    Parameters
    ----------
    x : float32 array [N, C, H, W], C-contiguous
    y : float32 array [N, ceil(C / p), H, W, p], C-contiguous
        Is written, and must not overlap ``x``. p = 4 is NCHW44, p = 8 is NCHW88; 16 is possible too. Channels from C
        on become zero.

    Raises
    ------
    ValueError
        The shapes do not belong together, p is another number, the arrays overlap, or one has another type or is not
        contiguous.
    """
    cdef Py_ssize_t p = _packed_by(x, y), c = x.shape[1], size = x.shape[2] * x.shape[3], block, n, first
    if x.shape[0] == 0 or c == 0 or size == 0:
        return
    _refuse_overlap(<uintptr_t>&x[0, 0, 0, 0], x.nbytes, <uintptr_t>&y[0, 0, 0, 0, 0], y.nbytes)
    with nogil:
        for n in range(x.shape[0]):
            for block in range(y.shape[1]):
                first = block * p
                interleave_by(p, &x[n, first, 0, 0], size, c - first, &y[n, block, 0, 0, 0])


def packed_to_nchw(const float[:, :, :, :, ::1] x not None, float[:, :, :, ::1] y not None):
    """The inverse of :func:`nchw_to_packed`.

    Parameters
    ----------
    x : float32 array [N, ceil(C / p), H, W, p], C-contiguous
        p is 4, 8 or 16. Channels from C on are left out.
    y : float32 array [N, C, H, W], C-contiguous
        Is written, and must not overlap ``x``.

    Raises
    ------
    ValueError
        The shapes do not belong together, p is another number, the arrays overlap, or one has another type or is not
        contiguous.
    """
    cdef Py_ssize_t p = _packed_by(y, x), c = y.shape[1], size = y.shape[2] * y.shape[3], block, n, first
    if y.shape[0] == 0 or c == 0 or size == 0:
        return
    _refuse_overlap(<uintptr_t>&x[0, 0, 0, 0, 0], x.nbytes, <uintptr_t>&y[0, 0, 0, 0], y.nbytes)
    with nogil:
        for n in range(y.shape[0]):
            for block in range(x.shape[1]):
                first = block * p
                deinterleave_by(p, &x[n, block, 0, 0, 0], &y[n, first, 0, 0], size, c - first)


cdef Py_ssize_t _packed_by(
    const float[:, :, :, ::1] plain, const float[:, :, :, :, ::1] packed
) except -1:
    """The number of channels that lie side by side; checks that the shapes belong together."""
    cdef Py_ssize_t p = packed.shape[4], c = plain.shape[1]
    if p not in (4, 8, 16):
        raise ValueError(f"channels can be packed by 4, 8 or 16, not by {p}")
    expected = (plain.shape[0], (c + p - 1) // p, plain.shape[2], plain.shape[3], p)
    if tuple(packed.shape)[:5] != expected:
        raise ValueError(
            f"an NCHW tensor of shape {tuple(plain.shape)[:4]} is packed in {expected}, not in "
            f"{tuple(packed.shape)[:5]}"
        )
    return p


cdef int _refuse_overlap(uintptr_t x, Py_ssize_t x_bytes, uintptr_t y, Py_ssize_t y_bytes) except -1:
    if x < y + y_bytes and y < x + x_bytes:
        raise ValueError("source and destination overlap: give a destination with memory of its own")
    return 0


cdef void interleave_by(
    Py_ssize_t p, const float* x, int64_t size, int64_t channels, float* y
) noexcept nogil:
    """One block of p channels, of which `channels` exist; planes of `size` pixels."""
    if p == 4:
        interleave(4, False, x, size, channels, y, size)
    elif p == 8:
        interleave(8, False, x, size, channels, y, size)
    else:
        interleave(16, False, x, size, channels, y, size)


cdef void deinterleave_by(
    Py_ssize_t p, const float* x, float* y, int64_t size, int64_t channels
) noexcept nogil:
    """The inverse of interleave_by."""
    if p == 4:
        deinterleave(4, False, x, y, size, channels, size)
    elif p == 8:
        deinterleave(8, False, x, y, size, channels, size)
    else:
        deinterleave(16, False, x, y, size, channels, size)
