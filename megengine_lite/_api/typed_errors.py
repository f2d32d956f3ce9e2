"""Errors of the system in calls of the API become errors of this package."""

from __future__ import annotations

import errno
from contextlib import suppress
from types import TracebackType

from megengine_lite.errors import LiteError, LiteMemoryError, import_error, os_error

# In blocks, for which there is more often room again. The large one is for Python without the GIL, whose allocator
# gives the place of small objects to objects of about their size only.
_SIZES = (1 << 18, *(4096,) * 16)
# Freed when memory has run out: the error itself, and the frames that it passes, need some. Allocated at import,
# and again by the next call that finds it gone.
_reserve = [*map(bytearray, _SIZES)]


# What CPython 3.11 raises if it finds no memory for the frame of a call.
_NO_FRAME = "error return without exception set"


def _tells_of_memory(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (isinstance(error, SystemError) and str(error) == _NO_FRAME)


class typed_errors:  # used like a function; a generator would need memory to be told of the error
    """Context manager around a call of the API; ``task`` is what messages say first.

    Parts of the package are imported when the first model is loaded. If memory is scarce, that fails with messages
    about shared objects, modules or folders, which would mislead.
    """

    __slots__ = ("_task",)

    def __init__(self, task: str):
        self._task = task

    def __enter__(self) -> None:
        if len(_reserve) < len(_SIZES):
            with suppress(MemoryError):
                while len(_reserve) < len(_SIZES):
                    _reserve.append(bytearray(_SIZES[len(_reserve)]))

    def __exit__(self, kind: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        if error is None or isinstance(error, LiteError):
            return
        if _tells_of_memory(error):
            _reserve.clear()
            raise LiteMemoryError(f"{self._task}: there is not enough memory") from error
        if isinstance(error, ImportError):
            _reserve.clear()
            raise import_error(error, self._task) from error
        if isinstance(error, OSError):
            raise os_error(error, f"{self._task}: {error}", error.filename or "") from error
