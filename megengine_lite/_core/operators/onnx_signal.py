"""Fourier transforms, windows and mel filters of ONNX."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir.dtype import FLOAT32, FLOAT64, DType
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.onnx_params import CosineWindow, Fourier, ShortTime
from megengine_lite._core.ir.quantize import from_float32, to_float32
from megengine_lite._core.operators.base import Operator, fail, normalize_axis, register
from megengine_lite._core.operators.checks import check_count, check_ndim, check_shape, to_integer


def _real(x: np.ndarray, dtype: DType) -> np.ndarray:
    """Floats as float32 or float64."""
    return to_float32(x, dtype) if dtype.is_float else x


def _stored(x: np.ndarray, dtype: DType) -> np.ndarray:
    return from_float32(x, dtype) if dtype.is_float else x.astype(dtype.storage, copy=False)


def _check_parts(node: AnyNode, spec: TensorSpec, ndim: int) -> None:
    """Raises unless a signal has so many dimensions or more, and its last axis real parts, or both parts."""
    if len(spec.shape) < ndim or spec.shape[-1] not in (1, 2):
        raise fail(node, f"a signal of shape {spec.shape} has neither 1 nor 2 parts of its numbers along its last axis")
    if spec.dtype.storage.kind != "f" and not spec.dtype.is_float:
        raise fail(node, f"works on floats, not on {spec.dtype}")


def _complex(x: np.ndarray) -> np.ndarray:
    """Numbers whose parts stand along the last axis; real ones if there is one part."""
    return x[..., 0] if x.shape[-1] == 1 else x[..., 0] + x.dtype.type(1) * 1j * x[..., 1]


def _parts(x: np.ndarray) -> np.ndarray:
    """Both parts of complex numbers along a new last axis: as they lie in memory."""
    return np.ascontiguousarray(x).view(x.real.dtype).reshape(*x.shape, 2)


@register
class FourierTransform(Operator):
    """A transform along an axis; inputs data[, length][, axis]. The last axis has the parts of complex numbers."""

    name = "FourierTransform"
    in_files = None
    element_types = "floats"

    def needed_values(self, node: AnyNode) -> tuple[int, ...]:
        return tuple(range(1, len(node.inputs)))

    @staticmethod
    def axis_and_length(node: AnyNode, shape: tuple[int, ...], values: Sequence[np.ndarray | None]) -> tuple[int, int]:
        """The axis and how many numbers are transformed, by the values of the inputs behind the data."""
        p: Fourier = node.params
        named = to_integer(node, values[-1], "the axis") if p.axis is None else p.axis
        axis = normalize_axis(node, named, len(shape))
        if axis == len(shape) - 1:
            raise fail(node, "the last axis has the parts of complex numbers, nothing to transform")
        default = 2 * (shape[axis] - 1) if p.inverse and p.onesided else shape[axis]
        length = to_integer(node, values[0], "the length") if p.has_length else default
        if length < 1:
            raise fail(node, f"a transform of {length} numbers is not defined")
        return axis, length

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        p: Fourier = node.params
        check_count(node, ins, 1 + p.has_length + (p.axis is None))
        _check_parts(node, ins[0], 2)
        shape = list(ins[0].shape)
        if p.onesided and shape[-1] != (2 if p.inverse else 1):
            raise fail(node, f"half a spectrum belongs to a real signal; the data have the shape {ins[0].shape}")
        axis, length = self.axis_and_length(node, ins[0].shape, [s.value for s in ins[1:]])
        shape[axis] = length // 2 + 1 if p.onesided and not p.inverse else length
        shape[-1] = 1 if p.onesided and p.inverse else 2
        return [TensorSpec(check_shape(node, shape), ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p: Fourier = node.params
        axis, length = self.axis_and_length(node, ins[0].shape, ins[1:])
        x = _complex(_real(ins[0], in_specs[0].dtype))
        if p.onesided:
            found = np.fft.irfft(x, length, axis)[..., None] if p.inverse else _parts(np.fft.rfft(x, length, axis))
        else:
            found = _parts(np.fft.ifft(x, length, axis) if p.inverse else np.fft.fft(x, length, axis))
        return [_stored(found, out_specs[0].dtype)]


@register
class ShortTimeFourier(Operator):
    """Spectra of the frames of signals; inputs signal ``(n, length[, parts])``, step[, window][, frame length]."""

    name = "ShortTimeFourier"
    in_files = None
    element_types = "floats"

    def needed_values(self, node: AnyNode) -> tuple[int, ...]:
        return (1, len(node.inputs) - 1) if node.params.has_length else (1,)

    @staticmethod
    def step_and_frame(node: AnyNode, ins: Sequence[TensorSpec]) -> tuple[int, int]:
        """How far frames are apart, and how long they are."""
        p: ShortTime = node.params
        step, frame = to_integer(node, ins[1].value, "the step"), ins[0].shape[1]
        if p.has_window:
            (frame,) = check_ndim(node, ins[2], 1, "the window")
        if p.has_length:
            length = to_integer(node, ins[-1].value, "the length of frames")
            if p.has_window and length != frame:
                raise fail(node, f"a window of {frame} numbers does not fit frames of {length}")
            frame = length
        if step < 1 or frame < 1:
            raise fail(node, f"frames of {frame} numbers at steps of {step} are not defined")
        return step, frame

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        p: ShortTime = node.params
        check_count(node, ins, 2 + p.has_window + p.has_length)
        shape = ins[0].shape
        if len(shape) not in (2, 3):
            raise fail(node, f"signals are (n, length) or (n, length, parts), got {shape}")
        _check_parts(node, ins[0] if len(shape) == 3 else TensorSpec((*shape, 1), ins[0].dtype), 3)
        if p.onesided and len(shape) == 3 and shape[2] == 2:
            raise fail(node, "half a spectrum belongs to a real signal, and this one is complex")
        step, frame = self.step_and_frame(node, ins)
        bins = frame // 2 + 1 if p.onesided else frame
        count = max((shape[1] - frame) // step + 1, 0)
        return [TensorSpec(check_shape(node, (shape[0], count, bins, 2)), ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p: ShortTime = node.params
        step, frame = self.step_and_frame(node, in_specs)
        if out_specs[0].size == 0:
            return [np.empty(out_specs[0].shape, out_specs[0].dtype.storage)]
        x = _real(ins[0], in_specs[0].dtype)
        x = _complex(x) if x.ndim == 3 else x
        (n, count), (row, item) = out_specs[0].shape[:2], x.strides
        frames = np.lib.stride_tricks.as_strided(x, (n, count, frame), (row, item * step, item), writeable=False)
        if p.has_window:
            frames = frames * _real(ins[2], in_specs[2].dtype)
        spectra = np.fft.rfft(frames, axis=2) if p.onesided else np.fft.fft(frames, axis=2)
        return [_stored(_parts(spectra), out_specs[0].dtype)]


@register
class OnnxWindow(Operator):
    """A window as float64; the input is its length."""

    name = "OnnxWindow"
    in_files = None
    value_inputs = (0,)
    element_types = "an integer"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        return [TensorSpec(check_shape(node, [to_integer(node, ins[0].value, "the length")]), FLOAT64)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p: CosineWindow = node.params
        length = out_specs[0].size
        angle = 2 * np.pi * np.arange(length) / (length if p.periodic else length - 1)
        return [sum((f * np.cos(k * angle) for k, f in enumerate(p.factors)), np.zeros(length))]


@register
class MelFilters(Operator):
    """Triangles of equal width on the mel scale, as float32 ``(bins of a spectrum, filters)``.

    Inputs are single numbers: filters, length of the transform, sample rate, lower and upper edge in hertz.
    """

    name = "MelFilters"
    in_files = None
    value_inputs = (0, 1)
    element_types = "integers and floats"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 5)
        count, length = (to_integer(node, s.value, "the size") for s in ins[:2])
        return [TensorSpec(check_shape(node, (length // 2 + 1, count)), FLOAT32)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        count, length, rate = (to_integer(node, x, "the size") for x in ins[:3])
        low, high = (
            2595 * np.log1p(float(_real(x, s.dtype).reshape(-1)[0]) / 700) / np.log(10)
            for x, s in zip(ins[3:], in_specs[3:], strict=True)
        )
        mels = low + (high - low) / (count + 2) * np.arange(count + 2)
        edges = (length + 1) * (700 * np.expm1(mels / 2595 * np.log(10))) // rate
        if edges.min() < 0 or edges.max() > length // 2:
            raise fail(node, f"the edges reach beyond the {length // 2 + 1} bins of a spectrum")
        begin, peak, end = edges[:-2], edges[1:-1], edges[2:]
        bins = np.arange(length // 2 + 1)[:, None]
        rise = np.where(peak == begin, bins == peak, (bins - begin) / (peak - begin))
        fall = (end - bins) / (end - peak)
        filters = np.where(bins <= peak, np.where(bins >= begin, rise, 0), np.where(bins < end, fall, 0))
        return [filters.astype(np.float32)]
