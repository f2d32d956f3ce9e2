# Trigonometric functions and their inverses on vectors, with the error that vmath promises.
from libc.math cimport cosf, sinf

from megengine_lite.kernels.common.simd cimport (
    VW, outlined, vf, vf_eq, vf_fma, vf_load, vf_lt, vf_max, vf_min, vf_rint, vf_select, vf_set1, vf_sqrt, vf_store,
    vf_to_vi, vf_zero, vi, vi_any, vi_set1, vu,
)
from megengine_lite.kernels.common.vmath cimport v_abs, v_copysign, v_sign_bit, v_xor


# ---- sine and cosine -----------------------------------------------------------------------------------------------

cdef inline outlined by_c_library(vf* x, int quadrant) noexcept nogil:
    """Arguments for which the parts of pi / 2 are not enough, lane by lane."""
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
        by_c_library(&far, quadrant)
        return vf_select(is_far, far, y)
    return y


cdef inline vf v_sin(vf x) noexcept nogil:
    return v_sincos(x, 0)


cdef inline vf v_cos(vf x) noexcept nogil:
    return v_sincos(x, 1)


# ---- inverse functions ---------------------------------------------------------------------------------------------

cdef inline vf v_arc_sine_part(vf a, vi above) noexcept nogil:
    """The arc sine of a in 0 .. 0.65, and half the arc cosine of a in 0.65 .. 1, where it is `above`."""
    cdef vf z = vf_select(above, (vf_set1(1.0) - a) * vf_set1(0.5), a * a)
    cdef vf s = vf_select(above, vf_sqrt(z), a)
    cdef vf p = vf_fma(vf_set1(0.074608214199543), z, vf_set1(-0.037551332265138626))
    p = vf_fma(p, z, vf_set1(0.0447566956281662))
    p = vf_fma(p, z, vf_set1(0.02562813088297844))
    p = vf_fma(p, z, vf_set1(0.045168738812208176))
    p = vf_fma(p, z, vf_set1(0.07497281581163406))
    p = vf_fma(p, z, vf_set1(0.1666671335697174))
    return vf_fma(p * z, s, s)


cdef inline vf v_asin(vf x) noexcept nogil:
    cdef vf a = v_abs(x)
    cdef vi above = vf_lt(vf_set1(0.65), a)
    cdef vf r = v_arc_sine_part(a, above)
    return v_copysign(vf_select(above, v_from_half_pi(r + r), r), x)


cdef inline vf v_acos(vf x) noexcept nogil:
    cdef vf a = v_abs(x)
    cdef vi above = vf_lt(vf_set1(0.65), a)
    cdef vf r = v_arc_sine_part(a, above)
    cdef vf near = v_from_half_pi(v_xor(r, v_sign_bit(x)))
    return vf_select(above, vf_select(vf_lt(x, vf_zero()), v_from_pi(r + r), r + r), near)


cdef inline vf v_from_half_pi(vf x) noexcept nogil:
    """pi / 2 - x."""
    return (vf_set1(1.5707963705062866) - x) + vf_set1(-4.371138828673793e-08)


cdef inline vf v_from_pi(vf x) noexcept nogil:
    return (vf_set1(3.1415927410125732) - x) + vf_set1(-8.742277657347586e-08)


cdef inline vf v_atan2(vf y, vf x) noexcept nogil:
    """The angle of a point, from that between it and the nearer axis."""
    cdef vf a = v_abs(x), b = v_abs(y)
    cdef vf low = vf_min(b, a), high = vf_max(a, b)  # one of them is NaN if a or b is
    cdef vf q = vf_select(vf_eq(low, high), vf_set1(1.0), low / high)  # both may be infinite, or zero
    q = vf_select(vf_eq(a + b, vf_zero()), vf_zero(), q)
    cdef vf t = q * q
    cdef vf p = vf_fma(vf_set1(-0.0017936493968591094), t, vf_set1(0.010914729908108711))
    p = vf_fma(p, t, vf_set1(-0.031178077682852745))
    p = vf_fma(p, t, vf_set1(0.05795782431960106))
    p = vf_fma(p, t, vf_set1(-0.08403463661670685))
    p = vf_fma(p, t, vf_set1(0.10952190309762955))
    p = vf_fma(p, t, vf_set1(-0.14264242351055145))
    p = vf_fma(p, t, vf_set1(0.19998548924922943))
    p = vf_fma(p, t, vf_set1(-0.33333298563957214))
    cdef vf r = vf_fma(p * t, q, q)
    r = vf_select(vf_lt(a, b), v_from_half_pi(r), r)
    r = vf_select(<vi>x >> 31, v_from_pi(r), r)
    return v_copysign(r, y)
