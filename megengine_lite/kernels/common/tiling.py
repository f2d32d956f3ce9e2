"""Iteration spaces for kernels: merging dimensions, tiles of elementwise chains, work items of copies."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from megengine_lite._records import record
from megengine_lite.kernels.common.shared_constants import CHAIN_OPERANDS, LINE, MAX_DIMS, WIDEST

ITEM = 4  # bytes of a float32
# Floats of a tile: small enough for several intermediate results in a first-level cache of 32 KiB, large enough to
# make the calls per tile cheap. Chains without intermediate results take larger tiles.
TILE = 1024
TILE_DENSE = 8192
# Results from this size on are stored past the caches: they would not stay there until somebody reads them, and a line
# that is written as a whole need not be fetched from memory first. Kernels get it as the argument `stream`.
STREAM_BYTES = 16 << 20
MAX_STREAM_ROW = 8192  # floats; longer rows are not gathered in scratch to be stored so


def collapse(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """Merges neighbouring dimensions that all operands step through evenly.

    Parameters
    ----------
    shape
        Extents, outermost first; none is 0.
    strides
        For each operand its stride in each dimension.

    Returns
    -------
    extents, strides
        **Innermost first**; at least one dimension. Dimensions of length 1 are gone.
    """
    extents: list[int] = []
    merged: list[list[int]] = [[] for _ in strides]
    for k in reversed(range(len(shape))):
        if shape[k] == 1:
            continue
        if extents and all(s[k] == m[-1] * extents[-1] for s, m in zip(strides, merged, strict=True)):
            extents[-1] *= shape[k]
            continue
        extents.append(shape[k])
        for s, m in zip(strides, merged, strict=True):
            m.append(s[k])
    if not extents:
        return [1], [[0] for _ in strides]
    return extents, merged


@record(frozen=True, slots=True)
class ChainPlan:
    """Arguments of ``elemwise_chain_f32``; see there. ``scratch`` is in bytes."""

    table: np.ndarray
    ndim: int
    split: int
    count: int
    inner: int
    slot_floats: int
    stream: bool
    work: int
    scratch: int


def plan_chain(
    shape: Sequence[int],
    input_strides: Sequence[Sequence[int]],
    output_strides: Sequence[int],
    steps: Sequence[tuple[int, Sequence[int]]],
) -> ChainPlan:
    """Cuts the output of an elementwise chain into tiles and gives its intermediate results their places.

    Parameters
    ----------
    shape
        Of the output; none of it 0.
    input_strides, output_strides
        In bytes, 0 where an input is repeated. Innermost ones must be those of dense float32 memory or 0.
    steps
        Mode and operand registers of each function.
    """
    extents, (y_strides, *x_strides) = collapse(shape, [output_strides, *input_strides])
    y_strides = [s // ITEM for s in y_strides]
    x_strides = [[s // ITEM for s in x] for x in x_strides]
    stream = math.prod(shape) * ITEM >= STREAM_BYTES
    dense = len(steps) == 1 and len(extents) == 1 and all(s[0] for s in x_strides) and not stream
    split, inner = _split(extents, TILE)
    tile = TILE_DENSE if dense else TILE
    parts = -(-extents[split] // max(tile // inner, 1))
    count = -(-extents[split] // parts)
    if split == 0:
        count = -(-count // WIDEST) * WIDEST  # whole vectors
    slots = _Slots()

    def place(strides: list[int]) -> int:
        return -1 if _is_dense(extents, strides, split) else slots.take()

    y_slot = slots.take() if stream else place(y_strides)
    input_slots = [place(s) for s in x_strides]
    table = [*extents, *y_strides, y_slot]
    for s, slot in zip(x_strides, input_slots, strict=True):
        table += [*s, slot]
    table += _assign_registers(steps, len(x_strides), slots)
    slot_floats = -(-min(count, extents[split]) * inner // WIDEST) * WIDEST
    work = -(-extents[split] // count)
    for e in extents[split + 1 :]:
        work *= e
    scratch = slots.used * slot_floats * ITEM
    return ChainPlan(np.array(table, np.int64), len(extents), split, count, inner, slot_floats, stream, work, scratch)


def _split(extents: list[int], tile: int) -> tuple[int, int]:
    """The dimension that is cut, and the number of elements below it."""
    inner = 1
    for k, e in enumerate(extents):
        if k + 1 == len(extents) or inner * e > tile // 2:
            return k, inner
        inner *= e
    raise AssertionError("unreachable")


def _is_dense(extents: list[int], strides: list[int], split: int) -> bool:
    expected = 1
    for k in range(split + 1):
        if strides[k] != expected:
            return False
        expected *= extents[k]
    return True


class _Slots:
    """Numbers of pieces of scratch, reused when free."""

    def __init__(self) -> None:
        self.used = 0
        self._free: list[int] = []

    def take(self) -> int:
        if self._free:
            return self._free.pop()
        self.used += 1
        return self.used - 1

    def give_back(self, slot: int) -> None:
        self._free.append(slot)


def _assign_registers(steps: Sequence[tuple[int, Sequence[int]]], inputs: int, slots: _Slots) -> list[int]:
    """The steps' part of the table: a ``ChainStep`` of the kernel for each."""
    last_use = {register: k for k, (_, args) in enumerate(steps) for register in args}
    slot_of: dict[int, int] = {}
    table = []
    for k, (mode, args) in enumerate(steps):
        for register in dict.fromkeys(args):
            if register in slot_of and last_use[register] == k:
                slots.give_back(slot_of.pop(register))  # the result may overwrite it: functions go element by element
        slot = -1
        if k + 1 < len(steps):
            slot = slot_of[inputs + k] = slots.take()
        table += [mode, slot, *args, *[0] * (CHAIN_OPERANDS - len(args))]
    return table


