"""Puts weights in the order in which kernels for blocks of channels read them: as they are, or in half precision."""

from libc.stdint cimport int32_t, int64_t, uint16_t
from libc.string cimport memcpy, memset

from megengine_lite.kernels.common.block cimport store_weights
from megengine_lite.kernels.common.shared_constants cimport WEIGHTS_BFLOAT16, WEIGHTS_BFLOAT16_PAIRS
from megengine_lite.kernels.common.simd cimport VW, bf16, bf16_pair, f16, inlined


cdef enum:
    ROWS = 4  # that are read side by side


cdef struct PackTilesArgs:
    const int32_t* x
    void* y
    int64_t rows, depth, taps, chunk, tile, blocks, group, row, step, weights


cdef inline inlined interleave(
    const int32_t* x, int32_t* y, int64_t n, int64_t taps, int64_t row, int64_t step, int64_t lanes
) noexcept nogil:
    """ROWS rows of a chunk; the numbers of the next depth or tap are written `lanes` further."""
    cdef const int32_t* a
    cdef const int32_t* b
    cdef const int32_t* c
    cdef const int32_t* d
    cdef int32_t k, l, m, o
    cdef int64_t i, t
    for t in range(taps):
        a = x + t * step
        b, c, d = a + row, a + 2 * row, a + 3 * row
        for i in range(n):
            k, l, m, o = a[0], b[0], c[0], d[0]
            y[0], y[1], y[2], y[3] = k, l, m, o
            a, b, c, d = a + taps * step, b + taps * step, c + taps * step, d + taps * step
            y += lanes


cdef inline inlined pack_chunk(
    const PackTilesArgs* a, const int32_t* x, int32_t* y, int64_t n, int64_t real, int64_t lanes
) noexcept nogil:
    """[tap][depth in the chunk][rows of the tile], for a chunk of n numbers of depth; rows from `real` on are zeros."""
    cdef int64_t taps = a.taps, step = a.step, lane = 0, i, t
    cdef int32_t* target
    if a.row == 1:
        for i in range(n):
            for t in range(taps):
                target = y + (t * n + i) * lanes
                memcpy(target, x + (i * taps + t) * step, real * 4)
                memset(target + real, 0, (lanes - real) * 4)
        return
    # What a chunk writes stays in the cache until its lines are full.
    while lane + ROWS <= real:
        interleave(x + lane * a.row, y + lane, n, taps, a.row, step, lanes)
        lane += ROWS
    while lane < lanes:
        target = y + lane
        for t in range(taps):
            for i in range(n):
                target[0] = x[lane * a.row + (i * taps + t) * step] if lane < real else 0
                target += lanes
        lane += 1


cdef inline inlined pack_items(
    bint half, const PackTilesArgs* a, int64_t begin, int64_t end, void* scratch
) noexcept nogil:
    cdef int64_t taps = a.taps, tiles = (a.blocks + a.tile - 1) // a.tile, chunks = (a.depth + a.chunk - 1) // a.chunk
    cdef int64_t item, block, first, lanes, real, n, at, column = a.depth * taps
    cdef const int32_t* x
    for item in range(begin, end):
        block = item // chunks % tiles * a.tile
        lanes = min(a.tile, a.blocks - block) * VW
        real = max(<int64_t>0, min(lanes, a.rows - block * VW))
        first = item % chunks * a.chunk
        n = min(a.chunk, a.depth - first)
        x = a.x + item // chunks // tiles * a.group + block * VW * a.row + first * taps * a.step
        at = (item // chunks // tiles * a.blocks + block) * VW * column + first * taps * lanes
        if not half:
            pack_chunk(a, x, <int32_t*>a.y + at, n, real, lanes)
            continue
        pack_chunk(a, x, <int32_t*>scratch, n, real, lanes)
        if a.weights == WEIGHTS_BFLOAT16_PAIRS:
            store_weights(lanes, taps * n, <const float*>scratch, <bf16_pair*>a.y + at // 2)
        elif a.weights == WEIGHTS_BFLOAT16:
            store_weights(lanes, taps * n, <const float*>scratch, <bf16*>a.y + at)
        else:
            store_weights(lanes, taps * n, <const float*>scratch, <f16*>a.y + at)


cdef void pack_tiles_32(const PackTilesArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y = [group][tile][chunk of depth][tap][depth in the chunk][rows of the tile].

    Element (group, row, depth, tap) of x is at `group`, `row` and, for depth `taps` + tap, `step`. A group has `rows`
    rows in `blocks` blocks of VW; a tile has `tile` blocks, the last one those that are left. Rows that do not exist
    get zeros. A chunk has `chunk` numbers of depth, the last one those that are left. One work item = a chunk of a
    tile, the group outermost, the chunk innermost.
    """
    pack_items(False, a, begin, end, scratch)


cdef void pack_tiles_half(const PackTilesArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """The same for float32, rounded to what `weights` says, any but FLOAT32. Scratch: scratch_bytes(...).

    With BFLOAT16_PAIRS depth is even, and two neighbouring numbers of depth make a number.
    """
    pack_items(True, a, begin, end, scratch)


def scratch_bytes(int64_t tile, int64_t taps, int64_t chunk):
    """Bytes of scratch of pack_tiles_half: a chunk in float32."""
    return sizeof(float) * tile * VW * taps * chunk


def work_items(int64_t groups, int64_t blocks, int64_t tile, int64_t depth, int64_t chunk):
    """How many work items there are."""
    return groups * ((blocks + tile - 1) // tile) * ((depth + chunk - 1) // chunk)


include "pack_tiles_table.pxi"
