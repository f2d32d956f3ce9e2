"""Writing model files for the commands that change containers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from megengine_lite._cli import report
from megengine_lite._core.files import replace_file
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
    replace_file(path, report.progress(chunks, len(chunks), "writing"))
    return sum(memoryview(c).nbytes for c in chunks)


def show_written(result: dict[str, Any]) -> None:
    """Prints the names and sizes of written files."""
    for path, size in result["written"].items():
        print(f"{path}: {report.bytes_text(size)}")
