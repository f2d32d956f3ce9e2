"""Pooling of float32 images, blocked and plain. Windows are clipped at the border: inputs need no halo.

A maximum passes over NaN, and begins at the lowest finite number: a window with no larger one gives that.
"""

import numpy as np

from libc.float cimport FLT_MAX
from libc.stdint cimport int64_t

from megengine_lite.kernels.common.arguments cimport (
    POOL_AVERAGE, POOL_AVERAGE_COUNT_EXCLUDE_PADDING, POOL_MAX, PoolingWindow, Strides,
)
from megengine_lite.kernels.common.simd cimport (
    VW, inlined, vf, vf_load, vf_max, vf_set1, vf_store, vf_unzip_even, vf_zero,
)

from megengine_lite.kernels.common.array_checks import pooled_extents

cdef enum:
    PIXELS = 4  # outputs computed side by side

cdef inline vf start(bint LARGEST) noexcept nogil:
    return vf_set1(-FLT_MAX) if LARGEST else vf_zero()


cdef inline vf step(bint LARGEST, vf total, vf x) noexcept nogil:
    return vf_max(x, total) if LARGEST else total + x  # NaN in x leaves the total


cdef inline float weight(const PoolingWindow* p, int64_t rows, int64_t columns) noexcept nogil:
    """The factor of a sum over a window of which rows x columns pixels lie inside."""
    if p.mode == POOL_AVERAGE:  # padding counts as zeros
        return 1.0 / <float>(p.kh * p.kw)
    return 1.0 / <float>(rows * columns) if rows * columns else 0.0


# ---- blocked -------------------------------------------------------------------------------------------------------

cdef inline inlined windows(
    bint LARGEST, int KW, const float* x, int64_t x_row, int64_t rows, int64_t columns, int64_t step_x, float* y,
    int64_t count, float scale
) noexcept nogil:
    """`count` windows side by side of `rows` x `columns` pixels, step_x floats apart. KW: `columns` if constant, else 0."""
    cdef vf total[PIXELS]
    cdef const float* at
    cdef int64_t i = 0, r, c
    cdef int64_t width = KW if KW else columns
    cdef int p
    while i + PIXELS <= count:
        for p in range(PIXELS):
            total[p] = start(LARGEST)
        for r in range(rows):
            at = x + i * step_x + r * x_row
            for c in range(width):
                for p in range(PIXELS):
                    total[p] = step(LARGEST, total[p], vf_load(at + p * step_x + c * VW))
        for p in range(PIXELS):
            vf_store(y + (i + p) * VW, total[p] if LARGEST else total[p] * vf_set1(scale))
        i += PIXELS
    while i < count:
        total[0] = start(LARGEST)
        for r in range(rows):
            at = x + i * step_x + r * x_row
            for c in range(width):
                total[0] = step(LARGEST, total[0], vf_load(at + c * VW))
        vf_store(y + i * VW, total[0] if LARGEST else total[0] * vf_set1(scale))
        i += 1


