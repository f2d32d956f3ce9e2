"""Matrix products in float32: C = activation(A B + bias + Z), batched, with any strides of A and B.

B is read in panels of 2 vectors of columns, ``[panel][k][2 VW]``. Constant weights are packed so beforehand
(:func:`megengine_lite._core.cpu.packing.float32.pack_panels`). A B that is no constant is packed into scratch panel by
panel, and stays in the cache. ``gemm_dot`` has products of few rows, which take as long as B is read.
"""

import numpy as np

from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from megengine_lite.kernels.common.arguments cimport BatchStrides, Epilogue
from megengine_lite.kernels.common.block cimport MAX_ACC, MAX_BY_LANE, fma_lanes, load_weights, multiplied, store_weights, weight
from megengine_lite.kernels.common.block_output cimport BlockOutput, set_activation, skip_pixels, store_block
from megengine_lite.kernels.common.fetch cimport AHEAD, WeightFetch, fetch, fetch_more
from megengine_lite.kernels.common.interleave cimport zip_rows
from megengine_lite.kernels.common.shared_constants cimport (
    TILE_BLOCKS, WEIGHTS_BFLOAT16, WEIGHTS_BFLOAT16_PAIRS, WEIGHTS_FLOAT16,
)
from megengine_lite.kernels.common.simd cimport (
    BY_LANE, DOT_BFLOAT16, VREGS, VW, bf16, bf16_pair, f16, forget_loads, inlined, outlined, prefetch_far,
    vf, vf_fma, vf_load, vf_set1, vf_store, vf_store_n, vf_zero,
)
from megengine_lite.kernels.common.vmath cimport ACT_NONE, activate

from megengine_lite.kernels.common.array_checks import product_extents

cpdef enum:  # planners read it
    PANEL = TILE_BLOCKS * VW  # columns of a panel

cdef enum:
    MAX_ROWS = 12
    STEPS_AHEAD = 32  # from a row of B that is used to that which comes into the first cache, which rows of A share
    RUN = 64  # rows of a panel that are used before more of the next one is fetched


cdef inline int block_rows() noexcept nogil:
    return MAX_BY_LANE if BY_LANE else 12 if VREGS == 32 else 6


# ---- blocks of rows x 2 vectors ------------------------------------------------------------------------------------

cdef inline inlined gemm_step(
    int ROWS, const float* upper, const float* lower, int64_t a_row, const weight* b, vf* acc
) noexcept nogil:
    """One step of the sums of a block: four rows of A from `upper`, the others from `lower`, and a row of a panel."""
    cdef vf columns[2]
    cdef vf value
    cdef int p, v
    load_weights(2, b, columns)
    for p in range(4):
        value = vf_set1(upper[p * a_row])
        for v in range(2):
            acc[p * 2 + v] = multiplied(b, value, columns[v], acc[p * 2 + v])
    for p in range(4, ROWS):
        value = vf_set1(lower[(p - 4) * a_row])
        for v in range(2):
            acc[p * 2 + v] = multiplied(b, value, columns[v], acc[p * 2 + v])
    forget_loads()  # else gcc loads too much ahead, and runs out of registers


