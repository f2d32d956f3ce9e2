# Elementary functions on vectors, and the activation functions of fused epilogues.
#
# Unless a function says otherwise, its error is below 4 units in the last place over the whole range (measured by
# tests/kernels/test_kernels_elemwise.py), and NaN gives NaN. vf_min and vf_max give their second operand if one is NaN; the
# order of operands below relies on it. Coefficients are minimax fits of the error of the final result.
from libc.math cimport INFINITY, NAN, cosf, sinf
from libc.stdint cimport int32_t, uint64_t

from megengine_lite.kernels.common.simd cimport (
    VW, inlined, outlined, vd, vd_high, vd_low, vd_max, vd_min, vd_set1, vdu, vdu_set1, vf, vf_eq, vf_floor, vf_fma,
    vf_from_vd, vf_ldexp, vf_le, vf_load, vf_lt, vf_max, vf_min, vf_rint, vf_select, vf_set1, vf_sqrt, vf_store,
    vf_to_vi, vf_trunc, vf_zero, vi, vi_any, vi_set1, vi_to_vf, vu,
)

include "activation_numbers.pxi"


# ---- bits ----------------------------------------------------------------------------------------------------------

cdef inline vf v_abs(vf x) noexcept nogil:
    return <vf>(<vi>x & vi_set1(0x7FFFFFFF))


cdef inline vf v_sign_bit(vf x) noexcept nogil:
    return <vf>(<vi>x & vi_set1(<int32_t>0x80000000))


cdef inline vf v_xor(vf x, vf y) noexcept nogil:
    return <vf>(<vi>x ^ <vi>y)


cdef inline vf v_copysign(vf magnitude, vf sign) noexcept nogil:
    return <vf>(<vi>v_abs(magnitude) | <vi>v_sign_bit(sign))


cdef inline vi v_is_nan(vf x) noexcept nogil:
    return ~vf_eq(x, x)


# ---- rounding ------------------------------------------------------------------------------------------------------

cdef inline vf v_round(vf x) noexcept nogil:
    """To nearest, halves away from zero. The addend is the largest number below 1/2: 0.49999997 must stay 0."""
    return vf_trunc(x + v_copysign(vf_set1(0.49999997), x))


cdef inline vf v_ceil(vf x) noexcept nogil:
    return -vf_floor(-x)


# ---- exponential and logarithm -------------------------------------------------------------------------------------

cdef inline vf v_exp_tail(vf r) noexcept nogil:
    """(e^r - 1 - r) / r^2 for |r| <= ln(2) / 2."""
    cdef vf p = vf_fma(vf_set1(0.0013950809370726347), r, vf_set1(0.008369073271751404))
    p = vf_fma(p, r, vf_set1(0.04166620224714279))
    p = vf_fma(p, r, vf_set1(0.16666516661643982))
    return vf_fma(p, r, vf_set1(0.5))


cdef inline vf v_exp_reduce(vf x, vf n) noexcept nogil:
    """x - n ln 2; the first part of ln 2 has few bits, so that its product with n is exact."""
    return vf_fma(n, vf_set1(-1.428606765330187e-06), vf_fma(n, vf_set1(-0.693145751953125), x))


cdef inline vf v_exp(vf x) noexcept nogil:
    cdef vf c = vf_max(vf_set1(-105.0), vf_min(vf_set1(89.0), x))
    cdef vf n = vf_rint(c * vf_set1(1.4426950408889634))
    cdef vf r = v_exp_reduce(c, n)
    return vf_ldexp(vf_fma(v_exp_tail(r), r * r, r) + vf_set1(1.0), n)


cdef inline vf v_expm1(vf x) noexcept nogil:
    """e^x - 1, accurate near 0. Works with half of 2^n so that nothing overflows before the result does."""
    cdef vf c = vf_max(vf_set1(-18.0), vf_min(vf_set1(89.0), x))
    cdef vf n = vf_rint(c * vf_set1(1.4426950408889634))
    cdef vf r = v_exp_reduce(c, n)
    cdef vf p = vf_fma(v_exp_tail(r), r * r, r)
    cdef vf half = vf_ldexp(vf_set1(0.5), n)
    cdef vf y = vf_fma(p, half, half - vf_set1(0.5))
    # x itself near 0 keeps the sign of -0
    return vf_select(vf_lt(v_abs(x), vf_set1(1e-8)), x, y + y)


