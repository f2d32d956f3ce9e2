"""Reductions of integers of 8 to 32 bits, positions of extremes, and running sums.

Sums and products are those of 32 bits, of which narrower types keep the low bits.
"""

from libc.stdint cimport INT32_MAX, INT32_MIN, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t

from megengine_lite.kernels.common.simd cimport inlined

include "reduce_mode_numbers.pxi"  # numbers of ReduceMode

cpdef enum:  # planners read it
    COLUMNS = 256  # results side by side that make a work item

cdef enum:
    FEW = 8  # columns that are looked through one by one
    BLOCK = 64  # elements among which a value is looked for at once

ctypedef fused number:
    int8_t
    uint8_t
    int16_t
    uint16_t
    int32_t


# What is reduced: [outer, length, inner] along the length.
cdef struct IntLine:
    int64_t length, inner


cdef inline uint32_t neutral(int mode) noexcept nogil:
    """What a reduction begins with."""
    if mode == PRODUCT:
        return 1
    if mode == MIN:
        return <uint32_t>INT32_MAX
    if mode == MAX:
        return <uint32_t>INT32_MIN
    return 0


cdef inline uint32_t combined(int mode, uint32_t total, int32_t x) noexcept nogil:
    if mode == PRODUCT:
        return total * <uint32_t>x
    if mode == SUM_SQR:
        return total + <uint32_t>x * <uint32_t>x
    if mode == MIN:
        return <uint32_t>min(<int32_t>total, x)
    if mode == MAX:
        return <uint32_t>max(<int32_t>total, x)
    return total + <uint32_t>x


cdef inline inlined reduce_columns(
    int mode, const number* x, IntLine line, int64_t n, int32_t zero, uint32_t* totals
) noexcept nogil:
    """n results side by side."""
    cdef int64_t r, i
    cdef uint32_t total = neutral(mode)
    if line.inner == 1:
        for r in range(line.length):
            total = combined(mode, total, <int32_t>x[r] - zero)
        totals[0] = total
        return
    for i in range(n):
        totals[i] = total
    for r in range(line.length):
        for i in range(n):
            totals[i] = combined(mode, totals[i], <int32_t>x[r * line.inner + i] - zero)


cdef void reduce_numbers(
    int64_t mode, const number* x, IntLine line, int64_t n, int32_t zero, uint32_t* totals
) noexcept nogil:
    if mode == SUM or mode == MEAN:
        reduce_columns(SUM, x, line, n, zero, totals)
    elif mode == SUM_SQR:
        reduce_columns(SUM_SQR, x, line, n, zero, totals)
    elif mode == PRODUCT:
        reduce_columns(PRODUCT, x, line, n, zero, totals)
    elif mode == MIN:
        reduce_columns(MIN, x, line, n, zero, totals)
    elif mode == MAX:
        reduce_columns(MAX, x, line, n, zero, totals)


# ---- positions -----------------------------------------------------------------------------------------------------

cdef inline int32_t place_in_run(bint largest, const number* x, int64_t n) noexcept nogil:
    """Of n neighbours. First the value is found, then its first place: both as vectors."""
    cdef int32_t value = x[0]
    cdef int64_t r, first = 0
    cdef bint found
    for r in range(1, n):
        value = max(value, <int32_t>x[r]) if largest else min(value, <int32_t>x[r])
    while n - first > BLOCK:
        found = False
        for r in range(BLOCK):
            found |= x[first + r] == <number>value
        if found:
            break
        first += BLOCK
    while x[first] != <number>value:
        first += 1
    return <int32_t>first


cdef inline int32_t place_in_column(bint largest, const number* x, IntLine line) noexcept nogil:
    cdef int32_t best = x[0], v
    cdef int64_t r, place = 0
    for r in range(1, line.length):
        v = x[r * line.inner]
        if v > best if largest else v < best:
            best = v
            place = r
    return <int32_t>place


cdef inline inlined find_columns(
    bint largest, const number* x, IntLine line, int64_t n, int32_t* best, int32_t* places
) noexcept nogil:
    cdef int64_t r, i
    cdef int32_t v
    cdef bint better
    if line.inner == 1:
        places[0] = place_in_run(largest, x, line.length)
        return
    if n < FEW:
        for i in range(n):
            places[i] = place_in_column(largest, x + i, line)
        return
    for i in range(n):
        best[i] = x[i]
        places[i] = 0
    for r in range(1, line.length):
        for i in range(n):
            v = x[r * line.inner + i]
            better = v > best[i] if largest else v < best[i]
            best[i] = v if better else best[i]
            places[i] = <int32_t>r if better else places[i]


cdef void find_numbers(
    bint largest, const number* x, IntLine line, int64_t n, int32_t* best, int32_t* places
) noexcept nogil:
    if largest:
        find_columns(True, x, line, n, best, places)
    else:
        find_columns(False, x, line, n, best, places)


# ---- both ----------------------------------------------------------------------------------------------------------

cdef inline inlined do_numbers(
    bint FINDS, int64_t mode, const number* x, IntLine line, int64_t n, int32_t zero, uint32_t* totals, int32_t* places
) noexcept nogil:
    """n results side by side. With FINDS, the places of the largest elements (mode MAX) or the smallest ones."""
    if FINDS:
        find_numbers(mode == MAX, x, line, n, <int32_t*>totals, places)
    else:
        reduce_numbers(mode, x, line, n, zero, totals)


