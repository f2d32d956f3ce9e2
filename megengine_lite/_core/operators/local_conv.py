"""Convolutions whose filter depends on the place in the output plane."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.graph import AnyNode, Node, TensorSpec
from megengine_lite._core.operators.base import Operator, fail, register
from megengine_lite._core.operators.conv_shape import count_pixels
from megengine_lite._core.operators.conv_types import finish, operands, output_dtype
from megengine_lite._core.operators.facts import InFiles, InOriginal
from megengine_lite._core.operators.window import Window, mirrored, pad_space, patches, window_2d


def _check(node: AnyNode, ins: Sequence[TensorSpec], filter_ndim: int) -> None:
    p = node.params
    if len(ins) != 2 or len(ins[0].shape) != 4 or len(ins[1].shape) != filter_ndim or min(ins[1].shape) < 1:
        raise fail(node, f"needs data of 4 and a filter of {filter_ndim} dimensions, has {[s.shape for s in ins]}")
    if p.format != params.ConvolutionFormat.NCHW or not ins[0].dtype.is_float:
        raise fail(node, "is defined for floats in NCHW only")
    if p.mode not in list(params.ConvolutionMode) or p.sparse not in list(params.ConvolutionSparse):
        raise fail(node, f"unknown mode {p.mode} or sparse {p.sparse}")


def _local_sums(x: np.ndarray, w: np.ndarray, window: Window, mode: int) -> np.ndarray:
    """``x (n, g, icpg, h, w)`` with ``w (g, oh, ow, icpg, fh, fw, ocpg)`` to ``(n, g, ocpg, oh, ow)``."""
    if mode == params.ConvolutionMode.CONVOLUTION:
        w = mirrored(w.transpose(0, 1, 2, 3, 6, 4, 5), 2).transpose(0, 1, 2, 3, 5, 6, 4)
    out = w.shape[1:3]
    view = patches(pad_space(x, window.pad), window, out)  # n g i fh fw oh ow
    places = (x.shape[1], *out)
    columns = view.transpose(1, 5, 6, 0, 2, 3, 4).reshape(*places, x.shape[0], -1)
    sums = columns @ w.reshape(*places, -1, w.shape[-1])  # g oh ow n o
    result: np.ndarray = sums.transpose(3, 0, 4, 1, 2)
    return result


class _LocalConvolution(Operator):
    """A filter for each element of the output plane: ``([g,] oh, ow, icpg, fh, fw, ocpg)``."""

    param = params.Convolution
    grouped: bool

    def multiply_adds(self, node: Node) -> int:
        return node.inputs[0].shape[0] * node.inputs[1].spec.size

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        _check(node, ins, 6 + self.grouped)
        groups, oh, ow, icpg, fh, fw, ocpg = ins[1].shape if self.grouped else (1, *ins[1].shape)
        n, c, *space = ins[0].shape
        window = self._window(node, fh, fw)
        if window.dilate != (1, 1):
            raise fail(node, f"has no dilation, here it is {window.dilate}")
        if c != groups * icpg or window.output(node, space) != (oh, ow):
            raise fail(node, f"filters {ins[1].shape} do not fit data {ins[0].shape}")
        return [TensorSpec((n, groups * ocpg, oh, ow), output_dtype(node, ins[0].dtype, ins[1].dtype))]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        x, w = operands(ins[0], ins[1], in_specs, terms=0)
        w = w if self.grouped else w[None]
        x = x.reshape(x.shape[0], w.shape[0], w.shape[3], *x.shape[2:])
        sums = _local_sums(x, w, self._window(node, *w.shape[4:6]), node.params.mode)
        return [finish(sums.reshape(out_specs[0].shape), in_specs, out_specs[0].dtype)]

    @staticmethod
    def _window(node: AnyNode, fh: int, fw: int) -> Window:
        return window_2d(node.params, (fh, fw))


@register
class Local(_LocalConvolution):
    """Convolution with a filter of its own for each output position."""

    name = "Local"
    grouped = False
    in_files = InFiles(revision=2)
    element_types = "floats"


@register
class GroupLocal(_LocalConvolution):
    """The same with groups of channels."""

    name = "GroupLocal"
    grouped = True
    in_files = InFiles(revision=2)
    in_original = InOriginal(type="GroupLocalForward", label="glocal", mentioned_inputs=1)
    element_types = "floats"


@register
class LocalShareForward(Operator):
    """Convolution with one filter for each tile of the output plane.

    The plane is cut in ``spatial_groups_h x spatial_groups_w`` equal tiles; filter ``([g,] sgh, sgw, icpg, fh, fw,
    ocpg)``.
    """

    name = "LocalShareForward"
    param = params.LocalShare
    in_files = InFiles(revision=1, record_version=2, has_policy=True)
    element_types = "floats"

    def multiply_adds(self, node: Node) -> int:
        # The filter of a tile is used for each of its output pixels.
        filters = node.inputs[1]
        return count_pixels(node.outputs[0].shape) * filters.spec.size // math.prod(filters.shape[-6:-4])

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        p = node.params
        grouped = p.sparse == params.ConvolutionSparse.GROUP
        _check(node, ins, 6 + grouped)
        groups, rows, columns, icpg, fh, fw, ocpg = ins[1].shape if grouped else (1, *ins[1].shape)
        n, c, *space = ins[0].shape
        oh, ow = window_2d(p, (fh, fw)).output(node, space)
        if c != groups * icpg or (rows, columns) != (p.spatial_groups_h, p.spatial_groups_w):
            raise fail(node, f"filters {ins[1].shape} do not fit data {ins[0].shape}")
        if oh % rows or ow % columns:
            raise fail(node, f"an output plane of {oh} x {ow} cannot be cut in {rows} x {columns} tiles")
        return [TensorSpec((n, groups * ocpg, oh, ow), output_dtype(node, ins[0].dtype, ins[1].dtype))]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        x, w = operands(ins[0], ins[1], in_specs, terms=0)
        w = w if w.ndim == 7 else w[None]
        x = x.reshape(x.shape[0], w.shape[0], w.shape[3], *x.shape[2:])
        shape = out_specs[0].shape
        spread = w.repeat(shape[2] // w.shape[1], axis=1).repeat(shape[3] // w.shape[2], axis=2)
        # MegEngine does not look at ``mode`` here.
        sums = _local_sums(x, spread, window_2d(node.params, w.shape[4:6]), params.ConvolutionMode.CROSS_CORRELATION)
        return [finish(sums.reshape(shape), in_specs, out_specs[0].dtype)]
