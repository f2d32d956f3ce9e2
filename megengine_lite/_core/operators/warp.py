"""Perspective and affine transforms of images.

Images of one to three channels in NHWC are transformed with coordinates in steps of 1/32 pixel and with every kind of
interpolation (called *fine* here). All others are interpolated linearly at the exact position.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import DType, DTypeCode
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.image_layouts import Format, from_nchw, layout_shape, to_nchw
from megengine_lite._core.ir.params import BorderMode, InterpolationMode
from megengine_lite._core.operators.base import Operator, fail, register
from megengine_lite._core.operators.checks import check_count
from megengine_lite._core.operators.facts import IMAGE, InFiles, InOriginal
from megengine_lite._core.operators.image_helpers import (
    float_to_stored,
    image_format,
    image_formats,
    image_shape,
    output_size,
    stored_to_float,
)
from megengine_lite._core.operators.sampling import (
    bilinear,
    cubic_weights,
    gather,
    interpolate_taps,
    lanczos4_weights,
)
from megengine_lite._records import record

_C = DTypeCode
_PIXELS = (_C.FLOAT32, _C.FLOAT16, _C.UINT8, _C.INT8, _C.QUANTIZED_S8, _C.QUANTIZED8_ASYMM)
# Mixed formats that only convolutions have.
_FOR_CONVOLUTION = (Format.NCHW4_NCHW32, Format.NCHW32_NCHW4, Format.NCHW4_NCHW, Format.NCHW4_NHWC)
_STEPS = 32  # per pixel, of fine transforms
_LAST_POSITION = 2.0**31 - 1
_FRACTIONS = np.arange(_STEPS, dtype=np.float32) / _STEPS
FINE_WEIGHTS = {
    InterpolationMode.CUBIC: cubic_weights(_FRACTIONS),
    InterpolationMode.LANCZOS4: lanczos4_weights(_FRACTIONS),
}
"""Weights ``[steps, neighbours]`` of fine transforms that read more than two pixels along an axis, by fraction."""


@record(frozen=True, slots=True)
class Warp:
    """A transform whose inputs are known: one output image per matrix."""

    input_format: Format
    output_format: Format
    fine: bool
    interpolation: InterpolationMode
    border: BorderMode
    value: float


def border_value(value: float, fine: bool, dtype: DType) -> float:
    """The value outside of an image. Fine transforms of uint8 use the low bits of its whole part, as C does."""
    if fine and dtype.code is _C.UINT8:
        return float(int(value) & 0xFF) if np.isfinite(value) else 0.0
    return value


def has_fine_steps(fmt: int, channels: int, dtype: DType) -> bool:
    """Whether images of a layout and type are transformed with fine steps."""
    return fmt == Format.NHWC and channels in (1, 2, 3) and dtype.code in (_C.FLOAT32, _C.UINT8)


def _check_modes(node: AnyNode, interpolation: int, border: int, fine: bool) -> None:
    if border not in list(BorderMode) or border in (BorderMode.TRANSPARENT, BorderMode.ISOLATED):
        raise fail(node, f"border mode {border!s} is not supported")
    allowed = list(InterpolationMode) if fine else [InterpolationMode.LINEAR]
    if interpolation not in allowed:
        raise fail(node, f"interpolation {interpolation!s} is only defined for NHWC images of 1 to 3 channels")


def _sample_fine(image: np.ndarray, y: np.ndarray, x: np.ndarray, warp: Warp) -> np.ndarray:
    """Pixels of ``image (c, h, w)`` at positions in 1/32 pixel (whole pixels for NEAREST)."""
    if warp.interpolation == InterpolationMode.NEAREST:
        return gather(image, y, x, warp.border, warp.value)
    y0, x0 = y // _STEPS, x // _STEPS
    if warp.interpolation not in FINE_WEIGHTS:
        fy, fx = (y % _STEPS).astype(np.float32) / _STEPS, (x % _STEPS).astype(np.float32) / _STEPS
        return bilinear(image, y0 + fy, x0 + fx, warp.border, warp.value)
    weights = FINE_WEIGHTS[warp.interpolation]
    first = 1 - weights.shape[1] // 2
    rows, columns = weights[y % _STEPS], weights[x % _STEPS]
    return interpolate_taps(image, y0 + first, x0 + first, rows, columns, warp.border, warp.value)


def _whole(position: np.ndarray) -> np.ndarray:
    """Positions rounded to integers of 32 bits, halves to even."""
    result: np.ndarray = np.rint(np.clip(np.nan_to_num(position), -_LAST_POSITION, _LAST_POSITION)).astype(np.int64)
    return result


def perspective_positions(matrix: np.ndarray, oh: int, ow: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the pixels of an output lie in the input, ``(y, x)``, in the matrix's type."""
    y, x = np.arange(oh, dtype=matrix.dtype)[:, None], np.arange(ow, dtype=matrix.dtype)
    denominator = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]
    return (
        (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]) / denominator,
        (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]) / denominator,
    )


