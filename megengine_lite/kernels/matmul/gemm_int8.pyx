"""Matrix products of int8 numbers: C = A B with sums in int32.

B is packed as ``[tile of 2 VW columns][part][quad of k][column][4]``, by ``pack_columns_int8`` or, for weights, by
:func:`megengine_lite._core.cpu.packing.int8.pack_columns`. A is read as it is if it has few rows, otherwise in
blocks that ``pack_rows_int8`` makes.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memcpy

from megengine_lite.kernels.common.dot cimport (
    FEW_PIXELS, MAX_SUMS, PLAIN, SHORT_SIGNED, SIGNED, DotSum, block_pixels, dot_block_few, dot_block_of,
)
from megengine_lite.kernels.common.arguments cimport Requantize
from megengine_lite.kernels.common.requantize cimport Int8Output, go_to_channel, read_output, result_size, store_sums
from megengine_lite.kernels.common.shared_constants cimport QUAD, TILE_BLOCKS
from megengine_lite.kernels.common.simd cimport DOT_MATRIX, DOT_SHORT, DOT_UNSIGNED, VW, inlined, outlined, vi
from megengine_lite.kernels.matmul.last_columns cimport store_some_columns


cdef struct PackRowsArgs:
    const uint8_t* x
    uint8_t* y
    int64_t m, k, row, column, matrix, block, flip


cdef void pack_rows_int8(const PackRowsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Packs A (m, k) in blocks of `block` rows: [block][quad of k][row][4], every byte xored with `flip`.

    What fills up the last quad and the last block is zero: weights are zero there, and such rows are not stored. `row`,
    `column` and `matrix` are strides in bytes. One work item = one block of one matrix.
    """
    cdef int64_t m = a.m, k = a.k, row = a.row, column = a.column, matrix = a.matrix, block = a.block
    cdef uint8_t flip = <uint8_t>a.flip
    cdef uint32_t flips = <uint32_t>flip * 0x01010101, four
    cdef int64_t blocks = (m + block - 1) // block, quads = (k + QUAD - 1) // QUAD
    cdef int64_t whole = k // QUAD if column == 1 else 0
    cdef int64_t item, first, rows, q, r, c
    cdef const uint8_t* x
    cdef uint8_t* y
    for item in range(begin, end):
        first = item % blocks * block
        x = a.x + item // blocks * matrix + first * row
        y = a.y + item * quads * block * QUAD
        rows = min(block, m - first)
        for r in range(rows):
            for q in range(whole):
                memcpy(&four, x + r * row + q * QUAD, QUAD)
                four ^= flips
                memcpy(y + (q * block + r) * QUAD, &four, QUAD)
        for q in range(quads):
            for r in range(rows if q < whole else 0, block):
                for c in range(QUAD):
                    y[(q * block + r) * QUAD + c] = (
                        x[r * row + (q * QUAD + c) * column] ^ flip if r < rows and q * QUAD + c < k else 0
                    )


cdef struct PackColumnsArgs:
    const int8_t* x
    int8_t* y
    int32_t* bias
    int64_t k, n, row, column, matrix, mask, zero, parts, offset


