"""Loads an ONNX model. Start here."""

from __future__ import annotations

from typing import Any

from megengine_lite._core.formats.loaded_model import LoadedModel
from megengine_lite._core.formats.onnx.external_files import ExternalFiles
from megengine_lite._core.formats.onnx.pieces import keep_pieces
from megengine_lite._core.formats.onnx.reader import read_model
from megengine_lite._core.formats.wire.cursor import Cursor


def load_onnx(
    buffer: Any, what: str, path: str | None = None, check: bool = True, narrow_double: bool = False
) -> LoadedModel:
    """The model in a buffer.

    Parameters
    ----------
    buffer
        The bytes of the file. Constants of the model refer to them and keep them alive.
    what
        Name of the model for messages.
    path
        Where it was read from; values of tensors that are in other files are looked for beside it.
    check
        Refuse models that cannot be run. Without it the graph of the file can be looked at.
    narrow_double
        Compute doubles as float32.

    Raises
    ------
    ModelFormatError
        Not a model, or a damaged one.
    UnsupportedOperatorError
        Some nodes or types cannot be run; all of them are listed.
    """
    from megengine_lite._core.formats.onnx.importer import import_model

    record = read_model(Cursor(buffer, what=what))
    files = ExternalFiles(path, what)
    model = import_model(record, files, what, check, narrow_double)
    model.other_files = files
    # From here on only constants look at the bytes: memory is given back when nobody looks at a whole file.
    is_kept = model.as_in_file is not None or model.file_graph is not None  # the record, for other graphs
    files.close(is_kept)
    if is_kept:
        keep_pieces(record)
    return model
