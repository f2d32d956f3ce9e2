# Indexes that are data.
from libc.stdint cimport int32_t, int64_t


cdef inline int64_t resolved(int64_t index, int64_t extent, int32_t* fault) noexcept nogil:
    """The place of an index in [0, extent), or -1 and a fault."""
    if index < 0:
        index += extent
    if 0 <= index < extent:
        return index
    fault[0] = 1
    return -1