cdef void pack_columns_int8(const PackColumnsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Packs B (k, n) for gemm_int8, and computes the bias of each column: -offset * (sum of the column).

    `mask` is -1 for signed numbers, 255 for unsigned ones. The zero point is subtracted; if the difference does not fit
    a signed byte, it is written as the sum of `parts` signed bytes. One work item = one tile of one matrix.
    """
    cdef int64_t k = a.k, n = a.n, row = a.row, column = a.column, matrix = a.matrix
    cdef int32_t mask = <int32_t>a.mask, zero = <int32_t>a.zero, offset = <int32_t>a.offset, value, total
    cdef int64_t parts = a.parts, quads = (k + QUAD - 1) // QUAD, blocks = (n + VW - 1) // VW, tiles = (blocks + TILE_BLOCKS - 1) // TILE_BLOCKS
    cdef int64_t item, tile, columns, j, i, part
    cdef const int8_t* x
    cdef int8_t* y
    cdef int32_t* bias
    for item in range(begin, end):
        tile = item % tiles
        columns = min(TILE_BLOCKS, blocks - tile * TILE_BLOCKS) * VW
        x = a.x + item // tiles * matrix
        y = a.y + (item // tiles * blocks + tile * TILE_BLOCKS) * VW * parts * quads * QUAD
        bias = a.bias + (item // tiles * blocks + tile * TILE_BLOCKS) * VW
        for j in range(columns):
            total = 0
            for i in range(quads * QUAD):
                value = 0
                if tile * TILE_BLOCKS * VW + j < n and i < k:
                    value = (x[i * row + (tile * TILE_BLOCKS * VW + j) * column] & mask) - zero
                total += value
                for part in range(parts):
                    y[((part * quads + i // QUAD) * columns + j) * QUAD + i % QUAD] = <int8_t>min(max(value, -128), 127)
                    value -= min(max(value, -128), 127)
            bias[j] = -offset * total


cdef inline inlined block_of_rows_by(
    int KIND, int rows, int vectors, bint packed, int64_t step, const DotSum* s, const uint8_t* x, const int8_t* w,
    const int32_t* bias, int32_t* sums
) noexcept nogil:
    if packed and vectors == 2:
        dot_block_of(rows, 2, QUAD, KIND, s, x, w, bias, sums)
    elif packed:
        dot_block_of(rows, 1, QUAD, KIND, s, x, w, bias, sums)
    elif vectors == 2:
        dot_block_few(rows, 2, step, KIND, s, x, w, bias, sums)
    else:
        dot_block_few(rows, 1, step, KIND, s, x, w, bias, sums)


cdef inline outlined block_of_rows(
    bint short_sums, int rows, int vectors, bint packed, int64_t step, const DotSum* s, const uint8_t* x,
    const int8_t* w, const int32_t* bias, int32_t* sums
) noexcept nogil:
    if DOT_SHORT and short_sums:
        block_of_rows_by(SHORT_SIGNED, rows, vectors, packed, step, s, x, w, bias, sums)
    else:
        block_of_rows_by(PLAIN if DOT_UNSIGNED else SIGNED, rows, vectors, packed, step, s, x, w, bias, sums)


cdef struct GemmInt8Args:
    const uint8_t* a
    const int8_t* b
    const int32_t* bias
    const float* scales
    const float* real_bias
    uint8_t* c
    int64_t m, n, k, packed, a_row, a_matrix, parts, short_sums
    Requantize requantize


cdef void gemm_int8(const GemmInt8Args* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = one block of rows of one tile of columns of one product.

    If `packed`, A is in blocks of rows; otherwise its rows are `a_row` bytes apart and its matrices `a_matrix` bytes. C
    is dense. `short_sums`: sums of eight neighbouring products fit 16 bits, and rows have whole pairs of quads.
    """
    cdef const uint8_t* pa = a.a
    cdef const int8_t* pb = a.b
    cdef const int32_t* bias = a.bias
    cdef const float* scales = a.scales
    cdef const float* real_bias = a.real_bias
    cdef uint8_t* pc = a.c
    cdef int64_t m = a.m, n = a.n, k = a.k, packed = a.packed, a_row = a.a_row, a_matrix = a.a_matrix
    cdef int64_t parts = a.parts, short_sums = a.short_sums
    cdef int64_t count = block_pixels() if packed else FEW_PIXELS
    cdef int64_t quads = (k + QUAD - 1) // QUAD, blocks = (n + VW - 1) // VW, tiles = (blocks + TILE_BLOCKS - 1) // TILE_BLOCKS
    cdef int64_t row_blocks = (m + count - 1) // count
    cdef int64_t item, matrix, tile, block, first, column, size
    cdef int rows, vectors
    cdef vi room[MAX_SUMS]  # aligned
    cdef int32_t* sums = <int32_t*>room
    cdef const uint8_t* x
    cdef DotSum s
    cdef Int8Output o
    read_output(&o, &a.requantize, scales, real_bias, NULL, n, VW, 0, 0)
    size = result_size(&o)
    s = DotSum(parts, 1, 0, 1, 0, 1, 0, quads, quads, count * QUAD if packed else QUAD, 0, 0)
    s.next = 2 * s.quad
    if DOT_MATRIX and packed:  # takes quads of neighbouring a at once
        s.n0, s.s0, s.steps, s.steps_last = quads, s.quad, 1, 1
    for item in range(begin, end):
        matrix = item // (tiles * row_blocks)
        tile = item // row_blocks % tiles
        first = item % row_blocks * count
        rows = <int>min(count, m - first)
        vectors = <int>min(TILE_BLOCKS, blocks - tile * TILE_BLOCKS)
        column = tile * TILE_BLOCKS * VW
        block = matrix * blocks + tile * TILE_BLOCKS
        if packed:
            x = pa + (matrix * row_blocks * count + first) * quads * QUAD
        else:
            x = pa + matrix * a_matrix + first * a_row
        block_of_rows(
            short_sums, rows, vectors, packed, a_row, &s, x, pb + block * VW * parts * quads * QUAD, bias + block * VW,
            sums,
        )
        go_to_channel(&o, scales, real_bias, column)
        o.y = pc + ((matrix * m + first) * n + column) * size
        if column + vectors * VW <= n:
            store_sums(sums, rows, vectors, &o)
        else:
            store_some_columns(sums, rows, vectors, n - column, &o)


# Planners read these: whether dot products take unsigned bytes, the number of rows of a packed block, and up to how
# many rows A is read as it is.
UNSIGNED_DOT = bool(DOT_UNSIGNED)
BLOCK_ROWS = block_pixels()
FEW_ROWS = FEW_PIXELS


def largest_sums(const int8_t[:, :, ::1] w not None):
    """How large the sums of weights are that kernels add in 16 bits (SHORT_PLAIN in dot.pxd).

    These are of channels 0, 1, 4 and 5 of each eight neighbours, and of 2, 3, 6 and 7.

    Parameters
    ----------
    w : int8 array (outputs, channels, taps)

    Returns
    -------
    (int, int, int)
        The largest sum of the positive weights, of the negative ones without their sign, and of both together.
    """
    cdef Py_ssize_t row, first, t, c, channels = w.shape[1], taps = w.shape[2]
    cdef int added, subtracted, value, most_added = 0, most_subtracted = 0, most = 0
    for row in range(w.shape[0]):
        for first in range(0, channels, QUAD // 2):
            if first % (2 * QUAD) >= QUAD:
                continue
            for t in range(taps):
                added = subtracted = 0
                for c in range(first, min(first + QUAD + QUAD // 2, channels)):
                    if (c - first) % QUAD < QUAD // 2:
                        value = w[row, c, t]
                        added += max(value, 0)
                        subtracted -= min(value, 0)
                most_added = max(most_added, added)
                most_subtracted = max(most_subtracted, subtracted)
                most = max(most, added + subtracted)
    return most_added, most_subtracted, most


include "gemm_int8_table.pxi"
