# The float32 functions of the operator Elemwise, by mode number, on vectors.
#
# `mode` is a constant wherever these are called, so that each call shrinks to one function. Rare functions call the C
# library lane by lane.
from libc.math cimport (
    INFINITY, NAN, acoshf, asinhf, atanhf, erf, erfc, erfcf, exp, fmodf, log, sqrt, tanf,
)

from megengine_lite.kernels.common.simd cimport (
    VW, inlined, outlined, vf, vf_eq, vf_floor, vf_fma, vf_le, vf_load, vf_lt, vf_max, vf_min, vf_product,
    vf_rint, vf_select, vf_set1, vf_sqrt, vf_store, vf_zero, vi,
)
from megengine_lite.kernels.common.trigonometry cimport v_acos, v_asin, v_atan2, v_cos, v_sin
from megengine_lite.kernels.common.vmath cimport (
    v_abs, v_ceil, v_cosh, v_erf, v_exp, v_exp_low, v_expm1, v_gelu, v_gelu_tanh, v_h_sigmoid, v_h_swish, v_is_nan,
    v_log, v_log1p, v_minus_abs, v_pow, v_round, v_sigmoid, v_sign_bit, v_sinh, v_softplus, v_tanh,
)

# The numbers of the modes are those of ElemwiseMode in _core/ir/params/elemwise.py: tools/kernel_tables.py makes the
# enumeration `Mode` of it, which ends with MODE_COUNT.
include "elemwise_mode_numbers.pxi"

# Modes of the kernel alone: two limits at once.
cdef enum:
    MAX_MIN = MODE_COUNT  # min(c, max(b, x))
    MIN_MAX = MODE_COUNT + 1


# ---- lane by lane --------------------------------------------------------------------------------------------------

cdef inline double erfcinv(double q) noexcept nogil:
    """Inverse of erfc on (0, 1]: Winitzki's closed approximation, good to 2e-3, and Newton steps."""
    cdef double t, x
    cdef int k
    if q == 0.0:
        return INFINITY
    t = log(q * (2.0 - q))
    x = 4.330746750799873 + 0.5 * t  # 2 / (0.147 pi)
    x = sqrt(sqrt(x * x - t / 0.147) - x)
    for k in range(4):
        x += (erfc(x) - q) / (1.1283791670955126 * exp(-x * x))
    return x


cdef inline double erfinv(double y) noexcept nogil:
    cdef double x
    cdef int k
    if y != y or y > 1.0 or y < -1.0:
        return NAN
    if y > 0.5:
        return erfcinv(1.0 - y)
    if y < -0.5:
        return -erfcinv(1.0 + y)
    x = y * 0.886226925452758
    for k in range(5):
        x -= (erf(x) - y) / (1.1283791670955126 * exp(-x * x))
    return x


cdef inline double erfcinv_full(double q) noexcept nogil:
    if q != q or q < 0.0 or q > 2.0:
        return NAN
    if q < 0.5:
        return erfcinv(q)
    if q > 1.5:
        return -erfcinv(2.0 - q)
    return erfinv(1.0 - q)


cdef inline vf flushed(vf x) noexcept nogil:
    """Denormal numbers as zeros: the C library may look at their bits."""
    return vf_select(vf_eq(x, vf_zero()), v_sign_bit(x), x)


cdef inline outlined by_lane1(int mode, vf* x) noexcept nogil:
    cdef float v[VW]
    cdef int k
    vf_store(v, flushed(x[0]))
    for k in range(VW):
        if mode == ERFINV:
            v[k] = <float>erfinv(v[k])
        elif mode == ERFC:
            v[k] = erfcf(v[k])
        elif mode == ERFCINV:
            v[k] = <float>erfcinv_full(v[k])
        elif mode == ASINH:
            v[k] = asinhf(v[k])
        elif mode == ACOSH:
            v[k] = acoshf(v[k])
        elif mode == ATANH:
            v[k] = atanhf(v[k])
        elif mode == TAN:
            v[k] = tanf(v[k])
        else:  # no such mode: nothing that could be taken for a result
            v[k] = NAN
    x[0] = vf_load(v)


cdef inline outlined by_lane2(int mode, vf* x, vf y) noexcept nogil:
    cdef float v[VW]
    cdef float w[VW]
    cdef int k
    vf_store(v, flushed(x[0]))
    vf_store(w, flushed(y))
    for k in range(VW):
        v[k] = fmodf(v[k], w[k]) if mode == MOD else NAN
    x[0] = vf_load(v)