RUN_LENGTH = 4096  # elements of a work item of an integer function


@record(frozen=True, slots=True)
class RunPlan:
    """Table and work items of ``elemwise_int``."""

    table: np.ndarray
    ndim: int
    work: int


def plan_runs(shape: Sequence[int], output_strides: Sequence[int], input_strides: Sequence[Sequence[int]]) -> RunPlan:
    """Runs along the innermost dimension; extents are not 0, strides in bytes, 0 where an input is repeated."""
    extents, strides = collapse(shape, [output_strides, *input_strides])
    if len(extents) == 1 and extents[0] > RUN_LENGTH and extents[0] % RUN_LENGTH == 0:
        parts = extents[0] // RUN_LENGTH
        extents, strides = [RUN_LENGTH, parts], [[s[0], s[0] * RUN_LENGTH] for s in strides]
    table = np.array([*extents, *(v for s in strides for v in s)], np.int64)
    return RunPlan(table, len(extents), math.prod(extents[1:]))


COPY_ELEMENTS = 16384  # of a work item of a copy
COPY_BYTES = 64 * 1024  # of one that repeats a row
FEW_ROWS = 16  # of a dimension; along more, one loop over neighbouring rows pays
STRIP = 64  # columns that one work item of a transposition reads from each row


@record(frozen=True, slots=True)
class CopyPlan:
    """A strided copy: the kernel, its integers by name, work items."""

    kernel: str
    arguments: dict[str, int]
    work: int


