"""Puts weights in the order in which the float32 kernels read them.

Filters are given as ``(groups, oc per group, ic per group, kh, kw)``, float32, not mirrored. ``width`` is the number of
channels in a block of the blocked layout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from megengine_lite._core.cpu.arena import aligned_bytes
from megengine_lite._core.cpu.kernel_call import KernelCall
from megengine_lite._core.cpu.kernel_set import KernelSet
from megengine_lite.kernels.common.shared_constants import TILE_BLOCKS


def aligned_empty(size: int) -> np.ndarray:
    """Memory for so many float32."""
    return aligned_bytes(size * 4, zeroed=False).view(np.float32)


def pad_channels(values: np.ndarray, groups: int, width: int) -> np.ndarray:
    """One number of four bytes per channel, each group padded with zeros to whole blocks."""
    per_group = values.reshape(groups, -1)
    count = per_group.shape[1]
    out = aligned_empty(groups * -(-count // width) * width).view(values.dtype)
    rows = out.reshape(groups, -1)
    rows[:, :count] = per_group
    rows[:, count:] = 0
    return out


def merge_groups(weight: np.ndarray, merged: int) -> np.ndarray:
    """Every ``merged`` neighbouring groups as one, with zeros between channels of different groups."""
    if merged == 1:
        return weight
    groups, oc, ic, kh, kw = weight.shape
    out = np.zeros((groups // merged, merged, oc, merged, ic, kh, kw), weight.dtype)
    parts = weight.reshape(groups // merged, merged, oc, ic, kh, kw)
    for k in range(merged):
        out[:, k, :, k] = parts[:, k]
    return out.reshape(groups // merged, merged * oc, merged * ic, kh, kw)


def pack_direct(weight: np.ndarray, width: int) -> np.ndarray:
    """For ``conv_direct``: ``[group][tile][ic block][kh][kw][ic lane][channels of the tile]``.

    The last input block has only its existing lanes; the last tile of a group may be one block wide.
    """
    groups, oc, ic, kh, kw = weight.shape
    taps = np.arange(ic * kh * kw).reshape(ic, kh * kw)
    order = np.concatenate([taps[first : first + width].T.reshape(-1) for first in range(0, ic, width)])
    return _pack_tiles(weight.reshape(groups, oc, ic * kh * kw), order, width)


def pack_plain_input(weight: np.ndarray, width: int) -> np.ndarray:
    """For ``conv_first``: ``[group][tile][ic][kh][kw][channels of the tile]``."""
    groups, oc, ic, kh, kw = weight.shape
    return _pack_tiles(weight.reshape(groups, oc, ic * kh * kw), np.arange(ic * kh * kw), width)


def _pack_tiles(matrix: np.ndarray, order: np.ndarray, width: int) -> np.ndarray:
    """Rows (output channels) in tiles of two blocks; columns in the given order, outermost."""
    groups, oc, depth = matrix.shape
    blocks = -(-oc // width)
    out = aligned_empty(groups * blocks * width * depth)
    per_group = out.reshape(groups, -1)
    for first in range(0, blocks, TILE_BLOCKS):
        lanes = min(TILE_BLOCKS, blocks - first) * width
        rows = matrix[:, first * width : first * width + lanes]
        tile = per_group[:, first * width * depth :][:, : depth * lanes].reshape(groups, depth, lanes)
        tile[:, :, : rows.shape[1]] = rows[:, :, order].transpose(0, 2, 1)
        tile[:, :, rows.shape[1] :] = 0
    return out


def block_channels(values: np.ndarray, width: int, halo_h: int = 0, halo_w: int = 0) -> np.ndarray:
    """An NCHW array in blocked layout, with a zero halo: ``(N, C / width, H + 2 halo_h, W + 2 halo_w, width)``."""
    n, c, h, w = values.shape
    blocks = math.ceil(c / width)
    out = np.zeros((n, blocks, h + 2 * halo_h, w + 2 * halo_w, width), values.dtype)
    inner = out[:, :, halo_h : halo_h + h, halo_w : halo_w + w]
    padded = np.zeros((n, blocks * width, h, w), values.dtype)
    padded[:, :c] = values
    inner[...] = padded.reshape(n, blocks, width, h, w).transpose(0, 1, 3, 4, 2)
    return out


def unblock_channels(values: np.ndarray, channels: int, halo_h: int = 0, halo_w: int = 0) -> np.ndarray:
    """Back to NCHW, without the halo."""
    n, blocks, h, w, width = values.shape
    inner = values[:, :, halo_h : h - halo_h, halo_w : w - halo_w]
    return np.ascontiguousarray(
        inner.transpose(0, 1, 4, 2, 3).reshape(n, blocks * width, *inner.shape[2:4])[:, :channels]
    )


def pack_depthwise(weight: np.ndarray, width: int) -> np.ndarray:
    """For ``conv_depthwise``, from (channels, 1, 1, kh, kw): ``[channel block][kh][kw][width]``."""
    channels, _, _, kh, kw = weight.shape
    blocks = -(-channels // width)
    out = aligned_empty(blocks * kh * kw * width)
    padded = np.zeros((blocks * width, kh * kw), np.float32)
    padded[:channels] = weight.reshape(channels, kh * kw)
    out.reshape(blocks, kh * kw, width)[...] = padded.reshape(blocks, width, kh * kw).transpose(0, 2, 1)
    return out


def pack_panels(b: np.ndarray, width: int) -> np.ndarray:
    """For ``gemm``, from (k, n): ``[panel][k][2 width]``, zeros behind the last column."""
    k, n = b.shape
    lanes = TILE_BLOCKS * width
    panels = -(-n // lanes)
    out = aligned_empty(panels * k * lanes)
    rows = out.reshape(panels, k, lanes)
    full = n // lanes
    rows[:full] = b[:, : full * lanes].reshape(k, full, lanes).transpose(1, 0, 2)
    if full < panels:
        rows[full, :, : n - full * lanes] = b[:, full * lanes :]
        rows[full, :, n - full * lanes :] = 0
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


def pack_winograd(weight: np.ndarray, kernels: KernelSet, m: int, threads: int) -> np.ndarray:
    """For ``conv_winograd``, from (1, oc, ic, 3, 3): ``[tile][s s][ic][channels of the tile]``, s = m + 2.

    The transform is computed in float64 and rounded once.
    """
    _, oc, ic, _, _ = weight.shape
    out = aligned_empty(-(-oc // kernels.width) * kernels.width * (m + 2) ** 2 * ic)
    matrix = winograd_filter_matrix(kernels.module("conv_winograd").POINT_SQUARES[m])
    KernelCall(
        kernels, "pack_winograd_f32", work=kernels.module("pack_winograd").work_items(oc, ic),
        threads=threads, weight=np.ascontiguousarray(weight), matrix=matrix,
        y=out, oc=oc, ic=ic, side=m + 2,
    ).run()  # fmt: skip
    return out
