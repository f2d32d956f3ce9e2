"""Transposed convolution in float32: each phase of the output is a convolution of the input with stride 1.

``deconv_columns`` has another way, which is cheaper where blocks of channels or filters would be mostly empty.

Output row ``stride t + phase`` gets its products from the filter rows k with
``(phase + pad - k dilate) % stride == 0``, of input rows ``t + (phase + pad - k dilate) / stride``. These k are evenly
spaced, and so are the input rows. So a phase is a convolution with a part of the filter, and ``conv_direct`` and
``conv_depthwise`` compute it; they write every ``stride``-th pixel.
"""

from __future__ import annotations

import math

import numpy as np

from megengine_lite._core.cpu.algorithms.convolution import ConvProblem, merged_groups
from megengine_lite._core.cpu.lower.conv_direct import plain_filter, rows_in_band
from megengine_lite._core.cpu.lower.deconv_columns import ColumnProducts
from megengine_lite._core.cpu.lower.window import window_arguments
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.packing import float32 as packing
from megengine_lite._core.cpu.steps import Ref, Tensor, blocked_strides, epilogue_arguments
from megengine_lite._core.ir.fused import NO_ACTIVATION
from megengine_lite._core.ir.graph import Constant, Node
from megengine_lite._core.ir.params import ConvolutionMode
from megengine_lite._records import record
from megengine_lite.kernels.common.shared_constants import TILE_BLOCKS, weight_bytes

MAX_PHASES = 64  # each is a step with weights of its own
DEPTHWISE_COST = 4  # of a product of a depthwise filter, in multiply-adds of others


@record(frozen=True, slots=True)
class Phase:
    """One phase in one direction: its outputs and the taps that they read.

    ``taps`` are filter positions in the order of the input that they read: output t reads inputs
    ``t - pad + j dilate`` for tap number j.
    """

    first: int
    count: int
    taps: tuple[int, ...]
    pad: int
    dilate: int

    @property
    def last_read(self) -> int:
        """The last input position that the last output reads."""
        return self.count - 1 - self.pad + (len(self.taps) - 1) * self.dilate


