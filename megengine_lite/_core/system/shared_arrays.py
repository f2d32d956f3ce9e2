"""Arrays that the processes of a user share on a machine: equal ones are in memory once.

::

    array ─► found in the file? ── yes ─► equal byte by byte? ── yes ─► the file's pages, mapped; the array is freed
                    │ no                          │ no
                    └─► appended ─► mapped        └─► the array as it is

A file holds the arrays of one model. It lies in ``megengine_lite-UID`` in the directory for temporary files, which only
this user may enter. Nothing is trusted but that this user's own programs do not write to it: an array is looked up by
its checksum and then compared, so which program wrote it, and for which processor, does not matter.

Every process that uses a file holds a shared lock on it (``flock``). The last one removes it. A process that is killed
leaves it: whoever opens the next file there removes all that nobody holds a lock on. Changes are made under a lock on
the directory. Whatever fails (no such directory, no room on the disk, a system without these locks) leaves arrays as
they are: memory of the process.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from io import FileIO
from threading import Lock
from types import ModuleType
from weakref import finalize

import numpy as np

from megengine_lite._core.system.file_bytes import MappedFile
from megengine_lite._core.system.hashes import xxh64
from megengine_lite.errors import LiteError
from megengine_lite.log import logger

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows: nothing is shared
    fcntl = None

with contextlib.suppress(OSError):
    tempfile.gettempdir()  # looks for it once, under a lock. Forks wait for imports, so no child finds the lock taken

LEAST = 1 << 14
"""Bytes of the smallest array that is shared: a mapping takes whole pages, and time."""

_MAGIC = b"MGLarray"
_HEADER = struct.Struct("<8sQQQ")  # mark, bytes of the array, checksum, bytes of all in whole pages
_DATA = 64  # where an array begins behind its header, so that it is aligned
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_PIECE = 1 << 20
_SUFFIX = ".weights"
_PATIENCE = 5.0  # seconds for a lock that others hold for milliseconds


class SharedArrays:
    """The shared arrays of a model.

    Parameters
    ----------
    identity
        What says which model it is. Another model with the same identity costs room in the file, nothing else.
    """

    def __init__(self, identity: object):
        self._lock = Lock()
        self._known: dict[tuple[int, int, int], int] = {}  # pages, bytes and checksum -> where the array's pages begin
        self._end = 0  # of what has been read of the file
        self._folder = ""
        self._file: FileIO | None = None  # opened for the first array
        self._failed = False
        self._name = sha256(repr(identity).encode("utf-8", "surrogateescape")).hexdigest()[:32] + _SUFFIX

    def share(self, array: np.ndarray, behind: int = 0) -> np.ndarray:
        """The same array, in shared memory and read-only; or itself, if that cannot be.

        Parameters
        ----------
        array
            A contiguous array.
        behind
            Bytes that may be read behind its end.
        """
        if self._failed or array.nbytes < LEAST:
            return array
        content = array.reshape(-1).view(np.uint8)
        try:
            with self._lock:
                shared = self._shared(self._file or self._open(), content, behind)
        except (OSError, LiteError) as error:
            logger.info("weights are not shared with other processes: %s", error)
            self._failed = True
            return array
        return array if shared is None else shared.view(array.dtype).reshape(array.shape)

    def after_fork(self) -> None:
        """After a fork: a thread that the child does not have may have held the lock."""
        self._lock = Lock()

    def _open(self) -> FileIO:
        self._folder = _private_folder()
        path = os.path.join(self._folder, self._name)
        with _locked(self._folder):
            _remove_unused(self._folder, self._name)
            file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "r+")
            assert fcntl is not None
            fcntl.flock(file, fcntl.LOCK_SH)  # at once: nobody holds another one but under the lock of the folder
        finalize(self, _leave, file, path, os.getpid())
        self._file = file
        return file

    def _shared(self, file: FileIO, content: np.ndarray, behind: int) -> np.ndarray | None:
        room = -(-(_DATA + content.nbytes + behind) // _PAGE) * _PAGE
        key = room, content.nbytes, xxh64(content.data, 0)
        if key not in self._known:
            with _locked(self._folder):
                self._read_headers(file.fileno())
                if key not in self._known:
                    self._append(file.fileno(), content, key)
        mapped = MappedFile(file, "shared weights", self._known[key], room)
        found = np.frombuffer(memoryview(mapped), np.uint8)[_DATA : _DATA + content.nbytes]
        return found if _equal(found, content) else None

    def _read_headers(self, file: int) -> None:
        """Learns what others have appended. What a killed process has begun is removed."""
        size = os.fstat(file).st_size
        while self._end < size:
            header = os.pread(file, _HEADER.size, self._end).ljust(_HEADER.size, b"\0")
            if not any(header):
                os.ftruncate(file, self._end)
                return
            mark, nbytes, checksum, room = _HEADER.unpack(header)
            if mark != _MAGIC or room % _PAGE or not _DATA + nbytes <= room <= size - self._end:
                raise OSError("their file is damaged")  # and not cut off: others may have mapped what follows
            self._known[room, nbytes, checksum] = self._end
            self._end += room

    def _append(self, file: int, content: np.ndarray, key: tuple[int, int, int]) -> None:
        room, nbytes, checksum = key
        begin = self._end
        try:
            for at in range(0, content.nbytes, _PIECE):
                _write(file, content[at : at + _PIECE].data, begin + _DATA + at)
            _write(file, bytes(room - _DATA - nbytes), begin + _DATA + nbytes)
            _write(
                file, _HEADER.pack(_MAGIC, nbytes, checksum, room), begin
            )  # the last: it says that the rest is there
        except OSError:
            os.ftruncate(file, begin)
            raise
        self._known[key] = begin
        self._end += room


def _write(file: int, content: memoryview[int] | bytes, at: int) -> None:
    while content:
        count = os.pwrite(file, content, at)
        content, at = content[count:], at + count


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return all(np.array_equal(a[at : at + _PIECE], b[at : at + _PIECE]) for at in range(0, a.size, _PIECE))


# ---- the folder ------------------------------------------------------------------------------------------------------


def _private_folder() -> str:
    """The directory for these files, made if it is not there.

    Raises
    ------
    OSError
        It cannot be made, or it is not this user's alone.
    """
    if fcntl is None:
        raise OSError("this system has no locks on files for that")
    path = os.path.join(tempfile.gettempdir(), f"megengine_lite-{os.geteuid()}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    found = os.stat(path, follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise OSError(f"{path} is no directory of this user alone")
    return path


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Holds the lock on the folder.

    Raises
    ------
    OSError
        The folder is gone, or another process keeps the lock.
    """
    assert fcntl is not None
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        give_up = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.001)
        yield
    finally:
        os.close(handle)


def _remove_unused(folder: str, but: str) -> None:
    """Removes the files of processes that were killed; the lock on the folder is held."""
    with os.scandir(folder) as entries:
        names = [entry.path for entry in entries if entry.name.endswith(_SUFFIX) and entry.name != but]
    for name in names:
        with contextlib.suppress(OSError):
            handle = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                _remove_if_unused(handle, name)
            finally:
                os.close(handle)


def _remove_if_unused(handle: int, path: str) -> None:
    """Removes a file if nobody else has a lock on it.

    Raises
    ------
    OSError
        Somebody has.
    """
    assert fcntl is not None
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if os.path.samestat(os.fstat(handle), os.stat(path, follow_symlinks=False)):
        os.unlink(path)


def _leave(file: FileIO, path: str, pid: int) -> None:
    """The end of a process's use of a file."""
    try:
        if pid == os.getpid():  # a child after fork has its parent's lock
            with contextlib.suppress(OSError), _locked(os.path.dirname(path)):
                _remove_if_unused(file.fileno(), path)
    finally:
        file.close()
