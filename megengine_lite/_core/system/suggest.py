"""Suggestions for misspelt names."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most similar to one that is not known; None if none is similar.

    >>> nearest("thread", ["threads", "isa"])
    'threads'
    """
    import difflib  # for messages only

    found = difflib.get_close_matches(name, list(known), 1)
    return found[0] if found else None


def suggestion(names: str | Iterable[str], known: Iterable[str]) -> str:
    """The end of a message about names that are not known, to stand behind a semicolon; empty if none is similar.

    >>> suggestion("thread", ["threads", "isa"])
    "did you mean 'threads'?"
    >>> suggestion(["thread", "iza"], ["threads", "isa"])
    "did you mean 'threads' and 'isa'?"
    """
    known = list(known)
    asked = [names] if isinstance(names, str) else names
    near = [match for name in asked if (match := nearest(name, known)) is not None]
    return f"did you mean {' and '.join(map(repr, near))}?" if near else ""


def choices(name: str, known: Iterable[str]) -> str:
    """The end of a message about one name that is not known: all that are, and a suggestion.

    >>> choices("thread", ["threads", "isa"])
    "(there are threads, isa); did you mean 'threads'?"
    """
    known = list(known)
    hint = suggestion(name, known)
    return f"(there are {', '.join(known)})" + (f"; {hint}" if hint else "")
