# What becomes of the sums of a block: bias, another tensor, activation, and where they are stored. Included (cimported)
# by kernels of convolutions and matrix products.
from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from megengine_lite.kernels.common.arguments cimport Epilogue
from megengine_lite.kernels.common.simd cimport (
    VW, inlined, moved_by, moved_by_const, outlined, vf, vf_load, vf_max_nan, vf_max_number, vf_min_nan, vf_min_number, vf_set1,
    vf_store,
)
from megengine_lite.kernels.common.vmath cimport (
    ACT_CLIP_HIGH, ACT_CLIP_NAN, ACT_GELU, ACT_H_SWISH, ACT_NONE, ACT_RELU, ACT_SIGMOID, ACT_SILU, costly_activation,
)


# Where results go, and how sums become results: y = activation(sum + bias + z). bias and z may be NULL.
cdef struct BlockOutput:
    const float* bias
    const float* z
    int64_t z_pixel, z_plane
    float* y
    int64_t y_pixel, y_plane
    int code
    float a, b


cdef inline inlined set_activation(BlockOutput* o, const Epilogue* e) noexcept nogil:
    """RELU becomes a clip without upper end."""
    o.code = <int>e.activation
    o.a = 0.0 if e.activation == ACT_RELU else <float>e.act_a
    o.b = INFINITY if e.activation == ACT_RELU else <float>e.act_b


cdef inline inlined skip_pixels(BlockOutput* o, int64_t count) noexcept nogil:
    """Goes on to what belongs `count` pixels further."""
    o.y += count * o.y_pixel
    if o.z:
        o.z += count * o.z_pixel


cdef inline inlined activate_stored_by(int CODE, const BlockOutput* o, int pixels, int vectors) noexcept nogil:
    cdef vf a = vf_set1(o.a), x
    cdef float* y
    cdef int p, v
    for v in range(vectors):
        for p in range(pixels):
            y = o.y + v * o.y_plane + p * o.y_pixel
            x = vf_load(y)
            costly_activation(CODE, &x, a)
            vf_store(y, x)


cdef inline outlined activate_stored(const BlockOutput* o, int pixels, int vectors) noexcept nogil:
    """Applies an activation to the stored block, so that its code is not part of every unrolled block."""
    if o.code == ACT_SILU:
        activate_stored_by(ACT_SILU, o, pixels, vectors)
    elif o.code == ACT_H_SWISH:
        activate_stored_by(ACT_H_SWISH, o, pixels, vectors)
    elif o.code == ACT_SIGMOID:
        activate_stored_by(ACT_SIGMOID, o, pixels, vectors)
    elif o.code == ACT_GELU:
        activate_stored_by(ACT_GELU, o, pixels, vectors)
    else:
        activate_stored_by(o.code, o, pixels, vectors)


cdef inline bint runs_on_stored(const BlockOutput* o) noexcept nogil:
    """Whether the activation is one of activate_stored. The others are done in registers."""
    return o.code > ACT_CLIP_NAN


cdef inline inlined store_vectors(int PIXELS, int VECTORS, const vf* acc, const BlockOutput* o) noexcept nogil:
    """One pointer is moved from pixel to pixel: a compiler would compute each address from what it reads again."""
    cdef int64_t y_pixel = o.y_pixel, y_plane = o.y_plane
    cdef float* begin = o.y
    cdef float* y
    cdef int p, v
    for v in range(VECTORS):
        y = begin
        for p in range(PIXELS):
            vf_store(y, acc[p * VECTORS + v])
            y = moved_by(y, y_pixel)
        begin = begin + y_plane


cdef inline inlined clip_block(int COUNT, vf* acc, const BlockOutput* o) noexcept nogil:
    """Clips in as few loops of one instruction as can be: each other one would take registers of the sums. What x86
    gives for NaN is the second operand."""
    cdef vf low = vf_set1(o.a), high = vf_set1(o.b)
    cdef int k
    if o.code == ACT_CLIP_HIGH:
        for k in range(COUNT):
            acc[k] = vf_min_number(acc[k], high)
    if o.code == ACT_CLIP_NAN:
        for k in range(COUNT):
            acc[k] = vf_max_nan(low, acc[k])
    else:
        for k in range(COUNT):
            acc[k] = vf_max_number(acc[k], low)
    if o.b < INFINITY and o.code != ACT_CLIP_HIGH:
        for k in range(COUNT):
            acc[k] = vf_min_nan(high, acc[k])


cdef inline inlined store_block(int PIXELS, int VECTORS, vf* acc, const BlockOutput* o) noexcept nogil:
    """Bias, z and activation, then the stores; acc is [PIXELS][VECTORS]."""
    cdef vf bias
    cdef const float* z
    cdef int p, v
    if o.bias:
        for v in range(VECTORS):
            bias = vf_load(o.bias + v * VW)
            for p in range(PIXELS):
                acc[p * VECTORS + v] = acc[p * VECTORS + v] + bias
    if o.z:
        for v in range(VECTORS):
            z = o.z + v * o.z_plane
            for p in range(PIXELS):
                acc[p * VECTORS + v] = acc[p * VECTORS + v] + vf_load(z)
                z = moved_by_const(z, o.z_pixel)
    if o.code != ACT_NONE and not runs_on_stored(o):
        clip_block(PIXELS * VECTORS, acc, o)
    store_vectors(PIXELS, VECTORS, acc, o)
    if runs_on_stored(o):
        activate_stored(o, PIXELS, VECTORS)
