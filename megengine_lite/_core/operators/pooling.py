"""Pooling over windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import DTypeCode
from megengine_lite._core.ir.graph import AnyNode, Node, TensorSpec, Var
from megengine_lite._core.ir.image_layouts import from_nchw, layout_shape, to_nchw
from megengine_lite._core.ir.params import ConvolutionFormat, PoolingMode
from megengine_lite._core.ir.quantize import from_float32, round_half_away, to_float32
from megengine_lite._core.operators.base import (
    ProductOperator,
    fail,
    first_input_is_non_negative,
    register,
)
from megengine_lite._core.operators.checks import check_count
from megengine_lite._core.operators.facts import IMAGE, InFiles, InOriginal
from megengine_lite._core.operators.image_helpers import image_format, image_shape, output_size
from megengine_lite._core.operators.origins import Shape, ShapeOrigins, window_sizes
from megengine_lite._core.operators.registry import REGISTRY
from megengine_lite._core.operators.samples import with_format
from megengine_lite._core.operators.window import Window, places_inside
from megengine_lite.errors import InternalError

LOWEST = float(np.finfo(np.float32).min)  # where float maxima begin


def _image_shape(node: AnyNode, spec: TensorSpec) -> tuple[int, int, int, int]:
    if spec.dtype.code in (DTypeCode.BOOL, DTypeCode.BYTE, DTypeCode.COMPLEX64):
        raise fail(node, f"cannot pool {spec.dtype}")
    if node.params.mode not in list(PoolingMode):
        raise fail(node, f"unknown mode {node.params.mode}")
    shape = image_shape(node, image_format(node), spec)
    if min(shape[2:]) < 1:
        raise fail(node, f"the image is empty: {spec.shape}")
    return shape


def pool(x: np.ndarray, spec: TensorSpec, window: Window, out: Sequence[int], mode: int) -> np.ndarray:
    """Pools ``x (n, c, h, w)``, stored as ``spec.dtype`` says; each window must reach into the image."""
    dtype = spec.dtype
    values = to_float32(x, dtype) if dtype.is_float else x
    if mode == PoolingMode.MAX:
        # Passes over NaN; a window with nothing above the lowest finite number gives that.
        lowest = LOWEST if dtype.is_float else np.iinfo(x.dtype).min
        highest = _along_axes(values, window, out, np.fmax, lowest)
        return from_float32(highest, dtype) if dtype.is_float else highest
    total = _along_axes(values if dtype.is_float else values.astype(np.int64), window, out, np.add, 0)
    inside = _inside(x.shape[2], window, out, 0)[:, None] * _inside(x.shape[3], window, out, 1)
    area = int(np.prod(window.size))
    if mode == PoolingMode.AVERAGE:
        total = total + dtype.zero_point * (area - inside)  # the stored number of a real zero
    divisor = inside if mode == PoolingMode.AVERAGE_COUNT_EXCLUDE_PADDING else area
    if dtype.is_float:
        return from_float32(total / np.asarray(divisor, np.float32), dtype)
    # MegEngine truncates averages of plain integers, but only those that count the padding.
    truncates = not dtype.is_quantized and mode == PoolingMode.AVERAGE
    if dtype.ties_to_even:
        return (np.rint(total / divisor - dtype.zero_point) + dtype.zero_point).astype(x.dtype)
    return (np.trunc(total / divisor) if truncates else round_half_away(total / divisor)).astype(x.dtype)


def _along_axes(x: np.ndarray, window: Window, out: Sequence[int], combine: np.ufunc, start: float) -> np.ndarray:
    """Combines the elements of each window that lie inside the image: first along the height, then along the width."""
    for axis in (0, 1):
        size, stride, pad = window.size[axis], window.stride[axis], window.pad[axis]
        length = x.shape[2 + axis]
        shape = [*x.shape]
        shape[2 + axis] = out[axis]
        result = np.full(shape, start, x.dtype)
        for tap in places_inside(size, stride, 1, pad, length, out[axis]):
            first = max(0, -((tap - pad) // stride))
            end = min(out[axis], (length - 1 + pad - tap) // stride + 1)
            if first >= end:
                continue
            begin = first * stride - pad + tap
            source, target = [slice(None)] * 4, [slice(None)] * 4
            source[2 + axis] = slice(begin, begin + (end - first - 1) * stride + 1, stride)
            target[2 + axis] = slice(first, end)
            part = result[tuple(target)]
            combine(part, x[tuple(source)], out=part)
        x = result
    return x


def _inside(length: int, window: Window, out: Sequence[int], axis: int) -> np.ndarray:
    """How many elements of each window lie inside the image, along one axis."""
    first = np.arange(out[axis]) * window.stride[axis] - window.pad[axis]
    return np.minimum(first + window.size[axis], length) - np.maximum(first, 0)


class _Pooling(ProductOperator):
    """What Pooling and AdaptivePooling share; subclasses say which window."""

    def window(self, node: AnyNode, space: tuple[int, int], sizes: np.ndarray | None) -> Window:
        """The window over an image of the given height and width; ``sizes`` is the value of input 1, if any."""
        raise NotImplementedError

    def makes_non_negative(self, node: Node, is_non_negative: Callable[[Var], bool]) -> bool:
        return first_input_is_non_negative(node, is_non_negative)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1 + len(self.value_inputs))
        n, c, h, w = _image_shape(node, ins[0])
        window = self.window(node, (h, w), ins[1].value if len(ins) > 1 else None)
        out = window.output(node, (h, w))
        if any(p >= k for p, k in zip(window.pad, window.size, strict=True)):
            raise fail(node, f"pad {window.pad} must be smaller than the window {window.size}")
        return [TensorSpec(layout_shape(image_format(node), n, c, *out), ins[0].dtype)]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        if len(shapes) > 1 or node.params.format != ConvolutionFormat.NCHW:
            return None
        return [window_sizes(shapes, 0)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        fmt = image_format(node)
        x = to_nchw(fmt, ins[0])
        window = self.window(node, x.shape[2:], ins[1] if len(ins) > 1 else None)
        out = window.output(node, x.shape[2:])
        return [from_nchw(fmt, pool(x, in_specs[0], window, out, node.params.mode))]


def pool_window(node: AnyNode, space: tuple[int, int], sizes: np.ndarray | None) -> Window:
    """The window of a pooling node; see ``window`` of its operator."""
    operator = REGISTRY[node.op]
    if not isinstance(operator, _Pooling):
        raise InternalError(f"{node} is no pooling")
    return operator.window(node, space, sizes)


@register
class Pooling(_Pooling):
    """Maximum or average over a moving window."""

    name = "Pooling"
    param = params.Pooling
    in_files = InFiles(revision=1)
    in_original = InOriginal(type="PoolingForward", chooses_algorithm=True)
    runs_in_float32 = True
    sample_inputs = (IMAGE,)
    keeps_samples = with_format

    def window(self, node: AnyNode, space: tuple[int, int], sizes: np.ndarray | None) -> Window:
        p = node.params
        return Window((p.window_h, p.window_w), (p.stride_h, p.stride_w), (p.pad_h, p.pad_w), (1, 1))

    def chooses_elements(self, node: Node) -> bool:
        return bool(node.params.mode == PoolingMode.MAX and node.params.format == ConvolutionFormat.NCHW)


@register
class AdaptivePooling(_Pooling):
    """Pooling with the window that gives the asked output size.

    Input 1 holds the size (one or two numbers). The stride is ``in // out`` and the window ``in - (out - 1) stride``;
    this is not the adaptive pooling of other frameworks, whose windows differ in size.
    """

    name = "AdaptivePooling"
    param = params.AdaptivePooling
    value_inputs = (1,)
    in_files = InFiles(revision=1)
    in_original = InOriginal(type="AdaptivePoolingForward")
    runs_in_float32 = True
    sample_inputs = (IMAGE, [1])
    keeps_samples = with_format

    def window(self, node: AnyNode, space: tuple[int, int], sizes: np.ndarray | None) -> Window:
        oh, ow = output_size(node, sizes, 2)
        if oh > space[0] or ow > space[1]:
            raise fail(node, f"an output of {oh} x {ow} is larger than the image, {space[0]} x {space[1]}")
        stride = space[0] // oh, space[1] // ow
        return Window((space[0] - (oh - 1) * stride[0], space[1] - (ow - 1) * stride[1]), stride, (0, 0), (1, 1))