def _warp_perspective(image: np.ndarray, matrix: np.ndarray, out: Sequence[int], warp: Warp) -> np.ndarray:
    if warp.fine:
        y, x = perspective_positions(matrix.astype(np.float64), *out)
        y, x = np.where(np.isfinite(y), y, 0), np.where(np.isfinite(x), x, 0)  # a zero denominator counts as 0
        steps = 1 if warp.interpolation == InterpolationMode.NEAREST else _STEPS
        return _sample_fine(image, _whole(y * steps), _whole(x * steps), warp)
    return _sample_linear(image, *perspective_positions(matrix.astype(np.float32), *out), warp)


def _sample_linear(image: np.ndarray, y: np.ndarray, x: np.ndarray, warp: Warp) -> np.ndarray:
    result = bilinear(image, y, x, warp.border, warp.value)
    if warp.border == BorderMode.CONSTANT:
        result = np.where(np.isfinite(result), result, np.float32(warp.value))
    return result


def _warp_affine(image: np.ndarray, matrix: np.ndarray, out: Sequence[int], warp: Warp) -> np.ndarray:
    y, x = np.arange(out[0])[:, None], np.arange(out[1])
    if not warp.fine:
        m = matrix.astype(np.float32)
        y, x = y.astype(np.float32), x.astype(np.float32)
        return _sample_linear(image, m[1, 0] * x + m[1, 1] * y + m[1, 2], m[0, 0] * x + m[0, 1] * y + m[0, 2], warp)
    m = matrix.astype(np.float64)
    # Fixed point with 10 fractional bits, of which 5 are kept.
    shift, half = (10, 512) if warp.interpolation == InterpolationMode.NEAREST else (5, 16)
    places = [
        (_whole((m[row, 1] * y + m[row, 2]) * 1024) + half + _whole(m[row, 0] * x * 1024)) >> shift for row in (1, 0)
    ]
    return _sample_fine(image, places[0], places[1], warp)


def _check_matrix(node: AnyNode, spec: TensorSpec, rows: int) -> int:
    """Number of matrices."""
    if spec.dtype.code is not _C.FLOAT32 or len(spec.shape) != 3 or spec.shape[1:] != (rows, 3):
        raise fail(node, f"matrices must be float32 (n, {rows}, 3), are {spec.dtype} {spec.shape}")
    return spec.shape[0]


def _check_pixels(node: AnyNode, dtype: DType, shape: tuple[int, ...]) -> None:
    if dtype.code not in _PIXELS:
        raise fail(node, f"cannot transform an image of {dtype}")
    if min(shape[2:]) < 1:
        raise fail(node, f"the image is empty: height and width are {shape[2:]}")


