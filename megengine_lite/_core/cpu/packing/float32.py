"""Puts weights in the order in which the float32 kernels read them.

``weights`` says how the packed numbers are stored: as float32, or rounded to half precision, in arrays of uint16.
Filters are given as ``(groups, oc per group, ic per group, kh, kw)``, float32, not mirrored. ``width`` is the number of
channels in a block of the blocked layout, that of the kernels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from megengine_lite._core.cpu.host_memory import aligned_bytes, aligned_empty
from megengine_lite._core.cpu.kernel_call import KernelCall
from megengine_lite._core.cpu.kernel_set import KernelSet
from megengine_lite.errors import LiteValueError
from megengine_lite.kernels.common.shared_constants import TILE_BLOCKS, Weights, weight_bytes

CHUNK = 64  # numbers of a row that a work item packs
SERIAL_FLOATS = 1 << 16  # fewer are packed by one thread
BEYOND_FLOAT16 = 65520.0  # from here on, float16 has only infinity


def pad_channels(values: np.ndarray, groups: int, width: int) -> np.ndarray:
    """One number of four bytes per channel, each group padded with zeros to whole blocks."""
    per_group = values.reshape(groups, -1)
    count = per_group.shape[1]
    out = aligned_empty(groups * -(-count // width) * width).view(values.dtype)
    rows = out.reshape(groups, -1)
    rows[:, :count] = per_group
    rows[:, count:] = 0
    return out


def merge_groups(
    weight: np.ndarray, merged: int, outputs: range | None = None, inputs: range | None = None
) -> np.ndarray:
    """Every ``merged`` neighbouring groups as one, with zeros between channels of different groups.

    With ``outputs`` and ``inputs`` only these channels of each merged group.
    """
    groups, oc, ic, kh, kw = weight.shape
    rows, columns = outputs or range(merged * oc), inputs or range(merged * ic)
    if merged == 1:
        return weight[:, rows.start : rows.stop, columns.start : columns.stop]
    out = np.zeros((groups // merged, len(rows), len(columns), kh, kw), weight.dtype)
    for k in range(merged):
        first, last = max(k * oc, rows.start), min((k + 1) * oc, rows.stop)
        begin, end = max(k * ic, columns.start), min((k + 1) * ic, columns.stop)
        if first < last and begin < end:
            out[:, first - rows.start : last - rows.start, begin - columns.start : end - columns.start] = weight[
                k::merged, first - k * oc : last - k * oc, begin - k * ic : end - k * ic
            ]
    return out


def check_range(values: np.ndarray, weights: Weights, gain: float = 1) -> None:
    """Raises if a finite number, or a sum that is up to ``gain`` times as large, would become infinite.

    Raises
    ------
    LiteValueError
        It is too large for float16.
    """
    if weights is not Weights.FLOAT16 or not values.size:
        return
    largest = max(np.fmax.reduce(values, axis=None), -np.fmin.reduce(values, axis=None))
    if largest == np.inf:
        largest = np.max(np.abs(values), where=np.isfinite(values), initial=0)
    if largest * gain >= BEYOND_FLOAT16:
        what = "a weight" if gain == 1 else "a transformed filter"
        raise LiteValueError(
            f"{what} of up to {largest * gain:g} does not fit float16, which ends at 65504; use another precision"
        )


def pack_direct(
    weight: np.ndarray, kernels: KernelSet, threads: int = 1, weights: Weights = Weights.FLOAT32
) -> np.ndarray:
    """For ``conv_direct``: ``[group][tile][ic block][kh][kw][ic lane][channels of the tile]``.

    The last input block has only its existing lanes; the last tile of a group may be one block wide.
    """
    groups, oc, ic, kh, kw = weight.shape
    taps = kh * kw
    flat = np.ascontiguousarray(weight).reshape(groups, oc, ic * taps)
    return _pack_tiles(flat, kernels, threads, taps, kernels.width if taps > 1 else CHUNK, weights=weights)


def pack_plain_input(weight: np.ndarray, kernels: KernelSet, threads: int = 1) -> np.ndarray:
    """For ``conv_first``: ``[group][tile][ic][kh][kw][channels of the tile]``."""
    return _pack_tiles(np.ascontiguousarray(weight).reshape(*weight.shape[:2], -1), kernels, threads)


def pack_depthwise(weight: np.ndarray, kernels: KernelSet, threads: int = 1) -> np.ndarray:
    """For ``conv_depthwise``, from (channels, 1, 1, kh, kw): ``[channel block][kh][kw][width]``."""
    return _pack_tiles(np.ascontiguousarray(weight).reshape(1, len(weight), -1), kernels, threads, tile=1)


def pack_group(weight: np.ndarray, kernels: KernelSet, threads: int = 1) -> np.ndarray:
    """For ``conv_group``: ``[channel block][kh][kw][channel of the group][width]``."""
    groups, oc, ic, kh, kw = weight.shape
    taps_first = weight.reshape(groups * oc, ic, kh * kw).swapaxes(1, 2)
    return _pack_tiles(np.ascontiguousarray(taps_first).reshape(1, groups * oc, -1), kernels, threads, tile=1)


def pack_halves(weight: np.ndarray, kernels: KernelSet, threads: int = 1) -> np.ndarray:
    """For ``conv_halves``: ``[pair of groups][kh][kw][channel of the group][3 blocks][width]``."""
    groups, oc, ic, kh, kw = weight.shape
    of_pairs = weight.reshape(groups // 2, 2 * oc, ic, kh * kw).swapaxes(2, 3)
    return _pack_tiles(
        np.ascontiguousarray(of_pairs).reshape(groups // 2, 2 * oc, -1), kernels, threads, tile=2 * oc // kernels.width
    )


def pack_panels(b: np.ndarray, kernels: KernelSet, threads: int = 1, weights: Weights = Weights.FLOAT32) -> np.ndarray:
    """For ``gemm``, from (k, n) with any strides: ``[panel][k][2 width]``, zeros behind the last column."""
    panels = -(-b.shape[1] // (TILE_BLOCKS * kernels.width))
    return _pack_tiles(b.T[None], kernels, threads, blocks=panels * TILE_BLOCKS, weights=weights)


def _place(size: int, weights: Weights) -> np.ndarray:
    """Memory for so many packed numbers."""
    if weights is Weights.FLOAT32:
        return aligned_empty(size)
    return aligned_bytes(weight_bytes(weights) * size, zeroed=False).view(np.uint16)


def _pack_tiles(
    matrix: np.ndarray, kernels: KernelSet, threads: int, taps: int = 1, chunk: int = CHUNK, *,
    tile: int = TILE_BLOCKS, blocks: int | None = None, weights: Weights = Weights.FLOAT32,
) -> np.ndarray:  # fmt: skip
    """Rows (output channels) in tiles; see ``pack_tiles_32``. ``matrix`` is (groups, rows, depth taps)."""
    check_range(matrix, weights)
    groups, rows, columns = matrix.shape
    width, depth = kernels.width, columns // max(taps, 1)
    if blocks is None:
        blocks = -(-rows // width)
    size = groups * blocks * width * columns
    half = weights is not Weights.FLOAT32
    out = _place(size, weights)
    if size:
        module = kernels.module("pack_tiles")
        group, row, step = (stride // matrix.itemsize for stride in matrix.strides)
        KernelCall(
            kernels, "pack_tiles_half" if half else "pack_tiles_32", threads=threads if size >= SERIAL_FLOATS else 1,
            work=module.work_items(groups, blocks, tile, depth, chunk), x=matrix, y=out, rows=rows, depth=depth,
            taps=taps, chunk=chunk, tile=tile, blocks=blocks, group=group, row=row, step=step, weights=weights,
            scratch=module.scratch_bytes(tile, taps, chunk) if half else 0,
        ).run()  # fmt: skip
    return out


def winograd_filter_matrix(squares: Sequence[float]) -> np.ndarray:
    """G of F(m, 3), float64, (m + 2, 3): the filter transform is ``G g G^T``.

    The points are 0, infinity, and the roots of ``squares`` with both signs; the kernel exports them.
    """
    rows = [[1.0, 0, 0]]
    for square in squares:
        scale = 1 / (2 * square * math.prod(square - other for other in squares if other != square))
        point = math.sqrt(square)
        rows += [[scale, scale * point, scale * square], [scale, -scale * point, scale * square]]
    rows.append([0, 0, 1])
    return np.array(rows)


def pack_winograd(
    weight: np.ndarray, m: int, kernels: KernelSet, threads: int = 1, weights: Weights = Weights.FLOAT32
) -> np.ndarray:
    """For ``conv_winograd``, from (1, oc, ic, 3, 3): ``[tile][s s][ic][channels of the tile]``, s = m + 2.

    The transform is computed in float64 and rounded once, and for FLOAT16 again.
    """
    _, oc, ic, _, _ = weight.shape
    out = _place(-(-oc // kernels.width) * kernels.width * (m + 2) ** 2 * ic, weights)
    matrix = winograd_filter_matrix(kernels.module("conv_winograd").POINT_SQUARES[m])
    check_range(weight, weights, np.abs(matrix).sum(axis=1).max() ** 2)
    KernelCall(
        kernels, "pack_winograd_f32", work=kernels.module("pack_winograd").work_items(oc, ic),
        threads=threads, weight=np.ascontiguousarray(weight), matrix=matrix,
        y=out, oc=oc, ic=ic, side=m + 2, weights=weights,
    ).run()  # fmt: skip
    return out