def phases(size: int, kernel: int, stride: int, dilate: int, pad: int) -> list[Phase]:
    """The phases of an output of the given size."""
    found = []
    for first in range(min(stride, size)):
        taps = [k for k in reversed(range(kernel)) if (first + pad - k * dilate) % stride == 0]
        offset = (first + pad - taps[0] * dilate) // stride if taps else 0
        count = -(-(size - first) // stride)
        found.append(Phase(first, count, tuple(taps), -offset, dilate // math.gcd(stride, dilate)))
    return found


def phases_of(node: Node) -> tuple[list[Phase], list[Phase]]:
    """The phases of a ``ConvolutionBackwardData`` node in both directions."""
    p = node.params
    kh, kw = node.inputs[0].shape[-2:]
    oh, ow = node.outputs[0].shape[2:]
    return phases(oh, kh, p.stride_h, p.dilate_h, p.pad_h), phases(ow, kw, p.stride_w, p.dilate_w, p.pad_w)


def halo_of(found: list[Phase], size: int) -> int:
    """How far phases read beyond an input of the given size."""
    return max(0, *(max(f.pad, f.last_read - (size - 1)) for f in found if f.taps), 0)


def halo_wish(node: Node, index: int) -> tuple[int, int]:
    if index != 1 or not _has_phases(node):
        return 0, 0
    rows, columns = phases_of(node)
    h, w = node.inputs[1].shape[2:]
    return halo_of(rows, h), halo_of(columns, w)


def _has_phases(node: Node) -> bool:
    return node.params.stride_h * node.params.stride_w <= MAX_PHASES and node.inputs[0].const is not None


def lower_deconv(ctx: Lowering, node: Node) -> bool:
    other = ColumnProducts.of(ctx, node)
    if not _has_phases(node):
        return other is not None and other.emit()
    if other is not None and other.cost < cost_of_phases(ctx, node):
        return other.emit()
    xt = ctx.blocked(node.inputs[1], *halo_wish(node, 1))
    yt = ctx.new_blocked(node.outputs[0])
    rows, columns = phases_of(node)
    for row in rows:
        for column in columns:
            _emit_phase(ctx, node, xt, yt, row, column)
    return True


def cost_of_phases(ctx: Lowering, node: Node) -> float:
    """In multiply-adds."""
    x = node.inputs[1]
    n, channels, h, w = x.shape
    rows, columns = phases_of(node)
    relayout = ctx.kernels.isa.costs.relayout * n * channels * h * w if ctx.is_plain(x) else 0.0
    first = phase_problem(ctx, node, (n, h, w), rows[0], columns[0])
    places = math.prod(sum(len(f.taps) * f.count for f in found) for found in (rows, columns))
    products = n * first.groups * first.ic * places
    if first.ic == first.oc == 1 < first.groups:
        return relayout + DEPTHWISE_COST * products
    merged = merged_groups(first)
    return relayout + products * first.blocks(first.oc * merged) * first.width


def phase_problem(ctx: Lowering, node: Node, images: tuple[int, int, int], row: Phase, column: Phase) -> ConvProblem:
    """A phase as a convolution; the input's number of images, rows and columns."""
    n, ih, iw = images
    groups, ic, oc = (node.inputs[0].shape if node.params.sparse else (1, *node.inputs[0].shape))[:3]
    return ConvProblem(
        n=n, groups=groups, ic=ic, oc=oc, ih=ih, iw=iw, oh=row.count, ow=column.count, kh=len(row.taps),
        kw=len(column.taps), stride_h=1, stride_w=1, dilate_h=row.dilate, dilate_w=column.dilate, pad_h=row.pad,
        pad_w=column.pad, kernels=ctx.kernels, plain_input=False,
    )  # fmt: skip


def _emit_phase(ctx: Lowering, node: Node, xt: Tensor, yt: Tensor, row: Phase, column: Phase) -> None:
    p, weight = node.params, node.inputs[0].constant
    problem = phase_problem(ctx, node, (xt.n, xt.h, xt.w), row, column)
    groups, ic, oc = problem.groups, problem.ic, problem.oc
    geometry = {
        "y": yt.ref + 4 * (row.first * yt.row + column.first * ctx.width),
        "y_pixel": p.stride_w * ctx.width,
        **blocked_strides("y", yt, p.stride_h),
        **blocked_strides("x", xt),
        **blocked_strides("z", None),
        **window_arguments(problem.window),
        "oh": row.count,
        "ow": column.count,
    }
    common = {"x": xt.ref, "bias": None, "z": None, **epilogue_arguments(NO_ACTIVATION), **geometry}
    depthwise = ic == oc == 1 and groups > 1
    m = 1 if depthwise else merged_groups(problem)
    w = _packed(ctx, weight, p.mode == ConvolutionMode.CONVOLUTION, row, column, 0 if depthwise else m)
    flops = 2 * problem.products
    if depthwise:
        ctx.emit(
            "conv_depthwise_f32", node, w=w, blocks=xt.blocks, ih=xt.h, iw=xt.w,
            work=xt.n * xt.blocks * row.count, flops=flops, **common,
        )  # fmt: skip
        return
    groups, ic, oc = groups // m, ic * m, oc * m
    tiles = groups * -(-problem.blocks(oc) // TILE_BLOCKS)
    w_bytes = weight_bytes(ctx.weights) * groups * problem.blocks(oc) * ctx.width * ic * problem.kh * problem.kw
    ctx.emit(
        "conv_direct_f32", node, w=w, weights=ctx.weights, run=0, groups=groups, x_group=problem.blocks(ic),
        y_group=problem.blocks(oc), ic=ic, oc=oc,
        band=rows_in_band(row.count, tiles, xt.image * 4, w_bytes), chunks=1, work=xt.n * tiles * row.count,
        flops=flops, **common,
    )  # fmt: skip


def phase_filter(array: np.ndarray, mirrored: bool, row: Phase, column: Phase) -> np.ndarray:
    """The taps of a phase. Input channels of a transposed convolution are output channels of the forward one."""
    return plain_filter(array, mirrored)[..., list(row.taps), :][..., list(column.taps)].swapaxes(1, 2)


def _packed(ctx: Lowering, weight: Constant, mirrored: bool, row: Phase, column: Phase, merged: int) -> Ref:
    """The taps of a phase; ``merged`` 0 means depthwise."""
    kernels, threads, weights = ctx.kernels, ctx.config.threads, ctx.weights

    def pack(array: np.ndarray) -> np.ndarray:
        taps = phase_filter(array, mirrored, row, column)
        if not merged:
            return packing.pack_depthwise(taps, kernels, threads)
        return packing.pack_direct(packing.merge_groups(taps, merged), kernels, threads, weights)

    recipe = ("pack_deconv", kernels.width, weights, mirrored, row, column, merged)
    return ctx.constant(ctx.pool.derive(recipe, [weight], pack))
