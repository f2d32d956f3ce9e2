# Elementary functions on vectors, and the activation functions of fused epilogues.
#
# Unless a function says otherwise, its error is below 4 units in the last place over the whole range (measured by
# tests/kernels/test_kernels_elemwise.py), and NaN gives NaN. vf_min and vf_max give their second operand if one is NaN; the
# order of operands below relies on it. Coefficients are minimax fits of the error of the final result.
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int32_t, uint64_t

from megengine_lite.kernels.common.simd cimport (
    inlined, outlined, vd, vd_high, vd_low, vd_max, vd_min, vd_set1, vdu, vdu_set1, vf, vf_eq, vf_floor, vf_fma,
    vf_from_vd, vf_le, vf_lt, vf_max, vf_max_nan, vf_min, vf_min_nan, vf_rint, vf_select, vf_set1, vf_trunc, vf_zero, vi,
    vi_any, vi_set1, vi_to_vf, vu,
)

include "activation_numbers.pxi"


# ---- bits ----------------------------------------------------------------------------------------------------------

cdef inline vf v_abs(vf x) noexcept nogil:
    return <vf>(<vi>x & vi_set1(0x7FFFFFFF))


cdef inline vf v_minus_abs(vf x) noexcept nogil:
    return <vf>(<vi>x | vi_set1(<int32_t>0x80000000))


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

cdef enum:
    BIAS = 12582912  # 1.5 2^23


cdef inline vf v_exp_tail(vf r) noexcept nogil:
    """(e^r - 1 - r) / r^2 for |r| <= ln(2) / 2."""
    cdef vf p = vf_fma(vf_set1(0.0013950809370726347), r, vf_set1(0.008369073271751404))
    p = vf_fma(p, r, vf_set1(0.04166620224714279))
    p = vf_fma(p, r, vf_set1(0.16666516661643982))
    return vf_fma(p, r, vf_set1(0.5))


cdef inline vf v_exp_reduce(vf x, vf n) noexcept nogil:
    """x - n ln 2; the first part of ln 2 has few bits, so that its product with n is exact."""
    return vf_fma(n, vf_set1(-1.428606765330187e-06), vf_fma(n, vf_set1(-0.693145751953125), x))


cdef inline vf v_exp_part(vf x, float bias, vf* scale) noexcept nogil:
    """e^x as (y + 1) scale: y is the result. The scale is 2^(n + bias - 127), where n + bias is in 0..254, and 0 for 0.

    `bias` comes with 1.5 2^23 added: a number of the size of that has no bits below 1, so that the sum is rounded to an
    integer, whose bits are those of the exponent.
    """
    cdef vf shifted = vf_fma(x, vf_set1(1.4426950408889634), vf_set1(bias))
    cdef vf r = v_exp_reduce(x, shifted - vf_set1(bias))
    scale[0] = <vf>(<vu>shifted << 23)
    return vf_fma(v_exp_tail(r), r * r, r)


cdef inline vf v_exp_low(vf x) noexcept nogil:
    """e^x for x up to 88. Below the smallest normal number it is 0."""
    cdef vf scale
    cdef vf y = v_exp_part(vf_max_nan(vf_set1(-88.0), x), BIAS + 127, &scale)
    return vf_fma(y, scale, scale)


cdef inline vf v_exp_half(vf x, vf* half) noexcept nogil:
    """v_exp_part for x between -86 and 89, with half of the scale, which thus does not overflow before the result does."""
    return v_exp_part(x, BIAS + 126, half)


cdef inline outlined v_exp_high(vf* x) noexcept nogil:
    """e^x for x from 88 on."""
    cdef vf half
    cdef vf y = v_exp_half(vf_min_nan(vf_set1(89.0), x[0]), &half)
    y = vf_fma(y, half, half)
    x[0] = y + y


cdef inline vf v_exp(vf x) noexcept nogil:
    """Below the smallest normal number it is 0."""
    cdef vi is_high = vf_lt(vf_set1(88.0), x)
    cdef vf y = v_exp_low(x)
    cdef vf high = x
    if vi_any(is_high):
        v_exp_high(&high)
        return vf_select(is_high, high, y)
    return y


cdef inline vf v_expm1(vf x) noexcept nogil:
    """e^x - 1, accurate near 0."""
    cdef vf half
    cdef vf p = v_exp_half(vf_max_nan(vf_set1(-18.0), vf_min_nan(vf_set1(89.0), x)), &half)
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


