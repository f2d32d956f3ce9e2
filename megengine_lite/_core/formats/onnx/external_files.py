"""Values of tensors that are in files of their own, beside the model's."""

from __future__ import annotations

import ntpath
import os
import posixpath

from megengine_lite._core.formats.containers.model_source import open_source
from megengine_lite._core.formats.onnx.messages import TensorProto
from megengine_lite._core.formats.stored_values import piece_of
from megengine_lite._core.formats.wire.cursor import Cursor
from megengine_lite._core.system.file_bytes import FilePiece
from megengine_lite.errors import LiteOSError, ModelFormatError, brief, os_error


class ExternalFiles:
    """The files in a model's folder that its tensors name, each opened once and read as models are.

    Parameters
    ----------
    path
        Where the model's file is; None if the model came as bytes. If it is a link, files that lie beside what it leads
        to are read, too: a cache of downloads has a model and its files as links into one folder.
    what
        Name of the model, for messages.
    """

    def __init__(self, path: str | None, what: str):
        self._path = None if path is None else os.path.abspath(path)
        self._what = what
        self._files: dict[str, Cursor | None] = {}
        self._values: dict[tuple[str | int | None, ...], memoryview | FilePiece] = {}

    def __len__(self) -> int:
        """How many of them have been opened."""
        return len(self._files)

    def close(self, keep: bool) -> None:
        """Looks no longer at whole files, so that memory of values can be given back.

        Parameters
        ----------
        keep
            Values will be asked for again. Those that have been are kept; for others a file is opened again.
        """
        self._files = dict.fromkeys(self._files)
        if not keep:
            self._values = {}

    def value_of(self, tensor: TensorProto, nbytes: int | None) -> memoryview | FilePiece:
        """The bytes of a tensor.

        Parameters
        ----------
        nbytes
            How many it takes if the model does not say it; None: the rest of the file, where that is not known.

        Raises
        ------
        ModelFormatError
            The tensor names a file outside of the folder, or bytes that the file does not have.
        LiteOSError
            The file cannot be read.
        """
        entries = {entry.key: entry.value for entry in tensor.external_data}
        key = (*(entries.get(name) for name in ("location", "offset", "length")), nbytes)
        found = self._values.get(key)
        if found is None:
            file = self._open(entries.get("location", ""), tensor.name)
            offset = self._number(entries, "offset", 0, tensor.name)
            rest = max(file.size - offset, 0)
            length = self._number(entries, "length", rest if nbytes is None else min(nbytes, rest), tensor.name)
            found = self._values[key] = piece_of(file.span(offset, length, f"the value of tensor {brief(tensor.name)}"))
        return found

    def _number(self, entries: dict[str, str], key: str, default: int, name: str) -> int:
        text = entries.get(key)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 20) or int(text) >= 2**63:
            raise ModelFormatError(
                f"{self._what}: the {key} of tensor {brief(name)} is {brief(text)}, and must be a number"
            )
        return int(text)

    def _open(self, location: str, name: str) -> Cursor:
        found = self._files.get(location)
        if found is not None:
            return found
        if self._path is None:
            raise ModelFormatError(
                f"{self._what}: the value of tensor {brief(name)} is in the file {brief(location)}; load the model "
                "by its path, "
                "so that it can be found"
            )
        parts = location.replace("\\", "/").split("/")
        rooted = posixpath.isabs(location) or ntpath.splitdrive(location)[0] or location.startswith("\\")
        if not location or "\0" in location or rooted or ".." in parts:
            raise ModelFormatError(
                f"{self._what}: tensor {brief(name)} names the file {brief(location)}; only files in the model's "
                "folder are read"
            )
        folder = os.path.realpath(os.path.dirname(self._path))
        path = os.path.realpath(os.path.join(folder, location))
        if not any(_is_in(path, f) for f in (folder, os.path.dirname(os.path.realpath(self._path)))):
            raise ModelFormatError(
                f"{self._what}: the file {brief(location)} of tensor {brief(name)} is a link to {brief(path)}, "
                "outside of the model's "
                "folder; copy it there"
            )
        try:
            buffer, _ = open_source(path)
        except LiteOSError as error:
            whose = f"{self._what}: the value of tensor {brief(name)} is in the file {brief(location)}"
            raise os_error(error, f"{whose}: {error.strerror}", path) from None
        file = self._files[location] = Cursor(buffer, what=path)
        return file


def _is_in(path: str, folder: str) -> bool:
    """Whether a file lies in a folder or in the folders in it; both without links."""
    try:
        return os.path.commonpath([folder, path]) == folder
    except ValueError:  # on another drive
        return False
