"""Quantized matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np

from megengine_lite._core.compile.passes.fuse_quantized import as_quantized_matmul
from megengine_lite._core.cpu.isa import DotKind
from megengine_lite._core.cpu.lower.quantized_conv import channel_scales, count_parts, input_form, sums_are_short
from megengine_lite._core.cpu.lower.requantize import is_int8_operand, output_arguments
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.packing import int8 as packing
from megengine_lite._core.cpu.packing.float32 import pad_channels
from megengine_lite._core.cpu.steps import Ref
from megengine_lite._core.ir.dtype import UNSIGNED_INT8
from megengine_lite._core.ir.fused_quantized import QuantizedMatMul
from megengine_lite._core.ir.graph import Node, Var
from megengine_lite._core.ir.image_layouts import round_up
from megengine_lite._core.operators.conv_types import product_scale
from megengine_lite.kernels.common.shared_constants import QUAD, TILE_BLOCKS


def lower_int8_matmul(ctx: Lowering, node: Node) -> bool | None:
    fused = as_quantized_matmul(node)
    return False if fused is None else lower_quantized_matmul(ctx, fused)


def lower_quantized_matmul(ctx: Lowering, node: Node) -> bool | None:
    return _lower(ctx, node, node.params)


def lower_batched(ctx: Lowering, node: Node) -> bool | None:
    return _lower(ctx, node, QuantizedMatMul(matmul=node.params, product_dtype=node.outputs[0].dtype))


def _lower(ctx: Lowering, node: Node, p: QuantizedMatMul) -> bool | None:
    a, b = node.inputs[:2]
    transpose_a, transpose_b = p.matmul.transposeA, p.matmul.transposeB
    bias = node.inputs[2] if p.has_bias else None
    scales = node.inputs[-1] if p.has_scales else None
    y = node.outputs[0]
    if not is_int8_operand(a.dtype) or not is_int8_operand(b.dtype):
        return False
    scale = product_scale(a.dtype, b.dtype) if a.dtype.is_quantized else 1.0
    output = output_arguments(
        ctx, scale, p.product_dtype, y.dtype, real_bias=p.is_real, activation=p.activation if p.is_real else None
    )
    if output is None or (bias is not None and (bias.const is None or bias.dtype.is_float != p.is_real)):
        return False
    integers, reals = (None, bias) if p.is_real else (bias, None)
    m, n = y.shape[-2:]
    k = a.shape[-2] if transpose_a else a.shape[-1]
    batch = y.shape[0] if len(y.shape) == 3 else 1
    is_constant = b.const is not None and batch == 1
    if integers is not None and not is_constant:
        return False
    # The kernel has one form for a set: signed bytes where it takes both.
    form = input_form(a.dtype, DotKind.U8S8_QUADS if ctx.kernels.isa.dot is DotKind.U8S8_QUADS else DotKind.S8S8_QUADS)
    left = ctx.plain(a).ref
    row, column = (1, m) if transpose_a else (k, 1)
    kernel = ctx.kernels.module("gemm_int8")
    packed = m > kernel.FEW_ROWS
    short_sums = is_constant and _sums_are_short(ctx, b, transpose_b, k)
    widens = packed and ctx.kernels.isa.dot.widens and not short_sums
    if widens:
        rows = ctx.kernels.module("gemm_wide_int8").WIDE_ROWS
        left = _pack_rows_wide(ctx, node, left, batch, m, k, row, column, rows, form.flip)
    elif packed:
        rows = kernel.BLOCK_ROWS
        left = _pack_rows(ctx, node, left, batch, m, k, row, column, rows, form.flip)
    else:
        rows = kernel.FEW_ROWS
        if form.flip or column != 1 or k % QUAD:
            left = _pack_rows(ctx, node, left, batch, m, k, row, column, 1, form.flip)
            row = round_up(k, QUAD)
    if is_constant:
        right, parts, biases = _constant_columns(ctx, b, transpose_b, form.offset, integers)
    else:
        right, parts, biases = _pack_columns(ctx, node, b, batch, k, n, transpose_b, form.offset, widens)
    tiles = -(-n // (TILE_BLOCKS * ctx.width))
    arguments: dict[str, Any] = {
        "a": left, "b": right, "bias": biases, "scales": channel_scales(ctx, scales, scale),
        "real_bias": None if reals is None else _padded(ctx, reals), "c": ctx.new_plain(y).ref, "m": m, "n": n, "k": k,
        "parts": parts, **output, "work": batch * tiles * -(-m // rows), "flops": 2 * batch * m * n * k,
    }  # fmt: skip
    if widens:
        ctx.emit("gemm_wide_int8", node, wide_b=not is_constant, **arguments)
    else:
        ctx.emit("gemm_int8", node, packed=packed, a_row=row, a_matrix=m * row, short_sums=short_sums, **arguments)
    return None


def _padded(ctx: Lowering, bias: Var) -> Ref:
    """A number for each column, padded to whole vectors."""
    width = ctx.width
    return ctx.constant(
        ctx.pool.derive(("int8 real bias", width), [bias.constant], lambda b: pad_channels(b.reshape(-1), 1, width))
    )


def _pack_rows(
    ctx: Lowering, node: Node, a: Ref, batch: int, m: int, k: int, row: int, column: int, block: int, flip: int
) -> Ref:
    blocks = -(-m // block)
    out = ctx.temp(batch * blocks * block * round_up(k, QUAD))
    ctx.emit(
        "pack_rows_int8", node, x=a, y=out, m=m, k=k, row=row, column=column, matrix=m * k, block=block,
        flip=flip & 255, work=batch * blocks,
    )  # fmt: skip
    return out


def _pack_rows_wide(
    ctx: Lowering, node: Node, a: Ref, batch: int, m: int, k: int, row: int, column: int, block: int, flip: int
) -> Ref:
    blocks = -(-m // block)
    out = ctx.temp(batch * blocks * block * round_up(k, QUAD) * 2)
    ctx.emit(
        "pack_rows_wide_int8", node, x=a, y=out, m=m, k=k, row=row, column=column, matrix=m * k, flip=flip & 255,
        work=batch * blocks,
    )  # fmt: skip
    return out


def _sums_are_short(ctx: Lowering, b: Var, transposed: bool, k: int) -> bool:
    zero = b.dtype.zero_point

    def filters(w: np.ndarray) -> np.ndarray:
        return packing.centred(w if transposed else w.T, zero)[None, :, :, None, None]

    return sums_are_short(ctx, b.constant, ("columns", transposed, zero), -(-k // QUAD), False, filters)


def _constant_columns(ctx: Lowering, b: Var, transposed: bool, offset: int, bias: Var | None) -> tuple[Ref, int, Ref]:
    """A constant right operand, packed, with the number of its parts and the integer bias of its columns."""
    zero, width = b.dtype.zero_point, ctx.width

    def integers(w: np.ndarray) -> np.ndarray:
        return packing.centred(w.T if transposed else w, zero)

    def total(w: np.ndarray, *biases: np.ndarray) -> np.ndarray:
        sums = packing.compensation(integers(w).T, offset)
        for x in biases:
            sums = sums + x.reshape(-1)
        return pad_channels(sums, 1, width)

    parents = [b.constant] if bias is None else [b.constant, bias.constant]
    key = ("int8 columns", width, transposed, zero)
    columns = ctx.pool.derive(key, [b.constant], lambda w: packing.pack_columns(integers(w), width))
    sums = ctx.pool.derive((*key, "bias", offset), parents, total)
    return ctx.constant(columns), count_parts(ctx.pool, b.constant, zero), ctx.constant(sums)


def _pack_columns(
    ctx: Lowering, node: Node, b: Var, batch: int, k: int, n: int, transposed: bool, offset: int, widens: bool
) -> tuple[Ref, int, Ref]:
    """A right operand that is computed, packed before each product; as numbers of 16 bits if it ``widens``."""
    unsigned = b.dtype.code in UNSIGNED_INT8
    low, high = (0, 255) if unsigned else (-128, 127)
    extremes = np.array([low, high])
    parts = 1 if widens else packing.count_parts(extremes, b.dtype.zero_point)
    blocks, quads = -(-n // ctx.width), -(-k // QUAD)
    columns = ctx.temp(batch * blocks * ctx.width * parts * quads * QUAD * (2 if widens else 1))
    sums = ctx.temp(batch * blocks * ctx.width * 4)
    row, column = (1, k) if transposed else (n, 1)
    arguments: dict[str, Any] = {
        "x": ctx.plain(b).ref, "y": columns, "bias": sums, "k": k, "n": n, "row": row, "column": column,
        "matrix": k * n, "mask": 255 if unsigned else -1, "zero": b.dtype.zero_point, "offset": offset,
        "work": batch * -(-blocks // TILE_BLOCKS),
    }  # fmt: skip
    if widens:
        ctx.emit("pack_columns_wide_int8", node, **arguments)
    else:
        ctx.emit("pack_columns_int8", node, parts=parts, **arguments)
    return columns, parts, sums
