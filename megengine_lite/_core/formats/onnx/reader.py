"""Reads the records of an ONNX file. Everything about a file is a :class:`ModelFormatError`, whatever its bytes are."""

from __future__ import annotations

from array import array
from collections import deque
from typing import Any, TypeVar

from megengine_lite._core.formats.onnx.messages import MESSAGES, Form, Message, MessageField, ModelProto
from megengine_lite._core.formats.wire.cursor import Cursor
from megengine_lite._core.formats.wire.protobuf import FieldReader, Wire, as_float32, packed, signed
from megengine_lite.errors import ModelFormatError

MAX_DEPTH = 64
"""Messages inside of each other; a graph in a graph takes three levels."""
MAX_ITEMS = 1 << 20
"""Messages and texts of a file, each of which may take two bytes there and is an object here."""

_MOST_ZEROS = 7
"""Behind a model, where encryption fills a word of eight bytes."""

_FLOATS = {Form.FLOAT: Wire.FIXED32, Form.DOUBLE: Wire.FIXED64}

M = TypeVar("M", bound=Message)


def read_model(cursor: Cursor) -> ModelProto:
    """The model that fills the cursor's window, except for a zero and a few bytes behind it.

    Bytes of tensors are views of the window's buffer.

    Raises
    ------
    ModelFormatError
        It is damaged, nested too deeply, has too many parts, or no graph.
    """
    model = _Reader(cursor).message(ModelProto, 0, cursor.size, 0)
    if model.graph is None:
        raise ModelFormatError(f"{cursor.what}: an ONNX model without a graph; export or copy it again")
    return model


def model_size(cursor: Cursor) -> int:
    """The bytes of the model that begins the window, where up to seven zeros may follow it.

    A model may end with zeros itself. Only one size is possible: no field begins with a zero, and none is whole without
    its last byte. The window's size if the model is damaged.
    """
    end = bytes(cursor.view[-_MOST_ZEROS:])
    for size in range(cursor.size - (len(end) - len(end.rstrip(b"\0"))), cursor.size):
        try:
            deque(FieldReader(cursor, 0, size, "ModelProto"), maxlen=0)
        except ModelFormatError:
            continue
        return size
    return cursor.size


class _Reader:
    """Reads messages by what their classes say of their fields."""

    def __init__(self, cursor: Cursor):
        self._cursor = cursor
        self._what = cursor.what
        self._items = 0

    def _count(self) -> None:
        self._items += 1
        if self._items > MAX_ITEMS:
            raise ModelFormatError(f"{self._what}: more than {MAX_ITEMS} parts; no model has so many")

    def message(self, cls: type[M], begin: int, end: int, depth: int) -> M:
        """The message in ``[begin, end)``."""
        self._count()
        if depth == MAX_DEPTH:
            raise ModelFormatError(f"{self._what}: parts of the model are nested more than {MAX_DEPTH} times")
        fields, thing = cls.fields, cls.__name__
        made = cls()
        for number, wire, first, second in FieldReader(self._cursor, begin, end, thing, depth == 0):
            field = fields.get(number)
            if field is None:
                continue
            if field.form.is_number:
                self._number(made, field, wire, first, second)
                continue
            if wire != Wire.BYTES:
                raise self._misfit(thing, field)
            value = self._value(field, first, second, depth)
            if field.many:
                found = getattr(made, field.name)
                if found:
                    found.append(value)
                else:
                    setattr(made, field.name, [value])
            elif field.form == Form.MESSAGE and getattr(made, field.name) is not None:
                raise ModelFormatError(f"{self._what}: {thing} has {field.name} twice; the file is damaged")
            else:
                setattr(made, field.name, value)
        return made

    def _value(self, field: MessageField, begin: int, end: int, depth: int) -> Any:
        if field.form == Form.MESSAGE:
            return self.message(MESSAGES[field.message], begin, end, depth + 1)
        if field.many:
            self._count()
        span = self._cursor.span(begin, end - begin, field.name)
        return bytes(span).decode("utf-8", "backslashreplace") if field.form == Form.TEXT else span

    def _number(self, made: Message, field: MessageField, wire: int, first: int, second: int) -> None:
        """One number, or many side by side."""
        form = field.form
        numbers: array[Any]
        if wire == Wire.BYTES and field.many:
            numbers = packed(self._cursor, first, second, form.value, field.name)
        elif wire == _FLOATS.get(form, Wire.VARINT):
            value: float = signed(first) if form != Form.UNSIGNED else first
            if wire != Wire.VARINT:
                value = as_float32(first) if form == Form.FLOAT else array("d", first.to_bytes(8, "little"))[0]
            if not field.many:
                setattr(made, field.name, value)
                return
            # An int32 is stored with 64 bits; those above 32 repeat its sign, or do not count.
            numbers = array(form.value, [(first + 2**31) % 2**32 - 2**31 if form == Form.INT32 else value])
        else:
            raise self._misfit(type(made).__name__, field)
        found = getattr(made, field.name)
        if found:
            found.extend(numbers)
        else:
            setattr(made, field.name, numbers)

    def _misfit(self, thing: str, field: MessageField) -> ModelFormatError:
        return ModelFormatError(
            f"{self._what}: {thing}.{field.name} is not stored as {field.form.name.lower()}; the file is damaged, or "
            "no ONNX model"
        )
