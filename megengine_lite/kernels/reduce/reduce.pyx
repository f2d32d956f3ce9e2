"""Reductions of float32 tensors: sum, sum of squares, product, minimum, maximum, mean; running sums; positions.

Sums are blocked: at most BLOCK terms are added one after another, so that the error grows slowly with the length. A
work item is never split, so results do not depend on the number of threads.
"""

import numpy as np

from libc.float cimport FLT_MAX
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t

from megengine_lite.kernels.common.interleave cimport zip_rows
from megengine_lite.kernels.common.rows cimport copy_row
from megengine_lite.kernels.common.simd cimport (
    VW, inlined, vf, vf_eq, vf_load, vf_load_n, vf_lt, vf_select, vf_set1, vf_store, vf_store_n, vi, vi_any,
    vi_set1, vi_store,
)
from megengine_lite.kernels.common.vmath cimport v_is_nan
from megengine_lite.kernels.reduce.reduce_modes cimport (
    BLOCK, MAX, MAX_OF_NUMBERS, MEAN, MIN, PRODUCT, SUM, SUM_SQR, across_lanes, combined, load_head, neutral,
    reduce_run, taken,
)

from megengine_lite.kernels.common.array_checks import reduced_shape
from megengine_lite.kernels.common.tiling import plan_reduce

cdef enum:
    SHORT = 32 * VW  # runs up to this length are reduced side by side
    LANES = 4  # of them at a time

cpdef enum:  # planners read it
    LOOPS = 3  # kept dimensions besides the innermost one, and reduced ones
    SUMS = 64  # running sums side by side that make a work item


# The dimensions besides the innermost one: extents and strides of those that are kept and of those that are reduced.
cdef struct ReduceSpace:
    int64_t kept[LOOPS]
    int64_t x_kept[LOOPS]
    int64_t y_kept[LOOPS]
    int64_t reduced[LOOPS]
    int64_t x_reduced[LOOPS]


cdef inline int64_t offset_of(const int64_t* extent, const int64_t* stride, int64_t index) noexcept nogil:
    """Distance of the element with the given running number; the last dimension runs fastest."""
    cdef int64_t second = index // extent[2]
    return (
        (index - second * extent[2]) * stride[2] + second % extent[1] * stride[1] + second // extent[1] * stride[0]
    )


# ---- runs along contiguous memory ----------------------------------------------------------------------------------

cdef inline inlined reduce_inner(
    int mode, const ReduceSpace* s, const float* base, float* y, int64_t run, float bound, float divisor,
    int64_t begin, int64_t end
) noexcept nogil:
    cdef int64_t item, r0, r1
    cdef vf total
    cdef const float* x
    if run <= SHORT and is_one_loop(s):
        reduce_short_runs(mode, base, s.x_kept[LOOPS - 1], run, bound, y, divisor, begin, end)
        return
    for item in range(begin, end):
        total = neutral(mode, bound)
        for r0 in range(s.reduced[0]):
            for r1 in range(s.reduced[1]):
                x = base + offset_of(s.kept, s.x_kept, item) + r0 * s.x_reduced[0] + r1 * s.x_reduced[1]
                reduce_run(mode, x, run, bound, &total)
        y[offset_of(s.kept, s.y_kept, item)] = across_lanes(mode, total) / divisor


cdef inline bint is_one_loop(const ReduceSpace* s) noexcept nogil:
    """Whether nothing but runs is reduced, and these lie evenly, with their results one after the other."""
    cdef int64_t k
    for k in range(LOOPS):
        if s.reduced[k] != 1 or (k + 1 < LOOPS and s.kept[k] != 1):
            return False
    return s.y_kept[LOOPS - 1] == 1 or s.kept[LOOPS - 1] == 1


