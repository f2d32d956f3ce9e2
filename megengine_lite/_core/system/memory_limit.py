"""How much memory a model may ask for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from math import prod
from typing import TYPE_CHECKING

from megengine_lite._core.system.control_groups import memory_of_groups
from megengine_lite.errors import LiteMemoryError

if TYPE_CHECKING:
    import numpy as np

_UNKNOWN = 1 << 40
_MOST_OF_A_TENSOR = 4  # a tensor that is made here may take this part of the memory


@cache
def memory_limit() -> int:
    """The most bytes that a process can have: the machine's memory, or the least limit of its control groups."""
    try:
        limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not POSIX, or a system without this number
        limit = _UNKNOWN
    of_groups = memory_of_groups()
    return limit if of_groups is None else min(limit, of_groups)


def describe_bytes(nbytes: float) -> str:
    """A number of bytes for people, in binary units.

    >>> describe_bytes(3 << 30), describe_bytes(1700), describe_bytes(12)
    ('3.0 GiB', '1.7 KiB', '12 B')
    """
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if abs(nbytes) >= size:
            return f"{nbytes / size:.1f} {unit}"
    return f"{nbytes:.0f} B"


def check_room(shape: Sequence[int], dtype: np.dtype, what: str) -> None:
    """Checks that a tensor leaves room for those that are computed from it. Systems may promise memory without limit.

    Raises
    ------
    LiteMemoryError
        It takes more than a part of the memory.
    """
    nbytes, most = prod(shape) * dtype.itemsize, memory_limit() // _MOST_OF_A_TENSOR
    if nbytes > most:
        sizes = "x".join(str(n) for n in shape)
        raise LiteMemoryError(
            f"{what} of shape {sizes[:80]} would have {describe_bytes(nbytes)}, and {describe_bytes(most)} is the most "
            "here: give a smaller shape or batch"
        )
