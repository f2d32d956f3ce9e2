# The one calling convention of all kernels.
#
# A kernel gets its tensors in p, its sizes, strides and switches in i, its real numbers in f; the order is
# declared beside it in its module's KERNELS table, by name. It computes the work items begin..end-1 of the
# `work` it was planned with; items are independent, so that a pool may split them. `scratch` is memory of the
# calling thread, of the size that the plan reserved. A kernel allocates nothing and cannot fail.
from libc.stdint cimport int64_t


cdef extern from "kernel.h" nogil:
    ctypedef struct KernelArgs:
        void* p[16]
        int64_t i[64]
        double f[16]

    ctypedef void (*kernel_fn)(const KernelArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil
