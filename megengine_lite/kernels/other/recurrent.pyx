"""The pointwise part of recurrent cells; their matrix products are those of gemm."""

from libc.stdint cimport int64_t

from megengine_lite.kernels.common.simd cimport VW, vf, vf_fma, vf_load_n, vf_store_n
from megengine_lite.kernels.common.vmath cimport v_sigmoid, v_tanh


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


include "recurrent_table.pxi"
