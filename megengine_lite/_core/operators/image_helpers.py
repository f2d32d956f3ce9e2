"""Helpers of operators on images: layouts, output sizes, and results in 8-bit types."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.image_layouts import Format, nchw_shape, split_format
from megengine_lite._core.ir.quantize import from_float32, round_half_away, to_float32
from megengine_lite._core.operators.base import fail
from megengine_lite._core.operators.checks import to_integers


def image_formats(node: AnyNode) -> tuple[Format, Format]:
    """The layouts of input and output."""
    try:
        return split_format(node.params.format)
    except ValueError:
        raise fail(node, f"unknown format {node.params.format}") from None


def image_format(node: AnyNode) -> Format:
    """The layout of an operator that does not change it."""
    before, after = image_formats(node)
    if before != after:
        raise fail(node, f"is not defined for format {node.params.format!s}")
    return before


def image_shape(node: AnyNode, fmt: Format, spec: TensorSpec) -> tuple[int, int, int, int]:
    """``(n, c, h, w)`` of an image tensor."""
    try:
        return nchw_shape(fmt, spec.shape)
    except ValueError as error:
        raise fail(node, str(error)) from None


def output_size(node: AnyNode, value: np.ndarray | None, dimensions: int, least: int = 1) -> tuple[int, ...]:
    """The size in an input: a positive number for each dimension, or one for all of them. ``least`` may be 0."""
    sizes = to_integers(node, value, "the output size")
    if len(sizes) not in (1, dimensions) or min(sizes) < least:
        raise fail(node, f"the output size must be {dimensions} positive numbers, is {sizes}")
    return tuple(sizes) if len(sizes) == dimensions else tuple(sizes) * dimensions


def stored_to_float(array: np.ndarray, dtype: DType) -> np.ndarray:
    """Pixels as float32: real values of floats, stored numbers of integer and quantized types."""
    return to_float32(array, dtype) if dtype.is_float else array.astype(np.float32)


def float_to_stored(values: np.ndarray, dtype: DType) -> np.ndarray:
    """The reverse of :func:`stored_to_float`; integers are rounded (halves away from zero) and clamped.

    NaN becomes the smallest integer.
    """
    if dtype.is_float:
        return from_float32(values, dtype)
    low, high = (
        dtype.quantized_range if dtype.is_quantized else (np.iinfo(dtype.storage).min, np.iinfo(dtype.storage).max)
    )
    result: np.ndarray = np.fmin(np.fmax(round_half_away(values), low), high).astype(dtype.storage)
    return result


def outside_value(value: float, dtype: DType) -> float:
    """The value outside of an image; for integers it is limited to what a pixel can hold."""
    if dtype.is_float:
        return value
    return float(float_to_stored(np.array([value], np.float32), dtype)[0]) if np.isfinite(value) else 0.0
