"""Steps on tokens [N, T, C] and vectors [N, C]: products, normalization, attention, and changes to and from images."""

from __future__ import annotations

import math

from generated.elemwise import FUSED_ADDITIONS, GATES, M, activate, binary, unary
from generated.images import global_pool
from generated.maker import Maker, Rejected
from generated.moves import concat, cut, halves, shuffle
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.graph import Var
from megengine_lite._core.ir.params import (
    GeneralNorm,
    LayerNorm,
    MatrixMul,
    MultiHeadAttn,
    Reduce,
    ReduceMode,
    Softmax,
)


def pick_rows(m: Maker) -> Var:
    """Vectors or tokens of float32."""
    return m.pick(lambda v: v.dtype == FLOAT32 and len(v.shape) in (2, 3))


def pick_tokens(m: Maker) -> Var:
    return m.pick(lambda v: v.dtype == FLOAT32 and len(v.shape) == 3)


def product(m: Maker, x: Var, out: int) -> Var:
    """The last axis multiplied by a constant matrix."""
    k = x.shape[-1]
    transposed = m.chance(0.5)
    w = m.weight((out, k) if transposed else (k, out), terms=k)
    params = MatrixMul(transposeB=transposed)
    if len(x.shape) == 2:
        return m.op("MatrixMul", params, x, w)
    n, t = x.shape[:2]
    flat = m.op("MatrixMul", params, m.reshape(x, n * t, k), w)
    # Where the batch changes it is what the reshape finds.
    return m.reshape(flat, n, t, out)


def linear(m: Maker, x: Var, out: int) -> Var:
    """A product, often with a bias."""
    y = product(m, x, out)
    if m.chance(0.7):
        y = binary(m, M.ADD, y, m.weight((out,) if m.chance(0.5) else (1,) * (len(y.shape) - 1) + (out,)))
    return y


def linear_step(m: Maker) -> None:
    m.keep(activate(m, linear(m, pick_rows(m), m.rng.choice(m.channels)), 0.5))


def two_products_step(m: Maker) -> None:
    """The sum of two products, each perhaps with a bias or activation; or their product."""
    x = pick_rows(m)
    y = m.pick(lambda v: v.dtype == FLOAT32 and v.shape[:-1] == x.shape[:-1])
    out = m.rng.choice(m.channels)
    a, b = linear(m, x, out), linear(m, y, out)
    if m.chance(0.3):
        a = activate(m, a)
    if m.chance(0.3):
        b = activate(m, b)
    if m.chance(0.15):
        m.keep(a)
    z = binary(m, m.rng.choice((M.ADD, M.ADD, M.ADD, M.MUL, M.SUB, *FUSED_ADDITIONS)), a, b)
    if m.chance(0.4):
        z = binary(m, M.ADD, z, m.weight((out,)))
    if m.chance(0.3):
        z = binary(m, M.ADD, z, linear(m, x, out))
    m.keep(activate(m, z, 0.6))


def residual_step(m: Maker) -> None:
    """Two products with an activation between, added to where they came from."""
    x = pick_rows(m)
    y = activate(m, linear(m, x, m.rng.choice(m.channels)), 0.9)
    y = linear(m, y, x.shape[-1])
    m.keep(binary(m, M.ADD, *((x, y) if m.chance(0.5) else (y, x))))


def gated_step(m: Maker) -> None:
    """GLU and its relatives: one half or branch is a factor for the other."""
    x = pick_rows(m)
    if m.chance(0.5):
        out = m.rng.choice(m.channels)
        a, b = linear(m, x, out), linear(m, x, out)
    else:
        axis = len(x.shape) - 1
        if x.shape[axis] % 2:
            raise Rejected("odd")
        a, b = halves(m, x, axis, middle=True)
    m.keep(binary(m, M.MUL, a, unary(m, m.rng.choice((*GATES, M.SILU, M.GELU)), b)))