cdef inline vf v_log(vf x) noexcept nogil:
    """Natural logarithm: -inf at 0, NaN below."""
    cdef vi tiny = vf_lt(x, vf_set1(1.1754943508222875e-38))
    cdef vf scaled = vf_select(tiny, x * vf_set1(33554432.0), x)
    # exponent e and f = m - 1 with m in [sqrt(1/2), sqrt(2))
    cdef vi e = <vi>(<vu>scaled - <vu>vi_set1(0x3F3504F3)) >> 23
    cdef vf f = <vf>(<vu>scaled - (<vu>e << 23)) - vf_set1(1.0)
    cdef vf n = vi_to_vf(e) - vf_select(tiny, vf_set1(25.0), vf_zero())
    cdef vf f2 = f * f
    cdef vf p = vf_fma(vf_set1(-0.07634492963552475), f, vf_set1(0.12761574983596802))
    p = vf_fma(p, f, vf_set1(-0.13160182535648346))
    p = vf_fma(p, f, vf_set1(0.14201758801937103))
    p = vf_fma(p, f, vf_set1(-0.16623356938362122))
    p = vf_fma(p, f, vf_set1(0.20001226663589478))
    p = vf_fma(p, f, vf_set1(-0.2500081956386566))
    p = vf_fma(p, f, vf_set1(0.3333333134651184))
    cdef vf y = vf_fma(p * f, f2, vf_fma(f2, vf_set1(-0.5), n * vf_set1(1.428606765330187e-06))) + f
    y = vf_fma(n, vf_set1(0.693145751953125), y)
    y = vf_select(vf_eq(x, vf_set1(INFINITY)), x, y)
    y = vf_select(vf_eq(x, vf_zero()), vf_set1(-INFINITY), y)
    return vf_select(vf_le(vf_zero(), x), y, vf_set1(NAN))


cdef inline vf v_log1p(vf x) noexcept nogil:
    """ln(1 + x), accurate near 0: what the rounding of 1 + x loses is added again, to first order."""
    cdef vf u = x + vf_set1(1.0)
    cdef vf lost = vf_select(vf_lt(v_abs(x), vf_set1(1e8)), (x - (u - vf_set1(1.0))) / u, vf_zero())
    cdef vf y = v_log(u) + vf_select(vf_eq(u, vf_zero()), vf_zero(), lost)
    return vf_select(vf_eq(u, vf_set1(1.0)), x, y)


# ---- sigmoid family ------------------------------------------------------------------------------------------------

cdef inline vf v_sigmoid(vf x) noexcept nogil:
    return vf_set1(1.0) / (vf_set1(1.0) + v_exp(-x))


cdef inline vf v_tanh(vf x) noexcept nogil:
    cdef vf e = v_expm1(vf_set1(-2.0) * v_abs(x))
    return v_xor(e / (e + vf_set1(2.0)), <vf>(<vi>v_sign_bit(x) ^ vi_set1(<int32_t>0x80000000)))


cdef inline vf v_softplus(vf x) noexcept nogil:
    """ln(1 + e^x)."""
    return v_log1p(v_exp(-v_abs(x))) + vf_max(vf_zero(), x)


# ---- error function ------------------------------------------------------------------------------------------------

cdef inline vf v_erf(vf x) noexcept nogil:
    """x P(x^2) / Q(x^2) up to 3.925, where erf rounds to 1; error 7 units in the last place of the result."""
    cdef vf c = vf_max(vf_set1(-3.925), vf_min(vf_set1(3.925), x))
    cdef vf t = c * c
    cdef vf p = vf_fma(vf_set1(-1.2829195483732292e-08), t, vf_set1(4.614699264493538e-06))
    p = vf_fma(p, t, vf_set1(0.00037696538493037224))
    p = vf_fma(p, t, vf_set1(0.00383947417140007))
    p = vf_fma(p, t, vf_set1(0.054249439388513565))
    p = vf_fma(p, t, vf_set1(0.18514174222946167))
    p = vf_fma(p, t, vf_set1(1.128379225730896))
    cdef vf q = vf_fma(vf_set1(6.245051190489903e-05), t, vf_set1(0.0013019733596593142))
    q = vf_fma(q, t, vf_set1(0.015432484447956085))
    q = vf_fma(q, t, vf_set1(0.11388050019741058))
    q = vf_fma(q, t, vf_set1(0.49741101264953613))
    q = vf_fma(q, t, vf_set1(1.0))
    cdef vf y = vf_select(vf_le(vf_set1(3.925), v_abs(c)), v_copysign(vf_set1(1.0), x), c * p / q)
    return vf_max(vf_set1(-1.0), vf_min(vf_set1(1.0), y))


