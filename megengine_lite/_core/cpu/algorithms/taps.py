"""Convolution tap by tap: for filters whose products are mostly with padding.

A tap is a place of the filter. Dilated filters on small images have taps that meet a part of the image only: of 3 x 3
with dilation 24 on 32 x 32 pixels, the corners meet 8 x 8. Each is a pointwise convolution of the pixels that it meets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from megengine_lite._core.operators.window import Window
from megengine_lite._records import record, replace
from megengine_lite.kernels.common.shared_constants import WIDEST

if TYPE_CHECKING:
    from megengine_lite._core.cpu.algorithms.convolution import ConvProblem

# Each is a call of a kernel with weights of its own.
MAX_TAPS = 25
# Two blocks, whatever their width.
LEAST_CHANNELS = 2 * WIDEST
# Of the products, what may be with the image.
MOST_MET = 0.6
# A row of pixels takes as long as one of whole blocks.
BLOCK_PIXELS = 6


@record(frozen=True, slots=True)
class Span:
    """Where a tap meets the image along an axis: ``count`` outputs from ``first`` on, of inputs from ``source`` on."""

    first: int
    count: int
    source: int


@record(frozen=True, slots=True)
class FilterTap:
    """A place of the filter, the outputs that it contributes to, and for which blocks of input channels."""

    kh: int
    kw: int
    rows: Span
    columns: Span
    first_block: int
    blocks: int


def positions(window: Window, axis: int, length: int) -> int:
    """Of the window along an axis: the length of the output."""
    return (length + 2 * window.pad[axis] - window.extent[axis]) // window.stride[axis] + 1


def spans(window: Window, axis: int, length: int) -> list[Span]:
    """One for each place of the filter along an axis of the image, which is so long."""
    stride, out, found = window.stride[axis], positions(window, axis, length), []
    for place in range(window.size[axis]):
        offset = place * window.dilate[axis] - window.pad[axis]
        first = max(0, -(offset // stride))
        last = min(out - 1, (length - 1 - offset) // stride)
        found.append(Span(first, max(0, last - first + 1), first * stride + offset))
    return found


def is_mostly_padding(window: Window, space: Sequence[int]) -> bool:
    """Whether it pays to add up taps: few, with many products in padding, and one that meets the image everywhere."""
    if all(4 * p < s for p, s in zip(window.pad, space, strict=True)) or window.size[0] * window.size[1] > MAX_TAPS:
        return False
    share = 1.0
    for axis in (0, 1):
        counts = [s.count for s in spans(window, axis, space[axis])]
        out = positions(window, axis, space[axis])
        if out not in counts:
            return False
        share *= sum(counts) / (len(counts) * out)
    return share <= MOST_MET


def adds_taps(groups: int, channels: int, window: Window, space: Sequence[int]) -> bool:
    """Whether a convolution may be computed so."""
    return groups == 1 and channels >= LEAST_CHANNELS and is_mostly_padding(window, space)


@record(frozen=True, slots=True)
class TapPlan:
    """The taps in the order in which they are added up. The last one meets all of the image."""

    taps: tuple[FilterTap, ...]

    @classmethod
    def make(cls, p: ConvProblem) -> TapPlan:
        blocks = p.blocks(p.ic)
        everywhere, parts = [], []
        for i, rows in enumerate(spans(p.window, 0, p.ih)):
            for j, columns in enumerate(spans(p.window, 1, p.iw)):
                tap = FilterTap(i, j, rows, columns, 0, blocks)
                if rows.count == p.oh and columns.count == p.ow:
                    everywhere.append(tap)
                elif rows.count and columns.count:
                    parts.append(tap)
        first, *others = everywhere
        if others or not parts:
            return cls((first, *parts, *others))
        half = blocks // 2
        end = replace(first, first_block=half, blocks=blocks - half)
        return cls((replace(first, blocks=half), *parts, end))

    def cost(self, p: ConvProblem) -> float:
        lanes = p.blocks(p.oc) * p.width
        total = 0.0
        for tap in self.taps:
            pixels = p.n * tap.rows.count * -(-tap.columns.count // BLOCK_PIXELS) * BLOCK_PIXELS
            total += lanes * (tap.blocks * p.width * (pixels + p.costs.weight) + 4 * pixels)
        return total
