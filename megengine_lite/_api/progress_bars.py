"""Progress bars of the package tqdm, which is imported only when one is wanted."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeVar

from megengine_lite.errors import LiteError

T = TypeVar("T")


def tqdm_class() -> Any:
    """The class that shows a bar where the program runs, in a terminal or in a notebook; None without the package."""
    try:
        return importlib.import_module("tqdm.auto").tqdm
    except ImportError:
        return None


def require_tqdm() -> Any:
    """The class, or an error that says what to do.

    Raises
    ------
    LiteError
        The package is not installed.
    """
    found = tqdm_class()
    if found is None:
        raise LiteError("a progress bar needs tqdm: pip install tqdm, or leave progress=True out")
    return found


@contextmanager
def counting(wanted: bool, total: int | None, label: str) -> Iterator[Callable[[int], object]]:
    """Gives a function that is told how much more is done. A bar shows it, if one is wanted."""
    if not wanted:
        yield lambda more: None
        return
    with require_tqdm()(total=total, desc=label) as bar:
        yield bar.update


def with_bar(results: Generator[T, None, None], total: int | None, label: str) -> Iterator[T]:
    """Passes results through, and counts them in a bar."""
    with closing(results), counting(True, total, label) as advance:
        for result in results:
            advance(1)
            yield result
