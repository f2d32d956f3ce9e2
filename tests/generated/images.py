"""Steps on float images [N, C, H, W]: convolutions, pooling, normalization, resizing, gates."""

from __future__ import annotations

import numpy as np

from generated.elemwise import FUSED_ADDITIONS, GATES, M, activate, binary, unary
from generated.maker import Maker, Rejected
from megengine_lite._core.ir.dtype import FLOAT16, FLOAT32
from megengine_lite._core.ir.graph import Var
from megengine_lite._core.ir.params import (
    BN,
    LRN,
    AdaptivePooling,
    BNFwdMode,
    BNParamDim,
    ConvBias,
    ConvBiasNonlineMode,
    Convolution,
    ConvolutionFormat,
    ConvolutionMode,
    ConvolutionSparse,
    Elemwise,
    GroupNorm,
    InterpolationMode,
    Pooling,
    PoolingMode,
    Reduce,
    ReduceMode,
    Resize,
    Softmax,
    WarpPerspective,
)
from megengine_lite._core.ir.params.vision import BorderMode


def window(m: Maker, x: Var, *, point: float = 0.35) -> dict[str, int]:
    """Size, padding, stride and dilation of a window that fits an image."""
    h, w = x.shape[2:]
    k = 1 if m.chance(point) else m.rng.choice((2, 3, 3, 3, 5, 7))
    kh, kw = (k, k) if m.chance(0.85) else (m.rng.choice((1, 3)), m.rng.choice((1, 3, 5)))
    dilate = 2 if kh * kw > 1 and m.chance(0.1) else 1
    stride = m.rng.choice((1, 1, 1, 2, 2, 3))
    same = m.chance(0.75)
    pad_h, pad_w = (
        ((kh - 1) * dilate // 2, (kw - 1) * dilate // 2) if same else (m.rng.randrange(kh), m.rng.randrange(kw))
    )
    if h + 2 * pad_h < (kh - 1) * dilate + 1 or w + 2 * pad_w < (kw - 1) * dilate + 1:
        raise Rejected("the window is larger than the image")
    return {
        "kh": kh, "kw": kw, "pad_h": pad_h, "pad_w": pad_w, "stride_h": stride, "stride_w": stride,
        "dilate_h": dilate, "dilate_w": dilate,
    }  # fmt: skip


def groups_of(m: Maker, channels: int) -> int:
    """Groups of a convolution: mostly one, often as many as channels, rarely something between."""
    kind = m.rng.randrange(10)
    if kind < 6:
        return 1
    if kind < 9:
        return channels
    return m.rng.choice([g for g in range(1, channels + 1) if channels % g == 0])


def filter_shape(groups: int, out: int, channels: int, kh: int, kw: int) -> tuple[int, ...]:
    if groups == 1:
        return (out, channels, kh, kw)
    return (groups, out // groups, channels // groups, kh, kw)


def conv(m: Maker, x: Var, out: int | None = None, *, plain: bool = False, fields: dict[str, int] | None = None) -> Var:
    """A convolution with whatever may follow it: bias, addition, activation.

    ``plain`` keeps height and width.
    """
    fields = dict(fields or window(m, x))
    if plain:
        k = m.rng.choice((1, 1, 3))
        fields = {"kh": k, "kw": k, "pad_h": k // 2, "pad_w": k // 2}
    kh, kw = fields.pop("kh"), fields.pop("kw")
    channels = x.shape[1]
    groups = 1 if out is not None and m.chance(0.7) else groups_of(m, channels)
    out = out or (groups * m.rng.choice((1, 1, 1, 2)) if groups > 1 else m.rng.choice(m.channels))
    if out % groups:
        groups = 1
    w = m.weight(filter_shape(groups, out, channels, kh, kw), x.dtype, terms=channels // groups * kh * kw)
    if groups > 1 or m.chance(0.02):
        fields["sparse"] = ConvolutionSparse.GROUP
        if groups == 1:
            w = m.weight((1, out, channels, kh, kw), x.dtype, terms=channels * kh * kw)
    if m.chance(0.05):
        fields["mode"] = ConvolutionMode.CONVOLUTION
    if m.chance(0.3):
        mode = m.rng.choice(list(ConvBiasNonlineMode))
        y = m.op("ConvBiasForward", ConvBias(nonlineMode=mode, **fields), x, w, m.weight((1, out, 1, 1), x.dtype))
        return activate(m, y, 0.2)
    y = m.op("Convolution", Convolution(**fields), x, w)
    return finish(m, y)


def finish(m: Maker, y: Var) -> Var:
    """Normalization, bias, residual addition, activation: each or none."""
    if m.chance(0.25):
        y = batch_norm(m, y)
    if m.chance(0.5):
        bias = m.weight((1, y.shape[1], 1, 1), y.dtype)
        if m.chance(0.3):
            return binary(m, m.rng.choice(FUSED_ADDITIONS), y, bias)
        y = binary(m, m.rng.choice((M.ADD, M.ADD, M.SUB)), y, bias)
    if m.chance(0.1):
        scale, bias = (m.weight((1, y.shape[1], 1, 1), y.dtype) for _ in range(2))
        y = m.op("Elemwise", Elemwise(mode=M.FUSE_MUL_ADD3), y, scale, bias)
    if m.chance(0.2):
        others = [v for v in m.pool if v.shape == y.shape and v.dtype == y.dtype]
        if others:
            y = binary(m, m.rng.choice((M.ADD, M.ADD, M.MUL, *FUSED_ADDITIONS)), y, m.rng.choice(others))
    return activate(m, y, 0.6)


def batch_norm(m: Maker, x: Var) -> Var:
    c = x.shape[1]
    shape = (1, c, 1, 1)
    scale, bias, mean = (m.weight(shape) for _ in range(3))
    variance = m.typed((0.5 + m.noise.random(shape)).astype(np.float32), FLOAT32)
    params = BN(param_dim=BNParamDim.DIM_1C11, fwd_mode=BNFwdMode.INFERENCE, epsilon=1e-5)
    return m.add("BatchNorm", params, x, scale, bias, mean, variance, outputs=4)[-1]


def conv_step(m: Maker) -> None:
    m.keep(conv(m, m.pick_image()))


def conv_pair_step(m: Maker) -> None:
    """Two convolutions one after the other; the tensor between them is sometimes read again."""
    middle = conv(m, m.pick_image(), plain=m.chance(0.5))
    if m.chance(0.2):
        m.keep(middle)
    m.keep(conv(m, middle, plain=m.chance(0.5)))


def deconv_step(m: Maker) -> None:
    x = m.pick_image()
    k, stride = m.rng.choice(((2, 2), (3, 1), (3, 2), (4, 2), (1, 1)))
    pad = m.rng.randrange((k + 1) // 2)
    c, out = x.shape[1], m.rng.choice(m.channels)
    sparse = ConvolutionSparse.DENSE
    shape: tuple[int, ...] = (c, out, k, k)
    if m.chance(0.25):
        shape, sparse = (c, 1, 1, k, k), ConvolutionSparse.GROUP
    w = m.weight(shape, x.dtype, terms=max(c * k * k // stride**2, 1) if sparse == ConvolutionSparse.DENSE else k)
    params = Convolution(pad_h=pad, pad_w=pad, stride_h=stride, stride_w=stride, sparse=sparse)
    m.keep(finish(m, m.op("ConvolutionBackwardData", params, w, x)))


def pooling(m: Maker, x: Var) -> Var:
    fields = window(m, x, point=0)
    kh, kw = fields.pop("kh"), fields.pop("kw")
    del fields["dilate_h"], fields["dilate_w"]
    fields["pad_h"], fields["pad_w"] = min(fields["pad_h"], kh - 1), min(fields["pad_w"], kw - 1)
    params = Pooling(mode=m.rng.choice(list(PoolingMode)), window_h=kh, window_w=kw, **fields)
    return m.op("Pooling", params, x)


def pool_step(m: Maker) -> None:
    m.keep(pooling(m, m.pick_image()))


def adaptive_pool(m: Maker, x: Var, size: int | None = None) -> Var:
    if size is None:
        size = m.rng.choice([s for s in (1, 1, 2, 3, 4) if s <= min(x.shape[2:])])
    params = AdaptivePooling(mode=m.rng.choice((PoolingMode.MAX, PoolingMode.AVERAGE)))
    return m.op("AdaptivePooling", params, x, m.integers(size, size))


def adaptive_pool_step(m: Maker) -> None:
    m.keep(adaptive_pool(m, m.pick_image()))


def global_pool(m: Maker, x: Var) -> Var:
    """Mean or maximum of each channel, [N, C, 1, 1]."""
    if m.chance(0.4):
        return adaptive_pool(m, x, 1)
    mode = m.rng.choice((ReduceMode.MEAN, ReduceMode.MEAN, ReduceMode.MAX))
    y = m.op("Reduce", Reduce(mode=mode, axis=3), x)
    return m.op("Reduce", Reduce(mode=mode, axis=2), y)


def gate_step(m: Maker) -> None:
    """Squeeze and excitation: a factor for each channel, from the mean of all channels."""
    x = m.pick_image()
    s = global_pool(m, x)
    point = {"kh": 1, "kw": 1}
    for _ in range(m.rng.randrange(1, 3)):
        s = conv(m, s, m.rng.choice(m.channels), fields=point)
    c = x.shape[1]
    s = m.op("Convolution", Convolution(), s, m.weight((c, s.shape[1], 1, 1), x.dtype, terms=s.shape[1]))
    if m.chance(0.5):
        s = binary(m, M.ADD, s, m.weight((1, c, 1, 1), x.dtype))
    s = unary(m, m.rng.choice(GATES), s)
    y = binary(m, M.MUL, *((x, s) if m.chance(0.5) else (s, x)))
    m.keep(y)
    if m.chance(0.3):
        m.keep(binary(m, M.ADD, y, x))


def spatial_gate_step(m: Maker) -> None:
    """A factor for each place, from a convolution to one channel."""
    x = m.pick_image()
    s = unary(m, m.rng.choice(GATES), conv(m, x, 1, plain=True))
    m.keep(binary(m, M.MUL, x, s))


def resize(m: Maker, x: Var, h: int, w: int) -> Var:
    mode = m.rng.choice((InterpolationMode.NEAREST, InterpolationMode.LINEAR, InterpolationMode.LINEAR))
    return m.op("Resize", Resize(imode=mode, format=ConvolutionFormat.NCHW), x, m.integers(h, w))


def resize_step(m: Maker) -> None:
    x = m.pick_image()
    h, w = x.shape[2:]
    target = m.rng.choice(((h * 2, w * 2), (h * 2, w * 2), (max(h // 2, 1), max(w // 2, 1)), (h + 3, w + 1)))
    m.keep(resize(m, x, *target))


def norm_step(m: Maker) -> None:
    x, kind = m.pick_image(half=False), m.rng.randrange(6)
    c = x.shape[1]
    if kind == 0:
        m.keep(batch_norm(m, x))
    elif kind == 1:
        m.keep(m.op("LRN", LRN(n=m.rng.choice((1, 3, 5)), k=1.0, alpha=0.1), x))
    elif kind == 2:
        m.keep(m.op("Softmax", Softmax(axis=m.rng.choice((1, 1, -1, 2))), x))
    else:
        groups = m.rng.choice([g for g in range(1, c + 1) if c % g == 0])
        if x.shape[2] * x.shape[3] * (1 if kind == 3 else c // groups) < 4:
            raise Rejected("few elements have an uncertain deviation")
        affine = m.chance(0.6)
        weights = [m.weight((c,)) for _ in range(2)] if affine else []
        params = GroupNorm(affine=affine, group=groups, eps=1e-3)
        m.keep(m.add("InstanceNorm" if kind == 3 else "GroupNorm", params, x, *weights, outputs=3)[0])


def warp_step(m: Maker) -> None:
    """A transform that turns and moves an image a little."""
    x = m.pick_image(half=False)
    n = x.shape[0]
    if m.dynamic:
        raise Rejected("there is a matrix for each image")
    matrix = np.eye(3)[None] + (m.noise.random((n, 3, 3)) - 0.5) * np.array(
        [[0.3, 0.3, 3], [0.3, 0.3, 3], [0.01, 0.01, 0]]
    )
    size = m.integers(m.rng.randrange(1, 10), m.rng.randrange(1, 10))
    params = WarpPerspective(
        bmode=m.rng.choice((BorderMode.REPLICATE, BorderMode.CONSTANT, BorderMode.REFLECT)),
        format=ConvolutionFormat.NCHW,
        border_val=0.5,
    )
    m.keep(m.op("WarpPerspective", params, x, m.typed(matrix.astype(np.float32), FLOAT32), size))


def half_step(m: Maker) -> None:
    """To float16 or back."""
    x = m.pick_float()
    m.keep(m.cast(x, FLOAT16 if x.dtype == FLOAT32 else FLOAT32))
