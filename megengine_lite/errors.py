"""Exceptions of the package: everything that it raises on purpose is a :class:`LiteError`.

``LiteError`` is a ``RuntimeError``, as in the original package; each kind is in addition the Python exception
that code would expect for it, so both styles of ``except`` work.
"""

import errno
from collections.abc import Collection, Iterable
from itertools import islice

__all__ = [
    "DecryptionError",
    "DeviceError",
    "InternalError",
    "LiteArgumentError",
    "LiteAttributeError",
    "LiteError",
    "LiteFileNotFoundError",
    "LiteIndexError",
    "LiteIsADirectoryError",
    "LiteMemoryError",
    "LiteOSError",
    "LitePermissionError",
    "LiteTypeError",
    "LiteValueError",
    "LiteWarning",
    "ModelFormatError",
    "ShapeError",
    "UnsupportedOperatorError",
]


def printable(text: str) -> str:
    """The text with characters escaped that a terminal would obey, except newlines and tabs.

    Names in messages come from files, and anybody may have made those.

    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def brief(value: object, most: int = 80) -> str:
    """The ``repr`` of a value, cut to a line; its type if ``repr`` fails.

    >>> brief([1, 2])
    '[1, 2]'
    """
    try:
        text = repr(value)
    except Exception:  # deep or giant objects, and faults of the caller's classes
        return f"an object of type {type(value).__name__}"
    return text if len(text) <= most else f"{text[: most - 4]} ..."


_FEW = 5  # of nodes that are alike are named


def listed(texts: Collection[str], separator: str = "; ", most: int = 50) -> str:
    """Texts for a message, and how many more there are.

    >>> listed(["a", "b", "c"], ", ", most=2)
    'a, b and 1 more'
    """
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return separator.join(islice(texts, most)) + more


def listed_nodes(nodes: Iterable[tuple[str, str, str]], separator: str = "; ") -> str:
    """Nodes for a message: operator, name, and what is wrong. Of many that are alike the first few are named.

    >>> listed_nodes([("Foo", f"'{k}'", "unknown") for k in range(7)] + [("Bar", "'b'", "")])
    "Foo '0', '1', '2', '3', '4' and 2 more (unknown); Bar 'b'"
    """
    nodes = list(nodes)
    alike: dict[tuple[str, str], list[str]] = {}
    for operator, name, reason in nodes:
        alike.setdefault((operator, reason), []).append(name)
    texts = []
    many: set[tuple[str, str]] = set()  # which stand there already
    for operator, name, reason in nodes:
        shown, names = name, alike[operator, reason]
        if len(names) > _FEW:
            if (operator, reason) in many:
                continue
            many.add((operator, reason))
            shown = listed(names, ", ", _FEW)
        texts.append(f"{operator} {shown}".rstrip() + (f" ({reason})" if reason else ""))
    return listed(texts, separator)


class LiteError(RuntimeError):
    """Base of all errors of megengine_lite."""

    def __str__(self) -> str:
        return printable(RuntimeError.__str__(self))  # the next class may have its own, as KeyError has


class ModelFormatError(LiteError, ValueError):
    """A file is not a model, is damaged, or contradicts itself."""


class UnsupportedOperatorError(LiteError, NotImplementedError):
    """A model needs operators, types or layouts that this runtime does not have. All of them are listed."""


class DeviceError(LiteError):
    """This machine or this build does not have the device that was asked for."""


class DecryptionError(LiteError):
    """A model could not be decrypted: wrong key, wrong method, or a damaged file."""


class ShapeError(LiteError, ValueError):
    """Shapes do not fit an operator or a tensor."""


class InternalError(LiteError):
    """A fault of megengine_lite itself, not of the model or the program; please report it."""


class LiteArgumentError(LiteError, AssertionError):
    """An argument breaks a rule of the call (the original raised ``AssertionError`` here)."""


class LiteValueError(LiteError, ValueError):
    """An argument has the right type, but a value that is not allowed."""


class LiteAttributeError(LiteError, AttributeError):
    """A settings object has no such field."""


class LiteTypeError(LiteError, TypeError, KeyError):
    """An argument or an element type is not supported."""


class LiteIndexError(LiteError, IndexError, KeyError):
    """There is nothing at an index, or of a name."""


class LiteMemoryError(LiteError, MemoryError):
    """There is not enough memory."""


NOT_ABOUT_THE_MODEL = (InternalError, LiteMemoryError)
"""Errors that pass where any other says that a model does not run, or not so: they say nothing of it."""


class LiteOSError(LiteError, OSError):
    """The system refuses a file. ``errno``, ``strerror`` and ``filename`` are set as in every ``OSError``.

    ``strerror`` is the whole message. Subclasses are the builtin exceptions of frequent cases, too.
    """

    def __new__(cls, *args: object) -> "LiteOSError":  # RuntimeError's would leave the fields empty
        return OSError.__new__(cls, *args)

    def __str__(self) -> str:
        return printable(self.strerror) if self.strerror else LiteError.__str__(self)


class LiteFileNotFoundError(LiteOSError, FileNotFoundError):
    """A file does not exist."""


class LiteIsADirectoryError(LiteOSError, IsADirectoryError):
    """There is a directory where a file is needed."""


class LitePermissionError(LiteOSError, PermissionError):
    """This process has no right to a file."""


def os_error(error: OSError, message: str, path: str) -> LiteError:
    """The error of this package for an error of the system, to be raised by the caller.

    A system without memory refuses files, folders and mappings, too: those errors are ``LiteMemoryError``.
    """
    if error.errno == errno.ENOMEM:
        return LiteMemoryError(message)
    kinds = (LiteFileNotFoundError, LiteIsADirectoryError, LitePermissionError)
    kind: type[LiteOSError] = next((k for k in kinds if isinstance(error, k.__bases__[1])), LiteOSError)
    return kind(error.errno, message, path)


def import_error(error: ImportError, task: str) -> LiteError:
    """The error of this package for a part of it that cannot be imported, to be raised by the caller."""
    return LiteError(
        f"{task}: a part of the package cannot be imported ({error}). Either the installation is damaged, or the "
        "process may not have more memory (ulimit -v)"
    )


class LiteWarning(UserWarning):
    """Something was not as it should be, but work goes on."""
