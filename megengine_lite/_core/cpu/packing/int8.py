"""Puts weights in the order in which the int8 kernels read them.

Dot products take four input channels (or, channel-wise, four neighbouring taps of a row) at a time, so these four
weights are stored together. Weights are int8 numbers. Wider integers become sums of several of them, the *parts*.
"""

from __future__ import annotations

import numpy as np

from megengine_lite._core.cpu.host_memory import aligned_empty
from megengine_lite._core.cpu.kernel_call import KernelCall
from megengine_lite._core.cpu.kernel_set import KernelSet
from megengine_lite._core.ir.image_layouts import round_up
from megengine_lite.kernels.common.shared_constants import QUAD, TILE_BLOCKS

PAIR = 2  # numbers of 16 bits that are multiplied together


def split_int8(w: np.ndarray, least: int = 1) -> np.ndarray:
    """Integers as sums of int8 numbers, ``(parts, *w.shape)``; one part, or the given number, if they fit into int8.

    >>> split_int8(np.array([5, 255, -200]))[:, 1].tolist()
    [127, 127, 1]
    """
    if w.dtype == np.int8 and least == 1:
        return w[None]
    rest = w.astype(np.int32)
    parts: list[np.ndarray] = []
    while len(parts) < least or rest.any():
        parts.append(np.clip(rest, -128, 127).astype(np.int8))
        rest = rest - parts[-1]
    return np.stack(parts)


def centred(w: np.ndarray, zero_point: int) -> np.ndarray:
    """Stored weights less their zero point, in the smallest type that holds them."""
    return w.astype(np.int16) - np.int16(zero_point) if zero_point or w.dtype != np.int8 else w