cdef inline inlined do_elements(
    bint FINDS, int64_t mode, const char* x, int64_t size, bint is_signed, IntLine line, int64_t n, int32_t zero,
    uint32_t* totals, int32_t* places
) noexcept nogil:
    """do_numbers for elements of `size` bytes."""
    if size == 4:
        do_numbers(FINDS, mode, <const int32_t*>x, line, n, zero, totals, places)
    elif size == 2 and is_signed:
        do_numbers(FINDS, mode, <const int16_t*>x, line, n, zero, totals, places)
    elif size == 2:
        do_numbers(FINDS, mode, <const uint16_t*>x, line, n, zero, totals, places)
    elif is_signed:
        do_numbers(FINDS, mode, <const int8_t*>x, line, n, zero, totals, places)
    else:
        do_numbers(FINDS, mode, <const uint8_t*>x, line, n, zero, totals, places)


cdef inline uint32_t quotient(uint32_t total, int64_t size, bint is_signed, int64_t divisor) noexcept nogil:
    """The number in the low `size` bytes of total, divided and rounded towards zero. Those of 4 bytes are signed."""
    cdef int unused = <int>(32 - 8 * size)
    cdef uint32_t high = total << unused
    return <uint32_t>((<int32_t>high >> unused if is_signed or size == 4 else <int64_t>(high >> unused)) // divisor)


cdef inline inlined store_numbers(char* y, const uint32_t* totals, int64_t n, int64_t size) noexcept nogil:
    """The low `size` bytes of totals."""
    cdef int64_t i
    if size == 4:
        for i in range(n):
            (<uint32_t*>y)[i] = totals[i]
    elif size == 2:
        for i in range(n):
            (<uint16_t*>y)[i] = <uint16_t>totals[i]
    else:
        for i in range(n):
            (<uint8_t*>y)[i] = <uint8_t>totals[i]


cdef struct ReduceIntArgs:
    const char* x
    char* y
    int64_t mode, length, inner, size, is_signed, zero, y_size, divisor


def scratch_bytes():
    """Bytes of scratch of reduce_int and arg_reduce_int: the results of a work item."""
    return COLUMNS * 2 * sizeof(uint32_t)


cdef void reduce_int(const ReduceIntArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """x [outer, length, inner] to y [outer, inner]; elements have `size` bytes, results y_size, with the same sign.

    `zero` is subtracted before. One work item = COLUMNS results of one outer index. Scratch: scratch_bytes().
    """
    cdef uint32_t* totals = <uint32_t*>scratch
    cdef IntLine line = IntLine(a.length, a.inner)
    cdef int64_t chunks = (a.inner + COLUMNS - 1) // COLUMNS
    cdef int64_t item, first, n, i
    cdef const char* x
    for item in range(begin, end):
        first = item % chunks * COLUMNS
        n = min(a.inner - first, COLUMNS)
        x = a.x + (item // chunks * a.length * a.inner + first) * a.size
        do_elements(False, a.mode, x, a.size, a.is_signed, line, n, <int32_t>a.zero, totals, NULL)
        if a.divisor > 1:
            for i in range(n):
                totals[i] = quotient(totals[i], a.y_size, a.is_signed, a.divisor)
        store_numbers(a.y + (item // chunks * a.inner + first) * a.y_size, totals, n, a.y_size)


cdef struct ArgReduceIntArgs:
    const char* x
    int32_t* y
    int64_t largest, length, inner, size, is_signed


cdef void arg_reduce_int(const ArgReduceIntArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """The place of the first largest (or smallest) element; layout and work items are those of reduce_int."""
    cdef IntLine line = IntLine(a.length, a.inner)
    cdef int64_t chunks = (a.inner + COLUMNS - 1) // COLUMNS
    cdef int64_t item, first, n
    cdef const char* x
    cdef int32_t* places
    for item in range(begin, end):
        first = item % chunks * COLUMNS
        n = min(a.inner - first, COLUMNS)
        x = a.x + (item // chunks * a.length * a.inner + first) * a.size
        places = a.y + item // chunks * a.inner + first
        do_elements(
            True, MAX if a.largest else MIN, x, a.size, a.is_signed, line, n, 0, <uint32_t*>scratch, places
        )


# ---- running sums --------------------------------------------------------------------------------------------------

cdef void add_up(
    const number* x, number* y, int64_t length, int64_t inner, bint exclusive, bint reverse
) noexcept nogil:
    """One column. Narrow numbers keep the low bits of the sum whatever their sign."""
    cdef uint32_t own = 0 if exclusive else <uint32_t>-1  # a mask: whether an element is part of its own sum
    cdef uint32_t total = 0, v
    cdef int64_t step = -inner if reverse else inner
    cdef int64_t r, place = (length - 1) * inner if reverse else 0
    for r in range(length):
        v = <uint32_t><int32_t>x[place]
        y[place] = <number>(total + (v & own))
        total += v
        place += step


cdef struct CumsumIntArgs:
    const char* x
    char* y
    int64_t length, inner, size, exclusive, reverse


cdef void cumsum_int(const CumsumIntArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """x [outer, length, inner] to y of the same shape. One work item = one column."""
    cdef int64_t item, place
    for item in range(begin, end):
        place = (item // a.inner * a.length * a.inner + item % a.inner) * a.size
        if a.size == 4:
            add_up(<const int32_t*>(a.x + place), <int32_t*>(a.y + place), a.length, a.inner, a.exclusive, a.reverse)
        elif a.size == 2:
            add_up(<const int16_t*>(a.x + place), <int16_t*>(a.y + place), a.length, a.inner, a.exclusive, a.reverse)
        else:
            add_up(<const int8_t*>(a.x + place), <int8_t*>(a.y + place), a.length, a.inner, a.exclusive, a.reverse)


MODES = (SUM, SUM_SQR, PRODUCT, MIN, MAX, MEAN)  # planners refuse all others

include "reduce_int_table.pxi"
