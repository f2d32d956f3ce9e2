# Where the tiles of Winograd convolutions lie in an image.
from libc.stdint cimport int64_t


# The tiles of one image.
cdef struct Grid:
    int64_t columns              # tiles in a row of tiles
    int64_t pad_h, pad_w
    int64_t x_row, x_plane
    int64_t x_bottom, x_right    # readable rows and columns below and right of element (0, 0), with the halo
    int64_t oh, ow


# A run of neighbouring tiles of an image, for one of several parts of the output channels.
cdef struct TileRun:
    int64_t image, part, first, count
    int64_t number  # runs with the same number are of the same tiles


cdef inline TileRun run_of(int64_t item, int64_t tiles, int64_t tile_blocks, int64_t parts) noexcept nogil:
    """The run of a work item. Images have `tiles` tiles in `tile_blocks` runs, items are ordered by image, run, part."""
    cdef int64_t number = item // parts, block = number % tile_blocks
    cdef int64_t first = tiles * block // tile_blocks
    return TileRun(number // tile_blocks, item % parts, first, tiles * (block + 1) // tile_blocks - first, number)
