"""Errors that nobody but this package can be blamed for."""

from __future__ import annotations

from contextlib import ContextDecorator
from types import TracebackType
from typing import Any

from megengine_lite.errors import InternalError, LiteError


class own_faults(ContextDecorator):  # used like a function
    """Context manager and decorator for work on what has passed all checks.

    Errors of this package and lack of memory pass. Any other exception becomes an ``InternalError``, which it is the
    cause of. Its message names the node that was looked at last: the variable ``node`` of the innermost function with
    one.

    Parameters
    ----------
    where
        What was being done, the beginning of the message.
    passing
        Other exceptions that are no faults.
    """

    __slots__ = ("_passing", "_where")

    def __init__(self, where: str, passing: tuple[type[Exception], ...] = ()):
        self._where = where
        self._passing: tuple[type[Exception], ...] = (LiteError, MemoryError, *passing)

    def __enter__(self) -> None:
        """There is nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        if isinstance(error, Exception) and not isinstance(error, self._passing):
            raise own_fault(f"{self._where}{_last_node(traceback)}: {type(error).__name__}: {error}") from error


def _last_node(traceback: TracebackType | None) -> str:
    """The node that the innermost function has looked at last, for the message; empty if none has."""
    found = ""
    while traceback is not None:
        node: Any = traceback.tb_frame.f_locals.get("node")
        op, name = getattr(node, "op", None), getattr(node, "name", None)
        if isinstance(op, str):
            found = f" (last node: {op} {name!r})"
        traceback = traceback.tb_next
    return found


def own_fault(message: str) -> InternalError:
    """The error for a fault of this package, to be raised by the caller."""
    return InternalError(f"{message}; this is a fault of megengine_lite, please report it")
