"""Convolutions, plain and transposed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import FLOATS, Value
from megengine_lite._core.formats.onnx.operators.normalization import per_channel
from megengine_lite._core.formats.onnx.operators.shapes import padded
from megengine_lite._core.formats.onnx.operators.table import Call, NeedsShapes, NotConverted, converts
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.ir.onnx_image_params import SamePadding
from megengine_lite._core.ir.onnx_params import OnnxPad
from megengine_lite._core.ir.params import ConvolutionSparse, ElemwiseMode

_M = ElemwiseMode


class WindowAttributes(NamedTuple):
    """A window over the axes behind the channels. ``same`` is ``upper`` or ``lower`` if the padding keeps sizes."""

    size: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    same: str

    @property
    def is_symmetric(self) -> bool:
        return not self.same and self.begin == self.end

    def of_images(self) -> WindowAttributes:
        """The window over images of height 1 that a window over rows is."""
        lists = (self.size, self.strides, self.dilations, self.begin, self.end)
        size, strides, dilations, begin, end = ((n, *v) for n, v in zip((1, 1, 1, 0, 0), lists, strict=True))
        return WindowAttributes(size, strides, dilations, begin, end, self.same)


_AUTO = {"NOTSET": "", "VALID": "", "SAME_UPPER": "upper", "SAME_LOWER": "lower"}


def window_of(call: Call, size: Sequence[int], axes: int) -> WindowAttributes:
    """The window that the attributes of a call describe; each list has a number for each axis."""

    def numbers(name: str, default: int, count: int, least: int) -> tuple[int, ...]:
        found = call.integers(name)
        found = [default] * count if found is None else found
        if len(found) != count or min(found, default=least) < least:
            raise NotConverted(f"{name} is {found}, and must be {count} numbers, none below {least}")
        return tuple(found)

    call.know("pads", "strides", "dilations", "kernel_shape")
    auto = call.text("auto_pad", "NOTSET")
    if auto not in _AUTO:
        raise NotConverted(f"auto_pad {auto!r} is not known")
    if len(size) != axes or min(size, default=1) < 1:
        raise NotConverted(f"a window of {list(size)} does not fit {axes} axes")
    pads = numbers("pads", 0, 2 * axes, 0) if auto == "NOTSET" else (0,) * (2 * axes)
    return WindowAttributes(
        tuple(size),
        numbers("strides", 1, axes, 1),
        numbers("dilations", 1, axes, 1),
        pads[:axes],
        pads[axes:],
        _AUTO[auto],
    )


def filter_size(call: Call, weights: Value) -> list[int]:
    """The size of a filter's window: from its shape, or as an attribute says."""
    shape, size = call.builder.known_shape(weights), call.integers("kernel_shape")
    if shape is not None:
        if size is not None and tuple(size) != tuple(shape[2:]):
            raise NotConverted(f"kernel_shape is {size}, and its filters have {list(shape[2:])}")
        return list(shape[2:])
    if size is None:
        raise NeedsShapes("the size of its filter is computed when the model runs, and it has no kernel_shape")
    return size


def with_symmetric_padding(
    b: GraphBuilder, x: Value, window: WindowAttributes, fill: Value | None = None
) -> tuple[Value, WindowAttributes]:
    """Data and window after all padding that is not the same on both sides is added to the data: zeros, or ``fill``."""
    axes = len(window.size)
    none = (0,) * axes
    if window.same:
        if max(window.strides) == 1:
            totals = [(k - 1) * d for k, d in zip(window.size, window.dilations, strict=True)]
            less, more = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
            begin, end = (more, less) if window.same == "lower" else (less, more)
            return with_symmetric_padding(b, x, window._replace(begin=begin, end=end, same=""), fill)
        parameters = SamePadding(window.size, window.strides, window.dilations, window.same == "lower")
        (numbers,) = b.nodes_of("SamePadding", parameters, [x.var])
        x = b.moved("OnnxPad", OnnxPad("constant"), x, numbers, b.exact(fill or b.number(0, x)))
        return x, window._replace(begin=none, end=none, same="")
    return (x, window) if window.begin == window.end else with_padding(b, x, window, fill)


