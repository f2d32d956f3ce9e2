"""Arguments that are integers of any kind: Python's, numpy's, enumerations."""

from __future__ import annotations

from operator import index

from megengine_lite.errors import LiteTypeError, LiteValueError

_MOST_BITS = 1024


def to_integer(value: object, name: str, *, bools: bool = False) -> int:
    """A Python int from any kind of integer; ``name`` is for messages. With ``bools``, booleans count as integers."""
    try:
        if isinstance(value, bool) and not bools:
            raise TypeError
        number = index(value)  # type: ignore[arg-type]  # that is what is asked here
    except TypeError:
        raise LiteTypeError(f"{name} is an int{' or a bool' if bools else ''}, not {type(value).__name__}") from None
    except Exception as error:  # of the caller's class
        raise LiteTypeError(f"{name} is an int; {type(value).__name__} fails to be one: {error}") from error
    if number.bit_length() > _MOST_BITS:  # Python may refuse to print it
        raise LiteValueError(f"{name} cannot be a number of {number.bit_length()} bits")
    return number
