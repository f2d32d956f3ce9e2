"""Model files for the commands that change containers: what is in them, and writing them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from megengine_lite._cli import display, progress
from megengine_lite._core.system.files import write_made
from megengine_lite._records import record

_PIECE = 4 << 20


@record(slots=True)
class Parts:
    """The decrypted parts of a model file. ``package`` says whether it was a package; other files have only a model."""

    name: str
    model: Any
    information: bytes | None = None
    algorithm_cache: bytes | None = None
    binary_cache: bytes | None = None
    is_fast_run_cache: bool = True
    package: bool = False


def read_parts(path: str, decrypt: str | None = None) -> Parts:
    """Reads the parts of a file, after checking that it contains a model.

    Parameters
    ----------
    path
        A model of any container.
    decrypt
        How it is encrypted, if it is no package.
    """
    from megengine_lite._core.formats.containers import cryption
    from megengine_lite._core.formats.containers.model_source import open_source
    from megengine_lite._core.formats.containers.packed import is_package, read_package
    from megengine_lite._core.formats.load import decrypted, load_model
    from megengine_lite._core.formats.wire.cursor import Cursor

    content, what = open_source(path)
    if is_package(Cursor(content, what=what)):
        package = read_package(content, what)
        parts = Parts(package.name, decrypted(package.model, package.model_cryption, what), package=True)
        if package.information is not None and len(package.information):
            text = bytes(cryption.decrypt(package.information_cryption, package.information))
            parts.information = text.split(b"\0")[0]
        if package.algorithm_cache is not None:
            parts.algorithm_cache = bytes(package.algorithm_cache)
            parts.is_fast_run_cache = package.is_fast_run_cache
        if package.binary_cache is not None:
            parts.binary_cache = bytes(package.binary_cache)
    else:
        plain = decrypted(content, decrypt, what)
        parts = Parts(Path(path).stem, plain if decrypt else whole_model(path, plain))
    load_model(parts.model if parts.package or decrypt else path, check=False)
    return parts


def whole_model(path: str, content: Any) -> Any:
    """A plain model as one file: what an ONNX model has in other files is put into it."""
    from megengine_lite._core.formats.load import is_onnx

    if not is_onnx(content, path):
        return content
    from megengine_lite._core.formats.onnx.one_file import in_one_file

    chunks = in_one_file(content, path, path)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def write_file(path: str, chunks: Iterable[Any], source: str) -> int:
    """Writes a file made of another one as :func:`write_made` does, and shows how far it is; gives its size."""
    buffers = [memoryview(c).cast("B") for c in chunks if len(c)]
    pieces = [b[k : k + _PIECE] for b in buffers for k in range(0, b.nbytes, _PIECE)]
    write_made(path, progress.bar(pieces, len(pieces), "writing"), source)
    return sum(b.nbytes for b in buffers)


def show_written(result: dict[str, Any]) -> None:
    """Prints the names and sizes of written files."""
    for path, size in result["written"].items():
        display.print_line(f"{path}: {display.bytes_text(size)}")
