"""The pointwise part of recurrent cells; their matrix products are those of gemm."""

from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset

from megengine_lite.kernels.common.simd cimport VW, vf, vf_fma, vf_load_n, vf_max_nan, vf_min_nan, vf_set1, vf_store_n
from megengine_lite.kernels.common.vmath cimport v_sigmoid, v_tanh


cdef inline vf clipped(vf x, vf limit) noexcept nogil:
    """x between -limit and limit; NaN stays."""
    return vf_max_nan(-limit, vf_min_nan(limit, x))


cdef struct LstmCellArgs:
    const float* gates
    const float* c
    float* c_out
    float* h
    int64_t hidden, h_row


cdef void lstm_cell_f32(const LstmCellArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """c_out = sigmoid(f) c + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c_out), with the gates i f g o side by side.

    gates [batch][4 hidden], c and c_out (may be c) [batch][hidden], rows of h `h_row` floats apart. One work item = one
    row.
    """
    cdef int64_t hidden = a.hidden, h_row = a.h_row
    cdef int64_t item, k, n
    cdef const float* gates
    cdef const float* c
    cdef float* c_out
    cdef float* h
    cdef vf cell
    for item in range(begin, end):
        gates = a.gates + item * 4 * hidden
        c = a.c + item * hidden
        c_out = a.c_out + item * hidden
        h = a.h + item * h_row
        k = 0
        while k < hidden:
            n = min(<int64_t>VW, hidden - k)
            cell = v_sigmoid(vf_load_n(gates + k, n)) * v_tanh(vf_load_n(gates + 2 * hidden + k, n))
            cell = vf_fma(v_sigmoid(vf_load_n(gates + hidden + k, n)), vf_load_n(c + k, n), cell)
            vf_store_n(c_out + k, cell, n)
            vf_store_n(h + k, v_sigmoid(vf_load_n(gates + 3 * hidden + k, n)) * v_tanh(cell), n)
            k += VW


cdef struct LstmRulesArgs:
    const float* gates
    const float* peepholes
    const float* c
    float* c_out
    float* h
    double clip
    int64_t hidden, h_row, couples


cdef void lstm_rules_f32(const LstmRulesArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """lstm_cell_f32 with more rules: what goes into gates is clipped, infinity for none; if it `couples`, f is 1 - i.

    peepholes, [3 hidden] for i o f, or NULL, are multiplied by the cell and added to the gates; o sees the new cell.
    """
    cdef int64_t hidden = a.hidden, h_row = a.h_row
    cdef int64_t item, k, n
    cdef const float* gates
    cdef const float* c
    cdef float* c_out
    cdef float* h
    cdef vf cell, old, enter, forget, leave, limit = vf_set1(<float>a.clip)
    for item in range(begin, end):
        gates = a.gates + item * 4 * hidden
        c = a.c + item * hidden
        c_out = a.c_out + item * hidden
        h = a.h + item * h_row
        k = 0
        while k < hidden:
            n = min(<int64_t>VW, hidden - k)
            old = vf_load_n(c + k, n)
            enter, forget, leave = (
                vf_load_n(gates + k, n), vf_load_n(gates + hidden + k, n), vf_load_n(gates + 3 * hidden + k, n)
            )
            if a.peepholes:
                enter = vf_fma(vf_load_n(a.peepholes + k, n), old, enter)
                forget = vf_fma(vf_load_n(a.peepholes + 2 * hidden + k, n), old, forget)
            enter = v_sigmoid(clipped(enter, limit))
            forget = vf_set1(1) - enter if a.couples else v_sigmoid(clipped(forget, limit))
            cell = enter * v_tanh(clipped(vf_load_n(gates + 2 * hidden + k, n), limit))
            cell = vf_fma(forget, old, cell)
            if a.peepholes:
                leave = vf_fma(vf_load_n(a.peepholes + hidden + k, n), cell, leave)
            vf_store_n(c_out + k, cell, n)
            vf_store_n(h + k, v_sigmoid(clipped(leave, limit)) * v_tanh(cell), n)
            k += VW


cdef struct GruCellArgs:
    const float* x
    const float* s
    const float* h
    float* y
    double clip
    int64_t hidden, h_row, y_row, resets


cdef void gru_cell_f32(const GruCellArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y = (1 - z) n + z h with z = sigmoid of both sums and n = tanh(sum of x + sum of s).

    The sums of x and s stand side by side for update, reset and new state, [batch][3 hidden]. If it `resets`, the last
    sum of s is multiplied by the sigmoid of those for reset. Sums are clipped, infinity for none. Rows of h and y (may
    be h) are `h_row` and `y_row` floats apart. One work item = one row.
    """
    cdef int64_t hidden = a.hidden, item, k, n
    cdef const float* x
    cdef const float* s
    cdef const float* h
    cdef float* y
    cdef vf inner, fresh, limit = vf_set1(<float>a.clip)
    for item in range(begin, end):
        x = a.x + item * 3 * hidden
        s = a.s + item * 3 * hidden
        h = a.h + item * a.h_row
        y = a.y + item * a.y_row
        k = 0
        while k < hidden:
            n = min(<int64_t>VW, hidden - k)
            inner = vf_load_n(s + 2 * hidden + k, n)
            if a.resets:
                inner = inner * v_sigmoid(clipped(vf_load_n(x + hidden + k, n) + vf_load_n(s + hidden + k, n), limit))
            fresh = v_tanh(clipped(vf_load_n(x + 2 * hidden + k, n) + inner, limit))
            inner = v_sigmoid(clipped(vf_load_n(x + k, n) + vf_load_n(s + k, n), limit))
            vf_store_n(y + k, vf_fma(inner, vf_load_n(h + k, n) - fresh, fresh), n)
            k += VW


cdef struct GruResetArgs:
    const float* x
    const float* s
    const float* h
    float* y
    double clip
    int64_t hidden, h_row


cdef void gru_reset_f32(const GruResetArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y = sigmoid(sum of x + sum of s for reset) h, dense [batch][hidden], with the sums as in gru_cell_f32.

    One work item = one row.
    """
    cdef int64_t hidden = a.hidden, item, k, n
    cdef const float* x
    cdef const float* s
    cdef const float* h
    cdef float* y
    cdef vf limit = vf_set1(<float>a.clip)
    for item in range(begin, end):
        x = a.x + (item * 3 + 1) * hidden
        s = a.s + (item * 3 + 1) * hidden
        h = a.h + item * a.h_row
        y = a.y + item * hidden
        k = 0
        while k < hidden:
            n = min(<int64_t>VW, hidden - k)
            vf_store_n(
                y + k, v_sigmoid(clipped(vf_load_n(x + k, n) + vf_load_n(s + k, n), limit)) * vf_load_n(h + k, n), n
            )
            k += VW


cdef struct SequenceEndsArgs:
    const int32_t* lengths
    const float* c_new
    float* y
    float* h
    float* c
    int64_t t, hidden, y_row


cdef void sequence_ends_f32(const SequenceEndsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Takes over step `t` of sequences that are longer: h = y, and c = c_new unless c is NULL. In the others y = 0.

    h, c and c_new are dense [batch][hidden], rows of y are `y_row` floats apart. One work item = one row.
    """
    cdef int64_t hidden = a.hidden, item, nbytes = hidden * sizeof(float)
    for item in range(begin, end):
        if a.t < a.lengths[item]:
            memcpy(a.h + item * hidden, a.y + item * a.y_row, nbytes)
            if a.c:
                memcpy(a.c + item * hidden, a.c_new + item * hidden, nbytes)
        else:
            memset(a.y + item * a.y_row, 0, nbytes)


include "recurrent_table.pxi"
