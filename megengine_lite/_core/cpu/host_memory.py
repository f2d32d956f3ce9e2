"""Memory of the host that plans and packed weights lie in."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.device.plan import Arena
from megengine_lite._core.system.memory import ALIGNMENT, Storage
from megengine_lite._core.system.memory_limit import describe_bytes, memory_limit
from megengine_lite.errors import LiteMemoryError


def aligned_bytes(nbytes: int, *, zeroed: bool = True) -> np.ndarray:
    """Memory that begins at a cache line, so that no vector crosses two lines, as a uint8 array that owns it.

    Raises
    ------
    LiteMemoryError
        There is not enough memory.
    """
    try:
        if nbytes > memory_limit():  # a system may promise what it does not have
            raise MemoryError
        raw = (np.zeros if zeroed else np.empty)(nbytes + ALIGNMENT, np.uint8)
    except MemoryError as error:
        raise LiteMemoryError(f"there is not enough memory for {describe_bytes(nbytes)}") from error
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes]


def large_storage(nbytes: int) -> Storage:
    """Memory for a large tensor, which takes none before it is used.

    It is numpy's, which asks the system for pages of 2 MiB: with pages of 4 KiB the first use takes five times as long.
    """
    if nbytes > memory_limit():
        return Storage(nbytes)  # whoever uses it is told
    return Storage.of_buffer(aligned_bytes(nbytes))


def aligned_empty(size: int) -> np.ndarray:
    """Memory for so many float32."""
    return aligned_bytes(size * 4, zeroed=False).view(np.float32)


class HostArena(Arena):
    """The memory of intermediate tensors. It grows to the size that the largest plan needs."""

    def __init__(self) -> None:
        self._memory = aligned_bytes(0)
        self.address = 0

    @property
    def nbytes(self) -> int:
        return self._memory.nbytes

    def reserve(self, nbytes: int) -> int:
        """The address of the memory, which has at least ``nbytes``."""
        if nbytes > self._memory.nbytes or not self.address:
            self.address = 0  # until the new memory is there: an interrupt must not leave the old address
            self._memory = aligned_bytes(nbytes)
            self.address = self._memory.ctypes.data
        return self.address

    def release(self) -> None:
        self.address = 0
        self._memory = aligned_bytes(0)
