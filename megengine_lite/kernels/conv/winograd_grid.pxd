# Where the tiles of Winograd convolutions lie in an image.
from libc.stdint cimport int64_t


# The tiles of one image.
cdef struct Grid:
    int64_t columns              # tiles in a row of tiles
    int64_t pad_h, pad_w
    int64_t x_row, x_plane
    int64_t x_bottom, x_right    # readable rows and columns below and right of element (0, 0), with the halo
    int64_t oh, ow
