"""Dilated convolution as one that is not dilated, on an image of phases.

A phase are the pixels whose rows and columns are equal modulo the dilation: outputs of a phase depend on inputs of one
phase only. So phases side by side, with zeros between them, are an image for a convolution without dilation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from megengine_lite._records import record, replace

if TYPE_CHECKING:
    from megengine_lite._core.cpu.algorithms.convolution import ConvProblem

# Each is a copy of inputs and one of outputs.
MAX_PHASES = 36


def has_phases(p: ConvProblem) -> bool:
    """Whether a convolution is dilated, with a stride of 1, few phases, and phases that are padded by whole pixels."""
    return (
        1 < p.dilate_h * p.dilate_w <= MAX_PHASES
        and p.stride_h == p.stride_w == 1
        and p.pad_h % p.dilate_h == p.pad_w % p.dilate_w == 0
    )


@record(frozen=True, slots=True)
class PixelPhase:
    """A phase: its row and column among phases, and the pixel of the image of phases where it begins."""

    row: int
    column: int
    top: int
    left: int


@record(frozen=True, slots=True)
class PhasePlan:
    """The image of phases: ``problem`` is the convolution on it, which computes pixels between phases, too."""

    problem: ConvProblem
    phases: tuple[PixelPhase, ...]

    @classmethod
    def make(cls, p: ConvProblem) -> PhasePlan:
        pad_h, pad_w = p.pad_h // p.dilate_h, p.pad_w // p.dilate_w
        step_h, step_w = -(-p.ih // p.dilate_h) + pad_h, -(-p.iw // p.dilate_w) + pad_w
        ih, iw = p.dilate_h * step_h - pad_h, p.dilate_w * step_w - pad_w
        whole = replace(
            p, ih=ih, iw=iw, oh=ih + 2 * pad_h - p.kh + 1, ow=iw + 2 * pad_w - p.kw + 1, dilate_h=1, dilate_w=1,
            pad_h=pad_h, pad_w=pad_w,
        )  # fmt: skip
        phases = (PixelPhase(r, c, r * step_h, c * step_w) for r in range(p.dilate_h) for c in range(p.dilate_w))
        return cls(whole, tuple(phases))

    def places(self, dilate: tuple[int, int], h: int, w: int) -> Iterator[tuple[PixelPhase, int, int]]:
        """Of an image of h x w pixels: each phase that has some, and how many rows and columns."""
        for phase in self.phases:
            rows, columns = -(-(h - phase.row) // dilate[0]), -(-(w - phase.column) // dilate[1])
            if rows > 0 and columns > 0:
                yield phase, rows, columns
