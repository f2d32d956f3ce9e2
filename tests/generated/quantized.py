"""Steps on bytes with a scale: convolutions, products, elementwise functions, and conversions from and to floats."""

from __future__ import annotations

import numpy as np

from generated.images import filter_shape, groups_of, window
from generated.maker import Maker, Rejected, signed, sums, unsigned
from generated.moves import concat, halves
from megengine_lite._core.ir.dtype import FLOAT32, DType, DTypeCode
from megengine_lite._core.ir.graph import Var
from megengine_lite._core.ir.params import (
    AdaptivePooling,
    ConvBias,
    ConvBiasNonlineMode,
    Convolution,
    ConvolutionFormat,
    ConvolutionSparse,
    ElemwiseMultiType,
    InterpolationMode,
    MatrixMul,
    Pooling,
    PoolingMode,
    Resize,
)
from megengine_lite._core.ir.params import ElemwiseMultiTypeMode as Q

_BINARY = (Q.QADD, Q.QADD, Q.QFUSE_ADD_RELU, Q.QMUL, Q.QSUB, Q.QMAX, Q.QMIN, Q.QFUSE_ADD_SIGMOID, Q.QFUSE_ADD_TANH,
           Q.QFUSE_ADD_H_SWISH)  # fmt: skip
_UNARY = (Q.QRELU, Q.QABS, Q.QSIGMOID, Q.QTANH, Q.QNEGATE, Q.QH_SWISH, Q.QFAST_TANH, Q.QFLOOR, Q.QCOS, Q.QERF, Q.QROUND)


def scale_of(m: Maker, real: np.ndarray) -> float:
    """A scale that spreads numbers over most of a byte; its ratio to others is never simple, so ties are rare."""
    largest = float(np.abs(real).max(initial=0)) or 1.0
    return largest / (90 + 40 * m.rng.random())


def real_values(m: Maker, x: Var) -> np.ndarray:
    value = m.values[x].astype(np.float64)
    return (value - x.dtype.zero_point) * x.dtype.scale if x.dtype.is_quantized else value


def byte_type(m: Maker, scale: float) -> DType:
    return unsigned(scale * 1.1, m.rng.choice((128, 128, 100))) if m.chance(0.12) else signed(scale)


def quantize(m: Maker, x: Var) -> Var:
    return m.cast(x, byte_type(m, scale_of(m, real_values(m, x))))


def quantize_step(m: Maker) -> None:
    """Floats, or bytes of another scale, become bytes."""
    x = m.pick(lambda v: v.dtype == FLOAT32 or (v.dtype.is_quantized and m.chance(0.3)))
    m.keep(quantize(m, x))


def dequantize_step(m: Maker) -> None:
    m.keep(m.cast(m.pick(lambda v: v.dtype.is_quantized), FLOAT32))


def weights(m: Maker, shape: tuple[int, ...]) -> Var:
    return m.typed(m.random(shape, signed(1)), signed(0.002 + 0.01 * m.rng.random()))


