"""Quantized transposed convolution, by phases like the float one (:mod:`megengine_lite._core.cpu.lower.deconv`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from megengine_lite._core.cpu.algorithms.convolution import merged_groups
from megengine_lite._core.cpu.lower.deconv import MAX_PHASES, Phase, halo_of, phase_filter, phase_problem, phases_of
from megengine_lite._core.cpu.lower.quantized_conv import (
    InputForm,
    count_parts,
    direct_input,
    input_form,
)
from megengine_lite._core.cpu.lower.requantize import is_int8_operand, output_arguments
from megengine_lite._core.cpu.lower.window import window_arguments
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.packing import int8 as packing
from megengine_lite._core.cpu.packing.float32 import merge_groups, pad_channels
from megengine_lite._core.cpu.steps import Ref, Tensor, blocked_strides
from megengine_lite._core.ir.graph import Node
from megengine_lite._core.ir.params import ConvolutionMode
from megengine_lite._core.operators.conv_types import product_scale
from megengine_lite.kernels.common.shared_constants import TILE_BLOCKS


def lower_quantized_deconv(ctx: Lowering, node: Node) -> bool | None:
    w, x = node.inputs[:2]
    y = node.outputs[0]
    if not is_int8_operand(x.dtype) or not is_int8_operand(w.dtype) or w.const is None:
        return False
    if node.params.stride_h * node.params.stride_w > MAX_PHASES:
        return False
    scale = product_scale(x.dtype, w.dtype) if x.dtype.is_quantized else 1.0
    output = output_arguments(ctx, scale, y.dtype, y.dtype, one_factor=True)  # as in the original
    if output is None:
        return False
    rows, columns = phases_of(node)
    source = ctx.blocked(x, halo_of(rows, x.shape[2]), halo_of(columns, x.shape[3]))
    target = ctx.new_blocked(y)
    form = input_form(x.dtype, ctx.kernels.isa.dot, ctx.is_non_negative(x))
    first, arguments = direct_input(ctx, node, source, form)
    for row in rows:
        for column in columns:
            _emit_phase(ctx, node, first, arguments, source, target, row, column, form, output)
    return None


def _emit_phase(
    ctx: Lowering, node: Node, x: Ref, x_arguments: dict[str, Any], source: Tensor, target: Tensor, row: Phase,
    column: Phase, form: InputForm, output: dict[str, Any],
) -> None:  # fmt: skip
    p = node.params
    weight = node.inputs[0]
    problem = phase_problem(ctx, node, (source.n, source.h, source.w), row, column)
    merged = merged_groups(problem)
    groups, ic, oc = problem.groups // merged, problem.ic * merged, problem.oc * merged
    zero, mirrored, width = weight.dtype.zero_point, p.mode == ConvolutionMode.CONVOLUTION, ctx.width
    offset, wide = form.offset, bool(x_arguments["wide"])

    def taps(array: np.ndarray) -> np.ndarray:
        return merge_groups(packing.centred(phase_filter(array, mirrored, row, column), zero), merged)

    def biases(array: np.ndarray) -> np.ndarray:
        sums = packing.compensation(taps(array).reshape(groups * oc, -1), offset)
        return pad_channels(sums, groups, width)

    key = ("int8 deconv", width, mirrored, zero, row, column, merged)
    parts = 1 if wide else count_parts(ctx.pool, weight.constant, zero)
    w = ctx.pool.derive(
        (*key, wide), [weight.constant], lambda array: packing.pack_direct(taps(array), width, width, parts, wide)
    )
    bias = ctx.pool.derive((*key, "bias", offset), [weight.constant], biases)
    tiles = groups * -(-problem.blocks(oc) // TILE_BLOCKS)
    item = target.spec.dtype.itemsize
    ctx.emit(
        "conv_direct_int8", node, x=x, w=ctx.constant(w), bias=ctx.constant(bias), scales=None, real_bias=None, z=None,
        y=target.ref + item * (row.first * target.row + column.first * width), **x_arguments,
        y_pixel=p.stride_w * width, **blocked_strides("y", target, p.stride_h), z_pixel=0, **blocked_strides("z", None),
        groups=groups, ic=ic, oc=oc, oh=row.count, ow=column.count, **window_arguments(problem.window), lines=1,
        band=row.count, chunks=1, parts=parts, plain=form.plain, short_sums=False, **output,
        work=source.n * tiles * row.count, flops=2 * problem.products,
    )  # fmt: skip
