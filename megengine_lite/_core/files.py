"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from functools import cache
from typing import Any


def replace_file(path: str, chunks: Iterable[Any]) -> None:
    """Writes a file so that readers, and a crash, find either the old or the new content.

    Parameters
    ----------
    path
        Where to; an existing file is replaced.
    chunks
        Buffers, written one after the other.

    Raises
    ------
    OSError
        It cannot be written; what was there is still there.
    """
    directory = os.path.dirname(os.path.abspath(path))
    handle, name = tempfile.mkstemp(prefix=os.path.basename(path) + ".", suffix=".tmp", dir=directory)
    try:
        with os.fdopen(handle, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(OSError):  # mkstemp makes files that only their owner can read
            os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


@cache
def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
