"""Windows of images as tensors, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.quantize import from_float32, to_float32
from megengine_lite._core.operators.base import Operator, fail, register
from megengine_lite._core.operators.checks import check_count, check_ndim
from megengine_lite._core.operators.facts import IMAGE, InOriginal
from megengine_lite._core.operators.window import Window, fold, pad_space, patches, window_2d


def window_of(p: params.Images2Neibs | params.SlidingWindowTranspose) -> Window:
    """How the window of an operator moves."""
    return window_2d(p, (p.window_h, p.window_w))


@register
class Images2Neibs(Operator):
    """All windows of an image: ``(n, c, h, w)`` to ``(n, c, oh, ow, window_h, window_w)``, zero padding."""

    name = "Images2Neibs"
    param = params.Images2Neibs
    in_original = InOriginal(type="Images2NeibsForward", label="images2neibs")
    sample_inputs = (IMAGE,)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        n, c, h, w = check_ndim(node, ins[0], 4, "the image")
        window = window_of(node.params)
        return [TensorSpec((n, c, *window.output(node, (h, w)), *window.size), ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        window = window_of(node.params)
        padded = pad_space(ins[0], window.pad, in_specs[0].dtype.zero_point)
        return [np.ascontiguousarray(patches(padded, window, out_specs[0].shape[2:4]).transpose(0, 1, 4, 5, 2, 3))]


@register
class SlidingWindowTranspose(Operator):
    """Adds windows up to an image: ``(n, c, oh, ow, window_h, window_w)`` to ``(n, c, out_h, out_w)``."""

    name = "SlidingWindowTranspose"
    param = params.SlidingWindowTranspose
    in_original = InOriginal(type="SlidingWindowTransposeForward")
    element_types = "floats, integers, bool"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        n, c, oh, ow, *size = check_ndim(node, ins[0], 6, "the windows")
        p, window = node.params, window_of(node.params)
        if tuple(size) != window.size or window.output(node, (p.out_h, p.out_w)) != (oh, ow):
            raise fail(node, f"windows {ins[0].shape} are not those of an image of {p.out_h} x {p.out_w}")
        if ins[0].dtype.is_quantized:
            raise fail(node, f"cannot add windows of {ins[0].dtype}")
        return [TensorSpec((n, c, p.out_h, p.out_w), ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p, dtype = node.params, in_specs[0].dtype
        values = to_float32(ins[0], dtype) if dtype.is_float else ins[0]

        def tap(index: tuple[int, ...]) -> np.ndarray:
            return values[:, :, :, :, index[0], index[1]]

        lead, out = values.shape[:2], values.shape[2:4]
        image = fold(tap, lead, values.dtype, window_of(p), out, (p.out_h, p.out_w))
        return [np.ascontiguousarray(from_float32(image, dtype) if dtype.is_float else image)]
