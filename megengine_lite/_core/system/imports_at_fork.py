"""Forks that wait for imports of this package which other threads have begun.

Models import what they need when they need it. A child process does not have the thread that was importing, and would
wait for ever for the lock of the module that this thread held.
"""

from __future__ import annotations

import _imp
import contextlib
import importlib
import os
import threading
from importlib import _bootstrap
from typing import Any

_MOST_WAITS = 1000
"""A model imports fewer modules, one after the other."""


def _under_way() -> str | None:
    """A module of this package that another thread imports.

    Python has no public list of them. Where its own one is not to be had nothing is under way.
    """
    package = __name__.partition(".")[0] + "."
    locks: dict[str, Any] = getattr(_bootstrap, "_module_locks", {})
    for name, lock in list(locks.items()):
        owner = getattr(lock(), "owner", None)
        if owner not in (None, threading.get_ident()) and name.startswith(package):
            return name
    return None


def _before() -> None:
    """Waits for the imports of other threads. They begin no more until the process has forked."""
    for _ in range(_MOST_WAITS):
        _imp.acquire_lock()
        name = _under_way()
        if name is None:
            return
        _imp.release_lock()
        with contextlib.suppress(Exception):  # who imports it is told
            importlib.import_module(name)
    _imp.acquire_lock()


def wait_at_forks() -> None:
    """Makes all forks of this process wait."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before, after_in_parent=_imp.release_lock, after_in_child=_imp.release_lock)
