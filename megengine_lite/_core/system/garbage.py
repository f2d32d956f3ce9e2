"""Python's collector of cyclic garbage, and when it waits.

Loading and planning make tens of thousands of objects that stay. The collector would go through them, and through all
that the program has besides, a dozen times: about a tenth of the time to a first forward.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

_waiting: list[None] = []
"""One entry for each call, of any thread, during which the collector waits."""


def without_collector(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Decorator: the collector waits during a call, unless the program has turned it off anyway."""

    @wraps(function)
    def called(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        if not gc.isenabled():
            return function(*args, **kwargs)
        try:
            _waiting.append(None)
            gc.disable()
            return function(*args, **kwargs)
        finally:
            gc.enable()
            if _waiting:
                _waiting.pop()

    return called


def _after_fork() -> None:
    """The threads whose calls would have ended are not in the child."""
    if _waiting:
        _waiting.clear()
        gc.enable()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
