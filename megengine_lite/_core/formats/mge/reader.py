"""Reads the records of a model's file, and tells whether bytes are one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from megengine_lite._core.formats.mge import schema_v1, schema_v2
from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.formats.wire.cursor import Cursor
from megengine_lite.errors import ModelFormatError

TEST_CASE_MAGIC = b"mgbtest0"
_TEST_CASE_HEADER = 12


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
    raise ModelFormatError(f"{cursor.what}: not a MegEngine model")


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
