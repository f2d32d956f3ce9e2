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
    """A phase: its first row and column in an image, how many it has, and where it begins in the image of phases."""

    row: int
    column: int
    rows: int
    columns: int
    top: int
    left: int


@record(frozen=True, slots=True)
class PhasePlan:
    """The image of phases: ``problem`` is the convolution on it, which computes pixels between phases, too. Phases lie
    ``step`` rows and columns apart."""

    problem: ConvProblem
    dilate: tuple[int, int]
    step: tuple[int, int]

    @classmethod
    def make(cls, p: ConvProblem) -> PhasePlan:
        pad_h, pad_w = p.pad_h // p.dilate_h, p.pad_w // p.dilate_w
        step_h, step_w = -(-p.ih // p.dilate_h) + pad_h, -(-p.iw // p.dilate_w) + pad_w
        ih, iw = p.dilate_h * step_h - pad_h, p.dilate_w * step_w - pad_w
        whole = replace(
            p, ih=ih, iw=iw, oh=ih + 2 * pad_h - p.kh + 1, ow=iw + 2 * pad_w - p.kw + 1, dilate_h=1, dilate_w=1,
            pad_h=pad_h, pad_w=pad_w,
        )  # fmt: skip
        return cls(whole, (p.dilate_h, p.dilate_w), (step_h, step_w))

    def phases(self, h: int, w: int) -> Iterator[PixelPhase]:
        """Those of an image of h x w pixels; smaller ones have not all of them."""
        (dilate_h, dilate_w), (step_h, step_w) = self.dilate, self.step
        for row in range(min(dilate_h, h)):
            for column in range(min(dilate_w, w)):
                rows, columns = -(-(h - row) // dilate_h), -(-(w - column) // dilate_w)
                yield PixelPhase(row, column, rows, columns, row * step_h, column * step_w)