cdef inline inlined pool_row(
    bint LARGEST, const PoolingWindow* p, const float* x, int64_t x_row, float* y, int64_t r
) noexcept nogil:
    """Output row r of one channel block; x and y are that block's planes."""
    cdef int64_t top = r * p.stride_h - p.pad_h
    cdef int64_t first_row = max(top, <int64_t>0)
    cdef int64_t rows = max(min(top + p.kh, p.h) - first_row, <int64_t>0)
    cdef int64_t inside = min((p.pad_w + p.stride_w - 1) // p.stride_w, p.ow)
    cdef int64_t outside = inside
    cdef int64_t c, left, first, columns
    if p.w + p.pad_w >= p.kw:
        outside = max(min((p.w + p.pad_w - p.kw) // p.stride_w + 1, p.ow), inside)
    x += first_row * x_row
    for c in range(p.ow):
        if inside <= c < outside:
            continue
        left = c * p.stride_w - p.pad_w
        first = max(left, <int64_t>0)
        columns = max(min(left + p.kw, p.w) - first, <int64_t>0)
        windows(LARGEST, 0, x + first * VW, x_row, rows, columns, 0, y + c * VW, 1, weight(p, rows, columns))
    x += (inside * p.stride_w - p.pad_w) * VW
    y += inside * VW
    if p.kw == 3:
        windows(LARGEST, 3, x, x_row, rows, 3, p.stride_w * VW, y, outside - inside, weight(p, rows, 3))
    elif p.kw == 2:
        windows(LARGEST, 2, x, x_row, rows, 2, p.stride_w * VW, y, outside - inside, weight(p, rows, 2))
    else:
        windows(LARGEST, 0, x, x_row, rows, p.kw, p.stride_w * VW, y, outside - inside, weight(p, rows, p.kw))


cdef struct PoolBlockedArgs:
    const float* x
    float* y
    Strides x_, y_
    int64_t blocks
    PoolingWindow pool


cdef void pool_blocked_f32(const PoolBlockedArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = one output row of one channel block of one image."""
    cdef int64_t blocks = a.blocks, x_row = a.x_.row, x_plane = a.x_.plane, x_image = a.x_.image
    cdef int64_t y_row = a.y_.row, y_plane = a.y_.plane, y_image = a.y_.image
    cdef int64_t item, r, cb, n
    cdef const float* x
    cdef float* y
    cdef PoolingWindow p = a.pool
    for item in range(begin, end):
        r = item % p.oh
        cb = item // p.oh % blocks
        n = item // (p.oh * blocks)
        x = a.x + n * x_image + cb * x_plane
        y = a.y + n * y_image + cb * y_plane + r * y_row
        if p.mode == POOL_MAX:
            pool_row(True, &p, x, x_row, y, r)
        else:
            pool_row(False, &p, x, x_row, y, r)


# ---- plain ---------------------------------------------------------------------------------------------------------

cdef inline inlined pool_plain_row(
    bint LARGEST, const PoolingWindow* p, const float* x, float* y, int64_t first_row, int64_t rows, int64_t kw,
    float* line, const float* weights
) noexcept nogil:
    """Pools the rows of a window into `line`, which has neutral padding already, then the columns from there."""
    cdef float* inner = line + p.pad_w
    cdef int64_t i, k, c
    cdef float total
    cdef vf v
    x += first_row * p.w
    if rows == 1 and p.stride_w > 2 and p.pad_w == 0:  # columns are read one by one, and never behind the row
        pool_columns(LARGEST, p, x, 0, y, weights)
        return
    i = 0
    while i < p.w and p.w >= VW:
        i = min(i, p.w - VW)
        v = start(LARGEST)
        for k in range(rows):
            v = step(LARGEST, v, vf_load(x + k * p.w + i))
        vf_store(inner + i, v)
        i += VW
    while i < p.w:
        total = -FLT_MAX if LARGEST else 0.0
        for k in range(rows):
            if LARGEST:
                total = x[k * p.w + i] if x[k * p.w + i] > total else total
            else:
                total += x[k * p.w + i]
        inner[i] = total
        i += 1
    c = 0
    if p.stride_w <= 2 and p.ow >= VW:
        while c < p.ow:
            c = min(c, p.ow - VW)
            v = start(LARGEST)
            for k in range(kw):
                i = c * p.stride_w + k
                if p.stride_w == 1:
                    v = step(LARGEST, v, vf_load(line + i))
                else:
                    v = step(LARGEST, v, vf_unzip_even(vf_load(line + i), vf_load(line + i + VW)))
            vf_store(y + c, v if LARGEST else v * vf_load(weights + c))
            c += VW
    pool_columns(LARGEST, p, line, c, y, weights)


cdef inline inlined pool_columns(
    bint LARGEST, const PoolingWindow* p, const float* line, int64_t c, float* y, const float* weights
) noexcept nogil:
    """The outputs from c on, one by one."""
    cdef int64_t k
    cdef float total
    for c in range(c, p.ow):
        total = -FLT_MAX if LARGEST else 0.0
        for k in range(p.kw):
            if LARGEST:
                total = line[c * p.stride_w + k] if line[c * p.stride_w + k] > total else total
            else:
                total += line[c * p.stride_w + k]
        y[c] = total if LARGEST else total * weights[c]


cdef inline void find_weights(const PoolingWindow* p, int64_t rows, float* weights) noexcept nogil:
    """What the sums of a row of windows are multiplied by, of which `rows` rows lie inside."""
    cdef int64_t c, left
    for c in range(p.ow):
        left = c * p.stride_w - p.pad_w
        weights[c] = weight(p, rows, max(min(left + p.kw, p.w) - max(left, <int64_t>0), <int64_t>0))


cdef struct PoolPlainArgs:
    const float* x
    float* y
    PoolingWindow pool


cdef inline inlined pool_plain_rows(
    bint LARGEST, const PoolPlainArgs* a, int64_t begin, int64_t end, float* line
) noexcept nogil:
    cdef PoolingWindow p = a.pool
    cdef float* weights = line + p.w + 2 * p.pad_w + 2 * VW
    cdef float edge = -FLT_MAX if LARGEST else 0.0
    cdef int64_t item, i, plane = begin // p.oh, r = begin % p.oh, top, first_row, rows, weighted = -1
    cdef const float* x
    cdef float* y
    for i in range(p.pad_w):
        line[i] = edge
    for i in range(p.pad_w + VW * 2):
        line[p.pad_w + p.w + i] = edge
    for item in range(begin, end):
        top = r * p.stride_h - p.pad_h
        first_row = max(top, <int64_t>0)
        rows = max(min(top + p.kh, p.h) - first_row, <int64_t>0)
        if not LARGEST and rows != weighted:
            find_weights(&p, rows, weights)
            weighted = rows
        x = a.x + plane * p.h * p.w
        y = a.y + item * p.ow
        if rows == 2 and p.kw == 2:
            pool_plain_row(LARGEST, &p, x, y, first_row, 2, 2, line, weights)
        elif rows == 3 and p.kw == 3:
            pool_plain_row(LARGEST, &p, x, y, first_row, 3, 3, line, weights)
        elif rows == 5 and p.kw == 5:
            pool_plain_row(LARGEST, &p, x, y, first_row, 5, 5, line, weights)
        else:
            pool_plain_row(LARGEST, &p, x, y, first_row, rows, p.kw, line, weights)
        r += 1
        if r == p.oh:
            r = 0
            plane += 1


def scratch_bytes(int64_t w, int64_t pad_w, int64_t ow):
    """Bytes of scratch of pool_plain_f32: a row with its padding, two vectors that are read behind it, and weights."""
    return sizeof(float) * (w + 2 * pad_w + 2 * VW + ow)


cdef void pool_plain_f32(const PoolPlainArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = one output row of one channel of one image. Scratch: scratch_bytes(w, pad_w, ow)."""
    if a.pool.mode == POOL_MAX:
        pool_plain_rows(True, a, begin, end, <float*>scratch)
    else:
        pool_plain_rows(False, a, begin, end, <float*>scratch)


MODES = (POOL_MAX, POOL_AVERAGE, POOL_AVERAGE_COUNT_EXCLUDE_PADDING)  # planners refuse all others

include "pooling_table.pxi"


# ---- pooling of arrays ---------------------------------------------------------------------------------------------

def pool_images(const float[:, :, :, ::1] x not None, int mode, window, stride, pad):
    """Pools plain images.

    Parameters
    ----------
    x : float32 array [N, C, H, W], C-contiguous
    mode : int
        0 maximum, 1 mean with the padding as zeros, 2 mean without it.
    window, stride, pad : (int, int)
        Vertical and horizontal. The padding is smaller than the window, and no larger than the image.

    Returns
    -------
    float32 array [N, C, (H + 2 pad - window) // stride + 1, (W + 2 pad - window) // stride + 1]

    Raises
    ------
    ValueError
        ``x`` is empty, of another type or not C-contiguous; there is no such mode; or the windows do not fit the image.
    TypeError
        A number of ``window``, ``stride`` or ``pad`` is no integer.

    Examples
    --------
    >>> import numpy as np
    >>> from megengine_lite._core.cpu.kernel_set import kernel_set
    >>> x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    >>> kernel_set().module("pooling").pool_images(x, 0, (2, 2), (2, 2), (0, 0)).tolist()
    [[[[5.0, 7.0], [13.0, 15.0]]]]
    """
    cdef int64_t n = x.shape[0] * x.shape[1], h = x.shape[2], w = x.shape[3], oh, ow
    oh, ow = pooled_extents(np.shape(x), mode, MODES, window, stride, pad)
    y = np.empty((x.shape[0], x.shape[1], oh, ow), np.float32)
    cdef float[:, :, :, ::1] out = y
    cdef float[::1] scratch = np.empty(scratch_bytes(w, pad[1], ow) // sizeof(float), np.float32)
    cdef PoolPlainArgs a = PoolPlainArgs(
        x=&x[0, 0, 0, 0], y=&out[0, 0, 0, 0],
        pool=PoolingWindow(
            mode=mode, h=h, w=w, oh=oh, ow=ow, kh=window[0], kw=window[1], stride_h=stride[0], stride_w=stride[1],
            pad_h=pad[0], pad_w=pad[1],
        ),
    )
    with nogil:  # by the table's entry: the kernel keeps one caller, and with it its machine code
        call_pool_plain_f32(&a, 0, n * oh, &scratch[0])
    return y
