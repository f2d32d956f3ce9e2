"""Writes records as an ONNX file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from megengine_lite._core.formats.onnx.messages import Form, Message, MessageField, ModelProto, StringStringEntryProto
from megengine_lite._core.formats.wire.protobuf import Wire

_FLOATS = {Form.FLOAT: ("<f", Wire.FIXED32), Form.DOUBLE: ("<d", Wire.FIXED64)}

Chunk = bytes | memoryview


def write_model(model: ModelProto) -> list[Chunk]:
    """The model as chunks of bytes, to be written one after the other. Values of tensors are not copied."""
    return list(_fields(model))


# Smaller values stay in the model, where readers find them without another file.
_LEAST_MOVED = 1024
# Where a value may begin in a file of values, so that it can be mapped.
_PAGE = 4096
_EXTERNAL = 1  # a data_location


def move_values_out(model: ModelProto, location: str) -> list[Chunk]:
    """Lets the larger initializers name a file beside the model's, ``location``; gives what must be in that file."""
    chunks: list[Chunk] = []
    size = 0
    for tensor in model.graph.initializer if model.graph is not None else ():
        value = tensor.raw_data
        if value is None or len(value) < _LEAST_MOVED:
            continue
        padding = -size % _PAGE
        entries = {"location": location, "offset": str(size + padding), "length": str(len(value))}
        tensor.external_data = [StringStringEntryProto(key=key, value=text) for key, text in entries.items()]
        tensor.raw_data, tensor.data_location = None, _EXTERNAL
        chunks += [bytes(padding), memoryview(value)]
        size += padding + len(value)
    return chunks


def _fields(message: Message) -> Iterator[Chunk]:
    for field in sorted(message.fields.values()):
        value = getattr(message, field.name)
        if value is None or ((field.many or field.form == Form.TEXT) and not len(value)):
            continue
        if field.packed:
            yield from _sized(field, [b"".join(_number(field.form, v) for v in value)])
            continue
        for one in value if field.many else (value,):
            yield from _field(field, one)


def _field(field: MessageField, value: Any) -> Iterator[Chunk]:
    if field.form.is_number:
        wire = _FLOATS[field.form][1] if field.form in _FLOATS else Wire.VARINT
        yield _key(field, wire) + _number(field.form, value)
    elif field.form == Form.MESSAGE:
        yield from _sized(field, list(_fields(value)))
    else:
        yield from _sized(field, [value.encode() if isinstance(value, str) else value])


def _sized(field: MessageField, chunks: list[Chunk]) -> Iterator[Chunk]:
    yield _key(field, Wire.BYTES) + _varint(sum(map(len, chunks)))
    yield from chunks


def _key(field: MessageField, wire: int) -> bytes:
    return _varint(field.number << 3 | wire)


def _number(form: Form, value: Any) -> bytes:
    return struct.pack(_FLOATS[form][0], value) if form in _FLOATS else _varint(value)


def _varint(value: int) -> bytes:
    """A number by seven bits in each byte, the lowest first; negative ones as 64 bits."""
    value &= 2**64 - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