def _part(extent: int, most: int) -> int:
    """The largest divisor of an extent up to `most`, or the extent: a work item that is not larger than others."""
    if extent <= most:
        return extent
    return next((extent // k for k in range(-(-extent // most), 4 * extent // most + 1) if extent % k == 0), extent)


def plan_copy(shape: Sequence[int], x_strides: Sequence[int], y_strides: Sequence[int], item: int) -> CopyPlan:
    """Chooses how to copy between two strided views of the same shape, none of it 0; strides in bytes."""
    extents, (xs, ys) = collapse(shape, [x_strides, y_strides])
    if xs == [item, 0] and ys == [item, item * extents[0]]:  # a row, over and over
        row = item * extents[0]
        chunk = max(COPY_BYTES // row, 1) * row
        nbytes = row * extents[1]
        return CopyPlan("fill_elements", {"nbytes": nbytes, "item": row, "chunk": chunk}, -(-nbytes // chunk))
    kernel, chunk = "copy_strided", COPY_ELEMENTS
    if xs[0] != item and ys[0] == item and item in xs[1:] and extents[xs.index(item)] > 1:
        along = xs.index(item)
        for array in (extents, xs, ys):
            array.insert(1, array.pop(along))
        part = _part(extents[0], COPY_ELEMENTS // min(extents[1], STRIP))
        if part < extents[0] and len(extents) < MAX_DIMS:
            for array, step in ((xs, xs[0] * part), (ys, ys[0] * part)):
                array.append(step)
            extents.append(extents[0] // part)
            extents[0] = part
        kernel, chunk = "transpose_strided", STRIP
        work = -(-extents[1] // chunk)
        outer = extents[2:]
    else:
        if len(extents) > 2 and extents[1] < FEW_ROWS:
            longest = max(range(1, len(extents)), key=lambda k: (min(extents[k], FEW_ROWS), -k))
            for array in (extents, xs, ys):
                array.insert(1, array.pop(longest))
        work = -(-extents[0] // chunk)
        outer = extents[1:]
    for e in outer:
        work *= e
    stream = math.prod(extents) * item >= STREAM_BYTES
    if stream and kernel == "copy_strided":
        # Memory likes to be read in order; writes go past the caches and need no order.
        order = [0, *sorted(range(1, len(extents)), key=lambda k: abs(xs[k]))]
        extents, xs, ys = ([a[k] for k in order] for a in (extents, xs, ys))
    fill = [0] * (MAX_DIMS - len(extents))
    arguments = {"ndim": len(extents), "item": item, "chunk": chunk, "stream": int(stream)}
    for name, values in (("extent", extents), ("x_stride", xs), ("y_stride", ys)):
        arguments |= {f"{name}{d}": v for d, v in enumerate(values + fill)}
    return CopyPlan(kernel, arguments, work)


REDUCE_CHUNK = 512  # results of a work item of a reduction that keeps its innermost dimension


@record(frozen=True, slots=True)
class ReducePlan:
    """A reduction: the kernel, its integers by name without ``mode``, work items."""

    kernel: str
    arguments: dict[str, int]
    work: int


def plan_reduce(
    shape: Sequence[int], x_strides: Sequence[int], y_strides: Sequence[int], axes: Sequence[int], loops: int
) -> ReducePlan | None:
    """Loops for a float32 reduction; None if its axes are too scattered.

    Parameters
    ----------
    shape, x_strides
        Of the input; none of it 0, strides in bytes.
    y_strides
        Of the result, in bytes; those of reduced axes are not looked at.
    axes
        What is reduced.
    loops
        How many kept and how many reduced dimensions the kernels have loops for, besides the innermost one: ``LOOPS``
        of their module.
    """
    dims: list[list[int]] = []  # extent, stride of x, stride of y, whether reduced; innermost first
    for k in reversed(range(len(shape))):
        reduced = k in axes
        dim = [shape[k], x_strides[k] // ITEM, 0 if reduced else y_strides[k] // ITEM, int(reduced)]
        if shape[k] == 1:
            continue
        if (
            dims
            and dims[-1][3] == reduced
            and dim[1] == dims[-1][1] * dims[-1][0]
            and dim[2] == dims[-1][2] * dims[-1][0]
        ):
            dims[-1][0] *= shape[k]
        else:
            dims.append(dim)
    inner = [1, 1, 1, 0]
    if dims and dims[0][1] == 1 and (dims[0][3] or dims[0][2] == 1):
        inner = dims.pop(0)
    kept = [d for d in reversed(dims) if not d[3]]
    gone = [d for d in reversed(dims) if d[3]]
    if len(kept) > loops or len(gone) > loops - inner[3]:
        return None
    kept = [[1, 0, 0, 0]] * (loops - len(kept)) + kept
    fill = [[1, 0, 0, 1]] * (loops - inner[3] - len(gone))
    gone = fill + gone + [[1, 0, 0, 1]] * inner[3]
    space = {
        **{f"kept{i}": d[0] for i, d in enumerate(kept)},
        **{f"x_kept{i}": d[1] for i, d in enumerate(kept)},
        **{f"y_kept{i}": d[2] for i, d in enumerate(kept)},
        **{f"reduced{i}": d[0] for i, d in enumerate(gone)},
        **{f"x_reduced{i}": d[1] for i, d in enumerate(gone)},
    }
    outer = math.prod(d[0] for d in kept)
    if inner[3]:
        return ReducePlan("reduce_inner_f32", {"run": inner[0], **space}, outer)
    chunk = min(inner[0], REDUCE_CHUNK)
    arguments = {"inner": inner[0], "chunk": chunk, **space}
    return ReducePlan("reduce_outer_f32", arguments, outer * -(-inner[0] // chunk))


SOFTMAX_TILE = 8192  # floats, in the first-level cache
SOFTMAX_STREAM_TILE = 1 << 16  # floats, in the second-level cache
SOFTMAX_STREAM_RUN = 128  # floats: memory is slow with shorter runs


def softmax_chunk(length: int, inner: int, stream: bool) -> int:
    """Columns of a work item of ``softmax_f32``: whole lines, as many as fit the first-level cache.

    A tile that comes from memory and goes there (``stream``) may have to leave the first-level cache for the sake of
    runs that are long enough.
    """
    if inner == 1:
        return 1
    chunk = SOFTMAX_TILE // (length + 1)
    if stream:
        chunk = max(chunk, min(SOFTMAX_STREAM_TILE // (length + 1), SOFTMAX_STREAM_RUN))
    return -(-max(min(chunk, 256, inner), 1) // LINE) * LINE
