"""Files: reading paths that may lead to anything, and writing so that nobody ever sees half of a file.

A file is written under a temporary name in the same folder and then renamed. The writer holds a lock on the temporary
file, so the next writer can tell which temporary files were left by a killed process, and removes them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from io import BufferedReader
from types import ModuleType
from typing import Any, BinaryIO

from megengine_lite._core.system.memory_limit import describe_bytes, memory_limit
from megengine_lite.errors import LiteError, LiteOSError, LiteTypeError, LiteValueError, os_error

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # no such locks here; replacing a file is still atomic
    fcntl = None

_PIECE = 1 << 20
_MOST_READ = 4  # a file may take this part of the memory
_RIGHTS = 0o777  # of owner, group and others
_SUFFIX = ".tmp"
_LONGEST_STEM = 200  # of the 255 bytes that a name has, as a rule
# Systems without these flags do not have the dangers that the flags protect from.
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)


def to_path(path: Any) -> str:
    """A path as text.

    Raises
    ------
    LiteTypeError, LiteValueError
        It is neither str nor ``os.PathLike``, or no file can have such a name.
    """
    if not isinstance(path, str | os.PathLike):
        raise LiteTypeError(f"a path is needed, not {type(path).__name__}")
    try:
        text = os.fsdecode(path)
    except TypeError as error:
        raise LiteTypeError(f"{type(path).__name__} gives no path: {error}") from None
    if "\0" in text:
        raise LiteValueError(f"{text!r} is no path: it has a null character")
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise LiteValueError(f"{text!r} is no path: {error}") from None
    return text


def path_to_write(path: Any) -> str:
    """A path as text, as :func:`to_path` gives it, that a file may be written to.

    Raises
    ------
    LiteTypeError, LiteValueError
        It is no path, or empty.
    """
    text = to_path(path)
    if not text:
        raise LiteValueError("what is to be written needs the name of a file or folder, and it is empty")
    return text


def check_other_file(path: str, source: str) -> None:
    """Checks that what is to be written is not the file that is read.

    Raises
    ------
    LiteValueError
        It is.
    """
    if os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source):
        raise LiteValueError(f"{path} is the file that is read; write to another one")


# ---- reading --------------------------------------------------------------------------------------------------------


def open_file(path: str, *, pipes: bool = True) -> BufferedReader:
    """Opens a file for reading, or a pipe if ``pipes`` allows it. Does not wait for a writer of the pipe.

    Raises
    ------
    LiteOSError
        It does not exist, is something else, or must not be read. The error is also the builtin one of that case.
    """
    path = to_path(path)
    try:
        # The file object closes its descriptor, whatever an interrupt leaves undone here.
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | _CLOEXEC | _NONBLOCK))  # noqa: SIM115
    except FileNotFoundError as error:
        raise os_error(error, f"there is no file {path!r}", path) from None
    except IsADirectoryError as error:
        raise os_error(error, f"{path!r} is a directory, a file is needed", path) from None
    except OSError as error:
        raise os_error(error, f"{path!r} cannot be read: {error.strerror}", path) from None
    try:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode) and not (pipes and stat.S_ISFIFO(mode)):
            kind = "pipe" if stat.S_ISFIFO(mode) else "device"
            raise LiteOSError(errno.EINVAL, f"{path!r} is a {kind}, a file is needed", path)
        if _NONBLOCK:
            os.set_blocking(file.fileno(), True)
        return file
    except BaseException:
        file.close()
        raise


def stamp_of(found: os.stat_result) -> tuple[int, ...]:
    """Device, number, size and times of a file, of which at least one changes when it is written to or replaced."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def file_stamp(source: str | bytes | memoryview) -> tuple[int, ...] | None:
    """:func:`stamp_of` the file at a path; None if there is none, or for bytes."""
    try:
        return stamp_of(os.stat(source)) if isinstance(source, str) else None
    except OSError:
        return None


def read_all(file: BinaryIO, path: str) -> bytes:
    """The rest of a file.

    Raises
    ------
    LiteOSError, LiteError
        It cannot be read, or it is larger than a quarter of the memory.
    """
    most = memory_limit() // _MOST_READ
    pieces = []
    size = 0
    try:
        while piece := file.read(_PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > most:
                raise LiteError(f"{path!r} is not read: it has more than {describe_bytes(most)}")
    except OSError as error:
        raise os_error(error, f"{path!r} cannot be read: {error.strerror}", path) from None
    return b"".join(pieces)


def read_file(path: str) -> bytes:
    """The content of a file; errors are those of :func:`open_file` and :func:`read_all`."""
    with open_file(path) as file:
        return read_all(file, path)


# ---- writing --------------------------------------------------------------------------------------------------------


def open_for_writing(path: str, *, append: bool = False) -> BinaryIO:
    """Opens a file that is written in place, not replaced as a whole. Does not wait for a reader of a pipe.

    Raises
    ------
    OSError
        It cannot be written, or is a pipe that nobody reads.
    """
    kind = os.O_APPEND if append else os.O_TRUNC
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | kind | _CLOEXEC | _NONBLOCK, 0o666)
    if _NONBLOCK:
        os.set_blocking(handle, True)
    return os.fdopen(handle, "wb")


def replace_file(path: str, chunks: Iterable[Any], like: str | None = None) -> None:
    """Writes a file as :func:`replacing` does.

    Parameters
    ----------
    path
        Where to; an existing file is replaced.
    chunks
        Buffers, written one after the other.
    like
        See :func:`replacing`.

    Raises
    ------
    OSError
        It cannot be written; what was there is still there.
    """
    with replacing(path, like) as file:
        for chunk in chunks:
            file.write(chunk)


