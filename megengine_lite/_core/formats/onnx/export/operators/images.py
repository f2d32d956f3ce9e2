"""Resizing, warping and remapping of images."""

from __future__ import annotations

from typing import Any

import numpy as np

from megengine_lite._core.formats.onnx.export.forms import STORED
from megengine_lite._core.formats.onnx.export.graph_writer import OnnxValue
from megengine_lite._core.formats.onnx.export.operators.sampling import sample
from megengine_lite._core.formats.onnx.export.rounding import round_half_away
from megengine_lite._core.formats.onnx.export.table import NodeCall, NotExported, exports
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.ir.dtype import DType, DTypeCode
from megengine_lite._core.ir.image_layouts import Format, block_size, stored_axes
from megengine_lite._core.ir.params import BorderMode, InterpolationMode
from megengine_lite._core.ir.params import RelayoutFormatMode as Relayout
from megengine_lite._core.operators.image_helpers import image_format, image_formats, outside_value
from megengine_lite._core.operators.relayout import image_layouts
from megengine_lite._core.operators.resize import Taps, cuts_fractions, has_cv_variant, image_taps
from megengine_lite._core.operators.warp import border_value, has_fine_steps

_E = ElementType
_Mode = InterpolationMode


def give_pixels(call: NodeCall, value: OnnxValue, layout: Format, cut: bool = False) -> None:
    """The output for numbers as float32; integers are rounded, or cut, and limited to their range."""
    w, dtype = call.writer, call.output().dtype
    if dtype.is_float:
        call.give_real(value, 0, layout)
        return
    info = np.iinfo(dtype.storage)
    low, high = dtype.quantized_range if dtype.is_quantized else (info.min, info.max)
    whole = w.op("Floor", value) if cut else round_half_away(w, value)
    limited = w.op("Clip", whole, w.scalar(low, _E.FLOAT), w.scalar(high, _E.FLOAT))
    call.give(w.as_kind(limited, STORED[dtype.code]), 0, layout)


def completed(
    call: NodeCall, value: OnnxValue, channels: int, layout: Format, fill: OnnxValue | None = None
) -> OnnxValue:
    """NCHW with zeros, or ``fill``, for the channels that complete a block of a layout."""
    missing = -channels % block_size(layout)
    return call.writer.pad(value, call.writer.integers(0, 0, 0, 0, 0, missing, 0, 0), fill) if missing else value


def target_size(call: NodeCall, place: int, dimensions: int = 2) -> OnnxValue:
    """The size in an input, as int64: a number for each dimension, or one for all."""
    size = call.index(place)
    if call.known(place).shape[0] == dimensions:
        return size
    return call.writer.joined([size] * dimensions)


def _channels(call: NodeCall, place: int, layout: Format) -> int:
    axis = stored_axes(layout)[1]
    return call.dim(place, axis, "the number of channels") * block_size(layout)


@exports("Resize")
def _resize(call: NodeCall) -> None:
    layout, mode = image_format(call.node), call.params.imode
    channels = _channels(call, 0, layout)
    if layout == Format.NHWC and not has_cv_variant(layout, channels) and mode != _Mode.NEAREST:
        mode = _Mode.LINEAR
    if mode == _Mode.NEAREST:
        x = call.stored(0, layout)
        wide = x if x.kind in (_E.FLOAT, _E.UINT8, _E.INT8) else call.writer.as_kind(x, _E.FLOAT)
        found = _resized(call, wide, mode)
        call.give(call.writer.as_kind(found, x.kind), 0, layout)
        return
    x = call.numbers_as_float32(0, layout)
    cuts = _cuts(call, layout, channels, mode)
    found = _by_matrices(call, x, layout, mode) if mode in (_Mode.AREA, _Mode.LANCZOS4) else _resized(call, x, mode)
    give_pixels(call, found, layout, cuts)


def _cuts(call: NodeCall, layout: Format, channels: int, mode: int) -> bool:
    """Whether fractions are cut off; in AREA mode that depends on the sizes."""
    dtype = call.dtype(0)
    if mode != _Mode.AREA or not cuts_fractions(layout, channels, dtype, mode, (1, 1), (1, 1)):
        return cuts_fractions(layout, channels, dtype, mode, (1, 1), (1, 1))
    space, out = _fixed_sizes(call, layout)
    return cuts_fractions(layout, channels, dtype, mode, space, out)


