"""Conversion between layouts of images and of filters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import DType, DTypeCode
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.image_layouts import (
    Format,
    filter_from_plain,
    filter_to_plain,
    from_nchw,
    layout_filter_shape,
    layout_shape,
    nchw_shape,
    round_up,
    to_nchw,
)
from megengine_lite._core.ir.params import RelayoutFormatMode
from megengine_lite._core.ir.quantize import quantize, to_float32
from megengine_lite._core.operators.base import Operator, fail, register
from megengine_lite._core.operators.checks import check_count
from megengine_lite._core.operators.facts import InFiles
from megengine_lite._records import record

_M = RelayoutFormatMode
_C = DTypeCode

_IMAGES = {
    _M.NHWC_NHWCD4: (Format.NHWC, Format.NHWCD4),
    _M.NHWC_NHWCD4I: (Format.NHWC, Format.NHWCD4),
    _M.NHWCD4_NHWC: (Format.NHWCD4, Format.NHWC),
    _M.NHWCD4I_NHWC: (Format.NHWCD4, Format.NHWC),
    _M.NCHW_NHWCD4: (Format.NCHW, Format.NHWCD4),
    _M.NCHW_NHWCD4I: (Format.NCHW, Format.NHWCD4),
    _M.NHWCD4_NCHW: (Format.NHWCD4, Format.NCHW),
    _M.NHWCD4I_NCHW: (Format.NHWCD4, Format.NCHW),
    _M.NCHW4_CHWN4: (Format.NCHW4, Format.CHWN4),
    _M.CHWN4_NCHW4: (Format.CHWN4, Format.NCHW4),
    _M.NCHW_NCHW88: (Format.NCHW, Format.NCHW88),
    _M.NCHW88_NCHW: (Format.NCHW88, Format.NCHW),
    _M.NCHW_NCHW4_IC_SMALL: (Format.NCHW, Format.NCHW4),
    _M.NCHW_NCHW4: (Format.NCHW, Format.NCHW4),
    _M.NCHW4_NCHW: (Format.NCHW4, Format.NCHW),
    _M.NCHW_NCHW64: (Format.NCHW, Format.NCHW64),
    _M.NCHW64_NCHW: (Format.NCHW64, Format.NCHW),
    _M.NCHW_NHWC: (Format.NCHW, Format.NHWC),
    _M.NHWC_NCHW: (Format.NHWC, Format.NCHW),
}
# Conversions that cut channels to ``oc``; the others give whole blocks.
_CUT = (_M.NCHW4_NCHW, _M.NCHW64_NCHW)
# Conversions in which each of ``group`` parts of the channels has blocks of its own.
_GROUPED = (_M.NCHW_NCHW4, _M.NCHW4_NCHW)


def image_layouts(mode: int) -> tuple[Format, Format] | None:
    """The layouts from and to which a mode converts images; None for modes that convert filters."""
    return _IMAGES.get(_M(mode))


@record(frozen=True, slots=True)
class FilterLayout:
    """Where a filter goes: axes (see ``ir/image_layouts``), size of a block, and the multiples that groups, output and
    input channels are completed to (0: they must be whole blocks already)."""

    axes: str
    block: int
    completed: tuple[int, int, int]


_DENSE_D4 = FilterLayout("OhwIo", 4, (1, 0, 4))
_GROUP_D4 = FilterLayout("GOhwIo", 4, (1, 0, 1))
_CHANNEL_D4 = FilterLayout("GOhwg", 4, (0, 1, 1))
_FILTERS = {
    _M.INTER_WEIGHT_DENSE: _DENSE_D4,
    _M.INTER_WEIGHT_DENSEI: _DENSE_D4,
    _M.INTER_WEIGHT_GROUP: _GROUP_D4,
    _M.INTER_WEIGHT_GROUPI: _GROUP_D4,
    _M.INTER_WEIGHT_CHAN: _CHANNEL_D4,
    _M.INTER_WEIGHT_CHANI: _CHANNEL_D4,
    _M.INTER_WEIGHT_DENSEI_DOT: FilterLayout("OhwIoi", 4, (1, 0, 4)),
    _M.INTER_WEIGHT_GROUPI_DOT: FilterLayout("GOhwIoi", 4, (1, 0, 0)),
    _M.NCHW_NCHW88_CONV_DENSE_WEIGHT: FilterLayout("OIhwio", 8, (1, 0, 8)),
    _M.NCHW_NCHW88_CONV_CHAN_WEIGHT: FilterLayout("GOIhwg", 8, (8, 1, 1)),
    _M.NCHW_NCHW88_CONV_GROUP_WEIGHT: FilterLayout("GOIhwio", 8, (1, 0, 8)),
    _M.NCHW_NCHW4_IC_SMALL_CONV_DENSE_WEIGHT: FilterLayout("OIhwi", 4, (1, 1, 4)),
}
_NCHW4_FILTERS = {4: FilterLayout("OIhwi", 4, (1, 4, 4)), 5: FilterLayout("GOIhwi", 4, (1, 4, 4))}


def _filter_layout(node: AnyNode, ndim: int) -> FilterLayout:
    mode = node.params.mode
    found = _NCHW4_FILTERS.get(ndim) if mode == _M.NCHW_NCHW4_WEIGHT else _FILTERS.get(mode)
    if found is None or ndim != (5 if "G" in found.axes else 4):
        raise fail(node, f"mode {mode!s} does not take a filter of {ndim} dimensions")
    return found


def _completed_filter(node: AnyNode, layout: FilterLayout, shape: Sequence[int]) -> tuple[int, ...]:
    """Groups and channels after completion."""
    sizes = shape[:3] if len(shape) == 5 else (1, *shape[:2])
    if "g" in layout.axes and tuple(sizes[1:]) != (1, 1):
        raise fail(node, f"a channel-wise filter has one channel per group, not shape {tuple(shape)}")
    for size, multiple in zip(sizes, layout.completed, strict=True):
        if multiple == 0 and size % layout.block:
            raise fail(node, f"channels of a filter {tuple(shape)} do not fill blocks of {layout.block}")
    return tuple(round_up(s, m) if m else s for s, m in zip(sizes, layout.completed, strict=True))


def _convert_filter(node: AnyNode, array: np.ndarray) -> np.ndarray:
    layout = _filter_layout(node, array.ndim)
    plain = filter_to_plain("GOIhw" if array.ndim == 5 else "OIhw", array)
    target = _completed_filter(node, layout, array.shape)
    missing = [(0, t - s) for t, s in zip(target, plain.shape, strict=False)]
    return filter_from_plain(layout.axes, np.pad(plain, [*missing, (0, 0), (0, 0)]), layout.block)


def _filter_shape(node: AnyNode, shape: Sequence[int]) -> tuple[int, ...]:
    layout = _filter_layout(node, len(shape))
    return layout_filter_shape(layout.axes, layout.block, (*_completed_filter(node, layout, shape), *shape[-2:]))


def _image_shape(node: AnyNode, source: Format, target: Format, shape: tuple[int, ...]) -> tuple[int, ...]:
    p = node.params
    try:
        n, c, h, w = nchw_shape(source, shape)
    except ValueError as error:
        raise fail(node, str(error)) from None
    if p.mode == _M.NHWC_NHWCD4 and c % 4:
        raise fail(node, f"{c} channels do not fill blocks of 4")
    if p.mode in _GROUPED and (p.group < 1 or c % p.group):
        raise fail(node, f"{c} channels cannot be cut in {p.group} groups")
    if p.mode == _M.NCHW_NCHW4:
        c = p.group * round_up(c // p.group, 4)
    if p.mode in _CUT and p.oc:
        groups = p.group if p.mode in _GROUPED else 1
        if p.oc > c or p.oc % groups:
            raise fail(node, f"{p.oc} channels cannot be taken from {c} in {groups} groups")
        c = p.oc
    return layout_shape(target, n, c, h, w)


def _convert_image(node: AnyNode, source: Format, target: Format, array: np.ndarray, fill: int) -> np.ndarray:
    p = node.params
    x = to_nchw(source, array)
    n, c, h, w = x.shape
    groups = p.group if p.mode in _GROUPED else 1
    grouped = x.reshape(n, groups, c // groups, h, w)
    if p.mode == _M.NCHW_NCHW4:
        grouped = np.pad(grouped, [(0, 0), (0, 0), (0, -(c // groups) % 4), (0, 0), (0, 0)], constant_values=fill)
    elif p.mode in _CUT and p.oc:
        grouped = grouped[:, :, : p.oc // groups]
    return from_nchw(target, grouped.reshape(n, groups * grouped.shape[2], h, w), fill)


def _changes_sign(source: DType, target: DType) -> bool:
    """Unsigned pixels become signed numbers by taking off 128 (fused preprocessing of images)."""
    return source.code in (_C.UINT8, _C.QUANTIZED8_ASYMM) and target.code is _C.QUANTIZED_S8


@register
class RelayoutFormat(Operator):
    """The same numbers in another layout; channels that complete a block are zero.

    Pixels in uint8 may become QuantizedS8 on the way: ``v - 128``.
    """

    name = "RelayoutFormat"
    param = params.RelayoutFormat
    in_files = InFiles(revision=1)
    becomes = "nothing, or a transposition"
    element_types = "floats, integers, bool, quantized"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        mode, source = node.params.mode, ins[0].dtype
        target = node.output_dtype or source
        if target.code is not source.code and not _changes_sign(source, target):
            raise fail(node, f"cannot turn {source} into {target}")
        if mode in _IMAGES:
            return [TensorSpec(_image_shape(node, *_IMAGES[mode], ins[0].shape), target)]
        return [TensorSpec(_filter_shape(node, ins[0].shape), target)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        mode, source, target = node.params.mode, in_specs[0].dtype, out_specs[0].dtype
        array = ins[0]
        if _changes_sign(source, target):
            array = (array.astype(np.int16) - 128).astype(np.int8)
        elif source != target and source.is_quantized:
            array = quantize(to_float32(array, source), target)
        if mode in _IMAGES:
            return [_convert_image(node, *_IMAGES[mode], array, target.zero_point)]
        return [_convert_filter(node, array)]
