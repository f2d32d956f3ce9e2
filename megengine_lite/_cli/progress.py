"""Progress on stderr, if it is a terminal, for work that takes longer than a second."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TypeVar

T = TypeVar("T")

_DELAY = 1.0
_INTERVAL = 0.1
_WIDTH = 30
_CLEAR = "\r\033[K"

_enabled = False


def enable(on: bool) -> None:
    """Allows progress to be shown. It is off at first, and for output that machines read."""
    global _enabled
    _enabled = on


def _is_visible() -> bool:
    return _enabled and sys.stderr.isatty()


def _draw(text: str) -> None:
    sys.stderr.write(f"\r{text}")
    sys.stderr.flush()


def bar(items: Iterable[T], total: float, label: str, done: Callable[[], float] | None = None) -> Iterator[T]:
    """Passes items through and draws a bar.

    Parameters
    ----------
    items
        The items that are worked on.
    total
        How much there is to do.
    label
        What is being done.
    done
        Tells how much is done; the number of items by default.
    """
    if not _is_visible():
        yield from items
        return
    begin = shown = perf_counter()
    drawn = False
    try:
        for k, item in enumerate(items):
            now = perf_counter()
            if now - begin > _DELAY and now - shown > _INTERVAL:
                part = done() if done is not None else k
                filled = min(int(_WIDTH * part / max(total, 1)), _WIDTH)
                _draw(f"{label} [{'#' * filled}{'.' * (_WIDTH - filled)}] {part:.0f}/{total:g}")
                shown, drawn = now, True
            yield item
    finally:
        if drawn:
            sys.stderr.write(_CLEAR)


@contextmanager
def waiting(label: str) -> Iterator[None]:
    """Shows what is being done and since when, for work whose end cannot be predicted."""
    if not _is_visible():
        yield
        return
    done = threading.Event()

    def show() -> None:
        begin = perf_counter()
        pause = _DELAY
        drawn = False
        while not done.wait(pause):
            _draw(f"{label} ... {perf_counter() - begin:.0f} s")
            pause, drawn = _INTERVAL, True
        if drawn:
            sys.stderr.write(_CLEAR)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
