"""Copies between strided views of any element size; transpositions are those that are done in tiles."""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uintptr_t
from libc.string cimport memcpy

from megengine_lite.kernels.common.interleave cimport deinterleave, interleave, zip_rows
from megengine_lite.kernels.common.rows cimport copy_row, stream_row
from megengine_lite.kernels.common.shared_constants cimport LINE, MAX_DIMS
from megengine_lite.kernels.common.simd cimport (
    VW, inlined, prefetch, stream_end, vf, vf_load, vf_load_n, vf_store, vf_store_n, vf_stream, vf_unzip_even, vf_zero,
)


cdef enum:
    AHEAD = 64  # rows between reading and prefetching
    SHORT = 16  # vectors up to which a copy is inline
    SMALL = 6  # rows or columns below which elements are moved one by one
    FILL_PIECE = 16384  # bytes that are copied at a time, from the first cache

ctypedef fused element:
    int8_t
    int16_t
    int32_t
    int64_t


# ---- copies whose innermost dimension is the same on both sides ----------------------------------------------------

cdef inline inlined copy_run(
    char* y, const char* x, int64_t n, int64_t item, int64_t x_step, int64_t y_step, bint stream
) noexcept nogil:
    """One run along the innermost dimension; steps in bytes."""
    if x_step == item and y_step == item:
        if stream and item == 4:
            stream_row(<float*>y, <const float*>x, n)
        elif item == 4 and n <= SHORT * VW:  # for so little a call of memcpy costs more than the copy
            copy_row(<float*>y, <const float*>x, n)
        else:
            memcpy(y, x, n * item)
    elif item == 4 and x_step == 8 and y_step == 4:
        copy_every_second(<float*>y, <const float*>x, n)
    elif item == 4:
        copy_steps(<int32_t*>y, <int32_t*>x, n, x_step // 4, y_step // 4)
    elif item == 1:
        copy_steps(<int8_t*>y, <int8_t*>x, n, x_step, y_step)
    elif item == 2:
        copy_steps(<int16_t*>y, <int16_t*>x, n, x_step // 2, y_step // 2)
    else:
        copy_steps(<int64_t*>y, <int64_t*>x, n, x_step // 8, y_step // 8)


cdef inline void copy_every_second(float* y, const float* x, int64_t n) noexcept nogil:
    """Space to depth, patches of four pixels."""
    cdef int64_t i = 0
    while i + VW < n:  # the last element has no right neighbour that may be read
        vf_store(y + i, vf_unzip_even(vf_load(x + 2 * i), vf_load(x + 2 * i + VW)))
        i += VW
    while i < n:
        y[i] = x[2 * i]
        i += 1


cdef inline void copy_steps(element* y, const element* x, int64_t n, int64_t x_step, int64_t y_step) noexcept nogil:
    cdef int64_t i
    cdef element value
    if x_step == 0 and y_step == 1:
        value = x[0]
        for i in range(n):
            y[i] = value
        return
    for i in range(n):
        y[i * y_step] = x[i * x_step]


cdef struct StridedArgs:
    const char* x
    char* y
    int64_t ndim, item, chunk, stream
    int64_t extent[MAX_DIMS]
    int64_t x_stride[MAX_DIMS]
    int64_t y_stride[MAX_DIMS]


cdef void copy_strided(const StridedArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y[...] = x[...] over `ndim` dimensions, innermost first; strides in bytes, any sign.

    One work item = one run along dimension 0, or `chunk` elements of it. `stream`: y is larger than the caches.
    """
    cdef int64_t ndim = a.ndim, item = a.item, chunk = a.chunk
    cdef bint stream = a.stream != 0 and extent_bytes(a) >= LINE * 4
    cdef const int64_t* extent = &a.extent[0]
    cdef const int64_t* xs = &a.x_stride[0]
    cdef const int64_t* ys = &a.y_stride[0]
    cdef int64_t chunks = (extent[0] + chunk - 1) // chunk
    cdef int64_t index[MAX_DIMS]
    cdef int64_t d, k, rest, start, rows
    cdef const char* x = a.x
    cdef char* y = a.y
    rest = begin // chunks
    index[0] = begin - rest * chunks
    for d in range(1, ndim):
        index[d] = rest % extent[d]
        rest //= extent[d]
        x += index[d] * xs[d]
        y += index[d] * ys[d]
    k = begin
    while k < end:
        if chunks == 1 and ndim > 1:
            rows = min(end - k, extent[1] - index[1])
            copy_rows(y, x, rows, extent[0], item, xs, ys, stream)
            k += rows
            x += rows * xs[1]
            y += rows * ys[1]
            index[1] += rows
            if index[1] < extent[1]:
                continue
        else:
            start = index[0] * chunk
            copy_run(y + start * ys[0], x + start * xs[0], min(chunk, extent[0] - start), item, xs[0], ys[0], stream)
            k += 1
            index[0] += 1
            if index[0] < chunks or ndim == 1:
                continue
            index[0] = 0
            index[1] += 1
            x += xs[1]
            y += ys[1]
        d = 1
        while index[d] == extent[d]:
            x -= extent[d] * xs[d]
            y -= extent[d] * ys[d]
            index[d] = 0
            d += 1
            if d >= ndim:
                break
            index[d] += 1
            x += xs[d]
            y += ys[d]
    if stream:
        stream_end()


cdef inline int64_t extent_bytes(const StridedArgs* a) noexcept nogil:
    """Bytes of dimension 0."""
    return a.extent[0] * a.item


cdef inline void copy_rows(
    char* y, const char* x, int64_t rows, int64_t n, int64_t item, const int64_t* xs, const int64_t* ys, bint stream
) noexcept nogil:
    """Runs along dimension 0, one for each of some neighbours in dimension 1."""
    cdef int64_t r
    if item == 4 and xs[0] == 4 and ys[0] == 4 and n == VW and not stream:
        for r in range(rows):
            vf_store(<float*>(y + r * ys[1]), vf_load(<const float*>(x + r * xs[1])))
        return
    for r in range(rows):
        copy_run(y + r * ys[1], x + r * xs[1], n, item, xs[0], ys[0], stream)


# ---- transpositions ------------------------------------------------------------------------------------------------

cdef inline inlined transpose_tile(
    bint STREAM, const float* x, int64_t x_row, float* y, int64_t y_row, int64_t rows, int64_t columns
) noexcept nogil:
    """y[j y_row + i] = x[i x_row + j] for up to VW rows i and columns j of x."""
    cdef vf r[VW]
    cdef int k
    if rows == VW and columns == VW:
        for k in range(VW):
            r[k] = vf_load(x + k * x_row)
        zip_rows(VW, r)
        for k in range(VW):
            if STREAM:
                vf_stream(y + k * y_row, r[k])
            else:
                vf_store(y + k * y_row, r[k])
        return
    for k in range(VW):
        r[k] = vf_load_n(x + k * x_row, columns) if k < rows else vf_zero()
    zip_rows(VW, r)
    for k in range(VW):
        if k < columns:
            vf_store_n(y + k * y_row, r[k], rows)


cdef inline void transpose_strip_f32(
    const float* x, int64_t x_row, float* y, int64_t y_row, int64_t rows, int64_t columns
) noexcept nogil:
    """All rows of a few columns of x, a cache line of each at a time."""
    cdef int64_t i, j, k, first, last, top, left
    if y_row == rows and (rows == 4 or rows == 8):
        if rows == 4:
            interleave(4, False, x, x_row, 4, y, columns)
        else:
            interleave(8, False, x, x_row, 8, y, columns)
        return
    if x_row == columns and (columns == 4 or columns == 8):
        if columns == 4:
            deinterleave(4, False, x, y, y_row, 4, rows)
        else:
            deinterleave(8, False, x, y, y_row, 8, rows)
        return
    if rows < SMALL or columns < SMALL:
        transpose_strip(<int32_t*>x, x_row, <int32_t*>y, y_row, rows, columns)
        return
    first = 0
    while first < columns:
        last = min(first + LINE, columns)
        i = 0
        while i < rows:
            # the next rows; of few rows, the next columns
            for k in range(i + AHEAD, min(i + AHEAD + VW, rows)):
                prefetch(x + k * x_row + first)
            if rows <= AHEAD:
                for k in range(i, min(i + VW, rows)):
                    prefetch(x + k * x_row + last)
            top = first_of_tile(i, rows)
            j = first
            while j < last:
                left = first_of_tile(j, columns)
                transpose_tile(
                    False, x + top * x_row + left, x_row, y + left * y_row + top, y_row, min(<int64_t>VW, rows - top),
                    min(<int64_t>VW, columns - left),
                )
                j += VW
            i += VW
        first = last


cdef inline int64_t first_of_tile(int64_t i, int64_t n) noexcept nogil:
    """Where the tile begins that has row or column i: the last one of many is a whole one, which overlaps with others."""
    return n - VW if i + VW > n and n >= VW else i


cdef inline void transpose_strip_streaming(
    const float* x, int64_t x_row, float* y, int64_t y_row, int64_t rows, int64_t columns
) noexcept nogil:
    """The same for results that no cache holds: writes whole cache lines of y in order, past the caches."""
    cdef int64_t i, j, k
    i = 0
    while i < rows:
        for k in range(i + LINE, min(i + 2 * LINE, rows)):
            j = 0
            while j < columns:
                prefetch(x + k * x_row + j)
                j += LINE
        j = 0
        while j < columns:
            k = i
            while k < min(i + LINE, rows):
                transpose_tile(
                    True, x + k * x_row + j, x_row, y + j * y_row + k, y_row, min(<int64_t>VW, rows - k),
                    min(<int64_t>VW, columns - j),
                )
                k += VW
            j += VW
        i += LINE


cdef inline void transpose_strip(
    element* x, int64_t x_row, element* y, int64_t y_row, int64_t rows, int64_t columns
) noexcept nogil:
    cdef int64_t i, j, k, top
    if x_row == columns and 2 <= columns <= 4:
        if columns == 2:
            split_pixels(2, x, y, y_row, rows)
        elif columns == 3:
            split_pixels(3, x, y, y_row, rows)
        else:
            split_pixels(4, x, y, y_row, rows)
        return
    if y_row == rows and 2 <= rows <= 4:
        if rows == 2:
            join_planes(2, x, x_row, y, columns)
        elif rows == 3:
            join_planes(3, x, x_row, y, columns)
        else:
            join_planes(4, x, x_row, y, columns)
        return
    i = 0
    while i < rows:
        top = min(i + 64, rows)
        for j in range(columns):
            for k in range(i, top):
                y[j * y_row + k] = x[k * x_row + j]
        i = top


cdef inline inlined split_pixels(int count, const element* x, element* y, int64_t y_row, int64_t n) noexcept nogil:
    """Channels of n pixels; `count` is a constant. Compilers make shuffles of it."""
    cdef element* second = y + y_row
    cdef element* third = y + 2 * y_row
    cdef element* fourth = y + 3 * y_row
    cdef int64_t i
    for i in range(n):
        y[i] = x[i * count]
        second[i] = x[i * count + 1]
        if count > 2:
            third[i] = x[i * count + 2]
        if count > 3:
            fourth[i] = x[i * count + 3]


cdef inline inlined join_planes(int count, const element* x, int64_t x_row, element* y, int64_t n) noexcept nogil:
    """Pixels of so many channels; the way back."""
    cdef const element* second = x + x_row
    cdef const element* third = x + 2 * x_row
    cdef const element* fourth = x + 3 * x_row
    cdef int64_t i
    for i in range(n):
        y[i * count] = x[i]
        y[i * count + 1] = second[i]
        if count > 2:
            y[i * count + 2] = third[i]
        if count > 3:
            y[i * count + 3] = fourth[i]


cdef void transpose_strided(const StridedArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """As copy_strided, where y runs along dimension 0 and x along dimension 1 (both of stride `item` there).

    One work item = `chunk` elements of dimension 1 by all of dimension 0. `stream`: y is larger than the caches.
    """
    cdef int64_t ndim = a.ndim, item = a.item, chunk = a.chunk
    cdef const int64_t* extent = &a.extent[0]
    cdef const int64_t* xs = &a.x_stride[0]
    cdef const int64_t* ys = &a.y_stride[0]
    cdef int64_t stream = a.stream
    cdef int64_t strips = (extent[1] + chunk - 1) // chunk
    cdef int64_t k, d, rest, start, columns, x_row, y_row
    cdef char* x
    cdef char* y
    for k in range(begin, end):
        rest = k // strips
        start = (k - rest * strips) * chunk
        columns = min(chunk, extent[1] - start)
        x = <char*>a.x + start * xs[1]
        y = a.y + start * ys[1]
        for d in range(2, ndim):
            x += rest % extent[d] * xs[d]
            y += rest % extent[d] * ys[d]
            rest //= extent[d]
        x_row = xs[0] // item
        y_row = ys[1] // item
        if item == 4 and stream and ((<uintptr_t>y | <uintptr_t>ys[1]) & (4 * LINE - 1)) == 0 and min(extent[0], columns) >= LINE:
            transpose_strip_streaming(<float*>x, x_row, <float*>y, y_row, extent[0], columns)
        elif item == 4:
            transpose_strip_f32(<float*>x, x_row, <float*>y, y_row, extent[0], columns)
        elif item == 1:
            transpose_strip(<int8_t*>x, x_row, <int8_t*>y, y_row, extent[0], columns)
        elif item == 2:
            transpose_strip(<int16_t*>x, x_row, <int16_t*>y, y_row, extent[0], columns)
        else:
            transpose_strip(<int64_t*>x, x_row, <int64_t*>y, y_row, extent[0], columns)
    if stream:
        stream_end()


# ---- constant fills ------------------------------------------------------------------------------------------------

cdef struct FillElementsArgs:
    const char* x
    char* y
    int64_t nbytes, item, chunk


cdef void fill_elements(const FillElementsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Fills `nbytes` bytes of y with copies of the element x of `item` bytes, which may be a row of elements.

    One work item = `chunk` bytes, a multiple of `item`.
    """
    cdef int64_t nbytes = a.nbytes, item = a.item, chunk = a.chunk, piece = FILL_PIECE // item * item
    cdef char* y = a.y + begin * chunk
    cdef int64_t n = min(end * chunk, nbytes) - begin * chunk
    cdef int64_t done = item, more
    cdef const char* filled = a.x
    if n <= 0:
        return
    memcpy(y, a.x, item)
    if piece:
        filled = y
    while done < n:
        more = min(min(done, n - done), piece) if piece else item
        memcpy(y + done, filled, more)
        done += more


include "transpose_table.pxi"