def count_parts(w: np.ndarray, zero_point: int) -> int:
    """How many parts :func:`split_int8` makes of a filter less its zero point."""
    low, high = int(w.min()) - zero_point, int(w.max()) - zero_point
    return max(1, -(-high // 127), -(low // 128))


def has_short_sums(w: np.ndarray, non_negative: bool, kernels: KernelSet) -> bool:
    """Whether sums of eight products fit 16 bits, of inputs in 0..127 if ``non_negative``, else of all signed bytes.

    Signed inputs are multiplied by their absolute value, and the weight takes the sign, which -128 cannot.

    Parameters
    ----------
    w : int array (g, ocpg, icpg, kh, kw)
    """
    largest_sums = kernels.module("gemm_int8").largest_sums
    for part in split_int8(w):
        added, subtracted, both = largest_sums(np.ascontiguousarray(part).reshape(-1, w.shape[2], w[0, 0, 0].size))
        if non_negative:
            fits = max(added, subtracted) * 127 < 1 << 15
        else:
            fits = both * 128 < 1 << 15 and part.min() > -128
        if not fits:
            return False
    return True


def _aligned(pieces: list[np.ndarray]) -> np.ndarray:
    """Pieces of bytes one after the other, on a cache line boundary; there are whole quads of them."""
    out = aligned_empty(sum(p.size for p in pieces) // QUAD).view(np.int8)
    return np.concatenate(pieces, out=out) if pieces else out


def pack_direct(w: np.ndarray, width: int, pixel: int, least_parts: int = 1, wide: bool = False) -> np.ndarray:
    """A filter for ``conv_direct_int8``.

    Parameters
    ----------
    w : int array (g, ocpg, icpg, kh, kw)
    width
        Channels of an output block.
    pixel
        Channels of an input block: ``width``, or 4 for images.
    least_parts
        Number of parts, if the filter alone does not need more.
    wide
        As pairs of numbers of 16 bits, which are one part, in place of quads.

    Returns
    -------
    flat int8 or int16 array
        ``[g][tile][part][ic block][kh][kw][quad][channels of the tile][4]``; the last tile may have one block, the
        last ic block only the quads that hold channels.
    """
    parts = w.astype(np.int16)[None] if wide else split_int8(w, least_parts)
    together = PAIR if wide else QUAD
    n, g, ocpg, icpg, kh, kw = parts.shape
    oc, ic = round_up(ocpg, width), round_up(icpg, together)
    padded = np.zeros((n, g, oc, ic, kh, kw), parts.dtype)
    padded[:, :, :ocpg, :icpg] = parts
    out = aligned_empty(padded.size // together).view(parts.dtype)
    groups = out.reshape(g, -1)
    column = n * ic * kh * kw  # weights of an output channel
    for first, tiles, lanes in _in_pieces(oc, TILE_BLOCKS * width):
        columns = groups[:, first * column :][:, : tiles * lanes * column].reshape(g, tiles, n, -1)
        for start, blocks, channels in _in_pieces(ic, pixel):
            rows = columns[..., start * kh * kw * lanes :][..., : blocks * channels * kh * kw * lanes]
            source = padded[:, :, first : first + tiles * lanes, start : start + blocks * channels]
            quads = source.reshape(n, g, tiles, lanes, blocks, channels // together, together, kh, kw)
            target = rows.reshape(g, tiles, n, blocks, kh, kw, channels // together, lanes, together)
            target[...] = quads.transpose(1, 2, 0, 4, 7, 8, 5, 3, 6)
    return out


def _in_pieces(count: int, size: int) -> list[tuple[int, int, int]]:
    """First element, number and size of the whole pieces of ``count`` elements, and of the piece that is left."""
    whole, left = divmod(count, size)
    pieces = [(0, whole, size), (whole * size, 1, left)]
    return [piece for piece in pieces if piece[1] * piece[2]]


def pack_depthwise(w: np.ndarray, width: int, taps: int) -> np.ndarray:
    """A channel-wise filter ``(c, kh, kw)`` for ``conv_depthwise_int8``.

    Parameters
    ----------
    taps
        Taps of a row that stand together: 4 where they are neighbours, 1 where the filter is dilated.

    Returns
    -------
    flat int8 array
        ``[channel block][part][kh][quad of kw][channel][4]``; places without a tap are zero.
    """
    parts = split_int8(w)
    n, c, kh, kw = parts.shape
    blocks, quads = round_up(c, width) // width, round_up(kw, taps) // taps
    padded = np.zeros((n, blocks * width, kh, quads, QUAD), np.int8)
    for tap in range(kw):
        padded[:, :c, :, tap // taps, tap % taps] = parts[..., tap]
    shaped = padded.reshape(n, blocks, width, kh, quads, QUAD)
    return _aligned([shaped.transpose(1, 0, 3, 4, 2, 5).reshape(-1)])


def pack_winograd(w: np.ndarray, kernels: KernelSet, threads: int = 1) -> np.ndarray:
    """A filter ``(oc, ic, 3, 3)`` for ``conv_winograd2_int8``: ``[tile][4 4][pair of ic][channels of the tile][2]``.

    The result are numbers of 16 bits, as bytes. Weights must fit 9 bits.
    """
    oc, ic = w.shape[:2]
    out = aligned_empty(round_up(oc, kernels.width) * 16 * round_up(ic, 2) // 2)
    KernelCall(
        kernels, "pack_winograd_int8", work=kernels.module("pack_winograd").work_items(oc, ic), threads=threads,
        weight=np.ascontiguousarray(w, np.int16), y=out, oc=oc, ic=ic,
    ).run()  # fmt: skip
    return out.view(np.int8)


def pack_columns(b: np.ndarray, width: int) -> np.ndarray:
    """The right operand ``(k, n)`` of a product for ``gemm_int8``: ``[tile][part][quad of k][column][4]``."""
    return pack_direct(b.T[None, :, :, None, None], width, round_up(b.shape[0], QUAD))


def compensation(w: np.ndarray, offset: int) -> np.ndarray:
    """What to add to the sums of each output channel when the kernel sees every input byte larger by ``offset``.

    Parameters
    ----------
    w : int array (oc, ...)
    """
    result: np.ndarray = (-offset * w.reshape(len(w), -1).sum(axis=1, dtype=np.int64)).astype(np.int32)
    return result
