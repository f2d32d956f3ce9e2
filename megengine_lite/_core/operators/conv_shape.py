"""The sizes of a two-dimensional convolution in plain terms, whatever its layout."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir.graph import AnyNode
from megengine_lite._core.ir.image_layouts import (
    Format,
    block_size,
    filter_axes,
    filter_to_plain,
    from_nchw,
    input_format,
    layout_shape,
    nchw_shape,
    plain_filter_shape,
    split_format,
    to_nchw,
)
from megengine_lite._core.ir.params import ConvolutionMode, ConvolutionSparse
from megengine_lite._core.operators.base import fail
from megengine_lite._core.operators.window import Window, mirrored, window_2d
from megengine_lite._records import record
from megengine_lite.errors import ShapeError

# Mixed formats that only image warps have.
_NOT_FOR_CONVOLUTION = (Format.NHWC_NCHW, Format.NHWC_NCHW4_IC_SMALL, Format.NCHW_NCHW4_IC_SMALL)


@record(frozen=True, slots=True)
class ConvShape:
    """A convolution of ``n`` images with ``groups`` filters of ``(ocpg, icpg, *window.size)``.

    Channels are those of the stored tensors, padding included. ``space`` is the input's height and width, ``out`` the
    output's; for a transposed convolution these are those of the forward convolution, that is, ``space`` belongs
    to the result.
    """

    input_format: Format
    output_format: Format
    filter_axes: str
    groups: int
    ocpg: int
    icpg: int
    n: int
    space: tuple[int, int]
    out: tuple[int, int]
    window: Window

    @property
    def input_channels(self) -> int:
        return self.groups * self.icpg

    @property
    def output_channels(self) -> int:
        return self.groups * self.ocpg

    @property
    def output_nchw(self) -> tuple[int, int, int, int]:
        return self.n, self.output_channels, *self.out

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the (forward) output as stored."""
        return layout_shape(self.output_format, *self.output_nchw)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the (forward) input as stored."""
        return layout_shape(self.input_format, self.n, self.input_channels, *self.space)

    @property
    def terms(self) -> int:
        """Products that are summed up for one output element."""
        return self.icpg * int(np.prod(self.window.size))

    def input_groups(self, x: np.ndarray) -> np.ndarray:
        """The stored input as ``(n, groups, icpg, h, w)``."""
        return to_nchw(self.input_format, x).reshape(self.n, self.groups, self.icpg, *self.space)

    def output_groups(self, y: np.ndarray) -> np.ndarray:
        """The stored output as ``(n, groups, ocpg, h, w)``."""
        return to_nchw(self.output_format, y).reshape(self.n, self.groups, self.ocpg, *self.out)

    def filter_groups(self, w: np.ndarray, mode: int) -> np.ndarray:
        """The stored filter as ``(groups, ocpg, icpg, h, w)``, turned around if the mode asks for it."""
        plain = filter_to_plain(self.filter_axes, w)
        return mirrored(plain, 2) if mode == ConvolutionMode.CONVOLUTION else plain

    def store_output(self, y: np.ndarray) -> np.ndarray:
        return from_nchw(self.output_format, y.reshape(self.output_nchw))

    def store_input(self, x: np.ndarray) -> np.ndarray:
        return from_nchw(self.input_format, x.reshape(self.n, self.input_channels, *self.space))


def _formats(node: AnyNode) -> tuple[Format, Format]:
    fmt = node.params.format
    if fmt in _NOT_FOR_CONVOLUTION or fmt not in list(Format):
        raise fail(node, f"there is no convolution in format {fmt!s}")
    return split_format(fmt)


def _is_grouped(node: AnyNode) -> bool:
    sparse = node.params.sparse
    if sparse not in (ConvolutionSparse.DENSE, ConvolutionSparse.GROUP):
        raise fail(node, f"unknown value {sparse} of sparse")
    return bool(sparse == ConvolutionSparse.GROUP)


def _plain_filter(node: AnyNode, fmt: Format, axes: str, shape: Sequence[int]) -> tuple[int, int, int, int, int]:
    if min(shape) < 1:
        raise fail(node, f"the filter is empty: {tuple(shape)}")
    if node.params.mode not in (ConvolutionMode.CROSS_CORRELATION, ConvolutionMode.CONVOLUTION):
        raise fail(node, f"unknown mode {node.params.mode}")
    return plain_filter_shape(fmt, axes, shape)


def conv_shape(node: AnyNode, data: tuple[int, ...], filters: tuple[int, ...]) -> ConvShape:
    """Describes a forward convolution; raises :class:`ShapeError` if data and filter do not fit."""
    declared, output_format = _formats(node)
    try:
        fmt = input_format(declared, len(data))
        axes = filter_axes(declared, _is_grouped(node), len(filters), plain_input=fmt is not declared)
        groups, ocpg, icpg, fh, fw = _plain_filter(node, declared, axes, filters)
        n, c, h, w = nchw_shape(fmt, data)
    except ShapeError:
        raise
    except ValueError as error:
        raise fail(node, str(error)) from None
    if c != groups * icpg:
        raise fail(node, f"the filter {filters} reads {groups * icpg} channels, the data {data} have {c}")
    window = window_2d(node.params, (fh, fw))
    oh, ow = window.output(node, (h, w))
    shape = ConvShape(fmt, output_format, axes, groups, ocpg, icpg, n, (h, w), (oh, ow), window)
    _check_blocks(node, output_format, shape.output_channels)
    return shape


def transposed_conv_shape(
    node: AnyNode, filters: tuple[int, ...], data: tuple[int, ...], like: tuple[int, ...] | None = None
) -> ConvShape:
    """Describes a transposed convolution as the forward convolution whose input gradient it is.

    ``like`` is the stored shape of the result where it is given; else the smallest that fits.
    """
    fmt, output_format = _formats(node)
    if fmt is not output_format:
        raise fail(node, f"there is no transposed convolution in format {node.params.format.name}")
    try:
        axes = filter_axes(fmt, _is_grouped(node), len(filters))
        groups, ocpg, icpg, fh, fw = _plain_filter(node, fmt, axes, filters)
        n, c, oh, ow = nchw_shape(fmt, data)
        result = None if like is None else nchw_shape(fmt, like)
    except ShapeError:
        raise
    except ValueError as error:
        raise fail(node, str(error)) from None
    if c != groups * ocpg:
        raise fail(node, f"the filter {filters} reads {groups * ocpg} channels, the data {data} have {c}")
    window = window_2d(node.params, (fh, fw))
    if result is None:
        h, w = window.transposed_output(node, (oh, ow))
    else:
        h, w = result[2:]
        if result[:2] != (n, groups * icpg) or window.output(node, (h, w)) != (oh, ow):
            raise fail(node, f"data {data} and filter {filters} do not give the output shape {like}")
    _check_blocks(node, fmt, groups * icpg)
    return ConvShape(fmt, fmt, axes, groups, ocpg, icpg, n, (h, w), (oh, ow), window)


def _check_blocks(node: AnyNode, fmt: Format, channels: int) -> None:
    if channels % block_size(fmt):
        raise fail(node, f"{channels} output channels do not fill the blocks of {fmt.name}")


def count_pixels(shape: tuple[int, ...]) -> int:
    """Pixels of images or volumes ``(n, c, ...)``, of which each has ``c`` numbers."""
    return shape[0] * math.prod(shape[2:])