@register
class WarpPerspective(Operator):
    """Perspective transform by matrices that map output pixels to input pixels.

    Inputs: data (one tensor, or several of one image each), matrices ``(m, 3, 3)``, optionally the index of the image
    that each matrix reads, and the output size.
    """

    name = "WarpPerspective"
    param = params.WarpPerspective
    value_inputs = (-1,)
    in_files = InFiles(revision=2)
    in_original = InOriginal(type="WarpPerspectiveForward", mentioned_inputs=2)
    runs_in_float32 = True
    sample_inputs = (IMAGE, (2, 3, 3), [1])

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        if len(ins) < 3:
            raise fail(node, f"needs data, matrices and a size, has {len(ins)} inputs")
        matrix = self.matrix_input(ins)
        images, warp = self._images(node, ins[:matrix]), self.transform(node, ins)
        count = _check_matrix(node, ins[matrix], 3)
        if matrix == len(ins) - 3 and ins[-2].shape != (count,):
            raise fail(node, f"{count} matrices need as many image indexes, not {ins[-2].shape}")
        if matrix == len(ins) - 2 and count != images[0]:
            raise fail(node, f"{count} matrices for {images[0]} images")
        size = output_size(node, ins[-1].value, 2)
        dtype = self._result_type(node, ins[0].dtype)
        return [TensorSpec(layout_shape(warp.output_format, count, images[1], *size), dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        matrix = self.matrix_input(in_specs)
        warp = self.transform(node, in_specs)
        images = np.concatenate([to_nchw(warp.input_format, data) for data in ins[:matrix]])
        indexes = ins[-2] if matrix == len(ins) - 3 else np.arange(len(images))
        if np.any((indexes < 0) | (indexes >= len(images))):
            raise fail(node, f"image indexes {indexes.tolist()} for {len(images)} images")
        values = stored_to_float(images, in_specs[0].dtype)
        size = output_size(node, ins[-1], 2)
        warped = [_warp_perspective(values[i], m, size, warp) for i, m in zip(indexes, ins[matrix], strict=True)]
        shape = len(warped), images.shape[1], *size
        return [self._store(np.array(warped).reshape(shape), warp, in_specs[0].dtype, out_specs[0].dtype)]

    @staticmethod
    def matrix_input(ins: Sequence[TensorSpec]) -> int:
        """Position of the matrices: before the size, or before image indexes (one-dimensional) and the size."""
        return len(ins) - (3 if len(ins) > 3 and len(ins[-2].shape) == 1 else 2)

    @staticmethod
    def _images(node: AnyNode, data: Sequence[TensorSpec]) -> tuple[int, ...]:
        """``(n, c, h, w)`` of all images together."""
        if len(data) > 1 and any(s.shape != data[0].shape or s.dtype != data[0].dtype for s in data):
            raise fail(node, f"images must have one shape and type, have {', '.join(str(s.shape) for s in data)}")
        n, c, h, w = image_shape(node, image_formats(node)[0], data[0])
        if len(data) > 1 and n != 1:
            raise fail(node, f"several data inputs must hold one image each, not {n}")
        _check_pixels(node, data[0].dtype, (n, c, h, w))
        return n * len(data), c, h, w

    def transform(self, node: AnyNode, ins: Sequence[TensorSpec]) -> Warp:
        """What a node does, once its inputs are known."""
        p = node.params
        formats = image_formats(node)
        channels = image_shape(node, formats[0], ins[0])[1]
        is_single = self.matrix_input(ins) == 1  # the original has other kernels for several data inputs
        fine = is_single and has_fine_steps(p.format, channels, ins[0].dtype)
        _check_modes(node, p.imode, p.bmode, fine)
        return Warp(*formats, fine, p.imode, p.bmode, border_value(p.border_val, fine, ins[0].dtype))

    @staticmethod
    def _result_type(node: AnyNode, x: DType) -> DType:
        fmt, wanted = node.params.format, node.output_dtype
        if fmt in _FOR_CONVOLUTION:
            raise fail(node, f"is not defined for format {fmt.name}")
        before, after = image_formats(node)
        if before == after:
            return x
        if wanted is None:
            wanted = DType(_C.FLOAT32) if fmt == Format.NHWC_NCHW else x
        becomes_signed = x.storage == np.uint8 and wanted.code is _C.QUANTIZED_S8
        if wanted.code not in (x.code, _C.FLOAT32) and not becomes_signed:
            raise fail(node, f"a transform in {fmt.name} from {x} to {wanted} is not supported")
        return wanted

    @staticmethod
    def _store(values: np.ndarray, warp: Warp, source: DType, target: DType) -> np.ndarray:
        if source.is_quantized and target.is_float:
            values = (values - source.zero_point) * np.float32(source.scale)
        elif source.storage == np.uint8 and target.code is _C.QUANTIZED_S8:
            values = values - (source.zero_point if source.is_quantized else 128)
        return from_nchw(warp.output_format, float_to_stored(values.astype(np.float32), target))


@register
class WarpAffine(Operator):
    """Affine transform by matrices ``(n, 2, 3)`` that map output pixels to input pixels.

    Inputs: data, matrices, output size.
    """

    name = "WarpAffine"
    param = params.WarpAffine
    value_inputs = (-1,)
    in_files = InFiles(revision=2)
    in_original = InOriginal(type="WarpAffineForward", mentioned_inputs=1, reads_when_run=True)
    sample_inputs = (IMAGE, (2, 2, 3), [1])

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 3)
        fmt = image_format(node)
        n, c, h, w = image_shape(node, fmt, ins[0])
        _check_pixels(node, ins[0].dtype, (n, c, h, w))
        self.transform(node, ins[0])
        if _check_matrix(node, ins[1], 2) != n:
            raise fail(node, f"{ins[1].shape[0]} matrices for {n} images")
        return [TensorSpec(layout_shape(fmt, n, c, *output_size(node, ins[2].value, 2)), ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        warp = self.transform(node, in_specs[0])
        images = to_nchw(warp.input_format, ins[0])
        values = stored_to_float(images, in_specs[0].dtype)
        size = output_size(node, ins[2], 2)
        warped = [_warp_affine(image, m, size, warp) for image, m in zip(values, ins[1], strict=True)]
        result = np.array(warped, np.float32).reshape(*images.shape[:2], *size)
        return [from_nchw(warp.output_format, float_to_stored(result, out_specs[0].dtype))]

    @staticmethod
    def transform(node: AnyNode, data: TensorSpec) -> Warp:
        """What a node does with such images."""
        p, fmt = node.params, image_format(node)
        fine = has_fine_steps(fmt, image_shape(node, fmt, data)[1], data.dtype)
        _check_modes(node, p.imode, p.border_mode, fine)
        return Warp(fmt, fmt, fine, p.imode, p.border_mode, border_value(p.border_val, fine, data.dtype))
