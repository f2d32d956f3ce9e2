"""The debug ladder: ``MEGENGINE_LITE_DEBUG=N`` prints what the engine does, in more detail with each level.

=====  ================================================================================================
1      each plan: nodes, steps, memory, time
2      each step: shapes, layouts, kernel
3      the graph after every pass, which is then verified, too
4      values that every step computes: smallest, largest, mean, number of NaN
=====  ================================================================================================

Lines go through the logger ``megengine_lite.debug``, whatever the level of ``megengine_lite`` is; to stderr if the
program has no handlers of its own. See docs/debugging.md.
"""

from __future__ import annotations

import os
from functools import cache

from megengine_lite.errors import LiteValueError
from megengine_lite.log import DEBUG, logger, show_on_stderr

VARIABLE = "MEGENGINE_LITE_DEBUG"
PLANS, STEPS, PASSES, VALUES = 1, 2, 3, 4

_NAME = "debug"  # of the logger, below that of the package


@cache
def level() -> int:
    """What the environment asks for; read once.

    Raises
    ------
    LiteValueError
        It is not a number from 0 to 4.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if text not in ("", "0", "1", "2", "3", "4"):
        raise LiteValueError(f"{VARIABLE}={text} is no level; levels are 0 (nothing) to 4 (values of all steps)")
    found = int(text or 0)
    if found:
        logger.getChild(_NAME).setLevel(DEBUG)
        show_on_stderr()
    return found


def say(line: str) -> None:
    """Prints one line. Callers ask for the :func:`level` first: making the text may be slow."""
    logger.getChild(_NAME).debug("%s", line)
