"""Writes prepared files."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar

import numpy as np

from megengine_lite._core.formats.prepared.record import (
    FORMAT_VERSION,
    HEADER_BYTES,
    MAGIC,
    PAGE,
    PreparedInput,
    PreparedKernel,
    PreparedOutput,
    PreparedRecord,
    PreparedSlot,
)
from megengine_lite._core.ir.declared_shape import OpenShape
from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.system.hashes import xxh64

T = TypeVar("T")


class _FieldWriter:
    """Fields one after the other; each begins at a multiple of 8."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def number(self, value: int) -> None:
        self.pieces.append(struct.pack("<q", value))

    def data(self, content: bytes) -> None:
        self.number(len(content))
        self.pieces.append(content + bytes(-len(content) % 8))

    def text(self, value: str) -> None:
        self.data(value.encode("utf-8", "surrogateescape"))

    def many(self, write: Callable[[T], None], items: Collection[T]) -> None:
        self.number(len(items))
        for item in items:
            write(item)

    def pair(self, pair: tuple[str, str]) -> None:
        for text in pair:
            self.text(text)

    def shape(self, shape: tuple[int, ...] | None) -> None:
        self.number(-1 if shape is None else len(shape))
        for size in shape or ():
            self.number(size)

    def open_shape(self, item: tuple[str, OpenShape | None]) -> None:
        name, shape = item
        self.text(name)
        self.number(-1 if shape is None else len(shape))
        for size in shape or ():
            self.number(size if isinstance(size, int) else -1)
            self.text("" if isinstance(size, int) else size)

    def array(self, values: np.ndarray) -> None:
        self.data(np.ascontiguousarray(values, np.int64).tobytes())

    def dtype(self, dtype: DType | None) -> None:
        if dtype is None:
            self.number(-1)
            return
        self.number(dtype.code)
        self.pieces.append(struct.pack("<d", dtype.scale))
        self.number(dtype.zero_point)
        self.number(dtype.ties_to_even)

    def input(self, given: PreparedInput) -> None:
        self.text(given.name)
        self.dtype(given.dtype)
        self.shape(given.declared)
        self.shape(None if given.default is None else given.default[0])
        self.data(b"" if given.default is None else given.default[1])

    def output(self, output: PreparedOutput) -> None:
        self.text(output.name)
        self.number(output.variable)
        self.dtype(output.dtype)
        self.shape(output.declared)

    def slot(self, slot: PreparedSlot) -> None:
        self.number(slot.variable)
        self.dtype(slot.dtype)
        self.shape(slot.shape)
        self.number(slot.base)

    def kernel(self, kernel: PreparedKernel) -> None:
        self.text(kernel.module)
        self.text(kernel.name)
        self.text(kernel.arguments)


def write_prepared(record: PreparedRecord) -> Iterator[Any]:
    """The bytes of a prepared file, in chunks."""
    facts = _facts(record)
    head = facts + _model(record) + _plan(record)
    head += bytes(-(HEADER_BYTES + len(head)) % PAGE)
    weights = memoryview(record.plan.weights)
    header = MAGIC + struct.pack(
        "<IIQQQQ", FORMAT_VERSION, HEADER_BYTES, len(facts), len(head), xxh64(head, 0), len(weights)
    )
    header += struct.pack("<Q", xxh64(weights, 0))
    header += struct.pack("<Q", xxh64(header, 0))
    yield header
    yield head
    yield weights


def _facts(record: PreparedRecord) -> bytes:
    writer = _FieldWriter()
    writer.many(writer.pair, record.facts.items())
    return b"".join(writer.pieces)


def _model(record: PreparedRecord) -> bytes:
    writer = _FieldWriter()
    writer.many(writer.input, record.inputs)
    writer.many(writer.text, record.input_names)
    writer.many(writer.output, record.outputs)
    writer.many(writer.text, record.scalars)
    writer.many(writer.pair, record.properties.items())
    writer.many(writer.open_shape, record.open_shapes.items())
    return b"".join(writer.pieces)


def _plan(record: PreparedRecord) -> bytes:
    plan, writer = record.plan, _FieldWriter()
    writer.many(writer.slot, plan.inputs)
    writer.many(writer.slot, plan.outputs)
    writer.number(plan.arena_bytes)
    writer.number(plan.scratch_bytes)
    writer.many(writer.kernel, plan.kernels)
    writer.array(plan.steps)
    writer.array(plan.values)
    writer.array(plan.bases)
    writer.many(writer.pair, plan.faults)
    return b"".join(writer.pieces)
