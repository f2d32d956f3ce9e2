"""Matrix products of bytes: C = A B with int32 sums.

B is packed as ``[tile of 2 VW columns][part][quad of k][column][4]``, by ``pack_columns_8`` or, for weights, by
:func:`megengine_lite._core.cpu.packing.int8.pack_columns`. A is read as it is when it has few rows, else in blocks that
``pack_rows_8`` makes.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uintptr_t
from libc.string cimport memcpy

from megengine_lite.kernels.common.dot cimport MAX_SUMS, Sum, block_pixels, dot_block_few, dot_block_of
from megengine_lite.kernels.common.kernel cimport KernelArgs
from megengine_lite.kernels.common.requantize cimport OUT_8, Output, read_output, store_sums
from megengine_lite.kernels.common.simd cimport DOT_UNSIGNED, VW, inlined, outlined


cdef void pack_rows_8(const KernelArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """A (m, k) in blocks of `block` rows: [block][quad of k][row][4], bytes xored with `flip`. Strides are in bytes.

    Bytes behind the last k are multiplied with zero weights, rows behind the last are not stored: they are zero.
    One work item = one block of one matrix.
    """
    cdef int64_t m = a.i[0], k = a.i[1], row = a.i[2], column = a.i[3], matrix = a.i[4], block = a.i[5]
    cdef uint8_t flip = <uint8_t>a.i[6]
    cdef int64_t blocks = (m + block - 1) // block, quads = (k + 3) // 4
    cdef int64_t item, first, q, r, c
    cdef const uint8_t* x
    cdef uint8_t* y
    for item in range(begin, end):
        first = item % blocks * block
        x = <const uint8_t*>a.p[0] + item // blocks * matrix + first * row
        y = <uint8_t*>a.p[1] + item * quads * block * 4
        for q in range(quads):
            for r in range(block):
                for c in range(4):
                    y[c] = x[r * row + (q * 4 + c) * column] ^ flip if first + r < m and q * 4 + c < k else 0
                y += 4


cdef void pack_columns_8(const KernelArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """B (k, n) for gemm_int8, and what its columns add to the sums: bias = -offset * (sum of the column).

    `mask` is -1 for signed bytes, 255 for unsigned ones; the zero point is taken off, and what then does not fit a
    signed byte goes into further parts. One work item = one tile of one matrix.
    """
    cdef int64_t k = a.i[0], n = a.i[1], row = a.i[2], column = a.i[3], matrix = a.i[4]
    cdef int32_t mask = <int32_t>a.i[5], zero = <int32_t>a.i[6], offset = <int32_t>a.i[8], value, total
    cdef int64_t parts = a.i[7], quads = (k + 3) // 4, blocks = (n + VW - 1) // VW, tiles = (blocks + 1) // 2
    cdef int64_t item, tile, columns, j, i, part
    cdef const int8_t* x
    cdef int8_t* y
    cdef int32_t* bias
    for item in range(begin, end):
        tile = item % tiles
        columns = min(2, blocks - tile * 2) * VW
        x = <const int8_t*>a.p[0] + item // tiles * matrix
        y = <int8_t*>a.p[1] + (item // tiles * blocks + tile * 2) * VW * parts * quads * 4
        bias = <int32_t*>a.p[2] + (item // tiles * blocks + tile * 2) * VW
        for j in range(columns):
            total = 0
            for i in range(quads * 4):
                value = 0
                if tile * 2 * VW + j < n and i < k:
                    value = (x[i * row + (tile * 2 * VW + j) * column] & mask) - zero
                total += value
                for part in range(parts):
                    y[((part * quads + i // 4) * columns + j) * 4 + i % 4] = <int8_t>min(max(value, -128), 127)
                    value -= min(max(value, -128), 127)
            bias[j] = -offset * total


cdef inline outlined block_of_rows(
    int rows, int vectors, bint packed, int64_t step, const Sum* s, const uint8_t* x, const int8_t* w,
    const int32_t* bias, int32_t* sums
) noexcept nogil:
    if packed and vectors == 2:
        dot_block_of(rows, 2, 4, DOT_UNSIGNED, s, x, w, bias, sums)
    elif packed:
        dot_block_of(rows, 1, 4, DOT_UNSIGNED, s, x, w, bias, sums)
    elif vectors == 2:
        dot_block_few(rows, 2, step, DOT_UNSIGNED, s, x, w, bias, sums)
    else:
        dot_block_few(rows, 1, step, DOT_UNSIGNED, s, x, w, bias, sums)


cdef inline outlined store_some_columns(
    const int32_t* sums, int rows, int vectors, int64_t columns, const Output* o
) noexcept nogil:
    """The last columns of C: through a block of whole vectors."""
    cdef float block[MAX_SUMS * VW]
    cdef int64_t size = 1 if o.kind == OUT_8 else 4
    cdef Output whole = o[0]
    cdef int r
    whole.y = <uint8_t*>block
    whole.y_pixel = vectors * VW * size
    store_sums(sums, rows, vectors, &whole)
    for r in range(rows):
        memcpy(o.y + r * o.y_pixel, whole.y + r * whole.y_pixel, columns * size)


cdef void gemm_int8(const KernelArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = one block of rows of one tile of columns of one product.

    A is in blocks of rows if `packed`, else rows lie `a_row` bytes apart and matrices `a_matrix` bytes. C is dense.
    """
    cdef const uint8_t* pa = <const uint8_t*>a.p[0]
    cdef const int8_t* pb = <const int8_t*>a.p[1]
    cdef const int32_t* bias = <const int32_t*>a.p[2]
    cdef const float* real_bias = <const float*>a.p[3]
    cdef uint8_t* pc = <uint8_t*>a.p[4]
    cdef int64_t m = a.i[0], n = a.i[1], k = a.i[2], packed = a.i[3], a_row = a.i[4], a_matrix = a.i[5]
    cdef int64_t parts = a.i[6]
    cdef int64_t count = block_pixels() if packed else 4
    cdef int64_t quads = (k + 3) // 4, blocks = (n + VW - 1) // VW, tiles = (blocks + 1) // 2
    cdef int64_t row_blocks = (m + count - 1) // count
    cdef int64_t item, matrix, tile, block, first, column, size
    cdef int rows, vectors
    cdef int32_t sums[MAX_SUMS * VW]
    cdef const uint8_t* x
    cdef Sum s
    cdef Output o
    o.z = NULL
    o.real_bias = real_bias
    read_output(&o, a, 7)
    size = 1 if o.kind == OUT_8 else 4
    o.y_pixel = n * size
    o.y_plane = VW * size
    s = Sum(parts, 1, 0, 1, 0, 1, 0, quads, quads, count * 4 if packed else 4, 0)
    for item in range(begin, end):
        matrix = item // (tiles * row_blocks)
        tile = item // row_blocks % tiles
        first = item % row_blocks * count
        rows = <int>min(count, m - first)
        vectors = <int>min(2, blocks - tile * 2)
        column = tile * 2 * VW
        block = matrix * blocks + tile * 2
        if packed:
            x = pa + (matrix * row_blocks * count + first) * quads * 4
        else:
            x = pa + matrix * a_matrix + first * a_row
        block_of_rows(rows, vectors, packed, a_row, &s, x, pb + block * VW * parts * quads * 4, bias + block * VW, sums)
        if real_bias:
            o.real_bias = real_bias + column
        o.y = pc + ((matrix * m + first) * n + column) * size
        if column + vectors * VW <= n:
            store_sums(sums, rows, vectors, &o)
        else:
            store_some_columns(sums, rows, vectors, n - column, &o)


# What lowering must know of this build: whether dot products take unsigned bytes, and the rows of a packed block.
UNSIGNED_DOT = bool(DOT_UNSIGNED)
BLOCK_ROWS = block_pixels()

# name -> (address, pointers, integers, reals)
KERNELS = {
    "pack_rows_8": (<uintptr_t>&pack_rows_8, "x y", "m k row column matrix block flip", ""),
    "pack_columns_8": (
        <uintptr_t>&pack_columns_8, "x y bias", "k n row column matrix mask zero parts offset", ""
    ),
    "gemm_int8": (
        <uintptr_t>&gemm_int8,
        "a b bias real_bias c",
        "m n k packed a_row a_matrix parts kind activation staged z_mask z_zero y_zero",
        "scale mid_divisor mid_low mid_high mid_scale z_scale act_a act_b y_scale low high",
    ),
}
