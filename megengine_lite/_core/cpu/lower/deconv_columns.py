"""Transposed convolution in float32 as a product and a sum: each input pixel gives a window of the output.

The product of the filter and the pixels of a plain image has all windows; ``sum_windows_f32`` adds them up where they
lie on one another. Nothing is computed for channels that only fill a block, nor for places of the filter that meet
padding. In return all windows are written to memory and read again.
"""

from __future__ import annotations

from megengine_lite._core.cpu.lower.conv_direct import mirrored_filter
from megengine_lite._core.cpu.lower.matmul import SINGLE, Batch, Operand, emit_matmul
from megengine_lite._core.cpu.lower.parts import emit_sums
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref, Tensor
from megengine_lite._core.ir.graph import Constant, Node
from megengine_lite._core.ir.params import ConvolutionMode
from megengine_lite._core.operators.window import window_2d

# Of the windows of images that are computed at a time.
WINDOW_BYTES = 1 << 20
# Multiply-adds, for each number of an image, that bring the image into the order of the product.
PACK = 4.5
# Rows of the filter are multiplied in blocks of so many.
ROWS = 4


class ColumnProducts:
    """A ``ConvolutionBackwardData`` node in this way. ``of`` gives it if it can be computed so."""

    def __init__(self, ctx: Lowering, node: Node):
        p = node.params
        weight, x = node.inputs[:2]
        self.ctx, self.node = ctx, node
        self.groups, self.ic, self.oc, kh, kw = weight.shape if p.sparse else (1, *weight.shape)
        self.window = window_2d(p, (kh, kw))
        self.n, _, self.h, self.w = x.shape
        self.oh, self.ow = node.outputs[0].shape[2:]
        self.pixels = self.h * self.w
        self.rows = self.oc * kh * kw  # of the filter, one for each number of a window

    @classmethod
    def of(cls, ctx: Lowering, node: Node) -> ColumnProducts | None:
        """None if the filter is turned around and not constant, or if there is nothing to compute."""
        weight, x = node.inputs[:2]
        turned = node.params.mode == ConvolutionMode.CONVOLUTION
        if (turned and weight.const is None) or not (weight.spec.size and x.spec.size and node.outputs[0].spec.size):
            return None
        return cls(ctx, node)

    @property
    def _is_whole(self) -> bool:
        """Whether the only window of each image is the output."""
        return (
            self.pixels == 1
            and self.window.size == self.window.extent == (self.oh, self.ow)
            and not any(self.window.pad)
        )

    @property
    def cost(self) -> float:
        """In multiply-adds."""
        costs, images = self.ctx.kernels.isa.costs, self.n * self.groups
        products = float(self.ic * self.rows)
        if self._is_whole:
            return products * self.groups * (self.n + costs.weight)
        panel = int(self.ctx.kernels.module("gemm").PANEL)
        lanes = -(-self.pixels // panel) * panel
        relayout = 0.0 if self.ctx.is_plain(self.node.inputs[1]) else costs.relayout * self.ic * self.pixels
        products = lanes * self.ic * (-(-self.rows // ROWS) * ROWS + PACK)
        return images * (products + costs.relayout * self.rows * self.pixels + relayout)

    def emit(self) -> bool:
        x, y = self.ctx.plain(self.node.inputs[1]), self.ctx.new_plain(self.node.outputs[0])
        if self._is_whole:
            self._emit_whole(x, y)
        else:
            self._emit_windows(x, y)
        return True

    def _filter(self) -> Constant | None:
        """The filter, not turned around; None if it is not constant."""
        weight = self.node.inputs[0].const
        if weight is None or self.node.params.mode != ConvolutionMode.CONVOLUTION:
            return weight
        return mirrored_filter(self.ctx, weight)

    def _filter_memory(self) -> Ref:
        constant = self._filter()
        return self.ctx.plain(self.node.inputs[0]).ref if constant is None else self.ctx.constant(constant)

    def _emit_whole(self, x: Tensor, y: Tensor) -> None:
        """Rows of the product are images, columns the numbers of a window."""
        constant = self._filter() if self.groups == 1 else None
        emit_matmul(
            self.ctx, self.node, self.n, self.rows, self.ic,
            Operand(x.ref, self.groups * self.ic, 1, self.ic),
            Operand(self._filter_memory(), self.rows, 1, self.ic * self.rows),
            Operand(y.ref, self.groups * self.rows, 1, self.rows),
            weight=constant, batch=Batch(self.groups) if self.groups > 1 else SINGLE,
        )  # fmt: skip

    def _emit_windows(self, x: Tensor, y: Tensor) -> None:
        """Rows of the product are the numbers of a window, columns the pixels."""
        ctx, groups, rows, pixels = self.ctx, self.groups, self.rows, self.pixels
        filters = Operand(self._filter_memory(), 1, rows, 0, self.ic * rows)
        size = 4 * groups * rows * pixels
        together = max(1, min(self.n, WINDOW_BYTES // size))
        windows = ctx.temp(together * size)
        planes = groups * self.oc
        for first in range(0, self.n, together):
            count = min(together, self.n - first)
            image = x.ref + 4 * first * groups * self.ic * pixels
            emit_matmul(
                ctx, self.node, rows, pixels, self.ic, filters,
                Operand(image, pixels, 1, groups * self.ic * pixels, self.ic * pixels),
                Operand(windows, pixels, 1, groups * rows * pixels, rows * pixels),
                batch=Batch(count * groups, groups), rows_are_samples=False,
            )  # fmt: skip
            out = y.ref + 4 * first * planes * self.oh * self.ow
            emit_sums(ctx, self.node, windows, out, count * planes, self.window, (self.oh, self.ow), (self.h, self.w))
