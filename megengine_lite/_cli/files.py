"""Reading and writing model files for the commands that change containers."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from typing import Any

from megengine_lite._cli import report
from megengine_lite.errors import LiteValueError


def write_file(path: str, chunks: Iterable[Any], source: str) -> int:
    """Writes a file as a whole or not at all; gives its size.

    Parameters
    ----------
    path
        Where to; an existing file is replaced, unless it is the source.
    chunks
        Buffers, written one after the other.
    source
        The file that the chunks come from; they may be views on it.
    """
    if os.path.exists(path) and os.path.samefile(path, source):
        raise LiteValueError(f"{path} is the file that is read; write to another one")
    chunks = list(chunks)
    size = sum(memoryview(c).nbytes for c in chunks)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(os.path.abspath(path)), prefix=".megengine-lite-")
    try:
        with open(handle, "wb") as file:
            for chunk in report.progress(chunks, len(chunks), "writing"):
                file.write(chunk)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return size


def show_written(result: dict[str, Any]) -> None:
    """Prints the names and sizes of written files."""
    for path, size in result["written"].items():
        print(f"{path}: {report.bytes_text(size)}")
