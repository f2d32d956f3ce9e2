"""Correlation of two feature maps over displacements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.quantize import from_float32, to_float32
from megengine_lite._core.operators.base import Operator, fail, register
from megengine_lite._core.operators.checks import check_count, check_float
from megengine_lite._core.operators.facts import IMAGE, InOriginal
from megengine_lite._core.operators.window import pad_space


@register
class CorrelationForward(Operator):
    """Mean over channels and a window of ``a * shifted b`` (or of ``|a - shifted b|``), one channel per displacement.

    Inputs a and b, both NCHW.
    """

    name = "CorrelationForward"
    param = params.Correlation
    in_original = InOriginal(label="correlation")
    sample_inputs = (IMAGE, IMAGE)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        p, dtype = node.params, check_float(node, ins)
        if p.format != params.CorrelationFormat.NCHW:
            raise fail(node, f"is defined for NCHW only, not for {p.format!s}")
        if len(ins[0].shape) != 4 or ins[0].shape != ins[1].shape:
            raise fail(node, f"needs two NCHW tensors of one shape, has {ins[0].shape} and {ins[1].shape}")
        if p.kernel_size % 2 == 0 or min(p.stride1, p.stride2) < 1:
            raise fail(node, f"needs an odd kernel_size and positive strides, has {p}")
        n, _, h, w = ins[0].shape
        border = p.max_displacement + p.kernel_size // 2
        out = [-(-(size + 2 * p.pad_size - 2 * border) // p.stride1) for size in (h, w)]
        if min(out) < 1:
            raise fail(node, f"images of {h} x {w} are too small for {p}")
        return [TensorSpec((n, (2 * (p.max_displacement // p.stride2) + 1) ** 2, *out), dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p = node.params
        a, b = (pad_space(to_float32(x, s.dtype), (p.pad_size,) * 2) for x, s in zip(ins, in_specs, strict=True))
        n, channels, oh, ow = out_specs[0].shape
        reach = p.max_displacement // p.stride2
        result = np.zeros((n, channels, oh, ow), np.float32)
        for q in range(channels):
            dy, dx = ((d - reach) * p.stride2 for d in divmod(q, 2 * reach + 1))
            for i, j in np.ndindex(p.kernel_size, p.kernel_size):
                y, x = p.max_displacement + i, p.max_displacement + j
                first, second = self._window(p, a, y, x, oh, ow), self._window(p, b, y + dy, x + dx, oh, ow)
                values = first * second if p.is_multiply else np.abs(first - second)
                result[:, q] += values.sum(axis=1)
        result /= np.float32(a.shape[1] * p.kernel_size**2)
        return [from_float32(result, out_specs[0].dtype)]

    @staticmethod
    def _window(p: params.Correlation, image: np.ndarray, y: int, x: int, oh: int, ow: int) -> np.ndarray:
        step = p.stride1
        return image[:, :, y : y + (oh - 1) * step + 1 : step, x : x + (ow - 1) * step + 1 : step]
