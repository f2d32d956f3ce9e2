"""Sliding windows: sizes, views, and sums over windows, from which convolutions are made.

Works for any number of spatial dimensions. Arrays are ``(n, groups, channels, *space)``, filters
``(groups, ocpg, icpg, *window)``; sizes, strides and the like are tuples with one number per spatial dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any, Protocol

import numpy as np

from megengine_lite._core.ir.graph import AnyNode
from megengine_lite._core.operators.base import fail
from megengine_lite._records import record

# Patches are gathered for as many output rows at a time as fit in this many elements.
_PATCH_ELEMENTS = 1 << 21


def places_inside(size: int, stride: int, dilation: int, pad: int, length: int, out: int) -> Iterable[int]:
    """Places of a window, along one axis, that reach into data of a length at some position of the window.

    A window of a file may have millions of places. Those that do are few where the data and the output are small.
    """

    def at(position: int) -> range:
        first = position * stride - pad
        return range(max(-(first // dilation), 0), min((length - 1 - first) // dilation + 1, size))

    if size <= length * out:
        return range(size)
    return sorted({place for position in range(out) for place in at(position)})


def places_between(size: int, stride: int, dilation: int, pad: int, length: int, out: int) -> range:
    """Places of a window, along one axis, between the first and the last that reach into the data at some position.

    There is at least one, and the window never begins behind the begin of the data when those before are left out.
    """
    first = min(max((pad - (out - 1) * stride) // dilation, 0), size - 1)
    last = min((length - 1 + pad) // dilation, size - 1)
    return range(first, max(last, first) + 1)


@record(frozen=True, slots=True)
class Window:
    """How a window moves over space; all members have one number per spatial dimension."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilate: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """What one window covers, holes included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.size, self.dilate, strict=True))

    def check(self, node: AnyNode) -> None:
        """Raises if a stride, dilation or size is zero."""
        for label, values in (("window", self.size), ("stride", self.stride), ("dilate", self.dilate)):
            if min(values) < 1:
                raise fail(node, f"{label} is {values}, all numbers must be positive")
        if min(self.pad) < 0:
            raise fail(node, f"pad is {self.pad}, no number may be negative")

    def output(self, node: AnyNode, space: Sequence[int]) -> tuple[int, ...]:
        """Number of window positions in each direction."""
        self.check(node)
        out = tuple(
            (size + 2 * pad - extent) // stride + 1
            for size, pad, extent, stride in zip(space, self.pad, self.extent, self.stride, strict=True)
        )
        if min(out) < 1:
            raise fail(node, f"a window that covers {self.extent} does not fit into {tuple(space)} with pad {self.pad}")
        return out

    def transposed_output(self, node: AnyNode, space: Sequence[int]) -> tuple[int, ...]:
        """The smallest space in which this window has ``space`` positions."""
        self.check(node)
        out = tuple(
            (size - 1) * stride + extent - 2 * pad
            for size, pad, extent, stride in zip(space, self.pad, self.extent, self.stride, strict=True)
        )
        if min(out) < 1:
            raise fail(node, f"the output would have the size {out}")
        return out


class Strided(Protocol):
    """A parameter table of a window; tables without dilation are dense."""

    @property
    def stride_h(self) -> int: ...
    @property
    def stride_w(self) -> int: ...
    @property
    def pad_h(self) -> int: ...
    @property
    def pad_w(self) -> int: ...


def window_2d(params: Strided, size: tuple[int, int]) -> Window:
    """The window of a parameter table with fields ``stride_h`` ... ``dilate_w``."""
    p = params
    dilate = (getattr(p, "dilate_h", 1), getattr(p, "dilate_w", 1))
    return Window(size, (p.stride_h, p.stride_w), (p.pad_h, p.pad_w), dilate)


def pad_space(array: np.ndarray, pad: Sequence[int], value: float = 0) -> np.ndarray:
    """Pads the last dimensions on both sides."""
    if not any(pad):
        return array
    widths = [(0, 0)] * (array.ndim - len(pad)) + [(p, p) for p in pad]
    return np.pad(array, widths, constant_values=value)