cdef inline inlined reduce_short_runs(
    int mode, const float* x, int64_t stride, int64_t run, float bound, float* y, float divisor, int64_t begin,
    int64_t end
) noexcept nogil:
    """A vector of results at a time: the sums over the lanes of VW vectors are those of the columns of a matrix."""
    cdef vf r[VW]
    cdef int64_t item = begin, n
    cdef int k, half
    while item < end:
        n = min(end - item, <int64_t>VW)
        k = 0
        while k < VW:
            if k + LANES <= n:
                reduce_rows(mode, LANES, x + (item + k) * stride, stride, run, bound, r + k)
                k += LANES
            else:
                r[k] = neutral(mode, bound)
                if k < n:
                    reduce_rows(mode, 1, x + (item + k) * stride, stride, run, bound, r + k)
                k += 1
        zip_rows(VW, r)
        half = VW // 2
        while half:
            for k in range(half):
                r[k] = combined(mode, r[k], r[k + half])
            half //= 2
        r[0] = r[0] / vf_set1(divisor)
        if n == VW:
            vf_store(y + item, r[0])
        else:
            vf_store_n(y + item, r[0], n)
        item += VW


cdef inline inlined reduce_rows(
    int mode, int count, const float* x, int64_t stride, int64_t run, float bound, vf* total
) noexcept nogil:
    """One vector each of the sums of `count` runs, side by side so that none waits for another."""
    cdef vf a = neutral(mode, bound), b = a, c = a, d = a
    cdef int64_t i = 0
    while i + VW <= run:
        a = combined(mode, a, taken(mode, vf_load(x + i)))
        if count > 1:
            b = combined(mode, b, taken(mode, vf_load(x + stride + i)))
            c = combined(mode, c, taken(mode, vf_load(x + 2 * stride + i)))
            d = combined(mode, d, taken(mode, vf_load(x + 3 * stride + i)))
        i += VW
    if i < run:
        a = combined(mode, a, load_head(mode, x + i, run - i, bound))
        if count > 1:
            b = combined(mode, b, load_head(mode, x + stride + i, run - i, bound))
            c = combined(mode, c, load_head(mode, x + 2 * stride + i, run - i, bound))
            d = combined(mode, d, load_head(mode, x + 3 * stride + i, run - i, bound))
    total[0] = a
    if count > 1:
        total[1] = b
        total[2] = c
        total[3] = d


cdef inline inlined add_pairs(
    const float* x, float* y, float divisor, int64_t begin, int64_t end
) noexcept nogil:
    """Sums of both parts of complex numbers, whose runs are too short for vectors along them."""
    cdef int64_t i
    for i in range(begin, end):
        y[i] = (<float>0 + x[2 * i] + x[2 * i + 1]) / divisor  # a sum begins with 0, so that -0 is never its result


cdef struct ReduceInnerArgs:
    const float* x
    float* y
    int64_t mode, run
    ReduceSpace space
    double divisor, bound


