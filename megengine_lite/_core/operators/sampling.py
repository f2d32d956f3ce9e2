"""Values of images between their pixels and outside of them."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.ir.params import BorderMode

_FIRST_PIXEL, _LAST_PIXEL = -(2.0**31), 2.0**31 - 128  # as float32 has them


def border_index(index: np.ndarray, length: int, mode: int) -> np.ndarray:
    """Where a pixel outside of ``[0, length)`` is taken from; -1 for CONSTANT.

    >>> border_index(np.arange(-3, 6), 3, BorderMode.REFLECT).tolist()
    [2, 1, 0, 0, 1, 2, 2, 1, 0]
    """
    if mode == BorderMode.REPLICATE:
        result: np.ndarray = np.clip(index, 0, length - 1)
        return result
    if mode == BorderMode.WRAP:
        return index % length
    if mode == BorderMode.REFLECT:
        folded = index % (2 * length)
        result = np.minimum(folded, 2 * length - 1 - folded)
        return result
    if mode == BorderMode.REFLECT_101:
        if length == 1:
            return np.zeros_like(index)
        folded = index % (2 * length - 2)
        result = np.minimum(folded, 2 * length - 2 - folded)
        return result
    return np.where((index >= 0) & (index < length), index, -1)


def gather(image: np.ndarray, y: np.ndarray, x: np.ndarray, mode: int, value: float = 0) -> np.ndarray:
    """Pixels of ``image (..., h, w)`` at integer positions; ``value`` for those that CONSTANT leaves out."""
    rows, columns = border_index(y, image.shape[-2], mode), border_index(x, image.shape[-1], mode)
    outside = (rows < 0) | (columns < 0)
    picked = image[..., rows, columns]
    return np.where(outside, np.asarray(value, image.dtype), picked) if outside.any() else picked


def to_pixels(whole: np.ndarray) -> np.ndarray:
    """Whole numbers as the numbers of pixels: those beyond 32 bits become the last, NaN the first of them."""
    result: np.ndarray = np.clip(np.nan_to_num(whole, nan=_FIRST_PIXEL), _FIRST_PIXEL, _LAST_PIXEL).astype(np.int64)
    return result


def floor_and_fraction(c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integer part (rounded down) and the rest of coordinates."""
    whole = np.floor(c)
    with np.errstate(invalid="ignore"):  # infinity - infinity
        return to_pixels(whole), c - whole


def bilinear(image: np.ndarray, y: np.ndarray, x: np.ndarray, mode: int, value: float = 0) -> np.ndarray:
    """Linear interpolation of ``image (..., h, w)`` at real positions, border rule for each of the four pixels."""
    y0, fy = floor_and_fraction(y)
    x0, fx = floor_and_fraction(x)
    left, above = 1 - fx, 1 - fy
    result: np.ndarray = (
        gather(image, y0, x0, mode, value) * left * above
        + gather(image, y0, x0 + 1, mode, value) * fx * above
        + gather(image, y0 + 1, x0, mode, value) * left * fy
        + gather(image, y0 + 1, x0 + 1, mode, value) * fx * fy
    )
    return result


def cubic_weights(fraction: np.ndarray) -> np.ndarray:
    """Weights of the pixels -1, 0, 1, 2 for cubic interpolation with A = -0.75, along a new last axis."""
    a = -0.75
    x = fraction
    w0 = ((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a
    w1 = ((a + 2) * x - (a + 3)) * x * x + 1
    w2 = ((a + 2) * (1 - x) - (a + 3)) * (1 - x) * (1 - x) + 1
    return np.stack([w0, w1, w2, 1 - w0 - w1 - w2], axis=-1)


def lanczos4_weights(fraction: np.ndarray) -> np.ndarray:
    """Weights of the pixels -3 ... 4 for Lanczos interpolation, along a new last axis; they sum up to 1.

    The kernel is ``sinc(t) sinc(t / 4)`` for distances t below 4.
    """
    distance = np.asarray(fraction, np.float64)[..., None] - np.arange(-3, 5)
    weights = np.sinc(distance) * np.sinc(distance / 4)
    result: np.ndarray = (weights / weights.sum(axis=-1, keepdims=True)).astype(np.asarray(fraction).dtype)
    return result


def interpolate_taps(
    image: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    weights_y: np.ndarray,
    weights_x: np.ndarray,
    mode: int,
    value: float = 0,
) -> np.ndarray:
    """Weighted sum of a square of pixels whose first is at ``(y, x)``; weights are along their last axis."""
    total = np.zeros((*image.shape[:-2], *y.shape), np.float64)
    for i in range(weights_y.shape[-1]):
        row = np.zeros_like(total)
        for j in range(weights_x.shape[-1]):
            row += gather(image, y + i, x + j, mode, value) * weights_x[..., j]
        total += row * weights_y[..., i]
    return total
