"""Puts weights in the order in which kernels for blocks of channels read them, whatever their numbers mean."""

from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset

from megengine_lite.kernels.common.simd cimport VW, inlined


cdef enum:
    ROWS = 4  # that are read side by side


cdef struct PackTilesArgs:
    const int32_t* x
    int32_t* y
    int64_t rows, depth, taps, chunk, tile, blocks, group, row, step


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


cdef void pack_tiles_32(const PackTilesArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y = [group][tile][chunk of depth][tap][depth in the chunk][rows of the tile].

    Element (group, row, depth, tap) of x is at `group`, `row` and, for depth `taps` + tap, `step`. A group has `rows`
    rows in `blocks` blocks of VW; a tile has `tile` blocks, the last one those that are left. Rows that do not exist
    get zeros. A chunk has `chunk` numbers of depth, the last one those that are left. One work item = a chunk of a
    tile, the group outermost, the chunk innermost.
    """
    cdef int64_t taps = a.taps, step = a.step
    cdef int64_t tiles = (a.blocks + a.tile - 1) // a.tile, chunks = (a.depth + a.chunk - 1) // a.chunk
    cdef int64_t item, block, first, lanes, real, n, i, t, lane, column = a.depth * taps
    cdef const int32_t* x
    cdef int32_t* y
    cdef int32_t* target
    for item in range(begin, end):
        block = item // chunks % tiles * a.tile
        lanes = min(a.tile, a.blocks - block) * VW
        real = max(<int64_t>0, min(lanes, a.rows - block * VW))
        first = item % chunks * a.chunk
        n = min(a.chunk, a.depth - first)
        x = a.x + item // chunks // tiles * a.group + block * VW * a.row + first * taps * step
        y = a.y + (item // chunks // tiles * a.blocks + block) * VW * column + first * taps * lanes
        if a.row == 1:
            for i in range(n):
                for t in range(taps):
                    target = y + (t * n + i) * lanes
                    memcpy(target, x + (i * taps + t) * step, real * 4)
                    memset(target + real, 0, (lanes - real) * 4)
            continue
        # What a chunk writes stays in the cache until its lines are full.
        lane = 0
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


def work_items(int64_t groups, int64_t blocks, int64_t tile, int64_t depth, int64_t chunk):
    """How many work items there are."""
    return groups * ((blocks + tile - 1) // tile) * ((depth + chunk - 1) // chunk)


include "pack_tiles_table.pxi"
