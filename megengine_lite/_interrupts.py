"""Ctrl-C while a command is being imported.

The package and numpy take a tenth of a second before :mod:`megengine_lite.cli` can catch anything, and Python would
show where in there it was interrupted. So this module is imported first, and acts when it is. It imports nothing that
Python has not imported itself by then, or that is not a part of it: typing and signal take a hundredth of a second,
which is as long as Python takes to start.
"""

from __future__ import annotations

import os
import sys

INTERRUPTED = 130
"""The exit status of a command that Ctrl-C has ended."""


def _end_while_importing() -> None:
    """Lets Ctrl-C end this process at once, if it is one of a command. Other programs keep what they have set."""
    if not _is_command():
        return
    import _signal as signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_from_now_on() -> None:
    """Lets Ctrl-C raise KeyboardInterrupt again."""
    import _signal as signal

    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(*_: object) -> None:
    os._exit(INTERRUPTED)


def _is_command() -> bool:
    """Whether this process was started as ``megengine-lite`` or as ``python -m megengine_lite``."""
    program = next(iter(sys.argv), "")
    if program == "-m":  # what Python says while it looks for the module
        words = sys.orig_argv
        return "megengine_lite" in words[1:] and words[words.index("megengine_lite") - 1].endswith("m")
    return os.path.splitext(os.path.basename(program))[0] == "megengine-lite"


_end_while_importing()
