"""Products of few rows in float32, by dot products with the columns of B, which lie contiguous in memory and are not packed.

B is read once for each pair of rows, and the product takes as long as that.
"""

from libc.stdint cimport int64_t

from megengine_lite.kernels.common.arguments cimport BatchStrides, Epilogue
from megengine_lite.kernels.common.block_output cimport BlockOutput, set_activation
from megengine_lite.kernels.common.simd cimport (
    VW, inlined, vf, vf_fma, vf_load, vf_load_n, vf_set1, vf_store_n, vf_unzip_even, vf_unzip_odd, vf_zero,
)
from megengine_lite.kernels.common.vmath cimport activate

cpdef enum:  # planners read it
    DOT_COLUMNS = 4  # of a work item


cdef inline vf folded(vf x, vf y) noexcept nogil:
    """Sums of neighbouring lanes: those of x, then those of y."""
    return vf_unzip_even(x, y) + vf_unzip_odd(x, y)


cdef inline inlined dot_block(
    int ROWS, int64_t depth, const float* a, int64_t a_row, const float** columns, vf* out
) noexcept nogil:
    """Lane j of out[i] = a_i . column j, for j < 4."""
    cdef vf acc[8]
    cdef vf left[2]
    cdef vf right
    cdef int64_t k = 0
    cdef int i, j, width
    for i in range(ROWS * 4):
        acc[i] = vf_zero()
    while k + VW <= depth:
        for i in range(ROWS):
            left[i] = vf_load(a + i * a_row + k)
        for j in range(4):
            right = vf_load(columns[j] + k)
            for i in range(ROWS):
                acc[i * 4 + j] = vf_fma(left[i], right, acc[i * 4 + j])
        k += VW
    if k < depth:
        for i in range(ROWS):
            left[i] = vf_load_n(a + i * a_row + k, depth - k)
        for j in range(4):
            right = vf_load_n(columns[j] + k, depth - k)
            for i in range(ROWS):
                acc[i * 4 + j] = vf_fma(left[i], right, acc[i * 4 + j])
    for i in range(ROWS):
        out[i] = folded(folded(acc[i * 4], acc[i * 4 + 1]), folded(acc[i * 4 + 2], acc[i * 4 + 3]))
        if VW > 4:
            out[i] = folded(out[i], out[i])
        if VW > 8:
            out[i] = folded(out[i], out[i])


cdef struct GemmDotArgs:
    const float* a
    const float* b
    const float* bias
    const float* z
    float* c
    int64_t m, n, k, a_row, b_n, c_row, z_row
    BatchStrides batch
    Epilogue epilogue


cdef void gemm_dot_f32(const GemmDotArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """For few rows and a B whose columns are contiguous ([n][k]): B is streamed once for each pair of rows.

    One work item = DOT_COLUMNS columns of one product of the batch. Strides are those of gemm_f32.
    """
    cdef const float* pa = a.a
    cdef const float* pb = a.b
    cdef const float* bias = a.bias
    cdef const float* pz = a.z
    cdef float* pc = a.c
    cdef int64_t m = a.m, n = a.n, depth = a.k
    cdef int64_t a_row = a.a_row, b_n = a.b_n, c_row = a.c_row, z_row = a.z_row
    cdef BatchStrides batch = a.batch
    cdef int64_t quads = (n + DOT_COLUMNS - 1) // DOT_COLUMNS
    cdef int64_t item = begin, product, stop, first, count, r
    cdef int rows, i, j
    cdef const float* left
    cdef const float* right
    cdef const float* columns[4]
    cdef const float* z
    cdef float* c
    cdef vf sums[2]
    cdef vf low, high
    cdef BlockOutput o
    set_activation(&o, &a.epilogue)
    low = vf_set1(o.a)
    high = vf_set1(o.b)
    while item < end:
        product = item // quads
        left = pa + product // batch.inner * batch.a_outer + product % batch.inner * batch.a_inner
        right = pb + product // batch.inner * batch.b_outer + product % batch.inner * batch.b_inner
        c = pc + product // batch.inner * batch.c_outer + product % batch.inner * batch.c_inner
        z = pz + product // batch.inner * batch.z_outer + product % batch.inner * batch.z_inner if pz else NULL
        stop = min(end, (product + 1) * quads)
        for item in range(item, stop):
            first = (item - product * quads) * DOT_COLUMNS
            count = min(n - first, DOT_COLUMNS)
            for j in range(4):
                columns[j] = right + min(first + j, n - 1) * b_n
            for r in range(0, m, 2):
                rows = 2 if r + 1 < m else 1
                if rows == 2:
                    dot_block(2, depth, left + r * a_row, a_row, columns, sums)
                else:
                    dot_block(1, depth, left + r * a_row, a_row, columns, sums)
                for i in range(rows):
                    if bias:
                        sums[i] = sums[i] + vf_load_n(bias + first, count)
                    if z:
                        sums[i] = sums[i] + vf_load_n(z + (r + i) * z_row + first, count)
                    vf_store_n(c + (r + i) * c_row + first, activate(sums[i], o.code, low, high), count)
        item = stop


include "gemm_dot_table.pxi"
