"""Quantized convolution: packed int8 weights, compensation of offsets, kernel calls."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import numpy as np

from megengine_lite._core.compile.passes.fuse_quantized import as_quantized_conv
from megengine_lite._core.cpu.algorithms.algorithm import Algorithm, check_other_way
from megengine_lite._core.cpu.algorithms.convolution import (
    CONV_INT8,
    ConvProblem,
    GroupRun,
    group_runs,
    winograd_int8_plan,
)
from megengine_lite._core.cpu.algorithms.fast_run import select
from megengine_lite._core.cpu.isa import DotKind
from megengine_lite._core.cpu.lower.conv_direct import joined_rows, moved, plain_filter, rows_in_band
from megengine_lite._core.cpu.lower.requantize import (
    output_arguments,
    source_arguments,
    target_arguments,
)
from megengine_lite._core.cpu.lower.window import window_arguments
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.packing import int8 as packing
from megengine_lite._core.cpu.packing.float32 import merge_groups, pad_channels
from megengine_lite._core.cpu.steps import Ref, Tensor, blocked_strides
from megengine_lite._core.ir.dtype import UNSIGNED_INT8, DType
from megengine_lite._core.ir.fused_quantized import QuantizedConv
from megengine_lite._core.ir.graph import Constant, ConstantPool, Node, Var
from megengine_lite._core.ir.params import ConvBiasNonlineMode, ConvolutionMode, ConvolutionSparse
from megengine_lite._core.ir.quantize import keeps_sums
from megengine_lite._core.operators.conv_types import sum_scale
from megengine_lite._records import record
from megengine_lite.kernels.common.shared_constants import QUAD, TILE_BLOCKS

FLIP = -0x7F7F7F80  # 0x80 in every byte: signed <-> unsigned
_CHANNEL_WISE_SIZES = (2, 3, 5, 7)
MAX_ROW = 512  # output pixels of a work item, roughly: longer rows are cut
FLIP_CHUNK = 8192  # bytes
DEPTHWISE_PIXELS = 256  # output pixels of a work item, roughly


@record(frozen=True, slots=True)
class InputForm:
    """How the bytes of an input become those that kernels multiply (kernels/common/dot.pxd).

    Attributes
    ----------
    flip
        What each four bytes are xored with.
    offset
        By how much a byte is then larger than the integer that it stands for.
    plain
        The dot product for plain bytes multiplies them: they are in 0..127, or unsigned and the set takes such.
    """

    flip: int
    offset: int
    plain: bool = False


def input_form(dtype: DType, dot: DotKind, non_negative: bool = False) -> InputForm:
    """The form of an input for kernels with this dot product."""
    zero = dtype.zero_point
    if dtype.code in UNSIGNED_INT8:
        plain = dot is DotKind.MIXED_QUADS or dtype.quantized_range[1] <= 127
        return InputForm(0, zero, plain) if plain or dot.takes_unsigned else InputForm(FLIP, zero - 128)
    if non_negative:
        return InputForm(0, 0, True)
    return InputForm(FLIP, 128) if dot is DotKind.U8S8_QUADS else InputForm(0, 0)


def halo_wish(node: Node, index: int) -> tuple[int, int]:
    return (node.params.conv.pad_h, node.params.conv.pad_w) if index == 0 else (0, 0)


def lower_quantized_convolution(ctx: Lowering, node: Node) -> bool | None:
    fused = as_quantized_conv(node)
    if fused is None:
        check_other_way(ctx.config.algo, CONV_INT8.kind, node, "numpy", "a constant filter and a bias for each channel")
        return False
    return lower_quantized_conv(ctx, fused)


def lower_quantized_conv(ctx: Lowering, node: Node) -> bool | None:
    conv = _Conv(ctx, node)
    if not conv.output:
        check_other_way(ctx.config.algo, CONV_INT8.kind, node, "numpy", "a result that kernels of int8 can store")
        return False

    def emit(target: Lowering, algorithm: Algorithm[ConvProblem]) -> None:
        _EMIT[algorithm.name](_Conv(target, node))

    algorithm = select(ctx, CONV_INT8, _problem(conv), node, emit)
    _EMIT[algorithm.name](conv)
    return None


def count_parts(pool: ConstantPool, filters: Constant, zero: int) -> int:
    """How many signed bytes a weight needs once its zero point is subtracted."""
    return pool.number(("parts", zero), [filters], lambda w: packing.count_parts(w, zero))


def sums_are_short(
    ctx: Lowering, constant: Constant, recipe: tuple[Hashable, ...], quads: int, non_negative: bool,
    integers: Callable[[np.ndarray], np.ndarray],
) -> bool:  # fmt: skip
    """Whether kernels may take two quads at a time, of ``quads`` side by side, and add their products in 16 bits.

    ``integers`` turns the constant into an array (g, ocpg, icpg, kh, kw) of what is multiplied; ``recipe`` names it.
    """
    kernels = ctx.kernels
    if kernels.isa.dot is not DotKind.SHORT_PAIRS or quads % 2:
        return False
    key = ("short sums", non_negative, *recipe)
    return bool(ctx.pool.number(key, [constant], lambda w: packing.has_short_sums(integers(w), non_negative, kernels)))


def channel_scales(ctx: Lowering, scales: Var | None, scale: float) -> Ref | None:
    """The scale of products times that of each channel, padded to whole blocks; None if there is one only."""
    if scales is None:
        return None
    factor, width = np.float32(scale), ctx.width
    recipe = ("int8 scales", width, float(factor))
    constant = ctx.pool.derive(recipe, [scales.constant], lambda s: pad_channels(s.reshape(-1) * factor, 1, width))
    return ctx.constant(constant)


class _Conv:
    """A node with everything that its kernels have in common."""

    def __init__(self, ctx: Lowering, node: Node):
        p: QuantizedConv = node.params
        self.ctx, self.node, self.p = ctx, node, p.conv
        self.x, filter_, *rest = node.inputs
        self.y = node.outputs[0]
        self.filter = filter_.constant
        self.bias = rest.pop(0) if p.has_bias else None
        self.scales = rest.pop() if p.has_scales else None
        self.z_var = rest[0] if p.has_z else None
        self.input_dtype = p.input_dtype
        self.filter_dtype = filter_.dtype
        shape = filter_.shape
        self.w_shape = shape if p.conv.sparse == ConvolutionSparse.GROUP else (1, *shape)
        self.groups, self.ocpg = self.w_shape[:2]
        bias_dtype = None if self.bias is None else self.bias.dtype
        is_quantized = p.input_dtype.is_quantized
        self.scale = sum_scale(p.input_dtype, filter_.dtype, bias_dtype, p.conv_dtype) if is_quantized else 1.0
        # Rounds as the original does, which matters for ties. Its kernels for channel-wise filters are special: they
        # add an integer bias to the sums, which all others add to their real values; and without an activation they
        # multiply by one factor, as convolutions of asymmetric types do.
        channel_wise = self.is_depthwise and self.w_shape[3] in _CHANNEL_WISE_SIZES
        identity = p.conv.nonlineMode == ConvBiasNonlineMode.IDENTITY
        one_factor = not p.is_real and ((channel_wise and identity) or p.input_dtype.code in UNSIGNED_INT8)
        exact_bias = one_factor or channel_wise or keeps_sums(p.conv_dtype, self.scale)
        self.has_real_bias = self.bias is not None and (self.bias.dtype.is_float or not exact_bias)
        self.output = output_arguments(
            ctx, self.scale, p.conv_dtype, self.y.dtype, mode=p.conv.nonlineMode,
            z=self.z_var.dtype if self.z_var else None, add=p.add, real_bias=self.has_real_bias or p.has_scales,
            one_factor=one_factor, activation=p.activation if p.is_real else None,
        ) or {}  # fmt: skip
        # Kernels that multiply by one factor can add integers only, others small numbers, unless they clip results.
        has_float = self.bias is not None and self.bias.dtype.is_float and not p.is_real
        if has_float and self.bias is not None and (one_factor or not self._is_small(self.bias.const)):
            self.output = {}
        self.form = input_form(p.input_dtype, ctx.kernels.isa.dot, ctx.is_non_negative(self.x))

    def _is_small(self, bias: Constant | None) -> bool:
        """Whether a real bias is no larger than sums of products, as kernels want it."""
        assert bias is not None
        return bool(np.abs(bias.array).max() < 2.0**31 * self.scale)

    @property
    def is_depthwise(self) -> bool:
        return self.groups > 1 and self.w_shape[1] == self.w_shape[2] == 1

    @property
    def integers(self) -> Callable[[np.ndarray], np.ndarray]:
        """A function that turns the filter into integers (g, ocpg, icpg, kh, kw) for correlation."""
        mirrored, zero = self.p.mode == ConvolutionMode.CONVOLUTION, self.filter_dtype.zero_point
        return lambda w: packing.centred(plain_filter(w, mirrored), zero)

    def packed(self, recipe: tuple[Hashable, ...], pack: Callable[[np.ndarray], np.ndarray]) -> Ref:
        """The filter as ``pack`` makes it."""
        key = ("int8", *recipe, self.ctx.width, self.p.mode, self.p.sparse, self.filter_dtype.zero_point)
        pool, integers = self.ctx.pool, self.integers
        return self.ctx.constant(pool.derive(key, [self.filter], lambda w: pack(integers(w))))

    @property
    def parts(self) -> int:
        """How many signed bytes a weight takes: of all groups alike."""
        return count_parts(self.ctx.pool, self.filter, self.filter_dtype.zero_point)

    def has_short_sums(self, run: GroupRun) -> bool:
        """Whether ``conv_direct_int8`` may take two quads at a time, of merged groups together."""
        integers, width = self.integers, self.ctx.width
        if self.p.stride_w > 2:
            return False
        last = (self.w_shape[2] * run.merged - 1) % width + 1  # channels of the last block
        quads = math.gcd(width // QUAD, -(-last // QUAD))
        recipe = (run, self.p.mode, self.p.sparse, self.filter_dtype.zero_point)
        return sums_are_short(
            self.ctx, self.filter, recipe, quads, self.form.plain,
            lambda w: merge_groups(integers(w)[run.members], run.merged),
        )  # fmt: skip

    def biases(self) -> dict[str, Ref | None]:
        """What channels have of their own, padded to whole blocks.

        That is the integer bias with the compensation of the input's offset, the real bias, and the scales.
        """
        ctx, offset, width, integers = self.ctx, self.form.offset, self.ctx.width, self.integers
        bias = None if self.bias is None else self.bias.const
        parents = [self.filter] if bias is None or self.has_real_bias else [self.filter, bias]

        def total(w: np.ndarray, *biases: np.ndarray) -> np.ndarray:
            sums = packing.compensation(integers(w).reshape(-1, *w.shape[-3:]), offset)
            for b in biases:
                sums = sums + b.reshape(-1)
            return pad_channels(sums, 1, width)

        key = ("int8 bias", offset, width, self.filter_dtype.zero_point)
        refs: dict[str, Ref | None] = {"bias": ctx.constant(ctx.pool.derive(key, parents, total))}
        refs |= {"real_bias": None, "scales": channel_scales(ctx, self.scales, self.scale)}
        if self.has_real_bias:
            assert self.bias is not None and bias is not None
            factor = np.float32(1 if self.bias.dtype.is_float else self.scale)
            real = ctx.pool.derive(
                ("int8 real bias", width, float(factor)),
                [bias],
                lambda b: pad_channels(b.reshape(-1).astype(np.float32) * factor, 1, width),
            )
            refs["real_bias"] = ctx.constant(real)
        return refs

    def z(self) -> Tensor | None:
        return None if self.z_var is None else self.ctx.blocked(self.z_var)

    def emit(self, kernel: str, **arguments: Any) -> None:
        n, _, oh, ow = self.y.shape
        products = n * math.prod(self.w_shape) * oh * ow
        self.ctx.emit(kernel, self.node, **arguments, **self.output, flops=2 * products)


def _emit_depthwise(conv: _Conv) -> None:
    ctx, p = conv.ctx, conv.p
    n, _, oh, ow = conv.y.shape
    kh, kw = conv.w_shape[3:]
    neighbours = QUAD if p.dilate_w == 1 else 1
    x = _input(conv)
    z = conv.z()
    y = ctx.new_blocked(conv.y)
    width = ctx.width
    w = conv.packed(("depthwise", neighbours), lambda w: packing.pack_depthwise(w[:, 0, 0], width, neighbours))
    band = -(-oh // max(1, round(oh * ow / DEPTHWISE_PIXELS)))
    plain = not conv.form.flip and (conv.form.plain or conv.ctx.kernels.isa.dot is DotKind.U8S8_QUADS)
    conv.emit(
        "conv_depthwise_int8", x=x.ref, w=w, **conv.biases(), z=z.ref if z else None, y=y.ref,
        **blocked_strides("x", x), **blocked_strides("y", y), **blocked_strides("z", z), blocks=x.blocks, oh=oh, ow=ow,
        kh=kh, quads=-(-kw // neighbours), quad=QUAD if p.dilate_w == 1 else p.dilate_w,
        **window_arguments(_problem(conv).window, "stride", "pad"), dilate_h=p.dilate_h, band=band, parts=conv.parts,
        flip=conv.form.flip, plain=plain, work=n * x.blocks * -(-oh // band),
    )  # fmt: skip


def _input(conv: _Conv) -> Tensor:
    return conv.ctx.blocked(conv.x, conv.p.pad_h, conv.p.pad_w)


def _emit_direct(conv: _Conv) -> None:
    ctx = conv.ctx
    width = ctx.width
    problem = _problem(conv)
    x = _input(conv)
    z = conv.z()
    y = ctx.new_blocked(conv.y)
    joined = joined_rows(problem, x, y, z)
    first, arguments = direct_input(ctx, conv.node, x, conv.form, joined)
    wide = arguments["wide"]
    for run in group_runs(problem):
        channel = run.first * problem.oc
        block = channel // width
        w = conv.packed(
            ("direct", run, wide), partial(_pack_run, run=run, width=width, parts=conv.parts, wide=bool(wide))
        )
        _emit(
            conv, first + run.first * problem.ic // width * arguments["x_plane"], arguments, w, run.groups,
            problem.ic * run.merged, problem.oc * run.merged, moved(y, block=block),
            moved(z, block=block) if z else None, joined, not wide and conv.has_short_sums(run), channel,
        )  # fmt: skip


def _pack_run(filters: np.ndarray, run: GroupRun, width: int, parts: int, wide: bool) -> np.ndarray:
    return packing.pack_direct(merge_groups(filters[run.members], run.merged), width, width, parts, wide)


def flipped(ctx: Lowering, node: Node, x: Tensor, form: InputForm, wide: bool = False) -> tuple[Ref, int]:
    """Address and image stride of an input in the form that dot products take: of a copy, if it must be flipped.

    ``wide`` makes a copy of 16-bit numbers; the stride is in numbers.
    """
    if not form.flip and not wide:
        return x.ref, x.image
    before = x.halo_h * x.row + x.halo_w * x.width  # bytes of the halo before the first pixel
    image = x.blocks * x.plane
    copy = _copied(ctx, node, x.ref + -before, x.n, image, x.image, form.flip, wide)
    return copy + before * (2 if wide else 1), image


def _copied(ctx: Lowering, node: Node, x: Ref, n: int, size: int, x_image: int, flip: int, wide: bool) -> Ref:
    """``n`` images of ``size`` bytes, xored with those of ``flip``; as numbers of 16 bits if ``wide``."""
    copy = ctx.temp(n * size * (2 if wide else 1))
    ctx.emit(
        "widen_bytes" if wide else "flip_bytes", node, x=x, y=copy, size=size, chunk=FLIP_CHUNK, flip=flip,
        x_image=x_image, y_image=size, work=n * -(-size // FLIP_CHUNK),
    )  # fmt: skip
    return copy


def direct_input(ctx: Lowering, node: Node, x: Tensor, form: InputForm, joined: int = 1) -> tuple[Ref, dict[str, int]]:
    """Address of an input in the form that ``conv_direct_int8`` multiplies, and what the kernel is told about it."""
    wide = ctx.kernels.isa.dot.widens and not form.plain
    first, image = flipped(ctx, node, x, form, wide)
    strides = {**blocked_strides("x", x, joined), "x_image": image}
    return first, input_arguments(ctx.width, strides, wide)


def input_arguments(channels: int, strides: dict[str, int], wide: bool) -> dict[str, int]:
    """What ``conv_direct_int8`` is told about an input with blocks of so many channels; ``strides`` are in numbers."""
    size = 2 if wide else 1
    return {**{name: stride * size for name, stride in strides.items()}, "x_pixel": channels * size, "wide": wide}


def _emit(
    conv: _Conv, x: Ref, x_arguments: dict[str, int], w: Ref, groups: int, ic: int, oc: int, y: Tensor,
    z: Tensor | None, joined: int, short_sums: bool, channel: int = 0,
) -> None:  # fmt: skip
    """A call of the kernel for the output channels from ``channel`` on, where ``y`` and ``z`` begin."""
    parts = 1 if x_arguments["wide"] else conv.parts
    width = conv.ctx.width
    own = {name: ref and ref + 4 * channel for name, ref in conv.biases().items()}
    n, _, oh, ow = conv.y.shape
    kh, kw = conv.w_shape[3:]
    p = conv.p
    oh, ow = oh // joined, ow * joined
    chunks = -(-ow // MAX_ROW)
    paired = conv.ctx.kernels.module("conv_direct_int8").PAIRED_ROW
    two_rows = ow == paired and p.stride_w <= 2 and x_arguments["x_pixel"] == width
    lines = 2 if two_rows and oh > 1 else 1
    item_rows = -(-oh // lines)
    blocks = -(-oc // width)
    tiles = groups * -(-blocks // TILE_BLOCKS)
    band = rows_in_band(item_rows, tiles, x_arguments["x_image"], groups * blocks * width * ic * kh * kw * parts)
    conv.emit(
        "conv_direct_int8", x=x, w=w, **own, z=z.ref if z else None, y=y.ref, **x_arguments,
        y_pixel=width, **blocked_strides("y", y, joined), z_pixel=width, **blocked_strides("z", z, joined),
        groups=groups, ic=ic, oc=oc, oh=oh, ow=ow, **window_arguments(_problem(conv).window), lines=lines, band=band,
        chunks=chunks, parts=parts, plain=conv.form.plain, short_sums=short_sums, work=n * tiles * item_rows * chunks,
    )  # fmt: skip


def _emit_winograd(conv: _Conv) -> None:
    ctx, p = conv.ctx, _problem(conv)
    plan = winograd_int8_plan(p, ctx.config.threads)
    x = _input(conv)
    z = conv.z()
    y = ctx.new_blocked(conv.y)
    first, x_image = flipped(ctx, conv.node, x, conv.form)
    kernels, threads = ctx.kernels, ctx.config.threads
    w = conv.packed(("winograd",), lambda w: packing.pack_winograd(w[0], kernels, threads))
    conv.emit(
        "conv_winograd2_int8", x=first, w=w, **conv.biases(), z=z.ref if z else None, y=y.ref,
        **{**blocked_strides("x", x), "x_image": x_image}, **blocked_strides("y", y), **blocked_strides("z", z),
        x_bottom=p.ih + x.halo_h, x_right=p.iw + x.halo_w, ic=p.ic, oc=p.oc, oh=p.oh, ow=p.ow, pad_h=p.pad_h,
        pad_w=p.pad_w, tile_blocks=plan.tile_blocks, parts=plan.parts, work=p.n * plan.tile_blocks * plan.parts,
        scratch=plan.scratch_int8(p),
    )  # fmt: skip


def _problem(conv: _Conv) -> ConvProblem:
    p = conv.p
    n, _, ih, iw = conv.x.shape
    oh, ow = conv.y.shape[2:]
    groups, oc, ic, kh, kw = conv.w_shape
    return ConvProblem(
        n=n, groups=groups, ic=ic, oc=oc, ih=ih, iw=iw, oh=oh, ow=ow, kh=kh, kw=kw, stride_h=p.stride_h,
        stride_w=p.stride_w, dilate_h=p.dilate_h, dilate_w=p.dilate_w, pad_h=p.pad_h, pad_w=p.pad_w,
        kernels=conv.ctx.kernels, plain_input=not conv.ctx.is_blocked(conv.x),
        converts_input=conv.x.dtype != conv.input_dtype,
    )  # fmt: skip


def _emit_image(conv: _Conv) -> None:
    """The first convolution: the image is packed to pixels of four bytes, and quantized on the way."""
    ctx, p = conv.ctx, conv.p
    n, c, h, w = conv.x.shape
    to = conv.input_dtype
    source = ctx.plain(conv.x)
    z = conv.z()
    y = ctx.new_blocked(conv.y)
    rows, row = h + 2 * p.pad_h, (w + 2 * p.pad_w) * QUAD
    size = rows * row
    image = ctx.temp(n * size)
    ctx.emit(
        "pack_image_int8", conv.node, x=source.ref, y=image, channels=c, h=h, w=w, halo_h=p.pad_h, halo_w=p.pad_w,
        **source_arguments(conv.x.dtype), **target_arguments(to), flip=conv.form.flip, work=n * rows,
    )  # fmt: skip
    wide, width = ctx.kernels.isa.dot.widens, ctx.width
    if wide:
        image = _copied(ctx, conv.node, image, n, size, size, 0, wide)
    packed = conv.packed(("image", wide), lambda w: packing.pack_direct(w, width, QUAD, wide=wide))
    arguments = input_arguments(QUAD, {"x_row": row, "x_plane": size, "x_image": size}, wide)
    first = image + p.pad_h * arguments["x_row"] + p.pad_w * arguments["x_pixel"]
    _emit(conv, first, arguments, packed, 1, c, conv.ocpg, y, z, 1, False)


_EMIT: dict[str, Callable[[_Conv], None]] = {
    "conv_depthwise_int8": _emit_depthwise,
    "conv_image_int8": _emit_image,
    "conv_direct_int8": _emit_direct,
    "conv_winograd2_int8": _emit_winograd,
}
