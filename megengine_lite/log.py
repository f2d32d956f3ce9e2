"""The logger ``megengine_lite``.

The package logs through the standard :mod:`logging` module. It starts at level ERROR with a handler that drops
everything. After :func:`megengine_lite.set_log_level` its lines go to stderr. If the program has set up handlers of its
own, they go only there.
"""

from __future__ import annotations

import logging
import sys
import warnings

from megengine_lite.errors import LiteWarning, printable

__all__ = ["logger", "warn"]

logger = logging.getLogger("megengine_lite")
logger.addHandler(logging.NullHandler())
logger.setLevel(logging.ERROR)

LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
"""Levels of :mod:`logging`, by ``LiteLogLevel``."""

_SHORT = {logging.DEBUG: "DBG", logging.INFO: "INF", logging.WARNING: "WRN", logging.ERROR: "ERR"}


class _Formatter(logging.Formatter):
    """The original's line: ``LITE[WRN] 12:34:56.789012 text``."""

    def format(self, record: logging.LogRecord) -> str:
        clock = self.formatTime(record, "%H:%M:%S")
        micro = int(record.created % 1 * 1e6)
        text = f"LITE[{_SHORT.get(record.levelno, 'ERR')}] {clock}.{micro:06d} {printable(record.getMessage())}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


class _StderrHandler(logging.Handler):
    """Writes to the present ``sys.stderr`` while the program has no handlers of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        if logging.getLogger().handlers or any(
            not isinstance(h, logging.NullHandler | _StderrHandler) for h in logger.handlers
        ):
            return
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:
            self.handleError(record)


def show_on_stderr() -> None:
    """Adds the stderr handler, once."""
    if not any(isinstance(h, _StderrHandler) for h in logger.handlers):
        handler = _StderrHandler()
        handler.setFormatter(_Formatter())
        logger.addHandler(handler)


def warn(message: str) -> None:
    """Issues a :class:`LiteWarning` that points to the line of the program that called the package."""
    level = 2
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "megengine_lite":
        frame = frame.f_back
        level += 1
    warnings.warn(printable(message), LiteWarning, stacklevel=level)
