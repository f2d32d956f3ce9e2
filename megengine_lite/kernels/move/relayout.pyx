"""Change between the plain and the channel-blocked layout, and movement of blocked channels."""

import numpy as np

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t
from libc.string cimport memcpy

from megengine_lite.kernels.common.interleave cimport deinterleave, interleave
from megengine_lite.kernels.common.arguments cimport Strides
from megengine_lite.kernels.common.rows cimport STREAM_BYTES, is_aligned
from megengine_lite.kernels.common.simd cimport (
    VW, stream_end, vf, vf_load, vf_permute, vf_select, vf_store, vf_zero, vi, vi_load,
)

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
    int64_t n, c, h, w
    Strides blocked


cdef void relayout_to_blocked_32(const RelayoutArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    cdef const float* x = <const float*>a.x
    cdef float* y = <float*>a.y
    cdef int64_t c = a.c, h = a.h, w = a.w, row = a.blocked.row, plane = a.blocked.plane, image = a.blocked.image
    cdef int64_t blocks = (c + VW - 1) // VW
    cdef int64_t item = begin, rows, n, cb, yy
    cdef bint stream = 4 * a.n * c * h * w >= STREAM_BYTES and is_aligned(y)
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
    cdef bint stream = 4 * a.n * c * h * w >= STREAM_BYTES and h * w % VW == 0
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


# ---- plain <-> packed by 4, 8 or 16, whatever the width of this build ----------------------------------------------

cdef struct PackChannelsArgs:
    const float* x
    float* y
    int64_t c, size, pack


cdef void pack_channels_f32(const PackChannelsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y[n][c / pack][i][c % pack] = x[n][c][i]; one work item = one block of channels of one image."""
    cdef int64_t c = a.c, size = a.size, pack = a.pack
    cdef int64_t blocks = (c + pack - 1) // pack
    cdef int64_t item, cb
    cdef const float* x
    cdef float* y
    for item in range(begin, end):
        cb = item % blocks
        x = a.x + (item // blocks * c + cb * pack) * size
        y = a.y + item * size * pack
        if pack == 4:
            interleave(4, False, x, size, c - cb * 4, y, size)
        elif pack == 8:
            interleave(8, False, x, size, c - cb * 8, y, size)
        else:
            interleave(16, False, x, size, c - cb * 16, y, size)


cdef void unpack_channels_f32(const PackChannelsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """The inverse of pack_channels_f32; padded channels are left out."""
    cdef int64_t c = a.c, size = a.size, pack = a.pack
    cdef int64_t blocks = (c + pack - 1) // pack
    cdef int64_t item, cb
    cdef const float* x
    cdef float* y
    for item in range(begin, end):
        cb = item % blocks
        x = a.x + item * size * pack
        y = a.y + (item // blocks * c + cb * pack) * size
        if pack == 4:
            deinterleave(4, False, x, y, size, c - cb * 4, size)
        elif pack == 8:
            deinterleave(8, False, x, y, size, c - cb * 8, size)
        else:
            deinterleave(16, False, x, y, size, c - cb * 16, size)


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


cdef enum:
    MAX_SOURCES = 4
    SOURCE = 5  # numbers that describe one source of an output block


cdef struct GatherChannelsArgs:
    const float* x[MAX_SOURCES]
    const int64_t* table
    const int32_t* lanes
    float* y
    int64_t blocks, h, w
    Strides strides


cdef void gather_channels_blocked_f32(
    const GatherChannelsArgs* a, int64_t begin, int64_t end, void* scratch
) noexcept nogil:
    """Output channels picked from channels of up to four tensors: channel shuffle, unaligned concat and split.

    `table` has for every output block MAX_SOURCES entries (tensor, block, row, plane, image), tensor < 0 for none, and
    `lanes` for every entry VW lane numbers, -1 where the lane comes from another source. Lanes that no source gives
    are zero. One work item = one row of one output block.
    """
    cdef const int64_t* table = a.table
    cdef const int32_t* lanes = a.lanes
    cdef float* y = a.y
    cdef int64_t blocks = a.blocks, h = a.h, w = a.w, row = a.strides.row, plane = a.strides.plane
    cdef int64_t image = a.strides.image
    cdef int64_t item, n, cb, r, i, s, count
    cdef const int64_t* entry
    cdef const float* x[MAX_SOURCES]
    cdef vi order[MAX_SOURCES]
    cdef vi mask[MAX_SOURCES]
    cdef vf v
    cdef float* target
    for item in range(begin, end):
        r = item % h
        cb = item // h % blocks
        n = item // (h * blocks)
        count = 0
        for s in range(MAX_SOURCES):
            entry = table + (cb * MAX_SOURCES + s) * SOURCE
            if entry[0] < 0:
                break
            x[s] = a.x[entry[0]] + n * entry[4] + entry[1] * entry[3] + r * entry[2]
            order[s] = vi_load(lanes + (cb * MAX_SOURCES + s) * VW)
            mask[s] = ~(order[s] >> 31)
            order[s] = order[s] & mask[s]
            count += 1
        target = y + n * image + cb * plane + r * row
        if count == 1:
            for i in range(w):
                v = vf_permute(vf_load(x[0] + i * VW), order[0])
                vf_store(target + i * VW, vf_select(mask[0], v, vf_zero()))
        elif count == 2:
            for i in range(w):
                v = vf_select(mask[0], vf_permute(vf_load(x[0] + i * VW), order[0]), vf_zero())
                v = vf_select(mask[1], vf_permute(vf_load(x[1] + i * VW), order[1]), v)
                vf_store(target + i * VW, v)
        else:
            for i in range(w):
                v = vf_zero()
                for s in range(count):
                    v = vf_select(mask[s], vf_permute(vf_load(x[s] + i * VW), order[s]), v)
                vf_store(target + i * VW, v)


include "relayout_table.pxi"


# ---- Python functions that run a kernel on arrays: for tests, and to try one out ------------------------------------

def _check_packed(x, y, Py_ssize_t c, Py_ssize_t pack):
    if y[0] != x[0] or y[1] * pack < c or (y[1] - 1) * pack >= c or y[2:4] != x[2:4]:
        raise ValueError(f"plain shape {x} and packed shape {y} do not belong together")


def nchw_to_packed(const float[:, :, :, ::1] x not None, float[:, :, :, :, ::1] y not None):
    """Copies an NCHW tensor into NCHWc form, [N, ceil(C / p), H, W, p] with p = 4, 8 or 16; added channels are 0.

    Parameters
    ----------
    x : float32 array [N, C, H, W]
    y : float32 array [N, ceil(C / p), H, W, p]
        Written. p = 4 is NCHW44, p = 8 NCHW88.

    Raises
    ------
    ValueError
        Shapes that do not belong together, or another p.
    """
    _pack(x, y, True)


def packed_to_nchw(const float[:, :, :, :, ::1] x not None, float[:, :, :, ::1] y not None):
    """The inverse of :func:`nchw_to_packed`; channels beyond those of ``y`` are left out."""
    _pack(y, x, False)


cdef _pack(const float[:, :, :, ::1] plain, const float[:, :, :, :, ::1] packed, bint forward):
    cdef PackChannelsArgs a
    cdef Py_ssize_t p = packed.shape[4], c = plain.shape[1]
    if p not in (4, 8, 16):
        raise ValueError(f"channels can be packed by 4, 8 or 16, not by {p}")
    _check_packed(tuple(plain.shape)[:4], tuple(packed.shape)[:5], c, p)
    a.c = c
    a.size = plain.shape[2] * plain.shape[3]
    a.pack = p
    if plain.shape[0] == 0 or c == 0 or a.size == 0:
        return
    a.x = &plain[0, 0, 0, 0] if forward else &packed[0, 0, 0, 0, 0]
    a.y = <float*>(&packed[0, 0, 0, 0, 0] if forward else &plain[0, 0, 0, 0])
    cdef int64_t work = packed.shape[0] * packed.shape[1]
    with nogil:
        if forward:
            pack_channels_f32(&a, 0, work, NULL)
        else:
            unpack_channels_f32(&a, 0, work, NULL)


def nchw_to_blocked(const float[:, :, :, ::1] x not None, Py_ssize_t halo_h=0, Py_ssize_t halo_w=0):
    """An NCHW tensor in the blocked layout of this build, [N, ceil(C / VW), H + 2 halo_h, W + 2 halo_w, VW].

    Parameters
    ----------
    x : float32 array [N, C, H, W]
    halo_h, halo_w : int
        Rows and columns of zeros around the image.
    """
    cdef Py_ssize_t n = x.shape[0], c = x.shape[1], h = x.shape[2], w = x.shape[3]
    cdef Py_ssize_t blocks = (c + VW - 1) // VW
    cdef RelayoutArgs a
    y = np.zeros((n, blocks, h + 2 * halo_h, w + 2 * halo_w, VW), np.float32)
    cdef float[:, :, :, :, ::1] out = y
    if y.size == 0 or x.size == 0:
        return y
    a = RelayoutArgs(
        x=&x[0, 0, 0, 0], y=&out[0, 0, halo_h, halo_w, 0], n=n, c=c, h=h, w=w,
        blocked=Strides(
            row=(w + 2 * halo_w) * VW, plane=(h + 2 * halo_h) * (w + 2 * halo_w) * VW, image=y.size // n
        ),
    )
    with nogil:
        relayout_to_blocked_32(&a, 0, n * blocks * h, NULL)
    return y


def blocked_to_nchw(
    const float[:, :, :, :, ::1] x not None, float[:, :, :, ::1] y not None, Py_ssize_t halo_h=0, Py_ssize_t halo_w=0
):
    """Writes a blocked tensor, as of :func:`nchw_to_blocked`, into an NCHW tensor."""
    cdef Py_ssize_t n = y.shape[0], c = y.shape[1], h = y.shape[2], w = y.shape[3]
    cdef RelayoutArgs a
    if x.shape[4] != VW or x.shape[2] != h + 2 * halo_h or x.shape[3] != w + 2 * halo_w:
        raise ValueError(f"blocked shape {tuple(x.shape)[:5]} does not fit {tuple(y.shape)[:4]} with this halo")
    _check_packed((n, c, h, w), (x.shape[0], x.shape[1], h, w, VW), c, VW)
    if y.size == 0:
        return
    a = RelayoutArgs(
        x=&x[0, 0, halo_h, halo_w, 0], y=&y[0, 0, 0, 0], n=n, c=c, h=h, w=w,
        blocked=Strides(
            row=x.shape[3] * VW, plane=x.shape[2] * x.shape[3] * VW,
            image=x.shape[1] * x.shape[2] * x.shape[3] * VW,
        ),
    )
    with nogil:
        relayout_to_plain_32(&a, 0, n * x.shape[1] * h, NULL)
