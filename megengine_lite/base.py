"""Version and log level."""

from __future__ import annotations

from megengine_lite.errors import LiteTypeError, LiteValueError, brief
from megengine_lite.log import LEVELS, logger, show_on_stderr
from megengine_lite.struct import LiteLogLevel

__all__ = ["get_log_level", "set_log_level", "version"]

__version__ = "0.1.0"

version = "1.13.0"
"""The version of the MegEngine Lite API that this package implements; its own version is ``__version__``."""


def set_log_level(level: LiteLogLevel | int) -> None:
    """Sets how much is logged.

    Parameters
    ----------
    level
        A :class:`LiteLogLevel`, or its number. The level at start is ``ERROR``.

    Raises
    ------
    LiteTypeError, LiteValueError
        Not a level.

    Notes
    -----
    Sets the level of the standard logger ``megengine_lite``. If the program has no logging handlers, lines go to
    stderr from then on.

    Examples
    --------
    >>> from megengine_lite import LiteLogLevel, get_log_level, set_log_level
    >>> set_log_level(LiteLogLevel.WARN)
    >>> get_log_level()
    <LiteLogLevel.WARN: 2>
    >>> set_log_level(LiteLogLevel.ERROR)
    """
    if isinstance(level, bool) or not isinstance(level, int):
        raise LiteTypeError(f"a log level is a LiteLogLevel or an int, not {type(level).__name__}")
    if not 0 <= level < len(LEVELS):
        raise LiteValueError(f"there is no log level {brief(level)}; levels are 0 (DEBUG) to 3 (ERROR)")
    logger.setLevel(LEVELS[level])
    show_on_stderr()


def get_log_level() -> LiteLogLevel:
    """The level that :func:`set_log_level` has set, or the one closest to the level of the logger."""
    level = logger.getEffectiveLevel()
    for number, bound in enumerate(LEVELS):
        if level <= bound:
            return LiteLogLevel(number)
    return LiteLogLevel.ERROR
