"""Arguments that are integers or switches of any kind: Python's, numpy's, enumerations."""

from __future__ import annotations

from operator import index
from typing import Any

from megengine_lite.errors import LiteTypeError, LiteValueError, brief

_MOST_BITS = 1024


def to_integer(value: Any, name: str, *, bools: bool = False) -> int:
    """A Python int from any kind of integer; ``name`` is for messages. With ``bools``, booleans count as integers."""
    try:
        if isinstance(value, bool) and not bools:
            raise TypeError
        number = index(value)
    except TypeError:
        raise LiteTypeError(f"{name} is an int{' or a bool' if bools else ''}, not {type(value).__name__}") from None
    except Exception as error:  # of the caller's class
        raise LiteTypeError(f"{name} is an int; {type(value).__name__} fails to be one: {error}") from error
    if number.bit_length() > _MOST_BITS:  # Python may refuse to print it
        raise LiteValueError(f"{name} cannot be a number of {number.bit_length()} bits")
    return number


def to_switch(value: object, name: str) -> bool:
    """A Python bool from any kind of boolean, or from 0 or 1; ``name`` is for messages."""
    kind = type(value)
    if kind.__name__ in ("bool", "bool_") and kind.__module__ in ("builtins", "numpy"):
        return bool(value)
    try:
        number = to_integer(value, name, bools=True)
    except LiteTypeError:
        raise LiteTypeError(f"{name} is True or False, not {brief(value)}") from None
    if number not in (0, 1):
        raise LiteValueError(f"{name} is True or False, not {number}")
    return bool(number)
