"""Which model a prepared file was made from."""

from __future__ import annotations

from megengine_lite._core.system.files import open_file
from megengine_lite._core.system.hashes import xxh64

_PIECE = 1 << 20


def identity_of(source: str | bytes | memoryview) -> str:
    """Size and checksum of a model: of its file, read piece by piece, or of its bytes.

    Raises
    ------
    LiteOSError
        The file cannot be read.
    """
    checksum = size = 0
    if isinstance(source, str):
        piece = memoryview(bytearray(_PIECE))
        with open_file(source) as file:
            while count := file.readinto(piece):
                checksum = xxh64(piece[:count], checksum)
                size += count
    else:
        content = memoryview(source).cast("B")
        size = len(content)
        for begin in range(0, size, _PIECE):
            checksum = xxh64(content[begin : begin + _PIECE], checksum)
    return f"of {size} bytes with checksum {checksum:016x}"
