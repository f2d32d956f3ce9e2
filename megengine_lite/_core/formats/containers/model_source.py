"""The bytes of what a model is loaded from. Files are read into memory, buffers are used in place."""

from __future__ import annotations

import os
import stat
from typing import Any, BinaryIO

from megengine_lite._core.system.file_bytes import FileBytes
from megengine_lite._core.system.files import open_file, read_all, to_path
from megengine_lite.errors import LiteTypeError, ModelFormatError

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO


def open_source(source: Source, *, copy: bool = False) -> tuple[Any, str]:
    """The bytes of a model source, and its name for messages.

    Parameters
    ----------
    source
        Path of a file, an object with the buffer protocol, or a binary file (read from its current position).
    copy
        Keep all bytes of a file. Otherwise the memory of weights is given back to the system once kernels have packed
        them, and weights are read from the file again if another packed form is needed.
    """
    if isinstance(source, (str, os.PathLike)):
        name = to_path(source)
        with open_file(name) as file:
            status = os.fstat(file.fileno())
            if not copy and status.st_size and stat.S_ISREG(status.st_mode):
                return memoryview(FileBytes(file, name)), name
            content = read_all(file, name)
        if not content and stat.S_ISFIFO(status.st_mode):
            raise ModelFormatError(
                f"{name}: a pipe that nobody is writing to; start the program that writes the model first"
            )
        return content, name
    if hasattr(source, "read"):
        content = source.read()
        if not isinstance(content, bytes):
            raise LiteTypeError(f"a model is read from binary files; {source!r} gives {type(content).__name__}")
        return content, "model"
    try:
        return memoryview(source).cast("B"), "model"
    except (TypeError, ValueError) as error:  # ValueError: a memoryview that was released
        raise LiteTypeError(
            f"a model comes from a path, a contiguous buffer of bytes or a binary file, not {type(source).__name__}"
        ) from error