def conv(m: Maker, x: Var, out: int | None = None, *, plain: bool = False) -> Var:
    """A convolution of bytes to bytes, to sums, or to floats by way of sums."""
    if x.dtype.code != DTypeCode.QUANTIZED_S8:
        raise Rejected("only signed bytes")
    fields = window(m, x)
    if plain:
        k = m.rng.choice((1, 1, 3))
        fields = {"kh": k, "kw": k, "pad_h": k // 2, "pad_w": k // 2}
    kh, kw = fields.pop("kh"), fields.pop("kw")
    channels = x.shape[1]
    groups = 1 if out is not None else groups_of(m, channels)
    out = out or (groups if groups > 1 else m.rng.choice(m.channels))
    w = weights(m, filter_shape(groups, out, channels, kh, kw))
    if groups > 1:
        fields["sparse"] = ConvolutionSparse.GROUP
    product = sums(float(np.float32(x.dtype.scale) * np.float32(w.dtype.scale)))
    (total,) = m.preview("Convolution", Convolution(**fields), [x, w])
    assert total.value is not None
    scale = scale_of(m, total.value * product.scale)
    if m.chance(0.3):
        y = m.op("Convolution", Convolution(**fields), x, w)
        return m.cast(y, FLOAT32 if m.chance(0.3) else byte_type(m, scale))
    bias = np.round((m.noise.random((1, out, 1, 1)) - 0.5) * float(np.abs(total.value).max(initial=1)))
    operands = [x, w, m.typed(bias.astype(np.int32), product)]
    mode = m.rng.choice((ConvBiasNonlineMode.IDENTITY, ConvBiasNonlineMode.RELU, ConvBiasNonlineMode.H_SWISH))
    if m.chance(0.15):
        operands.append(m.pick(lambda v: v.shape == total.shape and v.dtype.code == DTypeCode.QUANTIZED_S8))
    return m.op("ConvBiasForward", ConvBias(nonlineMode=mode, **fields), *operands, dtype=signed(scale))


def conv_step(m: Maker) -> None:
    m.keep(conv(m, m.pick_bytes(4)))


def image_conv_step(m: Maker) -> None:
    """A float tensor becomes bytes right in front of a convolution."""
    x = m.pick(lambda v: len(v.shape) == 4 and v.dtype == FLOAT32)
    m.keep(conv(m, m.cast(x, signed(scale_of(m, real_values(m, x))))))


def deconv_step(m: Maker) -> None:
    x = m.pick_bytes(4)
    k, stride = m.rng.choice(((2, 2), (3, 1), (4, 2)))
    w = weights(m, (x.shape[1], m.rng.choice(m.channels), k, k))
    params = Convolution(stride_h=stride, stride_w=stride, pad_h=k > 2, pad_w=k > 2)
    (total,) = m.preview("ConvolutionBackwardData", params, [w, x])
    assert total.value is not None
    scale = scale_of(m, total.value * total.dtype.scale)
    m.keep(m.op("ConvolutionBackwardData", params, w, x, dtype=signed(scale)))


def multi_type(m: Maker, mode: int, *operands: Var) -> Var:
    """An elementwise function of bytes; the scale of its result fits."""
    (wide,) = m.preview("ElemwiseMultiType", ElemwiseMultiType(mode=mode), operands, sums(1e-5))
    assert wide.value is not None
    dtype = byte_type(m, scale_of(m, wide.value * 1e-5))
    return m.op("ElemwiseMultiType", ElemwiseMultiType(mode=mode), *operands, dtype=dtype)


def binary_step(m: Maker) -> None:
    x = m.pick_bytes()
    if m.chance(0.2):
        c = x.shape[1] if len(x.shape) > 1 else 1
        y = weights(m, (1, c, *(1,) * (len(x.shape) - 2)))
    else:
        y = m.pick(lambda v: v.dtype.is_quantized and v.dtype.itemsize == 1 and v.shape == x.shape)
    m.keep(multi_type(m, m.rng.choice(_BINARY), x, y))


def unary_step(m: Maker) -> None:
    m.keep(multi_type(m, m.rng.choice(_UNARY), m.pick_bytes()))


def pool_step(m: Maker) -> None:
    x = m.pick_bytes(4)
    if m.chance(0.25):
        size = m.rng.choice([s for s in (1, 1, 2, 3) if s <= min(x.shape[2:])])
        params = AdaptivePooling(mode=m.rng.choice((PoolingMode.MAX, PoolingMode.AVERAGE)))
        m.keep(m.op("AdaptivePooling", params, x, m.integers(size, size)))
        return
    fields = window(m, x, point=0)
    kh, kw = fields.pop("kh"), fields.pop("kw")
    del fields["dilate_h"], fields["dilate_w"]
    fields["pad_h"], fields["pad_w"] = min(fields["pad_h"], kh - 1), min(fields["pad_w"], kw - 1)
    m.keep(m.op("Pooling", Pooling(mode=m.rng.choice(list(PoolingMode)), window_h=kh, window_w=kw, **fields), x))


def resize_step(m: Maker) -> None:
    x = m.pick_bytes(4)
    h, w = x.shape[2:]
    mode = m.rng.choice((InterpolationMode.NEAREST, InterpolationMode.LINEAR))
    m.keep(m.op("Resize", Resize(imode=mode, format=ConvolutionFormat.NCHW), x, m.integers(2 * h, 2 * w)))


def matmul_step(m: Maker) -> None:
    x = m.pick(lambda v: len(v.shape) == 2 and v.dtype.code == DTypeCode.QUANTIZED_S8)
    transposed = m.chance(0.5)
    k, n = x.shape[1], m.rng.choice(m.channels)
    w = weights(m, (n, k) if transposed else (k, n))
    y = m.op("MatrixMul", MatrixMul(transposeB=transposed), x, w)
    m.keep(m.cast(y, FLOAT32 if m.chance(0.4) else signed(scale_of(m, real_values(m, y)))))


def same_scale_concat_step(m: Maker) -> None:
    """Bytes brought to one scale and joined."""
    x = m.pick_bytes(4)
    y = m.pick(lambda v: v.dtype.is_quantized and v.shape[:1] + v.shape[2:] == x.shape[:1] + x.shape[2:])
    m.keep(concat(m, [x, m.cast(y, x.dtype)], 1))


def csp_step(m: Maker) -> None:
    """Halves of the channels, one of them through convolutions, joined again."""
    x = m.pick_bytes(4)
    first, second = halves(m, x)
    parts = [first, second]
    for _ in range(m.rng.randrange(1, 3)):
        parts.append(m.cast(conv(m, parts[-1], parts[-1].shape[1], plain=True), x.dtype))
    m.keep(concat(m, parts if m.chance(0.5) else parts[1:], 1))