cdef inline vf v_hyperbolic(vf x, float sign) noexcept nogil:
    """(e^|x| + sign e^-|x|) / 2, by a quarter of e^|x|, which does not overflow before the result does."""
    cdef vf scale
    cdef vf y = v_exp_part(vf_min_nan(vf_set1(89.5), v_abs(x)), BIAS + 125, &scale)
    cdef vf quarter = vf_fma(y, scale, scale)
    return vf_fma(quarter, vf_set1(2.0), vf_set1(sign * 0.125) / quarter)


cdef inline vf v_sinh(vf x) noexcept nogil:
    """A polynomial up to 1."""
    cdef vf t = x * x
    cdef vf p = vf_fma(vf_set1(2.8169515644554392e-06), t, vf_set1(0.0001983615948120132))
    p = vf_fma(p, t, vf_set1(0.008333349600434303))
    p = vf_fma(p, t, vf_set1(0.1666666716337204))
    cdef vf near = vf_fma(p * t, x, x)
    return vf_select(vf_lt(v_abs(x), vf_set1(1.0)), near, v_copysign(v_hyperbolic(x, -1.0), x))


cdef inline vf v_cosh(vf x) noexcept nogil:
    return v_hyperbolic(x, 1.0)


# ---- sigmoid family ------------------------------------------------------------------------------------------------

cdef inline vf v_sigmoid(vf x) noexcept nogil:
    """e / (1 + e) with e = e^x below 0, 1 / (1 + e) with e = e^-x above: nothing overflows."""
    cdef vf e = v_exp_low(v_minus_abs(x))
    return vf_select(vf_lt(x, vf_zero()), e, vf_set1(1.0)) / (e + vf_set1(1.0))


cdef inline vf v_tanh(vf x) noexcept nogil:
    """m / (2 - m) with m = 1 - e^(-2 |x|), and the sign of x."""
    cdef vf scale
    cdef vf a = v_minus_abs(x)
    cdef vf p = v_exp_part(vf_max_nan(vf_set1(-18.0), a + a), BIAS + 127, &scale)
    cdef vf m = vf_fma(-p, scale, vf_set1(1.0) - scale)
    return <vf>(<vi>(m / (vf_set1(2.0) - m)) | <vi>v_sign_bit(x))


cdef inline vf v_softplus(vf x) noexcept nogil:
    """ln(1 + e^x)."""
    return v_log1p(v_exp_low(v_minus_abs(x))) + vf_max_nan(vf_zero(), x)


# ---- error function ------------------------------------------------------------------------------------------------

cdef inline vf v_erf(vf x) noexcept nogil:
    """x P(x^2) / Q(x^2) up to 3.925, where erf rounds to 1; error 7 units in the last place of the result."""
    cdef vf c = vf_max_nan(vf_set1(-3.925), vf_min_nan(vf_set1(3.925), x))
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
    return vf_max_nan(vf_set1(-1.0), vf_min_nan(vf_set1(1.0), y))


cdef inline vf v_gelu(vf x) noexcept nogil:
    cdef vf half = x * vf_set1(0.5)
    return vf_fma(half, v_erf(x * vf_set1(0.7071067811865476)), half)


cdef inline vf v_gelu_tanh(vf x) noexcept nogil:
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, as x sigmoid(2 ...), in which nothing cancels."""
    cdef vf t = vf_fma(x * x, vf_set1(0.07135481282), vf_set1(1.5957691216))
    return x * v_sigmoid(x * t)


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
    return vf_max_nan(vf_zero(), vf_min_nan(vf_set1(6.0), x + vf_set1(3.0))) * vf_set1(0.16666666666666666)


cdef inline vf v_h_swish(vf x) noexcept nogil:
    """x times a number up to 6, then divided by 6: the product may overflow, as in the original."""
    return x * vf_max_nan(vf_zero(), vf_min_nan(vf_set1(6.0), x + vf_set1(3.0))) * vf_set1(0.16666666666666666)


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
        return vf_min_nan(b, vf_max(x, a))
    if code == ACT_CLIP_HIGH:
        return vf_max_nan(a, vf_min(x, b))
    if code == ACT_CLIP_NAN:
        return vf_min_nan(b, vf_max_nan(a, x))
    if code != ACT_NONE:
        activate_rare(&y, code, a)
    return y
