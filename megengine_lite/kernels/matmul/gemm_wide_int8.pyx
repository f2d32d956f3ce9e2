"""Matrix products of int8 numbers for sets that multiply 16-bit numbers: A is widened once, while it is packed.

A quad is two pairs of 16-bit numbers here: its first and third, then its second and fourth. A is packed as
``[block of WIDE_ROWS rows][quad of k][pair][row][2]``, by ``pack_rows_wide_int8``. B is that of ``gemm_int8``, whose
quads are widened in registers, or ``[tile of 2 VW columns][quad of k][pair][column][2]`` of 16-bit numbers, which
``pack_columns_wide_int8`` makes: these hold what any zero point leaves.
"""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memcpy

from megengine_lite.kernels.common.arguments cimport Requantize
from megengine_lite.kernels.common.requantize cimport Int8Output, go_to_channel, read_output, result_size, store_sums
from megengine_lite.kernels.common.shared_constants cimport QUAD, TILE_BLOCKS
from megengine_lite.kernels.common.simd cimport (
    VW, inlined, outlined, vf, vf_held, vi, vi_dot_pairs, vi_even, vi_load, vi_odd, vi_set1, vi_store,
)
from megengine_lite.kernels.matmul.last_columns cimport store_some_columns


cpdef enum:  # planners read it
    WIDE_ROWS = 6


cdef enum:
    WIDE_QUAD = 2 * QUAD  # bytes


cdef struct PackRowsWideInt8Args:
    const uint8_t* x
    uint8_t* y
    int64_t m, k, row, column, matrix, flip


cdef inline uint32_t signed_byte(uint32_t quad, int k) noexcept nogil:
    return <uint32_t>(<int32_t>(quad << (24 - 8 * k)) >> 24)


cdef inline void store_wide(uint8_t* y, uint32_t quad) noexcept nogil:
    """A quad of signed bytes as two pairs; those of other rows lie between."""
    cdef uint32_t first = signed_byte(quad, 0) & 0xFFFF | signed_byte(quad, 2) << 16
    cdef uint32_t second = signed_byte(quad, 1) & 0xFFFF | signed_byte(quad, 3) << 16
    memcpy(y, &first, QUAD)
    memcpy(y + WIDE_ROWS * QUAD, &second, QUAD)


cdef void pack_rows_wide_int8(
    const PackRowsWideInt8Args* a, int64_t begin, int64_t end, void* scratch
) noexcept nogil:
    """Packs A (m, k) as signed numbers: every byte xored with `flip`.

    `row`, `column` and `matrix` are strides in bytes. What fills up the last quad is zero; the rows that fill up the
    last block are the last one again. One work item = one block of one matrix.
    """
    cdef int64_t m = a.m, k = a.k, row = a.row, column = a.column
    cdef uint32_t flips = <uint32_t>a.flip * 0x01010101, four
    cdef int64_t blocks = (m + WIDE_ROWS - 1) // WIDE_ROWS, quads = (k + QUAD - 1) // QUAD
    cdef int64_t whole = k // QUAD if column == 1 else 0
    cdef int64_t item, q, r, c
    cdef const uint8_t* matrix
    cdef const uint8_t* x
    cdef uint8_t* y
    for item in range(begin, end):
        matrix = a.x + item // blocks * a.matrix
        for r in range(WIDE_ROWS):
            x = matrix + min(item % blocks * WIDE_ROWS + r, m - 1) * row
            y = a.y + (item * quads * WIDE_ROWS * 2 + r) * QUAD
            for q in range(whole):
                memcpy(&four, x + q * QUAD, QUAD)
                store_wide(y + q * WIDE_ROWS * WIDE_QUAD, four ^ flips)
            for q in range(whole, quads):
                four = 0
                for c in range(min(<int64_t>QUAD, k - q * QUAD)):
                    four |= (<uint32_t>x[(q * QUAD + c) * column] ^ (flips & 0xFF)) << (8 * c)
                store_wide(y + q * WIDE_ROWS * WIDE_QUAD, four)


