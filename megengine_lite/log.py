"""The logger ``megengine_lite``.

The package logs through the standard :mod:`logging` module. It starts at level ERROR with a handler that drops
everything. After :func:`megengine_lite.set_log_level` its lines go to stderr. If the program has set up handlers of its
own, they go only there.
"""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any

from megengine_lite.errors import LiteWarning, printable

if TYPE_CHECKING:
    import logging

__all__ = ["logger", "warn"]

DEBUG, INFO, WARNING, ERROR = LEVELS = 10, 20, 30, 40
"""Levels of :mod:`logging`, by ``LiteLogLevel``."""


def _say_nothing(*arguments: Any, **named: Any) -> bool:
    return False


class _LateLogger:
    """Stands for the logger in a process that has not imported :mod:`logging`, which takes long.

    Nobody can have asked for lines there, so nothing is logged. All else needs the logger itself.
    """

    _SILENT = frozenset(("debug", "info", "warning", "error", "exception", "isEnabledFor"))

    def __getattr__(self, name: str) -> Any:
        if name in self._SILENT and "logging" not in sys.modules:
            return _say_nothing
        return getattr(_real_logger(), name)


def _real_logger() -> logging.Logger:
    from megengine_lite._log_lines import logger

    return logger


if TYPE_CHECKING:
    logger: logging.Logger
else:
    logger = _real_logger() if "logging" in sys.modules else _LateLogger()


def show_on_stderr() -> None:
    """Adds the stderr handler, once."""
    from megengine_lite._log_lines import add_stderr_handler

    add_stderr_handler()


def warn(message: str) -> None:
    """Issues a :class:`LiteWarning` that points to the line of the program that called the package."""
    level = 2
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "megengine_lite":
        frame = frame.f_back
        level += 1
    warnings.warn(printable(message), LiteWarning, stacklevel=level)
