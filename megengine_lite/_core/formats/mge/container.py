"""Gives the bytes of a model and tells its kind. Files are read into memory, buffers are used in place."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any, BinaryIO

from megengine_lite._core.formats.cursor import Cursor
from megengine_lite._core.formats.mge import schema_v1, schema_v2
from megengine_lite._core.formats.mge.foreign import HEAD, recognise
from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.system.file_bytes import FileBytes
from megengine_lite._core.system.files import open_file, read_all, to_path
from megengine_lite.errors import LiteTypeError, ModelFormatError

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO

TEST_CASE_MAGIC = b"mgbtest0"
_TEST_CASE_HEADER = 12


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


def is_model(cursor: Cursor) -> bool:
    """Whether the window begins with a model of either generation."""
    return any(
        cursor.startswith(magic, at)
        for magic, at in (
            (schema_v1.LONG_MAGIC, 0),
            (schema_v1.SHORT_MAGIC, 0),
            (schema_v2.MAGIC, schema_v2.MAGIC_AT),
        )
    )


def is_wrapped(cursor: Cursor) -> bool:
    """Whether the window begins with the wrapper that puts test cases behind a model."""
    return cursor.startswith(TEST_CASE_MAGIC)


def read_model(cursor: Cursor) -> ModelRecord:
    """Reads the model at the window's begin; what follows it is ignored."""
    if cursor.startswith(schema_v2.MAGIC, schema_v2.MAGIC_AT):
        return schema_v2.read_v2(cursor)
    if is_model(cursor):
        return schema_v1.read_v1(cursor)
    kind = recognise(cursor.view[:HEAD])
    if kind is not None:
        raise ModelFormatError(f"{cursor.what}: not a MegEngine model but {kind}")
    raise ModelFormatError(
        f"{cursor.what}: not a MegEngine model. If it is encrypted, say how: by LiteConfig.bare_model_cryption_name, "
        "on the command line by --decrypt METHOD --key KEY"
    )


def read_models(buffer: Any, what: str) -> Iterator[ModelRecord]:
    """The model of a file, then those of its test cases, if it has the wrapper for test cases."""
    cursor = Cursor(buffer, what=what)
    if not is_wrapped(cursor):
        yield read_model(cursor)
        return
    count = 1 + cursor.uint32(len(TEST_CASE_MAGIC), "number of test cases")
    begin = _TEST_CASE_HEADER
    for _ in range(count):
        window = Cursor(cursor.span(begin, max(cursor.size - begin, 0), "test case"), what=what)
        record = read_model(window)
        yield record
        begin += record.end
