"""JSON that commands print, write and read."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

from megengine_lite._core.system.files import read_file, write_made
from megengine_lite.errors import LiteError, LiteValueError, brief


def to_text(value: Any) -> str:
    """Plain types as JSON. Numbers that it does not have become text."""
    return json.dumps(_plain(value), indent=1)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def write(path: str, value: Any) -> None:
    """Writes a file as :func:`to_text` says, as a whole or not at all."""
    write_text(path, to_text(value) + "\n")


def write_text(path: str, text: str, source: str | None = None) -> int:
    """Writes a file as a whole or not at all; gives its size. ``source`` is the file that it was made of."""
    content = text.encode()
    write_made(path, [content], source)
    return len(content)


def once_in(path: str) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """Makes the objects of a file, for ``object_pairs_hook``.

    Raises
    ------
    LiteValueError
        An object has a key twice: which of the two is meant is not known.
    """

    def made(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            count = Counter(key for key, _ in pairs)
            twice = next(key for key in found if count[key] > 1)
            raise LiteValueError(f"{path} has {brief(twice)} twice in one object: leave one of them out")
        return found

    return made


def read(path: str, what: str) -> Any:
    """The content of a file; ``what`` says what it should be.

    Raises
    ------
    LiteOSError, LiteValueError
        It cannot be read, is no JSON, or has a key twice in an object.
    """
    try:
        return json.loads(read_file(path), object_pairs_hook=once_in(path))
    except LiteError:
        raise
    except (ValueError, RecursionError) as error:
        raise LiteValueError(f"{path} is no {what}: it is no JSON ({error})") from None