cdef void reduce_inner_f32(const ReduceInnerArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """The innermost dimension, contiguous, is reduced. One work item = one result."""
    cdef const float* x = a.x
    cdef float* y = a.y
    cdef int64_t mode = a.mode, run = a.run
    cdef float divisor = <float>a.divisor, bound = <float>a.bound
    cdef ReduceSpace s = a.space
    if run == 2 and (mode == SUM or mode == MEAN) and is_one_loop(&s) and s.x_kept[LOOPS - 1] == run:
        add_pairs(x, y, divisor, begin, end)
    elif mode == SUM or mode == MEAN:
        reduce_inner(SUM, &s, x, y, run, bound, divisor, begin, end)
    elif mode == SUM_SQR:
        reduce_inner(SUM_SQR, &s, x, y, run, bound, divisor, begin, end)
    elif mode == PRODUCT:
        reduce_inner(PRODUCT, &s, x, y, run, bound, divisor, begin, end)
    elif mode == MIN:
        reduce_inner(MIN, &s, x, y, run, bound, divisor, begin, end)
    elif mode == MAX:
        reduce_inner(MAX, &s, x, y, run, bound, divisor, begin, end)
    elif mode == MAX_OF_NUMBERS:
        reduce_inner(MAX_OF_NUMBERS, &s, x, y, run, bound, divisor, begin, end)


# ---- rows side by side ---------------------------------------------------------------------------------------------

cdef inline inlined reduce_column(int mode, const float* x, int64_t stride, int64_t rows, vf* total) noexcept nogil:
    """One vector of each of `rows` rows."""
    cdef vf a, b, c, d
    cdef int64_t r = 0, end
    while r + 4 <= rows:
        a = taken(mode, vf_load(x))
        b = taken(mode, vf_load(x + stride))
        c = taken(mode, vf_load(x + 2 * stride))
        d = taken(mode, vf_load(x + 3 * stride))
        x += 4 * stride
        end = min(rows - 4, r + 4 * BLOCK)
        r += 4
        while r <= end:
            a = combined(mode, a, taken(mode, vf_load(x)))
            b = combined(mode, b, taken(mode, vf_load(x + stride)))
            c = combined(mode, c, taken(mode, vf_load(x + 2 * stride)))
            d = combined(mode, d, taken(mode, vf_load(x + 3 * stride)))
            x += 4 * stride
            r += 4
        total[0] = combined(mode, total[0], combined(mode, combined(mode, a, b), combined(mode, c, d)))
    while r < rows:
        total[0] = combined(mode, total[0], taken(mode, vf_load(x)))
        x += stride
        r += 1


cdef inline inlined add_rows(
    int mode, const float* x, int64_t stride, int64_t rows, float* total, int64_t n
) noexcept nogil:
    """total = total combined with 1 to 4 rows of n elements."""
    cdef int64_t i = 0, k
    cdef vf v, w
    if rows == 4:
        while i + VW <= n:
            v = combined(mode, taken(mode, vf_load(x + i)), taken(mode, vf_load(x + stride + i)))
            w = combined(mode, taken(mode, vf_load(x + 2 * stride + i)), taken(mode, vf_load(x + 3 * stride + i)))
            vf_store(total + i, combined(mode, vf_load(total + i), combined(mode, v, w)))
            i += VW
    else:
        while i + VW <= n:
            v = vf_load(total + i)
            for k in range(rows):
                v = combined(mode, v, taken(mode, vf_load(x + k * stride + i)))
            vf_store(total + i, v)
            i += VW
    if i < n:
        v = vf_load_n(total + i, n - i)
        for k in range(rows):
            v = combined(mode, v, taken(mode, vf_load_n(x + k * stride + i, n - i)))
        vf_store_n(total + i, v, n - i)


cdef inline inlined fold(int mode, float* total, const float* part, int64_t n) noexcept nogil:
    cdef int64_t i = 0
    while i < n:
        vf_store(total + i, combined(mode, vf_load(total + i), vf_load(part + i)))
        i += VW


cdef inline inlined fill(float* y, vf value, int64_t n) noexcept nogil:
    cdef int64_t i = 0
    while i < n:
        vf_store(y + i, value)
        i += VW


cdef inline inlined reduce_outer(
    int mode, const ReduceSpace* s, const float* base, float* base_y, int64_t inner, int64_t chunk, float bound,
    float divisor, float* buffer, int64_t begin, int64_t end
) noexcept nogil:
    cdef int64_t chunks = (inner + chunk - 1) // chunk
    cdef int64_t item, kept, start, n, r0, r1, r, i, rows
    cdef float* part = buffer + chunk + VW
    cdef const float* x
    cdef const float* row
    cdef float* y
    cdef vf total
    for item in range(begin, end):
        kept = item // chunks
        start = (item - kept * chunks) * chunk
        n = min(chunk, inner - start)
        x = base + offset_of(s.kept, s.x_kept, kept) + start
        y = base_y + offset_of(s.kept, s.y_kept, kept) + start
        if n % VW == 0 and n <= 4 * VW:
            i = 0
            while i < n:
                total = neutral(mode, bound)
                for r0 in range(s.reduced[0]):
                    for r1 in range(s.reduced[1]):
                        row = x + r0 * s.x_reduced[0] + r1 * s.x_reduced[1] + i
                        reduce_column(mode, row, s.x_reduced[2], s.reduced[2], &total)
                vf_store(y + i, total / vf_set1(divisor))
                i += VW
            continue
        fill(buffer, neutral(mode, bound), n)
        for r0 in range(s.reduced[0]):
            for r1 in range(s.reduced[1]):
                row = x + r0 * s.x_reduced[0] + r1 * s.x_reduced[1]
                r = 0
                while r < s.reduced[2]:
                    fill(part, neutral(mode, bound), n)
                    rows = min(s.reduced[2], r + BLOCK * 4)
                    while r < rows:
                        add_rows(mode, row + r * s.x_reduced[2], s.x_reduced[2], min(<int64_t>4, rows - r), part, n)
                        r += 4
                    r = rows
                    fold(mode, buffer, part, n)
        i = 0
        while i < n:
            vf_store(buffer + i, vf_load(buffer + i) / vf_set1(divisor))
            i += VW
        copy_row(y, buffer, n)


cdef struct ReduceOuterArgs:
    const float* x
    float* y
    int64_t mode, inner, chunk
    ReduceSpace space
    double divisor, bound


def scratch_bytes(int64_t chunk):
    """Bytes of scratch of reduce_outer_f32: results and parts of them, and what vectors write behind. Chunk 0, nothing,
    stands for reduce_inner_f32."""
    return 2 * sizeof(float) * (chunk + VW) if chunk else 0


cdef void reduce_outer_f32(const ReduceOuterArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """The innermost dimension, contiguous, is kept. One work item = one chunk of `chunk` results along it.

    Scratch: scratch_bytes(chunk).
    """
    cdef const float* x = a.x
    cdef float* y = a.y
    cdef float* buffer = <float*>scratch
    cdef int64_t mode = a.mode, inner = a.inner, chunk = a.chunk
    cdef float divisor = <float>a.divisor, bound = <float>a.bound
    cdef ReduceSpace s = a.space
    if mode == SUM or mode == MEAN:
        reduce_outer(SUM, &s, x, y, inner, chunk, bound, divisor, buffer, begin, end)
    elif mode == SUM_SQR:
        reduce_outer(SUM_SQR, &s, x, y, inner, chunk, bound, divisor, buffer, begin, end)
    elif mode == PRODUCT:
        reduce_outer(PRODUCT, &s, x, y, inner, chunk, bound, divisor, buffer, begin, end)
    elif mode == MIN:
        reduce_outer(MIN, &s, x, y, inner, chunk, bound, divisor, buffer, begin, end)
    elif mode == MAX:
        reduce_outer(MAX, &s, x, y, inner, chunk, bound, divisor, buffer, begin, end)
    elif mode == MAX_OF_NUMBERS:
        reduce_outer(MAX_OF_NUMBERS, &s, x, y, inner, chunk, bound, divisor, buffer, begin, end)


# ---- positions -----------------------------------------------------------------------------------------------------

cdef inline float best_of_run(bint largest, const float* x, int64_t n) noexcept nogil:
    """The largest of n contiguous numbers, or the smallest; NaN if there is one."""
    cdef vf best = vf_set1(-INFINITY if largest else INFINITY)
    if largest:
        reduce_run(MAX, x, n, INFINITY, &best)
        return across_lanes(MAX, best)
    reduce_run(MIN, x, n, INFINITY, &best)
    return across_lanes(MIN, best)


cdef inline int32_t position_in_run(float value, const float* x, int64_t n) noexcept nogil:
    """First position of a value that is there; last position of NaN."""
    cdef vf wanted = vf_set1(value)
    cdef int64_t i = 0
    if value == value:
        while i + VW <= n and not vi_any(vf_eq(vf_load(x + i), wanted)):
            i += VW
        while i < n and x[i] != value:
            i += 1
    else:
        i = n - 1
        while x[i] == x[i]:
            i -= 1
    return <int32_t>i


cdef inline void positions_in_short_runs(
    bint largest, const float* x, int32_t* y, int64_t length, int64_t begin, int64_t end
) noexcept nogil:
    cdef float best[VW]
    cdef int64_t item = begin, n, k
    while item < end:
        n = min(end - item, <int64_t>VW)
        if largest:
            reduce_short_runs(MAX, x + item * length, length, length, INFINITY, best, 1.0, 0, n)
        else:
            reduce_short_runs(MIN, x + item * length, length, length, INFINITY, best, 1.0, 0, n)
        for k in range(n):
            y[item + k] = position_in_run(best[k], x + (item + k) * length, length)
        item += VW


cdef struct ArgReduceArgs:
    const float* x
    int32_t* y
    int64_t largest, length, inner, chunk


cdef void arg_reduce_f32(const ArgReduceArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y[o][i] = position along r of the largest (or smallest) x[o][r][i].

    Of equal numbers the first counts. NaN comes before all numbers; of several NaN the last counts. One work item =
    `chunk` <= VW neighbours i of one o.
    """
    cdef bint largest = a.largest != 0
    cdef int64_t length = a.length, inner = a.inner, chunk = a.chunk
    cdef int64_t chunks = (inner + chunk - 1) // chunk
    cdef int64_t item, start, n, r
    cdef const float* x
    cdef int32_t* y
    cdef vf best, v
    cdef vi where, better
    cdef int32_t lanes[VW]
    if inner == 1 and length <= SHORT:
        positions_in_short_runs(largest, a.x, a.y, length, begin, end)
        return
    for item in range(begin, end):
        start = item % chunks * chunk
        n = min(chunk, inner - start)
        x = a.x + item // chunks * length * inner + start
        y = a.y + item // chunks * inner + start
        if inner == 1:
            y[0] = position_in_run(best_of_run(largest, x, length), x, length)
            continue
        best = vf_load_n(x, n)
        where = vi_set1(0)
        for r in range(1, length):
            v = vf_load(x + r * inner) if n == VW else vf_load_n(x + r * inner, n)
            better = (vf_lt(best, v) if largest else vf_lt(v, best)) | v_is_nan(v)
            best = vf_select(better, v, best)
            where = (where & ~better) | (vi_set1(<int32_t>r) & better)
        vi_store(lanes, where)
        for r in range(n):
            y[r] = lanes[r]


# ---- running sums --------------------------------------------------------------------------------------------------

cdef struct CumsumArgs:
    const float* x
    float* y
    int64_t length, inner, exclusive, reverse


cdef inline inlined cumsum_columns(
    const CumsumArgs* a, const float* x, float* y, int64_t n, bint EXCLUSIVE
) noexcept nogil:
    """n running sums side by side, at most SUMS."""
    cdef double totals[SUMS]
    cdef int64_t r, i, at
    for i in range(n):
        totals[i] = 0.0
    for r in range(a.length):
        at = (a.length - 1 - r if a.reverse else r) * a.inner
        for i in range(n):
            if EXCLUSIVE:
                y[at + i] = <float>totals[i]
                totals[i] += x[at + i]
            else:
                totals[i] += x[at + i]
                y[at + i] = <float>totals[i]


cdef void cumsum_f32(const CumsumArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Running sums along r of x[o][r][i], in double precision. One work item = one o, and SUMS neighbouring i."""
    cdef int64_t groups = (a.inner + SUMS - 1) // SUMS, item, at, n
    for item in range(begin, end):
        at = item // groups * a.length * a.inner + item % groups * SUMS
        n = min(a.inner - item % groups * SUMS, <int64_t>SUMS)
        if a.exclusive:
            cumsum_columns(a, a.x + at, a.y + at, n, True)
        elif a.inner == 1:
            cumsum_columns(a, a.x + at, a.y + at, 1, False)
        else:
            cumsum_columns(a, a.x + at, a.y + at, n, False)


# The modes of reduce_inner_f32 and reduce_outer_f32: those of the operator, and the maximum as pooling takes it.
MODES = (SUM, SUM_SQR, PRODUCT, MIN, MAX, MEAN, MAX_OF_NUMBERS)
POOLING_MAX = MAX_OF_NUMBERS

include "reduce_table.pxi"


# ---- reductions of arrays ------------------------------------------------------------------------------------------

def reduce(x, int mode, axes):
    """Reduces axes of a float32 array; they stay with length 1.

    Parameters
    ----------
    x : float32 array [...], C-contiguous
        Up to six dimensions in any case. More are possible where neighbours are reduced, or kept, together.
    mode : int
        0 sum, 1 sum of squares, 2 product, 3 minimum, 4 maximum, 5 mean, 6 maximum of numbers. NaN stays NaN except in
        the last. Maxima are at least the lowest finite number, minima at most the largest.
    axes : sequence of int
        Not negative.

    Returns
    -------
    float32 array
        Of the shape of ``x`` with 1 in place of the extents of ``axes``.

    Raises
    ------
    ValueError
        ``x`` is empty, of another type or not C-contiguous; there is no such mode or axis; or the axes form more groups
        of neighbours than the kernel has loops for.
    TypeError
        An axis is no integer.

    Examples
    --------
    >>> import numpy as np
    >>> from megengine_lite._core.cpu.kernel_set import kernel_set
    >>> kernel_set().module("reduce").reduce(np.float32([[1, 2, 3], [4, 5, 6]]), 0, (1,)).tolist()
    [[6.0], [15.0]]
    """
    cdef ReduceSpace space
    cdef ReduceInnerArgs inner
    cdef ReduceOuterArgs outer
    cdef int k
    axes, shape = reduced_shape(x, mode, axes, MODES)
    cdef const float[::1] flat = x.reshape(-1)
    y = np.empty(shape, np.float32)
    cdef float[::1] out = y.reshape(-1)
    plan = plan_reduce(x.shape, x.strides, y.strides, axes, LOOPS)
    if plan is None:
        raise ValueError(f"axes {axes} of shape {x.shape} are too scattered")
    arguments = plan.arguments
    cdef float[::1] scratch = np.empty(scratch_bytes(arguments.get("chunk", 0)) // sizeof(float) + 1, np.float32)
    for k in range(LOOPS):
        space.kept[k] = arguments[f"kept{k}"]
        space.x_kept[k] = arguments[f"x_kept{k}"]
        space.y_kept[k] = arguments[f"y_kept{k}"]
        space.reduced[k] = arguments[f"reduced{k}"]
        space.x_reduced[k] = arguments[f"x_reduced{k}"]
    cdef double divisor = x.size // y.size if mode == MEAN else 1
    cdef int64_t work = plan.work
    if plan.kernel == "reduce_inner_f32":
        inner = ReduceInnerArgs(x=&flat[0], y=&out[0], mode=mode, run=arguments["run"], space=space, divisor=divisor, bound=FLT_MAX)
        with nogil:
            reduce_inner_f32(&inner, 0, work, &scratch[0])
    else:
        outer = ReduceOuterArgs(
            x=&flat[0], y=&out[0], mode=mode, inner=arguments["inner"], chunk=arguments["chunk"], space=space,
            divisor=divisor, bound=FLT_MAX,
        )
        with nogil:
            reduce_outer_f32(&outer, 0, work, &scratch[0])
    return y
