"""The pointwise part of recurrent cells; their matrix products are those of gemm."""

import numpy as np

from libc.stdint cimport int64_t, uintptr_t

from megengine_lite.kernels.common.kernel cimport KernelArgs
from megengine_lite.kernels.common.simd cimport VW, vf, vf_fma, vf_load_n, vf_store_n
from megengine_lite.kernels.common.vmath cimport v_sigmoid, v_tanh


cdef void lstm_cell_f32(const KernelArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """c_out = sigmoid(f) c + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c_out), with the gates i f g o side by side.

    gates [batch][4 hidden], c and c_out (may be c) [batch][hidden], rows of h `h_row` floats apart. One work item = one
    row.
    """
    cdef int64_t hidden = a.i[0], h_row = a.i[1]
    cdef int64_t item, k, n
    cdef const float* gates
    cdef const float* c
    cdef float* c_out
    cdef float* h
    cdef vf cell
    for item in range(begin, end):
        gates = <const float*>a.p[0] + item * 4 * hidden
        c = <const float*>a.p[1] + item * hidden
        c_out = <float*>a.p[2] + item * hidden
        h = <float*>a.p[3] + item * h_row
        k = 0
        while k < hidden:
            n = min(<int64_t>VW, hidden - k)
            cell = v_sigmoid(vf_load_n(gates + k, n)) * v_tanh(vf_load_n(gates + 2 * hidden + k, n))
            cell = vf_fma(v_sigmoid(vf_load_n(gates + hidden + k, n)), vf_load_n(c + k, n), cell)
            vf_store_n(c_out + k, cell, n)
            vf_store_n(h + k, v_sigmoid(vf_load_n(gates + 3 * hidden + k, n)) * v_tanh(cell), n)
            k += VW


# name -> (address, pointers, integers, reals)
KERNELS = {
    "lstm_cell_f32": (<uintptr_t>&lstm_cell_f32, "gates c c_out h", "hidden h_row", ""),
}


# ---- Python functions that run a kernel on arrays: for tests, and to try one out ------------------------------------

def lstm_cell(const float[:, ::1] gates not None, const float[:, ::1] c not None):
    """One step of an LSTM from the sums of its gates.

    Parameters
    ----------
    gates : float32 array [batch, 4 hidden]
        Input, forget, cell and output gate before their activation.
    c : float32 array [batch, hidden]

    Returns
    -------
    h, c : float32 arrays [batch, hidden]
    """
    cdef KernelArgs a
    cdef Py_ssize_t batch = c.shape[0], hidden = c.shape[1]
    if gates.shape[0] != batch or gates.shape[1] != 4 * hidden:
        raise ValueError(f"gates must be of shape ({batch}, {4 * hidden})")
    h = np.empty((batch, hidden), np.float32)
    c_out = np.empty((batch, hidden), np.float32)
    cdef float[:, ::1] h_view = h
    cdef float[:, ::1] c_view = c_out
    if h.size == 0:
        return h, c_out
    a.p[0] = <void*>&gates[0, 0]
    a.p[1] = <void*>&c[0, 0]
    a.p[2] = &c_view[0, 0]
    a.p[3] = &h_view[0, 0]
    a.i[0] = hidden
    a.i[1] = hidden
    with nogil:
        lstm_cell_f32(&a, 0, batch, NULL)
    return h, c_out
