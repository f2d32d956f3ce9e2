"""Conversion between colour spaces of NHWC images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import DTypeCode
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.params import CvtColorMode
from megengine_lite._core.operators.base import Operator, fail, register
from megengine_lite._core.operators.checks import check_count, check_ndim
from megengine_lite._core.operators.facts import FILTER, InOriginal

_M = CvtColorMode
Convert = Callable[[np.ndarray], np.ndarray]


def _clamped(*channels: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.clip(np.stack(channels, axis=-1), 0, 255).astype(np.uint8)
    return result


def _gray(order: tuple[int, int, int]) -> Convert:
    """Brightness; ``order`` are the channels of red, green and blue."""

    def convert(x: np.ndarray) -> np.ndarray:
        if x.dtype == np.uint8:
            r, g, b = (x[..., i].astype(np.int32) for i in order)
            return ((r * 4899 + g * 9617 + b * 1868 + (1 << 13)) >> 14).astype(np.uint8)[..., None]
        red, green, blue = (x[..., i] for i in order)
        return (red * np.float32(0.299) + green * np.float32(0.587) + blue * np.float32(0.114))[..., None]

    return convert


def _pick(*order: int) -> Convert:
    """Channels copied in another order."""
    return lambda x: np.ascontiguousarray(x[..., list(order)])


def _shift(x: np.ndarray) -> np.ndarray:
    """Fixed point with 14 fractional bits to integers."""
    return (x + (1 << 13)) >> 14


def _to_yuv(x: np.ndarray) -> np.ndarray:
    if x.dtype == np.uint8:
        a, b, c = (x[..., i].astype(np.int32) for i in range(3))
        y = _shift(1868 * a + 9617 * b + 4899 * c)
        return _clamped(y, _shift((a - y) * 8061 + (128 << 14)), _shift((c - y) * 14369 + (128 << 14)))
    first, second, third = (x[..., i] for i in range(3))
    light = first * np.float32(0.114) + second * np.float32(0.587) + third * np.float32(0.299)
    u, v = (first - light) * np.float32(0.492), (third - light) * np.float32(0.877)
    return np.stack([light, u + np.float32(0.5), v + np.float32(0.5)], axis=-1)


def _from_yuv(x: np.ndarray) -> np.ndarray:
    if x.dtype == np.uint8:
        y, u, v = (x[..., i].astype(np.int32) for i in range(3))
        u, v = u - 128, v - 128
        return _clamped(y + _shift(u * 33292), y + _shift(v * -9519 + u * -6472), y + _shift(v * 18678))
    light, *rest = (x[..., i] for i in range(3))
    blue, red = (c - np.float32(0.5) for c in rest)
    second = light - np.float32(0.581) * red - np.float32(0.395) * blue
    return np.stack([light + np.float32(2.032) * blue, second, light + np.float32(1.140) * red], axis=-1)


_ANY = (DTypeCode.UINT8, DTypeCode.FLOAT32)
_UINT8 = (DTypeCode.UINT8,)
_PIXELS: dict[int, tuple[int, int, Convert, tuple[DTypeCode, ...]]] = {
    # mode: channels of the input, of the output, conversion, element types
    _M.RGB2GRAY: (3, 1, _gray((0, 1, 2)), _ANY),
    _M.BGR2GRAY: (3, 1, _gray((2, 1, 0)), _ANY),
    _M.RGBA2GRAY: (4, 1, _gray((0, 1, 2)), _UINT8),
    _M.GRAY2RGB: (1, 3, _pick(0, 0, 0), _ANY),
    _M.RGB2BGR: (3, 3, _pick(2, 1, 0), _ANY),
    _M.BGR2RGB: (3, 3, _pick(2, 1, 0), _ANY),
    _M.RGBA2RGB: (4, 3, _pick(0, 1, 2), _UINT8),
    _M.RGBA2BGR: (4, 3, _pick(2, 1, 0), _UINT8),
    _M.RGB2YUV: (3, 3, _to_yuv, _ANY),
    _M.YUV2RGB: (3, 3, _from_yuv, _ANY),
}
PLANAR = {
    # mode: order of the chroma samples, BT.601 range, order of the result ("" for brightness)
    _M.YUV2GRAY_NV21: ("NV21", False, ""),
    _M.YUV2RGB_NV21: ("NV21", False, "RGB"),
    _M.YUV2BGR_NV21: ("NV21", False, "BGR"),
    _M.YUV2GRAY_NV12: ("NV12", False, ""),
    _M.YUV2RGB_NV12: ("NV12", False, "RGB"),
    _M.YUV2BGR_NV12: ("NV12", False, "BGR"),
    _M.YUV2GRAY_YV12: ("YV12", False, ""),
    _M.YUV2RGB_YV12: ("YV12", False, "RGB"),
    _M.YUV2BGR_YV12: ("YV12", False, "BGR"),
    _M.YUV2GRAY_YU12: ("YU12", False, ""),
    _M.YUV2RGB_YU12: ("YU12", False, "RGB"),
    _M.YUV2BGR_YU12: ("YU12", False, "BGR"),
    _M.YCrCb2RGB: ("NV21", False, "RGB"),
    _M.YCrCb2BGR: ("NV21", False, "BGR"),
    _M.BT601_YUV2RGB_NV21: ("NV21", True, "RGB"),
    _M.BT601_YUV2BGR_NV21: ("NV21", True, "BGR"),
    _M.BT601_YUV2RGB_NV12: ("NV12", True, "RGB"),
    _M.BT601_YUV2BGR_NV12: ("NV12", True, "BGR"),
    _M.BT601_YUV2RGB_YV12: ("YV12", True, "RGB"),
    _M.BT601_YUV2BGR_YV12: ("YV12", True, "BGR"),
    _M.BT601_YUV2RGB_YU12: ("YU12", True, "RGB"),
    _M.BT601_YUV2BGR_YU12: ("YU12", True, "BGR"),
}
"""Modes that read images whose chroma samples stand behind the brightness."""


def _chroma(planes: np.ndarray, layout: str) -> tuple[np.ndarray, np.ndarray]:
    """U and V ``(n, h / 2, w / 2)`` from the rows behind the brightness ``(n, h / 2, w)``."""
    n, rows, width = planes.shape
    if layout in ("NV21", "NV12"):
        first, second = planes[..., 0::2], planes[..., 1::2]
    else:
        first, second = planes.reshape(n, 2, rows, width // 2).transpose(1, 0, 2, 3)
    return (first, second) if layout in ("NV12", "YU12") else (second, first)


def _planar_to_colour(x: np.ndarray, layout: str, bt601: bool, order: str) -> np.ndarray:
    """A YUV image ``(n, 3 h / 2, w, 1)`` to colours ``(n, h, w, 3)``."""
    height = x.shape[1] // 3 * 2
    y = x[:, :height, :, 0].astype(np.int32)
    u, v = (c.astype(np.int32).repeat(2, axis=1).repeat(2, axis=2) for c in _chroma(x[:, height:, :, 0], layout))
    if bt601:
        y = (y * 257 * 18997) >> 16
        red = (102 * v + y - 14216) >> 6
        green = (-25 * u - 52 * v + y + 8696) >> 6
        blue = (128 * u + y - 17544) >> 6
    else:
        red = y + ((359 * (v - 128)) >> 8)
        green = y - ((88 * (u - 128) + 183 * (v - 128)) >> 8)
        blue = y + ((454 * (u - 128)) >> 8)
    return _clamped(red, green, blue) if order == "RGB" else _clamped(blue, green, red)


@register
class CvtColor(Operator):
    """Colour conversion of NHWC images in uint8 or float32."""

    name = "CvtColor"
    param = params.CvtColor
    in_original = InOriginal(type="CvtColorForward")
    sample_inputs = (FILTER,)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        n, h, w, c = check_ndim(node, ins[0], 4, "the image")
        mode, dtype = node.params.mode, ins[0].dtype
        if mode in _PIXELS:
            needed, made, _, types = _PIXELS[mode]
            fits = c == needed
        elif mode in PLANAR:
            made, types = (3 if PLANAR[mode][2] else 1), _UINT8
            fits = c == 1 and h % 3 == 0 and w % 2 == 0
            h = h // 3 * 2
        else:
            raise fail(node, f"unknown mode {mode}")
        if not fits or dtype.code not in types:
            raise fail(node, f"{mode.name} does not take {dtype} images of shape {ins[0].shape}")
        return [TensorSpec((n, h, w, made), dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        mode = node.params.mode
        if mode in _PIXELS:
            return [_PIXELS[mode][2](ins[0])]
        layout, bt601, order = PLANAR[mode]
        if not order:
            return [np.ascontiguousarray(ins[0][:, : out_specs[0].shape[1]])]
        return [_planar_to_colour(ins[0], layout, bt601, order)]
