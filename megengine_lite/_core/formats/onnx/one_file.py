"""An ONNX model whose values are in other files, as one file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from megengine_lite._core.formats.onnx.external_files import ExternalFiles
from megengine_lite._core.formats.onnx.messages import EXTERNAL, Message, TensorProto
from megengine_lite._core.formats.onnx.reader import read_model
from megengine_lite._core.formats.onnx.tensors import stored_bytes
from megengine_lite._core.formats.onnx.writer import write_model
from megengine_lite._core.formats.wire.cursor import Cursor


def in_one_file(buffer: Any, what: str, path: str) -> list[Any]:
    """The model in a buffer, in pieces, with the values that are in files beside ``path``.

    Raises
    ------
    ModelFormatError
        Not a model, or a damaged one, or it names a file outside of its folder.
    LiteOSError
        A file beside it cannot be read.
    """
    record = read_model(Cursor(buffer, what=what))
    outside = [tensor for tensor in _tensors(record) if tensor.data_location == EXTERNAL]
    if not outside:
        return [buffer]
    files = ExternalFiles(path, what)
    for tensor in outside:
        tensor.raw_data = files.value_of(tensor, stored_bytes(tensor, what))
        tensor.external_data, tensor.data_location = (), None
    return list(write_model(record))


def _tensors(message: Message) -> Iterator[TensorProto]:
    """All tensors of a model, also those of attributes, of subgraphs and of functions."""
    waiting: list[Message] = [message]
    while waiting:
        found = waiting.pop()
        if isinstance(found, TensorProto):
            yield found
            continue
        for field in found.fields.values():
            value = getattr(found, field.name)
            if isinstance(value, Message):
                waiting.append(value)
            elif field.message and value:
                waiting += value
