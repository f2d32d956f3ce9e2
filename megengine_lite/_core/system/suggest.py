"""Suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggestion(name: str, known: Iterable[str]) -> str:
    """``"did you mean 'threads'?"``; empty if no name is similar.

    >>> suggestion("thread", ["threads", "isa"])
    "did you mean 'threads'?"
    """
    near = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {near[0]!r}?" if near else ""
