"""Iteration spaces of the quantized elementwise kernels: a few outer dimensions around runs of dense elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from megengine_lite._records import record

STRIDES = ("s0", "s1", "s2", "row")  # of an operand around a run, as kernels name them
# A dense tensor is cut into runs of so many elements, for threads to share.
CHUNK = 16 * 1024
# Runs shorter than this are walked through in one work item.
SHORT = 2048


@record(frozen=True, slots=True)
class IterationSpace:
    """Where the elements of each operand of a step are.

    ``outer`` and the ``strides`` (in bytes, for each operand) have four numbers: those of the work items and of the
    rows in an item. ``steps`` are 1 for operands that are dense within a run, 0 for those of one element.
    """

    outer: tuple[int, ...]
    run: int
    last_run: int
    strides: tuple[tuple[int, ...], ...]
    steps: tuple[int, ...]

    @property
    def work(self) -> int:
        return self.outer[0] * self.outer[1] * self.outer[2]

    def arguments(self, names: Sequence[str]) -> dict[str, Any]:
        """Kernel arguments; ``names`` are the prefixes of the operands."""
        _, s1, s2, rows = self.outer
        found = {"s1": s1, "s2": s2, "rows": rows, "run": self.run, "last_run": self.last_run, "last": self.work - 1}
        for name, strides in zip(names, self.strides, strict=True):
            found |= {f"{name}_{step}": n for step, n in zip(STRIDES, strides, strict=True)}
        return found


def iteration_space(
    shape: Sequence[int], strides: Sequence[Sequence[int]], items: Sequence[int]
) -> IterationSpace | None:
    """The space of operands with these strides in bytes (0 where one is repeated), the output last.

    None if no kernel can walk operands that lie in memory like this.

    Parameters
    ----------
    items
        Size of an element of each operand.
    """
    dims: list[tuple[int, tuple[int, ...]]] = []
    for extent, steps in zip(shape, zip(*strides, strict=True), strict=True):
        if extent == 1:
            continue
        if dims and all(outer == inner * extent for outer, inner in zip(dims[-1][1], steps, strict=True)):
            dims[-1] = (dims[-1][0] * extent, steps)
        else:
            dims.append((extent, steps))
    run, inner = dims.pop() if dims else (1, tuple(items))
    if any(s not in (0, item) for s, item in zip(inner, items, strict=True)) or inner[-1] == 0:
        return None
    last_run = run
    if not dims and run > CHUNK:
        count = -(-run // CHUNK)
        last_run = run - (count - 1) * CHUNK
        dims.append((count, tuple(s * CHUNK for s in inner)))
        run = CHUNK
    if run >= SHORT or last_run != run:
        dims.append((1, (0,) * len(items)))
    if len(dims) > len(STRIDES):
        return None
    dims = [(1, (0,) * len(items))] * (len(STRIDES) - len(dims)) + dims
    return IterationSpace(
        tuple(extent for extent, _ in dims),
        run,
        last_run,
        tuple(tuple(steps[k] for _, steps in dims) for k in range(len(items))),
        tuple(int(s != 0) for s in inner),
    )
