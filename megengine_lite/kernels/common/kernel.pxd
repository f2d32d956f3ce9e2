# The one calling convention of all kernels.
#
# A kernel gets its arguments in a struct of its own, declared beside it. The names that callers use are made from that
# struct (tools/kernel_tables.py). It computes the work items begin..end-1 of the `work` it was planned with; items are
# independent, so that a pool may split them. `scratch` is memory of the calling thread, of the size that the plan
# reserved. A kernel allocates nothing and cannot fail.
from libc.stdint cimport int64_t

ctypedef void (*kernel_fn)(const void* a, int64_t begin, int64_t end, void* scratch) noexcept nogil
