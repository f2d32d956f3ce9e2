"""Which model a prepared file was made from, and whether the model's file has been written to since."""

from __future__ import annotations

import os
import stat
import time
from io import BufferedReader

from megengine_lite._core.system.files import open_file, stamp_of
from megengine_lite._core.system.hashes import xxh64
from megengine_lite._records import record

_PIECE = 1 << 20
_SETTLED_NS = 2_000_000_000  # system clocks and file systems count time in steps of up to two seconds


@record(frozen=True, slots=True)
class ModelIdentity:
    """A model: its size and checksum, and the state of its file.

    The state is another one whenever the file has been written to or replaced: it has the number of the file and the
    time of its last change, which the system alone can set. It is empty where that says nothing, and for a model in
    memory.
    """

    content: str
    state: str


def identity_of(source: str | bytes | memoryview, known: ModelIdentity | None = None) -> ModelIdentity:
    """The identity of a model. Its file is read piece by piece, unless it is still in the known state.

    Raises
    ------
    LiteOSError
        The file cannot be read.
    """
    checksum = size = 0
    state = ""
    if isinstance(source, str):
        with open_file(source) as file:
            state = _state(file)
            if known is not None and state and state == known.state:
                return known
            piece = memoryview(bytearray(_PIECE))
            while count := file.readinto(piece):
                checksum = xxh64(piece[:count], checksum)
                size += count
            if _state(file) != state:  # it was written to meanwhile
                state = ""
    else:
        content = memoryview(source).cast("B")
        size = len(content)
        for begin in range(0, size, _PIECE):
            checksum = xxh64(content[begin : begin + _PIECE], checksum)
    return ModelIdentity(f"of {size} bytes with checksum {checksum:016x}", state)


def _state(file: BufferedReader) -> str:
    """The state of a file, as far as it can be trusted.

    A file that was changed just now may change again at what counts as the same time. A time in whole seconds may be
    that of all files in an image of a file system, whatever they contain.
    """
    found = os.fstat(file.fileno())
    device, number, size, modified, changed = stamp_of(found)
    is_settled = time.time_ns() - changed > _SETTLED_NS and changed % 1_000_000_000
    if os.name == "nt" or not stat.S_ISREG(found.st_mode) or not is_settled:  # Windows has no such time
        return ""
    return f"{device}:{number}, {size} bytes, {modified}, {changed}"
