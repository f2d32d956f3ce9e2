"""Records that are kept after a model is loaded, without views of its whole file."""

from __future__ import annotations

from megengine_lite._core.formats.onnx.messages import Message
from megengine_lite._core.formats.stored_values import piece_of
from megengine_lite._core.system.file_bytes import FilePiece

_SMALL = 1 << 14  # bytes that are copied


def keep_pieces(record: Message) -> None:
    """Replaces the views of a file's bytes by pieces of it, whose memory can be given back, and by copies if small."""
    todo: list[Message] = [record]
    while todo:
        message = todo.pop()
        for field in type(message).fields.values():
            value = getattr(message, field.name)
            if isinstance(value, Message):
                todo.append(value)
            elif isinstance(value, memoryview):
                setattr(message, field.name, _piece(value))
            elif isinstance(value, list | tuple) and value:
                if isinstance(value[0], Message):
                    todo += value
                elif isinstance(value[0], memoryview):
                    setattr(message, field.name, [_piece(v) for v in value])


def _piece(view: memoryview) -> memoryview | FilePiece:
    return memoryview(bytes(view)) if len(view) < _SMALL else piece_of(view)
