"""Reads prepared files. Nothing is copied: arrays and weights are views of the file's bytes.

A reader looks at the facts first, and reads no more of a file that was made for something else. Numbers that say where
something is, or how large, are checked here as far as the file alone can tell; the device checks the rest.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from megengine_lite._core.formats.prepared.record import (
    FORMAT_VERSION,
    HEADER_BYTES,
    MAGIC,
    PreparedInput,
    PreparedKernel,
    PreparedOutput,
    PreparedPlan,
    PreparedRecord,
    PreparedSlot,
)
from megengine_lite._core.formats.wire.cursor import Cursor
from megengine_lite._core.ir.declared_shape import OpenShape
from megengine_lite._core.ir.dtype import DType, DTypeCode
from megengine_lite._core.system.hashes import xxh64
from megengine_lite._core.system.memory import MAX_NDIM
from megengine_lite.errors import ModelFormatError

T = TypeVar("T")
_LARGEST = 1 << 48  # bytes, and elements of a tensor


class _FieldReader:
    """Fields one after the other."""

    def __init__(self, cursor: Cursor, at: int):
        self._cursor = cursor
        self.at = at

    def fail(self, problem: str) -> ModelFormatError:
        return ModelFormatError(f"{self._cursor.what}: {problem} at byte {self.at}: the file is damaged")

    def number(self, least: int = 0, most: int = _LARGEST) -> int:
        value = self._cursor.uint64(self.at, "a number")
        value -= (value >> 63) << 64
        if not least <= value <= most:
            raise self.fail(f"the number {value}, where {least} to {most} are possible,")
        self.at += 8
        return value

    def data(self) -> memoryview:
        size = self.number()
        found = self._cursor.span(self.at, size, "a field")
        self.at += size + -size % 8
        return found

    def text(self) -> str:
        return bytes(self.data()).decode("utf-8", "surrogateescape")

    def many(self, read: Callable[[], T]) -> list[T]:
        return [read() for _ in range(self.number(most=self._cursor.size // 8))]

    def texts(self) -> list[str]:
        return self.many(self.text)

    def shape(self) -> tuple[int, ...] | None:
        rank = self.number(-1, MAX_NDIM)
        if rank < 0:
            return None
        shape = tuple(self.number() for _ in range(rank))
        size = 1
        for n in shape:
            size *= n
            if size > _LARGEST:
                raise self.fail(f"the shape {list(shape)}")
        return shape

    def open_shape(self) -> tuple[str, OpenShape | None]:
        name, rank = self.text(), self.number(-1, MAX_NDIM)
        sizes = [(self.number(-1), self.text()) for _ in range(rank)]
        return name, None if rank < 0 else tuple(text if size < 0 else size for size, text in sizes)

    def known_shape(self) -> tuple[int, ...]:
        shape = self.shape()
        if shape is None:
            raise self.fail("no shape")
        return shape

    def dtype(self) -> DType | None:
        code = self.number(-1)
        if code < 0:
            return None
        (scale,) = struct.unpack("<d", self._cursor.span(self.at, 8, "a scale"))
        self.at += 8
        zero_point, ties_to_even = self.number(-(1 << 31), 1 << 31), bool(self.number(most=1))
        try:
            dtype = DType(DTypeCode(code), scale, zero_point, ties_to_even)
            dtype.storage  # noqa: B018
        except (ValueError, KeyError):
            raise self.fail(f"the element type {code}") from None
        return dtype

    def known_dtype(self) -> DType:
        dtype = self.dtype()
        if dtype is None:
            raise self.fail("no element type")
        return dtype

    def array(self) -> np.ndarray:
        data = self.data()
        if len(data) % 8:
            raise self.fail(f"an array of {len(data)} bytes")
        return np.frombuffer(data, np.int64)

    def pair(self) -> tuple[str, str]:
        return self.text(), self.text()

    def input(self) -> PreparedInput:
        name, dtype, declared = self.text(), self.known_dtype(), self.known_shape()
        shape, data = self.shape(), bytes(self.data())
        if shape is None:
            return PreparedInput(name, dtype, declared)
        if np.prod(shape, dtype=object) * dtype.itemsize != len(data):
            raise self.fail(f"{len(data)} bytes for a value of shape {list(shape)}")
        return PreparedInput(name, dtype, declared, (shape, data))

    def output(self) -> PreparedOutput:
        return PreparedOutput(self.text(), self.number(), self.dtype(), self.shape())

    def slot(self) -> PreparedSlot:
        return PreparedSlot(self.number(), self.known_dtype(), self.known_shape(), self.number())

    def kernel(self) -> PreparedKernel:
        return PreparedKernel(self.text(), self.text(), self.text())


class PreparedFile:
    """The bytes of a prepared file.

    Parameters
    ----------
    content
        Its bytes, which must not change.
    what
        Its name for messages.

    Attributes
    ----------
    version : int
        The version of the format. Nothing more is known of a file of another version.
    facts : dict
        What it was made for.

    Raises
    ------
    ModelFormatError
        It is no prepared file, or its header or its facts are damaged.
    """

    def __init__(self, content: Any, what: str):
        self._cursor = cursor = Cursor(content, what=what)
        if not cursor.startswith(MAGIC):
            raise ModelFormatError(f"{what}: not a prepared file; megengine-lite prepare makes one from a model")
        header = cursor.span(0, HEADER_BYTES, "the header")
        self.facts: dict[str, str] = {}
        self.version = cursor.uint32(len(MAGIC), "the version")
        if xxh64(header[:-8], 0) != cursor.uint64(HEADER_BYTES - 8, "the checksum"):
            raise ModelFormatError(f"{what}: the header has another checksum: the file is damaged; prepare it again")
        if self.version != FORMAT_VERSION:
            return
        _, facts, head, head_hash, weights, self._weights_hash = struct.unpack("<IQQQQQ", header[12:-8])
        self._model = HEADER_BYTES + facts
        self._weights = cursor.span(HEADER_BYTES + head, weights, "the weights")
        if HEADER_BYTES + head + weights != cursor.size:
            raise ModelFormatError(f"{what}: {cursor.size} bytes, where {HEADER_BYTES + head + weights} are expected")
        if xxh64(cursor.span(HEADER_BYTES, head, "the plan"), 0) != head_hash:
            raise ModelFormatError(f"{what}: the plan has another checksum: the file is damaged; prepare it again")
        reader = _FieldReader(cursor, HEADER_BYTES)
        self.facts = dict(reader.many(reader.pair))

    def read(self) -> PreparedRecord:
        """All that is in the file.

        Raises
        ------
        ModelFormatError
            It is damaged.
        """
        if xxh64(self._weights, 0) != self._weights_hash:
            raise ModelFormatError(
                f"{self._cursor.what}: the weights have another checksum: the file is damaged; prepare it again"
            )
        reader = _FieldReader(self._cursor, self._model)
        record = PreparedRecord(
            self.facts,
            reader.many(reader.input),
            reader.texts(),
            reader.many(reader.output),
            reader.texts(),
            dict(reader.many(reader.pair)),
            dict(reader.many(reader.open_shape)),
            PreparedPlan(
                reader.many(reader.slot),
                reader.many(reader.slot),
                reader.number(),
                reader.number(),
                reader.many(reader.kernel),
                reader.array(),
                reader.array(),
                reader.array(),
                reader.many(reader.pair),
                self._weights,
            ),
        )
        _check(record, reader)
        return record


def _check(record: PreparedRecord, reader: _FieldReader) -> None:
    """Raises unless names and numbers of variables fit each other."""
    names = [given.name for given in record.inputs]
    if sorted(names) != sorted(record.input_names) or len({*names}) != len(names):
        raise reader.fail("names of inputs that do not fit")
    variables = {*range(len(names)), *(output.variable for output in record.outputs)}
    plan = record.plan
    slots = [*plan.inputs, *plan.outputs]
    if not {slot.variable for slot in slots} <= variables:
        raise reader.fail("a slot without variable")
    if not {slot.variable for slot in plan.inputs} <= {*range(len(names))}:
        raise reader.fail("a slot that is no input")
    if not {output.variable for output in record.outputs} <= {slot.variable for slot in plan.outputs}:
        raise reader.fail("an output that is not computed")
    if [slot.base for slot in slots] != [*range(1, len(slots) + 1)]:
        raise reader.fail("bases out of order")
    for slot in plan.inputs:
        if record.inputs[slot.variable].dtype != slot.dtype:
            raise reader.fail("an input of another element type")