cdef struct PackColumnsWideInt8Args:
    const int8_t* x
    int16_t* y
    int32_t* bias
    int64_t k, n, row, column, matrix, mask, zero, offset


cdef void pack_columns_wide_int8(
    const PackColumnsWideInt8Args* a, int64_t begin, int64_t end, void* scratch
) noexcept nogil:
    """Packs B (k, n) less its zero point, and computes the bias of each column: -offset * (sum of the column).

    `mask` is -1 for signed numbers, 255 for unsigned ones. One work item = one tile of one matrix.
    """
    cdef int64_t k = a.k, n = a.n, row = a.row, column = a.column
    cdef int32_t mask = <int32_t>a.mask, zero = <int32_t>a.zero, offset = <int32_t>a.offset, value
    cdef int64_t quads = (k + QUAD - 1) // QUAD, blocks = (n + VW - 1) // VW
    cdef int64_t tiles = (blocks + TILE_BLOCKS - 1) // TILE_BLOCKS
    cdef int64_t item, tile, columns, given, i, j
    cdef int32_t totals[TILE_BLOCKS * VW]
    cdef const int8_t* x
    cdef int16_t* first
    cdef int16_t* y
    for item in range(begin, end):
        tile = item % tiles
        columns = min(<int64_t>TILE_BLOCKS, blocks - tile * TILE_BLOCKS) * VW
        given = min(columns, n - tile * TILE_BLOCKS * VW)
        first = a.y + (item // tiles * blocks + tile * TILE_BLOCKS) * VW * quads * QUAD
        for j in range(columns):
            totals[j] = 0
        for i in range(quads * QUAD):
            x = a.x + item // tiles * a.matrix + i * row + tile * TILE_BLOCKS * VW * column
            y = first + ((i // QUAD * 2 + i % 2) * columns) * 2 + i % QUAD // 2
            if i >= k:
                for j in range(columns):
                    y[2 * j] = 0
                continue
            for j in range(given):
                value = (x[j * column] & mask) - zero
                totals[j] += value
                y[2 * j] = <int16_t>value
            for j in range(given, columns):
                y[2 * j] = 0
        for j in range(columns):
            a.bias[(item // tiles * blocks + tile * TILE_BLOCKS) * VW + j] = -offset * totals[j]


cdef inline inlined wide_block(
    int ROWS, int VECTORS, bint WIDE_B, int64_t parts, int64_t quads, const int32_t* x, const int32_t* w,
    const int32_t* bias, int32_t* sums
) noexcept nogil:
    """The first ROWS rows of a block of A times VECTORS vectors of columns; sums [row][v][VW] begin with the bias."""
    cdef vi acc[WIDE_ROWS * TILE_BLOCKS]
    cdef vi row[TILE_BLOCKS]
    cdef const int32_t* at
    cdef int64_t part, l
    cdef int p, v, half
    for p in range(ROWS):
        for v in range(VECTORS):
            acc[p * VECTORS + v] = vi_load(bias + v * VW)
    for part in range(parts):
        at = x
        for l in range(quads):
            for half in range(2):
                for v in range(VECTORS):
                    if WIDE_B:
                        row[v] = vi_load(w + (half * VECTORS + v) * VW)
                    elif half:
                        row[v] = vi_odd(vi_load(w + v * VW))
                    else:
                        row[v] = vi_even(vi_load(w + v * VW))
                for p in range(ROWS):
                    for v in range(VECTORS):
                        # Held, or the compiler adds up both halves first and has too many numbers at once.
                        acc[p * VECTORS + v] = <vi>vf_held(<vf>vi_dot_pairs(
                            acc[p * VECTORS + v], vi_set1(at[half * WIDE_ROWS + p]), row[v]
                        ))
            at += 2 * WIDE_ROWS
            w += VECTORS * VW * (2 if WIDE_B else 1)
    for p in range(ROWS):
        for v in range(VECTORS):
            vi_store(sums + (p * VECTORS + v) * VW, acc[p * VECTORS + v])


cdef inline inlined wide_block_by(
    int ROWS, int vectors, bint wide_b, int64_t parts, int64_t quads, const int32_t* x, const int32_t* w,
    const int32_t* bias, int32_t* sums
) noexcept nogil:
    if vectors == 2 and wide_b:
        wide_block(ROWS, 2, True, parts, quads, x, w, bias, sums)
    elif vectors == 2:
        wide_block(ROWS, 2, False, parts, quads, x, w, bias, sums)
    elif wide_b:
        wide_block(ROWS, 1, True, parts, quads, x, w, bias, sums)
    else:
        wide_block(ROWS, 1, False, parts, quads, x, w, bias, sums)


cdef inline outlined wide_block_of(
    int rows, int vectors, bint wide_b, int64_t parts, int64_t quads, const int32_t* x, const int32_t* w,
    const int32_t* bias, int32_t* sums
) noexcept nogil:
    """Half of the rows of the last block may be left out."""
    if rows > WIDE_ROWS // 2:
        wide_block_by(WIDE_ROWS, vectors, wide_b, parts, quads, x, w, bias, sums)
    else:
        wide_block_by(WIDE_ROWS // 2, vectors, wide_b, parts, quads, x, w, bias, sums)


cdef struct GemmWideInt8Args:
    const int32_t* a
    const uint8_t* b
    const int32_t* bias
    const float* scales
    const float* real_bias
    uint8_t* c
    int64_t m, n, k, parts, wide_b
    Requantize requantize


cdef void gemm_wide_int8(const GemmWideInt8Args* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """C = A B, dense, with sums in int32. One work item = one block of rows of one tile of columns of one product."""
    cdef int64_t m = a.m, n = a.n, quads = (a.k + QUAD - 1) // QUAD, blocks = (n + VW - 1) // VW
    cdef int64_t tiles = (blocks + TILE_BLOCKS - 1) // TILE_BLOCKS, row_blocks = (m + WIDE_ROWS - 1) // WIDE_ROWS
    cdef int64_t column_bytes = a.parts * quads * (WIDE_QUAD if a.wide_b else QUAD)
    cdef int64_t item, matrix, tile, first, block, column, size
    cdef int rows, vectors
    cdef vi room[WIDE_ROWS * TILE_BLOCKS]  # aligned
    cdef int32_t* sums = <int32_t*>room
    cdef Int8Output o
    read_output(&o, &a.requantize, a.scales, a.real_bias, NULL, n, VW, 0, 0)
    size = result_size(&o)
    for item in range(begin, end):
        matrix = item // (tiles * row_blocks)
        tile = item // row_blocks % tiles
        first = item % row_blocks * WIDE_ROWS
        rows = <int>min(<int64_t>WIDE_ROWS, m - first)
        vectors = <int>min(<int64_t>TILE_BLOCKS, blocks - tile * TILE_BLOCKS)
        column = tile * TILE_BLOCKS * VW
        block = matrix * blocks + tile * TILE_BLOCKS
        wide_block_of(
            rows, vectors, a.wide_b, a.parts, quads, a.a + (matrix * row_blocks * WIDE_ROWS + first) * quads * 2,
            <const int32_t*>(a.b + block * VW * column_bytes), a.bias + block * VW, sums,
        )
        go_to_channel(&o, a.scales, a.real_bias, column)
        o.y = a.c + ((matrix * m + first) * n + column) * size
        if column + vectors * VW <= n:
            store_sums(sums, rows, vectors, &o)
        else:
            store_some_columns(sums, rows, vectors, n - column, &o)


include "gemm_wide_int8_table.pxi"
