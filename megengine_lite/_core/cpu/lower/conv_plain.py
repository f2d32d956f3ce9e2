"""Float32 convolutions on plain tensors: in three dimensions, and with filters that are not constant."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref, epilogue_arguments
from megengine_lite._core.ir.fused import NO_ACTIVATION, NONLINEARITIES, Activation
from megengine_lite._core.ir.graph import Node, Var
from megengine_lite._core.ir.params import ConvolutionMode

Triple = tuple[int, int, int]


def emit_plain(
    ctx: Lowering,
    node: Node,
    groups: int,
    ic: int,
    oc: int,
    x: Var,
    w: Ref,
    kernel: Triple,
    stride: Triple,
    dilate: Triple,
    pad: Triple,
    bias: Var | None = None,
    z: Var | None = None,
    activation: Activation = NO_ACTIVATION,
) -> None:
    """Emits a convolution of NCHW or NCDHW; ``ic`` and ``oc`` are channels per group, ``w`` the plain filter."""
    y = node.outputs[0]
    ins, outs = _three(x.shape[2:]), _three(y.shape[2:])
    xt, bt, zt = ctx.plain(x), ctx.plain(bias) if bias else None, ctx.plain(z) if z else None
    yt = ctx.new_plain(y)
    module = ctx.kernels.module("conv_plain")
    part = module.row_part(ins[2], outs[2], kernel[2], stride[2], dilate[2], pad[2])
    ctx.emit(
        "conv_plain_f32", node, x=xt.ref, w=w, bias=bt.ref if bt else None, z=zt.ref if zt else None, y=yt.ref,
        groups=groups, ic=ic, oc=oc, **_spatial("i", ins), **_spatial("o", outs), **_spatial("k", kernel),
        **_spatial("stride_", stride), **_spatial("dilate_", dilate), **_spatial("pad_", pad), part=part,
        **epilogue_arguments(activation), work=x.shape[0] * groups * outs[0] * outs[1],
        scratch=module.scratch_bytes(ic * kernel[0] * kernel[1], kernel[2], stride[2], part),
        flops=2 * y.spec.size * ic * prod(kernel),
    )  # fmt: skip


def _three(sizes: Sequence[int]) -> Triple:
    """Sizes of an image as those of a volume."""
    d, h, w = (1, *sizes)[-3:]
    return d, h, w


def _spatial(prefix: str, sizes: Triple) -> dict[str, int]:
    return dict(zip((f"{prefix}d", f"{prefix}h", f"{prefix}w"), sizes, strict=True))


def lower_plain_conv(ctx: Lowering, node: Node) -> bool:
    """A two-dimensional convolution that no other lowering takes; the filter need not be constant."""
    p = node.params
    x, w = node.inputs[:2]
    if len(node.inputs) != 2 or p.mode != ConvolutionMode.CROSS_CORRELATION:
        return False
    activation = NO_ACTIVATION
    if node.op == "ConvBiasForward":
        if p.nonlineMode not in NONLINEARITIES or not ctx.has_activation(NONLINEARITIES[p.nonlineMode]):
            return False
        activation = Activation(NONLINEARITIES[p.nonlineMode])
    groups, oc, ic, kh, kw = w.shape if p.sparse else (1, *w.shape)
    emit_plain(
        ctx, node, groups, ic, oc, x, ctx.plain(w).ref, (1, kh, kw), (1, p.stride_h, p.stride_w),
        (1, p.dilate_h, p.dilate_w), (0, p.pad_h, p.pad_w), activation=activation,
    )  # fmt: skip
    return True


def lower_conv3d(ctx: Lowering, node: Node) -> bool:
    p = node.params
    x, w = node.inputs
    if p.mode != ConvolutionMode.CROSS_CORRELATION:
        return False
    groups, oc, ic, kd, kh, kw = w.shape if p.sparse else (1, *w.shape)
    emit_plain(
        ctx, node, groups, ic, oc, x, ctx.plain(w).ref, (kd, kh, kw), (p.stride_d, p.stride_h, p.stride_w),
        (p.dilate_d, p.dilate_h, p.dilate_w), (p.pad_d, p.pad_h, p.pad_w),
    )  # fmt: skip
    return True