cdef inline vf v_gelu(vf x) noexcept nogil:
    cdef vf half = x * vf_set1(0.5)
    return vf_fma(half, v_erf(x * vf_set1(0.7071067811865476)), half)


cdef inline vf v_gelu_tanh(vf x) noexcept nogil:
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, as x sigmoid(2 ...), in which nothing cancels."""
    cdef vf t = vf_fma(x * x, vf_set1(0.07135481282), vf_set1(1.5957691216))
    return x * v_sigmoid(x * t)


# ---- sine and cosine -----------------------------------------------------------------------------------------------

cdef inline outlined v_sincos_far(vf* x, int quadrant) noexcept nogil:
    """Arguments for which three parts of pi/2 are not enough: the C library, lane by lane."""
    cdef float lanes[VW]
    cdef int k
    vf_store(lanes, x[0])
    for k in range(VW):
        lanes[k] = cosf(lanes[k]) if quadrant else sinf(lanes[k])
    x[0] = vf_load(lanes)


cdef inline vf v_sincos(vf x, int quadrant) noexcept nogil:
    """sin(x + quadrant pi/2)."""
    # + 0, here and below, makes -0 positive: the sum of it and the multiple of a zero x keeps the sign of x
    cdef vf n = vf_rint(x * vf_set1(0.6366197723675814)) + vf_zero()
    # n has at most 13 bits and the first three parts of pi/2 have 11: the products are exact
    cdef vf r = vf_fma(n, vf_set1(-1.5703125), x)
    r = vf_fma(n, vf_set1(-0.0004837512969970703), r)
    r = vf_fma(n, vf_set1(-7.549533620476723e-08), r)
    r = vf_fma(n, vf_set1(-2.5633440682570896e-12), r)
    cdef vf t = r * r
    cdef vf s = vf_fma(vf_set1(-0.00019516480097081512), t, vf_set1(0.00833217240869999))
    s = vf_fma(s, t, vf_set1(-0.16666655242443085))
    s = vf_fma(vf_fma(s, t, vf_zero()), r, r)
    cdef vf c = vf_fma(vf_set1(2.4437533284071833e-05), t, vf_set1(-0.0013887359527871013))
    c = vf_fma(c, t, vf_set1(0.04166664555668831))
    c = vf_fma(c * t, t, vf_fma(t, vf_set1(-0.5), vf_set1(1.0)))
    cdef vi k = vf_to_vi(n) + vi_set1(quadrant)
    cdef vi odd = -(k & vi_set1(1))
    cdef vf y = v_xor(vf_select(odd, c, s), <vf>(<vu>(k & vi_set1(2)) << 30))
    cdef vi is_far = vf_lt(vf_set1(12000.0), v_abs(x))
    cdef vf far = x
    if vi_any(is_far):
        v_sincos_far(&far, quadrant)
        return vf_select(is_far, far, y)
    return y


cdef inline vf v_sin(vf x) noexcept nogil:
    return v_sincos(x, 0)


cdef inline vf v_cos(vf x) noexcept nogil:
    return v_sincos(x, 1)


# ---- power ---------------------------------------------------------------------------------------------------------

cdef inline vd v_pow_half(vd x, vd y) noexcept nogil:
    """x^y for positive finite x, in double precision with about 30 bits of accuracy."""
    # exponent and mantissa in [sqrt(1/2), sqrt(2)); the bias keeps the shifted number positive
    cdef vdu bits = <vdu>x
    cdef vdu e = (bits - vdu_set1(0x3FE6A09E667F3BCD) + vdu_set1(0x4000000000000000)) >> 52
    cdef vd m = <vd>(bits - (e << 52) + vdu_set1(0x4000000000000000))
    cdef vd exponent = <vd>(e + vdu_set1(0x4330000000000000)) - vd_set1(4503599627370496.0 + 1024.0)
    cdef vd s = (m - vd_set1(1.0)) / (m + vd_set1(1.0))
    cdef vd t = s * s
    cdef vd p = vd_set1(0.3407274338340026) * t + vd_set1(0.41167286452786755)
    p = p * t + vd_set1(0.5770835824473299)
    p = p * t + vd_set1(0.9617966733567129)
    p = p * t + vd_set1(2.885390081790066)
    cdef vd v = y * (p * s + exponent)
    v = vd_max(vd_set1(-1000.0), vd_min(vd_set1(1000.0), v))
    # 2^v: adding 1.5 2^52 rounds to an integer and leaves it in the low bits
    cdef vd shifted = v + vd_set1(6755399441055744.0)
    cdef vd f = v - (shifted - vd_set1(6755399441055744.0))
    cdef vd q = vd_set1(0.0001547632916854575) * f + vd_set1(0.001340029641432025)
    q = q * f + vd_set1(0.009618003790137792)
    q = q * f + vd_set1(0.05550327724588794)
    q = q * f + vd_set1(0.24022651346696255)
    q = q * f + vd_set1(0.6931472062791207)
    q = q * f + vd_set1(1.0)
    return <vd>(<vdu>q + (<vdu>shifted << 52))


cdef inline vf v_pow(vf x, vf y) noexcept nogil:
    """x^y with the special cases of C's pow."""
    cdef vf one = vf_set1(1.0)
    cdef vf a = v_abs(x)
    cdef vf r = vf_from_vd(v_pow_half(vd_low(a), vd_low(y)), v_pow_half(vd_high(a), vd_high(y)))
    cdef vi positive = vf_lt(vf_zero(), y)
    r = vf_select(vf_eq(a, vf_set1(INFINITY)), vf_select(positive, vf_set1(INFINITY), vf_zero()), r)
    r = vf_select(vf_eq(a, vf_zero()), vf_select(positive, vf_zero(), vf_set1(INFINITY)), r)
    r = vf_select(vf_eq(a, one), one, r)
    cdef vi whole = vf_eq(vf_rint(y), y)
    cdef vf half = y * vf_set1(0.5)
    cdef vi odd = whole & ~vf_eq(vf_rint(half), half)
    r = v_xor(r, <vf>(<vi>v_sign_bit(x) & odd))
    r = vf_select(vf_lt(x, vf_zero()) & ~whole & vf_lt(a, vf_set1(INFINITY)), vf_set1(NAN), r)
    r = vf_select(v_is_nan(x) | v_is_nan(y), vf_set1(NAN), r)
    return vf_select(vf_eq(y, vf_zero()) | vf_eq(x, one), one, r)


