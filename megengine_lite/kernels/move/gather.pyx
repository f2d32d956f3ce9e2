"""Gathering by index: embedding lookup, indexing with tensors, one element along an axis.

An index may be negative, counted from the end. One that is out of range sets the step's `fault` and gives zeros.
"""

import numpy as np

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uintptr_t
from libc.string cimport memcpy, memset

from megengine_lite.kernels.common.kernel cimport KernelArgs

cdef enum:
    MAX_INDEXES = 4


cdef inline int64_t resolved(int64_t index, int64_t extent, int32_t* fault) noexcept nogil:
    """The place of an index in [0, extent), or -1 and a fault."""
    if index < 0:
        index += extent
    if 0 <= index < extent:
        return index
    fault[0] = 1
    return -1


cdef void gather_runs(const KernelArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y[o][p] = x[o][index0[p]][index1[p]]...: runs of `run` bytes.

    `extent` and `stride` (in bytes) belong to the indexed axes, `outer_stride` to o. One work item = one run.
    """
    cdef const char* x = <const char*>a.p[0]
    cdef char* y = <char*>a.p[1]
    cdef int32_t* fault = <int32_t*>a.p[2]
    cdef int64_t points = a.i[0], run = a.i[1], outer_stride = a.i[2], indexes = a.i[3]
    cdef const int64_t* extent = &a.i[4]
    cdef const int64_t* stride = extent + MAX_INDEXES
    cdef int64_t item, outer, point, place, k
    cdef const char* source
    for item in range(begin, end):
        outer = item // points
        point = item - outer * points
        source = x + outer * outer_stride
        for k in range(indexes):
            place = resolved((<const int32_t*>a.p[3 + k])[point], extent[k], fault)
            if place < 0:
                source = NULL
                break
            source += place * stride[k]
        if source == NULL:
            memset(y + item * run, 0, run)
        elif run == 4:
            (<int32_t*>y)[item] = (<const int32_t*>source)[0]
        elif run == 8:
            (<int64_t*>y)[item] = (<const int64_t*>source)[0]
        elif run == 1:
            y[item] = source[0]
        else:
            memcpy(y + item * run, source, run)


cdef void gather_one_hot(const KernelArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y[o][i] = x[o][index[o][i]][i], elements of `item` bytes. One work item = one o. Negative indexes are wrong."""
    cdef const char* x = <const char*>a.p[0]
    cdef const int32_t* index = <const int32_t*>a.p[1]
    cdef char* y = <char*>a.p[2]
    cdef int32_t* fault = <int32_t*>a.p[3]
    cdef int64_t extent = a.i[0], inner = a.i[1], item = a.i[2]
    cdef int64_t o, i, place
    for o in range(begin, end):
        for i in range(inner):
            place = index[o * inner + i]
            if not 0 <= place < extent:
                fault[0] = 1
                memset(y + (o * inner + i) * item, 0, item)
            else:
                memcpy(y + (o * inner + i) * item, x + ((o * extent + place) * inner + i) * item, item)


# name -> (address, pointers, integers, reals)
KERNELS = {
    "gather_runs": (
        <uintptr_t>&gather_runs, "x y fault index0 index1 index2 index3",
        "points run outer_stride indexes extent0 extent1 extent2 extent3 stride0 stride1 stride2 stride3", "",
    ),
    "gather_one_hot": (<uintptr_t>&gather_one_hot, "x index y fault", "extent inner item", ""),
}


# ---- Python functions that run a kernel on arrays: for tests, and to try one out ------------------------------------

def take_rows(const float[:, ::1] x not None, const int32_t[::1] index not None):
    """Rows of a matrix: the embedding lookup.

    Parameters
    ----------
    x : float32 array [rows, n]
    index : int32 array [points]
        Negative ones count from the end.

    Returns
    -------
    float32 array [points, n]

    Raises
    ------
    IndexError
        An index is out of range.
    """
    cdef KernelArgs a
    cdef int32_t fault = 0
    cdef Py_ssize_t points = index.shape[0], n = x.shape[1]
    y = np.empty((points, n), np.float32)
    cdef float[:, ::1] out = y
    if y.size == 0:
        return y
    if x.shape[0] == 0:
        raise IndexError("there are no rows to take")
    a.p[0] = <void*>&x[0, 0]
    a.p[1] = &out[0, 0]
    a.p[2] = &fault
    a.p[3] = <void*>&index[0]
    a.i[:4] = [points, 4 * n, 0, 1]
    a.i[4] = x.shape[0]
    a.i[4 + MAX_INDEXES] = 4 * n
    with nogil:
        gather_runs(&a, 0, points, NULL)
    if fault:
        raise IndexError(f"an index is out of range for {x.shape[0]} rows")
    return y
