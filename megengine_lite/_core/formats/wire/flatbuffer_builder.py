"""Writes flatbuffers from a tree of tables.

A file is written front to back: each table is followed by what it refers to, so large byte vectors are never copied and
an offset is filled in when its target's place is known::

    chunks = serialize(NewTable({0: uint32(7), 1: "name", 2: [NewTable({0: payload})]}))
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from megengine_lite._records import record
from megengine_lite.errors import LiteValueError

_MAX_BYTES = 2**31 - 1  # readers take distances as signed 32-bit numbers
_OFFSET = struct.Struct("<I")


class Scalar(NamedTuple):
    """A number stored in its table."""

    format: str
    value: Any


class Vector(NamedTuple):
    """Numbers or structures; ``format`` is that of one item, an item of several fields is a tuple."""

    format: str
    items: Sequence[Any]


class Text(NamedTuple):
    """A string that is not UTF-8."""

    content: bytes


@record(frozen=True)
class NewTable:
    """Field number -> value: a scalar, or something that the table refers to. None leaves a field out."""

    fields: dict[
        int,
        Scalar
        | NewTable
        | Vector
        | Text
        | str
        | bytes
        | bytearray
        | memoryview
        | Sequence[NewTable]
        | Sequence[str]
        | None,
    ]


def boolean(value: bool) -> Scalar:
    return Scalar("B", int(value))


def uint8(value: int) -> Scalar:
    return Scalar("B", value)


def int8(value: int) -> Scalar:
    return Scalar("b", value)


def int32(value: int) -> Scalar:
    return Scalar("i", value)


def uint32(value: int) -> Scalar:
    return Scalar("I", value)


def uint64(value: int) -> Scalar:
    return Scalar("Q", value)


def float32(value: float) -> Scalar:
    return Scalar("f", value)


def float64(value: float) -> Scalar:
    return Scalar("d", value)


class _Writer:
    """The bytes written so far, and the objects that are referred to but not written yet."""

    def __init__(self) -> None:
        self.chunks: list[bytes | bytearray | memoryview] = []
        self.size = 0
        self._field_lists: dict[bytes, int] = {}
        # Each entry: where the offset stands (place in file, chunk, place in chunk), and its target.
        self._pending: deque[tuple[int, bytearray, int, Any]] = deque()

    def append(self, chunk: bytes | bytearray | memoryview) -> None:
        self.chunks.append(chunk)
        self.size += len(chunk)
        if self.size > _MAX_BYTES:
            raise LiteValueError(f"a file of this format holds at most {_MAX_BYTES} bytes")

    def align(self, alignment: int, after: int = 0) -> None:
        """Padding, so that the place ``after`` bytes behind what comes next is aligned."""
        self.append(bytes(-(self.size + after) % alignment))

    def refer(self, chunk: bytearray, at: int, chunk_place: int, target: Any) -> None:
        self._pending.append((chunk_place + at, chunk, at, target))

    def finish(self) -> None:
        """Writes all that is pending, in the order in which it was referred to."""
        while self._pending:
            place, chunk, at, target = self._pending.popleft()
            _OFFSET.pack_into(chunk, at, self._write(target) - place)

    def _write(self, target: Any) -> int:
        """Writes an object and returns its place."""
        if isinstance(target, NewTable):
            return self._write_table(target)
        if isinstance(target, str):
            return self._write_bytes(target.encode(), b"\0")
        if isinstance(target, Text):
            return self._write_bytes(target.content, b"\0")
        if isinstance(target, (bytes, bytearray, memoryview)):
            return self._write_bytes(target, b"")
        if isinstance(target, Vector):
            return self._write_vector(target)
        return self._write_references(target)

    def _write_bytes(self, content: Any, end: bytes) -> int:
        content = memoryview(content).cast("B")
        self.align(4)
        place = self.size
        self.append(_OFFSET.pack(len(content)))
        self.append(content)
        self.append(end)
        return place

    def _write_vector(self, vector: Vector) -> int:
        item = struct.Struct("<" + vector.format)
        alignment = max(struct.calcsize(c) for c in vector.format if c.isalpha() and c != "x")
        self.align(max(4, alignment), 4)
        place = self.size
        packed = b"".join(item.pack(*(i if isinstance(i, tuple) else (i,))) for i in vector.items)
        self.append(_OFFSET.pack(len(vector.items)) + packed)
        return place

    def _write_references(self, targets: Sequence[Any]) -> int:
        self.align(4)
        place = self.size
        chunk = bytearray(4 + 4 * len(targets))
        _OFFSET.pack_into(chunk, 0, len(targets))
        for i, target in enumerate(targets):
            self.refer(chunk, 4 + 4 * i, place, target)
        self.append(chunk)
        return place

    def _write_table(self, table: NewTable) -> int:
        # Larger fields first, so that no padding is needed between them.
        stored = sorted(
            ((number, value) for number, value in table.fields.items() if value is not None),
            key=lambda field: -_width(field[1]),
        )
        alignment = max((_width(v) for _, v in stored), default=4)
        offsets: dict[int, int] = {}
        size = 4
        for number, value in stored:
            width = _width(value)
            size += -size % width
            offsets[number] = size
            size += width
        fields = [offsets.get(number, 0) for number in range(max(offsets, default=-1) + 1)]
        field_list = struct.pack(f"<{2 + len(fields)}H", 4 + 2 * len(fields), size, *fields)
        list_place = self._field_lists.get(field_list)
        if list_place is None:
            self.align(2)
            list_place = self._field_lists[field_list] = self.size
            self.append(field_list)
        self.align(max(4, alignment))
        place = self.size
        chunk = bytearray(size)
        struct.pack_into("<i", chunk, 0, place - list_place)
        for number, value in stored:
            if isinstance(value, Scalar):
                struct.pack_into("<" + value.format, chunk, offsets[number], value.value)
            else:
                self.refer(chunk, offsets[number], place, value)
        self.append(chunk)
        return place


def _width(value: Any) -> int:
    return struct.calcsize(value.format) if isinstance(value, Scalar) else 4


def serialize(
    root: NewTable, *, identifier: bytes = b"", size_prefix: bool = False
) -> list[bytes | bytearray | memoryview]:
    """A flatbuffer as a list of chunks, to be written one after the other.

    Parameters
    ----------
    root
        The root table.
    identifier
        Four bytes that say what the file is, or nothing.
    size_prefix
        Put the size of what follows in front.
    """
    writer = _Writer()
    prefix = 4 if size_prefix else 0
    head = bytearray(prefix + 4) + identifier
    writer.refer(head, prefix, 0, root)
    writer.append(head)
    writer.finish()
    writer.align(8)
    if size_prefix:
        _OFFSET.pack_into(head, 0, writer.size - prefix)
    return writer.chunks
