"""The logger itself, and how its lines look; imported with :mod:`logging`. ``log`` says the rest."""

from __future__ import annotations

import logging
import sys

from megengine_lite.errors import printable

logger = logging.getLogger("megengine_lite")
logger.addHandler(logging.NullHandler())
if logger.level == logging.NOTSET:  # else the program was here before
    logger.setLevel(logging.ERROR)

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


def add_stderr_handler() -> None:
    """Adds the stderr handler, once."""
    if not any(isinstance(h, _StderrHandler) for h in logger.handlers):
        handler = _StderrHandler()
        handler.setFormatter(_Formatter())
        logger.addHandler(handler)
