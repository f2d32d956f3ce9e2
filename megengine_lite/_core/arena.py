"""One memory arena for all intermediate tensors of a plan: offsets from lifetimes.

Greedy by size: the largest storage first, each at the lowest offset where it meets no storage that is alive at the
same time (Pisarchyk & Lee, "Efficient Memory Management for Deep Neural Net Inference", arXiv 2001.03288).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.limits import describe_bytes, memory_limit
from megengine_lite._core.lower.context import Storage
from megengine_lite.errors import LiteError

ALIGNMENT = 64
# Kernels may load a vector that begins inside of a tensor and ends behind it.
SLACK = 1024


def assign_offsets(storages: Sequence[Storage]) -> int:
    """Gives each used arena storage its offset; returns the size of the arena in bytes."""
    used = [s for s in storages if s.kind == Storage.ARENA and s.first is not None]
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last; sorted by offset
    total = 0
    for s in sorted(used, key=lambda s: (-s.nbytes, s.first)):
        size = -(-max(s.nbytes, 1) // ALIGNMENT) * ALIGNMENT
        offset = 0
        for begin, end, first, last in placed:
            if first <= s.last and s.first <= last:  # type: ignore[operator]
                if begin - offset >= size:
                    break
                offset = max(offset, end)
        s.offset = offset
        placed.append((offset, offset + size, s.first, s.last))  # type: ignore[arg-type]
        placed.sort()
        total = max(total, offset + size)
    return total + SLACK if total else 0


def aligned_bytes(nbytes: int) -> np.ndarray:
    """Zeroed memory, aligned to a cache line, as a uint8 array that owns it.

    Raises
    ------
    LiteError
        There is not so much memory.
    """
    try:
        if nbytes > memory_limit():  # a system may promise what it does not have
            raise MemoryError
        raw = np.zeros(nbytes + ALIGNMENT, np.uint8)
    except MemoryError as error:
        raise LiteError(f"there is not enough memory for {describe_bytes(nbytes)}") from error
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes]