def _resized(call: NodeCall, x: OnnxValue, mode: int) -> OnnxValue:
    w = call.writer
    size = w.joined([w.slice(w.shape(x), 0, 0, 2), target_size(call, 1)])
    attributes: dict[str, Any] = {"coordinate_transformation_mode": "half_pixel"}
    if mode == _Mode.NEAREST:
        attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    elif mode == _Mode.CUBIC:
        attributes["cubic_coeff_a"] = -0.75
    name = {_Mode.NEAREST: "nearest", _Mode.LINEAR: "linear", _Mode.CUBIC: "cubic"}[_Mode(mode)]
    return w.op("Resize", x, None, None, size, mode=name, **attributes)


def _fixed_sizes(call: NodeCall, layout: Format) -> tuple[list[int], list[int]]:
    space = [call.dim(0, k, "the size of the image") for k in stored_axes(layout)[-2:]]
    out = call.numbers(1, "the size of the result")
    return space, out if len(out) == 2 else out * 2


def _by_matrices(call: NodeCall, x: OnnxValue, layout: Format, mode: int) -> OnnxValue:
    """Weighted sums along both axes: ONNX has neither of these modes as we define them."""
    w = call.writer
    space, out = _fixed_sizes(call, layout)
    rows, columns = (_matrix(taps, n) for taps, n in zip(image_taps(mode, space, out), space, strict=True))
    across = w.op("MatMul", x, w.constant(np.ascontiguousarray(columns.T)))
    return w.op("MatMul", w.constant(rows), across, kind=_E.FLOAT)


def _matrix(taps: Taps, length: int) -> np.ndarray:
    index, weights = taps
    matrix = np.zeros((len(index), length), np.float32)
    np.add.at(matrix, (np.arange(len(index))[:, None], index), weights)
    return matrix


@exports("Resize3D")
def _resize_3d(call: NodeCall) -> None:
    w, x = call.writer, call.real(0)
    size = w.joined([w.slice(w.shape(x), 0, 0, 2), target_size(call, 1, 3)])
    transformation = "align_corners" if call.params.align_corners else "half_pixel"
    call.give_real(w.op("Resize", x, None, None, size, mode="linear", coordinate_transformation_mode=transformation))


# ---- warps ----------------------------------------------------------------------------------------------------------


def _grid(call: NodeCall, place: int, kind: ElementType) -> tuple[OnnxValue, OnnxValue]:
    """The columns and rows of an output, ``(1, 1, ow)`` and ``(1, oh, 1)``."""
    w = call.writer
    size = target_size(call, place)
    rows, columns = w.slice(size, 0, 0, 1), w.slice(size, 0, 1, 2)
    return w.unsqueeze(w.range(columns, kind), [0, 1]), w.unsqueeze(w.range(rows, kind), [0, 2])


def _entries(call: NodeCall, matrix: OnnxValue, rows: int) -> list[list[OnnxValue]]:
    """The entries of matrices ``(n, rows, 3)``, each ``(n, 1, 1)``."""
    w = call.writer
    return [[w.slice(w.slice(matrix, 1, r, r + 1), 2, c, c + 1) for c in range(3)] for r in range(rows)]


def _linear(entries: list[OnnxValue], x: OnnxValue, y: OnnxValue) -> OnnxValue:
    return entries[0] * x + entries[1] * y + entries[2]


_FINE = {_Mode.NEAREST: "nearest", _Mode.LINEAR: "linear", _Mode.AREA: "linear", _Mode.CUBIC: "cubic"}


def _fine_mode(mode: int) -> str:
    if mode not in _FINE:
        raise NotExported(f"interpolation {_Mode(mode).name}")
    return _FINE[_Mode(mode)]


@exports("WarpPerspective")
def _warp_perspective(call: NodeCall) -> None:
    w, p = call.writer, call.params
    before, after = image_formats(call.node)
    has_index = call.count > 3 and call.ndim(call.count - 2) == 1
    at = call.count - (3 if has_index else 2)
    dtype, out = call.dtype(0), call.output().dtype
    fine = at == 1 and has_fine_steps(p.format, _channels(call, 0, before), dtype)
    image = w.joined([call.numbers_as_float32(k, before) for k in range(at)])
    if has_index:
        image = w.op("Gather", image, call.index(call.count - 2), axis=0)
    kind = _E.DOUBLE if fine else _E.FLOAT
    x, y = _grid(call, call.count - 1, kind)
    entries = _entries(call, w.as_kind(call.stored(at), kind), 3)
    denominator = _linear(entries[2], x, y)
    places = [_linear(entries[k], x, y) / denominator for k in (0, 1)]
    mode = "linear"
    if fine:
        mode = _fine_mode(p.imode)
        steps = 1.0 if mode == "nearest" else 32.0
        # A zero denominator counts as 0.
        places = [w.where(denominator.equals(0.0), 0.0 * v, v) for v in places]
        places = [w.as_kind(w.op("Round", v * steps) / steps, _E.FLOAT) for v in places]
    value = border_value(p.border_val, fine, dtype)
    found = sample(w, image, places[0], places[1], p.bmode, value, mode, not out.is_float)
    if dtype.is_quantized and out.is_float:
        found = (found - float(dtype.zero_point)) * float(np.float32(dtype.scale))
    elif dtype.storage == np.uint8 and out.code is DTypeCode.QUANTIZED_S8:
        found = found - float(dtype.zero_point if dtype.is_quantized else 128)
    give_pixels(call, completed(call, found, _channels(call, 0, before), after), after)


