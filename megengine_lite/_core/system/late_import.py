"""Imports of parts of the package that wait until they are first needed."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def late_import() -> Iterator[None]:
    """Around ``import`` statements inside of functions.

    With little memory an import fails in many ways: Python's own code then raises ``SystemError`` or ``ValueError``.

    Raises
    ------
    ImportError
        Instead of any exception that does not say itself that memory or a file is missing.
    """
    try:
        yield
    except (ImportError, MemoryError, OSError):
        raise
    except Exception as error:
        raise ImportError(f"{type(error).__name__}: {error}") from error


class LateFunction:
    """A function of a module that is imported when the function is first called."""

    __slots__ = ("__name__", "_found", "module")

    def __init__(self, module: str, name: str):
        self.module = module
        self.__name__ = name
        self._found: Any = None

    def __call__(self, *arguments: Any) -> Any:
        return (self._found or self.find())(*arguments)

    def find(self) -> Any:
        """The function itself."""
        with late_import():
            self._found = getattr(importlib.import_module(self.module), self.__name__)
        return self._found


class LateModule:
    """Stands for a module of functions: its attributes are their :class:`LateFunction`."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, name: str) -> LateFunction:
        return LateFunction(self._name, name)
