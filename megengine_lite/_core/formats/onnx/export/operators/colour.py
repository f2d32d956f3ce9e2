"""Conversion between colour spaces of NHWC images. uint8 is computed in fixed point, as in our definition."""

from __future__ import annotations

from megengine_lite._core.formats.onnx.export.graph_writer import END, GraphWriter, OnnxValue
from megengine_lite._core.formats.onnx.export.rounding import floor_div
from megengine_lite._core.formats.onnx.export.table import NodeCall, exports
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.ir.params import CvtColorMode
from megengine_lite._core.operators.colour import PLANAR

_E = ElementType
_M = CvtColorMode
_CHANNELS = 3
# Channels that are only copied, in another order.
_PICKED = {
    _M.GRAY2RGB: (0, 0, 0),
    _M.RGB2BGR: (2, 1, 0),
    _M.BGR2RGB: (2, 1, 0),
    _M.RGBA2RGB: (0, 1, 2),
    _M.RGBA2BGR: (2, 1, 0),
}
# The channels of red, green and blue.
_GRAY = {_M.RGB2GRAY: (0, 1, 2), _M.BGR2GRAY: (2, 1, 0), _M.RGBA2GRAY: (0, 1, 2)}


def _shifted(w: GraphWriter, x: OnnxValue, bits: int) -> OnnxValue:
    """Integers without so many of their lowest bits."""
    return floor_div(w, x, 1 << bits)


def _rounded(w: GraphWriter, x: OnnxValue) -> OnnxValue:
    """Fixed point with 14 fractional bits to integers."""
    return _shifted(w, x + (1 << 13), 14)


def _channels(w: GraphWriter, x: OnnxValue, count: int = 3) -> list[OnnxValue]:
    """The channels, each with its axis."""
    wide = w.as_kind(x, _E.INT32) if x.kind == _E.UINT8 else x
    return [w.slice(wide, _CHANNELS, k, k + 1) for k in range(count)]


def _clamped(w: GraphWriter, channels: list[OnnxValue]) -> OnnxValue:
    joined = w.joined(channels, _CHANNELS)
    return w.as_kind(w.op("Clip", joined, w.scalar(0, joined.kind), w.scalar(255, joined.kind)), _E.UINT8)


@exports("CvtColor")
def _convert(call: NodeCall) -> None:
    w, mode = call.writer, call.params.mode
    x = call.stored(0)
    if mode in _PICKED:
        call.give(w.op("Gather", x, w.integers(*_PICKED[mode]), axis=_CHANNELS))
    elif mode in _GRAY:
        call.give(_gray(w, x, _GRAY[mode]))
    elif mode == _M.RGB2YUV:
        call.give(_to_yuv(w, x))
    elif mode == _M.YUV2RGB:
        call.give(_from_yuv(w, x))
    else:
        call.give(_planar(w, x, *PLANAR[mode]))


def _gray(w: GraphWriter, x: OnnxValue, order: tuple[int, int, int]) -> OnnxValue:
    channels = _channels(w, x)
    red, green, blue = (channels[k] for k in order)
    if x.kind == _E.UINT8:
        return w.as_kind(_rounded(w, red * 4899 + green * 9617 + blue * 1868), _E.UINT8)
    return red * 0.299 + green * 0.587 + blue * 0.114


def _to_yuv(w: GraphWriter, x: OnnxValue) -> OnnxValue:
    a, b, c = _channels(w, x)
    if x.kind == _E.UINT8:
        y = _rounded(w, 1868 * a + 9617 * b + 4899 * c)
        u, v = (_rounded(w, (d - y) * factor + (128 << 14)) for d, factor in ((a, 8061), (c, 14369)))
        return _clamped(w, [y, u, v])
    light = a * 0.114 + b * 0.587 + c * 0.299
    return w.joined([light, (a - light) * 0.492 + 0.5, (c - light) * 0.877 + 0.5], _CHANNELS)


def _from_yuv(w: GraphWriter, x: OnnxValue) -> OnnxValue:
    y, u, v = _channels(w, x)
    if x.kind == _E.UINT8:
        u, v = u - 128, v - 128
        terms = [u * 33292, v * -9519 + u * -6472, v * 18678]
        return _clamped(w, [y + _rounded(w, t) for t in terms])
    u, v = u - 0.5, v - 0.5
    return w.joined([y + 2.032 * u, y - 0.581 * v - 0.395 * u, y + 1.140 * v], _CHANNELS)


def _planar(w: GraphWriter, x: OnnxValue, layout: str, bt601: bool, order: str) -> OnnxValue:
    """A YUV image ``(n, 3 h / 2, w, 1)`` to colours or brightness ``(n, h, w, channels)``."""
    height = w.size(x, 1) / 3 * 2
    brightness = w.slice(x, 1, 0, height)
    if not order:
        return brightness
    y = w.as_kind(brightness, _E.INT32)
    u, v = (_doubled(w, c) for c in _chroma(w, w.as_kind(w.slice(x, 1, height, END), _E.INT32), layout))
    if bt601:
        y = _shifted(w, y * (257 * 18997), 16)
        sums = [102 * v + y - 14216, -25 * u - 52 * v + y + 8696, 128 * u + y - 17544]
        colours = [_shifted(w, s, 6) for s in sums]
    else:
        u, v = u - 128, v - 128
        colours = [y + _shifted(w, 359 * v, 8), y - _shifted(w, 88 * u + 183 * v, 8), y + _shifted(w, 454 * u, 8)]
    return _clamped(w, colours if order == "RGB" else colours[::-1])


def _chroma(w: GraphWriter, planes: OnnxValue, layout: str) -> tuple[OnnxValue, OnnxValue]:
    """U and V ``(n, h / 2, w / 2, 1)`` from the rows behind the brightness ``(n, h / 2, w, 1)``."""
    if layout in ("NV21", "NV12"):
        first, second = (w.slice(planes, 2, k, END, 2) for k in (0, 1))
    else:
        half = w.size(planes, 2) / 2
        halves = w.reshape(planes, 0, 2, w.size(planes, 1), half)
        first, second = (w.unsqueeze(w.squeeze(w.slice(halves, 1, k, k + 1), [1]), [3]) for k in (0, 1))
    return (first, second) if layout in ("NV12", "YU12") else (second, first)


def _doubled(w: GraphWriter, plane: OnnxValue) -> OnnxValue:
    """Each sample for two rows and two columns."""
    for axis in (1, 2):
        places = floor_div(w, w.range(w.size(plane, axis) * 2), 2)
        plane = w.op("Gather", plane, places, axis=axis)
    return plane