def norm_step(m: Maker) -> None:
    x = pick_rows(m)
    c = x.shape[-1]
    if c < 4:
        raise Rejected("few elements have an uncertain deviation")
    affine = m.chance(0.7)
    weights = [m.weight((c,)) for _ in range(2)] if affine else []
    if m.chance(0.8):
        params = LayerNorm(affine=affine, eps=1e-3, normalized_dim=1, normalized_size=c)
        m.keep(m.add("LayerNorm", params, x, *weights, outputs=3)[0])
    else:
        last = len(x.shape)
        general = GeneralNorm(affine=affine, eps=1e-3, axis_start=last - 1, axis_end=last)
        m.keep(m.add("GeneralNorm", general, x, *weights, outputs=3)[0])


def rms_norm_step(m: Maker) -> None:
    """Normalization by the mean square, written out."""
    x = pick_rows(m)
    axis = len(x.shape) - 1
    square = m.op("Reduce", Reduce(mode=ReduceMode.MEAN, axis=axis), unary(m, M.SQUARE, x))
    root = unary(m, M.SQRT, binary(m, M.ADD, square, m.number(0.1, x)))
    m.keep(binary(m, M.MUL, binary(m, M.TRUE_DIV, x, root), m.weight((x.shape[-1],))))


def softmax_step(m: Maker) -> None:
    x = pick_rows(m)
    m.keep(m.op("Softmax", Softmax(axis=m.rng.choice((-1, -1, len(x.shape) - 1, 1))), x))


