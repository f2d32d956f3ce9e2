"""The persistent cache of fast-run: which algorithm was fastest for a problem.

The file has the form of the original's cache, with little-endian numbers::

    u32 number of categories
      per category: u32 length, name; u32 number of entries
        per entry: u32 length, key; u32 length, value

The names of our categories contain the processor, the instruction set, the number of threads and the revision of the
kernels, so that a measurement is used only where it is valid. Other categories (the original's) are kept and written
back. A file of another form is not changed.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
import threading
from typing import Any

from megengine_lite._core.system.files import file_lock, read_file, replace_file
from megengine_lite._records import record
from megengine_lite.errors import LiteOSError, ModelFormatError, os_error
from megengine_lite.log import logger

KERNEL_REVISION = 12
"""Increase it when the speed or the names of kernels change, so that old measurements are not used."""

Categories = dict[bytes, dict[bytes, bytes]]


@record(frozen=True, slots=True)
class Timing:
    """One measured algorithm."""

    algorithm: str
    seconds: float
    workspace: int


def parse_cache(data: bytes) -> Categories:
    """Reads a container.

    Raises
    ------
    ModelFormatError
        It is damaged or something else. What follows the last category is ignored.
    """
    try:
        return _parse(data)
    except ModelFormatError:
        from megengine_lite._core.formats.foreign_files import recognise

        kind = recognise(data)
        if kind is None or kind.noun == "a cache of algorithms":
            raise
        raise ModelFormatError(f"not a cache of algorithms but {kind}") from None


def _parse(data: bytes) -> Categories:
    view = memoryview(data)
    at = 0

    def number() -> int:
        nonlocal at
        if at + 4 > len(view):
            raise ModelFormatError(f"algorithm cache: it ends at byte {len(view)}, inside of a number at byte {at}")
        (value,) = struct.unpack_from("<I", view, at)
        at += 4
        return int(value)

    def text() -> bytes:
        nonlocal at
        size = number()
        if size > len(view) - at:
            raise ModelFormatError(f"algorithm cache: {size} bytes at byte {at}, where {len(view) - at} are left")
        at += size
        return bytes(view[at - size : at])

    categories: Categories = {}
    for _ in range(number()):
        entries = categories.setdefault(text(), {})
        for _ in range(number()):
            key = text()
            entries[key] = text()
    return categories


def serialize_cache(categories: Categories) -> bytes:
    """The inverse of :func:`parse_cache`."""
    parts = [struct.pack("<I", len(categories))]

    def text(content: bytes) -> None:
        parts.append(struct.pack("<I", len(content)))
        parts.append(content)

    for name, entries in categories.items():
        text(name)
        parts.append(struct.pack("<I", len(entries)))
        for key, value in entries.items():
            text(key)
            text(value)
    return b"".join(parts)


def _merge(into: Categories, new: Categories) -> None:
    for name, entries in new.items():
        into.setdefault(name, {}).update(entries)


def category_name(operator: str, processor: str, isa: str, threads: int) -> str:
    """Name of the category for an operator kind on this kind of machine."""
    return f"megengine_lite:r{KERNEL_REVISION}:{processor}:{isa}:t{threads}:{operator}"


class AlgoCache:
    """Measurements in memory, and the file that they go to. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._categories: Categories = {}
        self._path: str | None = None  # to be kept up to date
        self._dirty = False

    def lookup(self, category: str, key: str) -> list[Timing] | None:
        """The measurements for a problem, fastest first; None if there is none that can be used."""
        with self._lock:
            value = self._categories.get(category.encode(), {}).get(key.encode())
        if value is None:
            return None
        import json

        try:
            timings = [
                Timing(str(name), float(seconds), int(workspace)) for name, seconds, workspace in json.loads(value)
            ]
            if not all(math.isfinite(t.seconds) for t in timings):
                raise ValueError("a time is not a finite number")
            return timings
        except (ValueError, TypeError, OverflowError, RecursionError):
            logger.warning("an entry of the algorithm cache for %s cannot be read; it is measured again", key)
            return None

    def store(self, category: str, key: str, timings: list[Timing]) -> None:
        """Adds a measurement; :meth:`flush` writes it to the file."""
        import json

        ordered = sorted(timings, key=lambda t: t.seconds)
        value = json.dumps([(t.algorithm, float(f"{t.seconds:.4g}"), t.workspace) for t in ordered])
        with self._lock:
            self._categories.setdefault(category.encode(), {})[key.encode()] = value.encode()
            self._dirty = True

    def merge(self, content: bytes) -> None:
        """Adds the entries of a container; they replace those with the same key in memory.

        Raises
        ------
        ModelFormatError
            Not a container; nothing has changed.
        """
        new = parse_cache(content)
        with self._lock:
            _merge(self._categories, new)

    def open(self, path: str, always_sync: bool = False) -> None:
        """Adds the entries of a file, if it exists. With ``always_sync`` :meth:`flush` keeps the file up to date.

        A file that is not a cache is reported in the log, and neither used nor overwritten.
        """
        with self._lock:
            if self._path is not None:
                logger.warning("the algorithm cache %s is replaced by %s", self._path, path)
            self._path = None
        try:
            content = read_file(path)
        except FileNotFoundError:
            content = b""
        except LiteOSError as error:
            raise type(error)(error.errno, f"the algorithm cache {error}", path) from error
        if content:
            try:
                self.merge(content)
            except ModelFormatError as error:
                logger.warning("%s: %s; the file is left as it is and not used", path, error)
                return
        if always_sync:
            with self._lock:
                self._path = path

    def flush(self) -> None:
        """Writes new entries to the file that is kept up to date; entries of other processes stay in it."""
        if not self._dirty or self._path is None:
            return
        with self._lock:
            path, self._dirty = self._path, False
            try:
                with file_lock(path):
                    on_disk: Categories = {}
                    with contextlib.suppress(FileNotFoundError):
                        on_disk = parse_cache(read_file(path) or bytes(4))
                    _merge(on_disk, self._categories)
                    replace_file(path, [serialize_cache(on_disk)])
            except OSError as error:
                logger.warning("the algorithm cache %s cannot be written: %s", path, error)
            except ModelFormatError as error:
                logger.warning("%s: %s; the file is left as it is and not written to any more", path, error)
                self._path = None

    def content(self) -> bytes:
        """All entries as a container."""
        with self._lock:
            return serialize_cache(self._categories)

    def dump(self, path: str) -> None:
        """Writes all entries to a file. One that is there and no cache is left as it is.

        Raises
        ------
        ModelFormatError
            The file is something else, for example a model.
        LiteOSError
            It cannot be written.
        """
        with contextlib.suppress(OSError):
            if os.path.isfile(path) and (content := read_file(path)):
                parse_cache(content)
        try:
            replace_file(path, [self.content()])
        except OSError as error:
            raise os_error(error, f"the algorithm cache cannot be written to {path}: {error.strerror}", path) from error

    def clear(self) -> None:
        """Forgets everything; files stay."""
        with self._lock:
            self._categories = {}
            self._path = None
            self._dirty = False

    def __getstate__(self) -> Any:
        raise TypeError("the algorithm cache belongs to its process")


CACHE = AlgoCache()
"""The cache of this process."""


def _after_fork() -> None:
    CACHE._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