# ---- one function each ---------------------------------------------------------------------------------------------

cdef inline vf v_where(vi mask, vf yes) noexcept nogil:
    return <vf>(mask & <vi>yes)


cdef inline vf v_bool(vi mask) noexcept nogil:
    return v_where(mask, vf_set1(1.0))


cdef inline inlined mode1(int mode, vf* x) noexcept nogil:
    """x = f(x)."""
    cdef vf v = x[0]
    cdef vf one = vf_set1(1.0)
    cdef vf t
    if mode == RELU:
        x[0] = vf_max(v, vf_zero())
    elif mode == NAN_RELU:
        x[0] = vf_max(vf_zero(), v)  # the second operand is the result if one is NaN
    elif mode == ABS:
        x[0] = v_abs(v)
    elif mode == CEIL:
        x[0] = v_ceil(v)
    elif mode == COS:
        x[0] = v_cos(v)
    elif mode == EXP:
        x[0] = v_exp(v)
    elif mode == EXPM1:
        x[0] = v_expm1(v)
    elif mode == FLOOR:
        x[0] = vf_floor(v)
    elif mode == LOG:
        x[0] = v_log(v)
    elif mode == LOG1P:
        x[0] = v_log1p(v)
    elif mode == NEGATE:
        x[0] = -v
    elif mode == SIGMOID:
        x[0] = v_sigmoid(v)
    elif mode == SIN:
        x[0] = v_sin(v)
    elif mode == TANH:
        x[0] = v_tanh(v)
    elif mode == FAST_TANH:
        t = v * v
        x[0] = v * (t + vf_set1(27.0)) / (t * vf_set1(9.0) + vf_set1(27.0))
    elif mode == ROUND:
        x[0] = v_round(v)
    elif mode == ERF:
        x[0] = v_erf(v)
    elif mode == H_SWISH:
        x[0] = v_h_swish(v)
    elif mode == SILU:
        x[0] = v * v_sigmoid(v)
    elif mode == GELU:
        x[0] = v_gelu(v)
    elif mode == GELU_TANH:
        x[0] = v_gelu_tanh(v)
    elif mode == ROUND_EVEN:
        x[0] = vf_rint(v)
    elif mode == ISNAN:
        x[0] = v_bool(v_is_nan(v))
    elif mode == ISINF:
        x[0] = v_bool(vf_eq(v_abs(v), vf_set1(INFINITY)))
    elif mode == SOFTPLUS:
        x[0] = v_softplus(v)
    elif mode == ASIN:
        x[0] = v_asin(v)
    elif mode == ACOS:
        x[0] = v_acos(v)
    elif mode == SINH:
        x[0] = v_sinh(v)
    elif mode == COSH:
        x[0] = v_cosh(v)
    elif mode == LOGSIGMOID:
        x[0] = -v_softplus(-v)
    elif mode == RELU6:
        x[0] = vf_max(vf_min(v, vf_set1(6.0)), vf_zero())
    elif mode == HSIGMOID:
        x[0] = v_h_sigmoid(v)
    elif mode == SQRT:
        x[0] = vf_sqrt(v)
    elif mode == SQUARE:
        x[0] = v * v
    elif mode == SIGN:
        x[0] = v_bool(vf_lt(vf_zero(), v)) - v_bool(vf_lt(v, vf_zero()))
    elif mode == NAN_SIGN:
        t = v_bool(vf_lt(vf_zero(), v)) - v_bool(vf_lt(v, vf_zero()))
        x[0] = vf_select(v_is_nan(v), v, t)
    else:
        by_lane1(mode, x)


