# How work items divide the output of a direct convolution: which part of it an item is.
from libc.stdint cimport int64_t

from megengine_lite.kernels.common.shared_constants cimport TILE_BLOCKS


# The output of each group has `blocks` channel blocks, in `tiles`, and `rows` rows of `pixels`.
cdef struct Division:
    int64_t groups, blocks, tiles, rows, pixels, band, chunks, per_image


# `block` is the first channel block of the tile, counted through all groups; there are `vectors` of them. The pixels are
# those from `first` to `last` - 1 of the row. The part is `number`, counted from 0, `of` those that use the weights of
# the tile one after the other; `is_last`: no weights lie behind them.
cdef struct Part:
    int64_t image, group, block, row, first, last, number, of
    int vectors
    bint is_last


cdef inline Division division(
    int64_t groups, int64_t blocks, int64_t rows, int64_t pixels, int64_t band, int64_t chunks
) noexcept nogil:
    cdef int64_t tiles = (blocks + TILE_BLOCKS - 1) // TILE_BLOCKS
    return Division(groups, blocks, tiles, rows, pixels, band, chunks, groups * tiles * rows * chunks)


cdef inline Part part_of(const Division* d, int64_t item) noexcept nogil:
    """Items are ordered by image, band of `band` rows, tile, row, chunk: the weights of a tile stay in the cache for a
    band, the rows of a band for all tiles."""
    cdef int64_t n = item // d.per_image, rest = item % d.per_image
    cdef int64_t first_row = rest // (d.groups * d.tiles * d.band * d.chunks) * d.band
    cdef int64_t rows = min(d.band, d.rows - first_row)
    cdef int64_t tile, chunk, block
    cdef Part p
    rest -= first_row * d.groups * d.tiles * d.chunks
    tile = rest // (rows * d.chunks)
    rest -= tile * rows * d.chunks
    p.number = rest
    p.of = rows * d.chunks
    p.is_last = tile + 1 == d.groups * d.tiles
    chunk = rest % d.chunks
    block = tile % d.tiles * TILE_BLOCKS
    p.image = n
    p.group = tile // d.tiles
    p.block = p.group * d.blocks + block
    p.vectors = <int>min(TILE_BLOCKS, d.blocks - block)
    p.row = first_row + rest // d.chunks
    p.first = d.pixels * chunk // d.chunks
    p.last = d.pixels * (chunk + 1) // d.chunks
    return p