def write_made(path: str, chunks: Iterable[Any], source: str | None) -> None:
    """Writes what was made of another file, as a whole or not at all.

    Parameters
    ----------
    path
        Where to; an existing file is replaced, unless it is the source. A new one can be read only by those who can
        read the source.
    chunks
        Buffers, written one after the other; they may be views on the source.
    source
        The other file; None if it was none.

    Raises
    ------
    LiteValueError
        ``path`` is the source.
    LiteOSError
        It cannot be written; what was there is still there.
    """
    if source is not None:
        check_other_file(path, source)
    try:
        replace_file(path, chunks, like=source)
    except OSError as error:  # it names a file that is there for a moment only
        raise os_error(error, f"{path} cannot be written: {error.strerror}", path) from error


@contextlib.contextmanager
def replacing(path: str, like: str | None = None) -> Iterator[BinaryIO]:
    """Context manager: a file to write to. It replaces ``path`` at the end, or not at all after an exception.

    Readers find either the old or the new content, also after a crash. Rights and ownership of an existing file stay,
    as far as this process may set them. A symbolic link stays, and the file that it leads to is replaced. Devices and
    pipes are written to directly.

    Parameters
    ----------
    path
        Where to.
    like
        A file whose rights are the most that a new file gives to anybody but its owner.

    Raises
    ------
    OSError
        It cannot be written; what was there is still there.
    """
    target = os.path.realpath(path)
    try:
        present = os.stat(target)
    except FileNotFoundError:
        present = None
    if present is not None and not stat.S_ISREG(present.st_mode):
        with open_for_writing(target) as file:
            yield file
        return
    _remove_stale(target)
    handle, name = _create_beside(target, _first_mode(present, like))
    try:
        with os.fdopen(handle, "wb") as file:
            if present is not None:
                _take_over(handle, present)
            yield file
            file.flush()
            os.fsync(handle)
            os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _first_mode(present: os.stat_result | None, like: str | None) -> int:
    """Rights that a file is created with; the system removes those in the umask of the process."""
    if present is not None:
        return 0o600  # nobody may open it before it has the rights of the old one
    return 0o666 if like is None else 0o600 | (os.stat(like).st_mode & 0o666)


def _take_over(handle: int, present: os.stat_result) -> None:
    """Gives an open file the owner, the group and the rights of another one, as far as this process may."""
    if not hasattr(os, "fchmod"):
        return  # Windows, where a file has the rights of its folder
    mode = present.st_mode & _RIGHTS
    mine = os.fstat(handle)
    if (mine.st_uid, mine.st_gid) != (present.st_uid, present.st_gid):
        try:
            os.fchown(handle, present.st_uid, present.st_gid)
        except OSError:
            try:
                os.fchown(handle, -1, present.st_gid)
            except OSError:
                mode &= ~0o070  # it has another group, which had no rights
    with contextlib.suppress(OSError):  # file systems without rights
        os.fchmod(handle, mode)


def _stem(target: str) -> str:
    """The beginning of the names of a target's temporary files."""
    name = os.fsencode(os.path.basename(target))
    return name[:_LONGEST_STEM].decode("utf-8", "ignore") if len(name) > _LONGEST_STEM else os.fsdecode(name)


def _create_beside(target: str, mode: int) -> tuple[int, str]:
    """A new, locked file in the directory of another one."""
    while True:
        name = os.path.join(os.path.dirname(target), f"{_stem(target)}.{os.urandom(8).hex()}{_SUFFIX}")
        handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _CLOEXEC, mode)
        try:
            if fcntl is not None:
                with contextlib.suppress(OSError):  # file systems without locks
                    fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_at(handle, name):
                return handle, name
        except BaseException:
            os.close(handle)
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        os.close(handle)  # taken for stale before it was locked


def _is_at(handle: int, name: str) -> bool:
    """Whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(name, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _remove_stale(target: str) -> None:
    """Removes the temporary files for a target whose writers are gone; raises nothing."""
    if fcntl is None:
        return
    pattern = re.compile(rf"{re.escape(_stem(target))}\.[0-9a-f]{{16}}{re.escape(_SUFFIX)}")
    with contextlib.suppress(OSError), os.scandir(os.path.dirname(target)) as entries:
        names = [entry.path for entry in entries if pattern.fullmatch(entry.name)]
        for name in names:
            with contextlib.suppress(OSError):
                _remove_if_stale(name)


def _remove_if_stale(name: str) -> None:
    assert fcntl is not None
    handle = os.open(name, os.O_RDWR | _NOFOLLOW | _NONBLOCK | _CLOEXEC)
    try:
        found = os.fstat(handle)
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises while its writer lives
            if _is_at(handle, name):
                os.unlink(name)
    finally:
        os.close(handle)


@contextlib.contextmanager
def file_lock(path: str) -> Iterator[None]:
    """Holds a lock between processes on a file beside another one, which need not exist.

    Raises
    ------
    OSError
        Something else has its name, or this process has no right to use it.
    """
    if fcntl is None:
        yield
        return
    target = os.path.realpath(path)
    mode = 0o666
    with contextlib.suppress(OSError):
        mode &= os.stat(target).st_mode
    handle = os.open(target + ".lock", os.O_RDWR | os.O_CREAT | _NOFOLLOW | _NONBLOCK | _CLOEXEC, mode | 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
