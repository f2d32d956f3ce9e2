"""Progress on stderr, if it is a terminal, for work that takes longer than a second.

Bars are those of the package tqdm where it is installed. It is imported when the first bar is drawn, or before
measurements.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, TypeVar

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
    drawn: _OwnBar | _TqdmBar | None = None
    try:
        for k, item in enumerate(items):
            now = perf_counter()
            if now - begin > _DELAY and now - shown > _INTERVAL:
                drawn = drawn or _new_bar(total, label)
                drawn.show(done() if done is not None else k)
                shown = now
            yield item
    finally:
        if drawn is not None:
            drawn.close()


def prepare() -> None:
    """Imports what bars need, so that this does not disturb what is measured."""
    if _is_visible():
        _tqdm()


def _tqdm() -> Any:
    from megengine_lite._api.progress_bars import tqdm_class

    return tqdm_class()


def _new_bar(total: float, label: str) -> _OwnBar | _TqdmBar:
    found = _tqdm()
    return _OwnBar(total, label) if found is None else _TqdmBar(found, total, label)


def _decimals(total: float) -> int:
    """How many decimals the total is shown with; what is done has as many."""
    return 0 if float(total).is_integer() else len(f"{total:g}".partition(".")[2])


class _OwnBar:
    def __init__(self, total: float, label: str):
        self._total = total
        self._label = label

    def show(self, part: float) -> None:
        filled = min(int(_WIDTH * part / (self._total or 1)), _WIDTH)
        done = f"{part:.{_decimals(self._total)}f}/{self._total:g}"
        _draw(f"{self._label} [{'#' * filled}{'.' * (_WIDTH - filled)}] {done}")

    def close(self) -> None:
        sys.stderr.write(_CLEAR)


class _TqdmBar:
    def __init__(self, kind: Any, total: float, label: str):
        # Its own counts would have all digits of seconds.
        form = f"{{desc}} {{percentage:3.0f}}%|{{bar}}| {{n:.{_decimals(total)}f}}/{{total:g}}"
        self._bar = kind(total=total, desc=label, leave=False, file=sys.stderr, bar_format=form)

    def show(self, part: float) -> None:
        self._bar.n = min(part, self._bar.total)
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()


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
