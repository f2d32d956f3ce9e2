"""Suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggestion(names: str | Iterable[str], known: Iterable[str]) -> str:
    """The end of a message about names that are not known, to stand behind a semicolon; empty if none is similar.

    >>> suggestion("thread", ["threads", "isa"])
    "did you mean 'threads'?"
    >>> suggestion(["thread", "iza"], ["threads", "isa"])
    "did you mean 'threads' and 'isa'?"
    """
    known = list(known)
    asked = [names] if isinstance(names, str) else names
    near = [match for name in asked for match in difflib.get_close_matches(name, known, 1)]
    return f"did you mean {' and '.join(map(repr, near))}?" if near else ""
