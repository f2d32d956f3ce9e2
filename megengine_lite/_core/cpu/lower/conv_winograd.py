"""float32 convolution of 3 x 3 filters by Winograd, also dilated ones, phase by phase."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from megengine_lite._core.cpu.algorithms.convolution import ConvProblem, WinogradPlan
from megengine_lite._core.cpu.algorithms.phases import PhasePlan
from megengine_lite._core.cpu.kernel_set import KernelSet
from megengine_lite._core.cpu.lower.conv_direct import packed_bias, packed_filter
from megengine_lite._core.cpu.lower.copying import View, emit_copy, emit_fill, view_of
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.packing import float32 as packing
from megengine_lite._core.cpu.steps import Ref, Tensor, blocked_strides, epilogue_arguments
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
    plan = PhasePlan.make(p)
    whole = plan.problem
    spec = TensorSpec((whole.n, p.oc, whole.oh, whole.ow), FLOAT32)
    inputs = ctx.temp_blocked(TensorSpec((whole.n, p.ic, whole.ih, whole.iw), FLOAT32), whole.pad_h, whole.pad_w)
    results, added = ctx.temp_blocked(spec), ctx.temp_blocked(spec) if z else None
    numbers = Tensor(TensorSpec((whole.n * inputs.image,), FLOAT32), Ref(inputs.ref.piece))
    emit_fill(ctx, node, numbers, np.zeros(1, np.float32))
    _gather_phases(ctx, node, plan, ctx.blocked(x), inputs)
    if z and added:
        _gather_phases(ctx, node, plan, ctx.blocked(z), added)
    _emit_call(ctx, node, whole, m, inputs, bias, added, results, p.products)
    for place, phase in _phase_views(plan, ctx.new_blocked(node.outputs[0]), results):
        emit_copy(ctx, node, phase, place)


def _gather_phases(ctx: Lowering, node: Node, plan: PhasePlan, image: Tensor, phases: Tensor) -> None:
    for place, phase in _phase_views(plan, image, phases):
        emit_copy(ctx, node, place, phase)


def _phase_views(plan: PhasePlan, image: Tensor, phases: Tensor) -> Iterator[tuple[View, View]]:
    """Each phase as it lies in an image, and in the image of phases."""
    step_h, step_w = plan.dilate
    for phase in plan.phases(image.h, image.w):
        yield (
            view_of(image).slice(2, phase.row, phase.rows, step_h).slice(3, phase.column, phase.columns, step_w),
            view_of(phases).slice(2, phase.top, phase.rows).slice(3, phase.left, phase.columns),
        )


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