@exports("WarpAffine")
def _warp_affine(call: NodeCall) -> None:
    w, p, layout = call.writer, call.params, image_format(call.node)
    fine = has_fine_steps(layout, _channels(call, 0, layout), call.dtype(0))
    kind = _E.DOUBLE if fine else _E.FLOAT
    x, y = _grid(call, 2, kind)
    entries = _entries(call, w.as_kind(call.stored(1), kind), 2)
    mode = "linear"
    if fine:
        mode = _fine_mode(p.imode)
        places = [_fixed_point(call, row, x, y, mode) for row in entries]
    else:
        places = [_linear(row, x, y) for row in entries]
    value = border_value(p.border_val, fine, call.dtype(0))
    image, is_rounded = call.numbers_as_float32(0, layout), not call.output().dtype.is_float
    found = sample(w, image, places[0], places[1], p.border_mode, value, mode, is_rounded)
    give_pixels(call, found, layout)


def _fixed_point(call: NodeCall, row: list[OnnxValue], x: OnnxValue, y: OnnxValue, mode: str) -> OnnxValue:
    """Positions with 10 fractional bits, of which 5 are kept, or none."""
    w = call.writer
    unit, half = (1024.0, 512.0) if mode == "nearest" else (32.0, 16.0)
    total = w.op("Round", (row[1] * y + row[2]) * 1024.0) + half + w.op("Round", row[0] * x * 1024.0)
    return w.as_kind(w.op("Floor", total / unit) / (1024.0 / unit), _E.FLOAT)


@exports("Remap")
def _remap(call: NodeCall) -> None:
    w, p, layout = call.writer, call.params, image_format(call.node)
    x, y = (w.squeeze(w.slice(call.real(1), 3, k, k + 1), [3]) for k in (0, 1))
    mode = "linear"
    if p.imode == _Mode.NEAREST:
        mode = "nearest"
        x, y = w.op("Round", x), w.op("Round", y)
    value = outside_value(p.scalar, call.dtype(0)) if p.border_type == BorderMode.CONSTANT else 0.0
    image, is_rounded = call.numbers_as_float32(0, layout), not call.output().dtype.is_float
    found = sample(w, image, x, y, p.border_type, float(value), mode, is_rounded)
    give_pixels(call, found, layout)


@exports("Flip", "Rotate")
def _mirror(call: NodeCall) -> None:
    w, p, x = call.writer, call.params, call.stored(0)
    if call.node.op == "Flip":
        axes = [axis for axis, mirrored in ((1, p.vertical), (2, p.horizontal)) if mirrored]
    else:
        x = w.transpose(x, [0, 2, 1, 3])
        axes = [2] if p.clockwise else [1]
    for axis in axes:
        x = w.flip(x, axis)
    call.give(x)


# ---- layouts --------------------------------------------------------------------------------------------------------


@exports("RelayoutFormat")
def _relayout(call: NodeCall) -> None:
    w, p = call.writer, call.params
    layouts = image_layouts(p.mode)
    if layouts is None:
        raise NotExported("the filter that it converts is computed")
    source, target = layouts
    x, before, after = call.stored(0, source), call.dtype(0), call.output().dtype
    if before.code is not after.code:  # unsigned pixels become signed numbers
        x = w.as_kind(w.as_kind(x, _E.INT32) - 128, _E.INT8)
    elif before != after and before.is_quantized:
        raise NotExported("it changes the scale")
    channels = _channels(call, 0, source)
    x = _with_channels(call, x, channels, target, after)
    call.give(x, 0, target)


def _with_channels(call: NodeCall, x: OnnxValue, channels: int, target: Format, dtype: DType) -> OnnxValue:
    """NCHW with as many channels as the target layout has."""
    w, p = call.writer, call.params
    grouped = p.mode in (Relayout.NCHW_NCHW4, Relayout.NCHW4_NCHW) and p.group > 1
    if grouped:
        raise NotExported("groups of channels have blocks of their own")
    if p.mode in (Relayout.NCHW4_NCHW, Relayout.NCHW64_NCHW) and p.oc:
        return w.slice(x, 1, 0, p.oc)
    return completed(call, x, channels, target, w.scalar(dtype.zero_point, x.kind))
