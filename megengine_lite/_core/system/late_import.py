"""Imports of parts of the package that wait until they are first needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


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
