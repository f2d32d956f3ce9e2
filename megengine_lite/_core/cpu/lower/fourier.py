"""Fourier transforms."""

from __future__ import annotations

import math

import numpy as np

from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.graph import Constant, Node
from megengine_lite._core.operators.onnx_signal import FourierTransform, ShortTimeFourier


def lower_transform(ctx: Lowering, node: Node) -> bool | None:
    p, shape = node.params, node.inputs[0].shape
    axis, n = FourierTransform.axis_and_length(node, shape, [v.spec.value for v in node.inputs[1:]])
    if axis != len(shape) - 2 or (p.inverse and p.onesided):
        return False
    rows, length = math.prod(shape[:-2]), shape[axis]
    return _emit(ctx, node, n, rows, rows, 0, length * shape[-1], shape[-1], length, None, p.inverse)


def lower_short_time(ctx: Lowering, node: Node) -> bool | None:
    x = node.inputs[0]
    step, n = ShortTimeFourier.step_and_frame(node, [v.spec for v in node.inputs])
    window = node.inputs[2] if node.params.has_window else None
    if window is not None and window.dtype != FLOAT32:
        return False
    signals, count = node.outputs[0].shape[:2]
    parts = x.shape[2] if len(x.shape) == 3 else 1
    factor = None if window is None else ctx.plain(window).ref
    return _emit(ctx, node, n, signals * count, count, x.shape[1] * parts, step * parts, parts, n, factor, False)


def _emit(
    ctx: Lowering, node: Node, n: int, rows: int, rows_of_signal: int, signal_stride: int, row_stride: int, parts: int,
    length: int, window: Ref | None, inverse: bool,
) -> bool | None:  # fmt: skip
    kernel = ctx.kernels.module("fourier")
    factors = _factors(n, kernel.RADICES)
    if factors is None or n > kernel.MAX_LENGTH or len(factors) > kernel.MAX_FACTORS:
        return False
    angles = 2 * np.pi / n * np.arange(n)
    turns = Constant(np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32), ("turns", n))
    y = node.outputs[0]
    ctx.emit(
        "fourier_rows_f32", node, x=ctx.plain(node.inputs[0]).ref, window=window, turns=ctx.constant(turns),
        y=ctx.new_plain(y).ref, rows=rows, rows_of_signal=rows_of_signal, signal_stride=signal_stride,
        row_stride=row_stride, parts=parts, length=min(length, n), n=n, bins=y.shape[-2], inverse=inverse,
        factors=len(factors),
        **{f"factor{k}": factors[k] if k < len(factors) else 1 for k in range(kernel.MAX_FACTORS)},
        work=-(-rows // ctx.width), scratch=kernel.scratch_bytes(n), flops=int(5 * rows * n * math.log2(n)),
    )  # fmt: skip
    return None


def _factors(n: int, radices: tuple[int, ...]) -> list[int] | None:
    """The factors of a number, as few as there may be; None if it has others."""
    found = []
    for radix in radices:
        while n % radix == 0:
            found.append(radix)
            n //= radix
    return found if n == 1 else None