cdef inline inlined mode2(int mode, vf* x, vf b) noexcept nogil:
    """x = f(x, b)."""
    cdef vf a = x[0]
    cdef vf one = vf_set1(1.0)
    cdef vf s, t
    if mode == ABS_GRAD:
        x[0] = vf_select(vf_lt(vf_zero(), a), b, -b)
    elif mode == ADD:
        x[0] = a + b
    elif mode == FLOOR_DIV:
        x[0] = vf_floor(a / b)
    elif mode == MAX:
        x[0] = vf_max(a, b)
    elif mode == MIN:
        x[0] = vf_min(a, b)
    elif mode == NAN_MAX:
        x[0] = vf_select(v_is_nan(a), a, vf_max(a, b))
    elif mode == NAN_MIN:
        x[0] = vf_select(v_is_nan(a), a, vf_min(a, b))
    elif mode == MUL:
        x[0] = a * b
    elif mode == POW:
        x[0] = v_pow(a, b)
    elif mode == SIGMOID_GRAD:
        x[0] = a * (one - a) * b
    elif mode == ATAN2:
        x[0] = v_atan2(a, b)
    elif mode == SUB:
        x[0] = a - b
    elif mode == SWITCH_GT0:
        x[0] = v_where(vf_lt(vf_zero(), a), b)
    elif mode == TANH_GRAD:
        x[0] = (one - a * a) * b
    elif mode == TRUE_DIV:
        x[0] = a / b
    elif mode == LOG_SUM_EXP:
        s = vf_select(vf_lt(a, b), b, a)
        t = vf_select(vf_lt(a, b), a, b)
        x[0] = s + v_log1p(v_exp_low(t - s))
    elif mode == LT:
        x[0] = v_bool(vf_lt(a, b))
    elif mode == LEQ:
        x[0] = v_bool(vf_le(a, b))
    elif mode == EQ:
        x[0] = v_bool(vf_eq(a, b))
    elif mode == NEQ:
        x[0] = v_bool(~vf_eq(a, b))
    elif mode == FUSE_ADD_RELU:
        x[0] = vf_max(a + b, vf_zero())
    elif mode == FUSE_ADD_SIGMOID:
        x[0] = v_sigmoid(a + b)
    elif mode == FUSE_ADD_TANH:
        x[0] = v_tanh(a + b)
    elif mode == FUSE_ADD_H_SWISH:
        x[0] = v_h_swish(a + b)
    elif mode == FAST_TANH_GRAD:
        s = a * a
        t = s + vf_set1(3.0)
        x[0] = (vf_set1(-48.0) * s / t + vf_set1(27.0) + s) / (vf_set1(9.0) * t) * b
    elif mode == H_SWISH_GRAD:
        t = (a + a + vf_set1(3.0)) * vf_set1(0.16666666666666666) * b
        t = vf_select(vf_lt(vf_set1(3.0), a), b, t)
        x[0] = vf_select(vf_lt(a, vf_set1(-3.0)), vf_zero(), t)
    elif mode == SILU_GRAD:
        s = v_sigmoid(a)
        x[0] = b * s * (one + a * (one - s))
    elif mode == GELU_GRAD:
        s = vf_fma(v_erf(a * vf_set1(0.7071067811865476)), vf_set1(0.5), vf_set1(0.5))
        t = vf_set1(0.3989422804014327) * v_exp_low(vf_set1(-0.5) * a * a)
        x[0] = b * (s + a * t)
    elif mode == ASINH_GRAD:
        x[0] = b / vf_sqrt(a * a + one)
    elif mode == ACOSH_GRAD:
        x[0] = b / vf_sqrt(a * a - one)
    elif mode == ATANH_GRAD:
        x[0] = b / (one - a * a)
    elif mode == PRELU:
        x[0] = vf_select(vf_lt(vf_zero(), a), a, a * b)
    elif mode == SOFTPLUS_GRAD:
        t = v_exp_low(v_minus_abs(a))
        s = b * t / (one + t)
        x[0] = vf_select(vf_lt(vf_zero(), a), b - s, s)
    elif mode == RELU6_GRAD:  # NaN lets b pass, here and below
        x[0] = v_where(~(vf_le(a, vf_zero()) | vf_le(vf_set1(6.0), a)), b)
    elif mode == HSIGMOID_GRAD:
        x[0] = v_where(~vf_le(vf_set1(3.0), v_abs(a)), b * vf_set1(0.16666666666666666))
    else:
        by_lane2(mode, x, b)


cdef inline inlined mode3(int mode, vf* x, vf b, vf c) noexcept nogil:
    """x = f(x, b, c)."""
    cdef vf a = x[0]
    if mode == FUSE_MUL_ADD3:
        x[0] = vf_product(a, b) + c  # two roundings: an overflow in between is the same on every instruction set
    elif mode == COND_LEQ_MOV:
        x[0] = v_where(vf_le(a, b), c)
    elif mode == COND_LT_MOV:
        x[0] = v_where(vf_lt(a, b), c)
    elif mode == CLIP:
        x[0] = vf_select(vf_le(a, b), b, vf_select(vf_le(a, c), a, c))
    elif mode == PRELU_GRAD:
        x[0] = vf_select(vf_le(vf_zero(), a), b, b * c)
    elif mode == MAX_MIN:
        x[0] = vf_min(c, vf_max(b, a))
    elif mode == MIN_MAX:
        x[0] = vf_max(c, vf_min(b, a))
    else:
        x[0] = vf_set1(NAN)
