"""Writes prepared files."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from megengine_lite._core.formats.prepared.record import (
    FORMAT_VERSION,
    HEADER_BYTES,
    MAGIC,
    PAGE,
    PreparedRecord,
    PreparedSlot,
)
from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.system.hashes import xxh64


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

    def texts(self, values: Iterable[str]) -> None:
        found = list(values)
        self.number(len(found))
        for value in found:
            self.text(value)

    def pairs(self, values: Sequence[tuple[str, str]]) -> None:
        self.number(len(values))
        for pair in values:
            for value in pair:
                self.text(value)

    def shape(self, shape: tuple[int, ...] | None) -> None:
        self.number(-1 if shape is None else len(shape))
        for size in shape or ():
            self.number(size)

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

    def slots(self, slots: list[PreparedSlot]) -> None:
        self.number(len(slots))
        for slot in slots:
            self.number(slot.variable)
            self.dtype(slot.dtype)
            self.shape(slot.shape)
            self.number(slot.base)


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
    writer.pairs([*record.facts.items()])
    return b"".join(writer.pieces)


def _model(record: PreparedRecord) -> bytes:
    writer = _FieldWriter()
    writer.number(len(record.inputs))
    for given in record.inputs:
        writer.text(given.name)
        writer.dtype(given.dtype)
        writer.shape(given.declared)
        writer.shape(None if given.default is None else given.default[0])
        writer.data(b"" if given.default is None else given.default[1])
    writer.texts(record.input_names)
    writer.number(len(record.outputs))
    for output in record.outputs:
        writer.text(output.name)
        writer.number(output.variable)
        writer.dtype(output.dtype)
        writer.shape(output.declared)
    writer.texts(record.scalars)
    writer.pairs([*record.properties.items()])
    return b"".join(writer.pieces)


def _plan(record: PreparedRecord) -> bytes:
    plan, writer = record.plan, _FieldWriter()
    writer.slots(plan.inputs)
    writer.slots(plan.outputs)
    writer.number(plan.arena_bytes)
    writer.number(plan.scratch_bytes)
    writer.number(len(plan.kernels))
    for kernel in plan.kernels:
        writer.text(kernel.module)
        writer.text(kernel.name)
        writer.text(kernel.arguments)
    writer.array(plan.steps)
    writer.array(plan.values)
    writer.array(plan.bases)
    writer.pairs(plan.faults)
    return b"".join(writer.pieces)
