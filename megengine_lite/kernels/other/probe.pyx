"""What a build can do: its registers and fused activations; multiply-adds at best, for benchmarks/kernels.py."""

from libc.stdint cimport int64_t

from megengine_lite.kernels.common.simd cimport DOT_STEPS, VREGS, VW, inlined, vf, vf_fma, vf_set1, vf_zero
from megengine_lite.kernels.common.vmath cimport ACT_COUNT, ACT_NONE, ACT_RELU, activate

# For tests, which compare with the table of instruction sets.
REGISTERS = VREGS
DOT_TAKES_STEPS = DOT_STEPS != 0


cdef bint has_activation(int code) noexcept nogil:
    """Whether kernels have a branch for a code: without one, a number stays as it is. All functions change -8."""
    cdef vf y = activate(vf_set1(-8), code, vf_set1(0.5), vf_set1(1))
    return code == ACT_NONE or (<float*>&y)[0] != -8


# Codes that kernels can apply to real results, and to sums of int8 products that they store as they are
# (common/requantize.pxd); planners refuse all others.
ACTIVATIONS = tuple([code for code in range(ACT_COUNT) if has_activation(code)])
SUM_ACTIVATIONS = (ACT_NONE, ACT_RELU)


cdef inline inlined multiply_add(int64_t rounds, float* out) noexcept nogil:
    """12 independent sums: enough to hide the latency of a multiply-add."""
    cdef vf acc[12]
    cdef vf a = vf_set1(out[0]), b = vf_set1(out[1])
    cdef int64_t k
    cdef int j
    for j in range(12):
        acc[j] = vf_zero()
    for k in range(rounds):
        for j in range(12):
            acc[j] = vf_fma(acc[j], a, b)
    b = acc[0]
    for j in range(1, 12):
        b = b + acc[j]
    out[0] = (<float*>&b)[0]


def run_multiply_adds(int64_t rounds):
    """Runs ``rounds`` x 12 vector multiply-adds from registers; gives the number of floating point operations."""
    cdef float out[2]
    out[0] = 0.5
    out[1] = 0.25
    with nogil:
        multiply_add(rounds, out)
    return rounds * 12 * VW * 2 if out[0] > 0 else 0