def with_padding(
    b: GraphBuilder, x: Value, window: WindowAttributes, fill: Value | None = None
) -> tuple[Value, WindowAttributes]:
    """Data and window after all padding is added to the data."""
    none = (0,) * len(window.size)
    widths = [(0, 0), (0, 0), *zip(window.begin, window.end, strict=True)]
    return padded(b, x, widths, "constant", fill or b.number(0, x)), window._replace(begin=none, end=none)


def window_parameters(window: WindowAttributes) -> dict[str, int]:
    """Padding, strides and dilations as parameters of convolutions in two or three dimensions."""
    found: dict[str, int] = {}
    for k, letter in enumerate("dhw"[-len(window.size) :]):
        found |= {
            f"pad_{letter}": window.begin[k],
            f"stride_{letter}": window.strides[k],
            f"dilate_{letter}": window.dilations[k],
        }
    return found


def grouped(b: GraphBuilder, weights: Value, groups: int) -> Value:
    """A filter whose groups are an axis of their own, in front."""
    shape = b.known_shape(weights)
    if shape is not None:
        first, *rest = shape
        if first % groups:
            raise NotConverted(f"{first} filters cannot be cut into {groups} groups")
        return b.reshaped(weights, b.integers([groups, first // groups, *rest]), weights.rank + 1)
    rest_of = b.part(b.shape(weights), 0, 1, None)
    target = b.joined([b.constant(np.array([groups])), b.constant(np.array([1])), rest_of], 0)
    return b.reshaped(weights, target.var, weights.rank + 1, 1)


def as_images(b: GraphBuilder, *values: Value) -> list[Value]:
    """Rows as images of height 1."""
    return [b.with_axes(v, [2]) for v in values]


def convolved(
    b: GraphBuilder, x: Value, weights: Value, window: WindowAttributes, groups: int, transposed: bool = False,
    dtype: DType | None = None,
) -> Value:  # fmt: skip
    """A convolution without bias; transposed ones need a padding that is the same on both sides.

    Quantized numbers stay what they are; ``dtype`` is the type of their sums.
    """
    if len(window.size) == 1:
        x, weights = as_images(b, x, weights)
        return b.without_axes(convolved(b, x, weights, window.of_images(), groups, transposed, dtype), [2])
    sparse = ConvolutionSparse.GROUP if groups > 1 else ConvolutionSparse.DENSE
    if groups > 1:
        weights = grouped(b, weights, groups)
    parameters: Any
    if len(window.size) == 2:
        parameters = params.Convolution(sparse=sparse, **window_parameters(window))
        op = "ConvolutionBackwardData" if transposed else "Convolution"
    else:
        parameters = params.Convolution3D(sparse=sparse, **window_parameters(window))
        op = "Convolution3DBackwardData" if transposed else "Convolution3D"
    inputs = [v.var if v.dtype.is_quantized else b.exact(v) for v in (x, weights)]
    return b.node(op, parameters, inputs[::-1] if transposed else inputs, x.kind, x.rank, dtype)


def check_convolution(x: Value, weights: Value) -> int:
    """The number of axes behind the channels."""
    if not 3 <= x.rank <= 5 or weights.rank != x.rank:
        raise NotConverted(f"data of {x.rank} and a filter of {weights.rank} dimensions are not computed here")
    if x.kind not in FLOATS or weights.kind != x.kind:
        raise NotConverted(f"it is not computed in {x.kind.name} with a filter in {weights.kind.name}")
    return x.rank - 2


def with_bias(b: GraphBuilder, result: Value, bias: Value | None) -> Value:
    return result if bias is None else b.elemwise(_M.ADD, result, per_channel(b, bias, result))


def _check_bias(b: GraphBuilder, bias: Value | None, weights: Value, axis: int, groups: int) -> None:
    """Raises for a bias that is known not to have a number for each channel of the result."""
    if bias is None:
        return
    shape, filters = b.known_shape(bias), b.known_shape(weights)
    if bias.rank != 1 or (shape is not None and filters is not None and shape[0] != filters[axis] * groups):
        count = "one number" if filters is None else f"{filters[axis] * groups} numbers, one"
        raise NotConverted(f"its bias must have {count} for each channel, its shape is {shape or 'unknown'}")


@converts("Conv")
def _conv(call: Call) -> Value:
    return convolution(call, call.input(0), call.input(1), call.optional(2))


def convolution(call: Call, x: Value, weights: Value, bias: Value | None) -> Value:
    """A convolution of real numbers with the attributes of a call."""
    b = call.builder
    axes = check_convolution(x, weights)
    window = window_of(call, filter_size(call, weights), axes)
    x, window = with_symmetric_padding(b, x, window)
    groups = call.positive("group", 1)
    _check_bias(b, bias, weights, 0, 1)
    if axes == 1 and bias is not None:  # as images, so that the bias follows the convolution at once
        x, weights = as_images(b, x, weights)
        return b.without_axes(with_bias(b, convolved(b, x, weights, window.of_images(), groups), bias), [2])
    return with_bias(b, convolved(b, x, weights, window, groups), bias)


@converts("ConvTranspose")
def _conv_transpose(call: Call) -> Value:
    b, x, weights = call.builder, call.input(0), call.input(1)
    axes = check_convolution(x, weights)
    window = window_of(call, filter_size(call, weights), axes)
    groups, bias = call.positive("group", 1), call.optional(2)
    _check_bias(b, bias, weights, 1, groups)
    more = tuple(call.integers("output_padding") or [0] * axes)
    limits = [max(s, d) for s, d in zip(window.strides, window.dilations, strict=True)]
    if len(more) != axes or not all(0 <= m < limit for m, limit in zip(more, limits, strict=True)):
        raise NotConverted(f"output_padding is {list(more)}, and must be {axes} numbers from 0 on and below {limits}")
    wanted = call.integers("output_shape")
    if wanted is not None and (len(wanted) not in (axes, axes + 2) or min(wanted) < 1):
        raise NotConverted(f"output_shape is {wanted}, and must be {axes} numbers from 1 on")
    if wanted is None and not window.same and window.is_symmetric and not any(more):
        return with_bias(b, convolved(b, x, weights, window, groups, True), bias)
    none = (0,) * axes
    whole = convolved(b, x, weights, window._replace(begin=none, end=none, same=""), groups, True)
    whole = padded(b, whole, [(0, 0), (0, 0), *((0, m) for m in more)], "constant", b.number(0, x))
    if wanted is not None or window.same:
        result = _cut_to(b, whole, x, window, None if wanted is None else wanted[-axes:])
    else:
        result = whole
        for k, (front, behind) in enumerate(zip(window.begin, window.end, strict=True)):
            if front or behind:
                result = b.part(result, k + 2, front, -behind if behind else None)
    return with_bias(b, result, bias)


def _cut_to(b: GraphBuilder, whole: Value, x: Value, window: WindowAttributes, wanted: Sequence[int] | None) -> Value:
    """The middle of a transposed convolution that has the wanted size, or that of the input times the strides."""
    if wanted is not None:
        space = b.part(b.shape(whole), 0, 2, None)
        zeros = [b.constant(np.array([0] * n)) for n in (whole.rank + 2, len(wanted))]
        lacking = b.elemwise(_M.MAX, b.elemwise(_M.SUB, b.constant(np.array(wanted)), space), zeros[1])
        numbers = b.joined([zeros[0], lacking], 0)
        whole = b.moved("OnnxPad", OnnxPad("constant"), whole, numbers.var, b.exact(b.number(0, x)))
    for k in range(len(window.size)):
        if wanted is not None:
            size = b.constant(np.array([wanted[k]]))
        else:
            size = b.elemwise(_M.MUL, b.dimension(x, k + 2), b.constant(np.array([window.strides[k]])))
        zero, two = b.constant(np.array([0])), b.constant(np.array([2]))
        total = b.elemwise(_M.MAX, b.elemwise(_M.SUB, b.dimension(whole, k + 2), size), zero)
        half = b.elemwise(_M.FLOOR_DIV, total, two)
        begin = half if window.same == "upper" or not window.same else b.elemwise(_M.SUB, total, half)
        if not window.same:
            begin = b.elemwise(_M.SUB, total, half)
        end = b.elemwise(_M.ADD, begin, size)
        whole = b.sliced(whole, k + 2, begin.var, end.var, None)
    return whole