def taps(window: Window, out: Sequence[int]) -> list[tuple[tuple[int, ...], tuple[Any, ...]]]:
    """For each element of the window: its index, and where the padded input holds its values for all outputs."""
    return [
        (
            index,
            (
                ...,
                *(
                    slice(i * d, i * d + (o - 1) * s + 1, s)
                    for i, d, s, o in zip(index, window.dilate, window.stride, out, strict=True)
                ),
            ),
        )
        for index in product(*(range(k) for k in window.size))
    ]


def patches(padded: np.ndarray, window: Window, out: Sequence[int]) -> np.ndarray:
    """A view ``(..., *window, *out)`` of a padded ``(..., *space)`` array."""
    d = len(out)
    lead, steps = padded.shape[:-d], padded.strides[-d:]
    inner = tuple(s * x for s, x in zip(steps, window.dilate, strict=True))
    outer = tuple(s * x for s, x in zip(steps, window.stride, strict=True))
    return np.lib.stride_tricks.as_strided(
        padded, (*lead, *window.size, *out), (*padded.strides[:-d], *inner, *outer), writeable=False
    )


def correlate(x: np.ndarray, w: np.ndarray, window: Window, out: Sequence[int]) -> np.ndarray:
    """Cross-correlation of ``x (n, g, icpg, *space)`` with ``w (g, ocpg, icpg, *window)``, zero padding."""
    n, groups, icpg = x.shape[:3]
    ocpg = w.shape[1]
    x = pad_space(x, window.pad)
    y = np.zeros((n, groups, ocpg, *out), x.dtype)
    if icpg == 1:
        by_tap = w[:, :, 0].transpose(*range(2, w.ndim - 1), 0, 1)
        spread = (groups, ocpg) + (1,) * len(out)
        for index, where in taps(window, out):
            y += x[where] * by_tap[index].reshape(spread)
        return y
    flat_w = np.ascontiguousarray(w.reshape(groups, ocpg, -1))
    view = patches(x, window, out)
    length = flat_w.shape[2]
    row = int(np.prod(out[1:]))
    step = max(1, _PATCH_ELEMENTS // max(1, groups * length * row))
    for sample in range(n):
        for first in range(0, out[0], step):
            rows = slice(first, min(first + step, out[0]))
            here = (slice(None),) * (2 + len(out)) + (rows,)
            block = view[sample][here].reshape(groups, length, -1)
            y[sample, :, :, rows] = (flat_w @ block).reshape(groups, ocpg, -1, *out[1:])
    return y


def scatter(y: np.ndarray, w: np.ndarray, window: Window, space: Sequence[int]) -> np.ndarray:
    """The transpose of :func:`correlate`: ``y (n, g, ocpg, *out)`` to ``(n, g, icpg, *space)``."""
    n, groups, ocpg, *out = y.shape
    icpg = w.shape[2]
    flat_y = np.ascontiguousarray(y.reshape(n, groups, ocpg, math.prod(y.shape[3:])))
    by_tap = np.ascontiguousarray(w.transpose(*range(3, w.ndim), 0, 2, 1))  # matmul is slow on strided operands

    def tap_values(index: tuple[int, ...]) -> np.ndarray:
        result: np.ndarray = (by_tap[index] @ flat_y).reshape(n, groups, icpg, *out)
        return result

    return fold(tap_values, (n, groups, icpg), y.dtype, window, out, space)


def fold(
    tap_values: Callable[[tuple[int, ...]], np.ndarray],
    lead: tuple[int, ...],
    dtype: np.dtype,
    window: Window,
    out: Sequence[int],
    space: Sequence[int],
) -> np.ndarray:
    """Adds ``tap_values(index) (*lead, *out)`` of each window element where it belongs in ``(*lead, *space)``."""
    covered = [
        max(size + 2 * pad, (o - 1) * s + e)
        for size, pad, o, s, e in zip(space, window.pad, out, window.stride, window.extent, strict=True)
    ]
    total = np.zeros((*lead, *covered), dtype)
    for index, where in taps(window, out):
        total[where] += tap_values(index)
    kept: tuple[Any, ...] = (..., *(slice(p, p + s) for p, s in zip(window.pad, space, strict=True)))
    result: np.ndarray = total[kept]
    return result


def mirrored(w: np.ndarray, dimensions: int) -> np.ndarray:
    """A filter turned around in its window dimensions (mode CONVOLUTION)."""
    return np.flip(w, tuple(range(-dimensions, 0)))
