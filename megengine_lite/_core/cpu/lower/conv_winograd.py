"""float32 convolution of 3 x 3 filters by Winograd, also dilated ones, phase by phase."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.cpu.algorithms.convolution import ConvProblem, WinogradPlan
from megengine_lite._core.cpu.algorithms.phases import PhasePlan
from megengine_lite._core.cpu.kernel_set import KernelSet
from megengine_lite._core.cpu.lower.conv_direct import packed_bias, packed_filter
from megengine_lite._core.cpu.lower.copying import emit_copy, emit_fill, view_of
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.packing import float32 as packing
from megengine_lite._core.cpu.steps import Tensor, blocked_strides, epilogue_arguments
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.graph import Node, TensorSpec, Var
from megengine_lite.kernels.common.shared_constants import Weights


def emit_winograd(ctx: Lowering, node: Node, p: ConvProblem, x: Var, bias: Var | None, z: Var | None, m: int) -> None:
    """By tiles of m x m outputs."""
    xt = ctx.blocked(x, p.pad_h, p.pad_w)
    zt = ctx.blocked(z) if z else None
    _emit_call(ctx, node, p, m, xt, bias, zt, ctx.new_blocked(node.outputs[0]), p.products)


def emit_dilated(ctx: Lowering, node: Node, p: ConvProblem, x: Var, bias: Var | None, z: Var | None, m: int) -> None:
    """The same on an image of the phases, from which results are copied."""
    plan, dilate = PhasePlan.make(p), (p.dilate_h, p.dilate_w)
    whole = plan.problem
    inputs = _image(ctx, whole.n, p.ic, whole.ih, whole.iw, whole.pad_h, whole.pad_w)
    results = _image(ctx, whole.n, p.oc, whole.oh, whole.ow)
    added = _image(ctx, whole.n, p.oc, whole.oh, whole.ow) if z else None
    border = 4 * (inputs.halo_h * inputs.row + inputs.halo_w * inputs.width)
    numbers = Tensor(TensorSpec((whole.n * inputs.image,), FLOAT32), inputs.ref + -border)
    emit_fill(ctx, node, numbers, np.zeros(1, np.float32))
    _copy_phases(ctx, node, plan, dilate, ctx.blocked(x), inputs, gather=True)
    if z and added:
        _copy_phases(ctx, node, plan, dilate, ctx.blocked(z), added, gather=True)
    _emit_call(ctx, node, whole, m, inputs, bias, added, results, p.products)
    _copy_phases(ctx, node, plan, dilate, ctx.new_blocked(node.outputs[0]), results, gather=False)


def _image(ctx: Lowering, n: int, c: int, h: int, w: int, halo_h: int = 0, halo_w: int = 0) -> Tensor:
    """Memory in blocked layout for the steps of a node."""
    width = ctx.width
    row = (w + 2 * halo_w) * width
    image = -(-c // width) * (h + 2 * halo_h) * row
    ref = ctx.temp(4 * n * image) + 4 * (halo_h * row + halo_w * width)
    return Tensor(TensorSpec((n, c, h, w), FLOAT32), ref, width, halo_h, halo_w, image)


def _copy_phases(
    ctx: Lowering, node: Node, plan: PhasePlan, dilate: tuple[int, int], image: Tensor, phases: Tensor, *, gather: bool
) -> None:
    """Copies each phase of an image to its place, or (not ``gather``) from there."""
    for phase, rows, columns in plan.places(dilate, image.h, image.w):
        spread = view_of(image).slice(2, phase.row, rows, dilate[0]).slice(3, phase.column, columns, dilate[1])
        dense = view_of(phases).slice(2, phase.top, rows).slice(3, phase.left, columns)
        if gather:
            emit_copy(ctx, node, spread, dense)
        else:
            emit_copy(ctx, node, dense, spread)


def _emit_call(
    ctx: Lowering, node: Node, p: ConvProblem, m: int, x: Tensor, bias: Var | None, z: Tensor | None, y: Tensor,
    products: int,
) -> None:  # fmt: skip
    """``products`` are wanted."""
    plan = WinogradPlan.make(p, m, ctx.config.threads)
    weights = ctx.weights
    if weights is Weights.BFLOAT16:  # the output transform would magnify its errors
        weights = Weights.FLOAT16 if ctx.kernels.isa.widens_float16 else Weights.FLOAT32

    def pack(array: np.ndarray, kernels: KernelSet, threads: int) -> np.ndarray:
        return packing.pack_winograd(array, m, kernels, threads, weights)

    ctx.emit(
        f"conv_winograd{m}_f32", node, x=x.ref, w=packed_filter(ctx, node, ("pack_winograd", m, weights), pack),
        weights=weights, bias=packed_bias(ctx, bias), z=z.ref if z else None, y=y.ref, **blocked_strides("x", x),
        x_bottom=p.ih + x.halo_h, x_right=p.iw + x.halo_w, **blocked_strides("y", y), **blocked_strides("z", z),
        ic=p.ic, oc=p.oc, oh=p.oh, ow=p.ow, pad_h=p.pad_h, pad_w=p.pad_w, tile_blocks=plan.tile_blocks,
        parts=plan.parts, **epilogue_arguments(node.params.activation), work=p.n * plan.tile_blocks * plan.parts,
        scratch=plan.scratch(p), flops=2 * products,
    )  # fmt: skip