# ---- activation functions of fused epilogues -----------------------------------------------------------------------

cdef inline vf v_h_sigmoid(vf x) noexcept nogil:
    return vf_max(vf_zero(), vf_min(vf_set1(6.0), x + vf_set1(3.0))) * vf_set1(0.16666666666666666)


cdef inline vf v_h_swish(vf x) noexcept nogil:
    """x times a number up to 6, then divided by 6: the product may overflow, as in the original."""
    return x * vf_max(vf_zero(), vf_min(vf_set1(6.0), x + vf_set1(3.0))) * vf_set1(0.16666666666666666)


cdef inline inlined costly_activation(int code, vf* x, vf a) noexcept nogil:
    """The codes above ACT_CLIP_NAN; for loops that are compiled for one code."""
    if code == ACT_SIGMOID:
        x[0] = v_sigmoid(x[0])
    elif code == ACT_H_SWISH:
        x[0] = v_h_swish(x[0])
    elif code == ACT_SILU:
        x[0] = x[0] * v_sigmoid(x[0])
    elif code == ACT_H_SIGMOID:
        x[0] = v_h_sigmoid(x[0])
    elif code == ACT_TANH:
        x[0] = v_tanh(x[0])
    elif code == ACT_GELU:
        x[0] = v_gelu(x[0])
    elif code == ACT_GELU_TANH:
        x[0] = v_gelu_tanh(x[0])
    elif code == ACT_SOFTPLUS:
        x[0] = v_softplus(x[0])
    elif code == ACT_LEAKY_RELU:
        x[0] = vf_select(vf_lt(vf_zero(), x[0]), x[0], x[0] * a)


cdef inline outlined activate_rare(vf* x, int code, vf a) noexcept nogil:
    """Activations that cost more than a call."""
    costly_activation(code, x, a)


cdef inline vf activate(vf x, int code, vf a, vf b) noexcept nogil:
    """The activation `code` of x; RELU gives 0 for NaN, as the original does. Codes up to ACT_CLIP_NAN are
    cheap inline code, the others one call per vector."""
    cdef vf y = x
    if code == ACT_RELU:
        return vf_max(x, vf_zero())
    if code == ACT_CLIP:
        return vf_min(vf_max(x, a), b)
    if code == ACT_CLIP_HIGH:
        return vf_max(vf_min(x, b), a)
    if code == ACT_CLIP_NAN:
        return vf_min(b, vf_max(a, x))
    if code != ACT_NONE:
        activate_rare(&y, code, a)
    return y