def heads(m: Maker, x: Var, count: int) -> Var:
    """Tokens [N, T, C] as [N heads, T, C / heads]."""
    n, t, c = x.shape
    split_ = m.reshape(x, n, t, count, c // count)
    return m.reshape(shuffle(m, split_, 0, 2, 1, 3), n * count, t, c // count)


def attention(m: Maker, x: Var, y: Var, *, causal: bool = False) -> Var:
    """Attention of the tokens x over the tokens y, written out."""
    count = m.rng.choice((1, 2, 4))
    c = count * m.rng.choice((4, 8, 5, 16))
    q, k, v = (heads(m, linear(m, z, c), count) for z in (x, y, y))
    scores = m.op("BatchedMatrixMul", MatrixMul(transposeB=True), q, k)
    scores = binary(m, M.MUL, scores, m.number(1 / math.sqrt(c / count), scores))
    if causal:
        scores = binary(m, M.ADD, scores, m.weight((1, *scores.shape[1:]), gain=2.0))
    shares = m.op("Softmax", Softmax(axis=-1), scores)
    mixed = m.op("BatchedMatrixMul", MatrixMul(), shares, v)
    n, t = x.shape[:2]
    merged = shuffle(m, m.reshape(mixed, n, count, t, c // count), 0, 2, 1, 3)
    out = linear(m, m.reshape(merged, n, t, c), x.shape[-1])
    return binary(m, M.ADD, x, out) if m.chance(0.6) else out


def attention_step(m: Maker) -> None:
    x = pick_tokens(m)
    y = x
    if m.chance(0.3):
        y = m.pick(lambda v: v.dtype == FLOAT32 and len(v.shape) == 3 and v.shape[0] == x.shape[0])
    m.keep(attention(m, x, y, causal=m.chance(0.3)))


def attention_node_step(m: Maker) -> None:
    """Attention as one node."""
    x = pick_tokens(m)
    e, count = x.shape[-1], m.rng.choice((1, 2, 4))
    size = count * m.rng.choice((3, 8))
    bias = m.chance(0.5)
    shapes = [(e, size)] * 3 + [(size, e)] + ([(size,)] * 3 + [(e,)] if bias else [])
    total = sum(math.prod(s) for s in shapes)
    params = MultiHeadAttn(
        num_heads=count, embeding_size=e, k_size=e, v_size=e, qproj_size=size, kproj_size=size, vproj_size=size,
        oproj_size=e, qbias=bias, kbias=bias, vbias=bias, obias=bias, sm_scaler=1 / math.sqrt(size / count),
        training=False,
    )  # fmt: skip
    m.keep(m.add("MultiHeadAttn", params, x, x, x, m.weight((total,), terms=e), outputs=4)[0])


def bilinear_step(m: Maker) -> None:
    """Products of two computed tensors."""
    x = pick_tokens(m)
    y = m.pick(
        lambda v: v.dtype == FLOAT32 and len(v.shape) == 3 and v.shape[0] == x.shape[0] and v.shape[2] == x.shape[2]
    )
    scores = m.op("BatchedMatrixMul", MatrixMul(transposeB=True), x, y)
    scores = binary(m, M.MUL, scores, m.number(1 / math.sqrt(x.shape[2]), x))
    m.keep(activate(m, scores, 0.3))


def to_tokens_step(m: Maker) -> None:
    """The places of an image become tokens."""
    x = m.pick_image(half=False)
    n, c, h, w = x.shape
    flat = m.reshape(x, n, c, h * w)
    m.keep(shuffle(m, flat, 0, 2, 1) if m.chance(0.85) else flat)


def to_image_step(m: Maker) -> None:
    """Tokens become the places of an image, [N, C, H, W]."""
    x = pick_tokens(m)
    n, t, c = x.shape
    h = next((h for h in (4, 3, 2, 5, 1) if t % h == 0), 1)
    m.keep(m.reshape(shuffle(m, x, 0, 2, 1), n, c, h, t // h))


def to_vector_step(m: Maker) -> None:
    """One vector for each sample: the mean of tokens or places, one of them, or all side by side."""
    x = m.pick(lambda v: v.dtype == FLOAT32 and len(v.shape) in (3, 4))
    if len(x.shape) == 3:
        if m.chance(0.6):
            axis = 1
            mode = m.rng.choice((ReduceMode.MEAN, ReduceMode.MAX))
            m.keep(m.drop_axis(m.op("Reduce", Reduce(mode=mode, axis=axis), x), axis))
        else:
            m.keep(m.drop_axis(cut(m, x, 1, 0, 1), 1))
        return
    n, c, h, w = x.shape
    if m.chance(0.6):
        m.keep(m.reshape(global_pool(m, x), n, c))
    elif c * h * w <= 512:
        m.keep(m.reshape(x, n, c * h * w))
    else:
        raise Rejected("too long")


def condition_step(m: Maker) -> None:
    """A vector scales and shifts the channels of an image or of tokens."""
    x = m.pick(lambda v: v.dtype == FLOAT32 and len(v.shape) in (3, 4))
    v = m.pick(lambda v: v.dtype == FLOAT32 and len(v.shape) == 2 and v.shape[0] == x.shape[0])
    image = len(x.shape) == 4
    c = x.shape[1] if image else x.shape[2]
    scale, shift = (m.add_axis(linear(m, v, c), *((2, 3) if image else (1,))) for _ in range(2))
    m.keep(binary(m, M.ADD, binary(m, M.MUL, x, unary(m, M.SIGMOID, scale)), shift))


def class_token_step(m: Maker) -> None:
    """A token in front of the others."""
    x = pick_tokens(m)
    if m.dynamic:
        token = m.op("Reduce", Reduce(mode=ReduceMode.MEAN, axis=1), x)
    else:
        token = m.weight((x.shape[0], 1, x.shape[2]))
    m.keep(concat(m, [token, x], 1))


def token_halves_step(m: Maker) -> None:
    """Channels of tokens cut in two, one part changed, joined again (rotary position codes do so)."""
    x = pick_tokens(m)
    a, b = halves(m, x, 2)
    if a.shape != b.shape:
        raise Rejected("odd")
    turned = concat(m, [unary(m, M.NEGATE, b), a], 2)
    cos, sin = (m.weight(x.shape[1:]) for _ in range(2))
    m.keep(binary(m, M.ADD, binary(m, M.MUL, x, cos), binary(m, M.MUL, turned, sin)))