cdef inline inlined gemm_block(
    int ROWS, int VECTORS, int64_t depth, const float* a, int64_t a_row, int64_t a_k, const weight* b, int64_t b_k,
    WeightFetch* ahead, const BlockOutput* o
) noexcept nogil:
    """Four rows of A share a pointer, so that the addresses of a block fit the integer registers."""
    cdef vf acc[MAX_ACC]
    cdef vf columns[2]
    cdef const float* rows[3]
    cdef vf value
    cdef int64_t l = 0, end
    cdef int p, v
    for p in range(ROWS * VECTORS):
        acc[p] = vf_zero()
    if BY_LANE:
        if a_k == 1:
            while l + VW <= depth:
                fma_lanes(ROWS, VECTORS, a_row, a + l, b, b_k, acc)
                b += VW * b_k
                l += VW
    for p in range(3):
        rows[p] = a + l * a_k + p * 4 * a_row
    while l < depth:
        end = depth
        if VREGS == 32 and not BY_LANE:
            if ahead.step:
                fetch_more(ahead)
                end = min(l + RUN, depth)
        for l in range(l, end):
            load_weights(VECTORS, b, columns)
            if VREGS == 32 and not BY_LANE:
                fetch(VECTORS * VW * sizeof(b[0]), b + STEPS_AHEAD * b_k)
            for p in range(ROWS):
                value = vf_set1(rows[p // 4][p % 4 * a_row])
                for v in range(VECTORS):
                    acc[p * VECTORS + v] = multiplied(b, value, columns[v], acc[p * VECTORS + v])
            for p in range(3):
                rows[p] += a_k
            b += b_k
        l = end
    store_block(ROWS, VECTORS, acc, o)


cdef inline inlined gemm_block_packed(
    int ROWS, int64_t depth, const float* a, int64_t a_row, const weight* b, WeightFetch* ahead, const BlockOutput* o
) noexcept nogil:
    """gemm_block of contiguous rows, more than four, and a packed panel, by few instructions beside the products. For
    sets with 16 registers."""
    cdef vf acc[MAX_ACC]
    cdef const float* lower = a + 4 * a_row
    cdef int64_t fours = depth // 4, first = 0, end, l
    cdef int p
    for p in range(ROWS * 2):
        acc[p] = vf_zero()
    while first < fours:
        end = fours
        if ahead.step:
            fetch_more(ahead)
            end = min(first + RUN // 4, fours)
        for l in range(first, end):
            gemm_step(ROWS, a, lower, a_row, b, acc)
            gemm_step(ROWS, a + 1, lower + 1, a_row, b + PANEL, acc)
            gemm_step(ROWS, a + 2, lower + 2, a_row, b + 2 * PANEL, acc)
            gemm_step(ROWS, a + 3, lower + 3, a_row, b + 3 * PANEL, acc)
            a += 4
            lower += 4
            b += 4 * PANEL
        first = end
    for l in range(depth % 4):
        gemm_step(ROWS, a + l, lower + l, a_row, b + l * PANEL, acc)
    store_block(ROWS, 2, acc, o)


cdef inline inlined gemm_row(
    bint PACKED, int VECTORS, int64_t depth, const float* a, int64_t a_k, const weight* b, int64_t b_k,
    const BlockOutput* o
) noexcept nogil:
    """One row: four partial sums for each vector hide the latency of a multiply-add.

    PACKED says that B is packed, so that `a_k` and `b_k` are constants: else their multiples take integer registers,
    and are loaded anew for every product. Packed columns are read in one stream, which processors for x86-64 fetch
    faster by themselves: with instructions that fetch, too, 1 MB takes 1.2 times as long on a Zen 4.
    """
    cdef vf acc[8]
    cdef vf columns[2]
    cdef vf value
    cdef int64_t l = 0
    cdef int q, v
    for q in range(4 * VECTORS):
        acc[q] = vf_zero()
    while l + 4 <= depth:
        if PACKED and BY_LANE:
            fetch(4 * VECTORS * VW * sizeof(b[0]), <const char*>b + AHEAD)
        for q in range(4):
            value = vf_set1(a[q * a_k])
            load_weights(VECTORS, b + q * b_k, columns)
            for v in range(VECTORS):
                if not PACKED:
                    prefetch_far(b + q * b_k + v * VW + AHEAD // sizeof(float))
                acc[q * VECTORS + v] = multiplied(b, value, columns[v], acc[q * VECTORS + v])
        a += 4 * a_k
        b += 4 * b_k
        l += 4
    while l < depth:
        value = vf_set1(a[0])
        load_weights(VECTORS, b, columns)
        for v in range(VECTORS):
            acc[v] = multiplied(b, value, columns[v], acc[v])
        a += a_k
        b += b_k
        l += 1
    for v in range(VECTORS):
        acc[v] = (acc[v] + acc[VECTORS + v]) + (acc[2 * VECTORS + v] + acc[3 * VECTORS + v])
    store_block(1, VECTORS, acc, o)


cdef inline inlined gemm_block_of(
    int rows, int VECTORS, int64_t depth, const float* a, int64_t a_row, int64_t a_k, const weight* b, int64_t b_k,
    WeightFetch* ahead, const BlockOutput* o
) noexcept nogil:
    if VREGS == 32 and not BY_LANE and rows == 12:
        gemm_block(12, VECTORS, depth, a, a_row, a_k, b, b_k, ahead, o)
    elif VREGS == 32 and not BY_LANE and rows == 11:
        gemm_block(11, VECTORS, depth, a, a_row, a_k, b, b_k, ahead, o)
    elif VREGS == 32 and not BY_LANE and rows == 10:
        gemm_block(10, VECTORS, depth, a, a_row, a_k, b, b_k, ahead, o)
    elif VREGS == 32 and not BY_LANE and rows == 9:
        gemm_block(9, VECTORS, depth, a, a_row, a_k, b, b_k, ahead, o)
    elif VREGS == 32 and rows == 8:
        gemm_block(8, VECTORS, depth, a, a_row, a_k, b, b_k, ahead, o)
    elif VREGS == 32 and rows == 7:
        gemm_block(7, VECTORS, depth, a, a_row, a_k, b, b_k, ahead, o)
    elif rows == 6:
        gemm_block(6, VECTORS, depth, a, a_row, a_k, b, b_k, ahead, o)
    elif rows == 5:
        gemm_block(5, VECTORS, depth, a, a_row, a_k, b, b_k, ahead, o)
    elif rows == 4:
        gemm_block(4, VECTORS, depth, a, a_row, a_k, b, b_k, ahead, o)
    elif rows == 3:
        gemm_block(3, VECTORS, depth, a, a_row, a_k, b, b_k, ahead, o)
    elif rows == 2:
        gemm_block(2, VECTORS, depth, a, a_row, a_k, b, b_k, ahead, o)
    else:
        gemm_block(1, VECTORS, depth, a, a_row, a_k, b, b_k, ahead, o)


cdef inline outlined gemm_any(
    int rows, int vectors, bint parts, int64_t depth, const float* a, int64_t a_row, int64_t a_k, const weight* b,
    int64_t b_k, WeightFetch* ahead, const BlockOutput* o
) noexcept nogil:
    """With `parts`, one row whose sums are computed in parts. Panels of half precision are always used whole."""
    if parts and vectors == 2 and a_k == 1 and b_k == 2 * VW:
        gemm_row(True, 2, depth, a, 1, b, 2 * VW, o)
    elif weight is float:
        if parts and vectors == 2:
            gemm_row(False, 2, depth, a, a_k, b, b_k, o)
        elif parts:
            gemm_row(False, 1, depth, a, a_k, b, b_k, o)
        elif vectors == 2:
            gemm_block_of(rows, 2, depth, a, a_row, a_k, b, b_k, ahead, o)
        else:
            gemm_block_of(rows, 1, depth, a, a_row, a_k, b, b_k, ahead, o)
    elif parts:
        gemm_row(True, 2, depth, a, a_k, b, 2 * VW, o)
    else:
        gemm_block_of(rows, 2, depth, a, a_row, a_k, b, 2 * VW, ahead, o)


cdef inline outlined gemm_partial(
    int rows, int64_t columns, bint parts, int64_t depth, const float* a, int64_t a_row, int64_t a_k, const weight* b,
    int64_t b_k, WeightFetch* ahead, const BlockOutput* o
) noexcept nogil:
    """A block of which only `columns` exist: computes a full one on the stack."""
    cdef float c[MAX_ROWS * PANEL]
    cdef float z[MAX_ROWS * PANEL]
    cdef int p
    cdef BlockOutput full = o[0]
    full.y = c
    full.y_pixel = PANEL
    if o.z:
        memset(z, 0, sizeof(z))
        for p in range(rows):
            memcpy(z + p * PANEL, o.z + p * o.z_pixel, columns * sizeof(float))
        full.z = z
        full.z_pixel = PANEL
    gemm_any(rows, 1 if weight is float and columns <= VW else 2, parts, depth, a, a_row, a_k, b, b_k, ahead, &full)
    for p in range(rows):
        memcpy(o.y + p * o.y_pixel, c + p * PANEL, columns * sizeof(float))


# ---- packing of a panel --------------------------------------------------------------------------------------------

cdef inline outlined pack_panel(
    const float* b, int64_t b_k, int64_t b_n, int64_t depth, int64_t columns, float* out
) noexcept nogil:
    """[depth][PANEL] with zeros from `columns` on."""
    cdef vf r[16]
    cdef int64_t k = 0, n
    cdef int q, v
    if b_n == 1:
        for k in range(depth):
            memcpy(out + k * PANEL, b + k * b_k, columns * sizeof(float))
            memset(out + k * PANEL + columns, 0, (PANEL - columns) * sizeof(float))
        return
    if b_k == 1:
        while k + VW <= depth:
            for v in range(2):
                for q in range(VW):
                    r[q] = vf_load(b + (v * VW + q) * b_n + k) if v * VW + q < columns else vf_zero()
                zip_rows(VW, r)
                for q in range(VW):
                    vf_store(out + (k + q) * PANEL + v * VW, r[q])
            k += VW
    while k < depth:
        for n in range(PANEL):
            out[k * PANEL + n] = b[k * b_k + n * b_n] if n < columns else 0
        k += 1


cdef inline outlined pack_panel_pairs(
    const float* b, int64_t b_k, int64_t b_n, int64_t rows, int64_t columns, float* out
) noexcept nogil:
    """The panel as pairs of bfloat16, of which a last one may have a zero. They take the place of the numbers."""
    pack_panel(b, b_k, b_n, rows, columns, out)
    if rows % 2:
        memset(out + rows * PANEL, 0, PANEL * sizeof(float))
    store_weights(PANEL, rows + rows % 2, out, <bf16_pair*>out)


# ---- kernels -------------------------------------------------------------------------------------------------------

cdef struct GemmArgs:
    const float* a
    const void* b
    const float* bias
    const float* z
    float* c
    int64_t m, n, k, chunk, backwards, b_packed, b_rows, weights, a_row, a_k, b_k, b_n, c_row, z_row
    BatchStrides batch
    Epilogue epilogue


def scratch_bytes(int64_t k):
    """Bytes of scratch of gemm_f32 and gemm_row_f32 if B is not packed and has k rows: one panel."""
    return sizeof(float) * (k + k % 2) * PANEL


cdef inline inlined begin_fetch(
    int64_t blocks, int64_t depth, const weight* b, bint more, WeightFetch* ahead
) noexcept nogil:
    """What blocks fetch with each RUN rows of a panel: together the panel behind it, if there are `more`. A single block
    has no time for that."""
    ahead.at = ahead.until = <const char*>(b + depth * PANEL)
    ahead.step = RUN * PANEL * sizeof(b[0]) // blocks if more and blocks > 1 else 0


cdef inline outlined gemm_rows_packed(
    int64_t rows, int64_t blocks, int64_t depth, const float* left, int64_t a_row, const weight* b, bint more,
    const BlockOutput* output
) noexcept nogil:
    """gemm_rows in blocks of 5 and 6 rows. gcc keeps their sums in registers only within a loop."""
    cdef int64_t block, count
    cdef BlockOutput o = output[0]
    cdef WeightFetch ahead
    begin_fetch(blocks, depth, b, more, &ahead)
    for block in range(blocks):
        count = rows * (block + 1) // blocks - rows * block // blocks
        if count == 6:
            gemm_block_packed(6, depth, left, a_row, b, &ahead, &o)
        else:
            gemm_block_packed(5, depth, left, a_row, b, &ahead, &o)
        left += count * a_row
        skip_pixels(&o, count)


cdef inline inlined gemm_rows(
    bint parts, int64_t columns, int64_t depth, int64_t rows, const float* left, const GemmArgs* a, const weight* b,
    int64_t step, bint more, BlockOutput o
) noexcept nogil:
    """`rows` rows of A, of which `left` is the first, times a panel of B. `more`: see begin_fetch."""
    cdef int64_t blocks = (rows + block_rows() - 1) // block_rows(), block, first = 0, count
    cdef WeightFetch ahead
    if VREGS == 16:
        if columns == PANEL and step == PANEL and a.a_k == 1 and rows >= 5 * blocks:
            gemm_rows_packed(rows, blocks, depth, left, a.a_row, b, more, &o)
            return
    begin_fetch(blocks, depth, b, more, &ahead)
    for block in range(blocks):
        count = rows * (block + 1) // blocks - first
        if columns == PANEL:
            gemm_any(<int>count, 2, parts, depth, left, a.a_row, a.a_k, b, step, &ahead, &o)
        else:
            gemm_partial(<int>count, columns, parts, depth, left, a.a_row, a.a_k, b, step, &ahead, &o)
        left += count * a.a_row
        skip_pixels(&o, count)
        first += count


cdef inline inlined gemm_items(
    bint parts, const GemmArgs* a, int64_t begin, int64_t end, void* scratch
) noexcept nogil:
    """One work item = one panel of columns for one chunk of `chunk` rows of one product of the batch.

    Element (i, k) of A is a[i a_row + k a_k]. If `b_packed`, B consists of packed panels, of numbers as
    `weights` (a Weights) says; otherwise its element (k, j) is the float32 b[k b_k + j b_n], and its panels have the
    form of `weights`, FLOAT32 or BFLOAT16_PAIRS, in scratch: scratch_bytes of its `b_rows` rows. With BFLOAT16_PAIRS A
    consists of pairs, too, of which k and a_row are numbers. bias has a number for each column of whole panels. Product number q of the batch begins at
    q // inner and q % inner times the outer and inner strides. c may be z. Items are ordered by product, chunk, panel:
    the rows of a chunk stay in the cache. `backwards` begins with the last item, which matters
    only for what the cache has.
    """
    cdef int64_t m = a.m, n = a.n, depth = a.k, chunk = a.chunk, b_k = a.b_k, b_n = a.b_n
    cdef BatchStrides batch = a.batch
    cdef int64_t panels = (n + PANEL - 1) // PANEL, chunks = (m + chunk - 1) // chunk
    cdef int64_t number, item, product, first, last, panel, outer, q, columns, step, at
    cdef bint more
    cdef const float* b
    cdef const bf16_pair* pairs
    cdef const float* left
    cdef BlockOutput o
    o.y_plane = o.z_plane = VW
    o.y_pixel = a.c_row
    o.z_pixel = a.z_row
    set_activation(&o, &a.epilogue)
    for number in range(begin, end):
        item = begin + end - 1 - number if a.backwards else number
        product = item // (chunks * panels)
        first = item // panels % chunks * chunk
        last = min(first + chunk, m)
        panel = item % panels
        outer = product // batch.inner
        q = product % batch.inner
        columns = min(n - panel * PANEL, <int64_t>PANEL)
        left = a.a + outer * batch.a_outer + q * batch.a_inner + first * a.a_row
        at = outer * batch.b_outer + q * batch.b_inner
        o.bias = a.bias + panel * PANEL if a.bias else NULL
        o.y = a.c + outer * batch.c_outer + q * batch.c_inner + first * a.c_row + panel * PANEL
        o.z = a.z + outer * batch.z_outer + q * batch.z_inner + first * a.z_row + panel * PANEL if a.z else NULL
        # Chunks of rows behind the first find all panels near.
        more = a.b_packed and not a.backwards and item + 1 < end and panel + 1 < panels and number < begin + panels
        if a.b_packed:
            at += panel * depth * PANEL
        if a.weights == WEIGHTS_BFLOAT16_PAIRS:
            if DOT_BFLOAT16:
                pairs = <const bf16_pair*>a.b + at
                if not a.b_packed:
                    b = <const float*>a.b + at + panel * PANEL * b_n
                    pack_panel_pairs(b, b_k, b_n, a.b_rows, columns, <float*>scratch)
                    pairs = <const bf16_pair*>scratch
                gemm_rows(parts, columns, depth, last - first, left, a, pairs, PANEL, more, o)
            continue
        if a.b_packed and a.weights == WEIGHTS_BFLOAT16:
            gemm_rows(parts, columns, depth, last - first, left, a, <const bf16*>a.b + at, PANEL, more, o)
            continue
        if a.b_packed and a.weights == WEIGHTS_FLOAT16:
            gemm_rows(parts, columns, depth, last - first, left, a, <const f16*>a.b + at, PANEL, more, o)
            continue
        b = <const float*>a.b + at
        step = PANEL
        if not a.b_packed and b_n == 1 and last - first <= block_rows() and columns == PANEL:
            b += panel * PANEL
            step = b_k
        elif not a.b_packed:
            pack_panel(b + panel * PANEL * b_n, b_k, b_n, depth, columns, <float*>scratch)
            b = <const float*>scratch
        gemm_rows(parts, columns, depth, last - first, left, a, b, step, more, o)


cdef void gemm_f32(const GemmArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Every element is summed in the order of k: a row's result does not depend on how many rows there are."""
    gemm_items(False, a, begin, end, scratch)


cdef void gemm_row_f32(const GemmArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """For one row: sums in four parts, so that they do not wait for each other."""
    gemm_items(True, a, begin, end, scratch)


cdef struct GemmNaiveArgs:
    const float* a
    const float* b
    const float* bias
    const float* z
    float* c
    int64_t m, n, k, a_row, a_k, b_k, b_n, c_row, z_row
    BatchStrides batch
    Epilogue epilogue


cdef void gemm_naive_f32(const GemmNaiveArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """The definition: any strides, no scratch, slow. One work item = one row of one product; B is not packed."""
    cdef int64_t m = a.m, n = a.n, depth = a.k
    cdef int64_t a_row = a.a_row, a_k = a.a_k, b_k = a.b_k, b_n = a.b_n, c_row = a.c_row, z_row = a.z_row
    cdef BatchStrides batch = a.batch
    cdef int64_t item, outer, q, row, j, k
    cdef const float* bias = a.bias
    cdef const float* left
    cdef const float* right
    cdef float total
    cdef BlockOutput o
    set_activation(&o, &a.epilogue)
    for item in range(begin, end):
        outer = item // m // batch.inner
        q = item // m % batch.inner
        row = item % m
        left = a.a + outer * batch.a_outer + q * batch.a_inner + row * a_row
        o.y = a.c + outer * batch.c_outer + q * batch.c_inner + row * c_row
        o.z = a.z + outer * batch.z_outer + q * batch.z_inner + row * z_row if a.z else NULL
        for j in range(n):
            right = a.b + outer * batch.b_outer + q * batch.b_inner + j * b_n
            total = 0
            for k in range(depth):
                total += left[k * a_k] * right[k * b_k]
            if bias:
                total += bias[j]
            if o.z:
                total += o.z[j]
            vf_store_n(o.y + j, activate(vf_set1(total), o.code, vf_set1(o.a), vf_set1(o.b)), 1)


include "gemm_table.pxi"


# ---- products of arrays --------------------------------------------------------------------------------------------

def matmul(const float[:, :] a not None, const float[:, :] b not None):
    """Multiplies two matrices.

    Parameters
    ----------
    a : float32 array [M, K]
    b : float32 array [K, N]
        Both with any strides: for example transposed, or with rows that lie apart.

    Returns
    -------
    float32 array [M, N]

    Raises
    ------
    ValueError
        The shapes do not belong together, a matrix is empty or of another type, or a stride is no multiple of the size
        of an element.

    Examples
    --------
    >>> import numpy as np
    >>> from megengine_lite._core.cpu.kernel_set import kernel_set
    >>> kernel_set().module("gemm").matmul(np.float32([[1, 2]]), np.float32([[3, 4], [5, 6]])).tolist()
    [[13.0, 16.0]]
    """
    cdef int64_t m, n, k
    strides = (a.strides[0], a.strides[1], b.strides[0], b.strides[1])
    m, n, k = product_extents((a.shape[0], a.shape[1]), (b.shape[0], b.shape[1]), strides)
    c = np.empty((m, n), np.float32)
    cdef float[:, ::1] out = c
    cdef float[::1] scratch = np.empty(scratch_bytes(k) // sizeof(float), np.float32)
    cdef int64_t item = sizeof(float), panels = (n + PANEL - 1) // PANEL
    cdef GemmArgs args = GemmArgs(
        a=&a[0, 0], b=&b[0, 0], bias=NULL, z=NULL, c=&out[0, 0], m=m, n=n, k=k, chunk=m, b_packed=0, b_rows=k, weights=0,
        a_row=a.strides[0] // item, a_k=a.strides[1] // item, b_k=b.strides[0] // item, b_n=b.strides[1] // item,
        c_row=n, z_row=0,
        batch=BatchStrides(
            inner=1, a_outer=0, a_inner=0, b_outer=0, b_inner=0, c_outer=0, c_inner=0, z_outer=0, z_inner=0,
        ),
        epilogue=Epilogue(activation=ACT_NONE, act_a=0, act_b=0),
    )
    with nogil:
        gemm_f32(&args, 0, panels, &scratch[0])
    return c
